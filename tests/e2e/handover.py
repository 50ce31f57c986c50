"""`python -m tests.e2e.handover [--from KIND]... [--end WAY]...`: a data directory written by one
kind of broker is opened by the other with the same ZooKeeper tree, and then by the first again.

Each time the broker is ended by a clean stop or by SIGKILL, and the next one must say the same of
everything: batches byte for byte, offsets, timestamps, leader epochs, producers' states, aborted
and open transactions, committed offsets, groups; and it must go on from there: a batch sent again
is known, a transaction that was open is ended, a member is still one, new records follow.
"""

import argparse
import itertools
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from compat.reference import SMALL
from protocol.errors import ErrorCode
from protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from tests.e2e.corpus import base_timestamp, by_partition, corpus
from tests.e2e.load import producer
from tests.kit import asking, zookeeper
from tests.kit.asking import GroupMember, Place, Transaction, commit_offsets, produce
from tests.kit.mixed import KAFKA, ODRADEK, MixedCluster
from tests.kit.wire import Wire, batch

BROKER = 1
STOP, KILL = "stop", "kill"
EPOCHS = 8
"""More than a run comes to."""
TRANSACTIONAL = 0x10
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
TOPICS: Mapping[str, Mapping[str, str]] = {
    **{name: {"segment.bytes": "100000"} for name in CODECS},
    "stamped": {"message.timestamp.type": "LogAppendTime"},
    "compacted": {
        "cleanup.policy": "compact",
        "segment.bytes": "2000",
        "min.cleanable.dirty.ratio": "0.01",
    },
    "trimmed": {"segment.bytes": "1000"},
    "decided": {},
    "open": {},
    "idempotent": {"segment.bytes": "500"},
}
SETTINGS = {
    **SMALL,
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "log.cleaner.backoff.ms": "100",
    "log.flush.offset.checkpoint.interval.ms": "200",
    "log.flush.start.offset.checkpoint.interval.ms": "200",
    "log.initial.task.delay.ms": "200",
    "log.retention.ms": "-1",
    "producer.id.expiration.ms": "86400000",
}
COMPLAINT = re.compile(
    r" (WARN|ERROR|FATAL) (kafka\.log|org\.apache\.kafka\.storage)"
    r"|\] (WARNING|ERROR|CRITICAL) .*\(storage\."
)
"""What neither kind of broker has a reason to log when it opens what was closed in order."""


