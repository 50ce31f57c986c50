"""Groups on three brokers: their coordinators die, and members go on where they were."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import AcknowledgeType, ShareConsumer

from broker.cluster.view import OFFSETS_TOPIC, SHARE_STATE_TOPIC
from broker.config import TopicSpec
from protocol.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequestGroup,
)
from protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from tests.e2e.clients.python_confluent import Confluent
from tests.e2e.corpus import Item, base_timestamp
from tests.e2e.members import KINDS, Watch
from tests.e2e.members.python_kafka import refused_connections
from tests.kit.cluster import Cluster, ThreadedCluster
from tests.kit.wire import Wire

SESSION_MS = 6000
DEADLINE = 60.0
GROUP_RESOURCE = 32
SETTINGS = {
    "group.consumer.session.timeout.ms": str(SESSION_MS),
    "group.consumer.min.session.timeout.ms": str(SESSION_MS),
    "group.consumer.heartbeat.interval.ms": "300",
    "group.consumer.min.heartbeat.interval.ms": "300",
    "group.share.heartbeat.interval.ms": "300",
    "group.share.min.heartbeat.interval.ms": "300",
    "group.share.assignment.interval.ms": "0",
    "share.coordinator.state.topic.num.partitions": "3",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ThreadedCluster]:
    topics = [TopicSpec(name, 2, {}) for name in (*CHOSEN, SHARED)]
    with ThreadedCluster(tmp_path, settings=SETTINGS, topics=topics) as running:
        yield running


CHOSEN = ("confluent", "confluent-consumer", "aiokafka")
SHARED = "shared"


def fill(cluster: ThreadedCluster, topic: str, first: int, count: int) -> None:
    """Records b"first", ... to both partitions."""
    numbers = range(first, first + count)
    items = [Item(p, base_timestamp(), None, b"%d" % n) for n in numbers for p in (0, 1)]
    Confluent(cluster.bootstrap).produce(topic, items)


def coordinator(cluster: Cluster, group: str) -> int:
    """The broker that coordinates a group."""
    return cluster.controller.node.groups.broker_of(group)


def test_members_go_on_without_a_rebalance(cluster: ThreadedCluster) -> None:
    """Classic groups and such of KIP-848: nobody gives up a partition, nothing is read twice."""
    watches = {kind: Watch() for kind in CHOSEN}
    written = 5
    with refused_connections(), ExitStack() as stack:
        for kind, watch in watches.items():
            fill(cluster, kind, 0, written)
            make, way = KINDS[kind]
            members = [
                make(
                    cluster.bootstrap,
                    f"group-{kind}",
                    [kind],
                    watch,
                    name,
                    way=way,
                    commits="each",
                    session_ms=SESSION_MS,
                )
                for name in ("a", "b")
            ]
            for member in members:
                stack.enter_context(member)
            shared = watch.shared(members, [(kind, 0), (kind, 1)])
            watch.until(shared, f"both members of {kind} own a partition", DEADLINE)
        moves = {kind: list(watch.moves) for kind, watch in watches.items()}
        for victim in CHOSEN:
            gone = cluster.call(coordinator, f"group-{victim}")
            cluster.call(Cluster.crash, gone)
            for kind, watch in watches.items():
                fill(cluster, kind, written, 3)
                reached = {(kind, 0): written + 3, (kind, 1): written + 3}
                watch.until(
                    lambda w=watch, r=reached: w.committed == r, f"{kind} goes on", DEADLINE
                )
            written += 3
            cluster.call(Cluster.start_one, gone)
            for index in range(3):
                cluster.call(Cluster.in_sync, OFFSETS_TOPIC, index)
        assert {kind: watch.moves for kind, watch in watches.items()} == moves


# --- share groups


class Share:
    """The share group of a test: begins at the beginning of its topic."""

    def __init__(self, cluster: ThreadedCluster, stack: ExitStack) -> None:
        self.cluster = cluster
        self.stack = stack
        self.group = "share-group"
        wanted = [AlterableConfig("share.auto.offset.reset", 0, "earliest")]
        resources = [AlterConfigsResource(GROUP_RESOURCE, self.group, wanted)]
        with Wire(cluster.bootstrap.split(",")[0]) as wire:
            answer = wire.call(IncrementalAlterConfigsRequest(resources), 1)
        assert answer.responses[0].error_code == 0, answer

    def consumer(self) -> Any:
        made = ShareConsumer(
            {
                "bootstrap.servers": self.cluster.bootstrap,
                "group.id": self.group,
                "share.acknowledgement.mode": "explicit",
                "reconnect.backoff.max.ms": 200,
                "log_level": 0,
            }
        )
        self.stack.callback(made.close)
        made.subscribe([SHARED])
        return made

    def state_coordinator(self, index: int = 0) -> int:
        def find(cluster: Cluster) -> int:
            from broker.shares.common import ShareKey

            node = cluster.controller.node
            topic_id = node.metadata.view.topics[SHARED].topic_id
            return node.share_states.broker_of(str(ShareKey(self.group, topic_id, index)))

        return int(self.cluster.call(find))

    def stands(self) -> dict[int, tuple[int, int]]:
        """(start offset, lag) by partition, from the group's coordinator."""
        port = self.cluster.cluster.ports[self.cluster.call(coordinator, self.group)]
        asked = DescribeShareGroupOffsetsRequestGroup(self.group, None)
        with Wire(f"127.0.0.1:{port}") as wire:
            answer = wire.call(DescribeShareGroupOffsetsRequest([asked]), 1)
        (group,) = answer.groups
        assert group.error_code == 0, group
        return {
            row.partition_index: (row.start_offset, row.lag)
            for topic in group.topics
            for row in topic.partitions
            if not row.error_code
        }


