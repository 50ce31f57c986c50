"""Groups over kill -9: members go on in their generation, offsets are those that were acknowledged;
and what becomes of offsets whose topic is deleted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import ErrorCode
from protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from protocol.messages.delete_topics import DeleteTopicsRequest
from protocol.messages.describe_groups import DescribedGroup, DescribeGroupsRequest
from protocol.messages.find_coordinator import FindCoordinatorRequest
from protocol.messages.heartbeat import HeartbeatRequest
from protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from protocol.messages.offset_fetch import OffsetFetchRequest
from protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from tests.kit.server import Server
from tests.kit.wire import Wire

GROUP = "g"
NOT_YET = (ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    # Small segments: the groups are spread over several, and some are cleaned.
    settings = (
        "--set",
        "offsets.topic.segment.bytes=2000",
        "--set",
        "offsets.topic.num.partitions=3",
        "--set",
        "group.initial.rebalance.delay.ms=50",
    )
    with Server(tmp_path / "data", arguments=settings) as running:
        with Wire(running.bootstrap) as wire:
            topics = [CreatableTopic(name, 3, 1) for name in ("orders", "parts")]
            answer = wire.call(CreateTopicsRequest(topics, 5000), 5)
            assert {topic.error_code for topic in answer.topics} == {0}
            coordinated(wire)
        yield running


def coordinated(wire: Wire) -> None:
    """Until the group has its coordinator."""
    while wire.call(FindCoordinatorRequest(GROUP), 2).error_code in NOT_YET:
        pass
    while described(wire).error_code in NOT_YET:
        pass


def described(wire: Wire) -> DescribedGroup:
    group: DescribedGroup = wire.call(DescribeGroupsRequest([GROUP]), 5).groups[0]
    return group


def members_of_a_new_group(wires: list[Wire]) -> list[str]:
    """Everybody joins and syncs; the member ids."""
    protocols = [JoinGroupRequestProtocol("range", b"")]
    for wire in wires:
        wire.send(JoinGroupRequest(GROUP, 30_000, 30_000, "", None, "consumer", protocols), 3)
    joined = [wire.receive() for wire in wires]
    members = [answer.member_id for answer in joined]
    assert {answer.generation_id for answer in joined} == {1}
    for wire, answer in zip(wires, joined, strict=True):
        given = [SyncGroupRequestAssignment(m, m.encode()) for m in members]
        mine = given if answer.leader == answer.member_id else []
        wire.send(SyncGroupRequest(GROUP, 1, answer.member_id, None, None, None, mine), 3)
    assigned = [bytes(wire.receive().assignment).decode() for wire in wires]
    assert assigned == members
    return members


def commit(wire: Wire, offset: int, member: str = "", generation: int = -1) -> int:
    """The same offset for two partitions of each topic."""
    rows = [OffsetCommitRequestPartition(index, offset) for index in (0, 1)]
    topics = [OffsetCommitRequestTopic(name, partitions=rows) for name in ("orders", "parts")]
    answer = wire.call(OffsetCommitRequest(GROUP, generation, member, topics=topics), 9)
    (code,) = {p.error_code for topic in answer.topics for p in topic.partitions}
    return code


def committed(wire: Wire) -> dict[str, set[int]]:
    answer = wire.call(OffsetFetchRequest(GROUP, None), 7)
    return {t.name: {p.committed_offset for p in t.partitions} for t in answer.topics}


def beat(wire: Wire, member: str, generation: int = 1) -> int:
    code: int = wire.call(HeartbeatRequest(GROUP, generation, member), 4).error_code
    return code


def test_members_go_on_after_kill_9(server: Server) -> None:
    """No rebalance: generation, assignments and sessions are there, and every offset."""
    wires = [Wire(server.bootstrap) for _ in range(3)]
    members = members_of_a_new_group(wires)
    for offset in range(200):
        assert commit(wires[offset % 3], offset, members[offset % 3], 1) == 0
    for wire in wires:
        wire.close()
    server.kill()
    server.start()
    wires = [Wire(server.bootstrap) for _ in range(3)]
    coordinated(wires[0])
    assert [beat(wire, member) for wire, member in zip(wires, members, strict=True)] == [0, 0, 0]
    assert described(wires[0]).group_state == "Stable"
    for wire, member in zip(wires, members, strict=True):
        answer = wire.call(SyncGroupRequest(GROUP, 1, member, None, None, None), 3)
        assert bytes(answer.assignment).decode() == member
    assert committed(wires[0]) == {"orders": {199}, "parts": {199}}
    assert commit(wires[1], 200, members[1], 1) == 0
    assert beat(wires[0], members[0], 2) == ErrorCode.ILLEGAL_GENERATION
    assert beat(wires[0], "nobody") == ErrorCode.UNKNOWN_MEMBER_ID
    for wire in wires:
        wire.close()


def test_offsets_go_with_their_topic(server: Server) -> None:
    with Wire(server.bootstrap) as wire:
        assert commit(wire, 7) == 0
        assert committed(wire) == {"orders": {7}, "parts": {7}}
        for name in ("orders", "parts"):
            answer = wire.call(DeleteTopicsRequest(topic_names=[name], timeout_ms=5000), 5)
            assert answer.responses[0].error_code == 0
            if name == "orders":
                assert committed(wire) == {"parts": {7}}
        assert committed(wire) == {}
        assert described(wire).group_state == "Dead"
    server.kill()
    server.start()
    with Wire(server.bootstrap) as wire:
        coordinated(wire)
        assert committed(wire) == {}
        assert described(wire).group_state == "Dead"
