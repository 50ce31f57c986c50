"""Fetch of a following broker, on real logs: positions, waiting, sessions, ISR."""

import asyncio
import itertools
from typing import Any

import pytest

from broker.context import Context
from broker.follower_fetch import FollowerFetch
from broker.handlers import fetch as fetch_handler
from broker.partition import Partition
from broker.sessions import FetchSessions
from protocol.compiler import decoder
from protocol.errors import ErrorCode
from protocol.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ForgottenTopic,
    PartitionData,
    ReplicaState,
)
from storage.log import LogSlice
from tests.kit.hosted import BROKER, HostedNode

ONE, TWO = 1, 2
VERSION = 17


class Changes:
    """In the place of `broker.replication.Replication`: ISR changes are written down."""

    def __init__(self) -> None:
        self.isrs: list[tuple[str, int, tuple[int, ...]]] = []

    def follow(self, partition: Partition) -> None:
        return None

    def stop(self, partition: Partition) -> None:
        return None

    def alter_isr(self, partition: Partition, isr: tuple[int, ...]) -> None:
        partition.propose(isr)
        self.isrs.append((partition.topic, partition.index, isr))


class Leader:
    """Broker 0 leads partitions that brokers 1 and 2 follow."""

    def __init__(self, partitions: int = 2, isr: tuple[int, ...] = (0, 1), **config: str) -> None:
        self.hosted = h = HostedNode()
        h.node.sessions = FetchSessions(10, 1000, itertools.count(1).__next__)
        self.changes = h.replicas.replication = Changes()
        h.host("t", partitions, isr=isr, replicas=(ONE, TWO), **config)
        self.topic_id = h.metadata.view.topics["t"].topic_id
        self.session = 0
        self.epoch = 0

    def request(
        self,
        offsets: dict[int, int],
        *,
        replica: int = ONE,
        wait: int = 500,
        least: int = 1,
        most: int = 1 << 20,
        start: int = 0,
        forget: list[int] | None = None,
        session: tuple[int, int] = (0, 0),
        epochs: tuple[int, int] = (0, -1),
    ) -> FetchRequest:
        asked = [
            FetchPartition(index, epochs[0], offset, epochs[1], start, 1 << 20)
            for index, offset in offsets.items()
        ]
        return FetchRequest(
            replica_state=ReplicaState(replica, -1),
            max_wait_ms=wait,
            min_bytes=least,
            max_bytes=most,
            session_id=session[0],
            session_epoch=session[1],
            topics=[FetchTopic("", self.topic_id, asked)] if asked else [],
            forgotten_topics_data=[ForgottenTopic("", self.topic_id, forget)] if forget else [],
        )

    def ask(self, offsets: dict[int, int], **more: Any) -> "Asked":
        """A request without a session."""
        return Asked(self, self.request(offsets, session=(0, -1), **more))

    def go_on(self, offsets: dict[int, int] | None = None, **more: Any) -> "Asked":
        """The next request of the session, which the first one opens."""
        asked = Asked(self, self.request(offsets or {}, session=(self.session, self.epoch), **more))
        self.epoch += 1
        return asked

    def append(self, index: int = 0, count: int = 1) -> None:
        """As a producer's batches get there."""
        h = self.hosted
        partition = h.partition("t", index)
        before = partition.log
        assert before is not None
        h.append("t", [1] * count, index)
        partition.dirty = True
        h.replicas.dirty.append(partition)
        h.replicas.write_staged()

    def partition(self, index: int = 0) -> Partition:
        return self.hosted.partition("t", index)


class Asked:
    """A request and its answer, which may have to be waited for."""

    def __init__(self, leader: Leader, request: FetchRequest) -> None:
        self._leader = leader
        self._answer: Any = None
        context = Context("c", "PLAINTEXT", "127.0.0.1")
        context.api_key, context.version = 1, VERSION
        self.call = fetch_handler.handle(leader.hosted.node, context, request)
        if isinstance(self.call, list):
            self._answer = self.call
        else:
            assert isinstance(self.call, FollowerFetch)
            self.call.start(self._take)

    def _take(self, answer: Any) -> None:
        assert self._answer is None
        self._answer = answer

    @property
    def answered(self) -> bool:
        return self._answer is not None

    async def soon(self) -> FetchResponse:
        """The answer, which is there in a turn or two of the loop."""
        for _ in range(5):
            if not self.answered:
                await asyncio.sleep(0)
        assert self.answered, "it waits"
        frame = b"".join(p.bytes() if isinstance(p, LogSlice) else p for p in self._answer)
        response, _ = decoder(FetchResponse, VERSION)(frame, 9)
        if response.session_id:
            self._leader.session = response.session_id
        return response

    async def partitions(self) -> dict[int, PartitionData]:
        response = await self.soon()
        assert response.error_code == 0
        return {p.partition_index: p for t in response.responses for p in t.partitions}


