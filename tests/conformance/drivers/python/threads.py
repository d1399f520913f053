"""The driver for threads."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import fork
import hither
import hither.sync
import show
from operations import Driver, Operation, answer_of, in_thread, no_terminate


class Threads:
    def __init__(self) -> None:
        self.driver = Driver(hither.sync.connect)
        self.speaking = threading.Lock()
        self.told: str | None = None

    def run(self, operation: Operation) -> dict[str, Any]:
        """Carries an operation out: what it yields has come already."""
        try:
            waited = next(operation)
            while True:
                waited = operation.send(waited)
        except StopIteration as done:
            return done.value

    def answer(self, request: dict[str, Any]) -> None:
        number = request["id"]
        answer = answer_of(lambda: self.carry_out(request))
        del self.driver.under_way[number]
        self.say({"id": number, **answer})

    def carry_out(self, request: dict[str, Any]) -> dict[str, Any]:
        args = request.get("args") or {}
        match request["op"]:
            case "worker":
                no_terminate(args)
                return in_thread(lambda: worker(args["url"], args["context"], args["key"]))
            case "fork":
                client = self.driver.handles[request["on"]]
                return fork.finish(*fork.begin(args, lambda: child(client, args)))
        return self.run(self.driver.begin(request))

    def exit(self, client: hither.sync.Client, args: dict[str, Any]) -> dict[str, Any]:
        key = args.get("key", "exit")
        calls = args.get("calls", 0)
        begun = threading.Barrier(calls + 1)

        def call() -> None:
            begun.wait()
            client.kv.get(key)

        for _ in range(calls):
            threading.Thread(target=quietly, args=(call,), daemon=True).start()
        if args.get("watch"):
            watch = client.watch(key)
            watch.next()
            threading.Thread(target=quietly, args=(watch.next,), daemon=True).start()
        begun.wait()
        return {"started": calls}

    def say(self, answer: dict[str, Any]) -> None:
        with self.speaking:
            print(json.dumps(answer), flush=True)


def quietly(call: Any) -> None:
    """A thread of the application's whose call may end because the program does."""
    try:
        call()
    except hither.ClosedError:
        pass


def worker(url: str, context: str, key: str) -> dict[str, Any]:
    with hither.sync.connect(url, context=context) as client:
        entry = client.kv.get(key)
        for _ in client.watch(key):
            break
    return {"entry": show.entry(entry), "exit": 0}


def child(client: hither.sync.Client, args: dict[str, Any]) -> dict[str, Any]:
    def fresh() -> dict[str, Any]:
        with hither.sync.connect(args["url"], context=args["context"]) as own:
            return {"entry": show.entry(own.kv.get(args["key"]))}

    return {
        "stale": answer_of(lambda: {"entry": show.entry(client.kv.get(args["key"]))}),
        "closed": answer_of(lambda: client.close() or {}),
        "fresh": answer_of(fresh),
    }


def main() -> int:
    threads = Threads()
    # A call that waits in another thread is taken back by closing what it waits for: there is no `cancel`.
    ops = [*threads.driver.ops(), "exit", "worker", "fork"]
    version = hither.__version__
    threads.say({"hello": {"protocol": 1, "language": "python-sync", "version": version, "ops": ops}})
    try:
        for line in sys.stdin:
            request = json.loads(line)
            if request["op"] == "exit":
                client, args = threads.driver.handles[request["on"]], request["args"]
                threads.say({"id": request["id"], "ok": threads.exit(client, args)})
                return end(threads, args["how"])
            thread = threading.Thread(target=threads.answer, args=(request,), daemon=True)
            threads.driver.under_way[request["id"]] = thread
            thread.start()
    except KeyboardInterrupt:
        close(threads)
        return 130
    close(threads)
    return 0


def close(threads: Threads) -> None:
    for client in threads.driver.clients():
        client.close()


_unclosed: list[Threads] = []


def end(threads: Threads, how: str) -> int:
    # Kept while the process ends: nobody closes the client.
    _unclosed.append(threads)
    if how == "exit":
        sys.exit(0)
    if how == "raise":
        raise RuntimeError("told to")
    return 0
