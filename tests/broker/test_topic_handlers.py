"""The topic handlers where one recorded broker says little: several brokers, listeners, time."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.cluster.layout import Endpoint
from broker.cluster.local import LocalStore
from broker.cluster.store import StoreFailed
from broker.controller.topics import Defaults, TopicWish
from protocol.errors import ErrorCode
from protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from protocol.messages.describe_cluster import DescribeClusterRequest
from protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    TopicRequest,
)
from protocol.messages.find_coordinator import FindCoordinatorRequest
from protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.broker.test_topic_handlers_recorded import ask, comparable, fill, parse
from tests.kit.nodes import MetadataNode, handler_node

WRONG = [
    json.loads(line)
    for line in gzip.decompress(
        (Path(__file__).parent / "captured/wrong-broker-wire.jsonl.gz").read_bytes()
    ).splitlines()
]
ONE = Defaults(1, 1)


@pytest.fixture
async def part() -> AsyncIterator[MetadataNode]:
    made = MetadataNode(LocalStore(), 0)
    await made.start()
    yield made
    await made.stop()


async def two() -> list[MetadataNode]:
    store = LocalStore()
    peers: dict[int, MetadataNode] = {}
    nodes = [MetadataNode(store.session(), i, peers=peers) for i in range(2)]
    for node in nodes:
        await node.start()
    await turns()
    return nodes


async def turns() -> None:
    for _ in range(60):
        await asyncio.sleep(0)


async def assigned(node: MetadataNode, **topics: list[tuple[int, ...]]) -> None:
    wishes = [TopicWish(n, assignments=list(enumerate(r))) for n, r in topics.items()]
    await node.controller.create_topics(wishes, ONE)
    await node.controller.drained()


def names(*topics: str) -> list[MetadataRequestTopic]:
    return [MetadataRequestTopic(name=topic) for topic in topics]


# --- several brokers ------------------------------------------------------------------------------


async def test_a_broker_that_is_not_the_controller_answers_as_recorded() -> None:
    nodes = await two()
    await assigned(nodes[0], on0=[(0,)])
    node = handler_node(nodes[1])
    compared = 0
    for case in WRONG:
        if case["case"] != "not the controller":
            continue
        request, answered = parse(case)
        ours = comparable(await ask(node, case["api"], case["version"], request))
        assert ours == comparable(answered), case
        compared += 1
    assert compared > 10
    for each in reversed(nodes):
        await each.stop()


async def test_metadata_and_coordinators_with_a_broker_down_are_as_recorded() -> None:
    nodes = await two()
    await assigned(nodes[0], on0=[(0,)], on1=[(1,)], both=[(1, 0)])
    await assigned(nodes[0], **{"__consumer_offsets": [(1,)] * 3})
    await nodes[1].crash()
    await turns()
    node = handler_node(nodes[0])
    compared = 0
    for case in WRONG:
        if case["api"] not in (3, 10, 60) or case["case"] == "not the controller":
            continue
        request, answered = parse(case)
        if case["api"] == 3 and any(t.name not in ("on0", "on1", "both") for t in request.topics):
            continue
        ours = comparable(await ask(node, case["api"], case["version"], request))
        assert ours == comparable(answered), case
        compared += 1
    assert compared > 15
    await nodes[0].stop()


async def test_only_the_listener_asked_on_is_told() -> None:
    part = MetadataNode(LocalStore(), 0)
    await part.store.start()
    await part.membership.prepare()
    await part.configs.start()
    await part.membership.register(
        (Endpoint("PLAINTEXT", "inside", 1), Endpoint("OUTSIDE", "outside.example", 2))
    )
    await part.controller.start()
    await part.controller.drained()
    await fill(part, {"t": 1, "__consumer_offsets": 3})
    node = handler_node(part)
    for listener, address in (("PLAINTEXT", ("inside", 1)), ("OUTSIDE", ("outside.example", 2))):
        answer = await ask(node, 3, 12, MetadataRequest(None), listener)
        assert [(b.host, b.port) for b in answer.brokers] == [address]
        assert answer.topics[0].partitions[0].leader_id == 0
        answer = await ask(node, 60, 1, DescribeClusterRequest(), listener)
        assert [(b.host, b.port) for b in answer.brokers] == [address]
        answer = await ask(node, 10, 3, FindCoordinatorRequest("g"), listener)
        assert (answer.host, answer.port) == address
    # A listener that this broker does not have.
    for version, error in (
        (5, ErrorCode.LEADER_NOT_AVAILABLE),
        (6, ErrorCode.LISTENER_NOT_FOUND),
    ):
        answer = await ask(node, 3, version, MetadataRequest(names("t")), "ELSEWHERE")
        assert answer.brokers == []
        (partition,) = answer.topics[0].partitions
        assert (partition.error_code, partition.leader_id) == (error, -1)
        assert partition.replica_nodes == [0]
    answer = await ask(node, 10, 3, FindCoordinatorRequest("g"), "ELSEWHERE")
    assert answer.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    await part.stop()


async def test_the_remembered_parts_follow_changes(part: MetadataNode) -> None:
    await fill(part, {"t": 1})
    node = handler_node(part)
    request = MetadataRequest(names("t"))
    first = (await ask(node, 3, 12, request)).topics[0]
    assert (await ask(node, 3, 12, request)).topics[0] == first
    plain = MetadataRequest(names("t"), include_topic_authorized_operations=True)
    assert (await ask(node, 3, 12, plain)).topics[0].topic_authorized_operations == 3576
    assert (await ask(node, 3, 12, request)).topics[0] == first
    growth = CreatePartitionsRequest([CreatePartitionsTopic("t", 3, None)], 1000)
    assert (await ask(node, 37, 3, growth)).results[0].error_code == 0
    assert len((await ask(node, 3, 12, request)).topics[0].partitions) == 3
    deletion = DeleteTopicsRequest([], ["t"], 1000)
    assert (await ask(node, 20, 5, deletion)).responses[0].error_code == 0
    answer = await ask(node, 3, 12, MetadataRequest(names("t"), False))
    assert answer.topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


# --- creation and its time ------------------------------------------------------------------------


async def test_auto_creation_takes_the_brokers_defaults(part: MetadataNode) -> None:
    node = handler_node(part, {"num.partitions": "4"})
    request = MetadataRequest(names("new", "__transaction_state"))
    answer = await ask(node, 3, 12, request)
    assert [(t.error_code, t.is_internal) for t in answer.topics] == [(5, False), (5, True)]
    await part.controller.drained()
    topics = part.metadata.view.topics
    assert len(topics["new"].partitions) == 4
    assert len(topics["__transaction_state"].partitions) == 50
    assert [t.error_code for t in (await ask(node, 3, 12, request)).topics] == [0, 0]


async def test_auto_creation_can_be_forbidden(part: MetadataNode) -> None:
    node = handler_node(part, {"auto.create.topics.enable": "false"})
    answer = await ask(node, 3, 3, MetadataRequest(names("new", "bad name")))
    assert [t.error_code for t in answer.topics] == [3, 17]
    # The broker's own topics are made all the same.
    answer = await ask(node, 10, 4, FindCoordinatorRequest("", 0, ["g"]))
    assert answer.coordinators[0].error_code == 15
    await part.controller.drained()
    assert part.metadata.view.topics.keys() == {"__consumer_offsets"}


async def test_auto_creation_with_too_few_brokers(part: MetadataNode) -> None:
    node = handler_node(
        part, {"default.replication.factor": "2", "offsets.topic.replication.factor": "3"}
    )
    answer = await ask(node, 3, 12, MetadataRequest(names("new")))
    assert answer.topics[0].error_code == ErrorCode.INVALID_REPLICATION_FACTOR
    answer = await ask(node, 10, 3, FindCoordinatorRequest("g"))
    assert answer.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE


def creation(*topics: str, timeout_ms: int = 1000) -> CreateTopicsRequest:
    return CreateTopicsRequest([CreatableTopic(t, 1, 1) for t in topics], timeout_ms)


async def test_without_time_the_answer_is_a_timeout_and_the_topic_is_made(
    part: MetadataNode,
) -> None:
    node = handler_node(part)
    (result,) = (await ask(node, 19, 7, creation("t", timeout_ms=0))).topics
    assert result.error_code == ErrorCode.REQUEST_TIMED_OUT
    assert result.topic_id != bytes(16)
    assert (result.num_partitions, result.configs) == (-1, [])
    await part.controller.drained()
    assert "t" in part.metadata.view.topics
    growth = CreatePartitionsRequest([CreatePartitionsTopic("t", 2, None)], 0)
    (grown,) = (await ask(node, 37, 3, growth)).results
    assert grown.error_code == ErrorCode.REQUEST_TIMED_OUT
    (gone,) = (await ask(node, 20, 5, DeleteTopicsRequest([], ["t"], 0))).responses
    assert gone.error_code == ErrorCode.REQUEST_TIMED_OUT


async def test_the_answer_waits_for_the_leaders(
    part: MetadataNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = handler_node(part)
    apply = part.metadata.apply
    held: list[Any] = []
    monkeypatch.setattr(type(part.metadata), "apply", lambda _, request: held.append(request))
    call = asyncio.ensure_future(ask(node, 19, 7, creation("t", timeout_ms=10_000)))
    await turns()
    assert held
    assert not call.done()
    monkeypatch.undo()
    for request in held:
        apply(request)
    (result,) = (await call).topics
    assert result.error_code == 0


async def test_deletion_can_be_switched_off(part: MetadataNode) -> None:
    await fill(part, {"t": 1})
    node = handler_node(part, {"delete.topic.enable": "false"})
    for version, error in ((2, ErrorCode.INVALID_REQUEST), (3, ErrorCode.TOPIC_DELETION_DISABLED)):
        (result,) = (await ask(node, 20, version, DeleteTopicsRequest([], ["t"], 100))).responses
        assert result.error_code == error
    assert "t" in part.metadata.view.topics


async def test_a_name_given_twice_is_deleted_once(part: MetadataNode) -> None:
    """As a real 3.9.2 does with a topic that is there."""
    await fill(part, {"t": 1})
    node = handler_node(part)
    request = DeleteTopicsRequest([DeleteTopicState("t"), DeleteTopicState("t")], [], 1000)
    answer = await ask(node, 20, 6, request)
    assert [r.error_code for r in answer.responses] == [0, 0]
    assert "t" not in part.metadata.view.topics


async def test_a_deleted_name_is_free_when_the_answer_comes(part: MetadataNode) -> None:
    node = handler_node(part)
    for _ in range(5):
        assert (await ask(node, 19, 4, creation("t"))).topics[0].error_code == 0
        deletion = DeleteTopicsRequest([], ["t"], 1000)
        assert (await ask(node, 20, 5, deletion)).responses[0].error_code == 0


async def test_reserved_and_repeated_names(part: MetadataNode) -> None:
    node = handler_node(part)
    answer = await ask(node, 19, 4, creation("__cluster_metadata", "a", "a", "b"))
    assert [t.error_code for t in answer.topics] == [42, 42, 42, 0]
    growth = CreatePartitionsRequest(
        [CreatePartitionsTopic(name, 9, None) for name in ("b", "b", "none")], 1000
    )
    answer = await ask(node, 37, 3, growth)
    assert {r.name: r.error_code for r in answer.results} == {"b": 42, "none": 3}
    assert len(answer.results) == 2
    growth.topics.append(CreatePartitionsTopic("..", 9, None))
    answer = await ask(node, 37, 3, growth)
    assert [(r.name, r.error_code) for r in answer.results] == [
        ("b", -1), ("b", -1), ("none", -1), ("..", -1)
    ]  # fmt: skip


async def test_trouble_in_the_store_is_an_error_of_each_topic(
    part: MetadataNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(part, {"t": 1})
    node = handler_node(part)

    async def fail(*_: object) -> None:
        raise StoreFailed("/x", "the disk is full")

    monkeypatch.setattr(part.store, "multi", fail)
    (result,) = (await ask(node, 19, 7, creation("u"))).topics
    assert result.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert "disk is full" in result.error_message
    (gone,) = (await ask(node, 20, 5, DeleteTopicsRequest([], ["t"], 100))).responses
    assert gone.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    growth = CreatePartitionsRequest([CreatePartitionsTopic("t", 2, None)], 100)
    (grown,) = (await ask(node, 37, 3, growth)).results
    assert grown.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    monkeypatch.undo()
    assert (await ask(node, 19, 7, creation("u"))).topics[0].error_code == 0


async def test_a_controller_that_has_stopped_is_no_controller(part: MetadataNode) -> None:
    await fill(part, {"t": 1})
    node = handler_node(part)
    await part.controller.stop()
    assert (await ask(node, 19, 7, creation("u"))).topics[0].error_code == 41
    # Metadata goes on; a topic it would create has to wait for a controller.
    answer = await ask(node, 3, 12, MetadataRequest(names("t", "u")))
    assert [(t.name, t.error_code) for t in answer.topics] == [("t", 0), ("u", 5)]


# --- pages ----------------------------------------------------------------------------------------


async def test_pages_cover_everything_once(part: MetadataNode) -> None:
    await fill(part, {"b": 5, "a": 1, "c": 3, "d": 1})
    node = handler_node(part)
    for limit in range(1, 12):
        seen: list[tuple[str, int]] = []
        cursor: Cursor | None = None
        for _ in range(20):
            request = DescribeTopicPartitionsRequest([], limit, cursor)
            answer = await ask(node, 75, 0, request)
            page = [(t.name, p.partition_index) for t in answer.topics for p in t.partitions]
            assert 0 < len(page) <= limit
            seen += page
            cursor = answer.next_cursor
            if cursor is None:
                break
        assert seen == [
            (name, i) for name, n in (("a", 1), ("b", 5), ("c", 3), ("d", 1)) for i in range(n)
        ]


async def test_the_brokers_own_limit_and_the_cursors_topic(part: MetadataNode) -> None:
    await fill(part, {"a": 5, "b": 1})
    node = handler_node(part, {"max.request.partition.size.limit": "2"})
    both = [TopicRequest("a"), TopicRequest("b")]
    request = DescribeTopicPartitionsRequest(both, 100, Cursor("a", 1))
    answer = await ask(node, 75, 0, request)
    assert [(t.name, len(t.partitions)) for t in answer.topics] == [("a", 2)]
    assert answer.next_cursor == Cursor("a", 3)
    # A cursor behind the last partition, at a topic that is gone, and at none of those asked for.
    request = DescribeTopicPartitionsRequest(both, 9, Cursor("a", 77))
    answer = await ask(node, 75, 0, request)
    assert [(t.name, len(t.partitions)) for t in answer.topics] == [("a", 0), ("b", 1)]
    gone = [TopicRequest("aa"), TopicRequest("b")]
    request = DescribeTopicPartitionsRequest(gone, 9, Cursor("aa", 0))
    answer = await ask(node, 75, 0, request)
    assert [(t.name, t.error_code) for t in answer.topics] == [("aa", 3), ("b", 0)]
    request = DescribeTopicPartitionsRequest([TopicRequest("b")], 9, Cursor("a", 1))
    answer = await ask(node, 75, 0, request)
    assert [(t.name, t.error_code) for t in answer.topics] == [("b", 42)]