def size(data: PartitionData) -> int:
    return len(data.records or b"")


# --- positions ------------------------------------------------------------------------------------


async def test_a_follower_reads_to_the_end_a_consumer_to_the_high_watermark() -> None:
    leader = Leader()
    leader.append()
    (found,) = (await leader.ask({0: 0}).partitions()).values()
    assert size(found) > 0 and found.high_watermark == 0
    consumer = leader.request({0: 0}, replica=-1, wait=0, session=(0, -1))
    (found,) = (await Asked(leader, consumer).partitions()).values()
    assert size(found) == 0


async def test_what_a_follower_asks_for_it_has_all_below() -> None:
    leader = Leader()
    leader.append(count=3)
    (found,) = (await leader.ask({0: 3}, wait=0).partitions()).values()
    assert found.high_watermark == 3, "told at once"
    assert leader.partition().followers[ONE].end_offset == 3


async def test_an_advance_wakes_who_waits_for_it() -> None:
    leader = Leader()
    leader.append()
    woken: list[int] = []

    class Waits:
        def wake(self) -> None:
            log = leader.partition().log
            assert log is not None
            woken.append(log.high_watermark)

    leader.partition().add_waiter(Waits())
    await leader.ask({0: 0}).soon()
    woken.clear()
    leader.partition().add_waiter(Waits())
    leader.ask({0: 1}, wait=0)
    assert woken == [1]


@pytest.mark.parametrize(
    ("offset", "epochs", "code"),
    [
        (5, (0, -1), ErrorCode.OFFSET_OUT_OF_RANGE),
        (0, (1, -1), ErrorCode.UNKNOWN_LEADER_EPOCH),
        (1, (0, 7), ErrorCode.OFFSET_OUT_OF_RANGE),
    ],
)
async def test_positions_that_are_none(
    offset: int, epochs: tuple[int, int], code: ErrorCode
) -> None:
    leader = Leader()
    leader.append(count=2)
    (found,) = (await leader.ask({0: offset}, epochs=epochs).partitions()).values()
    assert found.error_code == code
    assert leader.partition().followers[ONE].end_offset == -1


async def test_a_log_that_went_another_way_is_told_where() -> None:
    leader = Leader()
    leader.append(count=2)
    leader.hosted.host("t", isr=(0, 1), replicas=(ONE, TWO), leader_epoch=3)
    leader.append()
    asked = leader.ask({0: 3}, epochs=(3, 2))
    (found,) = (await asked.partitions()).values()
    assert (found.diverging_epoch.epoch, found.diverging_epoch.end_offset) == (0, 2)
    assert size(found) == 0 and leader.partition().followers[ONE].end_offset == -1


async def test_who_is_no_replica_is_refused() -> None:
    leader = Leader()
    (found,) = (await leader.ask({0: 0}, replica=7).partitions()).values()
    assert found.error_code == ErrorCode.UNKNOWN_LEADER_EPOCH
    (found,) = (await leader.ask({0: 0}, replica=7, epochs=(-1, -1)).partitions()).values()
    assert found.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


async def test_a_leader_that_is_none_any_more_says_so_to_who_waits() -> None:
    leader = Leader()
    waits = leader.ask({0: 0})
    assert not waits.answered
    leader.hosted.host("t", isr=(1, 0), replicas=(ONE, TWO), leader=ONE, leader_epoch=1)
    (found,) = (await waits.partitions()).values()
    assert found.error_code == ErrorCode.FENCED_LEADER_EPOCH


# --- ISR ------------------------------------------------------------------------------------------


async def test_a_follower_that_has_caught_up_joins() -> None:
    leader = Leader(isr=(0,))
    leader.append()
    await leader.ask({0: 0}).soon()
    assert leader.changes.isrs == []
    leader.ask({0: 1}, wait=0)
    assert leader.changes.isrs == [("t", 0, (BROKER, ONE))]
    leader.ask({0: 1}, wait=0)
    leader.ask({0: 1}, wait=0, replica=TWO)
    assert len(leader.changes.isrs) == 1, "one change at a time"
    leader.partition().pending = None
    leader.ask({0: 1}, wait=0, replica=TWO)
    assert len(leader.changes.isrs) == 1, "only who is alive"


