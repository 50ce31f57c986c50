"""The cluster view: partial updates, deletions, who waits."""

import asyncio

import pytest

from broker.cluster.view import BrokerInfo, ClusterView, MetadataCache
from protocol.messages.update_metadata import (
    UpdateMetadataBroker,
    UpdateMetadataEndpoint,
    UpdateMetadataPartitionState,
    UpdateMetadataRequest,
    UpdateMetadataTopicState,
)
from protocol.wire import ZERO_UUID

ID_A, ID_B = b"a" * 16, b"b" * 16


def topic(
    name: str, topic_id: bytes, *leaders: int, first: int = 0, epoch: int = 0
) -> UpdateMetadataTopicState:
    states = [
        UpdateMetadataPartitionState(
            partition_index=first + i,
            leader=leader,
            leader_epoch=epoch,
            isr=[leader],
            replicas=[leader, 9],
            offline_replicas=[9],
            zk_version=epoch + 1,
        )
        for i, leader in enumerate(leaders)
    ]
    return UpdateMetadataTopicState(topic_name=name, topic_id=topic_id, partition_states=states)


def broker(broker_id: int, *listeners: str, rack: str | None = None) -> UpdateMetadataBroker:
    endpoints = [
        UpdateMetadataEndpoint(port=9000 + broker_id, host=f"h{broker_id}", listener=listener)
        for listener in listeners or ("PLAINTEXT",)
    ]
    return UpdateMetadataBroker(id=broker_id, endpoints=endpoints, rack=rack)


def update(
    *topics: UpdateMetadataTopicState, brokers: tuple[UpdateMetadataBroker, ...] = ()
) -> UpdateMetadataRequest:
    return UpdateMetadataRequest(
        controller_id=1, topic_states=list(topics), live_brokers=list(brokers or (broker(1),))
    )


@pytest.fixture
def cache() -> MetadataCache:
    return MetadataCache("cluster")


def test_the_first_view_is_empty(cache: MetadataCache) -> None:
    view = cache.view
    assert (view.version, view.cluster_id, view.controller_id) == (0, "cluster", -1)
    assert not view.brokers
    assert not view.topics
    assert view.partition("t", 0) is None
    assert view.leader("t", 0) == -1


def test_updates_are_partial_and_old_views_stay(cache: MetadataCache) -> None:
    cache.apply(update(topic("a", ID_A, 1, 2)))
    before = cache.view
    cache.apply(update(topic("a", ID_A, 2, first=1, epoch=3), topic("b", ID_B, 1)))
    after = cache.view
    assert [p.leader for p in before.topics["a"].partitions] == [1, 2]
    assert [p.leader_epoch for p in before.topics["a"].partitions] == [0, 0]
    assert [p.leader_epoch for p in after.topics["a"].partitions] == [0, 3]
    assert [p.partition_epoch for p in after.topics["a"].partitions] == [1, 4]
    assert after.names == {ID_A: "a", ID_B: "b"}
    assert before.names == {ID_A: "a"}
    assert after.version == before.version + 1
    assert after.topics["a"].partitions[1].offline_replicas == (9,)


def test_brokers_are_replaced_as_a_whole(cache: MetadataCache) -> None:
    cache.apply(update(brokers=(broker(1, "PLAINTEXT", "TLS", rack="r"), broker(2))))
    assert cache.view.brokers == {
        1: BrokerInfo(1, {"PLAINTEXT": ("h1", 9001), "TLS": ("h1", 9001)}, "r"),
        2: BrokerInfo(2, {"PLAINTEXT": ("h2", 9002)}, None),
    }
    assert cache.view.endpoint(1, "TLS") == ("h1", 9001)
    assert cache.view.endpoint(2, "TLS") is None
    assert cache.view.endpoint(3, "TLS") is None
    cache.apply(update(topic("a", ID_A, 1, 2), brokers=(broker(2),)))
    assert cache.view.brokers.keys() == {2}
    assert cache.view.leader("a", 0) == -1
    assert cache.view.leader("a", 1) == 2


def test_a_topic_in_deletion_vanishes(cache: MetadataCache) -> None:
    cache.apply(update(topic("a", ID_A, 1, 1), topic("b", ID_B, 1)))
    cache.apply(update(topic("a", ID_A, -2)))
    assert [p.index for p in cache.view.topics["a"].partitions] == [1]
    assert cache.view.partition("a", 0) is None
    assert cache.view.partition("a", 1) is not None
    cache.apply(update(topic("a", ID_A, -2, first=1)))
    assert cache.view.topics.keys() == {"b"}
    assert cache.view.names == {ID_B: "b"}
    cache.apply(update(topic("never", ID_A, -2)))
    assert cache.view.topics.keys() == {"b"}


def test_a_topic_made_again_has_only_its_new_partitions(cache: MetadataCache) -> None:
    cache.apply(update(topic("a", ID_A, 1, 1, 1)))
    cache.apply(update(topic("a", ID_B, 1)))
    assert len(cache.view.topics["a"].partitions) == 1
    assert cache.view.names == {ID_B: "a"}


def test_an_update_without_topic_id_keeps_the_known_one(cache: MetadataCache) -> None:
    cache.apply(update(topic("a", ID_A, 1, 1)))
    cache.apply(update(topic("a", ZERO_UUID, 2)))
    assert cache.view.topics["a"].topic_id == ID_A
    assert [p.leader for p in cache.view.topics["a"].partitions] == [2, 1]


def test_internal_topics_are_known_by_name(cache: MetadataCache) -> None:
    cache.apply(update(topic("__consumer_offsets", ID_A, 1), topic("__other", ID_B, 1)))
    assert cache.view.topics["__consumer_offsets"].internal
    assert not cache.view.topics["__other"].internal


def test_what_handlers_remember_goes_with_the_brokers_or_the_topic(cache: MetadataCache) -> None:
    cache.apply(update(topic("a", ID_A, 1), topic("b", ID_B, 1)))
    cache.memo["k"] = {name: (info, 0) for name, info in cache.view.topics.items()}
    cache.apply(update(topic("b", ID_B, -2)))
    assert cache.memo["k"].keys() == {"a"}
    cache.apply(update(brokers=(broker(2),)))
    assert cache.memo == {}


async def test_waiting_for_a_change(cache: MetadataCache) -> None:
    waiters = [asyncio.ensure_future(cache.wait(0)) for _ in range(3)]
    later = asyncio.ensure_future(cache.wait(1))
    await asyncio.sleep(0)
    cache.apply(update())
    assert [view.version for view in await asyncio.gather(*waiters)] == [1, 1, 1]
    await asyncio.sleep(0)
    assert not later.done()
    cache.apply(update())
    assert (await later).version == 2
    assert (await cache.wait(1)).version == 2  # already past


async def test_waiting_until_something_is_true(cache: MetadataCache) -> None:
    def there(view: ClusterView) -> bool:
        return "a" in view.topics

    assert not await cache.wait_until(there, 0)
    assert not await cache.wait_until(there, 0.001)
    waiting = asyncio.ensure_future(cache.wait_until(there, 10))
    await asyncio.sleep(0)
    cache.apply(update())
    await asyncio.sleep(0)
    assert not waiting.done()
    cache.apply(update(topic("a", ID_A, 1)))
    assert await waiting
    assert await cache.wait_until(there, 0)


def test_listeners_see_both_views(cache: MetadataCache) -> None:
    seen: list[tuple[int, int]] = []
    cache.on_change(lambda old, new: seen.append((old.version, new.version)))
    cache.apply(update())
    cache.apply(update())
    assert seen == [(0, 1), (1, 2)]
