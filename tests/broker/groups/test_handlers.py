"""Handlers of classic groups and offsets over a coordinator with a real log in memory: what the
coordinator's place and state make of a request, and what a restart finds."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from broker.cluster.view import OFFSETS_TOPIC
from broker.context import Context
from broker.groups.common import caller_of
from broker.groups.machine import GroupMachine
from protocol.errors import ErrorCode
from protocol.messages.delete_groups import DeleteGroupsRequest
from protocol.messages.describe_groups import DescribeGroupsRequest
from protocol.messages.heartbeat import HeartbeatRequest
from protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
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
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from tests.broker.groups.node import GroupNode
from tests.broker.transactions.part import TID, Part
from tests.kit.hosted import OTHER

T_ID = b"t".rjust(16, b".")


@pytest.fixture
async def part() -> AsyncIterator[GroupNode]:
    made = await GroupNode().start()
    yield made
    await made.stop()


async def join(part: GroupNode, group: str = "g", member: str = "", **fields: Any) -> Any:
    """The answer of version 3, which needs no member id first."""
    request = JoinGroupRequest(
        group, 10_000, 10_000, member, None, "consumer", [JoinGroupRequestProtocol("range", b"")]
    )
    for name, value in fields.items():
        setattr(request, name, value)
    return await part.ask(3, request, "me")


async def sync(part: GroupNode, generation: int, member: str, give: bytes = b"") -> Any:
    assignments = [SyncGroupRequestAssignment(member, give)] if give else []
    request = SyncGroupRequest("g", generation, member, None, None, None, assignments)
    return await part.ask(3, request)


async def beat(part: GroupNode, generation: int, member: str, group: str = "g") -> int:
    answer = await part.ask(3, HeartbeatRequest(group, generation, member))
    code: int = answer.error_code
    return code


def commit_request(group: str, *rows: tuple[str, int, int], metadata: str = "") -> Any:
    """(topic, partition, offset)..."""
    topics = [
        OffsetCommitRequestTopic(
            topic, partitions=[OffsetCommitRequestPartition(index, offset, 4, -1, metadata)]
        )
        for topic, index, offset in rows
    ]
    return OffsetCommitRequest(group, topics=topics)


async def commit(part: GroupNode, group: str, *rows: tuple[str, int, int], version: int = 9) -> Any:
    """Codes by topic and partition."""
    answer = await part.ask(version, commit_request(group, *rows))
    return {(t.name, p.partition_index): p.error_code for t in answer.topics for p in t.partitions}


async def fetch(part: GroupNode, group: str, **topics: Sequence[int]) -> dict[tuple[str, int], int]:
    """Offsets by topic and partition; of all topics where none is named."""
    named = [OffsetFetchRequestTopic(name, list(rows)) for name, rows in topics.items()]
    answer = await part.ask(7, OffsetFetchRequest(group, named or None))
    assert answer.error_code == 0
    return {
        (t.name, p.partition_index): p.committed_offset for t in answer.topics for p in t.partitions
    }


async def states(part: GroupNode, *groups: str) -> list[str]:
    answer = await part.ask(5, DescribeGroupsRequest(list(groups)))
    return [group.group_state for group in answer.groups]


# --- a group's life


async def test_a_group_from_its_first_member_to_its_deletion(part: GroupNode) -> None:
    first = await join(part)
    assert (first.generation_id, first.leader) == (1, first.member_id)
    assert await beat(part, 1, first.member_id) == 0
    synced = await sync(part, 1, first.member_id, b"all")
    assert (synced.error_code, bytes(synced.assignment)) == (0, b"all")
    second = asyncio.create_task(join(part))
    await asyncio.sleep(0)
    assert await beat(part, 1, first.member_id) == ErrorCode.REBALANCE_IN_PROGRESS
    again = await join(part, member=first.member_id)
    assert (again.generation_id, len(again.members)) == (2, 2)
    other = await second
    waits = asyncio.create_task(sync(part, 2, other.member_id))
    assert (await sync(part, 2, first.member_id, b"x")).error_code == 0
    assert (await waits).error_code == 0
    assert await states(part, "g") == ["Stable"]
    gone = [MemberIdentity(first.member_id), MemberIdentity(other.member_id)]
    answer = await part.ask(4, LeaveGroupRequest("g", members=gone))
    assert [m.error_code for m in answer.members] == [0, 0]
    assert await states(part, "g") == ["Empty"]
    answer = await part.ask(2, DeleteGroupsRequest(["g"]))
    assert answer.results[0].error_code == 0
    assert await states(part, "g") == ["Dead"]


async def test_a_restart_goes_on_where_it_was(part: GroupNode) -> None:
    member = (await join(part)).member_id
    await sync(part, 1, member, b"mine")
    await commit(part, "g", ("t", 0, 5))
    assert await commit(part, "simple", ("t", 1, 7), ("u", 0, 8)) == {("t", 1): 0, ("u", 0): 0}
    await part.node.groups.close()
    part.coordinate()
    assert await beat(part, 1, member) == ErrorCode.NOT_COORDINATOR
    part.come_back(OFFSETS_TOPIC)
    # While it loads members are believed, and what is under way starts over.
    assert part.node.groups.loading
    assert await beat(part, 1, member) == 0
    assert (await sync(part, 1, member)).error_code == ErrorCode.REBALANCE_IN_PROGRESS
    assert (await join(part)).error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert await commit(part, "g", ("t", 0, 9), ("t", 7, 9)) == {
        ("t", 0): ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ("t", 7): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    listed = await part.ask(5, ListGroupsRequest())
    assert listed.error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    while part.node.groups.loading:
        await asyncio.sleep(0)
    assert await beat(part, 1, member) == 0
    assert bytes((await sync(part, 1, member)).assignment) == b"mine"
    assert await fetch(part, "g") == {}
    assert await fetch(part, "simple") == {("t", 1): 7, ("u", 0): 8}
    listed = await part.ask(5, ListGroupsRequest())
    assert [(g.group_id, g.group_state, g.protocol_type) for g in listed.groups] == [
        ("g", "Stable", "consumer"),
        ("simple", "Empty", ""),
    ]


async def test_500_members_rebalance(part: GroupNode) -> None:
    """Nothing is done once more for every member that joins: 500 take tenths of a second."""
    loop = asyncio.get_running_loop()
    leader = (await join(part)).member_id
    began = loop.time()
    joins = [asyncio.create_task(join(part)) for _ in range(499)]
    await asyncio.sleep(0)
    first = await join(part, member=leader)
    members = [leader, *[(await task).member_id for task in joins]]
    assert (first.generation_id, len(first.members), len(set(members))) == (2, 500, 500)
    syncs = [asyncio.create_task(sync(part, 2, member)) for member in members[1:]]
    await asyncio.sleep(0)
    await sync(part, 2, leader, b"x")
    assert {(await task).error_code for task in syncs} == {0}
    assert loop.time() - began < 3


# --- where the coordinator is, and what it can write


async def test_other_brokers_groups(part: GroupNode) -> None:
    part.host(OFFSETS_TOPIC, leader=OTHER, leader_epoch=1)
    code = ErrorCode.NOT_COORDINATOR
    assert (await join(part)).error_code == code
    assert (await sync(part, 1, "m")).error_code == code
    assert await beat(part, 1, "m") == code
    answer = await part.ask(4, LeaveGroupRequest("g", members=[MemberIdentity("m")]))
    assert (answer.error_code, answer.members) == (code, [])
    assert await commit(part, "g", ("t", 0, 1)) == {("t", 0): code}
    topic = OffsetDeleteRequestTopic("t", [OffsetDeleteRequestPartition(0)])
    answer = await part.ask(0, OffsetDeleteRequest("g", [topic]))
    assert (answer.error_code, answer.topics) == (code, [])
    answer = await part.ask(5, DescribeGroupsRequest(["g"]))
    assert (answer.groups[0].error_code, answer.groups[0].group_state) == (code, "")
    answer = await part.ask(2, DeleteGroupsRequest(["g", "h"]))
    assert [result.error_code for result in answer.results] == [code, code]
    assert (await part.ask(5, ListGroupsRequest())).groups == []
    for version, told in ((1, [code]), (2, []), (7, [])):
        request = OffsetFetchRequest("g", [OffsetFetchRequestTopic("t", [0])])
        answer = await part.ask(version, request)
        assert [p.error_code for t in answer.topics for p in t.partitions] == told
        assert answer.error_code == (code if version >= 2 else 0)
    group = OffsetFetchRequestGroup(
        "g", topics=[OffsetFetchRequestTopics("t", partition_indexes=[0])]
    )
    answer = await part.ask(9, OffsetFetchRequest(groups=[group]))
    assert [(g.group_id, g.error_code, g.topics) for g in answer.groups] == [("g", code, [])]


async def test_whoever_waits_is_told_when_the_partition_goes(part: GroupNode) -> None:
    member = (await join(part)).member_id
    waits = [asyncio.create_task(join(part)), asyncio.create_task(sync(part, 1, member))]
    await asyncio.sleep(0)
    part.host(OFFSETS_TOPIC, leader=OTHER, leader_epoch=1)
    answers = [await task for task in waits]
    assert {answer.error_code for answer in answers} <= {
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.REBALANCE_IN_PROGRESS,
    }
    assert answers[0].error_code == ErrorCode.NOT_COORDINATOR


async def test_too_few_replicas() -> None:
    part = await GroupNode().start(min_insync_replicas="2")
    part.host(OFFSETS_TOPIC, leader_epoch=1, replicas=(OTHER,))
    code = ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert await commit(part, "g", ("t", 0, 1)) == {("t", 0): code}
    member = (await join(part)).member_id
    assert (await sync(part, 1, member, b"x")).error_code == code
    # The assignments are lost: everybody joins again.
    assert await beat(part, 1, member) == ErrorCode.REBALANCE_IN_PROGRESS
    await part.stop()


async def test_answers_wait_for_the_replicas(part: GroupNode) -> None:
    log = part.host(OFFSETS_TOPIC, leader_epoch=1, isr=(0, OTHER))
    member = (await join(part)).member_id
    leader = asyncio.create_task(sync(part, 1, member, b"x"))
    await asyncio.sleep(0)
    # The assignments are known and not safe yet: another sync, or a look at offsets, waits too.
    again = asyncio.create_task(sync(part, 1, member))
    committed = asyncio.create_task(commit(part, "h", ("t", 0, 3)))
    looked = asyncio.create_task(fetch(part, "h", t=[0]))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not any(task.done() for task in (leader, again, committed, looked))
    assert await beat(part, 1, member) == 0
    log.advance_high_watermark(log.end_offset)
    part.partition(OFFSETS_TOPIC).notify()
    assert bytes((await leader).assignment) == bytes((await again).assignment) == b"x"
    assert await committed == {("t", 0): 0}
    assert await looked == {("t", 0): 3}


async def test_offsets_that_make_too_large_a_batch() -> None:
    part = await GroupNode().start(max_message_bytes="300")
    request = commit_request("g", ("t", 0, 1), ("t", 1, 1), metadata="m" * 200)
    answer = await part.ask(9, request)
    codes = [p.error_code for t in answer.topics for p in t.partitions]
    assert codes == [ErrorCode.INVALID_COMMIT_OFFSET_SIZE] * 2
    await part.stop()


async def test_a_group_with_very_many_offsets_is_deleted() -> None:
    """Deletions are divided where they take more than a batch."""
    part = await GroupNode().start(max_message_bytes="60000")
    part.know("wide", 2500)
    rows = [OffsetCommitRequestPartition(index, 1) for index in range(2500)]
    for at in range(0, 2500, 500):
        topic = OffsetCommitRequestTopic("wide", partitions=rows[at : at + 500])
        await part.ask(9, OffsetCommitRequest("g", topics=[topic]))
    assert len(await fetch(part, "g")) == 2500
    answer = await part.ask(2, DeleteGroupsRequest(["g"]))
    assert answer.results[0].error_code == 0
    assert await fetch(part, "g") == {}
    assert await states(part, "g") == ["Dead"]
    await part.stop()


# --- requests that are wrong or odd


async def test_group_ids(part: GroupNode) -> None:
    """An empty one is no group's; offsets may be kept under it all the same."""
    code = ErrorCode.INVALID_GROUP_ID
    assert (await join(part, group="")).error_code == code
    assert await beat(part, 1, "m", group="") == code
    request = SyncGroupRequest("", 1, "m", None, None, None)
    assert (await part.ask(3, request)).error_code == code
    # Without a protocol, that is what is wrong first (KIP-559).
    code = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert (await part.ask(5, request)).error_code == code
    request = SyncGroupRequest("g", 1, "m", None, "consumer", None)
    assert (await part.ask(5, request)).error_code == code
    assert await commit(part, "", ("t", 0, 1)) == {("t", 0): 0}
    assert await fetch(part, "", t=[0]) == {("t", 0): 1}


