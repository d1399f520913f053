"""Waits with a watch and a hundred calls until it is interrupted."""

import asyncio
import sys
import uuid

import hither

service = f"s-{uuid.uuid4().hex[:8]}"


async def call(client):
    try:
        while True:
            await client.kv.get("k")
    except hither.ClosedError:
        pass


async def main():
    async with hither.connect() as client:
        registration = await client.register(service, port=80, address="h")
        calls = [asyncio.ensure_future(call(client)) for _ in range(100)]
        print(f"ready\n{service}", flush=True)
        async for _ in client.watch("never"):
            pass
        del registration, calls


try:
    asyncio.run(main())
except KeyboardInterrupt:
    sys.exit(130)
