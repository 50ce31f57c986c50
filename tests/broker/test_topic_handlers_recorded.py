"""The topic handlers against what Apache Kafka answered to the same bytes, in the same order.

Recorded: tests/broker/captured/topics-wire.jsonl.gz (requests made by hand, one broker). Left out
of the comparison: sentences (only their presence), topic and cluster ids, addresses, order of
topics, the list of settings in CreateTopics answers (compared on its own).
"""

import gzip
import inspect
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.cluster.local import LocalStore
from broker.context import Context, Node
from broker.controller.topics import Defaults, TopicWish
from broker.handlers import (
    create_partitions,
    create_topics,
    delete_topics,
    describe_cluster,
    describe_topic_partitions,
    find_coordinator,
    metadata,
)
from protocol.apis import request_class, response_class
from protocol.compiler import decoder, encoder
from protocol.header import decode_request_header, response_header_version
from protocol.wire import ZERO_UUID
from tests.kit.nodes import MetadataNode, handler_node

HANDLERS: dict[int, Any] = {
    3: metadata,
    10: find_coordinator,
    19: create_topics,
    20: delete_topics,
    37: create_partitions,
    60: describe_cluster,
    75: describe_topic_partitions,
}
RECORDED = [
    json.loads(line)
    for line in gzip.decompress(
        (Path(__file__).parent / "captured/topics-wire.jsonl.gz").read_bytes()
    ).splitlines()
]
PRESENT = {"t1": 2, "compact": 1, "offs": 2}
"""Topics made before the recorded requests (name -> partitions)."""


def parse(case: dict[str, Any]) -> tuple[Any, Any]:
    """(request, answer) of a recorded exchange."""
    key, version = case["api"], case["version"]
    request = bytes.fromhex(case["request"])
    _, at = decode_request_header(request, 0)
    asked, _ = decoder(request_class(key), version)(request, at)
    response = bytes.fromhex(case["response"])
    at = 4 if response_header_version(key, version) == 0 else 5
    answered, end = decoder(response_class(key), version)(response, at)
    assert end == len(response)
    return asked, answered


async def ask(node: Node, key: int, version: int, request: Any, listener: str = "PLAINTEXT") -> Any:
    """The handler's answer as a client of that version sees it."""
    context = Context("c", listener, "127.0.0.1")
    context.api_key, context.version = key, version
    answer = HANDLERS[key].handle(node, context, request)
    if inspect.isawaitable(answer):
        answer = await answer
    out = bytearray()
    encoder(type(answer), version)(answer, out)
    seen, _ = decoder(type(answer), version)(bytes(out), 0)
    return seen


def walk(value: Any, path: str = "") -> dict[str, Any]:
    """A message as flat fields, lists of named things by name."""
    if hasattr(value, "__slots__"):
        found: dict[str, Any] = {}
        for name in value.__slots__:
            found |= walk(getattr(value, name), f"{path}.{name}")
        return found
    if isinstance(value, list) and value and hasattr(value[0], "__slots__"):
        found = {}
        seen: dict[str, int] = {}
        for item in value:
            label = str(getattr(item, "name", getattr(item, "partition_index", "")))
            seen[label] = seen.get(label, 0) + 1
            found |= walk(item, f"{path}[{label}#{seen[label]}]")
        return found
    return {path: value}


