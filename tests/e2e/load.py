"""Idempotent load with acks=all on every partition of a topic, and what must hold of it afterwards:
nothing acknowledged is lost, nothing is there twice, all is in order.
"""

import asyncio
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError
from aiokafka.structs import RecordMetadata
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

DELIVERY_TIMEOUT_MS = 120_000
REQUEST_TIMEOUT_MS = 3000
"""After so long clients give up on a leader that does not answer, and ask who leads."""


class Brokers(Protocol):
    """A cluster."""

    @property
    def bootstrap(self) -> str: ...


def producer(cluster: Brokers, **more: Any) -> Producer:
    """One that finds new leaders quickly."""
    return Producer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 2,
            "retry.backoff.ms": 20,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
            "socket.timeout.ms": 5000,
            "request.timeout.ms": REQUEST_TIMEOUT_MS,
            "topic.metadata.refresh.interval.ms": 1000,
            "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
            "topic.metadata.refresh.fast.interval.ms": 20,
            "log_level": 2,
            **more,
        }
    )


class AnyLoad(ABC):
    """Numbers written to every partition until it is stopped, and what was acknowledged."""

    client: ClassVar[str]

    def __init__(self, cluster: Brokers, topic: str, partitions: int = 3) -> None:
        self._cluster = cluster
        self._topic = topic
        self._partitions = partitions
        self._ended = threading.Event()
        self.acknowledged: dict[int, list[tuple[int, int]]] = {p: [] for p in range(partitions)}
        self.failed: list[str] = []
        self.sent = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @abstractmethod
    def _run(self) -> None:
        """Write until the end is told, then wait for what is under way."""

    def count(self) -> int:
        """Records acknowledged so far."""
        return sum(map(len, self.acknowledged.values()))

    def went_on(self, since: Mapping[int, int], records: int = 1) -> bool:
        """Whether so many more are acknowledged in every partition as there were (`counts`)."""
        assert not self.failed, self.failed[:3]
        return all(len(done) >= since[p] + records for p, done in self.acknowledged.items())

    def counts(self) -> dict[int, int]:
        """Records acknowledged so far, by partition."""
        return {p: len(done) for p, done in self.acknowledged.items()}

    def go_on(self, records: int = 150, timeout_s: float = 30.0) -> float:
        """Wait until so many more are acknowledged in every partition; the seconds it took."""
        began, since = time.monotonic(), self.counts()
        while not self.went_on(since, records):
            assert time.monotonic() < began + timeout_s, f"{self.client}: writes do not go on"
            time.sleep(0.005)
        return time.monotonic() - began

    def longest_pause(self, process: "subprocess.Popen[bytes]") -> float:
        """The longest time that a partition was without an acknowledgement, in seconds, from now
        until a second after the end of a process.
        """
        now = time.monotonic()
        end, longest = now + 1, 0.0
        seen = {p: (len(done), now) for p, done in self.acknowledged.items()}
        while now < end:
            if process.poll() is None:
                end = now + 1
            for partition, (before, last) in seen.items():
                longest = max(longest, now - last)
                if len(self.acknowledged[partition]) > before:
                    seen[partition] = (len(self.acknowledged[partition]), now)
            assert longest < 30, "writes do not go on"
            time.sleep(0.002)
            now = time.monotonic()
        return longest

    def stop(self) -> None:
        """No more; all that was sent must have been acknowledged."""
        self._ended.set()
        self._thread.join(120)
        assert not self._thread.is_alive()
        assert not self.failed, self.failed[:3]

    def check(self) -> None:
        """Hold the log against what was acknowledged."""
        for partition, acknowledged in self.acknowledged.items():
            found = everything(self._cluster, self._topic, partition)
            values = [value for _, value in found]
            wrong = next((i for i, value in enumerate(values) if value != i), None)
            assert wrong is None, (
                f"partition {partition} is not in order: (offset, number) "
                f"{found[max(wrong - 3, 0) : wrong + 5]}, "
                f"{len(set(values))} different of {len(values)}"
            )
            lost = [(o, v) for o, v in set(acknowledged) - set(found) if o >= 0 or v >= len(values)]
            assert not lost, f"partition {partition}: {lost[:5]}"
            assert len(values) >= len(acknowledged)


