"""The two flavours have the same names and arguments; the fixtures work in a project of somebody else's."""

from __future__ import annotations

import inspect

import pytest

import hither
import hither.sync

CLASSES = ["Client", "Kv", "Lease", "Leases", "Registered", "Service", "ServiceWatch", "Watch", "States", "Subscription"]


def public(kind):
    return {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("name", CLASSES)
def test_every_method_is_in_both_flavours_with_the_same_arguments(name):
    aio, blocking = public(getattr(hither, name)), public(getattr(hither.sync, name))
    # Made by `connect` and its like; `aclose` is what `contextlib.aclosing` calls.
    assert set(aio) - {"aclose"} == set(blocking)
    for method in set(aio) & set(blocking):
        if inspect.isfunction(aio[method]):
            ours, theirs = inspect.signature(aio[method]), inspect.signature(blocking[method])
            assert list(ours.parameters.values())[1:] == list(theirs.parameters.values())[1:] or method in (
                "grant",
                "register",
                "subscribe",
            ), method
        if inspect.isfunction(aio[method]) or isinstance(aio[method], property):
            assert inspect.getdoc(aio[method]), f"{name}.{method} is not documented"


def test_connecting_takes_the_same_settings():
    ours, theirs = inspect.signature(hither.connect), inspect.signature(hither.sync.connect)
    assert list(ours.parameters.values()) == list(theirs.parameters.values())


def test_the_fixtures_give_a_server_and_clients_of_a_namespace_of_their_own(pytester):
    pytester.makepyfile(
        """
        import asyncio

        def test_one(hither_client, hither_server):
            hither_client.kv.put("k", "one")
            assert hither_server.url.startswith("hither://127.0.0.1:")

        def test_two(hither_client):
            assert hither_client.kv.get("k") is None

        def test_with_a_loop(hither_connect, hither_client):
            async def main():
                async with hither_connect(agent="mine/1") as client:
                    await client.kv.put("k", "v")
            asyncio.run(main())
            assert hither_client.kv.get("k").text() == "v"
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)


def test_everything_public_is_documented():
    for name, thing in inspect.getmembers(hither):
        if not name.startswith("_") and inspect.isclass(thing) and thing.__module__.startswith("hither"):
            assert inspect.getdoc(thing), name
