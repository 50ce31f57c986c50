"""`python -m tests.e2e.mixed [--scene NAME]... [--rounds N]`: two brokers of Apache Kafka and one
of Odradek in one cluster on a real ZooKeeper, each sort of work shared between them.

Scenes about records: `replication`, `leadership`, `isr`, `shutdown`, `groups`, `transactions`;
about the cluster (tests.e2e.mixed_admin): `controller`, `agreement`, `tools`, `moves`.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer

from protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from storage.dump import dump
from tests.e2e import mixed_admin
from tests.e2e.corpus import base_timestamp, corpus
from tests.e2e.load import everything, loaded, producer
from tests.e2e.transactional_load import TransactionalLoad
from tests.kit import asking, zookeeper
from tests.kit.asking import produce
from tests.kit.mixed import KAFKA, ODRADEK, MixedCluster
from tests.kit.wire import Wire, batch

KINDS = {0: KAFKA, 1: KAFKA, 2: ODRADEK}
SETTINGS = {"transaction.state.log.num.partitions": "3"}
"""As many partitions of the internal topics as brokers: each coordinates something."""
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
PARTITIONS = 3
DUMP_LOG = "kafka.tools.DumpLogSegments"

Tell = Callable[[str], None]


# --- the scenes -----------------------------------------------------------------------------------


def replication(cluster: MixedCluster, tell: Tell) -> None:
    """Every codec, stamped records, small segments, deleted records: byte-equal on all brokers."""
    cluster.create_led("codecs", {"segment.bytes": "200000"})
    cluster.create_led(
        "stamped", {"message.timestamp.type": "LogAppendTime", "segment.bytes": "500"}
    )
    failed: list[Any] = []
    for codec in CODECS:
        given = {"compression.type": codec, "linger.ms": 20, "batch.size": 50_000}
        client = producer(cluster, **given)
        for item in corpus(7, PARTITIONS, 90):
            client.produce(
                "codecs", item.value, item.key, partition=item.partition,
                timestamp=item.timestamp, headers=list(item.headers),
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )  # fmt: skip
        assert client.flush(60) == 0 and not failed, failed
    for broker_id in cluster.brokers:
        with Wire(cluster.brokers[broker_id].bootstrap, timeout=30) as wire:
            for number in range(20):
                records = batch([b"s%d" % number], timestamp=number)
                assert not produce(wire, ("stamped", broker_id), records).error_code
            wanted = [DeleteRecordsTopic("stamped", [DeleteRecordsPartition(broker_id, 13)])]
            answer = wire.call(DeleteRecordsRequest(wanted, 20_000), 2)
            assert answer.topics[0].partitions[0].low_watermark == 13, answer
    total = cluster.replicas_equal("codecs", PARTITIONS)
    base = base_timestamp()
    times = (asking.EARLIEST, asking.LATEST, asking.LARGEST, 0, base - 5_000, base + 40_000)
    for partition in range(PARTITIONS):
        _same_offsets(cluster, "codecs", partition, times)
        # By time Apache Kafka 3.9 finds nothing while a segment below the log's start is there.
        _same_offsets(cluster, "stamped", partition, times[:3])
    files = [*cluster.data_dir(2).glob("codecs-*/*.*"), *cluster.data_dir(0).glob("codecs-*/*.log")]
    known = [str(f) for f in files if f.suffix in {".log", ".index", ".timeindex"}]
    _dumped(cluster, known)
    tell(f"replication: {total} bytes of all codecs are equal on all brokers")


def _same_offsets(cluster: MixedCluster, topic: str, partition: int, times: Sequence[int]) -> None:
    """Each replica, asked by itself, finds the same offsets."""

    def found(broker_id: int) -> list[Any]:
        with Wire(cluster.brokers[broker_id].bootstrap, timeout=30) as wire:
            place = (topic, partition)
            return [asking.offset_at(wire, place, t, replica=asking.DEBUGGER)[:3] for t in times]

    cluster.alike(f"replicas of {topic}-{partition}", found)


def _dumped(cluster: MixedCluster, files: Sequence[str]) -> None:
    """Both kinds' tools read the files and have nothing to say against them."""
    with open(cluster.path / "dump.txt", "w") as out:
        assert dump(["--deep-iteration", *(f for f in files if f.endswith(".log"))], out) == 0
    printed = cluster.run(DUMP_LOG, "--deep-iteration", "--files", ",".join(files))
    wrong = [w for w in ("Mismatches", "not found", "Found", "isvalid: false") if w in printed]
    assert not wrong and "isvalid: true" in printed, f"{wrong}: {printed[:3000]}"


