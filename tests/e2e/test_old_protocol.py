"""Three brokers at an inter.broker.protocol.version below 2.7: leaders write ISRs themselves."""

from pathlib import Path

import pytest

from broker import isr_writes
from broker.cluster import layout
from broker.config import TopicSpec
from broker.isr_writes import IsrWrites
from tests.e2e.load import Load
from tests.e2e.test_cluster import TOPIC, replicated
from tests.kit.cluster import Cluster, ThreadedCluster

IBP = {"inter.broker.protocol.version": "2.6"}


async def written_isr(cluster: Cluster) -> set[int]:
    data, _ = await cluster.store.get(layout.state_path(TOPIC, 0))
    return set(layout.decode_state(TOPIC, 0, data).isr)


async def writers(cluster: Cluster) -> list[bool]:
    """Whether the brokers that have changed ISRs have written them themselves."""
    made = [server.node.replication._isr for server in cluster.servers.values()]
    return [isinstance(one, IsrWrites) for one in made if one is not None]


async def dies(cluster: Cluster, broker_id: int) -> None:
    """Once the others are in sync with it: else nobody could follow it."""
    for index in range(3):
        await cluster.in_sync(TOPIC, index)
    await cluster.crash(broker_id)


def test_isrs_shrink_and_grow_and_a_crash_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The controller hears of changes soon.
    monkeypatch.setattr(isr_writes, "CHECK_S", 0.1)
    monkeypatch.setattr(isr_writes, "LINGER_MS", 100)
    topics = [TopicSpec(TOPIC, 3, {})]
    with ThreadedCluster(tmp_path, settings=IBP, topics=topics) as cluster:
        load = Load(cluster, TOPIC)
        load.go_on()
        leader = cluster.call(Cluster.leader_of, TOPIC)
        slow = next(b for b in range(3) if b != leader)
        cluster.call(Cluster.pause_fetching, slow)
        load.go_on()
        assert slow not in cluster.call(written_isr)
        cluster.call(Cluster.go_on_fetching)
        cluster.call(Cluster.in_sync, TOPIC)
        assert set(cluster.call(writers)) == {True}
        cluster.call(dies, leader)
        load.go_on()
        cluster.call(Cluster.start_one, leader)
        cluster.call(Cluster.in_sync, TOPIC)
        load.stop()
        load.check()
        cluster.call(replicated)
