"""Consumer groups against Apache Kafka 4.4.0: the same requests get the same answers and leave the
same bytes in __consumer_offsets.

Recorded: tests/broker/captured/consumer-wire.jsonl.gz, requests made by hand. What differs by
nature is left out: times, the order of topics in a record (Kafka's differs from run to run), ids
that the broker makes (they come from the recording). So are two records that are as in 3.9.2:
offsets, and none for a classic group before its first generation.
"""

import asyncio
import dataclasses
import gzip
import json
from collections.abc import Iterable
from typing import Any

from broker.cluster.view import OFFSETS_TOPIC, ClusterView, PartitionInfo, TopicInfo
from protocol.batch import batches
from protocol.record import records_of
from protocol.stored import consumer_offsets
from protocol.stored.consumer_offsets import GroupMetadataValue, OffsetCommitValue
from tests.broker.groups.node import GroupNode
from tests.broker.groups.test_recorded import plain
from tests.kit.hosted import CAPTURED, Exchange

TIMES = ("timestamp", "assignment_timestamp", "commit_timestamp", "current_state_timestamp")
VIEW = "version"
"""Of the cluster's metadata, in records of patterns: Kafka's is an offset."""


def recording() -> tuple[dict[str, tuple[str, int]], list[dict[str, Any]]]:
    """Topics (name -> id, partitions) and exchanges."""
    lines = gzip.decompress((CAPTURED / "consumer-wire.jsonl.gz").read_bytes()).splitlines()
    first, *rows = map(json.loads, lines)
    return first["topics"], rows


async def a_node(topics: dict[str, tuple[str, int]]) -> GroupNode:
    part = GroupNode({"group.consumer.assignment.interval.ms": "0"})
    await part.store.start()
    infos = {
        name: TopicInfo(
            name,
            bytes.fromhex(topic_id),
            tuple(PartitionInfo(i, 0, 0, (0,), (0,)) for i in range(count)),
        )
        for name, (topic_id, count) in topics.items()
    }
    view = part.metadata.view
    names = {info.topic_id: name for name, info in infos.items()}
    part.metadata.view = ClusterView(
        view.version + 1, "cluster", 0, view.brokers, {**view.topics, **infos}, names
    )
    part.host(OFFSETS_TOPIC)
    return part


class Written:
    """What comes into the log of __consumer_offsets."""

    def __init__(self, part: GroupNode) -> None:
        log = part.partition(OFFSETS_TOPIC).log
        assert log is not None
        self.log, self.at = log, 0

    def new(self) -> list[tuple[bytes, bytes | None]]:
        found = []
        while self.at < self.log.end_offset:
            data = self.log.read(self.at, 1 << 20, self.log.end_offset).bytes()
            for at, header in batches(data):
                self.at = header.next_offset
                for record in records_of(data, at, header, 1 << 20):
                    value = None if record.value is None else bytes(record.value)
                    found.append((bytes(record.key or b""), value))
        return found


def timeless(key: bytes, value: bytes | None) -> tuple[bytes, Any] | None:
    """A record to compare: key, and version with value, which must be the value's only bytes."""
    decoded_key = consumer_offsets.decode_key(key)
    assert decoded_key is not None
    decoded = consumer_offsets.decode_value(decoded_key.RECORD_TYPE, value)
    if decoded is None or value is None:
        return key, None
    if isinstance(decoded, OffsetCommitValue):
        return None
    if isinstance(decoded, GroupMetadataValue) and decoded.generation == 0:
        return None
    version = int.from_bytes(value[:2], "big")
    assert consumer_offsets.encode_value(decoded, version) == value
    changes: dict[str, Any] = {
        name: bool(getattr(decoded, name)) for name in TIMES if hasattr(decoded, name)
    }
    if type(decoded).__name__ == "ConsumerGroupRegularExpressionValue":
        changes[VIEW] = 0
    for field in dataclasses.fields(decoded):
        rows = getattr(decoded, field.name)
        if isinstance(rows, list) and rows and hasattr(rows[0], "topic_id"):
            changes[field.name] = sorted(rows, key=lambda row: row.topic_id)
    return key, (version, dataclasses.replace(decoded, **changes))


def comparable(records: Iterable[tuple[bytes, bytes | None]]) -> list[tuple[bytes, Any]]:
    return [found for record in records if (found := timeless(*record)) is not None]


async def test_answers_and_records_are_kafkas() -> None:
    topics, rows = recording()
    part = await a_node(topics)
    written, differences, records = Written(part), [], 0
    for row in rows:
        exchange = Exchange(row)
        # An id that the broker made; classic groups put the client's name before it.
        made = getattr(exchange.answer, "member_id", None) or ""
        part.ids = [made.removeprefix("script-")]
        answer = await asyncio.wait_for(part.ask(exchange.version, exchange.request, "script"), 5)
        for _ in range(20):
            await asyncio.sleep(0)  # what follows a request: the look-up of patterns
        if plain(answer) != plain(exchange.answer):
            differences.append(f"{exchange}: {answer}\n  and not {exchange.answer}")
        ours = comparable(written.new())
        theirs = comparable(
            (bytes.fromhex(key), None if value is None else bytes.fromhex(value))
            for key, value in row["records"]
        )
        records += len(theirs)
        if ours != theirs:
            differences.append(f"{exchange}:\n  {ours}\n  and not\n  {theirs}")
    await part.stop()
    assert not differences, "\n".join(differences)
    assert len(rows) > 80
    assert records > 120
