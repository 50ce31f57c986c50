"""A follower's fetcher against a scripted leader: appending, truncating, finding its place."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from broker.fetcher import FetchConfig, Fetcher
from broker.ibp import versions
from broker.partition import Partition
from broker.peer import Peer, PeerGone
from protocol import batch
from protocol.errors import ErrorCode
from protocol.messages.fetch import (
    EpochEndOffset,
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    PartitionData,
)
from protocol.messages.leader_and_isr import LeaderAndIsrPartitionState
from protocol.messages.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from protocol.record import Record
from storage.config import LogConfig
from storage.filesystem import MemoryFileSystem
from storage.log import Log
from tests.kit.nodes import FakeClock

ID = b"topic id of t..."
T = 1000


def records(first: int, count: int, epoch: int, text: bytes = b"v") -> bytes:
    """A batch as a leader of that epoch has it in its log."""
    made = bytearray(batch.build([Record(i, T, None, text, ()) for i in range(count)]))
    made[0:8] = first.to_bytes(8, "big")
    made[12:16] = epoch.to_bytes(4, "big")
    return bytes(made)


class Leader:
    """In the place of a `Peer`: answers each Fetch by the next of `script`, then waits."""

    client_id = "test"

    def __init__(self) -> None:
        self.fetches: list[FetchRequest] = []
        self.versions: list[int] = []
        self.offsets_asked: list[int] = []
        self.script: list[Any] = []
        self.earliest: Any = 0
        self.latest: Any = 0
        self.idle = asyncio.Event()
        self.more = asyncio.Event()
        self.closed = False

    async def call(self, request: Any, version: int, **_: Any) -> Any:
        if isinstance(request, ListOffsetsRequest):
            return self._offset(request)
        assert isinstance(request, FetchRequest)
        self.fetches.append(request)
        self.versions.append(version)
        while not self.script:
            self.idle.set()
            self.more.clear()
            await self.more.wait()
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _offset(self, request: ListOffsetsRequest) -> ListOffsetsResponse:
        asked = request.topics[0].partitions[0]
        self.offsets_asked.append(asked.timestamp)
        found = self.latest if asked.timestamp == -1 else self.earliest
        if isinstance(found, Exception):
            raise found
        if isinstance(found, ErrorCode):
            answer = ListOffsetsPartitionResponse(asked.partition_index, found)
        else:
            answer = ListOffsetsPartitionResponse(asked.partition_index, offset=found)
        return ListOffsetsResponse(topics=[ListOffsetsTopicResponse("t", [answer])])

    def close(self) -> None:
        self.closed = True

    def asked(self, at: int = -1) -> list[tuple[int, int, int, int]]:
        """(partition, offset, last epoch, leader epoch) that a Fetch named."""
        return [
            (p.partition, p.fetch_offset, p.last_fetched_epoch, p.current_leader_epoch)
            for topic in self.fetches[at].topics
            for p in topic.partitions
        ]


def answered(*partitions: PartitionData, code: int = 0, session: int = 5) -> FetchResponse:
    topics = [FetchableTopicResponse("t", ID, list(partitions))] if partitions else []
    return FetchResponse(error_code=code, session_id=session, responses=topics)


def told(index: int = 0, data: bytes = b"", hw: int = 0, start: int = 0, **more: Any) -> Any:
    diverging = more.pop("diverging", None)
    made = PartitionData(index, high_watermark=hw, log_start_offset=start, **more)
    made.records = memoryview(data)
    if diverging is not None:
        made.diverging_epoch = EpochEndOffset(*diverging)
    return made


class Follower:
    """Broker 1 follows broker 0 under leader epoch 3."""

    def __init__(self, ibp: str = "3.9", backoff_s: float = 0.001) -> None:
        self.leader = Leader()
        self.visible: list[Partition] = []
        self.fetcher = Fetcher(
            1,
            cast(Peer, self.leader),
            versions(ibp),
            FetchConfig(backoff_s=backoff_s),
            FakeClock(),
            self.visible.append,
            lambda: 99,
        )

    def partition(self, index: int = 0, *batches: bytes, topic_id: bytes = ID) -> Partition:
        p = Partition(1, "t", index, topic_id)
        fs = MemoryFileSystem()
        fs.mkdir("/d")
        p.log = Log.open(
            fs,
            "/d",
            "t",
            index,
            LogConfig(),
            recovery_point=0,
            log_start_offset=0,
            clean=True,
            now_ms=T,
        )
        for each in batches:
            p.log.append_as_follower(memoryview(each), T)
        self.follow(p, 3)
        return p

    @staticmethod
    def follow(p: Partition, epoch: int) -> None:
        state = LeaderAndIsrPartitionState(leader=0, leader_epoch=epoch, isr=[0], replicas=[0, 1])
        p.follow(state)

    def add(self, *partitions: Partition) -> None:
        for p in partitions:
            self.fetcher.add(p)

    async def says(self, *answers: Any) -> None:
        """The leader gives these answers, and the fetcher has come to rest again."""
        self.leader.script += answers
        self.leader.more.set()
        await self.rest()

    async def rest(self) -> None:
        self.leader.idle.clear()
        await asyncio.wait_for(self.leader.idle.wait(), 5)


@pytest.fixture
async def follower() -> AsyncIterator[Follower]:
    made = Follower()
    yield made
    await made.fetcher.close()
    assert made.leader.closed


def log_of(p: Partition) -> Log:
    assert p.log is not None
    return p.log


# --- appending ------------------------------------------------------------------------------------


async def test_what_the_leader_has_is_copied_as_it_is(follower: Follower) -> None:
    p = follower.partition()
    follower.add(p)
    await follower.rest()
    assert follower.leader.asked() == [(0, 0, -1, 3)]
    first, second = records(0, 3, 2), records(3, 1, 3)
    await follower.says(answered(told(data=first + second, hw=2)))
    log = log_of(p)
    assert (log.end_offset, log.high_watermark) == (4, 2)
    assert log.segments[0].file().pread(999, 0) == first + second
    assert log.epochs.entries() == [(2, 0), (3, 3)]
    assert follower.leader.asked() == [(0, 4, 3, 3)]
    assert follower.visible == [p]


async def test_a_high_watermark_beyond_the_end_is_cut_to_it(follower: Follower) -> None:
    p = follower.partition()
    follower.add(p)
    await follower.says(answered(told(data=records(0, 2, 3), hw=9)))
    assert log_of(p).high_watermark == 2
    await follower.says(answered(told(hw=1)))
    assert log_of(p).high_watermark == 2, "it does not go back for consumers"
    assert len(follower.visible) == 1


async def test_the_log_start_follows(follower: Follower) -> None:
    p = follower.partition(0, records(0, 3, 3), records(3, 3, 3))
    follower.add(p)
    await follower.says(answered(told(hw=6, start=4)))
    assert log_of(p).log_start_offset == 4
    named = follower.leader.fetches[-1].topics[0].partitions[0]
    assert (named.fetch_offset, named.log_start_offset) == (6, 4), "the leader waits to hear of it"


async def test_requests_after_the_first_name_only_what_changed(follower: Follower) -> None:
    several = [follower.partition(i) for i in range(3)]
    follower.add(*several)
    await follower.says(answered(*(told(i) for i in range(3))))
    first = follower.leader.fetches[0]
    assert (first.session_id, first.session_epoch, first.replica_state.replica_id) == (0, 0, 1)
    assert first.replica_state.replica_epoch == 99
    assert len(follower.leader.asked(0)) == 3
    await follower.says(answered(told(1, records(0, 1, 3))))
    assert follower.leader.asked() == [(1, 1, 3, 3)]
    follower.fetcher.remove(("t", 2))
    await follower.says(answered())
    last = follower.leader.fetches[-1]
    assert (last.session_id, last.session_epoch) == (5, 3)
    assert [(t.topic_id, t.partitions) for t in last.forgotten_topics_data] == [(ID, [2])]


@pytest.mark.parametrize(
    ("ibp", "version", "old_style"), [("2.7", 12, True), ("3.4", 13, True), ("3.9", 17, False)]
)
async def test_versions_by_release(ibp: str, version: int, old_style: bool) -> None:
    follower = Follower(ibp)
    follower.add(follower.partition())
    await follower.rest()
    request = follower.leader.fetches[0]
    assert follower.leader.versions == [version]
    assert (request.replica_id == 1, request.replica_state.replica_id == 1) == (
        old_style,
        not old_style,
    )
    await follower.fetcher.close()


async def test_a_topic_without_an_id_is_fetched_by_name(follower: Follower) -> None:
    follower.add(follower.partition(topic_id=bytes(16)))
    await follower.rest()
    assert follower.leader.versions == [12]


# --- trouble --------------------------------------------------------------------------------------


async def test_no_answer_begins_a_session_anew(follower: Follower) -> None:
    p = follower.partition()
    follower.add(p)
    await follower.says(answered(told()))
    await follower.says(PeerGone("gone"))
    last = follower.leader.fetches[-1]
    assert (last.session_id, last.session_epoch, len(follower.leader.asked())) == (5, 0, 1)
    await follower.says(answered(code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND, session=0))
    assert follower.leader.fetches[-1].session_id == 0


async def test_an_unforeseen_error_is_survived(follower: Follower) -> None:
    follower.add(follower.partition())
    await follower.rest()
    await follower.says(RuntimeError("a bug"))
    assert follower.leader.fetches[-1].session_epoch == 0


async def test_a_refused_partition_pauses_and_the_others_go_on(follower: Follower) -> None:
    one, two = follower.partition(0), follower.partition(1)
    follower.add(one, two)
    refusal = told(error_code=ErrorCode.UNKNOWN_LEADER_EPOCH)
    await follower.says(answered(refusal, told(1, records(0, 1, 3))))
    while not any(a[0] == 0 for a in follower.leader.asked()):
        await follower.says(answered())
    assert (log_of(one).end_offset, log_of(two).end_offset) == (0, 1)
    await follower.says(answered(told(data=records(0, 2, 3))))
    assert log_of(one).end_offset == 2


async def test_a_fenced_partition_waits_for_the_controller(follower: Follower) -> None:
    p, other = follower.partition(0), follower.partition(1)
    follower.add(p, other)
    await follower.says(answered(told(error_code=ErrorCode.FENCED_LEADER_EPOCH), told(1)))
    assert len(follower.fetcher) == 1
    follower.follow(p, 4)
    follower.add(p)
    await follower.says(answered())
    assert follower.leader.asked() == [(0, 0, -1, 4)]


async def test_an_answer_to_an_earlier_epoch_is_ignored(follower: Follower) -> None:
    p = follower.partition()
    follower.add(p)
    await follower.rest()
    follower.follow(p, 4)
    follower.add(p)
    await follower.says(answered(told(data=records(0, 1, 3))))
    assert log_of(p).end_offset == 0
    assert follower.leader.asked() == [(0, 0, -1, 4)]


async def test_a_log_that_grew_by_itself_is_asked_for_from_its_new_end(follower: Follower) -> None:
    """Not from where it ended when it was added, again and again."""
    p = follower.partition()
    follower.add(p)
    await follower.rest()
    log_of(p).append_as_follower(memoryview(records(0, 2, 2)), T)
    await follower.says(answered(told(data=records(0, 1, 3))))
    assert follower.leader.asked() == [(0, 2, 2, 3)]


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 80,
        records(0, 1, 3)[:-1] + b"\xff",  # CRC
        records(5, 1, 3) + records(2, 1, 3),  # goes back
    ],
)
async def test_bytes_that_are_no_log_are_asked_for_again(follower: Follower, data: bytes) -> None:
    p = follower.partition()
    follower.add(p)
    await follower.says(answered(told(data=data)))
    end = log_of(p).end_offset
    while (0, end, log_of(p).latest_epoch, 3) not in follower.leader.asked():
        await follower.says(answered())
    await follower.says(answered(told(data=records(end, 1, 3))))
    assert log_of(p).end_offset == end + 1


async def test_a_cut_off_batch_at_the_end_comes_again(follower: Follower) -> None:
    p = follower.partition()
    follower.add(p)
    await follower.says(answered(told(data=records(0, 1, 3) + records(1, 1, 3)[:30])))
    assert follower.leader.asked() == [(0, 1, 3, 3)]


# --- truncation -----------------------------------------------------------------------------------


async def test_what_the_leader_does_not_have_goes(follower: Follower) -> None:
    """Epoch 1 went on here after the new leader had gone another way."""
    p = follower.partition(0, records(0, 3, 1), records(3, 2, 1))
    follower.add(p)
    await follower.rest()
    assert follower.leader.asked() == [(0, 5, 1, 3)]
    await follower.says(answered(told(hw=3, diverging=(1, 3))))
    assert follower.leader.asked() == [(0, 3, 1, 3)]
    await follower.says(answered(told(data=records(3, 1, 2) + records(4, 4, 3), hw=3)))
    assert log_of(p).epochs.entries() == [(1, 0), (2, 3), (3, 4)]
    assert log_of(p).end_offset == 8


async def test_epochs_that_only_this_replica_has_go_one_after_the_other(
    follower: Follower,
) -> None:
    """The leader has epochs 1 and 3, this replica 1, 2 and 4: where do they part?"""
    p = follower.partition(0, records(0, 2, 1), records(2, 2, 2), records(4, 2, 4))
    follower.follow(p, 5)
    follower.add(p)
    await follower.says(answered(told(diverging=(3, 9))))
    assert follower.leader.asked() == [(0, 4, 2, 5)]
    await follower.says(answered(told(diverging=(1, 3))))
    assert follower.leader.asked() == [(0, 2, 1, 5)]
    await follower.says(answered(told(data=records(2, 1, 1), hw=1)))
    assert log_of(p).end_offset == 3


async def test_an_epoch_led_without_writing_goes_too(follower: Follower) -> None:
    """Else the leader, which does not know it, would say the same for ever."""
    p = follower.partition(0, records(0, 2, 1))
    log_of(p).epochs.assign(2, 2)
    follower.add(p)
    await follower.says(answered(told(diverging=(1, 2))))
    assert log_of(p).end_offset == 2
    assert follower.leader.asked() == [(0, 2, 1, 3)]


async def test_a_log_older_than_all_that_the_leader_knows(follower: Follower) -> None:
    p = follower.partition(0, records(0, 2, 2), records(2, 2, 2))
    follower.add(p)
    await follower.says(answered(told(diverging=(1, 2))))
    assert follower.leader.asked() == [(0, 0, -1, 3)]


async def test_without_epochs_the_high_watermark_is_all_that_is_sure(follower: Follower) -> None:
    p = follower.partition(0, records(0, 2, 0), records(2, 2, 0))
    log_of(p).advance_high_watermark(2)
    log_of(p).epochs.clear()
    follower.add(p)
    assert log_of(p).end_offset == 2
    await follower.rest()
    assert follower.leader.asked() == [(0, 2, -1, 3)]


# --- out of range ---------------------------------------------------------------------------------

OUT_OF_RANGE = ErrorCode.OFFSET_OUT_OF_RANGE


async def test_a_log_that_ends_before_the_leaders_begins(follower: Follower) -> None:
    p = follower.partition(0, records(0, 2, 1))
    follower.leader.earliest, follower.leader.latest = 10, 20
    follower.add(p)
    await follower.says(answered(told(error_code=OUT_OF_RANGE)))
    assert follower.leader.offsets_asked == [-1, -2]
    log = log_of(p)
    assert (log.log_start_offset, log.end_offset, log.high_watermark) == (10, 10, 10)
    assert follower.leader.asked() == [(0, 10, -1, 3)]


async def test_a_leader_whose_log_begins_inside_of_a_batch(follower: Follower) -> None:
    p = follower.partition()
    follower.leader.earliest, follower.leader.latest = 3, 7
    follower.add(p)
    await follower.says(answered(told(error_code=OUT_OF_RANGE)))
    assert follower.leader.asked() == [(0, 3, -1, 3)]
    await follower.says(answered(told(data=records(0, 5, 2) + records(5, 2, 3), hw=7, start=3)))
    log = log_of(p)
    assert (log.log_start_offset, log.end_offset, log.high_watermark) == (3, 7, 7)
    assert follower.leader.asked() == [(0, 7, 3, 3)]


async def test_a_log_that_goes_on_after_the_leaders_end(follower: Follower) -> None:
    """After an unclean election."""
    p = follower.partition(0, records(0, 2, 1), records(2, 5, 1))
    follower.leader.earliest, follower.leader.latest = 0, 2
    follower.add(p)
    await follower.says(answered(told(error_code=OUT_OF_RANGE)))
    assert log_of(p).end_offset == 2
    assert follower.leader.asked() == [(0, 2, 1, 3)]


async def test_a_place_that_is_fine_after_all(follower: Follower) -> None:
    p = follower.partition(0, records(0, 2, 1))
    follower.leader.earliest, follower.leader.latest = 1, 5
    follower.add(p)
    await follower.says(answered(told(error_code=OUT_OF_RANGE)))
    assert (log_of(p).log_start_offset, log_of(p).end_offset) == (0, 2)
    assert follower.leader.asked() == [(0, 2, 1, 3)]


def _in_vain(*answers: Any) -> list[Callable[[Leader], None]]:
    return [lambda leader, answer=a: setattr(leader, "latest", answer) for a in answers]


@pytest.mark.parametrize("set_up", _in_vain(ErrorCode.FENCED_LEADER_EPOCH, PeerGone("gone")))
async def test_a_place_that_is_not_told_is_asked_for_again(
    follower: Follower, set_up: Callable[[Leader], None]
) -> None:
    p = follower.partition(0, records(0, 2, 1))
    follower.add(p)
    await follower.rest()
    set_up(follower.leader)
    follower.leader.script.append(answered(told(error_code=OUT_OF_RANGE)))
    follower.leader.more.set()
    while not follower.leader.offsets_asked:
        await asyncio.sleep(0)
    follower.leader.earliest, follower.leader.latest = 10, 20
    await follower.rest()
    while log_of(p).end_offset != 10:
        await follower.says(answered(told(error_code=OUT_OF_RANGE)))


async def test_a_replica_taken_away_while_its_place_is_looked_for(follower: Follower) -> None:
    p, other = follower.partition(0, records(0, 2, 1)), follower.partition(1)
    follower.add(p, other)
    await follower.rest()
    real = follower.leader._offset

    def offset(request: ListOffsetsRequest) -> ListOffsetsResponse:
        follower.fetcher.remove(("t", 0))
        return real(request)

    follower.leader._offset = offset  # type: ignore[method-assign]
    follower.leader.earliest, follower.leader.latest = 10, 20
    await follower.says(answered(told(error_code=OUT_OF_RANGE), told(1)))
    assert log_of(p).end_offset == 2
