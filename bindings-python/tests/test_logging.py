"""What the core logs is in `logging`, in batches, at a level that can be changed."""

from __future__ import annotations

import logging
import threading

import pytest
from support import run, until

import hither
from hither import _logging
from hither.testing import Server


@pytest.fixture
def records():
    """What `hither.core` logs at the level of debugging."""
    taken = []

    class Taking(logging.Handler):
        def emit(self, record):
            taken.append((record, threading.current_thread()))

    handler = Taking()
    _logging.core.addHandler(handler)
    before = _logging.core.level
    yield taken
    _logging.core.removeHandler(handler)
    _logging.core.setLevel(before)


async def test_records_come_from_python_threads_at_the_level_that_is_wanted(records):
    with Server() as server:
        async with hither.connect(**server.settings, beat_interval=0.1) as client:
            await client.kv.put("k", "v")
            assert not records
            logging.getLogger("hither.core").setLevel(logging.INFO)

            async def told():
                await client.kv.get("k", max_age=3600, timeout=0.2)

            # The level is looked at now and then, by calls.
            for _ in range(3):
                await told()
                await until("time passes", _passes(0.1))
            server.kill()
            await until("it is noticed", lambda: client.state != "connected")
            server.restart()
            await until("it is back", lambda: client.state == "connected")
            await until("it is told", lambda: any("connected again" in r.getMessage() for r, _ in records))
        record, thread = next((r, t) for r, t in records if "connected again" in r.getMessage())
        assert record.name == "hither.core" and record.levelno == logging.INFO
        assert record.pathname.startswith("hither") and "endpoint" in record.getMessage()
        assert thread is threading.main_thread()


def _passes(seconds):
    import time

    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def test_nothing_is_printed_unless_somebody_asks_and_all_is_told_in_the_end(hither_server):
    program = """
        import logging, sys, hither.sync
        if len(sys.argv) > 1:
            logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
        client = hither.sync.connect()
    """
    quiet = run(hither_server, program)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    loud = run(hither_server, program, "loud")
    assert loud.returncode == 0 and "hither.core DEBUG" in loud.stdout, loud
