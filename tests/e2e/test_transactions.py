"""Transactions with the stock clients' producers, read back by all of them."""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence

import pytest
from confluent_kafka import Consumer, KafkaError
from confluent_kafka import TopicPartition as ConfluentPartition

from protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.e2e.clients import ADAPTERS
from tests.e2e.clients.python_confluent import Confluent
from tests.e2e.corpus import Item, base_timestamp
from tests.e2e.members.base import Place
from tests.e2e.members.producers import PRODUCERS, Fenced, TransactionalProducer
from tests.kit.wire import Wire, batch, leader_of

with warnings.catch_warnings():
    # kafka-python's import still calls importlib.resources.read_text, deprecated in Python 3.11
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient, TopicPartition
    from kafka.admin import (
        AbortTransactionSpec,
        ConfigResource,
        ConfigResourceType,
    )

NewName = Callable[[], str]
Make = Callable[..., TransactionalProducer]
LIBRARIES = [name for name in ADAPTERS if name != "kcat"]

every_producer = pytest.mark.parametrize("kind", PRODUCERS)


@pytest.fixture
def topic(bootstrap: str, new_name: NewName) -> str:
    name = new_name()
    Confluent(bootstrap).create_topic(name, 2)
    return name


@pytest.fixture
def make(kind: str, bootstrap: str) -> Iterator[Make]:
    """Makes producers of one client; they are closed at the end."""
    with contextlib.ExitStack() as stack:

        def producer(transactional_id: str, timeout_ms: int = 60_000) -> TransactionalProducer:
            made = PRODUCERS[kind](bootstrap, transactional_id, timeout_ms)
            stack.callback(made.close)
            return made

        yield producer


@pytest.fixture
def admin(bootstrap: str) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    yield client
    client.close()


def plain(bootstrap: str, topic: str, value: bytes) -> None:
    """A record outside of any transaction."""
    Confluent(bootstrap).produce(topic, [Item(0, base_timestamp(), None, value)])


def read(
    bootstrap: str, topic: str, count: int, *, committed: bool, by: Sequence[str]
) -> list[bytes | None]:
    """The first `count` values of partition 0, the same for each client of `by`."""
    found = [
        [
            item.value
            for item in ADAPTERS[name](bootstrap).consume(
                topic, {0: -2}, count, committed=committed
            )
        ]
        for name in by
    ]
    assert all(each == found[0] for each in found), found
    return found[0]


@every_producer
def test_commit_and_abort(bootstrap: str, topic: str, make: Make) -> None:
    """Every client reads what was committed, or everything, as it wants."""
    producer = make(f"id-{topic}")
    for word, end in ((b"a", True), (b"b", False), (b"c", True), (b"d", False)):
        producer.begin()
        for number in range(3):
            for partition in (0, 1):
                producer.send((topic, partition), word + b"%d" % number)
        (producer.commit if end else producer.abort)()
    written = [w + b"%d" % n for w in (b"a", b"b", b"c", b"d") for n in range(3)]
    kept = [value for value in written if value[:1] in b"ac"]
    plain(bootstrap, topic, b"last")
    assert read(bootstrap, topic, 7, committed=True, by=LIBRARIES) == [*kept, b"last"]
    assert read(bootstrap, topic, 13, committed=False, by=LIBRARIES) == [*written, b"last"]
    # and four control records
    assert Confluent(bootstrap).ends(topic, [0]) == {0: (0, 17)}


@every_producer
def test_an_open_transaction_holds_readers_back(
    bootstrap: str, topic: str, make: Make, kind: str
) -> None:
    plain(bootstrap, topic, b"before")
    first, second = make(f"first-{topic}"), make(f"second-{topic}")
    first.begin()
    first.send((topic, 0), b"first")
    second.begin()
    second.send((topic, 0), b"second")
    second.commit()
    plain(bootstrap, topic, b"after")
    everything = [b"before", b"first", b"second", b"after"]
    assert read(bootstrap, topic, 4, committed=False, by=[kind]) == everything
    # who reads committed records is told that the partition ends here
    assert read_to_the_end(bootstrap, topic) == [b"before"]
    assert last_stable_offset(bootstrap, topic) == 1
    first.commit()
    assert read(bootstrap, topic, 4, committed=True, by=[kind]) == everything


