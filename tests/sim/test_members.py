"""What members of a group do with errors: what stock clients try again they try again, and nothing
else is let pass."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from protocol.errors import ErrorCode
from protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchResponse,
    OffsetFetchResponsePartition,
    OffsetFetchResponseTopic,
)
from tests.sim.history import History, LogRecord
from tests.sim.members import Member
from tests.sim.world import World

KEY = ("t", 0)
UNKNOWN = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


class Scripted(Member):
    """Its coordinator is node 0, which answers with these codes in turn, and keeps what was
    committed."""

    def __init__(self, world: World, codes: list[int]) -> None:
        super().__init__(world, History(world.blame), 20, "g", [KEY])
        self.codes = codes
        self.kept = (-1, -1)
        """Offset and leader epoch."""

    async def call(self, node: int, request: Any, version: int, **how: Any) -> Any:
        await asyncio.sleep(0.01)
        if isinstance(request, FindCoordinatorRequest):
            return FindCoordinatorResponse(node_id=0)
        code = self.codes.pop(0)
        if isinstance(request, HeartbeatRequest):
            return HeartbeatResponse(error_code=code)
        if isinstance(request, OffsetFetchRequest):
            found = OffsetFetchResponsePartition(KEY[1], *self.kept)
            return OffsetFetchResponse(topics=[OffsetFetchResponseTopic(KEY[0], [found])])
        assert isinstance(request, OffsetCommitRequest)
        asked = request.topics[0].partitions[0]
        self.kept = asked.committed_offset, asked.committed_leader_epoch
        row = OffsetCommitResponsePartition(KEY[1], code)
        return OffsetCommitResponse(topics=[OffsetCommitResponseTopic(KEY[0], partitions=[row])])


def outcome(codes: list[int], act: Callable[[Scripted], Any]) -> tuple[bool, list[int], list[str]]:
    """What `act` gave, the codes nobody asked for, and what was found wrong."""
    world = World(1)
    member = Scripted(world, list(codes))
    done = world.run(act(member))
    return done, member.codes, world.problems


def commit(member: Scripted) -> Any:
    return member._done_with({KEY: [LogRecord(6, b"", False, -1, leader_epoch=4)]})


@pytest.mark.parametrize(
    "code", [UNKNOWN, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NOT_COORDINATOR]
)
def test_a_commit_is_tried_again(code: int) -> None:
    """UNKNOWN_TOPIC_OR_PARTITION too: so answers a broker that the controller has told nothing."""
    assert outcome([code, code, ErrorCode.NONE], commit) == (True, [], [])


def test_a_commit_that_is_refused_for_good_is_told() -> None:
    done, left, problems = outcome([ErrorCode.INVALID_COMMIT_OFFSET_SIZE, 0], commit)
    assert (done, left) == (False, [0])
    assert problems == ["g-20: the group is refused: error 28"]


def test_a_heartbeat_knows_no_topics() -> None:
    done, left, problems = outcome([UNKNOWN, 0], Member._still_in)
    assert (done, left) == (False, [0])
    assert problems == ["g-20: the group is refused: error 3"]


@pytest.mark.parametrize(("known", "leader"), [(3, -1), (4, 2)])
def test_a_leader_before_what_was_committed_is_asked_for_nothing(known: int, leader: int) -> None:
    """It may have less than that, and would call the offset out of range."""

    async def resume(member: Scripted) -> bool:
        await commit(member)
        member._forget()
        member.assigned = [KEY]
        member.leaders[KEY] = 2, known
        await member._go_back()
        assert member.positions == {KEY: 7}
        return bool(member.leaders[KEY] == (leader, 4))

    assert outcome([0, 0], resume) == (True, [], [])
