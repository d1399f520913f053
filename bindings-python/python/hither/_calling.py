"""What the touch points for HTTP share: which instance is asked, and when another one is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ._services import Filter, Instance, Policy
from .errors import InvalidArgumentError

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be sent twice (RFC 9110, section 9.2.2)."""
TRANSIENT = frozenset({502, 503, 504})
"""Answers that say: not here, not now."""
ATTEMPTS = 3
"""Times that one request is sent."""
PAUSE = 0.05
"""Seconds before it is sent to an instance for the second time: all others have failed too."""


class Attempts:
    """One request to a service, and the instances that it was sent to."""

    def __init__(
        self,
        pick: Callable[..., Instance],
        service: str,
        policy: Policy,
        filter: Filter | None,
        attempts: int,
        method: str,
    ) -> None:
        self._pick = partial(pick, service, policy, filter=filter)
        self._left = attempts
        self._repeatable = method in IDEMPOTENT
        self._tried: list[str] = []
        self._unreached: list[str] = []

    def choose(self) -> tuple[Instance, float]:
        """Where to send it now, and how many seconds to wait before: to one that was not tried yet, or else to one that
        answered."""
        instance, pause = self._pick(besides=self._tried), 0.0
        if instance.id in self._tried:
            instance, pause = self._pick(besides=self._unreached), PAUSE
        self._tried.append(instance.id)
        self._left -= 1
        return instance, pause

    def again_after_answer(self, status: int) -> bool:
        """Whether it is to be sent once more."""
        return self._left > 0 and self._repeatable and status in TRANSIENT

    def again_after_error(self, *, unsent: bool) -> bool:
        """Whether it is to be sent once more."""
        self._unreached.append(self._tried[-1])
        return self._left > 0 and (unsent or self._repeatable)


def base(instance: Instance) -> str:
    """The URL of its first endpoint that speaks HTTP."""
    for url in instance.urls():
        if url.startswith(("http://", "https://")):
            return url
    detail = f"instance {instance.id} of {instance.service} has no endpoint that speaks http or https"
    raise InvalidArgumentError(detail, code="InvalidArgument", number=3001)
