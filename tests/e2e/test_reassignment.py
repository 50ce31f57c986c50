"""Partitions move to other brokers under load: nothing acknowledged is lost, replicas are equal."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.cluster import layout
from broker.config import TopicSpec
from broker.controller.reassign import BY_REQUEST, Target
from tests.e2e.load import Load
from tests.kit.cluster import Cluster, ThreadedCluster

TOPIC = "moving"
PARTITIONS = 3
MOVE_S = 25.0

Replicas = dict[int, tuple[int, ...]]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ThreadedCluster]:
    """Four brokers; three partitions with two replicas each."""
    settings = {"default.replication.factor": "2", "auto.leader.rebalance.enable": "false"}
    topics = [TopicSpec(TOPIC, PARTITIONS, {})]
    with ThreadedCluster(tmp_path, 4, settings, topics=topics) as running:
        yield running


def replicas(cluster: Cluster) -> Replicas:
    """The replicas of each partition as the controller knows them."""
    state = cluster.controller.node.controller.state
    assert state is not None
    return {i: p.replicas for i, p in state.topics[TOPIC].partitions.items()}


def others(now: Replicas) -> Replicas:
    """Two brokers that have no replica of it, for each partition."""
    return {i: tuple(b for b in range(4) if b not in there)[:2] for i, there in now.items()}


async def begin(cluster: Cluster, targets: Replicas) -> None:
    wanted = [Target((TOPIC, index), to) for index, to in targets.items()]
    answers = await cluster.controller.node.controller.alter_reassignments(wanted, BY_REQUEST)
    assert set(answers.values()) == {None}


async def ended(cluster: Cluster, targets: Replicas, away: int = -1) -> None:
    """Wait until the moves are over, and nobody else has replicas; but one that was `away` may not
    have been told, and keeps what it had, as in Apache Kafka."""

    def over() -> bool:
        if not any(s.node.controller.active for s in cluster.servers.values()):
            return False
        state = cluster.controller.node.controller.state
        return (
            state is not None
            and TOPIC in state.topics
            and replicas(cluster) == targets
            and all(cluster.isr_of(TOPIC, i) == set(to) for i, to in targets.items())
        )

    await cluster.until(over, MOVE_S)
    data, _ = await cluster.store.get(layout.topic_path(TOPIC))
    written = layout.decode_topic(TOPIC, data).assignments
    assert written == {i: layout.Assignment(to) for i, to in targets.items()}
    await cluster.until(lambda: leftovers(cluster, targets) <= {away}, MOVE_S)
    await cluster.until(lambda: shown(cluster, targets))


async def equal_in_the_end(cluster: Cluster, targets: Replicas) -> None:
    """Wait until the replicas are equal; while something is written they seldom are."""
    await cluster.until(lambda: all(equal(cluster, i, to) for i, to in targets.items()), MOVE_S)


def shown(cluster: Cluster, targets: Replicas) -> bool:
    """Whether the metadata of every broker has these replicas."""
    for server in cluster.servers.values():
        view = server.node.metadata.view
        if {p.index: p.replicas for p in view.topics[TOPIC].partitions} != targets:
            return False
    return True


def equal(cluster: Cluster, index: int, on: tuple[int, ...]) -> bool:
    """Whether these brokers hold the same bytes of a partition."""
    seen = set()
    for broker_id in on:
        log = cluster.replica(broker_id, TOPIC, index).log
        assert log is not None
        files = b"".join(segment.file().pread(segment.size, 0) for segment in log.segments)
        seen.add((files, log.end_offset, log.high_watermark))
    return len(seen) == 1


def leftovers(cluster: Cluster, targets: Replicas) -> set[int]:
    """Brokers with replicas that they should not have."""
    return {
        broker_id
        for broker_id, server in cluster.servers.items()
        for index, to in targets.items()
        if broker_id not in to and (TOPIC, index) in server.node.logs.logs
    }


def test_all_replicas_move_under_load(cluster: ThreadedCluster) -> None:
    load = Load(cluster, TOPIC, PARTITIONS)
    load.go_on()
    targets = others(cluster.call(replicas))
    cluster.call(begin, targets)
    cluster.call(ended, targets)
    load.go_on()
    # And back, half way with another wish.
    back = others(targets)
    cluster.call(begin, back)
    there = {index: (to[1], to[0]) for index, to in targets.items()}
    cluster.call(begin, there)
    cluster.call(ended, there)
    load.go_on()
    load.stop()
    load.check()
    cluster.call(equal_in_the_end, there)


def test_the_controller_dies_during_a_move(cluster: ThreadedCluster) -> None:
    load = Load(cluster, TOPIC, PARTITIONS)
    load.go_on()
    now = cluster.call(replicas)
    gone = cluster.call(lambda c: c.controller.node.broker_id)
    targets = others(now)

    async def begin_and_die(running: Cluster) -> None:
        """The nodes are written; whatever was under way is lost with the broker. Others are in sync
        with it before: else nobody could follow it."""
        await running.until(
            lambda: all(running.isr_of(TOPIC, i) == set(there) for i, there in now.items())
        )
        await begin(running, targets)
        await running.crash(gone)

    cluster.call(begin_and_die)
    load.go_on(timeout_s=60)
    cluster.call(Cluster.start_one, gone)
    cluster.call(ended, targets, gone)
    load.go_on()
    load.stop()
    load.check()
    cluster.call(equal_in_the_end, targets)
