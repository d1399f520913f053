"""The operations, for both flavours: generators that yield what has to be waited for."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Generator
from typing import Any

import hither
import show

Operation = Generator[Any, Any, dict[str, Any]]

_OPERATIONS: dict[str, Callable[..., Operation]] = {}


def operation(name: str) -> Callable[[Callable[..., Operation]], Callable[..., Operation]]:
    def named(function: Callable[..., Operation]) -> Callable[..., Operation]:
        _OPERATIONS[name] = function
        return function

    return named


class Driver:
    """What both flavours know: the handles, and what is under way. `connect` is the flavour's."""

    def __init__(self, connect: Callable[..., Any]) -> None:
        self.connect = connect
        self.handles: dict[str, Any] = {}
        self.states: dict[str, Any] = {}
        self.under_way: dict[int, Any] = {}

    def ops(self) -> list[str]:
        return list(_OPERATIONS)

    def begin(self, request: dict[str, Any]) -> Operation:
        # What makes or ends a client may name one that is not there.
        handle = self.handles.get(request.get("on"))
        args = request.get("args") or {}
        return _OPERATIONS[request["op"]](self, handle, args, request)

    def keep(self, request: dict[str, Any], handle: Any) -> None:
        self.handles[request["as"]] = handle

    def clients(self) -> list[Any]:
        return [handle for handle in self.handles.values() if hasattr(handle, "kv")]


