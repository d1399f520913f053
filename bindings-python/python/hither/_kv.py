"""Keys, for asyncio."""

from __future__ import annotations

from collections.abc import Iterable

from . import _native
from ._bridge import Caller
from ._types import DeleteReply, Entry, Key, KeyRange, Listing, PutReply, Seconds, Stamp, Start, TxnReply, Value
from ._watch import Watch, watch
from .op import HasId, Step
from .when import Condition


_all = list
"""`list` is a method below."""


class Kv:
    """The keys of a client's namespace: `client.kv`.

    `timeout` is the deadline of the whole call: waiting for a connection, sending, retrying, answering. Without it, the
    client's `request_timeout` (5 s). Reads see every write that was acknowledged before, unless they ask for less:
    `at_least` is a revision that the answer must have seen, `max_age` how stale a node may be that answers at once.
    """

    # `get` and `put` do by themselves what the caller does for the others: most calls are theirs, and a coroutine in a
    # coroutine is a twentieth of what one costs.

    __slots__ = ("_call",)

    def __init__(self, call: Caller) -> None:
        self._call = call

    async def get(
        self,
        key: Key,
        *,
        at_least: int | None = None,
        max_age: Seconds | None = None,
        timeout: Seconds | None = None,
    ) -> Entry | None:
        """Reads a key; `None` if it does not exist."""
        entry: Entry | None = await _native.kv_get(self._call.core, key, at_least, max_age, False, timeout)
        return entry

    async def get_stamped(
        self,
        key: Key,
        *,
        at_least: int | None = None,
        max_age: Seconds | None = None,
        timeout: Seconds | None = None,
    ) -> tuple[Entry | None, Stamp]:
        """Reads a key, and says where the answer comes from."""
        call = self._call
        answer: tuple[Entry | None, Stamp] = await call(
            _native.kv_get, call.core, key, at_least, max_age, True, timeout
        )
        return answer

    async def put(
        self,
        key: Key,
        value: Value,
        *,
        lease: int | HasId | None = None,
        previous: bool = False,
        timeout: Seconds | None = None,
    ) -> PutReply:
        """Writes a key. It dies with `lease`; without one, a lease that the key had is detached."""
        reply: PutReply = await _native.kv_put(self._call.core, key, value, lease, previous, timeout)
        return reply

    async def delete(
        self, keys: Key | KeyRange, *, previous: bool = False, timeout: Seconds | None = None
    ) -> DeleteReply:
        """Deletes a key or a range, in one revision. Deleting nothing succeeds and says 0."""
        call = self._call
        reply: DeleteReply = await call(_native.kv_delete, call.core, keys, previous, timeout)
        return reply

    async def list(
        self,
        prefix: Key | KeyRange,
        *,
        limit: int = 0,
        reverse: bool = False,
        keys_only: bool = False,
        at_least: int | None = None,
        max_age: Seconds | None = None,
        timeout: Seconds | None = None,
    ) -> Listing:
        """Reads what begins with a prefix, or a range, all at one revision. `limit` 0 is no limit."""
        call = self._call
        range = prefix if isinstance(prefix, KeyRange) else KeyRange.prefix(prefix)
        what = "keys" if keys_only else "entries"
        listing: Listing = await call(
            _native.kv_list, call.core, range, what, limit, reverse, at_least, max_age, timeout
        )
        return listing

    async def count(
        self,
        prefix: Key | KeyRange,
        *,
        at_least: int | None = None,
        max_age: Seconds | None = None,
        timeout: Seconds | None = None,
    ) -> int:
        """Counts the keys that begin with a prefix, or are in a range."""
        call = self._call
        range = prefix if isinstance(prefix, KeyRange) else KeyRange.prefix(prefix)
        count: int = await call(_native.kv_list, call.core, range, "count", 0, False, at_least, max_age, timeout)
        return count

    async def txn(
        self,
        *,
        when: Iterable[Condition] = (),
        then: Iterable[Step] = (),
        otherwise: Iterable[Step] = (),
        timeout: Seconds | None = None,
    ) -> TxnReply:
        """Runs `then` if every condition holds, `otherwise` if not, as one step of one revision."""
        call = self._call
        reply: TxnReply = await call(
            _native.kv_txn, call.core, _all(when), _all(then), _all(otherwise), timeout
        )
        return reply

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
        """Watches a key, a range, or what begins with `prefix`; see `Watch`.

        It begins with the state as it is (`start="snapshot"`), with what is new (`"now"`), or goes on `after` a revision. `latest`
        lets changes to one key be folded when there are more than can be taken. `liveness` tells when the holder of a
        key's lease falls silent. `min_interval` is the least time between two updates, `timeout` how long opening may take.
        """
        return watch(
            self._call,
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