class Content:
    """What was written, and what is to be asked for again."""

    def __init__(self) -> None:
        self.base = base_timestamp()
        self.places: list[Place] = [(name, 0) for name in TOPICS]
        self.last_batch = b""
        self.last_offset = -1
        self.idempotent: tuple[int, int]
        self.member: GroupMember
        self.pending: dict[str, Transaction] = {}
        self.ids: set[int] = set()
        self._round = itertools.count()

    def write_all(self, cluster: MixedCluster, wire: Wire) -> None:
        """All topics, and something of each sort in them."""
        _create(wire)
        asking.coordinator(wire, "plain", asking.GROUP)
        asking.coordinator(wire, "decided", asking.TRANSACTION)
        for codec in CODECS:
            _compressed(cluster, codec)
        for number in range(20):
            assert not produce(wire, ("stamped", 0), batch([b"x"], timestamp=self.base)).error_code
            records = batch([b"v%d" % number] * 5, timestamp=self.base + number)
            assert not produce(wire, ("trimmed", 0), records).error_code
        wanted = [DeleteRecordsTopic("trimmed", [DeleteRecordsPartition(0, 42)])]
        answer = wire.call(DeleteRecordsRequest(wanted, 20_000), 2)
        assert answer.topics[0].partitions[0].low_watermark == 42, answer
        self.member = GroupMember(wire, "live")
        self.write_more(wire)

    def write_more(self, wire: Wire) -> None:
        """Of what depends on state: keys again, transactions, a producer's sequence, offsets."""
        number = next(self._round)
        for index in range(120):
            key, value = b"k%d" % (index % 7), b"v%d-%d" % (number, index)
            if index % 10 == 0:
                # So that cleaning empties no segment: of an empty one Apache Kafka 3.9 takes the
                # file's age for its records', and finds nothing by a time before it.
                key = b"only-%d-%d" % (number, index)
            values = [None if index % 31 == 30 else value]
            records = batch(values, key=key, timestamp=self.base + index)
            assert not produce(wire, ("compacted", 0), records).error_code
        self._decided(wire, number)
        self._open(wire, number)
        self._sequence(wire, number)
        commit_offsets(wire, "plain", {("none", 0): 10 + number, ("gzip", 0): 3}, f"m{number}")

    def _decided(self, wire: Wire, number: int) -> None:
        for commit in (True, False, True):
            transaction = Transaction(wire, "decided")
            self.ids.add(transaction.producer_id)
            transaction.add(wire, ("decided", 0))
            for sequence in range(3):
                self._transactional(wire, transaction, "decided", sequence)
            transaction.commit_offset(wire, "transactional", ("decided", 0), 100 + number)
            transaction.end(wire, commit)
            records = batch([b"between"], timestamp=self.base)
            assert not produce(wire, ("decided", 0), records).error_code

    def _open(self, wire: Wire, number: int) -> None:
        """Two that are under way when the broker ends, begun anew in each round."""
        for name in ("to commit", "to abort"):
            transaction = self.pending[name] = Transaction(wire, name)
            self.ids.add(transaction.producer_id)
            transaction.add(wire, ("open", 0))
            self._transactional(wire, transaction, "open", 0)
            transaction.commit_offset(wire, name, ("open", 0), 200 + number)

    def _transactional(
        self, wire: Wire, transaction: Transaction, topic: str, sequence: int
    ) -> None:
        records = batch(
            [b"t%d" % sequence],
            timestamp=self.base + sequence,
            producer_id=transaction.producer_id,
            producer_epoch=transaction.epoch,
            base_sequence=sequence,
            attributes=TRANSACTIONAL,
        )
        answer = produce(wire, (topic, 0), records, transactional_id=transaction.name)
        assert answer.error_code == ErrorCode.NONE, answer

    def _sequence(self, wire: Wire, number: int) -> None:
        if number == 0:
            self.idempotent = asking.new_producer(wire)
            self.ids.add(self.idempotent[0])
        for index in range(10):
            self.last_batch = self._numbered(10 * number + index)
            answer = produce(wire, ("idempotent", 0), self.last_batch)
            assert answer.error_code == ErrorCode.NONE, answer
            self.last_offset = answer.base_offset

    def _numbered(self, sequence: int) -> bytes:
        return batch(
            [b"n%d" % sequence],
            timestamp=self.base + sequence,
            producer_id=self.idempotent[0],
            producer_epoch=self.idempotent[1],
            base_sequence=sequence,
        )

    def kept(self, wire: Wire) -> dict[str, Any]:
        """All that a broker says of it."""
        times = [self.base + at for at in (0, 1, 7, 5_000, 10**9)]
        found: dict[str, Any] = {
            f"{place[0]}-{place[1]}": asking.partition_kept(wire, place, times, EPOCHS)
            for place in [*self.places, ("__consumer_offsets", 0), ("__transaction_state", 0)]
        }
        groups = ("plain", "live", "transactional", *self.pending)
        found["coordinators"] = asking.coordinators_keep(wire, groups, ["decided", *self.pending])
        return found

    def go_on(self, wire: Wire) -> None:
        """What only a broker can do that has all the state."""
        again = produce(wire, ("idempotent", 0), self.last_batch)
        assert (again.error_code, again.base_offset) == (0, self.last_offset), again
        assert self.member.heartbeat(wire) == ErrorCode.NONE
        gap = produce(wire, ("idempotent", 0), self._numbered(9999))
        assert gap.error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, gap
        for name, transaction in self.pending.items():
            transaction.end(wire, name == "to commit")
        stable = asking.offset_at(wire, ("open", 0), asking.LATEST, committed=True)
        assert stable == asking.offset_at(wire, ("open", 0), asking.LATEST), stable
        fresh, _ = asking.new_producer(wire)
        assert fresh not in self.ids, fresh
        self.ids.add(fresh)
        self.write_more(wire)


def _create(wire: Wire) -> None:
    topics = [
        CreatableTopic(name, 1, 1, configs=[CreatableTopicConfig(*item) for item in given.items()])
        for name, given in TOPICS.items()
    ]
    answer = wire.call(CreateTopicsRequest(topics, 30_000), 5)
    assert not any(topic.error_code for topic in answer.topics), answer


