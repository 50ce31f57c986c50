"""The controller of one node on LocalStore: topics, a tree changed by others."""

import gzip
import json
from pathlib import Path

import pytest

from broker.cluster import layout
from broker.cluster.local import LocalStore
from broker.cluster.store import Create
from broker.controller.topics import (
    Created,
    PartitionsWish,
    Refusal,
    Refused,
    TopicWish,
)
from protocol.errors import ErrorCode
from protocol.messages.leader_and_isr import LeaderAndIsrRequest
from protocol.messages.stop_replica import StopReplicaRequest
from protocol.messages.update_metadata import UpdateMetadataRequest
from tests.broker.controller_kit import create, made, settled, state, tree, until
from tests.kit.nodes import MetadataNode

CAPTURED = json.loads(
    gzip.decompress((Path(__file__).parent / "captured/znodes-3.9.2.json.gz").read_bytes())
)


# --- one node -------------------------------------------------------------------------------------


async def test_a_first_start_writes_what_apache_kafka_writes(node: MetadataNode) -> None:
    expected = {
        w["path"] if w["op"] == "create" else w["ops"][0]["path"]
        for w in CAPTURED["writes"]["01-first-broker"]
        if w["op"] in ("create", "multi") and w.get("ops", [{}])[0].get("op") != "check"
    }
    found = await tree(node.store)
    assert found.keys() == expected
    assert [p for p in found if found[p] is None and p not in ("/admin", "/brokers")] == [
        p for p in found if p in layout.PERSISTENT_PATHS or p in ("/cluster", "/config")
    ]
    assert found["/controller_epoch"] == b"1"
    assert layout.decode_controller(found["/controller"]) == 0
    assert node.controller.active
    assert node.controller.epoch == 1
    view = node.metadata.view
    assert view.controller_id == 0
    assert view.brokers[0].endpoints == {"PLAINTEXT": ("127.0.0.1", 9092)}
    assert len(layout.decode_uuid(view.cluster_id)) == 16


async def test_a_created_topic_has_the_nodes_of_apache_kafka(node: MetadataNode) -> None:
    before = await tree(node.store)
    wish = TopicWish("one", 1, 1)
    (answer,) = await create(node, wish)
    assert isinstance(answer, Created)
    after = await tree(node.store)
    added = {path: data for path, data in after.items() if path not in before}
    topic = layout.decode_topic("one", added["/brokers/topics/one"])
    assert topic.topic_id == answer.topic_id
    assert added == {
        "/config/topics/one": b'{"version":1,"config":{}}',
        "/brokers/topics/one": layout.encode_topic(topic),
        "/brokers/topics/one/partitions": None,
        "/brokers/topics/one/partitions/0": None,
        "/brokers/topics/one/partitions/0/state": (
            b'{"controller_epoch":1,"leader":0,"version":1,"leader_epoch":0,"isr":[0]}'
        ),
    }
    assert {path for path, data in CAPTURED["nodes"] if path.startswith("/brokers/topics/one")} <= {
        *added
    }


async def test_the_broker_hears_leadership_then_metadata(node: MetadataNode) -> None:
    node.received.clear()
    (answer,) = await create(node, TopicWish("t", 2, 1, configs={"retention.ms": "7"}))
    told, shown = node.received
    assert isinstance(told, LeaderAndIsrRequest)
    assert isinstance(shown, UpdateMetadataRequest)
    assert told.controller_epoch == shown.controller_epoch == 1
    assert told.broker_epoch == shown.broker_epoch == node.membership.epoch
    (topic,) = told.topic_states
    assert (topic.topic_name, topic.topic_id) == ("t", answer.topic_id)
    assert [
        (
            p.partition_index,
            p.leader,
            p.leader_epoch,
            p.isr,
            p.replicas,
            p.is_new,
            p.partition_epoch,
        )
        for p in topic.partition_states
    ] == [(0, 0, 0, [0], [0], True, 0), (1, 0, 0, [0], [0], True, 0)]
    assert [(leader.broker_id, leader.port) for leader in told.live_leaders] == [(0, 9092)]
    # The settings were read before the replica manager heard of the topic.
    assert node.configs.topic("t") == {"retention.ms": "7"}
    info = node.metadata.view.topics["t"]
    assert [(p.leader, p.isr, p.partition_epoch) for p in info.partitions] == [(0, (0,), 0)] * 2
    assert node.metadata.view.names[answer.topic_id] == "t"