class Load(AnyLoad):
    """Written by librdkafka."""

    client = "confluent-kafka"

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failed.append(str(error))
            return
        partition, offset, value = message.partition(), message.offset(), message.value()
        assert partition is not None and value is not None
        # Of a batch that was sent again the client may not know the offset.
        self.acknowledged[partition].append((-1 if offset is None else offset, int(value)))

    def _run(self) -> None:
        made = producer(self._cluster)
        while not self._ended.is_set():
            for partition in range(self._partitions):
                self._send(made, partition, b"%d" % self.sent)
            self.sent += 1
            made.poll(0.002)
        made.flush(90)

    def _send(self, made: Producer, partition: int, value: bytes) -> None:
        while True:
            try:
                made.produce(self._topic, value, partition=partition, on_delivery=self._delivered)
            except BufferError:
                made.poll(0.05)
            else:
                return


class AiokafkaLoad(AnyLoad):
    """Written by aiokafka, in a loop of its own."""

    client = "aiokafka"
    ahead: ClassVar[int] = 2000
    """Numbers that may wait for their acknowledgement."""

    def _run(self) -> None:
        try:
            asyncio.run(self._write())
        except Exception as error:  # noqa: BLE001 - told to the test
            self.failed.append(repr(error))

    async def _write(self) -> None:
        made = AIOKafkaProducer(
            bootstrap_servers=self._cluster.bootstrap,
            enable_idempotence=True,
            acks="all",
            linger_ms=2,
            retry_backoff_ms=20,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            metadata_max_age_ms=1000,
        )
        # It gives up on a batch of that age when nobody leads at that moment; there is no setting.
        made._message_accumulator._batch_ttl = DELIVERY_TIMEOUT_MS / 1000
        await made.start()
        try:
            while not self._ended.is_set():
                if self.count() + self.ahead * self._partitions > self.sent * self._partitions:
                    for partition in range(self._partitions):
                        await self._send(made, partition, self.sent)
                    self.sent += 1
                await asyncio.sleep(0.002)
            async with asyncio.timeout(90):
                await made.flush()
        finally:
            await made.stop()

    async def _send(self, made: AIOKafkaProducer, partition: int, number: int) -> None:
        def delivered(done: asyncio.Future[RecordMetadata]) -> None:
            if done.cancelled() or done.exception() is not None:
                self.failed.append(repr(None if done.cancelled() else done.exception()))
            else:
                self.acknowledged[partition].append((done.result().offset, number))

        while True:
            try:
                written = await made.send(self._topic, b"%d" % number, partition=partition)
            except KafkaTimeoutError:
                continue  # no room for more: it was not taken
            written.add_done_callback(delivered)
            return


class Replicated(Brokers, Protocol):
    """A cluster whose replicas can be looked at."""

    def in_sync(self, topic: str, partitions: int) -> None: ...

    def replicas_equal(self, topic: str, partitions: int) -> int: ...


@contextmanager
def loaded(cluster: Replicated, topic: str, partitions: int = 3) -> Iterator[Load]:
    """Load on a topic while the block runs; afterwards nothing is lost, doubled or out of order,
    and all replicas are the same.
    """
    load = Load(cluster, topic, partitions)
    try:
        load.go_on(20)
        yield load
        load.go_on(20)
    finally:
        load.stop()
    load.check()
    cluster.in_sync(topic, partitions)
    cluster.replicas_equal(topic, partitions)


def everything(cluster: Brokers, topic: str, partition: int) -> list[tuple[int, int]]:
    """(offset, number) of a partition's records, read to the end."""
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "reader"})
    try:
        place = TopicPartition(topic, partition, 0)
        _, end = consumer.get_watermark_offsets(place, 10)
        consumer.assign([place])
        found: list[tuple[int, int]] = []
        deadline = time.monotonic() + 60
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