async def test_partitions_named_twice(part: GroupNode) -> None:
    """Once where Apache Kafka answers once; the last offset counts in any case."""
    rows = [("t", 0, 1), ("u", 0, 1), ("t", 0, 2), ("nope", 0, 1), ("nope", 0, 1)]
    for version, told in ((0, ["t0 t0", "u0"]), (1, ["t0", "u0"]), (9, ["t0", "u0"])):
        answer = await part.ask(version, commit_request("g", *rows))
        seen = [
            " ".join(f"{topic.name}{p.partition_index}" for p in topic.partitions)
            for topic in answer.topics
        ]
        assert seen == [*told, "nope0 nope0"], version
        assert [p.error_code for p in answer.topics[-1].partitions] == [3, 3]
    assert await fetch(part, "g", t=[0]) == {("t", 0): 2}
    wanted = [OffsetFetchRequestTopic("t", [0, 1, 0]), OffsetFetchRequestTopic("t", [1, 7])]
    answer = await part.ask(7, OffsetFetchRequest("g", wanted))
    assert [[p.partition_index for p in t.partitions] for t in answer.topics] == [[0, 1, 7]]
    topics = [OffsetDeleteRequestTopic("t", [OffsetDeleteRequestPartition(0)] * 2)] * 2
    answer = await part.ask(0, OffsetDeleteRequest("g", topics))
    assert [[p.partition_index for p in t.partitions] for t in answer.topics] == [[0]]
    answer = await part.ask(2, DeleteGroupsRequest(["x", "y", "x"]))
    assert [result.group_id for result in answer.results] == ["x", "y"]