def read_to_the_end(bootstrap: str, topic: str) -> list[bytes | str | None]:
    """The committed records of partition 0, until the client says that there are no more."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "log_level": 0,
        }
    )
    try:
        consumer.assign([ConfluentPartition(topic, 0, 0)])
        found = []
        while True:
            (message,) = consumer.consume(1, 30)
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                return found
            found.append(message.value())
    finally:
        consumer.close()


def last_stable_offset(bootstrap: str, topic: str) -> int:
    """What ListOffsets answers a reader of committed records."""
    asked = ListOffsetsPartition(partition_index=0, timestamp=-1)
    request = ListOffsetsRequest(
        replica_id=-1,
        isolation_level=1,
        topics=[ListOffsetsTopic(name=topic, partitions=[asked])],
    )
    _, leader = leader_of(bootstrap, topic)
    with Wire(leader) as wire:
        return int(wire.call(request, 5).topics[0].partitions[0].offset)


@every_producer
def test_a_zombie_is_fenced(bootstrap: str, topic: str, make: Make, kind: str) -> None:
    """A second producer with the same id aborts what the first left and shuts it out."""
    zombie = make(f"id-{topic}")
    zombie.begin()
    zombie.send((topic, 0), b"of the zombie")
    heir = make(f"id-{topic}")
    heir.begin()
    heir.send((topic, 0), b"of the heir")
    heir.commit()
    with pytest.raises(Fenced):
        zombie.send((topic, 0), b"too late")
        zombie.commit()
    plain(bootstrap, topic, b"last")
    assert read(bootstrap, topic, 2, committed=True, by=[kind]) == [b"of the heir", b"last"]
    written = [b"of the zombie", b"of the heir", b"last"]
    assert read(bootstrap, topic, 3, committed=False, by=[kind]) == written


@every_producer
def test_offsets_are_part_of_a_transaction(bootstrap: str, topic: str, make: Make) -> None:
    group, places = f"group-{topic}", [(topic, 0), (topic, 1)]
    client = Confluent(bootstrap)
    producer = make(f"id-{topic}")
    producer.begin()
    producer.send(places[0], b"x")
    producer.send_offsets(group, {places[0]: 5, places[1]: 6})
    assert client.group_offsets(group) == {}
    producer.abort()
    assert client.group_offsets(group) == {}
    producer.begin()
    producer.send_offsets(group, {places[0]: 7})
    producer.commit()
    offsets_become(client, group, {places[0]: 7})
    producer.begin()
    producer.send(places[0], b"y")
    producer.send_offsets(group, {places[0]: 8, places[1]: 9})
    producer.commit()
    offsets_become(client, group, {places[0]: 8, places[1]: 9})


def offsets_become(client: Confluent, group: str, expected: dict[Place, int]) -> None:
    """The marker reaches the group's coordinator a moment after the commit is answered."""
    end = time.monotonic() + 20
    while (found := client.group_offsets(group)) != expected:
        assert time.monotonic() < end, found


@every_producer
def test_a_transaction_times_out(bootstrap: str, topic: str, make: Make, kind: str) -> None:
    """The broker aborts what its producer forgot, and fences the producer."""
    silent = make(f"id-{topic}", 1000)
    silent.begin()
    silent.send((topic, 0), b"forgotten")
    plain(bootstrap, topic, b"last")
    assert last_stable_offset(bootstrap, topic) == 0
    end = time.monotonic() + 20
    while last_stable_offset(bootstrap, topic) == 0:
        assert time.monotonic() < end, "the transaction is still open"
    assert read(bootstrap, topic, 1, committed=True, by=[kind]) == [b"last"]
    with pytest.raises(Fenced):
        silent.send((topic, 0), b"too late")
        silent.commit()


