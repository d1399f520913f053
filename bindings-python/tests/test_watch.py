"""Watches: nothing is lost, whoever stops watching is gone at the server too."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from support import until

import hither
from hither import _native, op


async def test_a_watch_tells_the_state_and_then_every_change(hither_connect):
    async with hither_connect() as client:
        await client.kv.put("c/a", "1")
        async with client.watch(prefix="c/") as watch:
            first = await watch.next()
            assert first.kind == "snapshot" and [event.entry.text() for event in first] == ["1"]
            put = await client.kv.put("c/b", "2")
            await client.kv.delete("c/a")
            events = []
            async for update in watch:
                assert update.kind == "changes"
                events += update.events
                if len(events) == 2:
                    break
            written, gone = events
            assert (written.key, written.revision) == ("c/b", put.revision)
            assert isinstance(gone, hither.DeleteEvent) and gone.key == "c/a"
            assert watch.revision == update.revision


async def test_an_update_has_whole_revisions_and_events_come_one_by_one(hither_connect):
    async with hither_connect() as client:
        async with client.watch(prefix="", start="now") as watch:
            await client.kv.txn(then=[op.put("a", "1"), op.put("b", "2")])
            assert [event.key for event in await watch.next()] == ["a", "b"]
        seen = []
        async for event in client.watch(prefix="").events():
            seen.append(event.key)
            if len(seen) == 2:
                break
        assert seen == ["a", "b"]


async def test_a_watch_goes_on_after_a_revision_with_what_was_before(hither_connect):
    async with hither_connect() as client:
        first = await client.kv.put("k", "1")
        await client.kv.put("k", "2")
        await client.kv.delete("k")
        update = await (await client.watch("k", after=first.revision, previous=True)).next()
        events = list(update)
        while len(events) < 2:
            events += await client.watch("k", after=update.revision, previous=True).next()
        assert [event.previous.text() for event in events] == ["1", "2"]


async def test_kinds_of_events_are_chosen(hither_connect):
    async with hither_connect() as client:
        async with client.watch(prefix="", start="now", puts=False) as watch:
            await client.kv.put("k", "1")
            await client.kv.delete("k")
            (event,) = await watch.next(timeout=5)
            assert isinstance(event, hither.DeleteEvent)
        with pytest.raises(hither.InvalidArgumentError, match="prefix="):
            client.watch()


@pytest.mark.parametrize("how", ["break", "cancel", "close", "drop"])
async def test_whoever_stops_watching_is_gone_at_the_server_within_a_second(hither_connect, hither_server, how):
    async with hither_connect() as client:
        # In whole: the session's other tests have closed theirs.
        assert hither_server.metric("hither_watches") == 0
        watch = client.watch("k")
        if how == "break":
            async for _ in client.watch("k"):
                break
        elif how == "cancel":

            async def forever():
                async for _ in client.watch("k"):
                    pass

            task = asyncio.ensure_future(forever())
            await until("it is open", lambda: hither_server.metric("hither_watches") == 1)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        elif how == "close":
            await watch.next()
            watch.close()
            assert await watch.next() is None
        else:
            await watch.next()
            assert hither_server.metric("hither_watches") == 1
            del watch
        await until("it is closed", lambda: hither_server.metric("hither_watches") == 0, within=1)


async def test_a_wait_that_is_cancelled_loses_nothing(hither_connect):
    """Cancelled at whichever moment: before the update comes, after it, or between."""
    count = 200
    async with hither_connect() as client, hither_connect() as writer:
        seen = []
        async with client.watch("k", start="now") as watch:

            async def write():
                for number in range(count):
                    await writer.kv.put("k", str(number))

            writing = asyncio.ensure_future(write())
            while len(seen) < count:
                waiting = asyncio.ensure_future(watch.next())
                for _ in range(len(seen) % 5):
                    await asyncio.sleep(0)
                if len(seen) % 2:
                    waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    seen += [event.entry.text() for event in await waiting]
                    continue
                seen += [event.entry.text() for event in await watch.next()]
            await writing
        assert seen == [str(number) for number in range(count)]


async def test_a_wait_has_a_time_and_loses_nothing_by_it(hither_connect):
    async with hither_connect() as client, client.watch("k", start="now") as watch:
        with pytest.raises(TimeoutError) as caught:
            await watch.next(timeout=0.01)
        assert isinstance(caught.value, hither.HitherTimeoutError)
        await client.kv.put("k", "1")
        assert len(await watch.next(timeout=5)) == 1


async def test_tasks_that_wait_for_the_same_watch_take_turns_and_all_of_them_end_with_it(hither_connect):
    before = _native.live_calls()
    async with hither_connect() as client, client.watch("k", start="now") as watch:
        waiting = [asyncio.create_task(watch.next()) for _ in range(3)]
        await until("they wait", lambda: _native.live_calls() == before + 3)
        # Who looks in between, or is cancelled, takes nobody's turn.
        with pytest.raises(TimeoutError):
            await watch.next(timeout=0.01)
        waiting.pop(0).cancel()
        values = []
        for number in range(2):
            await client.kv.put("k", str(number))
            done, _ = await asyncio.wait(waiting, timeout=5, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                waiting.remove(task)
                values += [event.entry.text() for event in task.result()]
        assert values == ["0", "1"] and not waiting
        waiting = [asyncio.create_task(watch.next()) for _ in range(3)]
        await until("they wait again", lambda: _native.live_calls() == before + 3)
        watch.close()
        assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == [None] * 3


@pytest.mark.parametrize("of", ["keys", "a service"])
async def test_what_one_waited_for_and_did_not_take_is_there_for_the_next_who_waits(hither_connect, of):
    async with hither_connect() as client:
        async with client.watch("k", start="now") if of == "keys" else client.watch_service("api") as watch:
            if of == "a service":
                await watch.next()
            # As a task does that is cancelled when its wait is over and it has not gone on.
            first, second = watch._source.wait(None), watch._source.wait(None)
            await client.kv.put("k", "v")
            async with client.register("api", port=80):
                assert await first
                assert await asyncio.wait_for(_awaited(second), 5)
                assert watch._source.poll() is not None


async def _awaited(call):
    return await call


async def test_a_watch_that_is_never_empty_starves_nobody(hither_connect):
    async with hither_connect() as client, client.watch("k", start="now") as watch:
        for number in range(1_000):
            await client.kv.put("k", str(number))
        turns = 0

        async def others():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(others())
        taken = 0
        async for update in watch:
            taken += len(update)
            if taken == 1_000:
                break
        task.cancel()
        assert turns >= 5


async def test_callbacks_are_serial_isolated_and_over_once_closed(hither_connect, caplog):
    async with hither_connect() as client:
        running = 0
        seen, errors = [], []

        async def callback(update):
            nonlocal running
            running += 1
            assert running == 1
            await asyncio.sleep(0)
            running -= 1
            seen.extend(event.entry.text() for event in update)
            if "2" in seen[-1:]:
                raise ValueError("mine")

        async with client.watch("k", start="now") as watch:
            subscription = watch.subscribe(callback, on_error=errors.append)
            for number in range(4):
                await client.kv.put("k", str(number))
                await until("it is seen", lambda number=number: str(number) in seen)
            await subscription.close()
            await client.kv.put("k", "late")
            assert seen == ["0", "1", "2", "3"] and [str(error) for error in errors] == ["mine"]
        async with client.watch("k").subscribe(lambda update: 1 / 0):
            await until("it is logged", lambda: "a callback of a watch failed" in caplog.text)


async def test_a_callback_may_close_its_own_subscription(hither_connect, hither_server):
    async with hither_connect() as client:
        closed = asyncio.Event()

        async def callback(update):
            await subscription.close()
            closed.set()

        subscription = client.watch("k").subscribe(callback)
        await asyncio.wait_for(closed.wait(), 5)
        await until("it is closed", lambda: hither_server.metric("hither_watches") == 0, within=1)


def test_threads_watch_and_are_called_back(hither_client, hither_server):
    seen = threading.Semaphore(0)
    watch = hither_client.watch(prefix="c/")
    assert watch.next().kind == "snapshot"
    with pytest.raises(TimeoutError):
        watch.next(timeout=0.01)
    with hither_client.watch(prefix="c/").subscribe(lambda update: seen.release()):
        assert seen.acquire(timeout=5)
        hither_client.kv.put("c/k", "1")
        assert seen.acquire(timeout=5)
    assert [event.key for event in next(watch)] == ["c/k"]
    # Closed by another thread while this one waits.
    threading.Timer(0.05, watch.close).start()
    assert list(watch) == []
    for _ in hither_client.watch("k"):
        break
    hither_client.close()
    assert hither_client.watch is not None


async def test_states_are_told_from_the_one_now_to_closed(hither_connect):
    client = await hither_connect()
    states = client.states()
    assert await states.next() == "connected"
    await client.close()
    assert [state async for state in states] == ["closed"]
