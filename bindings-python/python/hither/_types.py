"""What calls bring: plain, immutable, comparable, picklable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeAlias, overload

Key: TypeAlias = str | bytes
"""A key. Bytes that are no UTF-8 come back as text with surrogate escapes, which stand for the same bytes again."""
Value: TypeAlias = str | bytes | bytearray
Seconds: TypeAlias = float | timedelta
"""A time to wait: seconds, or a `timedelta`."""

State: TypeAlias = Literal["connected", "suspended", "lost", "closed"]
"""How a client stands to its cluster."""
Start: TypeAlias = Literal["snapshot", "now"]
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
