"""What the touch points for HTTP share: which instance is asked, and when another one is."""

from __future__ import annotations

from collections.abc import Callable

from ._services import Filter, Instance, Policy, ServiceView
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
    """One that was not tried yet, if as many picks as there are instances find one."""
    picked = pick(service, policy, filter=filter)
    known = view(service)
    turns = 0 if known is None else len(known)
    while picked.id in tried and turns > 0:
        turns -= 1
        picked = pick(service, policy, filter=filter)
    return picked


def base(instance: Instance) -> str:
    """The URL of its first endpoint that speaks HTTP."""
    for url in instance.urls():
        if url.startswith(("http://", "https://")):
            return url
    detail = f"instance {instance.id} of {instance.service} has no endpoint that speaks http or https"
    raise InvalidArgumentError(detail, code="InvalidArgument", number=3001)
