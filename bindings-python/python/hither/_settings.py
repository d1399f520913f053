"""The settings of a client, for the core."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ._types import Seconds


def settings(
    url: str | None,
    context: str | None,
    config_home: str | os.PathLike[str] | None,
    namespace: str | None,
    identity: tuple[bytes, bytes] | None,
    connect_timeout: Seconds | None,
    request_timeout: Seconds | None,
    session_ttl: Seconds | None,
    beat_interval: Seconds | None,
    backoff: tuple[Seconds, Seconds] | None,
    share_watches: bool | None,
    seen: int | None,
    agent: str | None,
    options: Mapping[str, str] | None,
) -> dict[str, Any]:
    """Those that were given."""
    given = {
        "url": url,
        "context": context,
        "config_home": None if config_home is None else os.fspath(config_home),
        "namespace": namespace,
        "identity": identity,
        "connect_timeout": connect_timeout,
        "request_timeout": request_timeout,
        "session_ttl": session_ttl,
        "beat_interval": beat_interval,
        "backoff": backoff,
        "share_watches": share_watches,
        "seen": seen,
        "agent": agent,
        "options": None if options is None else dict(options),
    }
    return {name: value for name, value in given.items() if value is not None}
