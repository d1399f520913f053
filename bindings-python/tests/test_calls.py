"""Calls: deadlines, cancellation that reaches the core, loops and the ways back to them."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
import time
import weakref
from datetime import timedelta

import pytest
from support import run, until

import hither
import hither.sync
from hither import _native
from hither.testing import Server


@pytest.fixture
def paused():
    """A server that is there and does nothing, once `pause` was called."""
    with Server() as server:
        yield server
        server.resume()


async def test_a_timeout_is_a_number_or_a_timedelta_and_the_builtin_error_too(paused):
    async with hither.connect(**paused.settings) as client:
        paused.pause()
        for timeout in (0.05, timedelta(milliseconds=50)):
            began = time.monotonic()
            with pytest.raises(TimeoutError) as caught:
                await client.kv.get("k", timeout=timeout)
            assert time.monotonic() - began < 1
            assert isinstance(caught.value, hither.HitherTimeoutError) and caught.value.number == 6003
        with pytest.raises(hither.HitherTimeoutError) as caught:
            await client.kv.put("k", "v", timeout=0.05)
        assert caught.value.applied in ("no", "unknown") and caught.value.retryable
        paused.resume()


async def test_cancelling_a_task_drops_the_call_in_the_core(paused):
    async with hither.connect(**paused.settings) as client:
        before = _native.live_calls()
        paused.pause()
        tasks = [asyncio.ensure_future(client.kv.get("k", timeout=60)) for _ in range(50)]
        await until("they are under way", lambda: client.metrics["in_flight"] == 50)
        assert _native.live_calls() == before + 50
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until("they are gone", lambda: _native.live_calls() == before, within=1)
        await until("they are gone in the core", lambda: client.metrics["in_flight"] == 0, within=1)
        began = time.monotonic()
        with pytest.raises((TimeoutError, asyncio.TimeoutError)):
            await asyncio.wait_for(client.kv.get("k", timeout=60), 0.05)
        assert time.monotonic() - began < 1
        await until("that one is gone", lambda: _native.live_calls() == before, within=1)
        paused.resume()


async def test_a_call_says_what_it_was_cancelled_with_and_one_thrown_away_is_taken_back(paused):
    async with hither.connect(**paused.settings) as client:
        before = _native.live_calls()
        paused.pause()
        task = asyncio.ensure_future(client.kv.get("k", timeout=60))
        await until("it is under way", lambda: _native.live_calls() == before + 1)
        assert task.cancel("enough") and not task.done()
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert task.cancelled() and _native.live_calls() == before
        thrown_away = client.kv.get("k", timeout=60)
        thrown_away.send(None)
        assert _native.live_calls() == before + 1
        thrown_away.close()
        assert _native.live_calls() == before
        paused.resume()


async def test_connecting_can_be_cancelled_and_has_a_time(hither_server):
    settings = {**hither_server.settings, "url": "hither://127.0.0.1:9"}
    began = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        await hither.connect(**settings, connect_timeout=0.1)
    assert isinstance(caught.value, hither.UnavailableError) and time.monotonic() - began < 2
    task = asyncio.ensure_future(hither.connect(**settings)._open())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until("it is gone", lambda: _native.live_calls() == 0, within=1)


async def test_a_panic_in_a_task_is_an_error_and_nothing_else(hither_connect, capfd):
    async with hither_connect() as client:
        with pytest.raises(hither.InternalError, match="asked to") as caught:
            await client._call(_native.panic_in_a_task, client._call.core)
        assert caught.value.applied == "unknown"
        await client.kv.put("k", "v")


async def test_a_thousand_calls_at_once_come_back_each_to_its_own(hither_connect):
    async with hither_connect() as client:
        await asyncio.gather(*(client.kv.put(f"k/{number}", str(number)) for number in range(1_000)))
        entries = await asyncio.gather(*(client.kv.get(f"k/{number}") for number in range(1_000)))
        assert [entry.text() for entry in entries] == [str(number) for number in range(1_000)]


async def test_each_task_goes_on_as_itself_and_in_its_own_context(hither_connect):
    name = contextvars.ContextVar("name")

    async def work(client, number):
        name.set(number)
        for turn in range(5):
            await client.kv.put(f"k/{number}", str(turn))
            assert name.get() == number
            assert asyncio.current_task().get_name() == f"task {number}"
            name.set(number)

    async with hither_connect() as client:
        work = [asyncio.create_task(work(client, number), name=f"task {number}") for number in range(300)]
        await asyncio.gather(*work)


def test_tasks_written_in_python_await_calls_too(hither_server):
    async def main():
        async with hither.connect(**hither_server.settings) as client:
            await asyncio.gather(*(client.kv.put(f"k/{number}", str(number)) for number in range(100)))
            with pytest.raises(hither.HitherError, match="KeyEmpty"):
                await client.kv.get("")
            with pytest.raises((TimeoutError, asyncio.TimeoutError)):
                await asyncio.wait_for(client.watch("none", start="now").next(), 0.05)
            return (await client.kv.get("k/7")).text()

    loop = asyncio.new_event_loop()
    loop.set_task_factory(lambda loop, coroutine, **rest: asyncio.tasks._PyTask(coroutine, loop=loop, **rest))
    assert loop.run_until_complete(main()) == "7"
    loop.close()


def test_a_task_that_ends_the_loop_takes_no_answer_with_it(hither_server):
    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(_connected(hither_server))

    async def work(number):
        await client.kv.put(f"k/{number}", "v")
        if number == 5:
            raise KeyboardInterrupt

    tasks = [loop.create_task(work(number)) for number in range(200)]
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.wait(tasks))
    loop.run_until_complete(asyncio.wait_for(asyncio.wait(tasks), 10))
    assert all(task.done() and (number == 5 or task.exception() is None) for number, task in enumerate(tasks))
    with pytest.raises(KeyboardInterrupt):
        tasks[5].result()
    loop.run_until_complete(client.close())
    loop.close()


async def _connected(server):
    return await hither.connect(**server.settings)


def test_a_loop_in_debug_mode_says_which_task_took_long(hither_server, caplog):
    async def sluggard(client):
        await client.kv.put("k", "v")
        time.sleep(0.2)

    async def main():
        async with hither.connect(**hither_server.settings) as client:
            asyncio.get_running_loop().slow_callback_duration = 0.15
            await asyncio.gather(sluggard(client), client.kv.get("k"))

    asyncio.run(main(), debug=True)
    assert any("sluggard" in record.getMessage() for record in caplog.records if record.name == "asyncio")


def test_a_client_belongs_to_its_loop_and_each_loop_has_its_own(hither_server):
    async def connect():
        client = await hither.connect(**hither_server.settings)
        await client.kv.put("k", "v")
        return client

    async def use(client):
        await client.kv.get("k")

    with asyncio.Runner() if hasattr(asyncio, "Runner") else _Runner() as first:
        client = first.run(connect())
        with pytest.raises(hither.WrongLoopError, match="another event loop"):
            asyncio.run(use(client))
        first.run(use(client))

        # What is refused does nothing.
        async def lend():
            return await client.lease(10)

        lease = first.run(lend())

        async def misused():
            with pytest.raises(hither.WrongLoopError):
                await lease.revoke()
            with pytest.raises(hither.WrongLoopError):
                await client.close()

        asyncio.run(misused())
        assert not lease.is_lost
        assert first.run(client.kv.put("of-the-lease", "v", lease=lease)).revision
        assert first.run(lease.revoke()) == 1

        async def own():
            async with hither.connect(**hither_server.settings) as mine:
                await mine.kv.get("k")

        # Two loops at once, each in a thread.
        thread = threading.Thread(target=lambda: asyncio.run(own()))
        thread.start()
        first.run(use(client))
        thread.join()
        first.run(client.close())


class _Runner:
    """What Python 3.10 has not."""

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        return self

    def run(self, work):
        return self.loop.run_until_complete(work)

    def __exit__(self, *_):
        self.loop.close()


def test_a_loop_that_is_gone_leaves_nothing_behind(hither_server):
    async def once():
        async with hither.connect(**hither_server.settings) as client:
            await client.kv.put("k", "v")
        return weakref.ref(asyncio.get_running_loop())

    asyncio.run(once())
    gc.collect()
    files = len(os.listdir("/proc/self/fd"))
    loops = [asyncio.run(once()) for _ in range(20)]
    gc.collect()
    assert not any(loop() for loop in loops)
    assert len(os.listdir("/proc/self/fd")) <= files


def test_there_are_at_most_four_threads_beyond_the_interpreters(hither_server):
    program = """
        import asyncio, os, hither
        before = len(os.listdir("/proc/self/task"))
        async def main():
            async with hither.connect() as client:
                await asyncio.gather(*(client.kv.put(str(n), "v") for n in range(512)))
                async with client.watch(prefix="") as watch, client.lease(10), client.register("api", port=80):
                    await watch.next()
                    await client.wait_for("api")
                    print(len(os.listdir("/proc/self/task")) - before)
        asyncio.run(main())
    """
    for bridge in ("", "thread"):
        done = run(hither_server, program, HITHER_BRIDGE=bridge)
        assert done.returncode == 0 and done.stderr == "" and int(done.stdout) <= 4, done


def test_a_loop_that_cannot_wait_for_files_has_a_thread_that_waits(hither_server):
    program = """
        import asyncio, threading, hither

        class Proactor(asyncio.SelectorEventLoop):
            '''What Windows has by default: no add_reader.'''
            def add_reader(self, *_): raise NotImplementedError

        async def main():
            async with hither.connect() as client:
                await asyncio.gather(*(client.kv.put(f"k/{n}", "v") for n in range(300)))
                async for update in client.watch(prefix="k/"):
                    print(len(update))
                    break
                task = asyncio.ensure_future(client.watch("none", start="now").next())
                await asyncio.sleep(0.05)
                task.cancel()
                await asyncio.wait([task])
                print([thread.name for thread in threading.enumerate()][1:])

        for _ in range(2):
            loop = Proactor()
            loop.run_until_complete(main())
            loop.close()
            del loop
    """
    done = run(hither_server, program)
    assert done.returncode == 0 and done.stderr == "", done
    assert done.stdout.splitlines() == ["300", "['hither-bridge']"] * 2


def test_the_suite_of_calls_runs_on_uvloop(hither_server):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        async with hither.connect(**hither_server.settings) as client:
            await asyncio.gather(*(client.kv.put(f"k/{number}", "v") for number in range(300)))
            async with client.watch(prefix="k/") as watch:
                assert len(await watch.next()) == 300
            waiting = asyncio.ensure_future(client.watch("none", start="now").next())
            await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.wait([waiting])
            await client.kv.delete(hither.KeyRange.prefix("k/"))

    uvloop.run(main())


def test_a_blocking_call_in_a_task_that_an_answer_had_go_on_comes_back(hither_server):
    program = """
        import asyncio, hither, hither.sync

        async def main():
            blocking = hither.sync.connect()
            async with hither.connect() as client:
                await client.kv.get("a")
                assert blocking.kv.get("b") is None
                watch = blocking.watch("a", start="now")
                await client.kv.get("a")
                # Asked for and not awaited: it is done meanwhile.
                putting = client.kv.put("a", "v")
                putting.send(None)
                print(watch.next().kind)
                putting.close()
                await client.kv.get("a")
                blocking.close()

        asyncio.run(main())
    """
    for bridge in ("", "thread"):
        done = run(hither_server, program, timeout=10, HITHER_BRIDGE=bridge)
        assert (done.returncode, done.stdout, done.stderr) == (0, "changes\n", ""), done


async def test_a_client_that_was_not_closed_is_warned_of(hither_connect):
    client = await hither_connect()
    with pytest.warns(ResourceWarning, match="was not closed"):
        del client
        gc.collect()


def test_threads_share_a_blocking_client(hither_client):
    def work(number):
        for turn in range(20):
            hither_client.kv.put(f"k/{number}/{turn}", "v")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hither_client.kv.count("k/") == 160


async def test_a_blocking_client_works_beside_a_running_loop(hither_client):
    await asyncio.to_thread(hither_client.kv.put, "k", "v")
    assert (await asyncio.to_thread(hither_client.kv.get, "k")).text() == "v"
