"""Kill tests: `python -m tests.e2e.kill [--rounds N] [--seed S]` and `... --start-time [--gib N]`.

While three writers produce, the broker gets SIGKILL at random moments, sometimes during its own
start. After each restart every acknowledged record must be there once and in order.

* librdkafka, idempotent, acks=all: retries by itself; the log must hold 0, 1, 2, ... without a gap.
* raw, idempotent, acks=1, five requests under way: sends again after a lost connection; the same.
* raw, not idempotent, acks=1: never sends again; what was acknowledged must be at its offset, and
  no record may be there twice.
"""

import argparse
import random
import re
import struct
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from protocol.messages.init_producer_id import InitProducerIdRequest
from protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.bench import requests
from tests.bench.cases import Target
from tests.kit.server import Server
from tests.kit.wire import ConnectionClosed, NoAnswer, Wire, batch

TOPIC = "kill"
LIBRDKAFKA_PARTITIONS = (0, 1, 2)
RAW_PARTITION = 3
PLAIN_PARTITION = 4
DEPTH = 5
RETRIABLE = {3, 5, 6, 7, 14, 15, 16, 56}
DUPLICATE = 46
RECOVERY = re.compile(r"recover|unclean", re.IGNORECASE)
DEADLINE = 60.0


class Lost(AssertionError):
    """An acknowledged record is missing, doubled or out of order."""


@dataclass(slots=True)
class Ledger:
    """What one partition's writer was promised, and what the log was seen to hold."""

    partition: int
    gapless: bool
    promises: dict[int, int] = field(default_factory=dict)
    """offset -> number, acknowledged and not yet held against the log"""
    log: list[int] = field(default_factory=list)
    """the numbers in the log, by offset, as far as it was read"""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def promise(self, offset: int, number: int) -> None:
        """The broker acknowledged record `number` at `offset`."""
        with self.lock:
            self.promises[offset] = number

    def see(self, offset: int, number: int) -> None:
        """The log holds `number` at `offset`; called in the order of the log."""
        where = f"partition {self.partition}, offset {offset}"
        last = self.log[-1] if self.log else -1
        if offset != len(self.log):
            raise Lost(f"{where}: follows offset {len(self.log) - 1}")
        if number <= last or (self.gapless and number != last + 1):
            raise Lost(f"{where}: record {number} follows record {last}")
        self.log.append(number)

    def settle(self, promised: dict[int, int]) -> None:
        """Hold promises against what was read."""
        for offset, number in promised.items():
            found = self.log[offset] if 0 <= offset < len(self.log) else None
            if found != number:
                raise Lost(
                    f"partition {self.partition}: record {number} was acknowledged at offset "
                    f"{offset}, the log has {found}"
                )
            with self.lock:
                del self.promises[offset]

    def promised(self) -> dict[int, int]:
        """What the log must hold by now."""
        with self.lock:
            return dict(self.promises)


def value_of(number: int) -> bytes:
    """A record's value: its number and some bytes that depend on it."""
    return b"%d:" % number + b"x" * (number * 7 % 200)


def number_of(value: bytes | str | None) -> int:
    """The other way round; raises `Lost` when the value is not one of ours."""
    data = value.encode() if isinstance(value, str) else value or b""
    number = int(data.partition(b":")[0])
    if data != value_of(number):
        raise Lost(f"record {number} has other bytes than were sent")
    return number


class Writer(threading.Thread, ABC):
    """A producer that goes on through the broker's deaths until told to stop."""

    def __init__(self, bootstrap: str, ledgers: dict[int, Ledger]) -> None:
        super().__init__(daemon=True)
        self.bootstrap = bootstrap
        self.ledgers = ledgers
        self.ending = threading.Event()
        self.failure: BaseException | None = None
        self.sent = 0

    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 - raised again by end()
            self.failure = error

    @abstractmethod
    def work(self) -> None:
        """Until `ending` is set."""

    def end(self) -> None:
        """Stop, and raise what went wrong in the thread."""
        self.ending.set()
        self.join(DEADLINE)
        if self.is_alive():
            raise Lost(f"{type(self).__name__} did not end: records were never acknowledged")
        if self.failure is not None:
            raise self.failure


