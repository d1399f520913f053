"""One run of the Python client of Hither, or of aetcd: prints one JSON object. Started by `scripts/bench-sdk`.

python measure.py hither hither://127.0.0.1:7400
python measure.py etcd 127.0.0.1:2379
python measure.py finding hither://127.0.0.1:7400
python measure.py steady hither://127.0.0.1:7400 20000
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

IN_FLIGHT = 256
SECONDS = 3.0
WATCHERS = 100
PUTS = 1_000
WRITERS = 64
VALUE = b"v" * 256


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


THREADS_BEFORE = threads()


async def closed_loop(call: Callable[[int], Awaitable[object]]) -> tuple[float, float]:
    """Calls per second and microseconds of this process's CPU per call, with so many under way at all times."""
    calls = 0
    # Told when it is over, rather than asking each time: what this loop costs is counted too.
    over = False

    def end() -> None:
        nonlocal over
        over = True

    async def caller(number: int) -> None:
        nonlocal calls
        while not over:
            await call(number)
            calls += 1

    asyncio.get_running_loop().call_later(SECONDS, end)
    begin, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller(number) for number in range(IN_FLIGHT)))
    return calls / (time.perf_counter() - begin), (time.process_time() - cpu) / calls * 1e6


async def fan_out(put: Callable[[int], Awaitable[object]], watchers: "list[Awaitable[None]]") -> tuple[float, float]:
    """Events per second and CPU per event, from the first write until every watcher of one key has all of them."""
    tasks = [asyncio.ensure_future(watcher) for watcher in watchers]
    begin, cpu = time.perf_counter(), time.process_time()

    async def writer(lane: int) -> None:
        for number in range(lane, PUTS, WRITERS):
            await put(number)

    await asyncio.gather(*(writer(lane) for lane in range(WRITERS)), *tasks)
    events = PUTS * WATCHERS
    return events / (time.perf_counter() - begin), (time.process_time() - cpu) / events * 1e6


class Hither:
    def __init__(self, address: str, *, share_watches: bool = True) -> None:
        self.address = address
        self.share_watches = share_watches

    async def __aenter__(self) -> "Hither":
        import hither

        self.client = await hither.connect(self.address, share_watches=self.share_watches)
        # What watchers begin with, and do not count.
        self.before = (await self.client.kv.put("watched", VALUE)).revision
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    def get(self, number: int) -> Awaitable[object]:
        return self.client.kv.get(f"bench/{number}")

    def put(self, number: int) -> Awaitable[object]:
        return self.client.kv.put(f"bench/{number}", VALUE)

    def record(self, number: int) -> Awaitable[object]:
        return self.client.kv.put("watched", VALUE)

    async def watch(self) -> "Awaitable[None]":
        updates = await self.client.watch("watched")
        async def read() -> None:
            seen = 0
            async for update in updates:
                for event in update:
                    seen += event.revision > self.before and event.entry.value is not None
                if seen == PUTS:
                    return

        return read()


class Etcd:
    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self.host, self.port = host, int(port)

    async def __aenter__(self) -> "Etcd":
        import aetcd

        self.client = aetcd.Client(self.host, self.port)
        await self.client.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    def get(self, number: int) -> Awaitable[object]:
        return self.client.get(b"bench/%d" % number)

    def put(self, number: int) -> Awaitable[object]:
        return self.client.put(b"bench/%d" % number, VALUE)

    def record(self, number: int) -> Awaitable[object]:
        return self.client.put(b"watched", VALUE)

    async def watch(self) -> "Awaitable[None]":
        events = await self.client.watch(b"watched")

        async def read() -> None:
            seen = 0
            async for event in events:
                seen += event.kv.value is not None
                if seen == PUTS:
                    return

        return read()


async def steady(address: str, puts: int) -> None:
    """Writes the key that `measure.mjs live` watches, a thousand times a second."""
    async with Hither(address) as target:
        begin = time.perf_counter()
        for number in range(puts):
            await asyncio.sleep(max(0.0, begin + number / 1_000 - time.perf_counter()))
            await target.client.kv.put("live", VALUE)


async def finding(address: str) -> dict[str, float]:
    """What a pick costs, in nanoseconds, of a service with 16 instances."""
    async with Hither(address) as target:
        client = target.client
        for number in range(16):
            await client.register("picked", id=f"i{number}", endpoints=[f"http://10.0.0.{number + 1}:80"], permanent=True)
        await client.wait_for("picked", 16)
        pick, calls = client.pick, 100_000
        begin = time.perf_counter()
        for _ in range(calls):
            pick("picked")
        return {"pick ns": (time.perf_counter() - begin) / calls * 1e9}


async def main(system: str, address: str) -> dict[str, float]:
    async with (Hither if system == "hither" else Etcd)(address) as target:
        puts = await closed_loop(target.put)
        gets = await closed_loop(target.get)
        busy = threads() - THREADS_BEFORE
        events = await fan_out(target.record, [await target.watch() for _ in range(WATCHERS)])
    alone = {}
    if system == "hither":
        async with Hither(address, share_watches=False) as target:
            each = await fan_out(target.record, [await target.watch() for _ in range(WATCHERS)])
        alone = {"events/s, a stream each": each[0], "CPU us/event, a stream each": each[1]}
    return {
        "puts/s": puts[0],
        "CPU us/put": puts[1],
        "gets/s": gets[0],
        "CPU us/get": gets[1],
        "events/s": events[0],
        "CPU us/event": events[1],
        **alone,
        "threads": busy,
    }


match sys.argv[1:]:
    case ["steady", address, puts]:
        asyncio.run(steady(address, int(puts)))
    case ["finding", address]:
        print(json.dumps(asyncio.run(finding(address))))
    case [system, address]:
        print(json.dumps(asyncio.run(main(system, address))))
