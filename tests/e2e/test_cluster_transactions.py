"""Transactions over three brokers: partitions, coordinators and the group's offsets are led by
different ones, and brokers die in between."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, Producer
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient

from broker.cluster.view import OFFSETS_TOPIC, TRANSACTIONS_TOPIC
from broker.config import TopicSpec
from broker.transactions.state import State, Transaction
from protocol.batch import batches, end_txn_marker
from tests.kit.cluster import Cluster, ThreadedCluster

TOPIC = "spread"
PARTITIONS = 6
SECONDS = 30.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ThreadedCluster]:
    settings = {"transaction.state.log.num.partitions": "3"}
    topics = [TopicSpec(TOPIC, PARTITIONS, {})]
    with ThreadedCluster(tmp_path, settings=settings, topics=topics) as running:
        yield running


def producer(cluster: ThreadedCluster, tid: str, **more: Any) -> Producer:
    made = Producer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "transactional.id": tid,
            "linger.ms": 0,
            "retry.backoff.ms": 20,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
            "topic.metadata.refresh.fast.interval.ms": 20,
            "socket.timeout.ms": 5000,
            "log_level": 0,
            **more,
        }
    )
    made.init_transactions(SECONDS)
    return made


def write(made: Producer, word: str, partitions: int = PARTITIONS) -> None:
    """A record in every partition, in the transaction that is begun here."""
    made.begin_transaction()
    for partition in range(partitions):
        made.produce(TOPIC, word.encode(), partition=partition)
    assert made.flush(SECONDS) == 0


def read(cluster: ThreadedCluster, *, committed: bool) -> dict[int, list[bytes]]:
    """Every partition from its beginning to its end."""
    isolation = "read_committed" if committed else "read_uncommitted"
    client = Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "reconnect.backoff.max.ms": 200,
            "log_level": 0,
        }
    )
    client.assign([Place(TOPIC, partition, 0) for partition in range(PARTITIONS)])
    found: dict[int, list[bytes]] = {partition: [] for partition in range(PARTITIONS)}
    at_end: set[int] = set()
    while len(at_end) < PARTITIONS:
        message = client.poll(SECONDS)
        assert message is not None, (found, at_end)
        error = message.error()
        if error is None:
            found[message.partition()].append(message.value())
        elif error.code() == KafkaError._PARTITION_EOF:
            at_end.add(message.partition())
    client.close()
    return found


def everywhere(*words: bytes) -> dict[int, list[bytes]]:
    return {partition: list(words) for partition in range(PARTITIONS)}


def coordinator(cluster: Cluster, tid: str) -> int:
    """The broker that coordinates a transactional id."""
    view = cluster.controller.node.metadata.view
    index = cluster.controller.node.transactions.partition_for(tid)
    assert index is not None
    return view.leader(TRANSACTIONS_TOPIC, index)


def transaction(cluster: Cluster, tid: str) -> Transaction | None:
    """What its coordinator knows of it; None while there is none."""
    broker_id = coordinator(cluster, tid)
    server = cluster.servers.get(broker_id)
    machine = None if server is None else server.node.transactions.find(tid)
    known: dict[str, Transaction] = getattr(machine, "transactions", {})
    return known.get(tid)


async def in_state(cluster: Cluster, tid: str, state: State) -> None:
    def reached() -> bool:
        found = transaction(cluster, tid)
        return found is not None and found.state == state

    await cluster.until(reached, SECONDS)


def markers(cluster: Cluster) -> dict[int, list[tuple[bool, int]]]:
    """(committed, coordinator epoch) of the markers in each partition, from its leader's log."""
    found: dict[int, list[tuple[bool, int]]] = {}
    for index in range(PARTITIONS):
        log = cluster.replica(cluster.leader_of(TOPIC, index), TOPIC, index).log
        assert log is not None
        data = log.read(0, 1 << 20, log.end_offset).bytes()
        rows = [end_txn_marker(data, at, header) for at, header in batches(data) if header.control]
        found[index] = [row[:2] for row in rows if row is not None]
    return found


def leaders(cluster: Cluster) -> set[int]:
    return {cluster.leader_of(TOPIC, index) for index in range(PARTITIONS)}


async def hold_markers(cluster: Cluster, broker_id: int) -> list[Any]:
    """A coordinator's markers do not leave it: what it would have sent."""
    held: list[Any] = []

    class Nobody:
        def send(self, index: int, work: Any) -> None:
            held.append(work)

        def close(self) -> None:
            pass

    cluster.servers[broker_id]._markers = Nobody()  # type: ignore[assignment]
    return held


