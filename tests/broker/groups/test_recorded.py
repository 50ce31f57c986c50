"""The handlers of classic groups and offsets against what Apache Kafka answered to the same bytes,
in the same order.

Recorded: tests/broker/captured/groups-wire.jsonl.gz, requests made by hand. 3.9.2 judges the
versions that it serves, 4.4.0 those above. Left out of the comparison: the order of lists that
Kafka takes from hash maps, and in ListGroups the groups of other recordings.
"""

import asyncio
import dataclasses
import gzip
import json
import re
from typing import Any

import pytest

from broker.cluster.view import OFFSETS_TOPIC, ClusterView
from tests.broker.groups.node import GroupNode
from tests.kit.hosted import CAPTURED, Exchange

LIST_GROUPS = 16
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
OFFS_ID = bytes.fromhex("a20cfb8d65c744688aa0e2e09343a77d")
OLD, NEW = "3.9.2", "4.4.0"
HIGHEST_OLD = {8: 9, 9: 9, 11: 9, 12: 4, 13: 5, 14: 5, 15: 5, 16: 5, 42: 2, 47: 0}
"""API -> the highest version that 3.9.2 serves."""


def exchanges(kafka: str) -> list[Exchange]:
    lines = gzip.decompress((CAPTURED / "groups-wire.jsonl.gz").read_bytes()).splitlines()
    return [Exchange(row) for row in map(json.loads, lines) if row["kafka"] == kafka]


def plain(value: Any) -> Any:
    """A message as dicts and lists, every list in an order of its own."""
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value))
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, list):
        return sorted(map(plain, value), key=repr)
    return bytes(value) if isinstance(value, memoryview) else value


def only(message: Any, names: set[str]) -> Any:
    """A ListGroups answer without the groups that are not named."""
    groups = [group for group in message.groups if group.group_id in names]
    return dataclasses.replace(message, groups=groups)


async def a_node() -> GroupNode:
    part = GroupNode()
    await part.store.start()
    for topic in ("t1", "offs", "tx"):
        part.host(topic, 2)
    view = part.metadata.view
    offs = dataclasses.replace(view.topics["offs"], topic_id=OFFS_ID)
    names = {topic_id: name for topic_id, name in view.names.items() if name != "offs"}
    part.metadata.view = ClusterView(
        view.version,
        view.cluster_id,
        view.controller_id,
        view.brokers,
        {**view.topics, "offs": offs},
        {**names, OFFS_ID: "offs"},
    )
    part.host(OFFSETS_TOPIC, 5)
    return part


@pytest.mark.parametrize("kafka", [OLD, NEW])
async def test_answers_are_kafkas(kafka: str) -> None:
    """Every exchange is played; those are compared that this Kafka judges."""
    part, known, differences, compared = await a_node(), set[str](), [], 0
    for exchange in exchanges(kafka):
        asked, answered = str(plain(exchange.request)), str(plain(exchange.answer))
        part.ids = [uuid for uuid in dict.fromkeys(UUID.findall(answered)) if uuid not in known]
        known.update(UUID.findall(asked), part.ids)
        answer = await asyncio.wait_for(part.ask(exchange.version, exchange.request, "golden"), 5)
        part.ids.clear()
        expected = exchange.answer
        if exchange.key == LIST_GROUPS:
            ours = {group.group_id for group in answer.groups}
            both = ours & {group.group_id for group in expected.groups}
            answer, expected = only(answer, ours), only(expected, both)
        if kafka == OLD or exchange.version > HIGHEST_OLD[exchange.key]:
            compared += 1
            if plain(answer) != plain(expected):
                differences.append(f"{exchange}: {answer}\n  and not {expected}")
    await part.stop()
    assert not differences, "\n".join(differences)
    assert compared > (500 if kafka == OLD else 40), compared
