"""A controller below IBP 2.8: topics have no ids, and get them from the first controller that has
any (KIP-516)."""

from pathlib import Path

from broker.cluster import layout
from broker.cluster.local import LocalStore
from broker.controller.topics import Created, Defaults, PartitionsWish, TopicWish
from protocol.errors import ErrorCode
from protocol.wire import ZERO_UUID
from tests.kit.nodes import MetadataNode

ONE = Defaults(1, 1)


async def node_of(store: LocalStore, *, topic_ids: bool) -> MetadataNode:
    made = MetadataNode(store, topic_ids=topic_ids)
    await made.start()
    return made


async def stored_id(node: MetadataNode, name: str) -> bytes | None:
    data, _ = await node.store.get(layout.topic_path(name))
    return layout.decode_topic(name, data).topic_id


async def test_topics_are_made_grown_and_deleted_without_ids() -> None:
    node = await node_of(LocalStore(), topic_ids=False)
    wishes = [TopicWish("a", 2, 1), TopicWish("b", 1, 1)]
    assert await node.controller.create_topics(wishes, ONE) == [
        Created(ZERO_UUID, 2, 1),
        Created(ZERO_UUID, 1, 1),
    ]
    await node.controller.create_partitions([PartitionsWish("b", 3)])
    await node.controller.drained()
    data, _ = await node.store.get(layout.topic_path("b"))
    assert data == (
        b'{"partitions":{"0":[0],"1":[0],"2":[0]},"adding_replicas":{},"removing_replicas":{},'
        b'"version":3}'
    )
    view = node.metadata.view
    assert {name: topic.topic_id for name, topic in view.topics.items()} == {
        "a": ZERO_UUID,
        "b": ZERO_UUID,
    }
    assert view.names == {}
    await node.controller.delete_topics(["a"])
    await node.controller.deleted("a")
    assert list(node.metadata.view.topics) == ["b"]
    await node.stop()


async def test_a_directory_that_failed_is_told_by_name() -> None:
    node = await node_of(LocalStore(), topic_ids=False)
    node.replicas.refuse[("b", 0)] = ErrorCode.KAFKA_STORAGE_ERROR
    await node.controller.create_topics([TopicWish("a", 1, 1), TopicWish("b", 1, 1)], ONE)
    await node.controller.drained()
    state = node.controller.state
    assert state is not None and state.offline_replicas == {(0, "b", 0)}
    await node.stop()


async def test_ids_come_with_a_newer_controller_and_stay_with_an_older_one(tmp_path: Path) -> None:
    path = str(tmp_path / "store")
    node = await node_of(LocalStore(path), topic_ids=False)
    await node.controller.create_topics([TopicWish("a", 1, 1)], ONE)
    assert await stored_id(node, "a") is None
    await node.stop()
    node = await node_of(LocalStore(path), topic_ids=False)
    assert await stored_id(node, "a") is None
    await node.stop()
    node = await node_of(LocalStore(path), topic_ids=True)
    given = await stored_id(node, "a")
    assert given not in (None, ZERO_UUID)
    assert node.metadata.view.topics["a"].topic_id == given
    await node.stop()
    node = await node_of(LocalStore(path), topic_ids=False)
    await node.controller.create_partitions([PartitionsWish("a", 2)])
    await node.controller.create_topics([TopicWish("later", 1, 1)], ONE)
    assert await stored_id(node, "a") == given
    assert await stored_id(node, "later") is None
    assert node.metadata.view.names == {given: "a"}
    await node.stop()
