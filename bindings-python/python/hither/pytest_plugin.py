"""Fixtures for pytest: a real server for the session, and clients of a namespace that no other test sees."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hither
import hither.sync
from hither.testing import Server


@pytest.fixture(scope="session")
def hither_server() -> Iterator[Server]:
    """A running server, for all tests of the session."""
    with Server() as server:
        yield server


@pytest.fixture
def hither_namespace() -> str:
    """A namespace of this test's own."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def hither_connect(hither_server: Server, hither_namespace: str) -> Callable[..., hither.Opening[hither.Client]]:
    """`hither.connect` to the server, in the test's namespace: `async with hither_connect() as client:`."""
    def connect(**settings: Any) -> hither.Opening[hither.Client]:
        return hither.connect(**{**hither_server.settings, "namespace": hither_namespace, **settings})

    return connect


@pytest.fixture
def hither_client(hither_server: Server, hither_namespace: str) -> Iterator[hither.sync.Client]:
    """A blocking client of the server, in the test's namespace."""
    with hither.sync.connect(**hither_server.settings, namespace=hither_namespace) as client:
        yield client
