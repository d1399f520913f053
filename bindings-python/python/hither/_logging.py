"""What the core logs, in `logging`: logger `hither.core`. Told in batches, by threads that are Python's."""

from __future__ import annotations

import logging

core = logging.getLogger("hither.core")
logging.addLevelName(5, "TRACE")


def wanted() -> int:
    """The lowest level that anybody wants."""
    return 100 if core.disabled else core.getEffectiveLevel()


def tell(records: list[tuple[int, float, str, str]], left_out: int) -> None:
    """Gives records to the handlers, with the time at which they were made."""
    for level, created, target, message in records:
        if core.isEnabledFor(level):
            record = core.makeRecord(core.name, level, target, 0, "%s", (message,), None)
            record.created = created
            record.msecs = (created - int(created)) * 1000
            core.handle(record)
    if left_out:
        core.warning("%d records of the core were left out: they came faster than they were taken", left_out)
