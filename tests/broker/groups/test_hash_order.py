"""Orders of Java's tables and hashes of topics, as Apache Kafka 4.4.0 has them.

Recorded: tests/broker/captured/consumer-hashes.jsonl.gz, made by calling its classes (and
hash4j's, for XXH3).
"""

import gzip
import json
from typing import Any

import pytest

from broker.cluster.view import BrokerInfo, ClusterView, PartitionInfo, TopicInfo
from broker.groups.hash_order import members_ordered, timeline_ordered
from broker.groups.target import TopicHashes
from protocol.xxh3 import xxh3_64
from tests.kit.hosted import CAPTURED


def rows(kind: str) -> list[list[Any]]:
    lines = gzip.decompress((CAPTURED / "consumer-hashes.jsonl.gz").read_bytes()).splitlines()
    found = [row[1:] for row in map(json.loads, lines) if row[0] == kind]
    assert found
    return found


def test_tables_hand_out_their_keys_in_javas_order() -> None:
    for keys, ordered in rows("map"):
        assert members_ordered(keys) == ordered
    for keys, ordered in rows("timeline"):
        assert timeline_ordered(keys) == ordered


def test_a_table_that_was_larger_keeps_its_size() -> None:
    small = [keys for keys, _ in rows("timeline") if 6 < len(keys) < 13]
    assert any(timeline_ordered(keys) != timeline_ordered(keys, 50) for keys in small)


def test_xxh3() -> None:
    for length, value in rows("xxh3"):
        assert xxh3_64(bytes((at * 7 + length) % 256 for at in range(length))) == value, length


def view_of(topics: list[tuple[str, str, list[list[str]]]]) -> ClusterView:
    """Every rack is of a broker of its own; a partition may have several replicas in one."""
    racks = sorted({rack for _, _, parts in topics for on in parts for rack in on})
    brokers = {number: BrokerInfo(number, {}, rack) for number, rack in enumerate(racks)}
    infos = {}
    for name, topic_id, parts in topics:
        replicas = [tuple(racks.index(rack) for rack in on) for on in parts]
        infos[name] = TopicInfo(
            name,
            bytes.fromhex(topic_id),
            tuple(PartitionInfo(i, 0, 0, on, on) for i, on in enumerate(replicas)),
        )
    return ClusterView(1, "cluster", 0, brokers, infos, {i.topic_id: n for n, i in infos.items()})


def test_hashes_of_topics() -> None:
    for topics, value in rows("topics"):
        names = [name for name, _, _ in topics]
        assert TopicHashes().of(reversed(names), view_of(topics)) == value, topics


def test_hashes_are_kept_until_a_topic_or_rack_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    monkeypatch.setattr(
        "broker.groups.target._topic_bytes",
        lambda info, view: counted.append(info.name) or info.name.encode() + bytes([len(counted)]),
    )
    one = view_of([("a", "0" * 32, [[]]), ("b", "1" * 32, [[]])])
    hashes = TopicHashes()
    first = hashes.of(["a", "b", "not there"], one)
    assert (hashes.of(["b", "a"], one), counted) == (first, ["a", "b"])
    changed = TopicInfo("a", bytes(16), ())
    two = ClusterView(2, "cluster", 0, one.brokers, {**one.topics, "a": changed}, one.names)
    assert hashes.of(["a", "b"], two) != first
    assert counted == ["a", "b", "a"]
    hashes.forget(["b"])
    hashes.of(["a", "b"], two)
    assert counted == ["a", "b", "a", "b"]
    hashes.of(["a"], ClusterView(3, "cluster", 0, {}, two.topics, two.names))
    assert counted == ["a", "b", "a", "b", "a"]


def test_no_topics_have_no_hash() -> None:
    assert TopicHashes().of(["not there"], view_of([])) == 0