class LibrdkafkaWriter(Writer):
    """confluent-kafka, idempotent, acks=all."""

    def work(self) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 1,
                "message.timeout.ms": 300_000,
                "reconnect.backoff.ms": 10,
                "reconnect.backoff.max.ms": 100,
                "retry.backoff.ms": 20,
                "retry.backoff.max.ms": 100,
                "queue.buffering.max.messages": 5000,
                "log_level": 0,
            }
        )
        counts = dict.fromkeys(LIBRDKAFKA_PARTITIONS, 0)
        turn = 0
        while not self.ending.is_set():
            partition = LIBRDKAFKA_PARTITIONS[turn % len(LIBRDKAFKA_PARTITIONS)]
            turn += 1
            number = counts[partition]
            try:
                producer.produce(
                    TOPIC,
                    value_of(number),
                    partition=partition,
                    on_delivery=self._delivered(partition, number),
                )
            except BufferError:
                producer.poll(0.01)
                continue
            counts[partition] += 1
            self.sent += 1
            producer.poll(0.005 if turn % 20 == 0 else 0)
            if self.failure is not None:
                return
        left = producer.flush(DEADLINE)
        if left:
            raise Lost(f"{left} records of the idempotent producer were never acknowledged")

    def _delivered(
        self, partition: int, number: int
    ) -> Callable[[KafkaError | None, Message], None]:
        def callback(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.failure = self.failure or Lost(f"delivery failed: {error.str()}")
                return
            offset = message.offset()
            # a "duplicate" answer need not tell the offset; records of this writer are without
            # gaps, so that it must be the number
            if offset is None or offset < 0:
                offset = number
            self.ledgers[partition].promise(offset, number)

        return callback


class RawWriter(Writer):
    """Batches of one to four records over a raw socket with acks=1, `DEPTH` requests under way.

    An idempotent one sends what was not acknowledged again, with the same sequence numbers.
    """

    def __init__(self, bootstrap: str, ledger: Ledger, *, idempotent: bool) -> None:
        super().__init__(bootstrap, {ledger.partition: ledger})
        self.ledger = ledger
        self.idempotent = idempotent
        self.producer_id = self.epoch = -1
        self.waiting: list[tuple[int, int]] = []  # (first number, count), oldest first
        self.next = 0
        self.known = not idempotent
        self.errors: list[int] = []

    def work(self) -> None:
        while not (self.ending.is_set() and (not self.waiting or not self.idempotent)):
            try:
                with Wire(self.bootstrap, timeout=20) as wire:
                    self._session(wire)
            except (ConnectionClosed, ConnectionError, NoAnswer):
                if not self.idempotent:
                    self.waiting.clear()
                # the broker is down for some tenths of a second
                self.ending.wait(0.01)

    def _session(self, wire: Wire) -> None:
        if self.idempotent and self.producer_id < 0:
            answer = wire.call(
                InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000), 4
            )
            if answer.error_code in RETRIABLE:
                self.ending.wait(0.02)
                return
            assert answer.error_code == 0, answer
            self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
        under_way = 0
        for first, count in self.waiting:
            self._send(wire, first, count)
            under_way += 1
        while self.waiting or not self.ending.is_set():
            # a new producer id may begin at any sequence number: nothing may overtake its first
            depth = DEPTH if self.known else 1
            while under_way < depth and not self.ending.is_set():
                count = 1 + self.next % 4
                self._send(wire, self.next, count)
                self.waiting.append((self.next, count))
                self.next += count
                self.sent += count
                under_way += 1
            if not under_way:
                return
            answer = wire.receive().responses[0].partition_responses[0]
            under_way -= 1
            if not self._acknowledged(answer):
                raise ConnectionClosed("send again")

    def _acknowledged(self, answer: Any) -> bool:
        first, count = self.waiting[0]
        if answer.error_code in RETRIABLE:
            self.errors.append(answer.error_code)
            self.ending.wait(0.02)
            return False
        if answer.error_code not in (0, DUPLICATE):
            raise Lost(f"Produce of records {first}.. was refused: {answer}")
        self.waiting.pop(0)
        self.known = True
        if answer.error_code == 0:
            for step in range(count):
                self.ledger.promise(answer.base_offset + step, first + step)
        return True

    def _send(self, wire: Wire, first: int, count: int) -> None:
        records = batch(
            [value_of(number) for number in range(first, first + count)],
            timestamp=time.time_ns() // 1_000_000,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            base_sequence=first if self.idempotent else -1,
        )
        part = PartitionProduceData(index=self.ledger.partition, records=memoryview(records))
        data = TopicProduceData(name=TOPIC, partition_data=[part])
        wire.send(ProduceRequest(acks=1, timeout_ms=5000, topic_data=[data]), 8)