async def test_a_restart_keeps_everything_and_leader_epoch_0(tmp_path: Path) -> None:
    path = str(tmp_path / "store")
    first = MetadataNode(LocalStore(path))
    await first.start()
    await create(first, TopicWish("a", 3, 1, configs={"cleanup.policy": "compact"}))
    await first.configs.put("brokers", "0", {"log.retention.ms": "5"})
    await first.configs.put("client-metrics", "m", {"interval.ms": "100"})
    view, epoch = first.metadata.view, first.membership.epoch
    await first.stop()

    second = MetadataNode(LocalStore(path))
    await second.start()
    assert second.controller.epoch == 2
    assert second.membership.epoch > epoch
    assert second.metadata.view.cluster_id == view.cluster_id
    assert second.metadata.view.names == view.names
    assert second.metadata.view.topics["a"].partitions == view.topics["a"].partitions
    assert second.configs.topic("a") == {"cleanup.policy": "compact"}
    assert second.configs.broker(0) == {"log.retention.ms": "5"}
    assert second.configs.names("client-metrics") == ["m"]
    assert second.replicas.leader_epochs == {("a", i): 0 for i in range(3)}
    assert second.replicas.new == set()
    # LeaderAndIsr comes after an UpdateMetadata with the live brokers.
    assert isinstance(second.received[0], UpdateMetadataRequest)
    assert second.received[0].topic_states == []
    assert len(second.received[0].live_brokers) == 1
    await second.stop()


async def test_refusals_do_not_spoil_their_neighbours(node: MetadataNode) -> None:
    answers = await create(
        node,
        TopicWish("good", 1, 1),
        TopicWish("bad name", 1, 1),
        TopicWish("also.good", 1, 1),
        TopicWish("also_good", 1, 1),
        TopicWish("many", 1, 2),
    )
    codes = [a.code if isinstance(a, Refusal) else 0 for a in answers]
    assert codes == [
        0,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        0,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        ErrorCode.INVALID_REPLICATION_FACTOR,
    ]
    assert node.metadata.view.topics.keys() == {"good", "also.good"}
    (again,) = await create(node, TopicWish("good", 1, 1))
    assert again.code == ErrorCode.TOPIC_ALREADY_EXISTS


async def test_validation_changes_nothing(node: MetadataNode) -> None:
    before = await tree(node.store)
    (answer,) = await create(node, TopicWish("t", 4, 1), validate_only=True)
    assert answer == Created(bytes(16), 4, 1)
    assert await tree(node.store) == before


async def test_partitions_are_added(node: MetadataNode) -> None:
    await made(node, "t", (0,))
    node.received.clear()
    answers = await node.controller.create_partitions(
        [PartitionsWish("t", 3), PartitionsWish("nope", 3)]
    )
    assert answers[0] is None
    assert isinstance(answers[1], Refusal)
    await settled(node)
    assert [p.index for p in node.metadata.view.topics["t"].partitions] == [0, 1, 2]
    told = [r for r in node.received if isinstance(r, LeaderAndIsrRequest)]
    assert [p.partition_index for p in told[0].topic_states[0].partition_states] == [1, 2]
    assert len(told) == 1  # the watch's echo of our own write does nothing
    data, stat = await node.store.get("/brokers/topics/t")
    assert sorted(layout.decode_topic("t", data).assignments) == [0, 1, 2]
    assert stat.version == 1


