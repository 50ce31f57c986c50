"""A partition's leader: how far it is replicated, and who is in sync."""

from typing import Any

import pytest

from broker.handlers.produce import OneBatch
from broker.partition import Follower, Partition
from protocol import batch
from protocol.compiler import decoder
from protocol.messages.leader_and_isr import LeaderAndIsrPartitionState
from protocol.messages.produce import ProduceResponse
from protocol.record import Record
from storage.config import LogConfig
from storage.filesystem import MemoryFileSystem
from storage.log import Log

LAG = 1000
T = 100_000


def led(
    isr: tuple[int, ...] = (0, 1, 2),
    *,
    replicas: tuple[int, ...] = (0, 1, 2),
    least: int = 1,
    records: int = 0,
) -> Partition:
    """Partition of broker 0, which leads under epoch 1 since time T."""
    partition = Partition(0, "t", 0, bytes(16))
    fs = MemoryFileSystem()
    fs.mkdir("/d")
    config = LogConfig.from_strings({"min.insync.replicas": str(least)})
    partition.log = Log.open(
        fs, "/d", "t", 0, config, recovery_point=0, log_start_offset=0, clean=True, now_ms=T
    )
    partition.lag_ms = LAG
    if records:
        append(partition, records)
    lead(partition, isr, replicas=replicas)
    return partition


def lead(partition: Partition, isr: tuple[int, ...], *, epoch: int = 1, **more: Any) -> bool:
    state = LeaderAndIsrPartitionState(
        leader=0,
        leader_epoch=epoch,
        isr=list(isr),
        partition_epoch=epoch,
        replicas=list(more.get("replicas", (0, 1, 2))),
    )
    return partition.lead(state, more.get("now", T))


def append(partition: Partition, count: int = 1) -> None:
    log = partition.log
    assert log is not None
    records = [Record(i, T, None, b"v", ()) for i in range(count)]
    log.append(memoryview(bytearray(batch.build(records))), partition.leader_epoch, T)


def watermark(partition: Partition) -> int:
    assert partition.log is not None
    return partition.log.high_watermark


# --- high watermark -------------------------------------------------------------------------------


def test_the_high_watermark_is_the_least_of_the_isr() -> None:
    p = led()
    append(p, 5)
    assert not p.advance(T)
    p.fetched(1, 5, 0, T)
    p.fetched(2, 0, 0, T)
    assert watermark(p) == 0
    assert p.fetched(2, 3, 0, T) and watermark(p) == 3
    assert p.fetched(2, 5, 0, T) and watermark(p) == 5
    assert not p.fetched(2, 5, 0, T)
    assert p.fetched(2, 5, 1, T), "somebody may wait for its log start"


def test_alone_in_the_isr_with_followers_that_are_far_behind() -> None:
    p = led((0,))
    append(p, 2)
    assert p.advance(T) and watermark(p) == 2


def test_it_waits_for_a_follower_that_is_about_to_join() -> None:
    """Else a follower that is one step behind all the time could never join."""
    p = led((0,))
    p.fetched(1, 0, 0, T)
    append(p, 2)
    assert not p.advance(T + LAG) and watermark(p) == 0
    p.eligible = lambda broker_id: broker_id != 1
    assert p.advance(T + LAG) and watermark(p) == 2
    p.eligible = lambda _: True
    append(p, 2)
    assert p.advance(T + LAG + 1) and watermark(p) == 4, "it has fallen behind"


def test_it_stands_still_below_min_insync_replicas() -> None:
    p = led((0,), least=2)
    append(p)
    assert not p.advance(T + 2 * LAG)
    p.commit((0, 1), 2)
    p.fetched(1, 1, 0, T)
    assert watermark(p) == 1


def test_min_insync_replicas_is_capped_by_the_replicas() -> None:
    p = led((0,), replicas=(0,), least=3)
    append(p)
    assert not p.under_min_isr and p.advance() and watermark(p) == 1


def test_while_a_change_is_under_way_the_larger_isr_counts() -> None:
    p = led((0, 1))
    append(p)
    p.fetched(2, 1, 0, T)
    p.propose((0, 1, 2))
    assert p.maximal_isr == (0, 1, 2) and p.isr == (0, 1)
    append(p)
    p.fetched(1, 2, 0, T + 2 * LAG)
    assert watermark(p) == 1, "2 may be in sync already"
    p.commit((0, 1, 2), 2)
    p.propose((0, 1))
    assert p.maximal_isr == (0, 1, 2), "2 may be in sync still"
    assert not p.advance(T + 2 * LAG)
    p.commit((0, 1), 3)
    assert p.advance(T + 2 * LAG) and watermark(p) == 2


def test_acknowledging_needs_the_isr_to_be_large_enough_still() -> None:
    p = led((0, 1), least=2)
    assert not p.lost_min_isr
    p.propose((0,))
    assert not p.lost_min_isr
    p.commit((0,), 2)
    assert p.lost_min_isr


@pytest.mark.parametrize(("acks", "isr", "code"), [(-1, (0,), 20), (-1, (0, 1), 0), (1, (0,), 0)])
def test_what_a_producer_is_told_when_the_isr_has_shrunk(
    acks: int, isr: tuple[int, ...], code: int
) -> None:
    p = led((0, 1), least=2)
    assert p.log is not None
    data = memoryview(bytearray(batch.build([Record(0, T, None, b"v", ())])))
    appended = p.log.append(data, 1, T)
    p.fetched(1, 1, 0, T)
    assert watermark(p) == 1
    p.commit(isr, 2)
    nobody: Any = None  # who else leads is not told in version 9
    call = OneBatch(9, acks, 1000, b"\x02t", p, appended, (nobody, "PLAINTEXT", 9))
    assert call.settled()
    frame = call.answer()
    assert frame is not None
    answer, _ = decoder(ProduceResponse, 9)(frame, 9)
    assert answer.responses[0].partition_responses[0].error_code == code


