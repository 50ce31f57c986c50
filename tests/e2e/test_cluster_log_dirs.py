"""Replicas of a cluster, leaders and followers, move between their brokers' log directories."""

from pathlib import Path

from broker.config import TopicSpec
from protocol.errors import ErrorCode
from tests.e2e.load import Load
from tests.e2e.test_cluster import TOPIC, replicated
from tests.kit.cluster import Cluster, ThreadedCluster

PARTITIONS = 3
MOVE_S = 25.0


def homes(cluster: Cluster) -> dict[tuple[int, int], str]:
    """(broker, partition) -> log directory."""
    return {
        (broker_id, index): server.node.logs.home_of((TOPIC, index)).path
        for broker_id, server in cluster.servers.items()
        for index in range(PARTITIONS)
    }


async def move(cluster: Cluster) -> dict[tuple[int, int], str]:
    """Every replica to the other directory of its broker; where they will be."""
    targets: dict[tuple[int, int], str] = {}
    for (broker_id, index), path in homes(cluster).items():
        node = cluster.servers[broker_id].node
        (targets[broker_id, index],) = [d.path for d in node.logs._online() if d.path != path]
        code = node.dir_moves.alter(TOPIC, index, targets[broker_id, index])
        assert code == ErrorCode.NONE
    return targets


async def moved(cluster: Cluster, targets: dict[tuple[int, int], str]) -> None:
    await cluster.until(lambda: homes(cluster) == targets, MOVE_S)


async def leader_dies(cluster: Cluster) -> int:
    """The leader of partition 0, once others are in sync with it: else nobody could follow it."""
    for index in range(PARTITIONS):
        await cluster.in_sync(TOPIC, index)
    gone = cluster.leader_of(TOPIC)
    await cluster.crash(gone)
    return gone


def test_all_replicas_move_under_load_and_a_leader_dies(tmp_path: Path) -> None:
    own = {
        broker_id: {"log.dirs": f"{tmp_path}/broker-{broker_id}/a,{tmp_path}/broker-{broker_id}/b"}
        for broker_id in range(3)
    }
    topics = [TopicSpec(TOPIC, PARTITIONS, {})]
    with ThreadedCluster(tmp_path, own=own, topics=topics) as cluster:
        load = Load(cluster, TOPIC, PARTITIONS)
        load.go_on()
        targets = cluster.call(move)
        cluster.call(moved, targets)
        load.go_on()
        # Again, and a leader dies on the way: what it had begun goes on when it is back.
        targets = cluster.call(move)
        gone = cluster.call(leader_dies)
        load.go_on()
        cluster.call(Cluster.start_one, gone)
        cluster.call(Cluster.in_sync, TOPIC)
        cluster.call(moved, targets)
        load.go_on()
        load.stop()
        load.check()
        cluster.call(replicated)
