"""Watches, for threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

from .. import _native
from .._types import Event, Key, KeyRange, Seconds, Start, State, Update
from .._watch import Source, beginning, nothing_came, watched
from ..errors import ClosedError, ForkedError
from ._caller import Caller

T = TypeVar("T")
Self = TypeVar("Self", bound="Stream[Any]")

_log = logging.getLogger("hither")


class Stream(Generic[T]):
    """A subscription, open from the start: iterated over, or entered.

    It ends when the loop over it is left and nothing else holds it, with `close`, from any thread, or with the client.
    """

    __slots__ = ("_call", "_source", "__weakref__")

    def __init__(self, call: Caller, source: Source) -> None:
        self._call = call
        self._source = source

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self: Self) -> Self:
        return self

    def __next__(self) -> T:
        step = self.next()
        if step is None:
            raise StopIteration
        return step

    def next(self, *, timeout: Seconds | None = None) -> T | None:
        """The next step; `None` once it has ended. After `timeout`, `HitherTimeoutError`, and nothing is lost by it, nor by
        what a signal handler raises: what came is there for the next one."""
        while (step := self._source.poll()) is None:
            try:
                there = self._call(self._source.wait, timeout)
            except ForkedError:
                raise
            except ClosedError:
                # The program ends, and with it every watch.
                return None
            if there is None:
                raise nothing_came()
            if not there:
                return None
        return step  # type: ignore[no-any-return]

    def close(self) -> None:
        """Closes it, at the server too. What waits for it ends."""
        self._source.close()

    def subscribe(
        self, callback: Callable[[T], None], *, on_error: Callable[[Exception], None] | None = None
    ) -> Subscription:
        """Has a function called with each step, one after the other, in a thread that is started for it.

        What it raises is logged, or given to `on_error`, and the next step comes all the same. So does what ends the
        watch, if that is an error. None is called once `close` of the subscription has returned.
        """
        return Subscription(self, callback, on_error)


class Subscription:
    """A callback that is called until this is closed, or the client is."""

    __slots__ = ("_callback", "_closed", "_on_error", "_stream", "_thread")

    def __init__(self, stream: Stream[Any], callback: Callable[[Any], Any], on_error: Callable[..., Any] | None) -> None:
        self._stream = stream
        self._callback = callback
        self._on_error = on_error
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="hither-callbacks", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for step in self._stream:
                if self._closed:
                    return
                try:
                    self._callback(step)
                except Exception as error:
                    self._tell(error)
        except Exception as error:
            self._tell(error)
        finally:
            self._stream.close()

    def _tell(self, error: Exception) -> None:
        if self._on_error is None:
            _log.error("a callback of a watch failed, or the watch did", exc_info=error)
            return
        try:
            self._on_error(error)
        except Exception as worse:
            _log.error("the on_error of a watch failed", exc_info=worse)

    def close(self) -> None:
        """Ends it, and waits for the callback that runs: none does once this has returned. A callback may call it."""
        self._closed = True
        self._stream.close()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class States(Stream[State]):
    """The states of a client: the one now, and then as it changes, up to `closed`. It may skip one that did not last."""

    __slots__ = ()


class Watch(Stream[Update]):
    """A watch of keys: an iterator of `Update`s, each of whole revisions, in order, none twice and none left out, whatever
    happens to connections and servers.

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

    def events(self) -> Iterator[Event]:
        """The events of the updates, one by one: for whoever needs no revisions that are whole."""
        for update in self:
            yield from update.events


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
    """Opens a watch."""
    source = _native.Watch(call.core)
    call(
        source.open,
        call.core,
        watched(keys, prefix),
        beginning(start, after),
        latest,
        (puts, deletes, liveness),
        previous,
        min_interval,
        timeout,
    )
    return Watch(call, source)
