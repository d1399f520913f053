"""Opens and closes a client again and again, and says how much is left of it."""

import asyncio
import gc
import os
import sys

import hither
import hither.sync


async def with_loop():
    async with hither.connect() as client:
        await client.kv.put("k", "v")
        async with client.watch("k") as watch, client.lease(10):
            await watch.next()


def without_loop():
    with hither.sync.connect() as client:
        client.kv.put("k", "v")
        with client.watch("k") as watch, client.lease(10):
            watch.next()


def once():
    asyncio.run(with_loop()) if sys.argv[1] == "asyncio" else without_loop()


def figures():
    gc.collect()
    with open("/proc/self/status") as status:
        kib = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    return {"threads": len(os.listdir("/proc/self/task")), "files": len(os.listdir("/proc/self/fd")), "kib": kib}


# The allocator's caches fill first.
for _ in range(max(20, int(sys.argv[2]) // 10)):
    once()
before = figures()
for _ in range(int(sys.argv[2])):
    once()
after = figures()
print(*(f"{name}={after[name] - before[name]}" for name in before))
