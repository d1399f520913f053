"""Services register and find each other."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import time

import pytest
from support import until

import hither
from hither.testing import Server


async def test_a_service_is_registered_found_and_gone(hither_connect):
    async with hither_connect() as client, hither_connect() as other:
        async with client.register(
            "api", port=8080, address="10.0.0.5", version="1.2", tags=["blue"], metadata={"k": "v"}, zone="a", weight=2
        ) as registration:
            assert registration.state == "registered" and registration.epoch > 0
            view = await other.wait_for("api", 1)
            (instance,) = view
            assert instance == registration.instance
            assert instance.url() == "http://10.0.0.5:8080" and instance.urls() == [instance.url()]
            assert (instance.version, instance.tags, instance.metadata) == ("1.2", ("blue",), {"k": "v"})
            assert view.get(instance.id) is instance and len(view) == view.working == 1
            assert view.state == "synced" and view.age < 5 and view.source == "live"
            assert await other.services() == {"api": 1}
        began = time.monotonic()
        await until("it is gone", lambda: len(other.view("api")) == 0, within=5)
        assert time.monotonic() - began < 0.5
        assert registration.state == "deregistered"


@pytest.mark.parametrize("how", ["exception", "cancellation"])
async def test_a_registration_ends_however_its_with_is_left(hither_connect, how):
    async with hither_connect() as client, hither_connect() as other:
        entered = asyncio.Event()

        async def serve():
            async with client.register("api", port=80, address="h"):
                entered.set()
                if how == "exception":
                    raise ValueError
                await asyncio.sleep(60)

        task = asyncio.ensure_future(serve())
        await entered.wait()
        if how == "cancellation":
            task.cancel()
        with contextlib.suppress(ValueError, asyncio.CancelledError):
            await task
        assert len(await other.discover("api")) == 0


async def test_a_registration_is_changed_and_drained(hither_connect):
    async with hither_connect() as client:
        registration = await client.register("api", endpoints=["grpc://10.0.0.5:90"], id="one")
        changed = await registration.update(weight=5, metadata={"a": "b"}, tags=["x"])
        assert (changed.weight, changed.metadata, changed.tags) == (5, {"a": "b"}, ("x",))
        assert changed.endpoints[0].scheme == "grpc" and str(changed.endpoints[0]) == "grpc://10.0.0.5:90"
        assert (await registration.drain()).status == "draining"
        with pytest.raises(hither.NoInstancesError) as caught:
            await client.discover("api")
            client.pick("api")
        assert (caught.value.known, caught.value.suspect) == (1, 0) and caught.value.retryable
        assert await registration.deregister()


async def test_a_pick_takes_turns_or_chance_and_filters(hither_connect):
    async with hither_connect() as client:
        with pytest.raises(hither.NoInstancesError) as caught:
            client.pick("api")
        assert caught.value.age is None and caught.value.known == 0
        held = [
            await client.register("api", port=80, address="h", id=str(number), zone="ab"[number % 2])
            for number in range(4)
        ]
        await client.wait_for("api", 4)
        assert [client.pick("api").id for _ in range(8)] == sorted("0123") * 2
        only = hither.Filter(zone="a")
        assert {client.pick("api", filter=only).id for _ in range(6)} == {"0", "2"}
        assert {client.pick("api", "random").id for _ in range(200)} == set("0123")
        service = client.service("api")
        assert service.pick(filter=hither.Filter(zone=["b"], status="passing")).zone == "b"
        with pytest.raises(ValueError, match="no policy"):
            client.pick("api", "best")
        del held


async def test_a_pick_hands_out_the_same_object_until_the_record_changes(hither_connect):
    async with hither_connect() as client:
        registration = await client.register("api", port=80, address="h")
        await client.wait_for("api")
        first = client.pick("api")
        assert client.pick("api") is first and client.view("api")[0] is first
        await registration.update(weight=9)
        assert (await client.discover("api"))[0].weight == 9
        assert client.pick("api") is not first and first.weight == 1


async def test_a_watch_of_a_service_tells_exact_differences(hither_connect):
    async with hither_connect() as client:
        watch = client.watch_service("api")
        first = await watch.next()
        assert len(first.view) == 0 and first.added == ()
        registration = await client.register("api", port=80, address="h", id="x")
        added = await watch.next(timeout=5)
        assert [instance.id for instance in added.added] == ["x"] and not added.removed
        await registration.update(version="2")
        changed = await watch.next(timeout=5)
        assert [instance.version for instance in changed.changed] == ["2"]
        await registration.deregister()
        removed = await watch.next(timeout=5)
        assert [instance.id for instance in removed.removed] == ["x"] and len(removed.view) == 0
        assert added.view.revision < changed.view.revision < removed.view.revision
        watch.close()
        assert await watch.next() is None


async def test_discovery_goes_on_without_servers_and_never_empties():
    with Server() as server:
        settings = {**server.settings, "beat_interval": 0.1}
        async with hither.connect(**settings) as client:
            held = await client.register("api", port=80, address="h", ttl=600)
            await client.wait_for("api")
            sizes = []
            async with client.watch_service("api").subscribe(lambda update: sizes.append(len(update.view))):
                server.kill()
                await until("the view says so", lambda: client.view("api").state == "offline")
                view = await client.discover("api")
                assert len(view) == 1 and view.age > 0 and client.pick("api").url() == "http://h:80"
                with pytest.raises(hither.TooStaleError):
                    await client.discover("api", max_staleness=0.01, timeout=0.1)
                server.restart()
                await until("the view is the present again", lambda: client.view("api").state == "synced")
            assert sizes and min(sizes) == 1
            assert held.state == "registered"


async def test_a_registration_that_was_lost_is_declared_again_by_itself():
    with Server() as server:
        settings = {**server.settings, "beat_interval": 0.1, "session_ttl": 1.0}
        async with hither.connect(**settings) as client, hither.connect(**server.settings) as other:
            registration = await client.register("api", port=80, address="h", ttl=1)
            assert await registration.found(timeout=5)
            server.pause()
            assert await registration.lost(timeout=10)
            assert registration.state == "lost"
            with pytest.raises(TimeoutError):
                await registration.found(timeout=0.01)
            server.resume()
            assert await registration.found(timeout=20)
            await other.wait_for("api")
            assert other.pick("api").id == registration.id
            await registration.deregister()
            assert not await registration.found()


async def test_a_record_that_cannot_be_read_is_shown_and_unknown_fields_are_kept(hither_connect):
    async with hither_connect() as client:
        await client.kv.put("services/api/bad", "{}")
        await client.kv.put(
            "services/api/new", '{"schema":1,"service":"api","id":"new","endpoints":[],"colour":{"of":"day"}}'
        )
        view = await client.discover("api")
        assert [record.key for record in view.invalid] == ["services/api/bad"] and view.invalid[0].reason
        assert view[0].unknown == {"colour": {"of": "day"}} and view[0].url() is None


async def test_views_and_instances_pickle(hither_connect):
    async with hither_connect() as client, client.register("api", port=80, address="h", metadata={"a": "b"}):
        view = await client.wait_for("api")
        copy = pickle.loads(pickle.dumps(view))
        assert copy.instances == view.instances and copy.revision == view.revision and len(copy) == 1
        assert copy.get(view[0].id) == view[0] and "api: 1 instances" in repr(copy)
        assert hash(copy[0]) == hash(view[0])
        update = await client.watch_service("api").next()
        assert pickle.loads(pickle.dumps(update)).added == update.added


def test_threads_register_and_find(hither_client):
    with hither_client.register("api", port=80, address="h") as registration:
        assert hither_client.wait_for("api").working == 1
        assert hither_client.pick("api").id == registration.id
        assert hither_client.watch_service("api").next().added[0].id == registration.id
        assert hither_client.service("api").ready(1)[0].id == registration.id
        assert not registration.lost(timeout=0.01)
    assert len(hither_client.discover("api")) == 0