async def test_an_idle_follower_joins_as_soon_as_it_may() -> None:
    """It could not while another change was under way; nothing is appended since."""
    leader = Leader(partitions=1, isr=(0,))
    leader.append()
    partition = leader.partition()
    partition.propose((0, TWO))
    await leader.go_on({0: 1}, wait=0).soon()
    await leader.go_on(wait=0).soon()
    assert leader.changes.isrs == []
    partition.commit((0, TWO), 1)
    await leader.go_on(wait=0).soon()
    assert leader.changes.isrs == [("t", 0, (0, TWO, ONE))]
    partition.commit((0, TWO, ONE), 2)
    await leader.go_on(wait=0).soon()
    following = (partition.followings or [None])[0]
    assert following is not None and following.outside == {}  # type: ignore[attr-defined]


async def test_who_asks_while_it_is_being_put_out_may_come_back() -> None:
    """Its position was taken in, and told, while it was still in the ISR; nothing changes since."""
    leader = Leader(partitions=1, isr=(0, ONE))
    leader.append()
    partition = leader.partition()
    partition.propose((0,))
    await leader.go_on({0: 1}, wait=0).soon()
    await leader.go_on(wait=0).soon()
    partition.commit((0,), 1)
    leader.hosted.replicas.settle(partition)
    waits = leader.go_on()
    assert leader.changes.isrs == [("t", 0, (0, ONE))]
    waits.call.cancel()


async def test_an_idle_session_keeps_its_follower_in_sync() -> None:
    """The follower has everything and asks again and again; then a record comes after long."""
    leader = Leader(partitions=1)
    clock = leader.hosted.clock
    leader.append()
    await leader.go_on({0: 1}, wait=0).soon()
    for _ in range(10):
        clock.ms += 10_000
        await leader.go_on(wait=0).soon()
    leader.append()
    assert leader.partition().without_laggards(clock.ms) is None
    assert leader.partition().without_laggards(clock.ms + 31_000) == (BROKER,)


# --- waiting --------------------------------------------------------------------------------------


async def test_a_fetch_waits_for_an_append() -> None:
    leader = Leader()
    waits = leader.ask({0: 0, 1: 0})
    await asyncio.sleep(0)
    assert not waits.answered
    leader.append(1)
    found = await waits.partitions()
    assert size(found[0]) == 0 and size(found[1]) > 0, "without a session all are told"


async def test_what_comes_in_one_turn_is_answered_together() -> None:
    leader = Leader()
    await leader.go_on({0: 0, 1: 0}, wait=0).soon()
    waits = leader.go_on()
    leader.append(0)
    leader.append(1)
    assert not waits.answered
    found = await waits.partitions()
    assert found.keys() == {0, 1} and all(map(size, found.values()))


