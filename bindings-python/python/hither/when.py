"""The conditions of a transaction. The numbers of a key that does not exist are 0; its value equals no value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ._types import Key, KeyRange, Value
from .op import HasId

__all__ = [
    "Condition",
    "Relation",
    "absent",
    "create_revision",
    "empty",
    "exists",
    "lease",
    "mod_revision",
    "value",
    "version",
]

Relation: TypeAlias = Literal["==", "!=", "<", ">"]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of a transaction: made with the functions of this module."""

    subject: Literal["value", "version", "create_revision", "mod_revision", "exists", "absent", "empty", "lease"]
    key: Key | KeyRange
    relation: Relation = "=="
    operand: Value | int | HasId | None = None


def exists(key: Key) -> Condition:
    """The key exists."""
    return Condition("exists", key)


def absent(key: Key) -> Condition:
    """The key does not exist."""
    return Condition("absent", key)


def empty(keys: Key | KeyRange) -> Condition:
    """No key begins with this prefix, or is in this range."""
    return Condition("empty", keys if isinstance(keys, KeyRange) else KeyRange.prefix(keys))


def value(key: Key, relation: Relation, operand: Value) -> Condition:
    """How the value stands to another. False for a key that does not exist, but for `!=`."""
    return Condition("value", key, relation, operand)


def version(key: Key, relation: Relation, operand: int) -> Condition:
    """How often it was written."""
    return Condition("version", key, relation, operand)


def create_revision(key: Key, relation: Relation, operand: int) -> Condition:
    """The revision that created it."""
    return Condition("create_revision", key, relation, operand)


def mod_revision(key: Key, relation: Relation, operand: int) -> Condition:
    """The revision that last wrote it: what `Entry.mod_revision` says."""
    return Condition("mod_revision", key, relation, operand)


def lease(key: Key, held: int | HasId | None) -> Condition:
    """The lease that it hangs on; `None` is no lease. False for a key that does not exist."""
    return Condition("lease", key, operand=held)
