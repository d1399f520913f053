"""Instances of services, and what is known of a service at one moment."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from . import _native

InstanceStatus: TypeAlias = Literal["passing", "warning", "critical", "draining", "maintenance", "suspect"] | str
"""How an instance is: what it says of itself, but for `suspect`, which the registry says of one that is silent."""
RegistrationState: TypeAlias = Literal["registered", "suspended", "lost", "deregistered"]
ViewState: TypeAlias = Literal["synced", "resuming", "stale", "offline"]
Policy: TypeAlias = Literal["round_robin", "random"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an instance listens."""

    scheme: str
    """What it speaks there: `tcp`, `http`, `grpc`."""
    host: str
    port: int
    url: str
    """`scheme://host:port`; `http` for `tcp`."""

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance of a service, as it stands in the registry."""

    service: str
    id: str
    endpoints: tuple[Endpoint, ...] = ()
    version: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    zone: str = ""
    region: str = ""
    weight: int = 1
    """Its share of the load, relative to the others'; 0 takes none."""
    status: InstanceStatus = "passing"
    started_at: str = ""
    """UTC, RFC 3339."""
    epoch: int = 0
    """Which registration under this id it is: the revision that created its key."""
    schema: int = 1
    unknown: dict[str, Any] = field(default_factory=dict)
    """Fields of a newer version."""

    def url(self) -> str | None:
        """The URL of its first endpoint; `None` if it listens nowhere."""
        return self.endpoints[0].url if self.endpoints else None

    def urls(self) -> list[str]:
        """The URLs of all its endpoints."""
        return [endpoint.url for endpoint in self.endpoints]

    def __hash__(self) -> int:
        return hash((self.service, self.id, self.epoch))

    @classmethod
    def made(cls, service: str, id: str, rest: tuple[Any, ...]) -> Instance:
        """For the native module, which has what is unknown as JSON."""
        endpoints, version, tags, metadata, zone, region, weight, status, started_at, epoch, schema, unknown = rest
        return cls(
            service,
            id,
            endpoints,
            version,
            tags,
            metadata,
            zone,
            region,
            weight,
            status,
            started_at,
            epoch,
            schema,
            {} if unknown is None else json.loads(unknown),
        )


def _several(words: str | Iterable[str]) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else tuple(words)


class Filter:
    """Which instances of a service: those that meet every condition. Several tags must all be there; of several versions,
    zones, regions or statuses, any will do."""

    __slots__ = ("_parts",)

    def __init__(
        self,
        *,
        tag: str | Iterable[str] = (),
        metadata: Mapping[str, str] | None = None,
        version: str | Iterable[str] = (),
        zone: str | Iterable[str] = (),
        region: str | Iterable[str] = (),
        status: str | Iterable[str] = (),
    ) -> None:
        self._parts = (
            _several(tag),
            tuple(sorted((metadata or {}).items())),
            _several(version),
            _several(zone),
            _several(region),
            _several(status),
        )

    def parts(self) -> tuple[tuple[Any, ...], ...]:
        """For the native module."""
        return self._parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    def __repr__(self) -> str:
        names = ("tag", "metadata", "version", "zone", "region", "status")
        given = [f"{name}={part!r}" for name, part in zip(names, self._parts, strict=True) if part]
        return f"Filter({', '.join(given)})"


@dataclass(frozen=True, slots=True)
class Invalid:
    """A record that cannot be read: shown, so that a service does not lack instances without anyone knowing why."""

    key: str
    reason: str


class ServiceView:
    """What is known of a service at one moment: to iterate over its instances. It never changes; only its age grows."""

    __slots__ = ("_native",)

    def __init__(self, native: _native.View | _Kept) -> None:
        self._native = native

    @property
    def service(self) -> str:
        return self._native.service

    @property
    def revision(self) -> int:
        """The revision of the newest change in it."""
        return self._native.revision

    @property
    def state(self) -> ViewState:
        """`synced`: a server confirms with every beat that nothing is missing. `resuming`: what happened meanwhile is
        being caught up with. `stale`: a server answers, but has not confirmed it for three beats. `offline`: no server
        answers, and this is what was known last."""
        return self._native.state

    @property
    def source(self) -> str:
        """Where it comes from: `live`."""
        return self._native.source

    @property
    def age(self) -> float:
        """Seconds since it was last known to be the present."""
        return self._native.age

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The instances, by id."""
        return self._native.instances

    @property
    def invalid(self) -> tuple[Invalid, ...]:
        """Records that cannot be read."""
        return tuple(Invalid(key, reason) for key, reason in self._native.invalid)

    @property
    def working(self) -> int:
        """How many of its instances work: passing or warning, with a weight above 0."""
        return self._native.working

    @property
    def suspect(self) -> int:
        """How many of its instances are suspect."""
        return self._native.suspect

    def get(self, id: str) -> Instance | None:
        """The instance of this id."""
        return self._native.get(id)

    def __len__(self) -> int:
        return len(self._native)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Instance]:
        return iter(self._native.instances)

    def __getitem__(self, index: int) -> Instance:
        return self._native.instances[index]

    def __repr__(self) -> str:
        return (
            f"<ServiceView {self.service}: {len(self)} instances at revision {self.revision}, {self.state},"
            f" {self.age:.1f} s old>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        native = self._native
        kept = _Kept(
            native.service,
            native.revision,
            native.state,
            native.source,
            native.age,
            native.instances,
            native.invalid,
            native.working,
            native.suspect,
        )
        return ServiceView, (kept,)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A view that was pickled: as old as it was then."""

    service: str
    revision: int
    state: ViewState
    source: str
    age: float
    instances: tuple[Instance, ...]
    invalid: list[tuple[str, str]]
    working: int
    suspect: int

    def __len__(self) -> int:
        return len(self.instances)

    def get(self, id: str) -> Instance | None:
        return next((instance for instance in self.instances if instance.id == id), None)


@dataclass(frozen=True, slots=True)
class ServiceUpdate:
    """What changed in a service: the first has all instances as `added`, each later one what differs from the one before."""

    view: ServiceView
    """The service as it is now."""
    added: tuple[Instance, ...]
    changed: tuple[Instance, ...]
    removed: tuple[Instance, ...]
    """Instances that are gone, as they were."""

    @classmethod
    def made(
        cls,
        view: _native.View,
        added: tuple[Instance, ...],
        changed: tuple[Instance, ...],
        removed: tuple[Instance, ...],
    ) -> ServiceUpdate:
        """For the native module."""
        return cls(ServiceView(view), added, changed, removed)