async def test_topics_without_partitions_are_left_out(part: GroupNode) -> None:
    for version in (0, 9):
        bare = [OffsetCommitRequestTopic("t"), OffsetCommitRequestTopic("nope")]
        answer = await part.ask(version, OffsetCommitRequest("g", topics=bare))
        assert [(t.name, t.partitions) for t in answer.topics] == [("nope", [])]
        if version == 0:
            request = OffsetFetchRequest("g", [OffsetFetchRequestTopic("t", [])])
            assert (await part.ask(version, request)).topics == []
    groups = [OffsetFetchRequestGroup("g", topics=[OffsetFetchRequestTopics("t")])]
    answer = await part.ask(9, OffsetFetchRequest(groups=groups))
    assert answer.groups[0].topics == []
    answer = await part.ask(0, OffsetDeleteRequest("none", [OffsetDeleteRequestTopic("t")]))
    assert (answer.error_code, answer.topics) == (ErrorCode.GROUP_ID_NOT_FOUND, [])


async def test_topics_by_id(part: GroupNode) -> None:
    """Each as often as it is named, and once where anything is unknown."""
    unknown = b"?" * 16

    async def rows(*topics: tuple[bytes, int]) -> list[tuple[bytes, list[tuple[int, int]]]]:
        partitions = [(id_, [OffsetCommitRequestPartition(index, 4)]) for id_, index in topics]
        named = [OffsetCommitRequestTopic("", id_, some) for id_, some in partitions]
        answer = await part.ask(10, OffsetCommitRequest("g", topics=named))
        return [
            (t.topic_id, [(p.partition_index, p.error_code) for p in t.partitions])
            for t in answer.topics
        ]

    no_id, no_index = ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert await rows((T_ID, 0), (T_ID, 0)) == [(T_ID, [(0, 0)]), (T_ID, [(0, 0)])]
    assert await rows((T_ID, 0), (unknown, 0), (T_ID, 0), (unknown, 5)) == [
        (T_ID, [(0, 0), (0, 0)]),
        (unknown, [(0, no_id), (5, no_id)]),
    ]
    assert await rows((T_ID, 9), (T_ID, 0)) == [(T_ID, [(9, no_index), (0, 0)])]
    wanted = [
        OffsetFetchRequestTopics("", T_ID, [0, 1, 0]),
        OffsetFetchRequestTopics("", unknown, [0]),
    ]
    groups = [
        OffsetFetchRequestGroup("g", topics=wanted),
        OffsetFetchRequestGroup("g", topics=None),
    ]
    answer = await part.ask(10, OffsetFetchRequest(groups=groups))
    seen = [
        [(t.topic_id, [(p.committed_offset, p.error_code) for p in t.partitions]) for t in g.topics]
        for g in answer.groups
    ]
    assert seen == [
        [
            (T_ID, [(4, 0), (-1, 0), (4, 0)]),
            (unknown, [(-1, ErrorCode.UNKNOWN_TOPIC_ID)]),
        ],
        [(T_ID, [(4, 0)])],
    ]


