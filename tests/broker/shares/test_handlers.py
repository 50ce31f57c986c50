"""Share groups' other handlers: membership, offsets, deletion, the share coordinator's APIs; and
what is known again after a crash."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.cluster.features import FeatureCache, FinalizedFeatures
from broker.cluster.view import OFFSETS_TOPIC, SHARE_STATE_TOPIC
from broker.shares.common import ShareKey
from broker.shares.tending import StateTender
from protocol.errors import ErrorCode
from protocol.messages import alter_share_group_offsets as altering
from protocol.messages import delete_share_group_offsets as deleting
from protocol.messages import delete_share_group_state as forgetting
from protocol.messages import describe_share_group_offsets as describing
from protocol.messages import initialize_share_group_state as initializing
from protocol.messages import read_share_group_state as reading
from protocol.messages import read_share_group_state_summary as summing
from protocol.messages import write_share_group_state as writing
from protocol.messages.delete_groups import DeleteGroupsRequest
from protocol.messages.list_groups import ListGroupsRequest
from protocol.messages.share_group_describe import ShareGroupDescribeRequest
from protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest
from storage.filesystem import MemoryFileSystem
from tests.broker.shares.node import ACCEPT, GROUP, REJECT, RELEASE, ShareNode, topic_id
from tests.kit.hosted import OTHER

T0, T1 = ("t", 0), ("t", 1)
A, B = "member-a", "member-b"


@pytest.fixture
async def part() -> AsyncIterator[ShareNode]:
    made = await ShareNode().start()
    yield made
    await made.stop()


async def left(part: ShareNode, *topics: str) -> None:
    """The group has states, and no members."""
    await part.ready(A, topics=topics or ("t",))
    assert (await part.beat(A, -1)).error_code == 0


# --- membership


@pytest.mark.parametrize(
    "fields",
    [
        {"member_id": ""},
        {"member_id": "x" * 37},
        {"group_id": ""},
        {"rack_id": ""},
        {"subscribed_topic_names": None},
        {"subscribed_topic_names": []},
        {"member_epoch": -2},
    ],
)
async def test_heartbeats_that_cannot_be_meant(part: ShareNode, fields: dict[str, Any]) -> None:
    given = {"group_id": GROUP, "member_id": A, "subscribed_topic_names": ["t"]} | fields
    answer = await part.ask(1, ShareGroupHeartbeatRequest(**given))
    assert answer.error_code == ErrorCode.INVALID_REQUEST
    assert answer.error_message


async def test_members(part: ShareNode) -> None:
    answer = await part.beat(A, 0, "t")
    assert (answer.error_code, answer.member_id, answer.member_epoch) == (0, A, 2)
    assert (answer.heartbeat_interval_ms, answer.assignment.topic_partitions) == (5000, [])
    await part.ready()
    answer = await part.beat(A, 2)
    ((given,),) = ([*answer.assignment.topic_partitions],)
    assert (given.topic_id, given.partitions) == (topic_id("t"), [0, 1])
    part.set(share_heartbeat_interval_ms="6000")
    answer = await part.beat(A, 3)
    assert (answer.heartbeat_interval_ms, answer.assignment) == (6000, None)
    assert (await part.beat(B, 3)).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert (await part.beat(A, 9)).error_code == ErrorCode.FENCED_MEMBER_EPOCH
    request = ShareGroupDescribeRequest([GROUP, "", "other"], True)
    groups = (await part.ask(1, request)).groups
    assert [(g.group_id, g.error_code) for g in groups] == [
        ("", ErrorCode.INVALID_GROUP_ID),
        (GROUP, 0),
        ("other", ErrorCode.GROUP_ID_NOT_FOUND),
    ]
    group = groups[1]
    assert (group.group_state, group.group_epoch, group.assignor_name) == ("Stable", 3, "simple")
    assert (group.authorized_operations, groups[2].authorized_operations) == (3400, -1 << 31)
    (member,) = group.members
    assert (member.member_id, member.member_epoch, member.client_host) == (A, 3, "/127.0.0.1")
    assert member.assignment.topic_partitions[0].topic_name == "t"
    (row,) = (await part.ask(5, ListGroupsRequest(types_filter=["share"]))).groups
    assert (row.group_id, row.protocol_type, row.group_state, row.group_type) == (
        GROUP,
        "share",
        "Stable",
        "share",
    )


async def test_the_coordinator_is_elsewhere(part: ShareNode) -> None:
    await part.ready(A)
    part.host(OFFSETS_TOPIC, leader=OTHER, leader_epoch=1, replicas=(OTHER,))
    code = ErrorCode.NOT_COORDINATOR
    assert (await part.beat(A, 0, "t")).error_code == code
    (group,) = (await part.ask(1, ShareGroupDescribeRequest([GROUP]))).groups
    assert group.error_code == code
    assert (await alter(part, {T0: 1})).error_code == code
    assert (await delete(part, "t")).error_code == code
    (group,) = (await describe(part, None)).groups
    assert group.error_code == code


async def test_the_feature_must_be_finalized(part: ShareNode) -> None:
    part.node.features = FeatureCache(FinalizedFeatures({"share.version": 0}, 0))
    code = ErrorCode.UNSUPPORTED_VERSION
    assert (await part.beat(A, 0, "t")).error_code == code
    (group,) = (await part.ask(1, ShareGroupDescribeRequest([GROUP]))).groups
    assert group.error_code == code
    assert (await alter(part, {T0: 1})).error_code == code
    assert (await delete(part, "t")).error_code == code
    (group,) = (await describe(part, ["t"])).groups
    assert group.error_code == code


# --- offsets


async def describe(part: ShareNode, topics: list[str] | None, group: str = GROUP) -> Any:
    wanted = None
    if topics is not None:
        wanted = [describing.DescribeShareGroupOffsetsRequestTopic(name, [0, 1]) for name in topics]
    asked = describing.DescribeShareGroupOffsetsRequestGroup(group, wanted)
    return await part.ask(1, describing.DescribeShareGroupOffsetsRequest([asked]))


async def stands(
    part: ShareNode, topics: list[str] | None, group: str = GROUP
) -> dict[tuple[str, int], tuple[int, int]]:
    """(start offset, lag) by partition."""
    (found,) = (await describe(part, topics, group)).groups
    assert (found.group_id, found.error_code) == (group, 0)
    return {
        (topic.topic_name, row.partition_index): (row.start_offset, row.lag)
        for topic in found.topics
        for row in topic.partitions
        if row.error_code == 0
    }


async def alter(part: ShareNode, offsets: dict[tuple[str, int], int], group: str = GROUP) -> Any:
    topics: dict[str, altering.AlterShareGroupOffsetsRequestTopic] = {}
    for (name, index), offset in offsets.items():
        topic = topics.setdefault(name, altering.AlterShareGroupOffsetsRequestTopic(name))
        row = altering.AlterShareGroupOffsetsRequestPartition(index, offset)
        topic.partitions.append(row)
    return await part.ask(0, altering.AlterShareGroupOffsetsRequest(group, list(topics.values())))


def altered(answer: Any) -> dict[tuple[str, int], int]:
    return {
        (topic.topic_name, row.partition_index): row.error_code
        for topic in answer.responses
        for row in topic.partitions
    }


async def delete(part: ShareNode, *topics: str, group: str = GROUP) -> Any:
    rows = [deleting.DeleteShareGroupOffsetsRequestTopic(name) for name in topics]
    return await part.ask(0, deleting.DeleteShareGroupOffsetsRequest(group, rows))


async def test_where_a_group_stands(part: ShareNode) -> None:
    part.append("t", [1, 2, 3])
    part.append("t", [4])
    assert await stands(part, None) == {}
    assert await stands(part, ["t", "nowhere"]) == {
        **dict.fromkeys((T0, T1), (-1, -1)),
        **dict.fromkeys((("nowhere", 0), ("nowhere", 1)), (-1, -1)),
    }
    await part.ready(A)
    assert await stands(part, None) == {T0: (-1, -1), T1: (-1, -1)}
    await part.fetch(A, 0, [T0], max_wait_ms=5000).acquired()
    await part.acknowledge(A, 1, {T0: [(1, 2, [ACCEPT])]})
    assert await stands(part, None) == {T0: (0, 2), T1: (-1, -1)}
    await part.acknowledge(A, 2, {T0: [(0, 0, [REJECT])]})
    await part.acknowledge(A, 3, {T0: [(3, 3, [RELEASE])]})
    assert await stands(part, ["t"]) == {T0: (3, 1), T1: (-1, -1)}
    # The end is not known here.
    part.host("t", leader=OTHER, leader_epoch=1, replicas=(OTHER,))
    (group,) = (await describe(part, ["t"])).groups
    (topic,) = group.topics
    assert [(r.error_code, r.start_offset) for r in topic.partitions] == [
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, 0),
        (0, -1),
    ]


@pytest.mark.parametrize(
    ("group", "partitions", "code"),
    [
        ("", [0], ErrorCode.UNKNOWN_SERVER_ERROR),
        (GROUP, [], ErrorCode.UNKNOWN_SERVER_ERROR),
        (GROUP, [0, 0], 0),
        (GROUP, [7, -1], 0),
    ],
)
async def test_odd_questions_about_offsets(
    part: ShareNode, group: str, partitions: list[int], code: int
) -> None:
    topic = describing.DescribeShareGroupOffsetsRequestTopic("t", partitions)
    asked = describing.DescribeShareGroupOffsetsRequestGroup(group, [topic])
    answer = await part.ask(1, describing.DescribeShareGroupOffsetsRequest([asked]))
    assert answer.groups[0].error_code == code
    rows = [row for topic in answer.groups[0].topics for row in topic.partitions]
    assert [(row.start_offset, row.error_code) for row in rows] == [(-1, 0)] * (
        0 if code else len(set(partitions))
    )


async def test_offsets_are_set(part: ShareNode) -> None:
    part.append("t", [1, 2, 3, 4])
    answer = await alter(part, {T0: 2, ("t", 7): 1, ("nowhere", 0): 1})
    assert altered(answer) == {
        T0: 0,
        ("t", 7): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ("nowhere", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert [topic.topic_name for topic in answer.responses] == ["nowhere", "t"]
    assert await stands(part, None) == {T0: (2, 2)}
    await part.ready(A)
    assert await part.fetch(A, 0, [T0], max_wait_ms=5000).acquired() == {T0: [(2, 3, 1)]}
    answer = await alter(part, {T0: 0})
    assert (answer.error_code, answer.responses) == (ErrorCode.NON_EMPTY_GROUP, [])
    # Whoever still reads with what was before is fenced.
    await part.beat(A, -1)
    assert altered(await alter(part, {T0: 1})) == {T0: 0}
    told = await part.acknowledge(A, 1, {T0: [(2, 3, [ACCEPT])]})
    assert told.responses[0].partitions[0].error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    # The other partition got its state when the topic was known already: from its beginning on.
    assert await stands(part, ["t"]) == {T0: (1, 3), T1: (0, 0)}
    part.hang_up(A)
    await part.ready(B)
    assert await part.fetch(B, 0, [T0], max_wait_ms=5000).acquired() == {T0: [(1, 3, 1)]}


async def test_offsets_that_cannot_be_set(part: ShareNode) -> None:
    assert (await alter(part, {T0: 1}, group="")).error_code == ErrorCode.INVALID_GROUP_ID
    answer = await alter(part, {})
    assert (answer.error_code, answer.responses) == (0, [])
    answer = await alter(part, {("t", 7): 1})
    assert altered(answer) == {("t", 7): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
    answer = await alter(part, {T0: 1, ("t", -1): 1})
    assert (answer.error_code, answer.responses) == (ErrorCode.UNKNOWN_SERVER_ERROR, [])


async def test_offsets_are_deleted(part: ShareNode) -> None:
    await left(part, "t", "u")
    answer = await delete(part, "t", "nowhere")
    assert [(r.topic_name, r.topic_id, r.error_code) for r in answer.responses] == [
        ("t", topic_id("t"), 0),
        ("nowhere", bytes(16), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ]
    assert await stands(part, None) == {("u", 0): (-1, -1), ("u", 1): (-1, -1)}
    keys = {key for machine in part.node.share_states.machines() for key in machine.states}
    assert {key.topic_id for key in keys} == {topic_id("u")}
    (row,) = (await delete(part, "t")).responses
    assert row.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert (await delete(part)).responses == []


async def test_offsets_that_cannot_be_deleted(part: ShareNode) -> None:
    assert (await delete(part, "t", group="")).error_code == ErrorCode.INVALID_GROUP_ID
    assert (await delete(part, "t")).error_code == ErrorCode.GROUP_ID_NOT_FOUND
    await part.ready(A)
    assert (await delete(part, "t")).error_code == ErrorCode.NON_EMPTY_GROUP


async def test_a_group_is_deleted_with_its_states(part: ShareNode) -> None:
    await part.ready(A)
    request = DeleteGroupsRequest([GROUP, "other"])
    assert [r.error_code for r in (await part.ask(2, request)).results] == [
        ErrorCode.NON_EMPTY_GROUP,
        ErrorCode.GROUP_ID_NOT_FOUND,
    ]
    await part.beat(A, -1)
    assert [r.error_code for r in (await part.ask(2, request)).results] == [
        0,
        ErrorCode.GROUP_ID_NOT_FOUND,
    ]
    assert all(not machine.states for machine in part.node.share_states.machines())
    (group,) = (await part.ask(1, ShareGroupDescribeRequest([GROUP]))).groups
    assert group.error_code == ErrorCode.GROUP_ID_NOT_FOUND


# --- the share coordinator's APIs


async def test_states_over_the_wire(part: ShareNode) -> None:
    t = topic_id("t")

    def codes(answer: Any) -> list[int]:
        return [row.error_code for topic in answer.results for row in topic.partitions]

    rows = [initializing.PartitionData(index, 1, 5) for index in (0, 1, 9)]
    topics = [initializing.InitializeStateData(t, rows)]
    answer = await part.ask(0, initializing.InitializeShareGroupStateRequest(GROUP, topics))
    assert codes(answer) == [0, 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    batches = [writing.StateBatch(5, 8, 2, 1), writing.StateBatch(9, 9, 0, 3)]
    rows2 = [
        writing.PartitionData(0, 1, 0, -1, 4, batches),
        writing.PartitionData(1, 0, 0, -1, 4, batches),
    ]
    request = writing.WriteShareGroupStateRequest(GROUP, [writing.WriteStateData(t, rows2)])
    assert codes(await part.ask(1, request)) == [0, ErrorCode.FENCED_STATE_EPOCH]
    rows3 = [reading.PartitionData(index, 3) for index in (0, 1)]
    asked = reading.ReadShareGroupStateRequest(GROUP, [reading.ReadStateData(t, rows3)])
    (topic,) = (await part.ask(0, asked)).results
    assert [(r.state_epoch, r.start_offset, r.error_code) for r in topic.partitions] == [
        (1, 5, 0),
        (1, 5, 0),
    ]
    assert topic.partitions[0].state_batches == [
        reading.StateBatch(5, 8, 2, 1),
        reading.StateBatch(9, 9, 0, 3),
    ]
    assert codes(await part.ask(1, request)) == [ErrorCode.FENCED_LEADER_EPOCH] * 2
    rows4 = [summing.PartitionData(0, 3), summing.PartitionData(9, 3)]
    summary = summing.ReadShareGroupStateSummaryRequest(
        GROUP, [summing.ReadStateSummaryData(t, rows4)]
    )
    (topic,) = (await part.ask(1, summary)).results
    assert topic.partitions[0] == summing.PartitionResult(0, 0, None, 1, 3, 5, 0)
    assert topic.partitions[1].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    gone = forgetting.DeleteShareGroupStateRequest(
        GROUP,
        [forgetting.DeleteStateData(t, [forgetting.PartitionData(0), forgetting.PartitionData(9)])],
    )
    assert codes(await part.ask(0, gone)) == [0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    assert codes(await part.ask(0, asked)) == [ErrorCode.INVALID_REQUEST, 0]
    # About nothing there is nothing to say.
    for odd in (
        reading.ReadShareGroupStateRequest("", asked.topics),
        reading.ReadShareGroupStateRequest(GROUP, []),
        reading.ReadShareGroupStateRequest(GROUP, [reading.ReadStateData(t, [])]),
    ):
        assert (await part.ask(0, odd)).results == []
    part.host(SHARE_STATE_TOPIC, 2, leader=OTHER, leader_epoch=1, replicas=(OTHER,))
    assert codes(await part.ask(0, asked)) == [ErrorCode.NOT_COORDINATOR] * 2


async def test_the_states_topic_is_kept_small() -> None:
    settings = {"share.coordinator.snapshot.update.records.per.snapshot": "10"}
    part = await ShareNode(settings).start()
    try:
        part.append("t", range(100))
        await part.ready(A)
        await part.fetch(A, 0, [T0], max_wait_ms=5000).acquired()
        for offset in range(100):
            await part.acknowledge(A, offset + 1, {T0: [(offset, offset, [ACCEPT])]})
        key = ShareKey(GROUP, topic_id("t"), 0)
        index = part.node.share_states.partition_for(str(key))
        assert index is not None
        log = part.partition(SHARE_STATE_TOPIC, index).log
        assert log is not None
        assert log.end_offset > 100
        StateTender(part.node).tend()
        machine = part.node.share_states.find(str(key))
        assert not isinstance(machine, ErrorCode)
        assert log.log_start_offset == machine.redundant_below
        others = [k for k in machine.states if k != key]
        assert bool(others) == (log.log_start_offset < 90)
        state = machine.states[key]
        part.coordinate()
        part.come_back(SHARE_STATE_TOPIC)
        while part.node.share_states.loading:
            await part.settle()
        machine = part.node.share_states.find(str(key))
        assert not isinstance(machine, ErrorCode)
        assert machine.states[key] == state
    finally:
        await part.stop()


# --- after a crash


async def test_what_is_known_after_a_crash() -> None:
    fs = MemoryFileSystem()
    part = await ShareNode(fs=fs).start()
    part.append("t", range(12))
    await part.ready(A)
    await part.fetch(A, 0, [T0], max_wait_ms=5000).acquired()
    acks = {T0: [(0, 1, [ACCEPT]), (2, 2, [REJECT]), (3, 4, [RELEASE]), (6, 6, [ACCEPT])]}
    await part.acknowledge(A, 1, acks)
    assert await part.fetch(A, 2).acquired() == {T0: [(3, 4, 2)]}
    await part.acknowledge(A, 3, {T0: [(3, 3, [RELEASE])]})
    # The process dies; what it had not written is lost.
    again = await ShareNode(fs=fs).start()
    try:
        while again.node.groups.loading or again.node.share_states.loading:
            await again.settle()
        answer = await again.beat(A, 2)
        assert answer.error_code == 0  # the member is still there
        assert await again.fetch(A, 0, [T0], max_wait_ms=5000).acquired() == {
            T0: [(3, 3, 3), (4, 4, 2), (5, 5, 1), (7, 11, 1)]
        }
        assert await stands(again, None) == {T0: (3, 8), T1: (-1, -1)}
    finally:
        await again.stop()
        await part.stop()
