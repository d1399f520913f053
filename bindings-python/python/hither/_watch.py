"""Watches, for asyncio."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from . import _native
from ._bridge import Caller
from ._types import Event, Key, KeyRange, Seconds, Start, State, Update
from .errors import HitherTimeoutError, InvalidArgumentError

T = TypeVar("T")
Self = TypeVar("Self", bound="Stream[Any]")

_log = logging.getLogger("hither")

_TAKEN_MAX = 64
"""Steps that are taken without waiting before the loop gets a turn: a watch that is never empty starves nobody."""


class Source(Protocol):
    """What the native module gives steps with."""

    def poll(self) -> Any: ...
    def wait(self, timeout: Seconds | None, /) -> Any: ...
    def close(self) -> None: ...


def nothing_came() -> HitherTimeoutError:
    """What a wait whose time has passed raises."""
    return HitherTimeoutError("nothing came in time", code="Timeout", number=6003, retryable=True)


class Stream(Generic[T]):
    """A subscription: iterated over, entered, or awaited, which opens it.

    It ends when the loop over it is left and nothing else holds it, with `aclose`, or with the client.
    """

    __slots__ = ("_call", "_open", "_source", "_taken", "__weakref__")

    def __init__(self, call: Caller, source: Source, open: Callable[..., Any] | None = None) -> None:
        self._call = call
        self._source = source
        self._open = open
        self._taken = 0

    async def _begin(self) -> None:
        if self._open is not None:
            open, self._open = self._open, None
            await self._call(open)

    async def _entered(self: Self) -> Self:
        await self._begin()
        return self

    def __await__(self: Self) -> Generator[Any, Any, Self]:
        return self._entered().__await__()

    async def __aenter__(self: Self) -> Self:
        return await self._entered()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self: Self) -> Self:
        return self

    async def __anext__(self) -> T:
        step = await self.next()
        if step is None:
            raise StopAsyncIteration
        return step

    async def next(self, *, timeout: Seconds | None = None) -> T | None:
        """The next step; `None` once it has ended. After `timeout`, `HitherTimeoutError`, and nothing is lost by it, nor by
        cancelling: what came is there for the next one."""
        if self._open is not None:
            await self._begin()
        if self._taken == _TAKEN_MAX:
            self._taken = 0
            await asyncio.sleep(0)
        while (step := self._source.poll()) is None:
            self._taken = 0
            there = await self._call(self._source.wait, timeout)
            if there is None:
                raise nothing_came()
            if not there:
                return None
        self._taken += 1
        return step  # type: ignore[no-any-return]

    def close(self) -> None:
        """Closes it, at the server too. What waits for it ends."""
        self._source.close()

    async def aclose(self) -> None:
        """`close`, for `contextlib.aclosing`."""
        self.close()

    def subscribe(
        self,
        callback: Callable[[T], Awaitable[None] | None],
        *,
        on_error: Callable[[Exception], Awaitable[None] | None] | None = None,
    ) -> Subscription:
        """Has a function, or a coroutine function, called with each step, one after the other.

        What it raises is logged, or given to `on_error`, and the next step comes all the same. So does what ends the
        watch, if that is an error. None is called once `close` of the subscription has returned.
        """
        return Subscription(self, callback, on_error)


class Subscription:
    """A callback that is called until this is closed, or the client is."""

    __slots__ = ("_callback", "_on_error", "_stream", "_task")

    def __init__(self, stream: Stream[Any], callback: Callable[[Any], Any], on_error: Callable[..., Any] | None) -> None:
        self._stream = stream
        self._callback = callback
        self._on_error = on_error
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            async for step in self._stream:
                try:
                    await _maybe(self._callback(step))
                except Exception as error:
                    await self._tell(error)
        except Exception as error:
            await self._tell(error)
        finally:
            self._stream.close()

    async def _tell(self, error: Exception) -> None:
        if self._on_error is None:
            _log.error("a callback of a watch failed, or the watch did", exc_info=error)
            return
        try:
            await _maybe(self._on_error(error))
        except Exception as worse:
            _log.error("the on_error of a watch failed", exc_info=worse)

    async def close(self) -> None:
        """Ends it: no callback begins, or goes on, once this has returned. A callback may call it."""
        self._stream.close()
        if self._task is not asyncio.current_task() and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _maybe(result: Any) -> None:
    if inspect.isawaitable(result):
        await result


class States(Stream[State]):
    """The states of a client: the one now, and then as it changes, up to `closed`. It may skip one that did not last."""

    __slots__ = ()


class Watch(Stream[Update]):
    """A watch of keys: an asynchronous iterator of `Update`s, each of whole revisions, in order, none twice and none left
    out, whatever happens to connections and servers.

    An application that is slower than the changes costs a bounded buffer here and nothing to others. If it falls behind
    what the server remembers, an update of kind `reset` brings the exact difference. It ends only if it is closed, if the
    client is, or with an error that says why the server will not go on.
    """

    __slots__ = ()
    _source: _native.Watch

    @property
    def revision(self) -> int:
        """The revision up to which the application knows everything: `after` it, another watch goes on."""
        return self._source.revision()

    async def events(self) -> AsyncIterator[Event]:
        """The events of the updates, one by one: for whoever needs no revisions that are whole."""
        async for update in self:
            for event in update.events:
                yield event


def watched(keys: Key | KeyRange | None, prefix: Key | None) -> Key | KeyRange:
    """What is to be watched: one of the two."""
    if (keys is None) == (prefix is None):
        detail = "name what to watch: a key, a KeyRange, or prefix="
        raise InvalidArgumentError(detail, code="InvalidArgument", number=3001)
    return KeyRange.prefix(prefix) if prefix is not None else keys  # type: ignore[return-value]


def beginning(start: Start, after: int | None) -> bool | int:
    """Where a watch begins, for the core: whether with the state as it is, or the revision after which."""
    if after is not None:
        return after
    if start not in ("snapshot", "now"):
        raise InvalidArgumentError('start is "snapshot" or "now"', code="InvalidArgument", number=3001)
    return start == "snapshot"


def watch(
    call: Caller,
    keys: Key | KeyRange | None,
    *,
    prefix: Key | None,
    start: Start,
    after: int | None,
    latest: bool,
    puts: bool,
    deletes: bool,
    liveness: bool,
    previous: bool,
    min_interval: Seconds | None,
    timeout: Seconds | None,
) -> Watch:
    """A watch that opens when it is first used."""
    range = watched(keys, prefix)
    source = _native.Watch(call.core)

    def open() -> Any:
        return source.open(
            call.core,
            range,
            beginning(start, after),
            latest,
            (puts, deletes, liveness),
            previous,
            min_interval,
            timeout,
        )

    return Watch(call, source, open)
