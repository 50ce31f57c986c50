"""Three whole brokers in one process: replication, failover and what clients see of it."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from broker.config import TopicSpec
from tests.kit.cluster import Cluster, ThreadedCluster

TOPIC = "replicated"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ThreadedCluster]:
    with ThreadedCluster(tmp_path, topics=[TopicSpec(TOPIC, 3, {})]) as running:
        yield running


def producer(cluster: ThreadedCluster, **more: Any) -> Producer:
    return Producer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 2,
            "retry.backoff.ms": 20,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
            "delivery.timeout.ms": 60000,
            "topic.metadata.refresh.fast.interval.ms": 20,
            "log_level": 2,
            **more,
        }
    )


class Load:
    """Numbers written to every partition until it is stopped, and what was acknowledged."""

    def __init__(self, cluster: ThreadedCluster, partitions: int = 3) -> None:
        self._producer = producer(cluster)
        self._partitions = partitions
        self._ended = threading.Event()
        self.acknowledged: dict[int, list[tuple[int, int]]] = {p: [] for p in range(partitions)}
        self.failed: list[str] = []
        self.sent = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failed.append(str(error))
            return
        partition, offset, value = message.partition(), message.offset(), message.value()
        assert partition is not None and offset is not None and value is not None
        self.acknowledged[partition].append((offset, int(value)))

    def _run(self) -> None:
        while not self._ended.is_set():
            for partition in range(self._partitions):
                value = b"%d" % self.sent
                try:
                    self._producer.produce(
                        TOPIC, value, partition=partition, on_delivery=self._delivered
                    )
                except BufferError:
                    self._producer.poll(0.05)
            self.sent += 1
            self._producer.poll(0.002)
        self._producer.flush(60)

    def count(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def go_on(self, records: int = 150, timeout_s: float = 30.0) -> float:
        """Wait until so many more are acknowledged in every partition; the seconds it took."""
        began = time.monotonic()
        wanted = {p: len(done) + records for p, done in self.acknowledged.items()}
        while any(len(self.acknowledged[p]) < count for p, count in wanted.items()):
            assert time.monotonic() < began + timeout_s, "writes do not go on"
            time.sleep(0.005)
        return time.monotonic() - began

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(90)
        assert not self._thread.is_alive()
        assert not self.failed, self.failed[:3]


def everything(cluster: ThreadedCluster, partition: int) -> list[tuple[int, int]]:
    """(offset, number) of a partition's records, read to the end."""
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "reader"})
    try:
        place = TopicPartition(TOPIC, partition, 0)
        _, end = consumer.get_watermark_offsets(place, 10)
        consumer.assign([place])
        found: list[tuple[int, int]] = []
        deadline = time.monotonic() + 30
        while not found or found[-1][0] < end - 1:
            assert time.monotonic() < deadline, f"{len(found)} of {end} records of {partition}"
            for message in consumer.consume(1000, 1.0):
                assert message.error() is None, message.error()
                offset, value = message.offset(), message.value()
                assert offset is not None and value is not None
                found.append((offset, int(value)))
        return found
    finally:
        consumer.close()


def check(cluster: ThreadedCluster, load: Load) -> None:
    """Nothing acknowledged is lost, nothing is there twice, all is in order."""
    for partition, acknowledged in load.acknowledged.items():
        found = everything(cluster, partition)
        values = [value for _, value in found]
        assert values == list(range(len(values))), f"partition {partition} is not in order"
        assert set(acknowledged) <= set(found)


def same_logs(cluster: Cluster, topic: str = TOPIC) -> bool:
    """Whether all replicas of the topic hold the same bytes, high watermarks included."""
    partitions = len(cluster.controller.node.metadata.view.topics[topic].partitions)
    for index in range(partitions):
        seen = set()
        for broker_id in cluster.servers:
            log = cluster.replica(broker_id, topic, index).log
            assert log is not None
            files = b"".join(segment.file().pread(segment.size, 0) for segment in log.segments)
            seen.add((files, log.end_offset, log.high_watermark, tuple(log.epochs.entries())))
        if len(seen) != 1:
            return False
    return True


async def replicated(cluster: Cluster) -> None:
    await cluster.until(lambda: same_logs(cluster))


def test_acknowledged_records_are_on_every_replica(cluster: ThreadedCluster) -> None:
    load = Load(cluster)
    load.go_on()
    load.stop()
    check(cluster, load)
    cluster.call(replicated)


def test_a_crash_of_the_leader_loses_nothing(cluster: ThreadedCluster) -> None:
    load = Load(cluster)
    load.go_on()
    for _ in range(3):
        gone = cluster.call(Cluster.leader_of, TOPIC)
        cluster.call(Cluster.crash, gone)
        load.go_on()
        cluster.call(Cluster.start_one, gone)
        cluster.call(Cluster.in_sync, TOPIC)
        load.go_on()
    load.stop()
    check(cluster, load)
    cluster.call(replicated)


def test_a_controlled_stop_is_hardly_noticed(cluster: ThreadedCluster) -> None:
    load = Load(cluster)
    load.go_on()
    for broker_id in (1, 2, 0):
        stopping = threading.Thread(target=cluster.call, args=(Cluster.stop_one, broker_id))
        stopping.start()
        load.go_on(20, timeout_s=5)
        stopping.join()
        load.go_on()
        cluster.call(Cluster.start_one, broker_id)
        cluster.call(Cluster.in_sync, TOPIC)
    load.stop()
    check(cluster, load)
    cluster.call(replicated)
