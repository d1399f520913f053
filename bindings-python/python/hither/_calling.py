"""What the touch points for HTTP share: which instance is asked, and when another one is."""

from __future__ import annotations

from collections.abc import Callable

from ._types import Filter, Instance, Policy, ServiceView
from .errors import InvalidArgumentError

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be sent twice (RFC 9110, section 9.2.2)."""
TRANSIENT = frozenset({502, 503, 504})
"""Answers that say: not here, not now."""
ATTEMPTS = 3
"""Instances that one request is tried at."""


def choose(
    pick: Callable[..., Instance],
    view: Callable[[str], ServiceView | None],
    service: str,
    policy: Policy,
    filter: Filter | None,
    tried: set[str],
) -> Instance:
    """One that was not tried yet, as long as there is one."""
    known = view(service)
    for _ in range(1 if known is None else len(known) + 1):
        picked = pick(service, policy, filter=filter)
        if picked.id not in tried:
            return picked
    # By chance always the same ones.
    for other in known or ():
        if other.id not in tried and other.status in ("passing", "warning") and other.weight > 0 and filter is None:
            return other
    return picked


def base(instance: Instance) -> str:
    """The URL of its first endpoint that speaks HTTP."""
    for url in instance.urls():
        if url.startswith(("http://", "https://")):
            return url
    detail = f"instance {instance.id} of {instance.service} has no endpoint that speaks http or https"
    raise InvalidArgumentError(detail, code="InvalidArgument", number=3001)