def leadership(cluster: MixedCluster, tell: Tell) -> None:
    """Leadership goes to Odradek and back under load; each leader knows the producers of the one
    before."""
    cluster.create_led("led")
    cluster.create_led("numbered")
    with Wire(cluster.brokers[0].bootstrap, timeout=30) as wire:
        producer_id, epoch = asking.new_producer(wire)
    with loaded(cluster, "led") as load:
        for number, leader in enumerate((2, 0, 2, 1)):
            cluster.lead("led", leader)
            load.go_on(100)
            cluster.lead("numbered", leader)
            with Wire(cluster.brokers[leader].bootstrap, timeout=30) as wire:
                for sequence in (max(number - 1, 0), number):
                    records = batch([b"n"], timestamp=1, producer_id=producer_id,
                                    producer_epoch=epoch, base_sequence=sequence)  # fmt: skip
                    answer = produce(wire, ("numbered", 0), records)
                    assert (answer.error_code, answer.base_offset) == (0, sequence), answer
        tell(f"leadership: {load.count()} records while it moved 4 times")


def isr(cluster: MixedCluster, tell: Tell) -> None:
    """A follower of each kind hangs, leaves the ISR of the other kind, and comes back."""
    cluster.create_led("shrunk")
    with loaded(cluster, "shrunk") as load:
        for paused, leader, controllers in ((1, 2, (0,)), (1, 2, (2,)), (2, 0, (0, 1))):
            cluster.control(controllers)
            cluster.lead("shrunk", leader)
            cluster.pause(paused)
            try:
                cluster.until(
                    f"{paused} is out of the ISR",
                    lambda paused=paused, leader=leader: (
                        not any(  # type: ignore[misc]
                            paused in p.isr_nodes
                            for p in cluster.metadata_of(leader, "shrunk").topics[0].partitions
                        )
                    ),
                )
                load.go_on(50)
            finally:
                cluster.resume(paused)
            cluster.in_sync("shrunk", PARTITIONS)
        tell(f"isr: shrunk and grown 3 times, {load.count()} records")


def shutdown(cluster: MixedCluster, tell: Tell) -> None:
    """A controlled stop of either kind, under a controller of either kind, itself included."""
    cluster.create_led("stopped")
    with loaded(cluster, "stopped") as load:
        for stopped, controller in ((1, 0), (2, 0), (1, 2), (2, 2), (0, 0)):
            cluster.control({controller})
            cluster.lead("stopped", stopped)
            broker = cluster.brokers[stopped]
            assert broker.process is not None
            broker.process.send_signal(signal.SIGTERM)
            longest = load.longest_pause(broker.process)
            broker.stop()
            leaders = set(cluster.leaders("stopped").values())
            assert not leaders & {-1, stopped}, leaders
            cluster.restart(stopped)
            cluster.in_sync("stopped", PARTITIONS)
            kinds = f"{cluster.kinds[stopped]} under {cluster.kinds[controller]}"
            tell(f"shutdown: {kinds}: writes stood still for {longest:.2f} s")


def groups(cluster: MixedCluster, tell: Tell) -> None:
    """Groups whose coordinators are on each broker read on when those stop and are killed."""
    cluster.create_led("read")
    with loaded(cluster, "read") as load:
        load.go_on(200)
    written = {p: [o for o, _ in everything(cluster, "read", p)] for p in range(PARTITIONS)}
    for number, way in enumerate(("stop", "kill")):
        for coordinator in cluster.brokers:
            group = _coordinated(cluster, coordinator, f"group-{number}")
            _read_on(cluster, group, coordinator, way, written)
    cluster.in_sync("__consumer_offsets", 3)
    total = cluster.replicas_equal("__consumer_offsets", 3)
    tell(f"groups: 6 coordinators lost, offsets topic {total} bytes, equal on all brokers")


