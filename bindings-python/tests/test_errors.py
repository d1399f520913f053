"""Errors: one tree, the same numbers as everywhere, and they travel."""

from __future__ import annotations

import inspect
import pickle

import pytest

import hither
from hither import _native, errors


def raised():
    """Every numbered error, as the core would have it raised."""
    return [
        errors.from_core(number, name, "why", "unknown", retryable, {"revision": 7})
        for number, name, retryable in _native.error_codes()
    ]


def test_every_number_of_the_table_has_a_class_and_keeps_its_name():
    for error in raised():
        assert isinstance(error, hither.HitherError) and type(error) is not hither.HitherError
        assert str(error) == f"{error.code} ({error.number}): why"
    kinds = {error.code: type(error) for error in raised()}
    assert len(kinds) > 30
    assert kinds["Timeout"] is hither.HitherTimeoutError
    assert kinds["NoInstances"] is hither.NoInstancesError
    assert kinds["Unavailable"] is kinds["NotLeader"] is kinds["ShuttingDown"] is hither.UnavailableError
    assert kinds["KeyTooLong"] is hither.InvalidArgumentError
    assert kinds["IdentityRevoked"] is hither.AuthenticationError
    assert kinds["Internal"] is hither.InternalError
    # A server may be newer than this package.
    assert type(errors.from_core(9999, "Other", "", "no", False, {})) is hither.HitherError


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (hither.HitherTimeoutError, TimeoutError),
        (hither.UnavailableError, ConnectionError),
        (hither.ConnectionLostError, ConnectionError),
        (hither.InvalidArgumentError, ValueError),
        (hither.PermissionDeniedError, PermissionError),
        (hither.WrongLoopError, RuntimeError),
    ],
)
def test_what_python_has_a_name_for_is_that_too(kind, builtin):
    assert issubclass(kind, builtin) and issubclass(kind, hither.HitherError)
    assert isinstance(kind("why"), builtin)


def test_every_error_pickles_with_all_that_it_says():
    kinds = [kind for _, kind in inspect.getmembers(hither, inspect.isclass) if issubclass(kind, hither.HitherError)]
    made = [kind("why", code="Code", number=1, applied="unknown", retryable=True, details={"a": 1}) for kind in kinds]
    assert len(made) >= 20
    for error in made + raised():
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error) and str(copy) == str(error) and vars(copy) == vars(error)


def test_what_is_public_pickles_and_a_client_says_why_not(hither_client):
    entry = hither.Entry("k", b"v", 1, 2, 3, None)
    event = hither.PutEvent(entry)
    update = hither.Update(2, "changes", (event,))
    for one in (entry, event, update, hither.KeyRange.prefix("a"), hither.Stamp(1, 2, 3, 0.5), hither.Instance("a", "b")):
        assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(TypeError, match="connect again"):
        pickle.dumps(hither_client)
    with pytest.raises(AttributeError):
        entry.key = "other"
