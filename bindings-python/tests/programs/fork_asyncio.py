"""Forks with a live client: the child's own client works, the parent's refuses there and goes on here."""

import asyncio
import os
import sys

import hither


async def child(client, watch, lease):
    for use in (client.kv.get("k"), watch.next(), lease.revoke(), client.lease(10)._open()):
        try:
            await use
        except hither.ForkedError:
            continue
        raise AssertionError("the parent's client was used")
    try:
        client.pick("api")
    except hither.ForkedError:
        pass
    await client.close()
    async with hither.connect() as own:
        assert (await own.kv.get("k")).text() == "v"
        async for _ in own.watch("k"):
            break


async def main():
    client = await hither.connect()
    await client.kv.put("k", "v")
    watch = await client.watch("k")
    lease = await client.lease(60)
    busy = [asyncio.ensure_future(client.kv.put("busy", "v")) for _ in range(200)]
    await asyncio.sleep(0)
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(child(client, watch, lease))
            del client, watch, lease, busy
        except BaseException as error:
            print(f"child: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert status == 0, status
    await asyncio.gather(*busy)
    assert (await watch.next()).kind == "snapshot"
    assert not lease.is_lost
    await client.close()


if sys.version_info >= (3, 12):
    import warnings

    warnings.simplefilter("ignore", DeprecationWarning)
asyncio.run(main())
