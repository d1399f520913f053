"""Picking instances, which is the same with and without a loop."""

from __future__ import annotations

from collections.abc import Sequence

from . import _native
from ._services import Filter, Instance, Policy

_KEPT_MAX = 256
"""Ways to pick that are remembered. An application has a few; more is one that makes filters up as it goes."""


class Picks:
    """The ways in which a client picks. Each remembers whose turn it is and what its filter let through."""

    __slots__ = ("_pickers",)

    def __init__(self) -> None:
        self._pickers: dict[tuple[str, str, Filter | None], _native.Picker] = {}

    def pick(
        self, core: _native.Core, service: str, policy: Policy, filter: Filter | None, besides: Sequence[str]
    ) -> Instance:
        """Picks an instance."""
        if filter is None and policy == "round_robin" and not besides:
            return _native.pick(core, service)
        way = (service, policy, filter)
        picker = self._pickers.get(way)
        if picker is None:
            if len(self._pickers) >= _KEPT_MAX:
                self._pickers.clear()
            picker = self._pickers[way] = _native.Picker(policy, filter)
        return picker.pick(core, service, besides)