def verify(bootstrap: str, ledgers: dict[int, Ledger]) -> int:
    """Read what was added since the last time and hold the promises against it; records read."""
    promised = {partition: ledger.promised() for partition, ledger in ledgers.items()}
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 20,
        }
    )
    try:
        ends = {}
        for partition, ledger in ledgers.items():
            place = TopicPartition(TOPIC, partition)
            end = _end_of(consumer, place)
            if end > len(ledger.log):
                ends[partition] = end
        consumer.assign([TopicPartition(TOPIC, p, len(ledgers[p].log)) for p in ends])
        total = _read(consumer, ledgers, ends)
    finally:
        consumer.close()
    for partition, ledger in ledgers.items():
        ledger.settle(promised[partition])
    return total


def _end_of(consumer: Consumer, place: TopicPartition) -> int:
    """The log end; asks again while the broker that just started is not the leader yet."""
    limit = time.monotonic() + DEADLINE
    while True:
        try:
            _, end = consumer.get_watermark_offsets(place, timeout=DEADLINE)
            return int(end)
        except KafkaException as error:
            if time.monotonic() > limit or error.args[0].code() not in RETRIABLE:
                raise
            time.sleep(0.02)


def _read(consumer: Consumer, ledgers: dict[int, Ledger], ends: dict[int, int]) -> int:
    total = 0
    limit = time.monotonic() + DEADLINE
    while any(len(ledgers[partition].log) < end for partition, end in ends.items()):
        if time.monotonic() > limit:
            raise Lost("the log cannot be read up to its end")
        for message in consumer.consume(10_000, 0.2):
            error = message.error()
            if error is not None:
                raise KafkaException(error)
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None
            ledgers[partition].see(offset, number_of(message.value()))
            total += 1
    return total


@dataclass(slots=True)
class Report:
    """What a run came to."""

    rounds: int = 0
    kills_in_start: int = 0
    records: int = 0
    start_seconds: list[float] = field(default_factory=list)


def create_topic(bootstrap: str) -> None:
    """Small segments, so that kills also meet rolls."""
    configs = [CreatableTopicConfig(name="segment.bytes", value="1048576")]
    new = CreatableTopic(name=TOPIC, num_partitions=5, replication_factor=1, configs=configs)
    with Wire(bootstrap, timeout=30) as wire:
        answer = wire.call(CreateTopicsRequest(topics=[new], timeout_ms=30_000), 5)
    assert [topic.error_code for topic in answer.topics] == [0], answer


def run(
    server: Server, rounds: int, seed: int, tell: Callable[[str], None] = lambda line: None
) -> Report:
    """`rounds` kills of a started server under load; raises `Lost` or what a writer met."""
    chance = random.Random(seed)
    report = Report()
    create_topic(server.bootstrap)
    ledgers = {p: Ledger(p, p != PLAIN_PARTITION) for p in range(5)}
    writers = [
        LibrdkafkaWriter(server.bootstrap, ledgers),
        RawWriter(server.bootstrap, ledgers[RAW_PARTITION], idempotent=True),
        RawWriter(server.bootstrap, ledgers[PLAIN_PARTITION], idempotent=False),
    ]
    for writer in writers:
        writer.start()
    for number in range(rounds):
        time.sleep(chance.uniform(0.05, 0.9))
        logged = len(server.log_text())
        server.kill()
        report.rounds += 1
        if chance.random() < 0.2:
            _kill_in_start(server, chance.uniform(0.02, 0.4))
            report.kills_in_start += 1
        took = server.start()
        report.start_seconds.append(took)
        if not RECOVERY.search(server.log_text()[logged:]):
            raise Lost("the log has no word of recovery after a kill")
        read = verify(server.bootstrap, ledgers)
        report.records += read
        tell(f"round {number + 1}: ready in {took:.2f} s, {read} more records")
        for writer in writers:
            if writer.failure is not None:
                raise writer.failure
    for writer in writers:
        writer.end()
    report.records += verify(server.bootstrap, ledgers)
    for partition, ledger in ledgers.items():
        if not ledger.log:
            raise Lost(f"nothing was ever written to partition {partition}")
    return report