async def test_a_deleted_topic_is_gone_everywhere_and_its_name_is_free(node: MetadataNode) -> None:
    before = await tree(node.store)
    await made(node, "t", (0,), (0,))
    old = node.metadata.view.topics["t"].topic_id
    await node.configs.put("topics", "t", {"retention.ms": "9"})
    node.received.clear()
    assert await node.controller.delete_topics(["t"]) == [None]
    await node.controller.deleted("t")
    assert "t" not in node.metadata.view.topics
    assert old not in node.metadata.view.names
    assert sorted(node.replicas.stopped) == [("t", 0), ("t", 1)]
    after = await tree(node.store)
    assert {p for p in after if "config_change" not in p} == before.keys()
    metadata, stop = node.received
    assert isinstance(metadata, UpdateMetadataRequest)
    assert {p.leader for t in metadata.topic_states for p in t.partition_states} == {-2}
    assert isinstance(stop, StopReplicaRequest)
    assert {
        (p.leader_epoch, p.delete_partition) for t in stop.topic_states for p in t.partition_states
    } == {(-2, True)}
    await made(node, "t", (0,))
    assert node.metadata.view.topics["t"].topic_id != old
    assert node.configs.topic("t") == {}


async def test_deleting_what_is_not_there(node: MetadataNode) -> None:
    (answer,) = await node.controller.delete_topics(["nope"])
    assert answer is not None
    assert answer.code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert await node.store.children(layout.DELETE_TOPICS) == []


async def test_a_deletion_the_broker_refuses_stays_marked_and_goes_on_after_a_restart(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "store")
    node = MetadataNode(LocalStore(path))
    await node.start()
    await made(node, "t", (0,), (0,))
    node.replicas.refuse[("t", 1)] = ErrorCode.KAFKA_STORAGE_ERROR
    assert await node.controller.delete_topics(["t"]) == [None]
    await node.controller.deleted("t")  # let go: it stalls
    assert "t" not in node.metadata.view.topics
    assert await node.store.children(layout.DELETE_TOPICS) == ["t"]
    (answer,) = await create(node, TopicWish("t", 1, 1))
    assert answer.code == ErrorCode.TOPIC_ALREADY_EXISTS
    (growth,) = await node.controller.create_partitions([PartitionsWish("t", 5)])
    assert growth is not None
    assert growth.code == ErrorCode.INVALID_TOPIC_EXCEPTION
    await node.stop()

    again = MetadataNode(LocalStore(path))
    await again.start()
    await again.controller.deleted("t")
    assert await again.store.children(layout.DELETE_TOPICS) == []
    assert await again.store.children(layout.TOPICS) == []
    assert "t" not in again.metadata.view.topics
    await again.stop()


async def test_a_failed_log_directory_takes_its_partitions_offline(node: MetadataNode) -> None:
    await made(node, "t", (0,), (0,))
    node.replicas.refuse[("t", 1)] = ErrorCode.KAFKA_STORAGE_ERROR
    await node.membership.announce_dir_failure()
    await until(node, lambda view: view.topics["t"].partitions[1].leader == -1)
    assert node.metadata.view.topics["t"].partitions[0].leader == 0
    assert node.metadata.view.topics["t"].partitions[1].offline_replicas == (0,)
    leadership, version = await state(node, "t", 1)
    assert (leadership.leader, leadership.leader_epoch, leadership.isr) == (-1, 1, (0,))
    assert version == 1
    assert await node.store.children(layout.LOG_DIR_EVENTS) == []


async def test_producer_ids_come_in_blocks(node: MetadataNode) -> None:
    epoch = node.membership.epoch
    assert await node.controller.allocate_producer_ids(0, epoch) == (0, 1000)
    assert await node.controller.allocate_producer_ids(0, epoch) == (1000, 1000)
    data, _ = await node.store.get(layout.PRODUCER_ID_BLOCK)
    assert layout.decode_producer_block(data) == (0, 1000, 1999)
    with pytest.raises(Refused) as caught:
        await node.controller.allocate_producer_ids(0, epoch - 1)
    assert caught.value.refusal.code == ErrorCode.STALE_BROKER_EPOCH
    with pytest.raises(Refused) as caught:
        await node.controller.allocate_producer_ids(7, epoch)
    assert caught.value.refusal.code == ErrorCode.BROKER_ID_NOT_REGISTERED


