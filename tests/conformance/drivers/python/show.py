"""Results as JSON, and arguments as Python's."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import Any

import hither
from hither import op, when


def time(args: dict[str, Any], name: str) -> float | None:
    return None if args.get(name) is None else args[name] / 1000


def value(given: Any) -> str | bytes:
    return base64.b64decode(given["base64"]) if isinstance(given, dict) else given


def lease_id(text: str | None) -> int | None:
    return None if text is None else int(text, 16)


def keys(args: dict[str, Any]) -> str | hither.KeyRange:
    if "key" in args:
        return args["key"]
    if "prefix" in args:
        return hither.KeyRange.prefix(args["prefix"])
    if "from" in args:
        return hither.KeyRange.span(args["from"], args["to"])
    return hither.KeyRange.all()


def listed(args: dict[str, Any]) -> hither.KeyRange:
    return hither.KeyRange.one(args["key"]) if "key" in args else keys(args)


def consistency(args: dict[str, Any]) -> dict[str, Any]:
    asked = args.get("consistency")
    if isinstance(asked, dict):
        return {"at_least": asked["at_least"]} if "at_least" in asked else {"max_age": asked["stale_ms"] / 1000}
    return {}


def filter(args: dict[str, Any]) -> hither.Filter | None:
    asked = args.get("filter")
    if asked is None:
        return None
    return hither.Filter(
        tag=asked.get("tags", ()),
        metadata=asked.get("metadata"),
        version=asked.get("version", ()),
        zone=asked.get("zone", ()),
        region=asked.get("region", ()),
        status=asked.get("status", ()),
    )


def condition(asked: dict[str, Any]) -> when.Condition:
    if "empty" in asked:
        return when.empty(keys(asked["empty"]))
    if "exists" in asked:
        return (when.exists if asked["exists"] else when.absent)(asked["key"])
    if "lease" in asked:
        return when.lease(asked["key"], lease_id(asked["lease"]))
    to = value(asked["to"]) if asked["on"] == "value" else asked["to"]
    return getattr(when, asked["on"])(asked["key"], asked["is"], to)


def step(asked: dict[str, Any]) -> op.Step:
    ((verb, args),) = asked.items()
    if verb == "get":
        return op.get(args["key"])
    if verb == "put":
        lease = lease_id(args.get("lease"))
        return op.put(args["key"], value(args["value"]), lease=lease, previous=args.get("previous", False))
    if verb == "delete":
        return op.delete(keys(args), previous=args.get("previous", False))
    options = {name: args[name] for name in ("limit", "reverse", "keys_only") if name in args}
    return op.list(listed(args), **options)


def show_value(stored: bytes) -> Any:
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(stored).decode()}


def show_lease(lease: int | None) -> str | None:
    return None if lease is None else f"{lease:x}"


def entry(found: hither.Entry | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {**asdict(found), "value": show_value(found.value), "lease": show_lease(found.lease)}


def listing(found: hither.Listing) -> dict[str, Any]:
    shown = {"entries": [entry(one) for one in found], "count": found.count, "more": found.more}
    return shown if found.stamp is None else {**shown, "revision": found.stamp.revision}


def result(one: hither.TxnResult) -> dict[str, Any]:
    if isinstance(one, hither.Listing):
        return listing(one)
    if isinstance(one, hither.PutReply):
        return {"revision": one.revision, "previous": entry(one.previous)}
    if isinstance(one, hither.DeleteReply):
        previous = [entry(before) for before in one.previous]
        return {"revision": one.revision, "deleted": one.deleted, "previous": previous}
    return {"entry": entry(one)}


def event(one: hither.Event, asked_before: bool) -> dict[str, Any]:
    if isinstance(one, hither.LivenessEvent):
        return {"type": "liveness", "lease": show_lease(one.lease), "state": one.state, "revision": one.revision}
    kind = {"type": "put", **(entry(one.entry) or {})} if isinstance(one, hither.PutEvent) else {"type": "delete"}
    shown = {**kind, "key": one.key, "revision": one.revision}
    if asked_before:
        shown["previous"] = "forgotten" if one.previous_forgotten else entry(one.previous)
    return shown


def update(one: hither.Update, asked_before: bool) -> dict[str, Any]:
    events = [event(event_, asked_before) for event_ in one.events]
    return {"revision": one.revision, "kind": one.kind, "events": events, "folded": one.folded}


def instance(one: hither.Instance) -> dict[str, Any]:
    shown = asdict(one)
    unknown = shown.pop("unknown")
    for endpoint in shown["endpoints"]:
        del endpoint["url"]
    return {**shown, **unknown, "url": one.url(), "urls": one.urls()}


def view(one: hither.ServiceView) -> dict[str, Any]:
    return {
        "service": one.service,
        "revision": one.revision,
        "state": one.state,
        "age_ms": int(one.age * 1000),
        "source": one.source,
        "instances": [instance(member) for member in one],
        "invalid": [asdict(record) for record in one.invalid],
    }


def service_update(one: hither.ServiceUpdate) -> dict[str, Any]:
    lists = {"added": one.added, "changed": one.changed, "removed": one.removed}
    return {"view": view(one.view), **{name: [instance(member) for member in some] for name, some in lists.items()}}


def error(raised: hither.HitherError) -> dict[str, Any]:
    shown = {
        "code": raised.code,
        "number": raised.number,
        "retryable": raised.retryable,
        "applied": raised.applied,
        "detail": raised.detail,
        "revision": raised.details.get("revision"),
    }
    if isinstance(raised, hither.NoInstancesError):
        age_ms = None if raised.age is None else int(raised.age * 1000)
        shown["extra"] = {"known": raised.known, "suspect": raised.suspect, "age_ms": age_ms}
    return shown
