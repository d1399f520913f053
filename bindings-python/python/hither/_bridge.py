"""Between an event loop and the native module: one port for each loop.

The native module puts the calls that can go on on the port's queue and makes a file descriptor readable, once for the whole
queue; the loop then drains it in its own thread. A loop that cannot wait for a file descriptor has a thread that waits instead.
"""

from __future__ import annotations

import asyncio
import os
import threading
from asyncio import Future, get_running_loop
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, ref

from . import _native
from .errors import WrongLoopError, from_binding

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
        port = _native.Port(False)
        if port.fd is not None:
            try:
                loop.add_reader(port.fd, port.drain)
                return port
            except NotImplementedError:
                pass
    port = _native.Port(True)
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

    __slots__ = ("core", "loop", "port")

    def __init__(self) -> None:
        self.loop = get_running_loop()
        self.port = port_of(self.loop)
        self.core = _native.Core(self.port)

    def future(self) -> Future[Any]:
        """What a call is to resolve."""
        loop = self.loop
        if get_running_loop() is not loop:
            if not self.core.is_here:
                raise from_binding("Forked", "")
            raise WrongLoopError("this client belongs to another event loop: connect one in this loop", code="WrongLoop")
        # What a loop's `create_future` does, without a frame of Python's for it.
        return Future(loop=loop)

    async def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls and waits. Cancelling the wait takes the call back in the core too."""
        future = self.future()
        number = function(future, *arguments)
        try:
            return await future
        except asyncio.CancelledError:
            self.port.cancel(number)
            raise