@pytest.fixture
def share(cluster: ThreadedCluster) -> Iterator[Share]:
    with ExitStack() as stack:
        yield Share(cluster, stack)


def collect(
    consumer: Any, count: int, ends: dict[int, AcknowledgeType]
) -> Counter[tuple[int, int]]:
    """Take records until `count` are there, each with what `ends` has for its number (ACCEPT where
    it has nothing): (number, delivery count) of each."""
    got: Counter[tuple[int, int]] = Counter()
    end = time.monotonic() + DEADLINE
    while sum(got.values()) < count:
        assert time.monotonic() < end, f"{got}, {count} are due"
        messages = consumer.poll(0.3)
        for message in messages:
            if message.error() is None:
                number = int(message.value())
                got[number, message.delivery_count()] += 1
                consumer.acknowledge(message, ends.get(number, AcknowledgeType.ACCEPT))
        if messages:
            consumer.commit_sync(10)
    return got


@pytest.mark.parametrize("victim", ["share coordinator", "leader"])
def test_what_share_groups_have_done_survives(
    cluster: ThreadedCluster, share: Share, victim: str
) -> None:
    fill(cluster, SHARED, 0, 4)
    first = share.consumer()
    ends = {1: AcknowledgeType.RELEASE, 3: AcknowledgeType.REJECT}
    # Number 1 is handed out, released and accepted the second time: 5 of each partition.
    released: Counter[tuple[int, int]] = collect(first, 8, ends)
    assert {number for number, _ in released} == {0, 1, 2, 3}
    assert cluster.call(replicas_spread), "leaders and coordinators are on all brokers"
    index = 0
    gone = (
        share.state_coordinator(index)
        if victim == "share coordinator"
        else cluster.call(Cluster.leader_of, SHARED, index)
    )
    cluster.call(Cluster.crash, gone)
    fill(cluster, SHARED, 4, 1)
    first.close()
    second = share.consumer()
    got = collect(second, 4, {})
    assert {number for number, _ in got} == {1, 4}, "nothing that was accepted comes again"
    assert all(deliveries >= 2 for number, deliveries in got if number == 1)
    assert got[4, 1] == 2
    # A start offset is written with what happens next, so that it may lie behind.
    assert {index: lag for index, (_, lag) in share.stands().items()} == {0: 0, 1: 0}


def replicas_spread(cluster: Cluster) -> bool:
    view = cluster.controller.node.metadata.view
    return all(
        len({partition.leader for partition in view.topics[topic].partitions}) > 1
        for topic in (SHARED, SHARE_STATE_TOPIC, OFFSETS_TOPIC)
    )
