"""What every interpreter must be able to do with the installed wheel."""

import asyncio
import sys

import hither
import hither.sync


async def main():
    async with hither.connect() as client:
        await client.kv.put("smoke", "loop")
        async for update in client.watch("smoke"):
            assert update.events[0].entry.text() == "loop"
            break
        async with client.register("smoke", port=80, address="h"):
            await client.wait_for("smoke")
            assert client.pick("smoke").url() == "http://h:80"
        try:
            await asyncio.wait_for(client.watch("none", start="now").next(), 0.05)
        except (TimeoutError, asyncio.TimeoutError):
            pass


asyncio.run(main())
with hither.sync.connect() as blocking:
    assert blocking.kv.get("smoke").text() == "loop"
print("CPython {}.{}".format(*sys.version_info), end="")