def _compressed(cluster: MixedCluster, codec: str) -> None:
    """Records of every shape by a stock client."""
    failed: list[Any] = []

    def delivered(error: Any, _: Any) -> None:
        if error is not None:
            failed.append(error)

    client = producer(cluster, **{"compression.type": codec, "linger.ms": 20, "batch.size": 50000})
    for item in by_partition(corpus(7, 1, 60))[0]:
        client.produce(
            codec,
            item.value,
            item.key,
            partition=0,
            timestamp=item.timestamp,
            headers=list(item.headers),
            on_delivery=delivered,
        )
    assert client.flush(30) == 0 and not failed, failed


def compacted(cluster: MixedCluster, wire: Wire) -> None:
    """Wait until the log cleaner has nothing more to do in the compacted topic."""
    folder = cluster.data_dir(BROKER) / "compacted-0"
    checkpoint = cluster.data_dir(BROKER) / "cleaner-offset-checkpoint"

    def done() -> bool:
        active = max(int(path.stem) for path in folder.glob("*.log"))
        return checkpoint.exists() and f"compacted 0 {active}\n" in checkpoint.read_text()

    cluster.until("the compacted topic is clean", done, 60)


def trim_is_kept(cluster: MixedCluster) -> None:
    """Wait until the start of the log that was trimmed is on the disk."""
    checkpoint = cluster.data_dir(BROKER) / "log-start-offset-checkpoint"
    cluster.until(
        "the log's start is kept",
        lambda: checkpoint.exists() and "trimmed 0 42\n" in checkpoint.read_text(),
    )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is not the same, path by path."""
    found = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += [f"{name}/{line}" for line in differences(old, new)]
        elif old != new:
            found.append(f"{name}: {str(old)[:1000]} is now {str(new)[:1000]}")
    return found


def hand_over(path: Path, first: str, way: str, *, tell: Callable[[str], None] = print) -> None:
    """From a kind of broker to the other and back; an AssertionError where something is lost."""
    other = ODRADEK if first == KAFKA else KAFKA
    with ExitStack() as stack:
        connect = zookeeper.standalone().address + zookeeper.chroot()
        cluster = MixedCluster(path, connect, {BROKER: first}, SETTINGS)
        stack.callback(cluster.end)
        cluster.start()
        content, identity = Content(), _identity(cluster)
        with Wire(cluster.bootstrap, timeout=30) as wire:
            content.write_all(cluster, wire)
        for kind in (other, first):
            before = _close(cluster, content, way)
            began = time.monotonic()
            printed = len(_log(cluster))
            cluster.restart(BROKER, kind)
            spent = time.monotonic() - began
            with Wire(cluster.bootstrap, timeout=30) as wire:
                lost = differences(before, content.kept(wire))
                assert not lost, f"{kind} after {way}:\n" + "\n".join(lost)
                if way == STOP:
                    _no_complaints(_log(cluster)[printed:] if kind == first else _log(cluster))
                content.go_on(wire)
            assert _identity(cluster) == identity
            tell(f"{kind} opened what was there after {way}: {_size(before)} bytes, {spent:.1f} s")


def _close(cluster: MixedCluster, content: Content, way: str) -> dict[str, Any]:
    """What the broker says of everything, before it is ended."""
    with Wire(cluster.bootstrap, timeout=30) as wire:
        compacted(cluster, wire)
        trim_is_kept(cluster)
        before = content.kept(wire)
    broker = cluster.brokers[BROKER]
    if way == STOP:
        broker.stop()
    else:
        broker.kill()
    return before


def _identity(cluster: MixedCluster) -> set[str]:
    """Whose the directory is: meta.properties without its date."""
    lines = (cluster.data_dir(BROKER) / "meta.properties").read_text().splitlines()
    return {line for line in lines if not line.startswith("#")}


def _log(cluster: MixedCluster) -> str:
    return cluster.brokers[BROKER].log_text()


def _no_complaints(text: str) -> None:
    wrong = [line for line in text.splitlines() if COMPLAINT.search(line)]
    assert not wrong, "\n".join(wrong)


def _size(kept: Mapping[str, Any]) -> int:
    return sum(len(found.get("batches", b"")) for found in kept.values())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.handover")
    parser.add_argument("--from", dest="kinds", action="append", choices=(KAFKA, ODRADEK))
    parser.add_argument("--end", dest="ways", action="append", choices=(STOP, KILL))
    options = parser.parse_args()
    for kind in options.kinds or (KAFKA, ODRADEK):
        for way in options.ways or (STOP, KILL):
            with tempfile.TemporaryDirectory() as directory:
                hand_over(Path(directory), kind, way)
    return 0


if __name__ == "__main__":
    sys.exit(main())
