"""What every stock client does with the broker: the same tests for each, full comparison of what
comes back.
"""

import time
from collections.abc import Callable, Mapping

import pytest

from tests.e2e.clients import ADAPTERS
from tests.e2e.clients.base import CODECS, Adapter, Library
from tests.e2e.clients.kcat import Kcat
from tests.e2e.clients.python_confluent import Confluent
from tests.e2e.corpus import Item, base_timestamp, by_partition, corpus

NewName = Callable[[], str]
LIBRARIES = [name for name in ADAPTERS if name != "kcat"]


@pytest.fixture
def client(request: pytest.FixtureRequest, bootstrap: str) -> Adapter:
    name: str = request.param
    if name == "kcat" and not Kcat.available():
        pytest.skip("kcat is not installed (Debian package kcat)")
    return ADAPTERS[name](bootstrap)


def records(client: Adapter, seed: int, partitions: int, count: int) -> list[Item]:
    """The corpus as far as the client can send it."""
    return [client.fit(item) for item in corpus(seed, partitions, count)]


def from_beginning(partitions: int) -> Mapping[int, int]:
    return dict.fromkeys(range(partitions), -2)


def start_offsets(items: list[Item], timestamp: int) -> dict[int, int]:
    """For each partition the offset of the first record at or after a time, -1 when all are
    older.
    """
    return {
        partition: next((n for n, item in enumerate(own) if item.timestamp >= timestamp), -1)
        for partition, own in by_partition(items).items()
    }


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("client", LIBRARIES, indirect=True)
def test_everything_comes_back(client: Library, codec: str, new_name: NewName) -> None:
    topic = new_name()
    client.create_topic(topic, 3)
    items = records(client, 1, 3, 72)
    offsets = client.produce(topic, items, codec)
    assert offsets == [n // 3 for n in range(len(items))]
    got = client.consume(topic, from_beginning(3), len(items))
    assert by_partition(got) == by_partition(items)

    moment = items[40].timestamp - 1
    starts = start_offsets(items, moment)
    assert client.offsets_for_time(topic, range(3), moment) == starts
    late = [item for item in items if item.timestamp >= moment]
    assert by_partition(client.consume(topic, starts, len(late))) == by_partition(late)
    assert client.offsets_for_time(topic, [0], items[-1].timestamp + 1) == {0: -1}
    assert client.ends(topic, range(3)) == dict.fromkeys(range(3), (0, 24))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("client", LIBRARIES, indirect=True)
def test_idempotent_producer(client: Library, codec: str, new_name: NewName) -> None:
    topic = new_name()
    client.create_topic(topic, 2)
    items = records(client, 2, 2, 30)
    client.produce(topic, items, codec, idempotent=True)
    client.produce(topic, items, codec, idempotent=True)
    expected = {p: own + own for p, own in by_partition(items).items()}
    assert by_partition(client.consume(topic, from_beginning(2), 60)) == expected


@pytest.mark.parametrize("client", LIBRARIES, indirect=True)
def test_acks_one_and_none(client: Library, new_name: NewName) -> None:
    topic = new_name()
    client.create_topic(topic, 1)
    items = records(client, 3, 1, 20)
    client.produce(topic, items, acks="1")
    client.produce(topic, items, acks="0")
    assert client.consume(topic, {0: -2}, 40) == items + items


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("client", LIBRARIES, indirect=True)
def test_large_records(client: Library, codec: str, new_name: NewName) -> None:
    topic = new_name()
    client.create_topic(topic, 1, {"max.message.bytes": "2000000"})
    base = base_timestamp()
    block = corpus(4, 1, 7)[6].value or b""
    large = (block * (1_050_000 // len(block) + 1))[:1_050_000]
    items = [Item(0, base + n, b"key", large if n % 2 else b"small") for n in range(6)]
    client.produce(topic, items, codec)
    assert client.consume(topic, {0: -2}, len(items)) == items


@pytest.mark.parametrize("client", LIBRARIES, indirect=True)
def test_many_partitions(client: Library, new_name: NewName) -> None:
    topic = new_name()
    client.create_topic(topic, 60)
    assert client.partitions(topic) == 60
    items = records(client, 5, 60, 240)
    client.produce(topic, items, "lz4")
    got = client.consume(topic, from_beginning(60), len(items))
    assert by_partition(got) == by_partition(items)
    assert client.ends(topic, range(60)) == dict.fromkeys(range(60), (0, 4))


@pytest.mark.parametrize("client", LIBRARIES, indirect=True)
def test_topics_and_configs(client: Library, new_name: NewName) -> None:
    topic = new_name()
    assert client.partitions(topic) is None
    client.create_topic(topic, 4, {"retention.ms": "86400000", "cleanup.policy": "compact"})
    assert client.partitions(topic) == 4
    configs = client.read_configs(topic)
    assert configs["retention.ms"] == "86400000"
    assert configs["cleanup.policy"] == "compact"
    assert configs["segment.bytes"] == "1073741824"
    changed = {"retention.ms": "7200000", "cleanup.policy": "delete", "segment.bytes": "2097152"}
    client.alter_configs(topic, changed)
    configs = client.read_configs(topic)
    assert {name: configs[name] for name in changed} == changed
    client.add_partitions(topic, 6)
    assert client.partitions(topic) == 6
    client.delete_topic(topic)
    assert client.partitions(topic) is None


def create_again(client: Library, topic: str) -> None:
    """Apache Kafka deletes after its answer and says "marked for deletion" until then."""
    end = time.monotonic() + 20
    while True:
        try:
            return client.create_topic(topic, 1)
        except Exception:  # each client has its own type for an error answer
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


@pytest.mark.parametrize("client", LIBRARIES, indirect=True)
def test_a_topic_made_again_is_empty(client: Library, new_name: NewName) -> None:
    topic = new_name()
    first, second = records(client, 6, 1, 16), records(client, 7, 1, 16)
    client.create_topic(topic, 1)
    client.produce(topic, first)
    client.delete_topic(topic)
    create_again(client, topic)
    assert client.ends(topic, [0]) == {0: (0, 0)}
    client.produce(topic, second)
    assert client.consume(topic, {0: -2}, 16) == second


@pytest.mark.parametrize("client", LIBRARIES, indirect=True)
def test_delete_records(client: Library, new_name: NewName) -> None:
    topic = new_name()
    client.create_topic(topic, 1)
    items = records(client, 8, 1, 24)
    client.produce(topic, items)
    assert client.delete_records(topic, 0, 10) == 10
    assert client.ends(topic, [0]) == {0: (10, 24)}
    assert client.consume(topic, {0: -2}, 14) == items[10:]


@pytest.mark.parametrize("client", LIBRARIES, indirect=True)
def test_append_time(client: Library, new_name: NewName) -> None:
    topic = new_name()
    client.create_topic(topic, 1, {"message.timestamp.type": "LogAppendTime"})
    items = records(client, 9, 1, 10)
    client.produce(topic, items, "gzip")
    got = client.consume(topic, {0: -2}, 10)
    assert [(i.key, i.value, i.headers) for i in got] == [
        (i.key, i.value, i.headers) for i in items
    ]
    times = [item.timestamp for item in got]
    assert min(times) > items[-1].timestamp and times == sorted(times)


@pytest.mark.parametrize("codec", CODECS)
def test_every_client_reads_what_the_others_wrote(
    bootstrap: str, codec: str, new_name: NewName
) -> None:
    topic = new_name()
    writers = [ADAPTERS[name](bootstrap) for name in LIBRARIES]
    writers[0].create_topic(topic, 1)
    expected: list[Item] = []
    for number, writer in enumerate(writers):
        items = records(writer, 10 + number, 1, 16)
        writer.produce(topic, items, codec)
        expected += items
    for reader in writers:
        assert reader.consume(topic, {0: -2}, len(expected)) == expected


def timeless(items: list[Item]) -> dict[int, list[Item]]:
    return by_partition([Item(i.partition, 0, i.key, i.value, i.headers) for i in items])


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("client", ["kcat"], indirect=True)
def test_kcat(
    client: Kcat, codec: str, idempotent: bool, bootstrap: str, new_name: NewName
) -> None:
    topic = new_name()
    admin = Confluent(bootstrap)
    admin.create_topic(topic, 2)
    assert client.partitions(topic) == 2
    items = records(client, 14, 2, 24)
    client.produce(topic, items, codec, idempotent=idempotent)
    got = client.consume(topic, from_beginning(2), 24)
    assert timeless(got) == timeless(items)
    assert client.ends(topic, [0, 1]) == {0: (0, 12), 1: (0, 12)}
    own = by_partition(got)[0]
    moment = own[5].timestamp
    first = start_offsets(own, moment)
    assert client.offsets_for_time(topic, [0], moment) == first
    assert client.consume_since(topic, 0, moment) == own[first[0] :]
    admin.delete_topic(topic)
    assert client.partitions(topic) is None


@pytest.mark.parametrize("client", ["kcat"], indirect=True)
def test_kcat_creates_a_topic_by_producing(client: Kcat, new_name: NewName) -> None:
    topic = new_name()
    client.run("-P", "-t", topic, data=b"one\ntwo\nthree")
    assert client.partitions(topic) is not None
    lines = client.run("-C", "-t", topic, "-o", "beginning", "-e", "-q")
    assert sorted(lines.split()) == [b"one", b"three", b"two"]
