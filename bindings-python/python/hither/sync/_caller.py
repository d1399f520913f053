"""Calls that wait in the thread that makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import _native


class Caller:
    """Calls the native module for a client without a loop."""

    __slots__ = ("core",)

    def __init__(self) -> None:
        self.core = _native.Core(None)

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls and waits, without the interpreter's lock. An exception of a signal handler takes the call back."""
        return function(*arguments)
