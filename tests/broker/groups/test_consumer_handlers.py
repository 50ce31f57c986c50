"""Handlers of consumer groups over a coordinator with a real log in memory: the feature, where the
coordinator is, and what the APIs of all groups make of these."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.cluster.features import GROUP_VERSION, LATEST, FinalizedFeatures
from broker.cluster.view import OFFSETS_TOPIC
from protocol.errors import ErrorCode
from protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    TopicPartitions,
)
from protocol.messages.delete_groups import DeleteGroupsRequest
from protocol.messages.describe_groups import DescribeGroupsRequest
from protocol.messages.list_groups import ListGroupsRequest
from protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from tests.broker.groups.node import GroupNode
from tests.kit.hosted import OTHER

T_ID = b"t".rjust(16, b".")


@pytest.fixture
async def part() -> AsyncIterator[GroupNode]:
    made = await GroupNode({"group.consumer.assignment.interval.ms": "0"}).start()
    yield made
    await made.stop()


async def beat(
    part: GroupNode, member: str = "m", epoch: int = 0, group: str = "g", **fields: Any
) -> Any:
    """Joins as a reader of t with epoch 0."""
    request = ConsumerGroupHeartbeatRequest(group, member, epoch)
    if epoch == 0:
        request.rebalance_timeout_ms, request.topic_partitions = 10_000, []
        request.subscribed_topic_names = ["t"]
    for name, value in fields.items():
        setattr(request, name, value)
    return await part.ask(1, request, "me")


async def describe(part: GroupNode, *groups: str, operations: bool = False) -> list[Any]:
    answer = await part.ask(1, ConsumerGroupDescribeRequest(list(groups), operations))
    found: list[Any] = answer.groups
    return found


async def commit(part: GroupNode, member: str, epoch: int, version: int = 9) -> int:
    topic = OffsetCommitRequestTopic("t", partitions=[OffsetCommitRequestPartition(0, 5)])
    answer = await part.ask(version, OffsetCommitRequest("g", epoch, member, topics=[topic]))
    code: int = answer.topics[0].partitions[0].error_code
    return code


async def fetch(part: GroupNode, member: str | None, epoch: int) -> tuple[int, list[int]]:
    topics = [OffsetFetchRequestTopics("t", partition_indexes=[0])]
    group = OffsetFetchRequestGroup("g", member, epoch, topics)
    (answer,) = (await part.ask(9, OffsetFetchRequest(groups=[group]))).groups
    offsets = [p.committed_offset for topic in answer.topics for p in topic.partitions]
    return answer.error_code, offsets


async def test_without_the_feature_there_are_no_consumer_groups(part: GroupNode) -> None:
    part.node.features.adopt(FinalizedFeatures({**LATEST, GROUP_VERSION: 0}, 1))
    code = ErrorCode.UNSUPPORTED_VERSION
    assert (await beat(part)).error_code == code
    assert [(g.error_code, g.group_id) for g in await describe(part, "g", "")] == [
        (code, ""),
        (code, "g"),
    ]
    part.node.features.adopt(FinalizedFeatures(LATEST, 2))
    assert (await beat(part)).error_code == ErrorCode.NONE


async def test_other_brokers_groups(part: GroupNode) -> None:
    part.host(OFFSETS_TOPIC, leader=OTHER, leader_epoch=1)
    assert (await beat(part)).error_code == ErrorCode.NOT_COORDINATOR
    (group,) = await describe(part, "g")
    assert (group.error_code, group.group_id) == (ErrorCode.NOT_COORDINATOR, "g")


async def test_a_restart_goes_on_where_it_was(part: GroupNode) -> None:
    joined = await beat(part)
    assert (joined.error_code, joined.member_epoch) == (0, 2)
    assert [(p.topic_id, p.partitions) for p in joined.assignment.topic_partitions] == [
        (T_ID, [0, 1])
    ]
    before = await describe(part, "g")
    await part.node.groups.close()
    part.coordinate()
    part.come_back(OFFSETS_TOPIC)
    assert part.node.groups.loading
    assert (await beat(part, epoch=2)).error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    (group,) = await describe(part, "g")
    assert group.error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    while part.node.groups.loading:
        await asyncio.sleep(0)
    assert await describe(part, "g") == before
    again = await beat(part, epoch=2)
    assert (again.error_code, again.member_epoch, again.assignment) == (0, 2, None)


async def test_answers_wait_for_the_replicas(part: GroupNode) -> None:
    """Also the ones that only repeat what another broker might never hear of."""
    log = part.host(OFFSETS_TOPIC, leader_epoch=1, isr=(0, OTHER))
    waits = [asyncio.create_task(beat(part)), asyncio.create_task(beat(part))]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not any(task.done() for task in waits)
    log.advance_high_watermark(log.end_offset)
    part.partition(OFFSETS_TOPIC).notify()
    first, second = [await task for task in waits]
    assert (first.member_epoch, second.member_epoch) == (2, 2)
    assert first.assignment == second.assignment


async def test_too_few_replicas() -> None:
    part = await GroupNode().start(min_insync_replicas="2")
    part.host(OFFSETS_TOPIC, leader_epoch=1, replicas=(OTHER,))
    assert (await beat(part)).error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    (group,) = await describe(part, "g")
    assert group.error_code == ErrorCode.GROUP_ID_NOT_FOUND
    await part.stop()


async def test_describe(part: GroupNode) -> None:
    await beat(part, instance_id="i", rack_id="r", server_assignor="range")
    await beat(part, "n", subscribed_topic_names=["u"])
    groups = await describe(part, "g", "", "nobody", operations=True)
    assert [(g.group_id, g.error_code, g.authorized_operations) for g in groups] == [
        ("", ErrorCode.INVALID_GROUP_ID, -(1 << 31)),
        ("g", ErrorCode.NONE, 3400),
        ("nobody", ErrorCode.GROUP_ID_NOT_FOUND, -(1 << 31)),
    ]
    group = groups[1]
    told = (group.group_state, group.group_epoch, group.assignment_epoch, group.assignor_name)
    assert told == ("Reconciling", 3, 3, "range")
    m, n = sorted(group.members, key=lambda member: member.member_id)
    assert (m.member_id, m.instance_id, m.rack_id, m.member_epoch) == ("m", "i", "r", 2)
    assert (m.client_id, m.client_host, m.member_type) == ("me", "/127.0.0.1", 1)
    assert (m.subscribed_topic_names, m.subscribed_topic_regex) == (["t"], "")
    for member, topic in ((m, "t"), (n, "u")):
        for shown in (member.assignment, member.target_assignment):
            (row,) = shown.topic_partitions
            assert (row.topic_name, row.topic_id, row.partitions) == (
                topic,
                topic.encode().rjust(16, b"."),
                [0, 1],
            )


async def test_lists_know_the_kind_and_the_state(part: GroupNode) -> None:
    await beat(part)
    await beat(part, "n", group="h")
    await beat(part, "n", -1, group="h")

    async def listed(version: int, *filters: list[str]) -> list[tuple[str, str, str]]:
        answer = await part.ask(version, ListGroupsRequest(*filters))
        assert {g.protocol_type for g in answer.groups} <= {"consumer"}
        return sorted((g.group_id, g.group_state, g.group_type) for g in answer.groups)

    both = [("g", "Stable", "consumer"), ("h", "Empty", "consumer")]
    assert await listed(5) == both
    assert await listed(5, [], ["Consumer"]) == both
    assert await listed(5, ["stable"]) == both[:1]
    assert await listed(5, ["Empty"], ["consumer"]) == both[1:]
    assert await listed(5, [], ["classic"]) == []
    assert await listed(0) == [("g", "", ""), ("h", "", "")]


async def test_a_consumer_group_is_no_classic_one(part: GroupNode) -> None:
    await beat(part)
    (group,) = (await part.ask(6, DescribeGroupsRequest(["g"]))).groups
    assert (group.error_code, group.group_state) == (ErrorCode.GROUP_ID_NOT_FOUND, "Dead")
    assert group.error_message == "Group g is not a classic group."
    (group,) = (await part.ask(5, DescribeGroupsRequest(["g"]))).groups
    assert (group.error_code, group.group_state) == (ErrorCode.NONE, "Dead")


async def test_offsets_are_for_members_of_this_epoch(part: GroupNode) -> None:
    await beat(part)
    assert await commit(part, "m", 2) == ErrorCode.NONE
    assert await commit(part, "m", 1) == ErrorCode.STALE_MEMBER_EPOCH
    assert await commit(part, "m", 3) == ErrorCode.STALE_MEMBER_EPOCH
    assert await commit(part, "nobody", 2) == ErrorCode.UNKNOWN_MEMBER_ID
    assert await commit(part, "m", 2, version=8) == ErrorCode.UNSUPPORTED_VERSION
    assert await commit(part, "", -1) == ErrorCode.UNKNOWN_MEMBER_ID
    assert await fetch(part, "m", 2) == (ErrorCode.NONE, [5])
    assert await fetch(part, "m", 1) == (ErrorCode.STALE_MEMBER_EPOCH, [])
    assert await fetch(part, "nobody", 2) == (ErrorCode.UNKNOWN_MEMBER_ID, [])
    assert await fetch(part, None, -1) == (ErrorCode.NONE, [5])
    # A partition that was assigned since the epoch that the commit has is not the committer's.
    await beat(part, "n")
    await beat(part, "m", 2, topic_partitions=[TopicPartitions(T_ID, [0])])
    assert (await beat(part, "n", 3)).member_epoch == 3
    assert await commit(part, "m", 2) == ErrorCode.NONE, "it has this one since epoch 2"
    assert await commit(part, "n", 2) == ErrorCode.STALE_MEMBER_EPOCH


async def test_only_empty_groups_can_be_deleted(part: GroupNode) -> None:
    await beat(part)
    await commit(part, "m", 2)
    topics = [OffsetDeleteRequestTopic("t", [OffsetDeleteRequestPartition(0)])]
    answer = await part.ask(0, OffsetDeleteRequest("g", topics))
    code = answer.topics[0].partitions[0].error_code
    assert code == ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
    answer = await part.ask(2, DeleteGroupsRequest(["g"]))
    assert answer.results[0].error_code == ErrorCode.NON_EMPTY_GROUP
    await beat(part, "m", -1)
    answer = await part.ask(2, DeleteGroupsRequest(["g"]))
    assert answer.results[0].error_code == ErrorCode.NONE
    assert await fetch(part, None, -1) == (ErrorCode.NONE, [-1])
    (group,) = await describe(part, "g")
    assert group.error_code == ErrorCode.GROUP_ID_NOT_FOUND