def test_a_transaction_spans_all_brokers(cluster: ThreadedCluster) -> None:
    assert cluster.call(leaders) == {0, 1, 2}
    mine = [producer(cluster, f"tid-{number}") for number in range(3)]
    for number, one in enumerate(mine):
        write(one, f"kept {number}")
        one.commit_transaction(SECONDS)
        write(one, f"lost {number}")
        one.abort_transaction(SECONDS)
    asked = {cluster.call(coordinator, f"tid-{number}") for number in range(3)}
    assert len(asked) > 1, "coordinators are spread too"
    for number in range(3):
        cluster.call(in_state, f"tid-{number}", State.COMPLETE_ABORT)
    assert read(cluster, committed=True) == everywhere(b"kept 0", b"kept 1", b"kept 2")
    written = cluster.call(markers)
    for partition in range(PARTITIONS):
        ends = [committed for committed, _ in written[partition]]
        assert ends == [True, False] * 3, "one marker each"


@pytest.mark.parametrize("commit", [True, False])
def test_the_coordinator_dies_between_the_decision_and_the_markers(
    cluster: ThreadedCluster, commit: bool
) -> None:
    made = producer(cluster, "tid")
    write(made, "first")
    made.commit_transaction(SECONDS)
    cluster.call(in_state, "tid", State.COMPLETE_COMMIT)
    former = cluster.call(coordinator, "tid")
    held = cluster.call(hold_markers, former)
    write(made, "second")
    (made.commit_transaction if commit else made.abort_transaction)(SECONDS)
    cluster.call(Cluster.until, lambda: held)
    assert [work.committed for work in held] == [commit]
    assert {len(rows) for rows in cluster.call(markers).values()} == {1}, "nothing has an end yet"
    cluster.call(Cluster.crash, former)
    done = State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT
    cluster.call(in_state, "tid", done)
    assert cluster.call(coordinator, "tid") != former
    kept = (b"first", b"second") if commit else (b"first",)
    assert read(cluster, committed=True) == everywhere(*kept)
    for rows in cluster.call(markers).values():
        (_, before), (committed, after) = rows
        assert committed is commit and after > before, "the new coordinator's epoch"
    write(made, "third")
    made.commit_transaction(SECONDS)
    assert read(cluster, committed=True) == everywhere(*kept, b"third")


def test_an_open_transaction_survives_its_coordinator(cluster: ThreadedCluster) -> None:
    made = producer(cluster, "tid")
    write(made, "one")
    former = cluster.call(coordinator, "tid")
    cluster.call(Cluster.crash, former)
    for partition in range(PARTITIONS):
        made.produce(TOPIC, b"two", partition=partition)
    made.commit_transaction(SECONDS)
    cluster.call(in_state, "tid", State.COMPLETE_COMMIT)
    assert read(cluster, committed=True) == everywhere(b"one", b"two")


def test_its_time_out_goes_on_at_the_new_coordinator(cluster: ThreadedCluster) -> None:
    made = producer(cluster, "tid", **{"transaction.timeout.ms": 1500, "socket.timeout.ms": 1500})
    write(made, "late")
    cluster.call(Cluster.crash, cluster.call(coordinator, "tid"))
    cluster.call(in_state, "tid", State.COMPLETE_ABORT)
    assert read(cluster, committed=True) == everywhere()
    assert read(cluster, committed=False) == everywhere(b"late")


def test_offsets_are_decided_where_the_group_is(cluster: ThreadedCluster) -> None:
    """Groups on all brokers take their offsets from one transaction's coordinator."""
    made = producer(cluster, "tid")
    clients = [
        Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": f"group-{n}", "log_level": 0})
        for n in range(4)
    ]
    for turn, commit in enumerate((True, False)):
        write(made, "record")
        for client in clients:
            where = [Place(TOPIC, 0, 10 + turn)]
            made.send_offsets_to_transaction(where, client.consumer_group_metadata(), SECONDS)
        (made.commit_transaction if commit else made.abort_transaction)(SECONDS)
    for client in clients:
        client.close()
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    for number in range(4):
        asked = ConsumerGroupTopicPartitions(f"group-{number}", [Place(TOPIC, 0)])
        (future,) = admin.list_consumer_group_offsets(
            [asked], require_stable=True, request_timeout=SECONDS
        ).values()
        assert [place.offset for place in future.result(SECONDS).topic_partitions] == [10]
    spread = {cluster.call(Cluster.leader_of, OFFSETS_TOPIC, index) for index in range(3)}
    assert len(spread) > 1
