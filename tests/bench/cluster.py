"""A cluster of three processes on a real ZooKeeper with many partitions: topics created, the
controller's failover, a node's return.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from kazoo.client import KazooClient

from protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponseTopic,
)
from tests.bench.figures import Figure
from tests.kit import zookeeper
from tests.kit.processes import ProcessCluster
from tests.kit.wire import Wire

TOPICS, PARTITIONS, BROKERS = 2_000, 5, 3
AT_ONCE = 100
"""Topics of one request."""
EVERY = 50
"""Of so many topics one is looked at while something goes on; all of them when it seems over."""
FIRST_EPOCH = 1
"""Of the controller that a new cluster elects."""
PATIENCE_S = 180.0
DEFAULTS = {"zookeeper.session.timeout.ms": "18000", "replica.lag.time.max.ms": "30000"}
"""Apache Kafka's: tests have shorter ones."""


def many_partitions(runs: int) -> Iterator[Figure]:
    """2,000 topics x 5 partitions x 3 replicas; a third of the runs, they are long."""
    size = f"{TOPICS:,} x {PARTITIONS} x {BROKERS}"
    create = Figure(f"{size}, created and in sync", "s", 60.0)
    failover = Figure(f"{size}, controller's failover", "s", 3.0)
    again = Figure(f"{size}, restart to full ISR", "s", 20.0)
    for _ in range(max(1, runs // 3)):
        with tempfile.TemporaryDirectory(prefix="odradek-bench-") as folder:
            address = zookeeper.standalone().address + zookeeper.chroot()
            cluster = ProcessCluster(Path(folder), address, settings=DEFAULTS)
            try:
                cluster.start()
                create.values.append(_create(cluster))
                dead = cluster.controller()
                failover.values.append(_fail_over(cluster, dead))
                again.values.append(_restart(cluster, dead))
            finally:
                cluster.end()
    yield create
    yield failover
    yield again


def _create(cluster: ProcessCluster) -> float:
    began = time.monotonic()
    with Wire(cluster.brokers[cluster.controller()].bootstrap, timeout=60) as wire:
        for first in range(0, TOPICS, AT_ONCE):
            topics = [
                CreatableTopic(_name(n), PARTITIONS, BROKERS) for n in range(first, first + AT_ONCE)
            ]
            answer = wire.call(CreateTopicsRequest(topics=topics, timeout_ms=60_000), 7)
            assert not any(t.error_code for t in answer.topics), answer.topics[:3]
    return _until_all(cluster, began, in_sync)


def _fail_over(cluster: ProcessCluster, dead: int) -> float:
    """From the end of the controller's session, which is when its death is noticed, until the new
    one says that it has told every broker.
    """
    said = f"all brokers know what controller epoch {FIRST_EPOCH + 1} began with"
    cluster.brokers[dead].kill()
    _until_gone(cluster.connect, dead)
    began = time.monotonic()
    others = [broker for broker in cluster.brokers.values() if broker.running]
    cluster.until(said, lambda: any(said in b.log_text() for b in others), PATIENCE_S)
    spent = time.monotonic() - began
    _until_all(
        cluster, began, lambda topic: all(p.leader_id not in (dead, -1) for p in topic.partitions)
    )
    return spent


def _until_gone(connect: str, broker_id: int) -> None:
    """Wait until a broker's session has ended."""
    gone = threading.Event()
    client = KazooClient(connect)
    client.start(10)
    try:
        if client.exists(f"/brokers/ids/{broker_id}", lambda _: gone.set()) is not None:
            assert gone.wait(30), "its session does not end"
    finally:
        client.stop()
        client.close()


def _restart(cluster: ProcessCluster, dead: int) -> float:
    began = time.monotonic()
    cluster.brokers[dead].start()
    return _until_all(cluster, began, in_sync)


def in_sync(topic: MetadataResponseTopic) -> bool:
    """Whether all replicas of all partitions are in sync."""
    return len(topic.partitions) == PARTITIONS and all(
        len(p.isr_nodes) == BROKERS and p.leader_id >= 0 for p in topic.partitions
    )


def _name(number: int) -> str:
    return f"topic-{number:04}"


def _until_all(
    cluster: ProcessCluster, began: float, holds: Callable[[MetadataResponseTopic], bool]
) -> float:
    """Seconds until every running broker knows of every topic what must hold.

    A few topics are asked for until it holds of them, then all: to ask for all of them all the
    time would be most of the work that the brokers have.
    """
    some = [_name(n) for n in range(0, TOPICS, EVERY)]
    for broker in cluster.brokers.values():
        if not broker.running:
            continue
        with Wire(broker.bootstrap, timeout=30) as wire:
            for names in (some, None):
                while not all(map(holds, _topics(wire, names))):
                    assert time.monotonic() < began + PATIENCE_S, "it does not come to an end"
                    time.sleep(0.05)
    return time.monotonic() - began


def _topics(wire: Wire, names: list[str] | None) -> list[MetadataResponseTopic]:
    asked = None if names is None else [MetadataRequestTopic(name=name) for name in names]
    topics: list[MetadataResponseTopic] = wire.call(
        MetadataRequest(asked, allow_auto_topic_creation=False), 9
    ).topics
    if names is None:
        topics = [topic for topic in topics if not topic.is_internal]
        assert len(topics) == TOPICS
    return topics
