"""Ends with calls in flight, an open watch and a client that nobody closes."""

import asyncio
import os
import sys

import hither

how = int(sys.argv[1]) % 3
kept = []


async def main():
    client = await hither.connect()
    watch = await client.watch("k", start="now")
    lease = await client.lease(60)
    kept.extend([client, watch, lease])
    kept.extend(asyncio.ensure_future(client.kv.put(f"k/{number}", "v")) for number in range(500))
    kept.append(asyncio.ensure_future(watch.next()))
    await asyncio.sleep(0.002 * (int(sys.argv[1]) % 5))
    if how == 1:
        sys.exit(0)


if how == 2:
    # A loop that is neither cleaned up nor closed.
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    for kept_one in kept:
        if isinstance(kept_one, asyncio.Task):
            kept_one._log_destroy_pending = False
else:
    asyncio.run(main())
assert os.getpid()