async def test_what_members_were_given_is_shown_while_they_join(part: GroupNode) -> None:
    """Since version 6; what they said is not."""
    member = (await join(part)).member_id
    await sync(part, 1, member, b"mine")
    joining = asyncio.create_task(join(part))
    await asyncio.sleep(0)
    for version, shown in ((5, b""), (6, b"mine")):
        (group,) = (await part.ask(version, DescribeGroupsRequest(["g"]))).groups
        assert (group.group_state, group.protocol_data) == ("PreparingRebalance", "")
        assert bytes(group.members[0].member_assignment) == shown
        assert bytes(group.members[0].member_metadata) == b""
    await part.stop()
    await joining


async def test_no_groups_and_no_topics(part: GroupNode) -> None:
    assert (await part.ask(8, OffsetFetchRequest(groups=[]))).groups == []
    assert (await part.ask(7, OffsetFetchRequest("g", []))).topics == []
    assert (await part.ask(9, OffsetCommitRequest("g"))).topics == []
    assert (await part.ask(2, DeleteGroupsRequest())).results == []
    assert (await part.ask(5, DescribeGroupsRequest())).groups == []


async def test_listings_are_filtered(part: GroupNode) -> None:
    await join(part)
    await commit(part, "simple", ("t", 0, 1))

    async def listed(states: Sequence[str] = (), types: Sequence[str] = ()) -> list[str]:
        answer = await part.ask(5, ListGroupsRequest(list(states), list(types)))
        return [group.group_id for group in answer.groups]

    assert await listed() == ["g", "simple"]
    assert await listed(["EMPTY"]) == ["simple"]
    assert await listed(["completingrebalance", "Nonsense"]) == ["g"]
    assert await listed([], ["Classic"]) == ["g", "simple"]
    assert await listed(["Empty"], ["consumer", "share"]) == []


