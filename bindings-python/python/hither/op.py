"""The steps of a transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from ._types import Key, KeyRange, Value

__all__ = ["HasId", "Step", "delete", "get", "list", "put"]


class HasId(Protocol):
    """A lease, or what else has the id of one."""

    @property
    def id(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a transaction: made with the functions of this module."""

    verb: Literal["get", "list", "put", "delete"]
    keys: Key | KeyRange
    value: Value = b""
    lease: int | HasId | None = None
    previous: bool = False
    limit: int = 0
    reverse: bool = False
    keys_only: bool = False


def get(key: Key) -> Step:
    """Reads a key."""
    return Step("get", key)


def put(key: Key, value: Value, *, lease: int | HasId | None = None, previous: bool = False) -> Step:
    """Writes a key."""
    return Step("put", key, value=value, lease=lease, previous=previous)


def delete(keys: Key | KeyRange, *, previous: bool = False) -> Step:
    """Deletes a key or a range."""
    return Step("delete", keys, previous=previous)


def list(keys: Key | KeyRange, *, limit: int = 0, reverse: bool = False, keys_only: bool = False) -> Step:
    """Reads what begins with a prefix, or a range."""
    range = keys if isinstance(keys, KeyRange) else KeyRange.prefix(keys)
    return Step("list", range, limit=limit, reverse=reverse, keys_only=keys_only)
