"""Every error, in one tree.

`code` is the name in the table of docs/errors.md and the same in every language, as `number` is; new ones are added, none
changes its meaning. Catch classes, or look at `code` where a class covers several.
"""

from __future__ import annotations

from typing import Any

from ._types import Applied

__all__ = [
    "AlreadyExistsError",
    "AuthenticationError",
    "ClosedError",
    "ConflictError",
    "ConnectionLostError",
    "ForkedError",
    "FutureRevisionError",
    "HitherError",
    "HitherTimeoutError",
    "InternalError",
    "InvalidArgumentError",
    "LeaseNotFoundError",
    "NoInstancesError",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "ProtocolError",
    "SessionLostError",
    "TooStaleError",
    "UnavailableError",
    "UnsupportedError",
    "WrongLoopError",
]


class HitherError(Exception):
    """The base of all."""

    code: str
    """The name of the error, the same in every language: `Unavailable`."""
    number: int
    """Its number: 6002. 0 for what only this package can say."""
    detail: str
    """What exactly is wrong and what to do."""
    applied: Applied
    """Whether the call changed anything: `no`, or `unknown`. After `unknown`, read before writing again."""
    retryable: bool
    """Whether the same call may succeed later."""
    details: dict[str, Any]
    """What else is known, such as `revision`, or `leader` and `leader_address`."""

    def __init__(
        self,
        detail: str = "",
        *,
        code: str = "Internal",
        number: int = 0,
        applied: Applied = "no",
        retryable: bool = False,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{code} ({number}): {detail}" if number else detail)
        self.detail = detail
        self.code = code
        self.number = number
        self.applied = applied
        self.retryable = retryable
        self.details = details if details is not None else {}

    def __reduce__(self) -> tuple[Any, ...]:
        state = (type(self), self.detail, self.code, self.number, self.applied, self.retryable, self.details)
        return _restored, state


def _restored(
    kind: type[HitherError],
    detail: str,
    code: str,
    number: int,
    applied: Applied,
    retryable: bool,
    details: dict[str, Any],
) -> HitherError:
    return kind(detail, code=code, number=number, applied=applied, retryable=retryable, details=details)


class ProtocolError(HitherError):
    """The two sides do not understand each other: update the older one, or check the port."""


class AuthenticationError(HitherError):
    """No identity that this cluster takes."""


class PermissionDeniedError(HitherError, PermissionError):
    """The identity may not do this."""


class InvalidArgumentError(HitherError, ValueError):
    """An argument is wrong."""


class NotFoundError(HitherError):
    """What was named does not exist."""


class LeaseNotFoundError(NotFoundError):
    """The lease does not exist, or no longer does."""


class NoInstancesError(NotFoundError):
    """No instance of the service can be picked."""

    @property
    def known(self) -> int:
        """Instances that are registered, the filter aside."""
        return int(self.details.get("known", 0))

    @property
    def suspect(self) -> int:
        """Of these, those whose holder is silent."""
        return int(self.details.get("suspect", 0))

    @property
    def age(self) -> float | None:
        """Seconds since the view was known to be current; none if there is no view yet."""
        age = self.details.get("age")
        return None if age is None else float(age)


class ConflictError(HitherError):
    """A condition of the request does not hold."""


class AlreadyExistsError(ConflictError):
    """What was to be created exists."""


class FutureRevisionError(HitherError):
    """The revision lies in the future, or in another history."""


class SessionLostError(HitherError):
    """The session is over, and the leases bound to it; whether its last requests took effect is unknown."""


class OverloadedError(HitherError):
    """There is no room: of memory, disk, watches or requests."""


class UnavailableError(HitherError, ConnectionError):
    """No server answered, or no majority of them."""


class ConnectionLostError(UnavailableError):
    """The connection was lost before the answer came."""


class TooStaleError(UnavailableError):
    """No server has a state as fresh as the read asks for."""


class HitherTimeoutError(HitherError, TimeoutError):
    """The deadline passed before the answer came."""


class ClosedError(HitherError):
    """The client, the watch or the program was closed, or the caller took the request back."""


class ForkedError(ClosedError):
    """A client of the parent process is no client in a forked child: connect again there."""


class WrongLoopError(HitherError, RuntimeError):
    """A client belongs to the event loop that connected it."""


class InternalError(HitherError):
    """The server or this package erred."""


class UnsupportedError(HitherError):
    """The server does not do this."""


_BY_NUMBER: dict[int, type[HitherError]] = {
    2002: PermissionDeniedError,
    4001: NotFoundError,
    4002: AlreadyExistsError,
    4003: ConflictError,
    4004: LeaseNotFoundError,
    4008: FutureRevisionError,
    4010: SessionLostError,
    6003: HitherTimeoutError,
    6004: ClosedError,
    6007: TooStaleError,
    6009: ClosedError,
    6010: ConnectionLostError,
    7003: UnavailableError,
    7005: UnsupportedError,
}
_BY_NAME: dict[str, type[HitherError]] = {"NoInstances": NoInstancesError}
_BY_THOUSAND: dict[int, type[HitherError]] = {
    1: ProtocolError,
    2: AuthenticationError,
    3: InvalidArgumentError,
    4: ConflictError,
    5: OverloadedError,
    6: UnavailableError,
    7: InternalError,
}


def from_core(
    number: int, code: str, detail: str, applied: Applied, retryable: bool, details: dict[str, Any]
) -> HitherError:
    """The exception of a numbered error. One that a newer server knows is of its thousand's class."""
    kind = _BY_NUMBER.get(number) or _BY_NAME.get(code) or _BY_THOUSAND.get(number // 1000, HitherError)
    return kind(detail, code=code, number=number, applied=applied, retryable=retryable, details=details)


def from_binding(what: str, said: str) -> HitherError:
    """The exception of what the native module itself finds."""
    if what == "Forked":
        detail = "this belongs to the process that was forked: connect again in the child"
        return ForkedError(detail, code="Forked")
    if what == "WrongLoop":
        detail = "this client belongs to another event loop: connect one in this loop"
        return WrongLoopError(detail, code="WrongLoop")
    if what == "Exiting":
        return ClosedError("the program is ending", code="Closed", number=6009)
    detail = f"a call of the client panicked: {said}; this is a mistake in the package, please report it"
    return InternalError(detail, code="Internal", number=7001, applied="unknown")
