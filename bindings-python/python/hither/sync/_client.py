"""The client, for threads."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

from .. import _native
from .._picks import Picks
from .._registry import record
from .._settings import settings
from .._services import Filter, Instance, Policy, ServiceView
from .._types import Key, KeyRange, Seconds, Start, State
from ..op import HasId
from ._caller import Caller
from ._kv import Kv
from ._lease import Lease, Leases
from ._registry import Registered, Service, ServiceWatch, discover, wait_for, watch_service
from ._watch import States, Watch


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

    __slots__ = ("_call", "_closed", "_picks", "kv", "leases", "__weakref__")

    kv: Kv
    """Keys."""
    leases: Leases
    """Leases that nobody keeps."""

    def __init__(self, call: Caller) -> None:
        self._call = call
        self._closed = False
        self._picks = Picks()
        self.kv = Kv(call)
        self.leases = Leases(call)

    @property
    def state(self) -> State:
        """How it stands to its cluster: `connected`, `suspended` (no server answers, leases still hold), `lost` (the
        session is over, and the leases bound to it; the next write opens another) or `closed`."""
        return self._call.core.state()

    def states(self) -> States:
        """The state now, and then as it changes, up to `closed`. It may skip one that did not last."""
        return States(self._call, self._call.core.states())

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
        start: Start = "snapshot",
        after: int | None = None,
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
            start=start,
            after=after,
            latest=latest,
            puts=puts,
            deletes=deletes,
            liveness=liveness,
            previous=previous,
            min_interval=min_interval,
            timeout=timeout,
        )

    def register(
        self,
        service: str,
        *,
        port: int | None = None,
        address: str | None = None,
        scheme: str | None = None,
        endpoints: Iterable[str] = (),
        id: str | None = None,
        version: str | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, str] | None = None,
        zone: str | None = None,
        region: str | None = None,
        weight: int | None = None,
        ttl: Seconds | None = None,
        lease: int | HasId | None = None,
        permanent: bool = False,
    ) -> Registered:
        """Registers an instance of a service: `with client.register("api", port=8080) as registration:`.

        It listens on `port` at `address`, which is found by itself if it is not given, and speaks `scheme` (`http`); or at
        `endpoints` such as `grpc://10.0.0.5:9000`. `id` is a UUIDv7 unless given; one that is registered already is
        replaced. It lives for as long as the client is heard of, and `ttl` (10 s) longer; or as long as `lease`; or, if it
        is `permanent`, until it is deregistered.
        """
        fields = record(
            id,
            port,
            address,
            scheme,
            endpoints,
            version,
            tags,
            metadata,
            zone,
            region,
            weight,
            ttl,
            lease,
            permanent,
        )
        return Registered.register(self._call, service, fields)

    def discover(
        self,
        service: str,
        *,
        filter: Filter | None = None,
        max_staleness: Seconds | None = None,
        timeout: Seconds | None = None,
    ) -> ServiceView:
        """The instances of a service. The first call subscribes to it and waits for its state; from then on the answer is
        local, and stays so when every server is gone: the view says how old it is. A view older than `max_staleness` is
        waited for to be confirmed, and refused with `TooStaleError` if it is not in time."""
        return discover(self._call, service, filter, max_staleness, timeout)

    def wait_for(
        self, service: str, count: int = 1, *, filter: Filter | None = None, timeout: Seconds | None = None
    ) -> ServiceView:
        """Waits until a service has at least `count` instances that work."""
        return wait_for(self._call, service, count, filter, timeout)

    def services(self) -> dict[str, int]:
        """The services that have instances, and how many."""
        services: dict[str, int] = self._call(_native.services, self._call.core)
        return services

    def view(self, service: str) -> ServiceView | None:
        """The view of a service as it is known here now; `None` if this client does not follow it, or has heard nothing of
        it yet. Local and immediate."""
        view = _native.view_now(self._call.core, service)
        return None if view is None else ServiceView(view)

    def pick(
        self,
        service: str,
        policy: Policy = "round_robin",
        *,
        filter: Filter | None = None,
        besides: Sequence[str] = (),
    ) -> Instance:
        """Picks an instance out of the view of a service: local, immediate, never waiting. The first pick of a service that
        this client does not follow yet begins to, and fails with `NoInstancesError`; `discover` or `wait_for` before it
        waits. Those that want traffic are picked; if there are none, those that are merely silent are tried.
        Instances whose ids are in `besides` are passed over as long as there is another: for a request that failed
        there and is tried elsewhere."""
        return self._picks.pick(self._call.core, service, policy, filter, besides)

    def service(self, name: str) -> Service:
        """A handle to a service, whose view is kept up to date while it is held."""
        return Service(self._call, self._picks, name)

    def watch_service(
        self,
        service: str,
        *,
        filter: Filter | None = None,
        min_interval: Seconds | None = None,
        timeout: Seconds | None = None,
    ) -> ServiceWatch:
        """Follows the instances of a service: first all of them, then every change. What happens within `min_interval` is
        told as one."""
        return watch_service(self._call, service, filter, min_interval, timeout)

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


