"""A program of somebody else's, for the type checkers: what it says of types must hold. It is not run."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing_extensions import assert_type

import hither
import hither.sync
from hither import op, when


async def main() -> None:
    async with hither.connect("hither://127.0.0.1:7400", request_timeout=timedelta(seconds=1)) as client:
        assert_type(client, hither.Client)
        entry = await client.kv.get("k", max_age=1)
        assert_type(entry, hither.Entry | None)
        if entry is not None:
            assert_type(entry.text(), str)
        reply = await client.kv.txn(when=[when.absent("k")], then=[op.put("k", b"v")])
        assert_type(reply.succeeded, bool)
        async for update in client.watch(prefix="config/"):
            assert_type(update, hither.Update)
            for event in update:
                match event:
                    case hither.PutEvent(entry=written):
                        assert_type(written, hither.Entry)
                    case hither.DeleteEvent(key=key):
                        assert_type(key, str)
                    case hither.LivenessEvent():
                        pass
        async with client.lease(10) as lease, client.register("api", port=80) as registration:
            assert_type(lease, hither.Lease)
            await client.kv.put("k", "v", lease=lease)
            assert_type(registration.instance.url(), str | None)
        async for change in client.watch_service("api", filter=hither.Filter(zone="a")):
            assert_type(change, hither.ServiceUpdate)
        assert_type(client.pick("api", "random"), hither.Instance)
        assert_type(await client.watch("k").next(timeout=1), hither.Update | None)
        task = asyncio.create_task(client.kv.get("k"))
        assert_type(await task, hither.Entry | None)
        try:
            await client.kv.put("k", "v")
        except hither.HitherTimeoutError as error:
            assert_type(error.applied, hither.Applied)


def threads() -> None:
    with hither.sync.connect() as client:
        assert_type(client, hither.sync.Client)
        for update in client.watch("k"):
            assert_type(update, hither.Update)
        assert_type(client.kv.list("config/")[0], hither.Entry)
        assert_type(client.discover("api"), hither.ServiceView)
