"""Leases, for asyncio."""

from __future__ import annotations

from types import TracebackType

from . import _native
from ._bridge import Caller
from ._types import LeaseGrant, LeaseInfo, Seconds
from .errors import HitherError


class Lease:
    """A lease that the client keeps alive while this is held: `client.lease(ttl)`.

    Keys written with it live for as long as it does. Leaving its `async with` revokes it; letting go of it without does
    so in the background.
    """

    __slots__ = ("_call", "_native")

    def __init__(self, call: Caller, native: _native.Lease) -> None:
        self._call = call
        self._native = native

    @classmethod
    async def grant(cls, call: Caller, ttl: Seconds) -> Lease:
        """Grants one."""
        native = _native.Lease(call.core)
        await call(native.open, call.core, ttl)
        return cls(call, native)

    @property
    def id(self) -> int:
        """Its id. The command line shows it in hexadecimal."""
        return self._native.id

    @property
    def ttl(self) -> float:
        """Seconds that it outlives silence, as the server granted them."""
        return self._native.ttl

    @property
    def is_lost(self) -> bool:
        """Whether it must be taken as lost, or was revoked."""
        return self._native.is_lost

    async def lost(self, *, timeout: Seconds | None = None) -> bool:
        """Waits until it must be taken as lost: it was revoked, its session ended, or no server has confirmed it for so
        long that it may end soon. That is *before* the server lets it end: whoever holds something by a lease stops now.
        A lost lease never comes back. `False` if `timeout` passed instead."""
        lost: bool = await self._call(self._native.lost, timeout)
        return lost

    async def revoke(self) -> int:
        """Ends it now and deletes its keys: how many. 0 if it was revoked before."""
        deleted: int = await self._call(self._native.revoke)
        return deleted

    async def __aenter__(self) -> Lease:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.revoke()
        except HitherError:
            # It ends with its time to live, or has ended. What went on inside is what counts.
            pass


class Leases:
    """Leases that nobody keeps, and what the server knows of all: `client.leases`."""

    __slots__ = ("_call",)

    def __init__(self, call: Caller) -> None:
        self._call = call

    async def grant(self, ttl: Seconds) -> LeaseGrant:
        """Grants a lease that ends after `ttl` unless anyone renews it in time."""
        granted: LeaseGrant = await self._call(_native.lease_grant, self._call.core, ttl)
        return granted

    async def renew(self, lease: int) -> float:
        """Lets a lease live another full time from now: that time, in seconds."""
        ttl: float = await self._call(_native.lease_renew, self._call.core, lease)
        return ttl

    async def revoke(self, lease: int) -> int:
        """Ends a lease now and deletes its keys: how many."""
        deleted: int = await self._call(_native.lease_revoke, self._call.core, lease)
        return deleted

    async def info(self, lease: int) -> LeaseInfo:
        """A lease and its keys."""
        info: LeaseInfo = await self._call(_native.lease_info, self._call.core, lease)
        return info

    async def list(self) -> list[LeaseInfo]:
        """Every lease of the namespace, by id."""
        leases: list[LeaseInfo] = await self._call(_native.lease_list, self._call.core)
        return leases
