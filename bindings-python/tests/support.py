"""What the tests share: waiting for conditions, and programs in processes of their own."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

from hither.testing import Server

DEADLINE = 10.0


async def until(what: str, true: Callable[[], Any], within: float = DEADLINE) -> Any:
    """Waits until something is so, and returns it."""
    end = time.monotonic() + within
    while not (found := true()):
        assert time.monotonic() < end, f"not within {within} s: {what}"
        await asyncio.sleep(0.01)
    return found


def run(server: Server, program: str, *arguments: str, timeout: float | None = 30, **environment: str) -> Any:
    """Runs a program of its own against the server, to its end."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        env={**server.environment, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def start(server: Server, program: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Starts a program of its own against the server."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        env={**server.environment, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Ctrl-C means something to it even where this runs in the background of a shell, which ignores it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
