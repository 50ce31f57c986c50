"""What is measured and what it may cost."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from protocol.messages.api_versions import ApiVersionsRequest
from protocol.messages.create_topics import (
    CreatableTopic,
    CreateTopicsRequest,
)
from protocol.messages.metadata import MetadataRequest
from protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.bench import cluster, coordinators, requests
from tests.bench.figures import GB, MB, Figure, Target, new_topic
from tests.kit.server import Server, process_rss
from tests.kit.wire import Wire

RECYCLED = {
    "max.message.bytes": "2097152",
    "segment.bytes": "268435456",
    "file.delete.delay.ms": "0",
}


def tiny(target: Target, runs: int) -> Iterator[Figure]:
    cpu = Figure("tiny produce, 50 connections x 5", "us CPU/request", 12.0)
    rate = Figure("tiny produce, throughput", "us wall/request", None)
    for _ in range(runs):
        topic = new_topic("tiny")
        target.create(topic, configs=RECYCLED)
        got = target.job("pipelined", topic, connections=50, depth=5, warm_up=0.5, seconds=2.0)
        assert target.end_offset(topic) == got["answered"], "records were lost or doubled"
        cpu.values.append(got["cpu"] / got["requests"] * 1e6)
        rate.values.append(got["wall"] / got["requests"] * 1e6)
        target.delete(topic)
    yield cpu
    yield rate


def produce_large(target: Target, runs: int) -> Iterator[Figure]:
    cpu = Figure("1 MiB batches, 2 connections x 3", "CPU s/GB", 0.8)
    rate = Figure("1 MiB batches, throughput", "s/GB", None)
    # the first run is the warm-up of the broker's code; it is not counted
    for number in range(runs + 1):
        topic = new_topic("large")
        target.create(topic, configs=RECYCLED)
        got = target.job(
            "large", topic, work="produce", connections=2, depth=3, warm_up=0.3, seconds=1.2
        )
        records = requests.large_batch(requests.MIB).count(b"v" * 1000)
        assert target.end_offset(topic) == got["answered"] * records, "records were lost"
        size = got["requests"] * got["bytes_each"] / GB
        if number:
            cpu.values.append(got["cpu"] / size)
            rate.values.append(got["wall"] / size)
        target.delete(topic)
    yield cpu
    yield rate


def fetch_large(target: Target, runs: int) -> Iterator[Figure]:
    cpu = Figure("fetch 1 MiB, 2 connections x 3", "CPU s/GB", 0.15)
    rate = Figure("fetch 1 MiB, throughput", "s/GB", None)
    topic = new_topic("fetch")
    target.create(topic, configs=RECYCLED)
    filled = requests.large_batch(requests.MIB)
    offsets = []
    with Wire(target.bootstrap, timeout=30) as wire:
        for _ in range(256):
            part = PartitionProduceData(index=0, records=memoryview(filled))
            data = TopicProduceData(name=topic, partition_data=[part])
            answer = wire.call(ProduceRequest(acks=1, timeout_ms=9000, topic_data=[data]), 9)
            (partition,) = answer.responses[0].partition_responses
            assert partition.error_code == 0, partition
            offsets.append(partition.base_offset)
    for _ in range(runs):
        got = target.job(
            "large",
            topic,
            work="fetch",
            connections=2,
            depth=3,
            warm_up=0.3,
            seconds=1.5,
            offsets=offsets,
            bytes_each=len(filled),
        )
        assert got["bytes_each"] > len(filled), "answers without their records"
        size = got["requests"] * len(filled) / GB
        cpu.values.append(got["cpu"] / size)
        rate.values.append(got["wall"] / size)
    target.delete(topic)
    yield cpu
    yield rate


def librdkafka(target: Target, runs: int) -> Iterator[Figure]:
    cpu = Figure("1 KiB records by librdkafka", "CPU s/GB", 1.3)
    rate = Figure("1 KiB records, throughput", "s/GB", None)
    for number in range(runs + 1):
        topic = new_topic("librdkafka")
        target.create(topic, configs=RECYCLED)
        got = target.job("librdkafka", topic, count=400_000)
        assert target.end_offset(topic) == got["answered"], "records were lost or doubled"
        size = got["requests"] * got["bytes_each"] / GB
        if number:
            cpu.values.append(got["cpu"] / size)
            rate.values.append(got["wall"] / size)
        target.delete(topic)
    yield cpu
    yield rate


def end_to_end(target: Target, runs: int) -> Iterator[Figure]:
    median = Figure("end to end at 1,000/s, p50", "ms", 0.4)
    tail = Figure("end to end at 1,000/s, p99", "ms", 3.0)
    share = Figure("end to end at 1,000/s, broker", "% of a core", None)
    for _ in range(runs):
        topic = new_topic("latency")
        target.create(topic)
        got = target.job("latency", topic, rate=1000, warm_up=1.0, seconds=4.0, start=0)
        median.values.append(got["p50"] * 1e3)
        tail.values.append(got["p99"] * 1e3)
        share.values.append(got["cpu_share"] * 100)
        target.delete(topic)
    yield median
    yield tail
    yield share


def start(runs: int) -> Iterator[Figure]:
    ready = Figure("ready to serve, empty directory", "s", 0.25)
    idle = Figure("resident, idle", "MB", 40.0)
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="odradek-bench-") as folder:
            server = Server(Path(folder) / "data")
            ready.values.append(_start(server))
            try:
                with Wire(server.bootstrap) as wire:
                    wire.call(MetadataRequest(topics=[]), 9)
                    idle.values.append(server.rss_bytes() / MB)
            finally:
                server.stop()
    yield ready
    yield idle


def _start(server: Server) -> float:
    """Seconds from exec to the answer of an ApiVersions; the ready line says where to ask."""
    began = time.monotonic()
    server.start()
    with Wire(server.bootstrap) as wire:
        wire.call(ApiVersionsRequest(), 0)
    return time.monotonic() - began


def many_topics(runs: int) -> Iterator[Figure]:
    create = Figure("1,000 topics x 10 partitions, created", "s", 10.0)
    again = Figure("1,000 topics x 10 partitions, restarted", "s", 5.0)
    memory = Figure("1,000 topics x 10 partitions, resident", "MB", 250.0)
    for _ in range(max(1, runs // 2)):
        with tempfile.TemporaryDirectory(prefix="odradek-bench-") as folder:
            server = Server(Path(folder) / "data")
            server.start()
            try:
                create.values.append(_create_many(server.bootstrap))
                before = process_rss(server.pid)
                server.stop(60)
                again.values.append(_start(server))
                with Wire(server.bootstrap, timeout=30) as wire:
                    topics = wire.call(MetadataRequest(topics=None), 9).topics
                assert sum(len(t.partitions) for t in topics) == 10_000
                memory.values.append(max(before, process_rss(server.pid)) / MB)
            finally:
                server.stop(60)
    yield create
    yield again
    yield memory


def _create_many(bootstrap: str) -> float:
    began = time.monotonic()
    with Wire(bootstrap, timeout=60) as wire:
        for hundred in range(10):
            topics = [
                CreatableTopic(name=f"topic-{hundred}-{n}", num_partitions=10, replication_factor=1)
                for n in range(100)
            ]
            answer = wire.call(CreateTopicsRequest(topics=topics, timeout_ms=60_000), 7)
            assert not any(t.error_code for t in answer.topics), answer.topics[:3]
    return time.monotonic() - began


UNDER_LOAD: dict[str, Callable[[Target, int], Iterator[Figure]]] = {
    "tiny": tiny,
    "produce": produce_large,
    "fetch": fetch_large,
    "librdkafka": librdkafka,
    "latency": end_to_end,
    "heartbeats": coordinators.heartbeats,
    "rebalance": coordinators.rebalance,
    "transactions": coordinators.transactions,
}
OWN_BROKER: dict[str, Callable[[int], Iterator[Figure]]] = {
    "start": start,
    "topics": many_topics,
    "offsets": coordinators.load_offsets,
    "cluster": cluster.many_partitions,
}
