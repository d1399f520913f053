"""Starlette, FastAPI and other ASGI applications that register while they serve.

    app = FastAPI(lifespan=hither.asgi.lifespan("api", port=8000))

    @app.get("/")
    async def index(request: Request):
        client = request.state.hither

The application is registered when it has started, and `request.state.hither` is its client. Every worker process of a
server registers an instance of its own.

When the server is asked to stop (SIGTERM, SIGINT), the instance first drains, so that finders send nothing new; the server
is told `drain` seconds later, finishes what it has, and the instance is deregistered. A server that does not use Python's
signal handlers in this process, such as a worker of gunicorn, is not held up: there the instance goes when the server
already takes no more connections, and callers try another.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

from ._client import connect
from ._registry import Registered
from ._types import Seconds
from .errors import HitherError

__all__ = ["lifespan"]

_log = logging.getLogger("hither")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def lifespan(
    service: str,
    *,
    inner: Lifespan | None = None,
    settings: Mapping[str, Any] | None = None,
    drain: Seconds = 1.0,
    **registration: Any,
) -> Lifespan:
    """A lifespan that registers `service`.

    `inner` is the application's own lifespan: entered before it is registered, left after it is deregistered. What it yields
    is in the state too. `settings` are those of `hither.connect`, `registration` what `Client.register` takes: `port` at
    least.
    """
    wait = drain.total_seconds() if isinstance(drain, timedelta) else drain

    @asynccontextmanager
    async def registered(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        async with _nothing() if inner is None else inner(app) as state, connect(**(settings or {})) as client:
            async with client.register(service, **registration) as held:
                with _Leaving(held, wait):
                    yield {**(state or {}), "hither": client}

    return registered


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield None


class _Leaving:
    """Holds the signals that ask the server to stop until finders know that the instance drains."""

    def __init__(self, held: Registered, wait: float) -> None:
        self._held, self._wait = held, wait
        self._loop = asyncio.get_running_loop()
        self._before: dict[int, Any] = {}
        self._draining: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        if self._wait <= 0 or threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            before = signal.getsignal(number)
            # Another handler than Python's own has somebody who acts on it: the server.
            if callable(before) and before is not signal.default_int_handler:
                self._before[number] = before
                signal.signal(number, self._asked)

    def __exit__(self, *_: object) -> None:
        self._give_back()
        if self._draining is not None:
            self._draining.cancel()

    def _give_back(self) -> None:
        for number, before in self._before.items():
            if signal.getsignal(number) == self._asked:
                signal.signal(number, before)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        # Whoever asks twice does not want to wait.
        self._give_back()
        self._loop.call_soon_threadsafe(self._begin, number)

    def _begin(self, number: int) -> None:
        self._draining = self._loop.create_task(self._drain(number))

    async def _drain(self, number: int) -> None:
        try:
            await self._held.drain()
            await asyncio.sleep(self._wait)
        except HitherError as error:
            _log.warning("an instance that stops could not drain: %s", error)
        self._before[number](number, None)
