"""What calls bring: plain, immutable, comparable, picklable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

if TYPE_CHECKING:
    from . import _native

Key: TypeAlias = str | bytes
"""A key. Bytes that are no UTF-8 come back as text with surrogate escapes, which stand for the same bytes again."""
Value: TypeAlias = str | bytes | bytearray
Seconds: TypeAlias = float | timedelta
"""A time to wait: seconds, or a `timedelta`."""

State: TypeAlias = Literal["connected", "suspended", "lost", "closed"]
"""How a client stands to its cluster."""
UpdateKind: TypeAlias = Literal["snapshot", "changes", "reset"]
LeaseKind: TypeAlias = Literal["ttl", "bound"]
LeaseState: TypeAlias = Literal["alive", "suspect", "expired"]
Applied: TypeAlias = Literal["no", "unknown"]


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where a reply comes from."""

    revision: int
    """The store's revision when the reply was made."""
    term: int
    """Raft's term at the node that answered."""
    node: int
    """That node."""
    age: float
    """Seconds since that node last knew itself to be current; 0 for a linearizable read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key, its value, and when and how it came to be."""

    key: str
    value: bytes
    create_revision: int
    """The revision that created the key. A fencing token where the key is a lock."""
    mod_revision: int
    """The revision that last wrote it."""
    version: int
    """Writes since creation, the creation among them."""
    lease: int | None
    """The lease it dies with."""

    @property
    def key_bytes(self) -> bytes:
        """The key as it is stored."""
        return self.key.encode("utf-8", "surrogateescape")

    def text(self) -> str:
        """The value as UTF-8."""
        return self.value.decode()

    def json(self) -> Any:
        """The value as JSON."""
        return json.loads(self.value)


@dataclass(frozen=True, slots=True)
class PutReply:
    """What a write did."""

    revision: int
    """The revision of the write."""
    previous: Entry | None = None
    """The entry that it replaced, if that was asked for and there was one."""
    stamp: Stamp | None = None


@dataclass(frozen=True, slots=True)
class DeleteReply:
    """What a deletion did."""

    revision: int
    """The revision of the deletion, or the current one if nothing was there."""
    deleted: int
    """Keys deleted."""
    previous: tuple[Entry, ...] = ()
    """They, if that was asked for."""
    stamp: Stamp | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries of a range, all at one revision, in the order of their keys: to iterate over."""

    entries: tuple[Entry, ...]
    count: int
    """Keys in the range, the limit aside."""
    more: bool
    """Whether the limit left entries out."""
    stamp: Stamp | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Entry, ...]: ...
    def __getitem__(self, index: int | slice) -> Entry | tuple[Entry, ...]:
        return self.entries[index]


TxnResult: TypeAlias = Entry | None | Listing | PutReply | DeleteReply


@dataclass(frozen=True, slots=True)
class TxnReply:
    """What a transaction did."""

    revision: int
    """The revision of the transaction, or the current one if nothing changed."""
    succeeded: bool
    """Whether the conditions held, so that `then` ran."""
    results: tuple[TxnResult, ...]
    """One for each step that ran: an entry or none, a listing, a put's or a delete's reply."""
    results_forgotten: bool = False
    """The results were too large for the server to remember, and this answers a retry."""
    stamp: Stamp | None = None


@dataclass(frozen=True, slots=True)
class PutEvent:
    """A key was written."""

    entry: Entry
    previous: Entry | None = None
    """What it was before, if the watch asked for it and history has it."""
    previous_forgotten: bool = False
    """There was something before, and history no longer has it."""

    @property
    def key(self) -> str:
        return self.entry.key

    @property
    def revision(self) -> int:
        return self.entry.mod_revision


@dataclass(frozen=True, slots=True)
class DeleteEvent:
    """A key was deleted, by a request or with its lease."""

    key: str
    revision: int
    previous: Entry | None = None
    previous_forgotten: bool = False


@dataclass(frozen=True, slots=True)
class LivenessEvent:
    """The lease of a watched key changed its standing; the key did not change."""

    lease: int
    state: LeaseState
    revision: int


Event: TypeAlias = PutEvent | DeleteEvent | LivenessEvent


@dataclass(frozen=True, slots=True)
class Update:
    """The next step of a watch: whole revisions, in order, none twice, none left out: to iterate over its events.

    `kind` says how to read it: `snapshot` is the whole state, `changes` is what happened since the update before, `reset`
    the same, found by comparing states where history was gone: intermediate values are missing, the result is exact.
    """

    revision: int
    """The watch has now told everything up to this revision."""
    kind: UpdateKind
    events: tuple[Event, ...]
    folded: bool = False
    """Changes to one key were folded into the last of them."""

    def __len__(self) -> int:
        return len(self.events)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Event, ...]: ...
    def __getitem__(self, index: int | slice) -> Event | tuple[Event, ...]:
        return self.events[index]


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    """A lease that nobody keeps, as it was granted."""

    id: int
    ttl: float
    """Seconds."""
    epoch: int


@dataclass(frozen=True, slots=True)
class LeaseInfo:
    """A lease, as the server has it. Times are in seconds."""

    id: int
    ttl: float
    remaining: float | None
    """Left without a renewal, as the leader counts."""
    kind: LeaseKind
    state: LeaseState
    epoch: int
    session: int | None
    """The session that it is bound to."""
    key_count: int
    owner: str
    """The identity that granted it."""
    granted_at: float
    """Since the Unix epoch, by the leader's clock."""
    keys: tuple[str, ...] | None = None
    """Its keys, where they were asked for."""


@dataclass(frozen=True, slots=True)
class KeyRange:
    """A set of keys: made with `prefix`, `span`, `one` or `all`."""

    shape: Literal["one", "prefix", "span", "all"]
    start: bytes = b""
    end: bytes = b""

    @classmethod
    def one(cls, key: Key) -> KeyRange:
        """One key."""
        return cls("one", as_bytes(key))

    @classmethod
    def prefix(cls, prefix: Key) -> KeyRange:
        """Every key that begins with `prefix`; all of them if it is empty."""
        return cls("prefix", as_bytes(prefix))

    @classmethod
    def span(cls, start: Key, end: Key) -> KeyRange:
        """From `start`, which it includes, to `end`, which it does not."""
        return cls("span", as_bytes(start), as_bytes(end))

    @classmethod
    def all(cls) -> KeyRange:
        """Every key of the namespace."""
        return cls("all")


def as_bytes(key: Key) -> bytes:
    """The bytes of a key."""
    return key.encode("utf-8", "surrogateescape") if isinstance(key, str) else bytes(key)


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
