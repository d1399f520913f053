"""Keys: what is written is read, by both flavours."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

import hither
import hither.sync
from hither import op, when


async def test_what_is_put_is_got_as_bytes_text_and_json(hither_connect):
    async with hither_connect() as client:
        put = await client.kv.put("greeting", "grüße")
        entry = await client.kv.get("greeting")
        assert entry == hither.Entry("greeting", "grüße".encode(), put.revision, put.revision, 1, None)
        assert entry.text() == "grüße"
        await client.kv.put("config", b'{"limit": 3}')
        assert (await client.kv.get("config")).json() == {"limit": 3}
        assert await client.kv.get("nothing") is None


async def test_a_client_is_awaited_or_entered(hither_connect):
    client = await hither_connect()
    assert client.state == "connected"
    await client.close()
    assert client.state == "closed"
    with pytest.raises(hither.ClosedError):
        await client.kv.get("x")


async def test_keys_that_are_no_text_come_back_as_the_same_bytes(hither_connect):
    async with hither_connect() as client:
        key = b"\xff\xfe/\x00"
        await client.kv.put(key, b"\x00\xff")
        (entry,) = await client.kv.list("")
        assert entry.key_bytes == key
        assert (await client.kv.get(entry.key)).value == b"\x00\xff"


async def test_a_list_is_a_prefix_or_a_range_at_one_revision(hither_connect):
    async with hither_connect() as client:
        for number in range(5):
            last = await client.kv.put(f"a/{number}", str(number))
        await client.kv.put("b", "")
        listing = await client.kv.list("a/", limit=2)
        assert [entry.key for entry in listing] == ["a/0", "a/1"]
        assert (listing.count, listing.more, len(listing)) == (5, True, 2)
        assert listing.stamp.revision >= last.revision and listing.stamp.age == 0
        assert [entry.key for entry in await client.kv.list("a/", reverse=True, limit=1)] == ["a/4"]
        span = await client.kv.list(hither.KeyRange.span("a/1", "a/3"), keys_only=True)
        assert [(entry.key, entry.value) for entry in span] == [("a/1", b""), ("a/2", b"")]
        assert await client.kv.count(hither.KeyRange.all()) == 6
        deleted = await client.kv.delete(hither.KeyRange.prefix("a/"), previous=True)
        assert deleted.deleted == 5 and [entry.text() for entry in deleted.previous] == list("01234")
        assert (await client.kv.delete("a/0")).deleted == 0


async def test_a_transaction_takes_one_of_two_branches(hither_connect):
    async with hither_connect() as client:
        first = await client.kv.txn(
            when=[when.absent("owner")],
            then=[op.put("owner", "me"), op.get("owner")],
            otherwise=[op.get("owner")],
        )
        assert first.succeeded and first.results[1].text() == "me"
        second = await client.kv.txn(
            when=[when.absent("owner")], then=[op.put("owner", "you")], otherwise=[op.get("owner")]
        )
        assert not second.succeeded and second.results[0].text() == "me"
        every = [
            when.exists("owner"),
            when.value("owner", "==", "me"),
            when.version("owner", "<", 2),
            when.mod_revision("owner", "==", first.revision),
            when.create_revision("owner", ">", 0),
            when.lease("owner", None),
            when.empty("owner/"),
        ]
        third = await client.kv.txn(when=every, then=[op.delete("owner", previous=True), op.list("own")])
        assert third.succeeded and third.results[0].deleted == 1 and len(third.results[1]) == 0


async def test_reads_can_ask_for_less_than_the_newest(hither_connect):
    async with hither_connect() as client:
        put = await client.kv.put("k", "v")
        entry, stamp = await client.kv.get_stamped("k", at_least=put.revision)
        assert entry.text() == "v" and stamp.revision >= put.revision
        assert (await client.kv.get("k", max_age=5)).text() == "v"
        with pytest.raises(ValueError, match="exclude"):
            await client.kv.get("k", at_least=1, max_age=1)


async def test_a_wrong_argument_is_named(hither_connect):
    async with hither_connect() as client:
        with pytest.raises(hither.InvalidArgumentError) as caught:
            await client.kv.put("", "v")
        assert (caught.value.code, caught.value.number, caught.value.applied) == ("KeyEmpty", 3003, "no")
        with pytest.raises(TypeError, match="str or bytes"):
            await client.kv.put("k", 3)
        with pytest.raises(ValueError, match="seconds"):
            await client.kv.get("k", timeout=-1)
        with pytest.raises(TypeError, match="a condition"):
            await client.kv.txn(when=["owner"])


def test_the_blocking_flavour_says_the_same(hither_client):
    put = hither_client.kv.put("k", "v", previous=True)
    assert hither_client.kv.get("k").mod_revision == put.revision
    assert hither_client.kv.count("") == 1
    assert hither_client.kv.txn(when=[when.exists("k")], then=[op.delete("k")]).succeeded
    assert hither_client.kv.get("k") is None
    assert hither_client.state == "connected"


async def test_what_the_core_makes_is_what_the_class_makes_and_stays_as_it_is(hither_connect):
    async with hither_connect() as client:
        await client.kv.put("a", "1")
        entry = await client.kv.get("a")
    made = hither.Entry("a", b"1", entry.create_revision, entry.mod_revision, 1, None)
    assert (entry, hash(entry), repr(entry)) == (made, hash(made), repr(made))
    assert pickle.loads(pickle.dumps(entry)) == made
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.value = b"2"
