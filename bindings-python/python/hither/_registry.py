"""The registry, for asyncio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from . import _native
from ._bridge import Caller
from ._picks import Picks
from ._services import Filter, Instance, InstanceStatus, Policy, RegistrationState, ServiceUpdate, ServiceView
from ._types import Seconds
from ._watch import Stream, nothing_came
from .errors import HitherError


class ServiceWatch(Stream[ServiceUpdate]):
    """Follows a service: an asynchronous iterator of `ServiceUpdate`s.

    The first has the complete state, even if there is nothing in it; each later one the exact difference to the one
    before. What happens while nobody asks is folded into the next one. It goes on when connections break and servers are
    gone: the view's state and age say so.
    """

    __slots__ = ()


def watch_service(
    call: Caller, service: str, filter: Filter | None, min_interval: Seconds | None, timeout: Seconds | None
) -> ServiceWatch:
    """A watch that opens when it is first used."""
    source = _native.ServiceWatch(call.core)

    def open() -> Any:
        return source.open(call.core, service, filter, min_interval, timeout)

    return ServiceWatch(call, source, open)


async def discover(
    call: Caller, service: str, filter: Filter | None, max_staleness: Seconds | None, timeout: Seconds | None
) -> ServiceView:
    """The instances of a service."""
    return ServiceView(await call(_native.discover, call.core, service, filter, max_staleness, timeout))


async def wait_for(
    call: Caller, service: str, count: int, filter: Filter | None, timeout: Seconds | None
) -> ServiceView:
    """The instances of a service, once there are enough that work."""
    return ServiceView(await call(_native.wait_for, call.core, service, count, filter, timeout))


class Service:
    """A service whose view is kept up to date while this is held: `client.service(name)`."""

    __slots__ = ("_call", "_followed", "_picks", "name")

    def __init__(self, call: Caller, picks: Picks, name: str) -> None:
        self._call = call
        self._picks = picks
        self._followed = _native.Followed(call.core, name)
        self.name = name

    def view(self) -> ServiceView | None:
        """The view as it is known here now; `None` before the first state has come."""
        view = _native.view_now(self._call.core, self.name)
        return None if view is None else ServiceView(view)

    def pick(
        self, policy: Policy = "round_robin", *, filter: Filter | None = None, besides: Sequence[str] = ()
    ) -> Instance:
        """Picks an instance; see `Client.pick`."""
        return self._picks.pick(self._call.core, self.name, policy, filter, besides)

    async def discover(
        self,
        *,
        filter: Filter | None = None,
        max_staleness: Seconds | None = None,
        timeout: Seconds | None = None,
    ) -> ServiceView:
        """Waits for the first state, if need be; see `Client.discover`."""
        return await discover(self._call, self.name, filter, max_staleness, timeout)

    async def ready(
        self, count: int = 1, *, filter: Filter | None = None, timeout: Seconds | None = None
    ) -> ServiceView:
        """Waits until it has so many instances that work; see `Client.wait_for`."""
        return await wait_for(self._call, self.name, count, filter, timeout)

    def watch(
        self,
        *,
        filter: Filter | None = None,
        min_interval: Seconds | None = None,
        timeout: Seconds | None = None,
    ) -> ServiceWatch:
        """Follows its instances; see `Client.watch_service`."""
        return watch_service(self._call, self.name, filter, min_interval, timeout)


class Registered:
    """A registered instance: `client.register(...)`.

    Leaving its `async with` deregisters it, however it is left; letting go of it without does so as well as that can be
    done. After any loss the core declares it again by itself.
    """

    __slots__ = ("_call", "_native")

    def __init__(self, call: Caller, native: _native.Registration) -> None:
        self._call = call
        self._native = native

    @classmethod
    async def register(cls, call: Caller, service: str, record: dict[str, Any]) -> Registered:
        """Registers one."""
        native = _native.Registration(call.core)
        await call(native.open, call.core, service, record)
        return cls(call, native)

    @property
    def instance(self) -> Instance:
        """The record, as it is stored."""
        return self._native.instance()

    @property
    def id(self) -> str:
        """The instance's id."""
        return self._native.instance().id

    @property
    def epoch(self) -> int:
        """Which registration under its id it is: the revision that created its key."""
        return self._native.epoch

    @property
    def state(self) -> RegistrationState:
        """`registered`; `suspended`: no server answers, and it is still there as far as is known; `lost`: it must be taken
        as gone, and is declared again as soon as possible; or `deregistered`."""
        return self._native.state

    async def lost(self, *, timeout: Seconds | None = None) -> bool:
        """Waits until it must be taken as gone from the registry; at once, if it is so now. The client declares it again
        by itself, unless it was replaced: `found` waits for that. `False` if `timeout` passed instead."""
        lost: bool = await self._call(self._native.lost, timeout)
        return lost

    async def found(self, *, timeout: Seconds | None = None) -> bool:
        """Waits until it is in the registry, again. `False` if it never will be: it was deregistered or replaced, or the
        client was closed. After `timeout`, `HitherTimeoutError`."""
        found: bool | None = await self._call(self._native.found, timeout)
        if found is None:
            raise nothing_came()
        return found

    async def update(
        self,
        *,
        endpoints: Iterable[str] | None = None,
        version: str | None = None,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, str] | None = None,
        zone: str | None = None,
        region: str | None = None,
        weight: int | None = None,
        status: InstanceStatus | None = None,
    ) -> Instance:
        """Changes what is given, and returns the record."""
        changes = given(
            endpoints=None if endpoints is None else list(endpoints),
            version=version,
            tags=None if tags is None else list(tags),
            metadata=None if metadata is None else dict(metadata),
            zone=zone,
            region=region,
            weight=weight,
            status=status,
        )
        instance: Instance = await self._call(self._native.update, changes)
        return instance

    async def drain(self) -> Instance:
        """Wants nothing new: its status becomes `draining`."""
        instance: Instance = await self._call(self._native.drain)
        return instance

    async def deregister(self) -> bool:
        """Takes it out: whether it was there."""
        removed: bool = await self._call(self._native.deregister)
        return removed

    async def __aenter__(self) -> Registered:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.state != "deregistered":
                await self.deregister()
        except HitherError:
            # It ends with its lease, or is another's by now. What went on inside is what counts.
            pass


def given(**fields: Any) -> dict[str, Any]:
    """Those that are not `None`."""
    return {name: value for name, value in fields.items() if value is not None}


def record(
    id: str | None,
    port: int | None,
    address: str | None,
    scheme: str | None,
    endpoints: Iterable[str],
    version: str | None,
    tags: Iterable[str],
    metadata: Mapping[str, str] | None,
    zone: str | None,
    region: str | None,
    weight: int | None,
    ttl: Seconds | None,
    lease: Any,
    permanent: bool,
) -> dict[str, Any]:
    """What to register, for the native module."""
    return given(
        id=id,
        port=port,
        address=address,
        scheme=scheme,
        endpoints=list(endpoints),
        version=version,
        tags=list(tags),
        metadata=None if metadata is None else dict(metadata),
        zone=zone,
        region=region,
        weight=weight,
        ttl=ttl,
        lease=lease,
        permanent=permanent or None,
    )