async def test_operations_are_told_when_asked_for(part: GroupNode) -> None:
    await join(part)
    for version, allowed in ((3, 328), (6, 3400)):
        request = DescribeGroupsRequest(["g", "none"], include_authorized_operations=True)
        answer = await part.ask(version, request)
        seen = [(g.error_code, g.authorized_operations) for g in answer.groups]
        gone = (69, -(1 << 31)) if version == 6 else (0, allowed)
        assert seen == [(0, allowed), gone]


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "/127.0.0.1"),
        ("::1", "/0:0:0:0:0:0:0:1"),
        ("fe80::1%eth0", "/fe80:0:0:0:0:0:0:1%eth0"),
    ],
)
def test_clients_are_described_as_kafka_does(host: str, shown: str) -> None:
    context = Context("c", "PLAINTEXT", host)
    context.version = 3
    assert caller_of(context) == ("", shown, 3)


# --- offsets in the metadata store


async def test_version_0_keeps_offsets_apart(part: GroupNode) -> None:
    """Read by version 0 only, whatever the offsets topic has; nothing else is checked."""
    part.host(OFFSETS_TOPIC, leader=OTHER, leader_epoch=1)
    assert await commit(part, "g", ("t", 0, 5), version=0) == {("t", 0): 0}
    assert await commit(part, "g", ("t", 0, 6), ("t", 9, 6), version=0) == {
        ("t", 0): 0,
        ("t", 9): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    answer = await part.ask(0, commit_request("g", ("t", 1, 6), metadata="m" * 4097))
    assert answer.topics[0].partitions[0].error_code == ErrorCode.OFFSET_METADATA_TOO_LARGE
    topics = [OffsetFetchRequestTopic("t", [0, 1, 0]), OffsetFetchRequestTopic("t", [0, 9])]
    answer = await part.ask(0, OffsetFetchRequest("g", topics))
    rows = [
        (p.partition_index, p.committed_offset, p.error_code) for p in answer.topics[0].partitions
    ]
    assert rows == [(0, 6, 0), (1, -1, 3), (9, -1, 3)]
    assert await part.store.get("/consumers/g/offsets/t/0") is not None
    # A group is part of a path: slashes make more nodes of it, and some are no path.
    assert await commit(part, "a/b", ("t", 0, 1), version=0) == {("t", 0): 0}
    for group in ("", "a//b", "..", "\0"):
        code = ErrorCode.UNKNOWN_SERVER_ERROR
        assert await commit(part, group, ("t", 0, 1), version=0) == {("t", 0): code}
        answer = await part.ask(0, OffsetFetchRequest(group, [OffsetFetchRequestTopic("t", [0])]))
        assert answer.topics[0].partitions[0].error_code == code


async def test_a_store_that_is_gone(part: GroupNode) -> None:
    await commit(part, "g", ("t", 0, 5), version=0)
    await part.store.set("/consumers/g/offsets/t/0", b"five")
    answer = await part.ask(0, OffsetFetchRequest("g", [OffsetFetchRequestTopic("t", [0])]))
    assert answer.topics[0].partitions[0].error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    await part.store.close()
    code = ErrorCode.UNKNOWN_SERVER_ERROR
    assert await commit(part, "g", ("t", 0, 5), version=0) == {("t", 0): code}
    answer = await part.ask(0, OffsetFetchRequest("g", [OffsetFetchRequestTopic("t", [0])]))
    assert answer.topics[0].partitions[0].error_code == code


# --- transactions


@pytest.fixture
async def txn() -> AsyncIterator[Part]:
    made = Part()
    made.host(OFFSETS_TOPIC)
    await made.start("t")
    yield made
    await made.stop()


async def txn_commit(
    part: Part, producer: tuple[int, int], offset: int = 5, version: int = 3, **more: Any
) -> int:
    topic_id = part.metadata.view.topics["t"].topic_id
    row = TxnOffsetCommitRequestPartition(0, offset)
    topic = TxnOffsetCommitRequestTopic("t", topic_id, [row])
    if version < 6:
        topic.topic_id = b"\0" * 16
    else:
        topic.name = ""
    request = TxnOffsetCommitRequest(more.pop("tid", TID), "g", *producer, topics=[topic])
    if version >= 3:
        request.generation_id_or_member_epoch = -1
    for name, value in more.items():
        setattr(request, name, value)
    answer = await part.ask(version, request)
    code: int = answer.topics[0].partitions[0].error_code
    return code


async def look(part: Part, *, stable: bool = False) -> tuple[int, int]:
    """(offset, code) of the partition."""
    topics = [OffsetFetchRequestTopic("t", [0])]
    answer = await part.ask(7, OffsetFetchRequest("g", topics, require_stable=stable))
    row = answer.topics[0].partitions[0]
    return row.committed_offset, row.error_code


@pytest.mark.parametrize("version", range(5))
async def test_offsets_of_a_transaction(txn: Part, version: int) -> None:
    """They must have been announced; they count at the end, until when the place is unstable."""
    producer = await txn.begin()
    code = ErrorCode.TRANSACTION_ABORTABLE if version >= 4 else ErrorCode.INVALID_TXN_STATE
    assert await txn_commit(txn, producer, version=version) == code
    assert await txn.add_offsets(producer, "g") == 0
    assert await txn_commit(txn, producer, version=version) == 0
    assert await look(txn) == (-1, 0)
    assert await look(txn, stable=True) == (-1, ErrorCode.UNSTABLE_OFFSET_COMMIT)
    assert await txn.end(producer, committed=True)
    await txn.quiet()
    assert await look(txn, stable=True) == (5, 0)
    # The transaction is over: what comes late is of no transaction.
    assert await txn_commit(txn, producer, 6, version) != 0


@pytest.mark.parametrize("version", [5, 6])
async def test_offsets_bring_their_partition_into_the_transaction(txn: Part, version: int) -> None:
    producer = await txn.begin()
    assert await txn_commit(txn, producer, version=version) == 0
    assert await look(txn, stable=True) == (-1, ErrorCode.UNSTABLE_OFFSET_COMMIT)


async def test_offsets_of_who_is_no_producer_here(txn: Part) -> None:
    producer_id, epoch = await txn.begin()
    assert await txn.add_offsets((producer_id, epoch), "g") == 0
    mapping, invalid = ErrorCode.INVALID_PRODUCER_ID_MAPPING, ErrorCode.INVALID_PRODUCER_EPOCH
    assert await txn_commit(txn, (producer_id + 1, epoch)) == mapping
    assert await txn_commit(txn, (producer_id, epoch), tid="other") == mapping
    assert await txn_commit(txn, (producer_id, epoch), tid="") == ErrorCode.INVALID_REQUEST
    assert await txn_commit(txn, (producer_id, epoch)) == 0
    # Another one with its transactional id: what was under way is aborted, with a new epoch.
    assert (await txn.init())[0] == ErrorCode.CONCURRENT_TRANSACTIONS
    await txn.quiet()
    assert (await txn.begin())[0] == producer_id
    assert await txn_commit(txn, (producer_id, epoch)) == invalid
    assert await look(txn, stable=True) == (-1, 0)


async def test_members_of_a_transaction_are_checked(txn: Part) -> None:
    producer = await txn.begin()
    await txn.add_offsets(producer, "g")
    unknown = {"generation_id_or_member_epoch": 3, "member_id": "m"}
    assert await txn_commit(txn, producer, **unknown) == ErrorCode.UNKNOWN_MEMBER_ID
    assert await txn_commit(txn, producer, group_id="") == ErrorCode.INVALID_GROUP_ID


async def test_without_verification() -> None:
    txn = Part(settings={"transaction.partition.verification.enable": "false"})
    txn.host(OFFSETS_TOPIC)
    await txn.start("t")
    assert await txn_commit(txn, (77, 0)) == 0
    assert await look(txn, stable=True) == (-1, ErrorCode.UNSTABLE_OFFSET_COMMIT)
    await txn.stop()


async def test_old_producers_do_not_know_of_loading(txn: Part) -> None:
    producer = await txn.begin()
    await txn.add_offsets(producer, "g")
    assert await txn_commit(txn, producer) == 0
    txn.come_back(OFFSETS_TOPIC)
    assert txn.node.groups.loading
    loading = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert await txn_commit(txn, producer, version=2) == loading
    assert await txn_commit(txn, producer, version=1) == ErrorCode.COORDINATOR_NOT_AVAILABLE
    await txn.quiet()
    found = txn.node.groups.find("g")
    assert isinstance(found, GroupMachine) and found.offsets.table.is_pending("g", ("t", 0))
