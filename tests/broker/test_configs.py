"""ConfigStore: overrides in the store, change notices, several brokers."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker.cluster import layout
from broker.cluster.configs import CHANGE_RETENTION_MS, ConfigStore
from broker.cluster.local import LocalStore
from broker.cluster.store import SetData, StoreError
from tests.kit.nodes import FakeClock, MetadataNode


class Pair:
    """Two brokers' config stores on one tree."""

    async def start(self) -> "Pair":
        self.clock = FakeClock()
        first = LocalStore()
        self.nodes = [MetadataNode(first), MetadataNode(first.session(), 1)]
        for node in self.nodes:
            await node.store.start()
            await node.membership.prepare()
        self.a, self.b = (ConfigStore(node.store, self.clock) for node in self.nodes)
        await self.a.start()
        await self.b.start()
        return self

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def close(self) -> None:
        await self.a.close()
        await self.b.close()
        for node in self.nodes:
            await node.store.close()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = await Pair().start()
    yield made
    await made.close()


async def test_a_change_is_read_back_at_once_and_reaches_others(pair: Pair) -> None:
    heard: list[tuple[str, str]] = []
    pair.b.subscribe(lambda kind, name: heard.append((kind, name)))
    await pair.a.put("topics", "t", {"retention.ms": "1"})
    assert pair.a.topic("t") == {"retention.ms": "1"}
    await pair.settle()
    assert pair.b.topic("t") == {"retention.ms": "1"}
    assert heard == [("topics", "t")]
    tree = pair.nodes[0].store
    assert (await tree.get("/config/topics/t"))[0] == (
        b'{"version":1,"config":{"retention.ms":"1"}}'
    )
    assert (await tree.get("/config/changes/config_change_0000000000"))[0] == (
        b'{"version":2,"entity_path":"topics/t"}'
    )


async def test_the_last_key_removed_leaves_an_empty_config(pair: Pair) -> None:
    await pair.a.put("brokers", "<default>", {"log.retention.ms": "1"})
    await pair.a.put("brokers", "<default>", {})
    assert (await pair.nodes[0].store.get("/config/brokers/<default>"))[0] == (
        b'{"version":1,"config":{}}'
    )
    assert pair.a.broker(None) == {}
    await pair.settle()
    assert pair.b.broker(None) == {}


async def test_names_by_kind(pair: Pair) -> None:
    await pair.a.put("client-metrics", "m2", {"interval.ms": "1"})
    await pair.a.put("client-metrics", "m1", {"interval.ms": "1"})
    await pair.a.put("users", "u/clients/c", {"producer_byte_rate": "1"})
    await pair.settle()
    assert pair.b.names("client-metrics") == ["m1", "m2"]
    assert pair.b.overrides("users", "u/clients/c") == {"producer_byte_rate": "1"}
    assert pair.b.names("nothing") == []
    # Without a setting a client-metrics entity is no more.
    await pair.b.put("client-metrics", "m1", {})
    await pair.settle()
    assert pair.a.names("client-metrics") == ["m2"]
    assert await pair.nodes[0].store.children("/config/client-metrics") == ["m2"]
    fresh = ConfigStore(pair.nodes[0].store, pair.clock)
    await fresh.start()
    assert fresh.names("client-metrics") == ["m2"]
    assert fresh.overrides("users", "u/clients/c") == {"producer_byte_rate": "1"}
    await fresh.close()


async def test_edits_at_the_same_time_are_both_kept(pair: Pair) -> None:
    """The second writer finds another version and applies its edit to what is there now."""
    await pair.a.put("topics", "t", {"a": "1"})
    store = pair.nodes[0].store
    calls = 0

    def edit(present: dict[str, str]) -> dict[str, str]:
        nonlocal calls
        calls += 1
        if calls == 1:  # another broker is faster
            other = layout.encode_config({**present, "b": "2"})
            pair.nodes[1].store._tree.transact([SetData("/config/topics/t", other)], 1)
        return {**present, "c": "3"}

    assert await pair.a.edit("topics", "t", edit) == {"a": "1", "b": "2", "c": "3"}
    assert calls == 2
    data, _ = await store.get("/config/topics/t")
    assert layout.decode_config("", data) == {"a": "1", "b": "2", "c": "3"}


