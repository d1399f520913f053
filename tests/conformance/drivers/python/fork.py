"""Forking while a client is connected, for both flavours."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any


def begin(args: dict[str, Any], child: Callable[[], dict[str, Any]]) -> tuple[int, int, float]:
    """Forks. The child does what it is to do, writes what came of it into a pipe, and ends as an interpreter does."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        # Not the parent's conversation.
        sys.stdout = sys.stderr
        with os.fdopen(theirs, "w") as pipe:
            json.dump(child(), pipe)
        # As `sys.exit` does in the end; that would unwind the parent's frames first, and its loop with them.
        ctypes.pythonapi.Py_Exit(0)
    os.close(theirs)
    return pid, ours, time.monotonic() + args.get("wait_ms", 10_000) / 1000


def finish(pid: int, pipe: int, deadline: float) -> dict[str, Any]:
    """Reads what the child says, and waits for its end."""
    said = b""
    while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
        more = os.read(pipe, 65536)
        if not more:
            break
        said += more
    os.close(pipe)
    ended, status = os.waitpid(pid, os.WNOHANG)
    while not ended and time.monotonic() < deadline:
        time.sleep(0.01)
        ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return {"exit": "hung"}
    return {**json.loads(said or b"{}"), "exit": os.waitstatus_to_exitcode(status)}