@pytest.mark.parametrize("kind", ["confluent"])
def test_transactions_are_described(
    bootstrap: str, topic: str, make: Make, admin: KafkaAdminClient
) -> None:
    name = f"id-{topic}"
    producer = make(name)

    def listed(**filters: object) -> bool:
        found = admin.list_transactions(**filters)
        return name in {t.transactional_id for each in found.values() for t in each}

    producer.begin()
    producer.send((topic, 0), b"one")
    producer.send((topic, 1), b"two")
    described = admin.describe_transactions([name])[name]
    places = {TopicPartition(topic, 0), TopicPartition(topic, 1)}
    assert (described.state.value, described.topic_partitions) == ("Ongoing", places)
    assert described.transaction_timeout_ms == 60_000
    assert listed() and listed(
        state_filters=["Ongoing"], producer_id_filters=[described.producer_id]
    )
    assert not listed(state_filters=["CompleteCommit"])
    state = admin.describe_producers([TopicPartition(topic, 1)])[TopicPartition(topic, 1)]
    (active,) = state.active_producers
    assert (active.producer_id, active.current_transaction_start_offset) == (
        described.producer_id,
        0,
    )
    producer.commit()
    end = time.monotonic() + 20
    while (found := admin.describe_transactions([name])[name]).topic_partitions:
        assert time.monotonic() < end, found
    assert found.state.value == "CompleteCommit"
    assert listed(state_filters=["CompleteCommit"]) and not listed(state_filters=["Ongoing"])
    state = admin.describe_producers([TopicPartition(topic, 1)])[TopicPartition(topic, 1)]
    assert [p.current_transaction_start_offset for p in state.active_producers] == [-1]


def test_a_hanging_transaction_is_found_and_aborted(
    bootstrap: str, topic: str, admin: KafkaAdminClient
) -> None:
    """A batch that no coordinator knows of (KIP-664); only without verification (KIP-890)."""
    verification = "transaction.partition.verification.enable"
    leader, address = leader_of(bootstrap, topic)
    broker = str(leader)
    admin.alter_configs(
        [ConfigResource(ConfigResourceType.BROKER, broker, {verification: "false"})]
    )
    try:
        records = batch(
            [b"hangs"],
            timestamp=base_timestamp(),
            producer_id=987_654_321,
            producer_epoch=3,
            base_sequence=0,
            attributes=0x10,
        )
        part = PartitionProduceData(index=0, records=memoryview(records))
        data = TopicProduceData(name=topic, partition_data=[part])
        request = ProduceRequest(
            transactional_id="nobody", acks=-1, timeout_ms=5000, topic_data=[data]
        )
        end = time.monotonic() + 20
        with Wire(address) as wire:
            # the change of the setting takes a moment
            while True:
                (answer,) = wire.call(request, 9).responses[0].partition_responses
                if answer.error_code == 0:
                    break
                assert time.monotonic() < end, answer
    finally:
        admin.reset_configs([ConfigResource(ConfigResourceType.BROKER, broker, [verification])])
    assert last_stable_offset(bootstrap, topic) == 0
    place = TopicPartition(topic, 0)
    (found,) = admin.describe_producers([place])[place].active_producers
    assert (found.producer_id, found.producer_epoch) == (987_654_321, 3)
    assert found.current_transaction_start_offset == 0
    admin.abort_transaction(AbortTransactionSpec(place, found.producer_id, found.producer_epoch))
    assert last_stable_offset(bootstrap, topic) == 2
    plain(bootstrap, topic, b"last")
    assert read(bootstrap, topic, 1, committed=True, by=LIBRARIES) == [b"last"]
    assert read(bootstrap, topic, 2, committed=False, by=LIBRARIES) == [b"hangs", b"last"]