def _kill_in_start(server: Server, after: float) -> None:
    """Start, and SIGKILL after some hundredths of a second, ready or not."""

    def kill() -> None:
        if server.process is not None:
            server.process.kill()

    timer = threading.Timer(after, kill)
    timer.start()
    try:
        server.start()
    except AssertionError:
        pass  # it was killed before it was ready
    timer.join()
    server.kill()


def measure_start(gib: float, partitions: int, tell: Callable[[str], None]) -> list[float]:
    """Start after SIGKILL with `gib` GiB of log: batches of 170 bytes, then of 1 MiB; seconds."""
    took = []
    for name, kind in (("170-byte batches", _fill_small), ("1 MiB batches", _fill_large)):
        with tempfile.TemporaryDirectory(prefix="odradek-kill-") as folder:
            server = Server(Path(folder) / "data")
            server.start()
            target = Target(server.bootstrap, server.pid)
            target.create(TOPIC, partitions, {"max.message.bytes": "2097152"})
            kind(target, int(gib * (1 << 30)), partitions)
            end = target.end_offset(TOPIC)
            server.kill()
            took.append(server.start(120))
            assert Target(server.bootstrap, server.pid).end_offset(TOPIC) == end
            tell(
                f"{gib:g} GiB in {partitions} partition(s) of {name}: "
                f"ready in {took[-1]:.2f} s after a kill"
            )
            server.stop()
    return took


def _fill_small(target: Target, size: int, partitions: int) -> None:
    each = len(batch([requests.RECORD], timestamp=0)) * partitions
    while target.end_offset(TOPIC) * each < size:
        target.job(
            "pipelined",
            TOPIC,
            partitions=partitions,
            connections=20,
            depth=5,
            warm_up=0,
            seconds=2.0,
        )


def _fill_large(target: Target, size: int, partitions: int) -> None:
    data = requests.large_batch(requests.MIB)
    (delta,) = struct.unpack_from(">i", data, 23)
    with Wire(target.bootstrap, timeout=60) as wire:
        for number in range(size // len(data)):
            part = PartitionProduceData(index=number % partitions, records=memoryview(data))
            produce = TopicProduceData(name=TOPIC, partition_data=[part])
            answer = wire.call(ProduceRequest(acks=1, timeout_ms=9000, topic_data=[produce]), 9)
            (done,) = answer.responses[0].partition_responses
            assert (done.error_code, done.base_offset) == (0, number // partitions * (delta + 1))


def main() -> int:
    """Exit status 1 when something was lost or a start took too long."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.kill", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--start-time", action="store_true", help="measure the start instead")
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for a start")
    options = parser.parse_args()
    tell: Callable[[str], None] = lambda line: print(line, flush=True)  # noqa: E731
    if options.start_time:
        took = measure_start(options.gib, options.partitions, tell)
        return 1 if max(took) > options.budget else 0
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="odradek-kill-") as folder:
        server = Server(Path(folder) / "data")
        server.start()
        try:
            report = run(server, options.rounds, options.seed, tell)
        except Lost as error:
            print(f"LOST: {error}\n{server.log_text()[-3000:]}")
            return 1
        finally:
            server.stop()
    print(
        f"{report.rounds} kills and {report.kills_in_start} during a start: all acknowledged "
        f"records of {report.records} were there once and in order; starts took at most "
        f"{max(report.start_seconds):.2f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
