"""The client, for threads."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from types import TracebackType

from .._settings import settings
from .._types import Key, KeyRange, Seconds, State
from ._caller import Caller
from ._kv import Kv
from ._lease import Lease, Leases
from ._watch import Watch


def connect(
    url: str | None = None,
    *,
    context: str | None = None,
    config_home: str | os.PathLike[str] | None = None,
    namespace: str | None = None,
    identity: tuple[bytes, bytes] | None = None,
    connect_timeout: Seconds | None = None,
    request_timeout: Seconds | None = None,
    session_ttl: Seconds | None = None,
    beat_interval: Seconds | None = None,
    backoff: tuple[Seconds, Seconds] | None = None,
    share_watches: bool | None = None,
    seen: int | None = None,
    agent: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Client:
    """Connects: both `client = hither.sync.connect()` and `with hither.sync.connect() as client:`.

    Without arguments, to the cluster that `HITHER_URL` names, or else to that of the current context, which `hither dev`
    writes.

    :param url: `hither://host:port[,host:port...]/namespace?option=value`, or an enrolment string of `hither client add`.
    :param context: the context that servers and identity come from. Default: the current one.
    :param config_home: where contexts are kept. Default: `hither` in `XDG_CONFIG_HOME` or `~/.config`.
    :param namespace: of everything that the client does. Default: the URL's, then the context's, then `default`.
    :param identity: the CA's certificate, and the client's certificate with its key, as PEM. Default: the context's.
    :param connect_timeout: how long connecting may take. Default 5 s.
    :param request_timeout: how long a call may take in all, unless it says otherwise. Default 5 s.
    :param session_ttl: how long the session, and what is bound to it, outlives silence. Default 10 s.
    :param beat_interval: the interval of beats. Default: the server's, 1 s.
    :param backoff: the first and the longest wait between attempts to connect. Default 50 ms and 10 s.
    :param share_watches: whether identical watches share one stream. Default true.
    :param seen: the newest revision that the caller knows of: no read is older.
    :param agent: the software's name and version, for the server's logs.
    :param options: any option of a URL, by name.
    """
    given = settings(
        url,
        context,
        config_home,
        namespace,
        identity,
        connect_timeout,
        request_timeout,
        session_ttl,
        beat_interval,
        backoff,
        share_watches,
        seen,
        agent,
        options,
    )

    call = Caller()
    call(call.core.connect, given)
    return Client(call)


class Client:
    """A client of a cluster. Any number of threads share it, and it needs none of its own.

    Signals are handled while a call waits in the main thread: Ctrl-C takes it back.

    Leaving its `with`, or `close`, says goodbye: its leases end at once.
    """

    __slots__ = ("_call", "_closed", "kv", "leases", "__weakref__")

    kv: Kv
    """Keys."""
    leases: Leases
    """Leases that nobody keeps."""

    def __init__(self, call: Caller) -> None:
        self._call = call
        self._closed = False
        self.kv = Kv(call)
        self.leases = Leases(call)

    @property
    def state(self) -> State:
        """How it stands to its cluster: `connected`, `suspended` (no server answers, leases still hold), `lost` (the
        session is over, and the leases bound to it; the next write opens another) or `closed`."""
        return self._call.core.state()

    def states(self) -> Iterator[State]:
        """The state now, and then as it changes, up to `closed`. It may skip one that did not last."""
        state = self.state
        states = self._call.core.states()
        while True:
            yield state
            if state == "closed":
                return
            state = self._call(states.next)

    @property
    def namespace(self) -> str:
        """The namespace of everything that it does."""
        return self._call.core.namespace()

    @property
    def metrics(self) -> dict[str, int]:
        """What it has counted: connects, retries, events and more."""
        return self._call.core.metrics()

    def session(self) -> int:
        """Its session, opened now if it has none. Leases bound to it, and its own, which has the same number, live for as
        long as the client is heard of."""
        session: int = self._call(self._call.core.session)
        return session

    def lease(self, ttl: Seconds = 10.0) -> Lease:
        """A lease that is kept alive in the background: `with client.lease(10) as lease:`."""
        return Lease.grant(self._call, ttl)

    def watch(
        self,
        keys: Key | KeyRange | None = None,
        *,
        prefix: Key | None = None,
        after: int | None = None,
        snapshot: bool = True,
        latest: bool = False,
        puts: bool = True,
        deletes: bool = True,
        liveness: bool = False,
        previous: bool = False,
        min_interval: Seconds | None = None,
        timeout: Seconds | None = None,
    ) -> Watch:
        """`kv.watch`."""
        return self.kv.watch(
            keys,
            prefix=prefix,
            after=after,
            snapshot=snapshot,
            latest=latest,
            puts=puts,
            deletes=deletes,
            liveness=liveness,
            previous=previous,
            min_interval=min_interval,
            timeout=timeout,
        )

    def close(self) -> None:
        """Leaves: what waits fails with `ClosedError`, watches end, the session and its leases end at the server now.
        Takes at most 0.3 s. Closing twice is fine; so is closing in a forked child, where it does nothing."""
        self._closed = True
        if self._call.core.is_here:
            self._call(self._call.core.close)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a client cannot be pickled: connect again where it is wanted, with the same arguments")

    def __del__(self) -> None:
        if not self._closed and not sys.is_finalizing() and self._call.core.is_here:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, stacklevel=2, source=self)