async def test_a_thousand_topics(tmp_path: Path) -> None:
    path = str(tmp_path / "store")
    node = MetadataNode(LocalStore(path))
    await node.start()
    answers = await create(node, *(TopicWish(f"topic.{i}", 10, 1) for i in range(1000)))
    assert all(isinstance(answer, Created) for answer in answers)
    assert sum(len(t.partitions) for t in node.metadata.view.topics.values()) == 10_000
    await node.stop()
    again = MetadataNode(LocalStore(path))
    await again.start()
    assert len(again.replicas.leaders) == 10_000
    assert len(again.metadata.view.topics) == 1000
    await again.stop()


# --- the tree changed by others -------------------------------------------------------------------


async def test_a_topic_written_by_another_broker_is_taken_in(node: MetadataNode) -> None:
    """As auto-creation on a broker that is not the controller does it; here without a topic id."""
    await node.store.create("/config/topics/x", b'{"version":1,"config":{"retention.ms":"3"}}')
    await node.store.create("/brokers/topics/x", b'{"version":1,"partitions":{"0":[0],"1":[0]}}')
    await until(node, lambda view: "x" in view.topics)
    info = node.metadata.view.topics["x"]
    assert [p.leader for p in info.partitions] == [0, 0]
    data, _ = await node.store.get("/brokers/topics/x")
    assert layout.decode_topic("x", data).topic_id == info.topic_id != bytes(16)
    assert node.configs.topic("x") == {"retention.ms": "3"}


async def test_partitions_and_deletions_written_by_others(node: MetadataNode) -> None:
    await made(node, "x", (0,))
    data, stat = await node.store.get("/brokers/topics/x")
    topic = layout.decode_topic("x", data)
    more = {**topic.assignments, 1: layout.Assignment((0,))}
    await node.store.set(
        "/brokers/topics/x", layout.encode_topic(topic._replace(assignments=more)), stat.version
    )
    await until(node, lambda view: len(view.topics["x"].partitions) == 2)
    await node.store.multi(
        [Create("/admin/delete_topics/x"), Create("/admin/delete_topics/unknown")]
    )
    await until(node, lambda view: "x" not in view.topics)
    await settled(node)
    assert await node.store.children(layout.DELETE_TOPICS) == []
    assert await node.store.children(layout.TOPICS) == []


async def test_contents_that_cannot_be_read_harm_nobody(node: MetadataNode) -> None:
    await node.store.create("/brokers/topics/broken", b"{{{")
    await node.store.create("/brokers/ids/9", b"nonsense")
    await settled(node)
    await made(node, "fine", (0,))
    assert node.metadata.view.topics.keys() == {"fine"}
    assert node.metadata.view.brokers.keys() == {0}


async def test_a_state_node_that_is_there_already_is_adopted(node: MetadataNode) -> None:
    """What a controller leaves that died in the middle of a creation."""
    leadership = layout.Leadership(0, 4, (0,), 1)
    await node.store.multi(
        [
            Create("/brokers/topics/x", b'{"version":1,"partitions":{"0":[0],"1":[0]}}'),
            Create("/brokers/topics/x/partitions"),
            Create("/brokers/topics/x/partitions/0"),
            Create("/brokers/topics/x/partitions/0/state", layout.encode_state(leadership)),
        ]
    )
    await until(
        node,
        lambda view: "x" in view.topics and 1 in {p.index for p in view.topics["x"].partitions},
    )
    assert await state(node, "x", 0) == (leadership, 0)
    assert (await state(node, "x", 1))[0].leader == 0
