"""Leases: what hangs on one goes with it, and whoever holds something by it hears in time."""

from __future__ import annotations

import pytest
from support import until

import hither
from hither.testing import Server


async def test_a_lease_takes_its_keys_with_it(hither_connect):
    async with hither_connect() as client:
        async with client.lease(10) as lease:
            await client.kv.put("owner", "me", lease=lease)
            assert (await client.kv.get("owner")).lease == lease.id
            info = await client.leases.info(lease.id)
            assert (info.kind, info.state, info.keys, info.ttl) == ("bound", "alive", ("owner",), 10.0)
            assert lease.id in [held.id for held in await client.leases.list()]
            assert not lease.is_lost and not await lease.lost(timeout=0.01)
        assert await client.kv.get("owner") is None
        assert lease.is_lost and await lease.revoke() == 0


async def test_a_lease_that_is_let_go_of_is_revoked(hither_connect):
    async with hither_connect() as client:
        lease = await client.lease(600)
        await client.kv.put("owner", "me", lease=lease)
        held = lease.id
        del lease
        with pytest.raises(hither.LeaseNotFoundError):
            while True:
                await client.leases.info(held)


async def test_the_loss_of_a_lease_is_told_to_whoever_waits(hither_connect):
    async with hither_connect() as client, hither_connect() as other:
        lease = await client.lease(1)
        assert await other.leases.revoke(lease.id) == 0
        assert await lease.lost(timeout=10)


async def test_a_lease_that_nobody_keeps_is_renewed_by_hand(hither_connect):
    async with hither_connect() as client:
        grant = await client.leases.grant(5)
        assert grant.ttl == 5.0 and await client.leases.renew(grant.id) == 5.0
        await client.kv.put("k", "v", lease=grant.id)
        assert await client.leases.revoke(grant.id) == 1
        with pytest.raises(hither.NotFoundError) as caught:
            await client.leases.renew(grant.id)
        assert caught.value.code == "LeaseNotFound"


async def test_a_server_that_is_gone_is_told_as_states_and_as_the_loss_of_the_lease():
    with Server() as server:
        async with hither.connect(**server.settings, session_ttl=1.0, beat_interval=0.1) as client:
            states = client.states()
            assert await states.next() == "connected"
            lease = await client.lease(1)
            server.kill()
            assert await states.next(timeout=10) == "suspended"
            assert await lease.lost(timeout=10)
            assert await until("the session is lost", lambda: client.state == "lost") is True
            server.restart()
            await until("it is connected again", lambda: client.state == "connected")
            assert (await client.kv.put("k", "v")).revision > 0


def test_threads_hold_leases(hither_client):
    with hither_client.lease(10) as lease:
        hither_client.kv.put("owner", "me", lease=lease)
        assert not lease.lost(timeout=0.01)
    assert hither_client.kv.get("owner") is None
    assert hither_client.session() > 0
