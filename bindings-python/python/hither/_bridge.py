"""Between an event loop and the native module: one port for each loop.

The native module puts the calls that can go on on the port's queue and makes a file descriptor readable, once for the whole
queue; the loop then drains it in its own thread. A loop that cannot wait for a file descriptor has a thread that waits instead.
"""

from __future__ import annotations

import asyncio
import os
import threading
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakKeyDictionary, ref

from . import _native

# Values hold nothing that holds their loop, so that a loop that is thrown away is gone, and its port with it.
_ports: WeakKeyDictionary[asyncio.AbstractEventLoop, _native.Port] = WeakKeyDictionary()


def port_of(loop: asyncio.AbstractEventLoop) -> _native.Port:
    """The port of a running loop, made when it is first needed."""
    port = _ports.get(loop)
    if port is not None and not port.is_here:
        # A forked child goes on with its parent's loop.
        if port.fd is not None:
            loop.remove_reader(port.fd)
        port = None
    if port is None:
        port = _ports[loop] = _open(loop)
    return port


def _open(loop: asyncio.AbstractEventLoop) -> _native.Port:
    if os.environ.get("HITHER_BRIDGE") != "thread":
        port = _native.Port(loop, False)
        if port.fd is not None:
            try:
                loop.add_reader(port.fd, port.drain)
                return port
            except NotImplementedError:
                pass
    port = _native.Port(loop, True)
    gone = ref(loop, lambda _: port.close())
    threading.Thread(target=_wait, args=(port, gone), name="hither-bridge", daemon=True).start()
    return port


def _wait(port: _native.Port, weak_loop: ref[asyncio.AbstractEventLoop]) -> None:
    while port.wait():
        loop = weak_loop()
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(port.drain)
        except RuntimeError:  # The loop was closed, and nobody waits for what would be drained.
            return
        del loop


class Caller:
    """Calls the native module for a client of an event loop."""

    __slots__ = ("_loop", "core")

    def __init__(self) -> None:
        # Held: the port knows its loop by where it is.
        self._loop = get_running_loop()
        self.core = _native.Core(port_of(self._loop))

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        """Calls, and returns what is to be awaited. Cancelling the wait takes the call back in the core too."""
        answer: Awaitable[Any] = function(*arguments)
        return answer