async def test_what_the_edit_raises_changes_nothing(pair: Pair) -> None:
    def refuse(_: dict[str, str]) -> dict[str, str]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await pair.a.edit("topics", "t", refuse)
    assert await pair.nodes[0].store.children("/config/changes") == []


async def test_topics_are_read_on_first_need_and_forgotten_when_gone(pair: Pair) -> None:
    store = pair.nodes[0].store
    await store.create("/config/topics/new", b'{"version":1,"config":{"x":"1"}}')
    assert pair.a.topic("new") == {}
    await pair.a.ensure_topics(["new", "none"])
    assert pair.a.topic("new") == {"x": "1"}
    await store.set("/config/topics/new", b'{"version":1,"config":{"x":"2"}}')
    await pair.a.ensure_topics(["new"])
    assert pair.a.topic("new") == {"x": "1"}  # known: only a notice changes it
    pair.a.forget_topic("new")
    assert pair.a.topic("new") == {}
    await pair.a.ensure_topics(["new"])
    assert pair.a.topics() == {"new": {"x": "2"}}


async def test_old_change_notices_are_purged(pair: Pair) -> None:
    await pair.a.put("topics", "t", {"a": "1"})
    await pair.settle()
    pair.clock.ms += CHANGE_RETENTION_MS + 1
    await pair.a.put("topics", "t", {"a": "2"})
    await pair.settle()
    left = await pair.nodes[0].store.children("/config/changes")
    assert left == ["config_change_0000000001"]
    assert pair.b.topic("t") == {"a": "2"}


async def test_contents_that_cannot_be_read_are_passed_over(pair: Pair) -> None:
    await pair.a.put("topics", "t", {"a": "1"})
    await pair.settle()
    store = pair.nodes[0].store
    await store.set("/config/topics/t", b"{]")
    await store.create("/config/changes/config_change_", b"garbage", sequential=True)
    await store.create(
        "/config/changes/config_change_", layout.encode_config_change("topics/t"), sequential=True
    )
    await pair.settle()
    assert pair.b.topic("t") == {"a": "1"}
    await pair.a.put("topics", "u", {"b": "1"})
    await pair.settle()
    assert pair.b.topic("u") == {"b": "1"}


async def test_after_an_expiry_everything_is_read_again(pair: Pair) -> None:
    await pair.a.put("topics", "gone", {"a": "1"})
    await pair.settle()
    store = pair.nodes[1].store
    # Changes without notices, as if the notices had come and gone while the session was away.
    await pair.nodes[0].store.create("/config/topics/t", b'{"version":1,"config":{"a":"1"}}')
    await pair.nodes[0].store.delete("/config/topics/gone")
    await store.expire()
    await pair.settle()
    assert pair.b.topic("t") == {"a": "1"}
    assert pair.b.names("topics") == ["t"]
    await pair.a.put("topics", "t", {"a": "2"})
    await pair.settle()
    assert pair.b.topic("t") == {"a": "2"}


async def test_a_store_that_is_away_is_told_to_the_writer(pair: Pair) -> None:
    await pair.nodes[0].store.close()
    with pytest.raises(StoreError):
        await pair.a.put("topics", "t", {})


async def test_what_others_have_written_is_there_to_be_read_before_it_is_told(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.b.put("topics", "t", {"retention.ms": "1"})
    # A change of which no notice has come yet.
    tree = pair.nodes[0].store
    await tree.set("/config/topics/t", layout.encode_config({"retention.ms": "2"}))
    assert pair.b.topic("t") == {"retention.ms": "1"}
    assert await pair.b.current("topics", ["t", "none"]) == {
        "t": {"retention.ms": "2"},
        "none": {},
    }
    assert pair.b.topic("t") == {"retention.ms": "1"}, "the notice brings it"

    async def unreachable(_: object) -> None:
        raise StoreError("/config/topics/t", "unreachable")

    monkeypatch.setattr(pair.nodes[1].store, "get_many", unreachable)
    assert await pair.b.current("topics", ["t"]) == {"t": {"retention.ms": "1"}}