def test_a_follower_does_not_advance_by_itself() -> None:
    p = led((0,))
    append(p, 3)
    p.follow(LeaderAndIsrPartitionState(leader=1, leader_epoch=2, isr=[1], replicas=[0, 1]))
    assert not p.advance(T) and p.followers == {} and p.isr == (1,)


# --- epochs ---------------------------------------------------------------------------------------


def test_a_new_leader_knows_nothing_of_its_followers() -> None:
    p = led(records=4)
    assert p.leader_epoch_start == 4
    assert p.log is not None and p.log.latest_epoch == 1
    assert {f.end_offset for f in p.followers.values()} == {-1}
    append(p)
    assert not p.advance(T + 10 * LAG), "they are in the ISR, wherever they are"


def test_a_new_epoch_of_the_same_leader_keeps_what_it_knows() -> None:
    p = led()
    append(p, 2)
    p.fetched(1, 2, 0, T)
    assert not lead(p, (0, 1), epoch=2, now=T + 5)
    assert p.followers[1].end_offset == 2
    assert watermark(p) == 2
    assert p.followers[1].caught_up_ms == T + 5 and p.followers[2].caught_up_ms == 0


def test_leading_again_after_following_starts_afresh() -> None:
    p = led()
    p.fetched(1, 0, 0, T)
    p.follow(LeaderAndIsrPartitionState(leader=1, leader_epoch=2, isr=[0, 1], replicas=[0, 1]))
    assert lead(p, (0, 1), epoch=3, replicas=(0, 1))
    assert p.followers.keys() == {1} and p.followers[1].end_offset == -1


def test_a_change_is_off_when_the_controller_speaks() -> None:
    p = led()
    p.propose((0, 1))
    lead(p, (0, 2), epoch=2)
    assert p.pending is None and p.maximal_isr == (0, 2)


# --- ISR ------------------------------------------------------------------------------------------


def test_a_follower_joins_at_the_high_watermark() -> None:
    p = led((0, 1))
    append(p, 4)
    p.fetched(1, 4, 0, T + 2 * LAG)
    p.fetched(2, 3, 0, T + 2 * LAG)
    assert watermark(p) == 4
    assert p.joined(2, T) is None
    p.fetched(2, 4, 0, T + 2 * LAG)
    assert p.joined(2, T) == (0, 1, 2)
    assert p.joined(1, T) is None, "is in already"
    assert p.joined(7, T) is None, "no replica"
    p.eligible = lambda broker_id: broker_id != 2
    assert p.joined(2, T) is None, "not alive"
    p.eligible = lambda _: True
    p.propose((0,))
    assert p.joined(2, T) is None, "one change at a time"
    p.roll_back(T + 500)
    assert p.joined(2, T + 499) is None, "just refused"
    assert p.joined(2, T + 500) == (0, 1, 2)


def test_a_follower_joins_not_before_the_leaders_first_offset() -> None:
    """The high watermark of a new leader may be behind what consumers have seen."""
    p = led((0,), records=3, least=2)
    p.fetched(1, 2, 0, T)
    assert watermark(p) == 0
    assert p.joined(1, T) is None
    p.fetched(1, 3, 0, T)
    assert p.joined(1, T) == (0, 1)


def test_who_has_not_caught_up_for_too_long_goes() -> None:
    p = led()
    append(p, 2)
    p.fetched(1, 2, 0, T + 10)
    p.fetched(2, 1, 0, T + 10)
    assert p.without_laggards(T + LAG) is None
    assert p.without_laggards(T + LAG + 1) == (0, 1)
    p.propose((0, 1))
    assert p.without_laggards(T + LAG + 1) is None, "one change at a time"
    p.pending = None
    p.follow(LeaderAndIsrPartitionState(leader=1, leader_epoch=2, isr=[0, 1], replicas=[0, 1]))
    assert p.without_laggards(T + 9 * LAG) is None


def test_who_has_everything_stays_however_long_it_is_silent() -> None:
    p = led()
    append(p)
    p.fetched(1, 1, 0, T)
    p.fetched(2, 1, 0, T)
    assert p.without_laggards(T + 99 * LAG) is None
    append(p)
    assert p.without_laggards(T + 99 * LAG) == (0,)


def test_a_follower_that_keeps_pace_is_caught_up_though_never_at_the_end() -> None:
    """It has each time what there was when it fetched last."""
    follower = Follower(1)
    for step in range(1, 50):
        end = 10 * step
        follower.fetched(end - 10, 0, T + step * 100, end)
    assert follower.caught_up(600, T + 4900 + LAG - 100, LAG)
    assert not follower.caught_up(600, T + 4900 + LAG + 1, LAG)


def test_the_low_watermark_is_the_least_log_start_of_those_alive() -> None:
    p = led()
    append(p, 5)
    assert p.low_watermark() == -1, "not known yet"
    p.fetched(1, 5, 3, T)
    p.fetched(2, 5, 0, T)
    assert p.log is not None
    p.log.advance_log_start_offset(4)
    assert p.low_watermark() == 0
    p.eligible = lambda broker_id: broker_id != 2
    assert p.low_watermark() == 3