async def test_fewer_bytes_than_asked_for_wait_on() -> None:
    leader = Leader()
    await leader.go_on({0: 0, 1: 0}, wait=0).soon()
    waits = leader.go_on(least=100, wait=60_000)
    leader.append(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waits.answered
    leader.append(1)
    assert (await waits.partitions()).keys() == {0, 1}


async def test_the_time_runs_out() -> None:
    leader = Leader()
    waits = leader.ask({0: 0}, wait=5)
    assert not waits.answered
    await asyncio.sleep(0.05)
    assert size((await waits.partitions())[0]) == 0


async def test_a_client_that_goes_leaves_nothing_behind() -> None:
    leader = Leader()
    waits = leader.ask({0: 0})
    assert leader.partition().followings
    waits.call.cancel()  # type: ignore[union-attr]
    assert leader.partition().followings is None
    leader.append()
    await asyncio.sleep(0)
    assert not waits.answered


# --- sessions -------------------------------------------------------------------------------------


async def test_a_session_looks_only_at_what_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    leader = Leader(partitions=50)
    first = await leader.go_on(dict.fromkeys(range(50), 0), wait=0).partitions()
    assert len(first) == 50
    looked: list[int] = []
    real = FollowerFetch._read

    def read(self: FollowerFetch, answer: Any, *rest: Any, **more: Any) -> None:
        looked.append(answer.asked.index)
        real(self, answer, *rest, **more)

    monkeypatch.setattr(FollowerFetch, "_read", read)
    waits = leader.go_on()
    leader.append(7)
    assert (await waits.partitions()).keys() == {7}
    assert looked == [7]


async def test_records_are_told_until_they_are_taken() -> None:
    leader = Leader()
    await leader.go_on({0: 0, 1: 0}, wait=0).soon()
    leader.append(0)
    for _ in range(2):
        found = await leader.go_on().partitions()
        assert size(found[0]) > 0, "the follower has not asked for what comes after"
    found = await leader.go_on({0: 1}, wait=0).partitions()
    assert found[0].high_watermark == 1 and size(found[0]) == 0
    assert await leader.go_on(wait=0).partitions() == {}


async def test_limits_do_not_starve_a_partition() -> None:
    leader = Leader()
    await leader.go_on({0: 0, 1: 0}, wait=0).soon()
    leader.append(0)
    leader.append(1)
    first = await leader.go_on(most=80).partitions()
    second = await leader.go_on(most=80).partitions()
    sizes = [{i: size(d) > 0 for i, d in found.items()} for found in (first, second)]
    assert [i for found in sizes for i, some in found.items() if some] == [0, 1]


async def test_a_high_watermark_is_told_with_the_next_answer() -> None:
    leader = Leader(isr=(0, 1, 2))
    await leader.go_on({0: 0}, wait=0).soon()
    leader.append(0)
    await leader.go_on(wait=0).soon()
    await leader.go_on({0: 1}, wait=0).soon()
    waits = leader.go_on(wait=20)
    leader.ask({0: 1}, replica=TWO, wait=0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waits.answered, "not worth an answer of its own"
    await asyncio.sleep(0.05)
    assert (await waits.partitions())[0].high_watermark == 1


async def test_for_consumers_of_followers_it_is_told_at_once() -> None:
    leader = Leader(isr=(0, 1, 2))
    leader.hosted.replicas.spread = True
    await leader.go_on({0: 0}, wait=0).soon()
    leader.append(0)
    await leader.go_on(wait=0).soon()
    await leader.go_on({0: 1}, wait=0).soon()
    waits = leader.go_on(wait=60_000)
    leader.ask({0: 1}, replica=TWO, wait=0)
    assert (await waits.partitions())[0].high_watermark == 1
    again = leader.go_on(wait=60_000)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not again.answered, "it is told once"
    again.call.cancel()  # type: ignore[union-attr]


async def test_a_log_start_that_moved_is_told() -> None:
    leader = Leader()
    leader.append(0, count=5)
    await leader.go_on({0: 5}, wait=0).soon()
    log = leader.partition().log
    assert log is not None
    log.advance_log_start_offset(3)
    leader.partition().tell_start()
    assert (await leader.go_on(wait=0).partitions())[0].log_start_offset == 3
    leader.partition().tell_start()
    assert await leader.go_on(wait=0).partitions() == {}
    assert leader.partition().low_watermark() == 0
    await leader.go_on({0: 5}, wait=0, start=3).soon()
    assert leader.partition().followers[ONE].start_offset == 3


async def test_forgotten_partitions_ring_no_more() -> None:
    leader = Leader()
    await leader.go_on({0: 0, 1: 0}, wait=0).soon()
    waits = leader.go_on(forget=[0], wait=60_000)
    leader.append(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waits.answered and leader.partition(0).followings is None
    leader.append(1)
    assert (await waits.partitions()).keys() == {1}


async def test_a_partition_that_was_gone_in_between_rings_again() -> None:
    """The replica moved away from the leader's broker and came back, under the same topic id."""
    leader = Leader()
    await leader.go_on({0: 0, 1: 0}, wait=0).soon()
    before = leader.partition(1)
    leader.hosted.replicas._stop("t", 1, -1, delete=True)
    leader.hosted.replicas._stop("t", 0, -1, delete=True)
    leader.hosted.host("t", isr=(0, 1), replicas=(ONE, TWO))
    assert leader.partition(1) is not before
    assert await leader.go_on(wait=0).partitions() == {}, "nothing has changed for the follower"
    waits = leader.go_on(wait=60_000)
    leader.append(1)
    assert 1 in await waits.partitions()


async def test_an_evicted_session_leaves_nothing_behind() -> None:
    leader = Leader()
    await leader.go_on({0: 0}, wait=0).soon()
    assert leader.partition().followings
    leader.hosted.node.sessions.remove(leader.session)
    assert leader.partition().followings is None
    assert (await leader.go_on().soon()).error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


async def test_a_full_request_ends_the_session_before() -> None:
    leader = Leader()
    await leader.go_on({0: 0}, wait=0).soon()
    old = leader.session
    leader.epoch = 0
    await leader.go_on({0: 0}, wait=0).soon()
    assert leader.session != old and leader.hosted.node.sessions.get(old) is None
    assert len(leader.partition().followings or ()) == 1


async def test_a_topic_id_that_was_not_known_yet() -> None:
    """The follower hears of a topic before its leader does."""
    leader = Leader()
    view = leader.hosted.metadata.view
    names = dict(view.names)
    del view.names[leader.topic_id]  # type: ignore[attr-defined]
    found = await leader.go_on({0: 0}, wait=0).partitions()
    assert found[0].error_code == ErrorCode.UNKNOWN_TOPIC_ID
    view.names.update(names)  # type: ignore[attr-defined]
    found = await leader.go_on({0: 0}, wait=0).partitions()
    assert found[0].error_code == 0
    waits = leader.go_on(wait=60_000)
    leader.append(0)
    assert size((await waits.partitions())[0]) > 0