def comparable(answer: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for path, value in walk(answer).items():
        last = path.rsplit(".", 1)[-1]
        if last.startswith("configs") or ".configs[" in path:
            continue
        if last == "error_message" and value not in (None, "", "NONE"):
            value = "a sentence"
        elif last == "topic_id":
            value = value != ZERO_UUID
        elif last in ("host", "cluster_id"):
            value = value if not value else "some"
        elif last == "port":
            value = value if value <= 0 else "some"
        fields[path] = value
    return fields


@pytest.fixture
async def part() -> AsyncIterator[MetadataNode]:
    made = MetadataNode(LocalStore(), 0)
    await made.start()
    yield made
    await made.stop()


async def fill(part: MetadataNode, topics: dict[str, int]) -> None:
    wishes = [TopicWish(name, count, 1) for name, count in topics.items()]
    await part.controller.create_topics(wishes, Defaults(1, 1))
    await part.controller.drained()


def ids_of(request: Any, answered: Any) -> dict[bytes, str]:
    """Topic ids of the recording whose names its answer tells."""
    found: dict[bytes, str] = {}
    for field in ("topics", "responses"):
        for topic in getattr(answered, field, ()):
            topic_id = getattr(topic, "topic_id", ZERO_UUID)
            if topic_id != ZERO_UUID and topic.name:
                found[topic_id] = topic.name
    return found


async def replay(part: MetadataNode, node: Node, cases: list[dict[str, Any]]) -> list[str]:
    """Differences, one text each."""
    different: list[str] = []
    known: dict[bytes, str] = {}
    for case in cases:
        request, answered = parse(case)
        known |= ids_of(request, answered)
        for topic in getattr(request, "topics", None) or ():
            name = known.get(getattr(topic, "topic_id", ZERO_UUID))
            info = part.metadata.view.topics.get(name) if name else None
            if info is not None:
                topic.topic_id = info.topic_id
        ours = comparable(await ask(node, case["api"], case["version"], request))
        theirs = comparable(answered)
        await part.controller.drained()
        for path in sorted(ours.keys() | theirs.keys()):
            mine, yours = ours.get(path, "absent"), theirs.get(path, "absent")
            if mine != yours:
                name = f"{case['api']} v{case['version']} {case['case']}"
                different.append(f"{name}: {path} is {mine!r}, recorded {yours!r}")
    return different


def chosen(api: int, kafka: str = "3.9.2", without: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    cases = [
        case
        for case in RECORDED
        if case["api"] == api and case["kafka"] == kafka and case["case"] not in without
    ]
    assert cases
    return cases


@pytest.mark.parametrize("kafka", ["3.9.2", "4.4.0"])
async def test_metadata(part: MetadataNode, kafka: str) -> None:
    await fill(part, PRESENT)
    node = handler_node(part)
    different = await replay(part, node, chosen(3, kafka, without=("ok: all topics",)))
    if kafka == "4.4.0":  # its broker had id 1
        different = [d for d in different if not _broker_id(d)]
    assert different == []


def _broker_id(difference: str) -> bool:
    return any(
        f".{field} is" in difference
        for field in ("node_id", "controller_id", "leader_id", "replica_nodes", "isr_nodes")
    )


async def test_metadata_of_all_topics(part: MetadataNode) -> None:
    await fill(part, PRESENT)
    node = handler_node(part)
    for case in chosen(3):
        if case["case"] == "ok: all topics":
            request, _ = parse(case)
            answer = await ask(node, 3, case["version"], request)
            assert {t.name for t in answer.topics} == PRESENT.keys()
            assert {len(t.partitions) for t in answer.topics} == {1, 2}


async def test_create_and_delete_topics_and_partitions(part: MetadataNode) -> None:
    await fill(part, PRESENT | {"__consumer_offsets": 50})
    node = handler_node(part)
    unknown = "assignment to unknown broker (time limit 400 ms)"  # see compat/DIFFERENCES.md
    assert await replay(part, node, chosen(19, without=(unknown,))) == []
    assert await replay(part, node, chosen(37)) == []
    assert await replay(part, node, chosen(20)) == []


async def test_settings_in_the_answer_to_create_topics(part: MetadataNode) -> None:
    """Every setting of Apache Kafka's answer, with its value and source."""
    node = handler_node(part, {"log.retention.ms": "-1"})
    compared = 0
    for case in chosen(19):
        request, answered = parse(case)
        if case["version"] < 5 or not answered.topics or not answered.topics[0].configs:
            continue
        ours = await ask(node, 19, case["version"], request)
        assert as_settings(ours) == as_settings(answered)
        compared += 1
    assert compared > 5


def as_settings(answer: Any) -> dict[str, tuple[object, ...]]:
    (topic,) = answer.topics
    return {c.name: (c.value, c.read_only, c.config_source, c.is_sensitive) for c in topic.configs}


async def test_describe_cluster(part: MetadataNode) -> None:
    node = handler_node(part)
    assert await replay(part, node, chosen(60)) == []
    different = await replay(part, node, chosen(60, "4.4.0"))
    allowed = ("broker_id", "controller_id")
    assert [d for d in different if not any(f".{field} is" in d for field in allowed)] == []


async def test_describe_topic_partitions(part: MetadataNode) -> None:
    await fill(part, PRESENT | {"__consumer_offsets": 50})
    node = handler_node(part)
    different = await replay(part, node, chosen(75, "4.4.0"))
    assert [d for d in different if not _broker_id(d)] == []


async def test_find_coordinator(part: MetadataNode) -> None:
    node = handler_node(part)
    cases = chosen(10)
    cold = [case for case in cases if case["case"].startswith("cold")]
    warm = [case for case in cases if not case["case"].startswith("cold")]
    first = {case["case"].split(",")[0]: case for case in reversed(cold)}
    assert set(first) == {"cold: group", "cold: transaction"}
    # Each of them makes its topic; the answer comes before the topic has leaders.
    assert await replay(part, node, list(first.values())) == []
    topics = part.metadata.view.topics
    assert {name: len(t.partitions) for name, t in topics.items()} == {
        "__consumer_offsets": 50,
        "__transaction_state": 50,
    }
    assert part.configs.topic("__consumer_offsets") == {
        "compression.type": "producer",
        "cleanup.policy": "compact",
        "segment.bytes": "104857600",
    }
    assert part.configs.topic("__transaction_state")["cleanup.policy"] == "compact"
    # Apache Kafka 3.9 coordinates no share partitions and did not look at their keys.
    keys_of_shares = [case for case in warm if case["case"] == "refused: share key malformed"]
    (unlike,) = await replay(part, node, [warm.pop(warm.index(keys_of_shares[-1]))])
    assert unlike.endswith("[#1].error_code is 42, recorded 15")
    assert await replay(part, node, warm) == []
    # With a key that is one the topic is made, as Apache Kafka 4.4 makes it.
    assert len(part.metadata.view.topics["__share_group_state"].partitions) == 50
    assert part.configs.topic("__share_group_state") == {
        "compression.type": "producer",
        "cleanup.policy": "delete",
        "min.insync.replicas": "1",
        "retention.ms": "-1",
        "segment.bytes": "104857600",
    }