def _coordinated(
    cluster: MixedCluster, broker_id: int, prefix: str, kind: int = asking.GROUP
) -> str:
    """The first name with that prefix that a broker coordinates."""
    with Wire(cluster.brokers[broker_id].bootstrap, timeout=30) as wire:
        asking.coordinator(wire, prefix, kind)  # makes the internal topic
        internal = "__consumer_offsets" if kind == asking.GROUP else "__transaction_state"
        count = len(cluster.leaders(internal))
        cluster.in_sync(internal, count)
        cluster.elect(internal)
        for number in range(200):
            if asking.coordinator(wire, f"{prefix}-{number}", kind) == broker_id:
                return f"{prefix}-{number}"
    raise AssertionError(f"broker {broker_id} coordinates nothing")


def _read_on(
    cluster: MixedCluster,
    group: str,
    coordinator: int,
    way: str,
    written: Mapping[int, Sequence[int]],
) -> None:
    """One member reads; half way its coordinator goes. Nothing that was committed is read again."""
    consumer = Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 45_000,
            "reconnect.backoff.max.ms": 200,
            "log_level": 2,
        }
    )
    found: dict[int, list[int]] = {partition: [] for partition in written}
    half = sum(map(len, written.values())) // 2
    broker = cluster.brokers[coordinator]
    try:
        consumer.subscribe(["read"])
        _read(consumer, found, half)
        if way == "stop":
            broker.stop()
        else:
            broker.kill()
        _read(consumer, found, 2 * half)
    finally:
        consumer.close()
        cluster.restart(coordinator)
    assert found == {p: list(offsets) for p, offsets in written.items()}, group
    cluster.in_sync("__consumer_offsets", 3)


def _read(consumer: Consumer, found: dict[int, list[int]], count: int) -> None:
    """Until so many records were read; each is committed before the next ones are asked for."""
    end = time.monotonic() + 60
    while sum(map(len, found.values())) < count:
        assert time.monotonic() < end, f"{found} of {count}"
        messages = [m for m in consumer.consume(50, 0.5) if m.error() is None]
        for message in messages:
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None
            found[partition].append(offset)
        if messages:
            mixed_admin.persist(lambda: consumer.commit(asynchronous=False))


def transactions(cluster: MixedCluster, tell: Tell) -> None:
    """Transactions over partitions led by all brokers, coordinated by each kind; coordinators are
    stopped and killed while they run."""
    cluster.create_led("atomic")
    cluster.elect("atomic")
    for coordinator in cluster.brokers:
        name = _coordinated(cluster, coordinator, "txn", asking.TRANSACTION)
        load = TransactionalLoad(cluster, "atomic", PARTITIONS, name)
        try:
            load.go_on(10)
            for way in ("stop", "kill"):
                broker = cluster.brokers[coordinator]
                if way == "stop":
                    broker.stop()
                else:
                    broker.kill()
                load.go_on(5)
                cluster.restart(coordinator)
                cluster.in_sync("atomic", PARTITIONS)
                cluster.in_sync("__transaction_state", PARTITIONS)
                cluster.elect("__transaction_state")
                cluster.elect("atomic")
                load.go_on(5)
        finally:
            load.stop()
        load.check()
        told = f"{len(load.committed)} committed, {len(load.aborted)} aborted"
        tell(f"transactions coordinated by {cluster.kinds[coordinator]}: {told}")
    for topic in ("atomic", "__transaction_state"):
        cluster.in_sync(topic, PARTITIONS)
        cluster.replicas_equal(topic, PARTITIONS)


SCENES: Mapping[str, Callable[[MixedCluster, Tell], None]] = {
    "replication": replication,
    "leadership": leadership,
    "agreement": mixed_admin.agreement,
    "controller": mixed_admin.controller,
    "tools": mixed_admin.tools,
    "moves": mixed_admin.moves,
    "isr": isr,
    "shutdown": shutdown,
    "groups": groups,
    "transactions": transactions,
}


def run(path: Path, scenes: Sequence[str], *, tell: Tell = print) -> None:
    """Scenes on one cluster; an AssertionError where something does not hold."""
    with ExitStack() as stack:
        connect = zookeeper.standalone().address + zookeeper.chroot()
        cluster = MixedCluster(path, connect, KINDS, SETTINGS)
        stack.callback(cluster.end)
        began = time.monotonic()
        cluster.start()
        tell(f"started in {time.monotonic() - began:.1f} s")
        for name in scenes:
            began = time.monotonic()
            SCENES[name](cluster, tell)
            tell(f"{name}: {time.monotonic() - began:.1f} s")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.mixed")
    parser.add_argument("--scene", action="append", choices=list(SCENES))
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as directory:
            run(Path(directory), options.scene or list(SCENES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