@operation("probe")
def probe(driver: Driver, _: None, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    yield None
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return {
        "clients": sum(client.state != "closed" for client in driver.clients()),
        "ops": len(driver.under_way) - 1,
        "threads": int(fields["Threads"]),
        "rss_kb": int(fields["VmRSS"].split()[0]),
        "fds": len(os.listdir("/proc/self/fd")),
    }


@operation("reset")
def reset(driver: Driver, _: None, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    for client in driver.clients():
        yield client.close()
    driver.handles.clear()
    driver.states.clear()
    gc.collect()
    return {}


@operation("connect")
def connect(driver: Driver, _: None, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    client = yield driver.connect(args["url"], context=args.get("context"))
    driver.keep(request, client)
    states = driver.states[request["as"]] = client.states()
    yield states.next()
    return {"state": client.state}


@operation("close")
def close(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    yield client.close()
    return {}


@operation("release")
def release(driver: Driver, handle: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    yield None
    del handle
    driver.handles.pop(request["on"])
    driver.states.pop(request["on"], None)
    gc.collect()
    return {}


@operation("state")
def state(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    yield None
    return {"state": client.state}


def awaited(stream: Any, args: dict[str, Any], shown: Callable[[Any], dict[str, Any]]) -> Operation:
    try:
        step = yield stream.next(timeout=show.time(args, "wait_ms"))
    except hither.HitherTimeoutError:
        return {"none": "timeout"}
    return {"none": "end"} if step is None else shown(step)


@operation("state.next")
def state_next(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    return (yield from awaited(driver.states[request["on"]], args, lambda state: {"state": state}))


@operation("metrics")
def metrics(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    yield None
    return client.metrics


@operation("kv.get")
def kv_get(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    found = yield client.kv.get(args["key"], timeout=show.time(args, "timeout_ms"), **show.consistency(args))
    return {"entry": show.entry(found)}


@operation("kv.put")
def kv_put(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    put = yield client.kv.put(
        args["key"],
        show.value(args["value"]),
        lease=show.lease_id(args.get("lease")),
        previous=args.get("previous", False),
        timeout=show.time(args, "timeout_ms"),
    )
    return show.result(put)


@operation("kv.delete")
def kv_delete(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    previous = args.get("previous", False)
    return show.result((yield client.kv.delete(show.keys(args), previous=previous, timeout=show.time(args, "timeout_ms"))))


@operation("kv.list")
def kv_list(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    options = {name: args[name] for name in ("limit", "reverse", "keys_only") if name in args}
    options.update(show.consistency(args), timeout=show.time(args, "timeout_ms"))
    return show.listing((yield client.kv.list(show.listed(args), **options)))


@operation("kv.txn")
def kv_txn(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    reply = yield client.kv.txn(
        when=[show.condition(asked) for asked in args.get("when", ())],
        then=[show.step(asked) for asked in args.get("then", ())],
        otherwise=[show.step(asked) for asked in args.get("else", ())],
        timeout=show.time(args, "timeout_ms"),
    )
    results = [show.result(one) for one in reply.results]
    return {"succeeded": reply.succeeded, "revision": reply.revision, "results": results}


@operation("lease.grant")
def lease_grant(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    ttl = args["ttl_ms"] / 1000
    if args.get("keep", True):
        lease = yield client.lease(ttl)
        driver.keep(request, lease)
    else:
        lease = yield client.leases.grant(ttl)
    return {"lease": show.show_lease(lease.id), "ttl_ms": int(lease.ttl * 1000)}


@operation("lease.renew")
def lease_renew(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    return {"ttl_ms": int((yield client.leases.renew(show.lease_id(args["lease"]))) * 1000)}


@operation("lease.revoke")
def lease_revoke(driver: Driver, on: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    # A lease, or a client that is told which.
    revoke = on.leases.revoke(show.lease_id(args["lease"])) if "lease" in args else on.revoke()
    return {"deleted": (yield revoke)}


@operation("lease.lost")
def lease_lost(driver: Driver, lease: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    lost = yield lease.lost(timeout=show.time(args, "wait_ms"))
    return {"lost": True} if lost else {"none": "timeout"}


@operation("lease.info")
def lease_info(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    info = yield client.leases.info(show.lease_id(args["lease"]))
    keys = list(info.keys or ())
    return {"lease": show.show_lease(info.id), "ttl_ms": int(info.ttl * 1000), "state": info.state, "keys": keys}


@operation("watch.open")
def watch_open(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    start = args.get("start", "snapshot")
    watch = yield client.watch(
        show.keys(args),
        **(start if isinstance(start, dict) else {"start": start}),
        latest=args.get("mode") == "latest",
        previous=args.get("previous", False),
        min_interval=show.time(args, "min_interval_ms"),
        timeout=show.time(args, "timeout_ms"),
        **(args.get("filter") or {}),
    )
    driver.keep(request, Watching(watch, args.get("previous", False)))
    return {"revision": watch.revision}


class Watching:
    """A watch, and whether it was asked for what was before: an event does not say."""

    def __init__(self, watch: Any, previous: bool) -> None:
        self.watch = watch
        self.previous = previous


@operation("watch.next")
def watch_next(driver: Driver, on: Watching, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    return (yield from awaited(on.watch, args, lambda update: show.update(update, on.previous)))


@operation("watch.close")
def watch_close(driver: Driver, on: Watching, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    yield None
    on.watch.close()
    return {}


@operation("register")
def register(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    args = dict(args)
    service = args.pop("service")
    ttl = show.time(args, "ttl_ms")
    lease = show.lease_id(args.pop("lease", None))
    for name in ("ttl_ms", "timeout_ms"):
        args.pop(name, None)
    registration = yield client.register(service, ttl=ttl, lease=lease, **args)
    driver.keep(request, registration)
    return {"instance": show.instance(registration.instance), "epoch": registration.epoch}


@operation("update")
def update(driver: Driver, registration: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    changes = dict(args["set"])
    if "endpoints" in changes:
        changes["endpoints"] = [
            one if isinstance(one, str) else f"{one['scheme']}://{one['host']}:{one['port']}"
            for one in changes["endpoints"]
        ]
    instance = yield registration.update(**changes)
    return {"instance": show.instance(instance), "epoch": registration.epoch}


@operation("drain")
def drain(driver: Driver, registration: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    return {"instance": show.instance((yield registration.drain()))}


@operation("deregister")
def deregister(driver: Driver, registration: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    return {"removed": (yield registration.deregister())}


@operation("registration.state")
def registration_state(driver: Driver, registration: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    yield None
    return {"state": registration.state, "epoch": registration.epoch}


@operation("registration.lost")
def registration_lost(driver: Driver, registration: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    lost = yield registration.lost(timeout=show.time(args, "wait_ms"))
    return {"lost": True} if lost else {"none": "timeout"}


@operation("discover")
def discover(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    view = yield client.discover(
        args["service"],
        filter=show.filter(args),
        max_staleness=show.time(args, "max_staleness_ms"),
        timeout=show.time(args, "timeout_ms"),
    )
    return show.view(view)


@operation("view")
def view(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    yield None
    found = client.view(args["service"])
    return {"view": None if found is None else show.view(found)}


@operation("wait_for")
def wait_for(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    filter, timeout = show.filter(args), show.time(args, "timeout_ms")
    return show.view((yield client.wait_for(args["service"], args["count"], filter=filter, timeout=timeout)))


@operation("pick")
def pick(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    yield None
    policy, filter = args.get("policy", "round_robin"), show.filter(args)
    picked = [client.pick(args["service"], policy, filter=filter) for _ in range(args.get("times", 1))]
    return {"ids": [instance.id for instance in picked], "instance": show.instance(picked[-1])}


@operation("service.watch.open")
def service_watch_open(driver: Driver, client: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    interval, timeout = show.time(args, "min_interval_ms"), show.time(args, "timeout_ms")
    watch = yield client.watch_service(
        args["service"], filter=show.filter(args), min_interval=interval, timeout=timeout
    )
    driver.keep(request, watch)
    return {}


@operation("service.watch.next")
def service_watch_next(driver: Driver, watch: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    return (yield from awaited(watch, args, show.service_update))


@operation("service.watch.close")
def service_watch_close(driver: Driver, watch: Any, args: dict[str, Any], request: dict[str, Any]) -> Operation:
    yield None
    watch.close()
    return {}


def answer_of(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What came of an operation, as an answer without its id."""
    try:
        return {"ok": run()}
    except hither.HitherError as raised:
        return {"err": show.error(raised)}
    except NotImplementedError as why:
        return {"unsupported": str(why)}
    except Exception as raised:
        return {"crash": repr(raised)}


def no_terminate(args: dict[str, Any]) -> None:
    if args.get("terminate"):
        raise NotImplementedError("a thread of Python is not terminated from outside")


def in_thread(run: Callable[[], Any]) -> Any:
    """Runs something in a thread of its own and waits."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(run()))
    thread.start()
    thread.join()
    return results[0]
