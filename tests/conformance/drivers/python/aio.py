"""The driver for asyncio."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from typing import Any

import fork
import hither
import show
from operations import Driver, Operation, in_thread, no_terminate


class Aio:
    def __init__(self) -> None:
        self.driver = Driver(hither.connect)
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.kept: set[Any] = set()

    async def run(self, operation: Operation) -> dict[str, Any]:
        """Carries an operation out: what it yields is awaited."""
        try:
            waited = next(operation)
            while True:
                try:
                    result = None if waited is None else await waited
                except BaseException as error:
                    waited = operation.throw(error)
                else:
                    waited = operation.send(result)
        except StopIteration as done:
            return done.value

    async def answer(self, request: dict[str, Any]) -> None:
        number = request["id"]
        try:
            answer = {"ok": await self.carry_out(request)}
        except asyncio.CancelledError:
            answer = {"cancelled": True}
        except hither.HitherError as error:
            answer = {"err": show.error(error)}
        except NotImplementedError as why:
            answer = {"unsupported": str(why)}
        except Exception as error:
            answer = {"crash": repr(error)}
        del self.driver.under_way[number]
        say({"id": number, **answer})
        if request["op"] == "exit" and "ok" in answer:
            self.ended.set_result(request["args"]["how"])

    async def carry_out(self, request: dict[str, Any]) -> dict[str, Any]:
        args = request.get("args") or {}
        match request["op"]:
            case "cancel":
                task = self.driver.under_way.get(args["id"])
                return {"found": task is not None and task.cancel()}
            case "exit":
                return await self.exit(self.driver.handles[request["on"]], args)
            case "worker":
                no_terminate(args)
                work = worker(args["url"], args["context"], args["key"])
                return await asyncio.to_thread(in_thread, lambda: asyncio.run(work))
            case "fork":
                client = self.driver.handles[request["on"]]
                return await asyncio.to_thread(fork.finish, *fork.begin(args, lambda: asyncio.run(child(client, args))))
        return await self.run(self.driver.begin(request))

    async def exit(self, client: hither.Client, args: dict[str, Any]) -> dict[str, Any]:
        key = args.get("key", "exit")
        calls = [asyncio.ensure_future(client.kv.get(key)) for _ in range(args.get("calls", 0))]
        self.kept.update(calls)
        if args.get("watch"):
            watch = await client.watch(key)
            await watch.next()
            self.kept.add(asyncio.ensure_future(watch.next()))
        await asyncio.sleep(0)
        return {"started": len(calls)}

    async def close(self) -> None:
        for client in self.driver.clients():
            await client.close()


async def worker(url: str, context: str, key: str) -> dict[str, Any]:
    async with hither.connect(url, context=context) as client:
        entry = await client.kv.get(key)
        async for _ in client.watch(key):
            break
    return {"entry": show.entry(entry), "exit": 0}


async def child(client: hither.Client, args: dict[str, Any]) -> dict[str, Any]:
    async def fresh() -> dict[str, Any]:
        async with hither.connect(args["url"], context=args["context"]) as own:
            return {"entry": show.entry(await own.kv.get(args["key"]))}

    async def stale() -> dict[str, Any]:
        return {"entry": show.entry(await client.kv.get(args["key"]))}

    async def closed() -> dict[str, Any]:
        await client.close()
        return {}

    answers = {}
    for name, step in {"stale": stale, "closed": closed, "fresh": fresh}.items():
        try:
            answers[name] = {"ok": await step()}
        except hither.HitherError as error:
            answers[name] = {"err": show.error(error)}
        except Exception as error:
            answers[name] = {"crash": repr(error)}
    return answers


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


async def serve() -> None:
    aio = Aio()
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    ops = [*aio.driver.ops(), "cancel", "exit", "worker", "fork"]
    version = hither.__version__
    say({"hello": {"protocol": 1, "language": "python", "version": version, "ops": ops}})
    threading.Thread(target=read, daemon=True).start()
    try:
        while not aio.ended.done():
            line = asyncio.ensure_future(lines.get())
            await asyncio.wait([line, aio.ended], return_when=asyncio.FIRST_COMPLETED)
            if not line.done():
                break
            if not line.result():
                return await aio.close()
            request = json.loads(line.result())
            aio.driver.under_way[request["id"]] = loop.create_task(aio.answer(request))
    except asyncio.CancelledError:
        # Interrupted: as leaving the `with` of each client would.
        await aio.close()
        raise
    # Kept while the process ends: nobody closes the client, nobody cancels its calls.
    _unclosed.append(aio)
    match aio.ended.result():
        case "exit":
            sys.exit(0)
        case "raise":
            raise RuntimeError("told to")


_unclosed: list[Aio] = []


def main() -> int:
    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        return 130
    return 0
