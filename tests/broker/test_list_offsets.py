"""ListOffsets: what each timestamp finds, who may see how far, and what Apache Kafka answered."""

from typing import Any

import pytest

from protocol.batch import build, build_end_txn_marker
from protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from protocol.record import Record
from storage.filesystem import RealFileSystem
from tests.kit.hosted import OTHER, Exchange, HostedNode, recorded

LATEST, EARLIEST, MAX_TIMESTAMP = -1, -2, -3
BASE = 1_700_000_000_000
CAPTURED = "offsets-wire.jsonl.gz"
UNMET = ("last stable offset",)
"""Recorded cases of which the state is not set up here; tested by their own."""


def question(timestamp: int, topic: str = "t1", index: int = 0, **fields: Any) -> Any:
    partition = ListOffsetsPartition(
        index,
        current_leader_epoch=fields.pop("epoch", -1),
        timestamp=timestamp,
        max_num_offsets=fields.pop("count", 1),
    )
    return ListOffsetsRequest(
        **{"replica_id": -1} | fields, topics=[ListOffsetsTopic(topic, [partition])]
    )


async def ask(part: HostedNode, version: int, timestamp: int, **fields: Any) -> Any:
    answer = await part.ask(version, question(timestamp, **fields))
    ((found,),) = (topic.partitions for topic in answer.topics)
    return found


async def find(part: HostedNode, timestamp: int, **fields: Any) -> tuple[int, int, int, int]:
    """(error, timestamp, offset, epoch) at the newest version."""
    found = await ask(part, 11, timestamp, **fields)
    return found.error_code, found.timestamp, found.offset, found.leader_epoch


NOTHING = (0, -1, -1, -1)


@pytest.fixture
def part() -> HostedNode:
    made = HostedNode()
    made.host("t1")
    for at in range(3):
        made.append("t1", [BASE + at * 1000 + i for i in range(3)])
    return made


async def test_by_time_finds_the_first_record_not_older(part: HostedNode) -> None:
    assert await find(part, 0) == (0, BASE, 0, 0)
    assert await find(part, BASE + 1) == (0, BASE + 1, 1, 0)
    assert await find(part, BASE + 3) == (0, BASE + 1000, 3, 0)
    assert await find(part, BASE + 2002) == (0, BASE + 2002, 8, 0)
    assert await find(part, BASE + 2003) == NOTHING


async def test_ends_and_largest_timestamp(part: HostedNode) -> None:
    assert await find(part, LATEST) == (0, -1, 9, 0)
    assert await find(part, EARLIEST) == (0, -1, 0, 0)
    part.append("t1", [BASE + 50])
    assert await find(part, MAX_TIMESTAMP) == (0, BASE + 2002, 8, 0)
    assert await find(part, LATEST) == (0, -1, 10, 0)


async def test_after_records_were_deleted(part: HostedNode) -> None:
    log = part.partition("t1").log
    assert log is not None
    log.advance_log_start_offset(4)
    assert await find(part, EARLIEST) == (0, -1, 4, 0)
    assert await find(part, -4) == (0, -1, 4, 0)
    assert await find(part, 0) == (0, BASE + 1001, 4, 0)


async def test_epochs_are_those_of_the_record(part: HostedNode) -> None:
    part.host("t1", leader_epoch=3)
    assert await find(part, LATEST) == (0, -1, 9, 3)
    part.append("t1", [BASE + 9000])
    assert await find(part, BASE + 9000) == (0, BASE + 9000, 9, 3)
    assert await find(part, BASE + 2000) == (0, BASE + 2000, 6, 0)
    assert await find(part, EARLIEST) == (0, -1, 0, 0)


async def test_what_is_not_replicated_is_for_followers_only() -> None:
    part = HostedNode()
    part.host("t1", isr=(0, OTHER))
    part.append("t1", [BASE, BASE + 1])
    log = part.partition("t1").log
    assert log is not None
    assert await find(part, LATEST) == (0, -1, 0, 0)
    assert await find(part, 0) == NOTHING
    assert await find(part, MAX_TIMESTAMP) == NOTHING
    assert await find(part, LATEST, replica_id=OTHER) == (0, -1, 2, 0)
    assert await find(part, 0, replica_id=OTHER) == (0, BASE, 0, 0)
    log.advance_high_watermark(1)
    assert await find(part, LATEST) == (0, -1, 1, 0)
    assert await find(part, BASE) == (0, BASE, 0, 0)
    assert await find(part, BASE + 1) == NOTHING


async def test_a_new_leader_that_may_lag_behind() -> None:
    """Until the high watermark is past the first offset of its reign (KIP-207)."""
    part = HostedNode()
    part.host("t1", isr=(0, OTHER))
    part.append("t1", [BASE, BASE + 1])
    part.host("t1", leader_epoch=1, isr=(0, OTHER))
    for version, code in ((11, 78), (5, 78), (4, 5), (1, 5)):
        assert (await ask(part, version, LATEST)).error_code == code
        assert (await ask(part, version, BASE)).error_code == code
    assert await find(part, EARLIEST) == (0, -1, 0, 0)
    assert await find(part, BASE + 5) == NOTHING
    assert await find(part, LATEST, replica_id=OTHER) == (0, -1, 2, 1)
    log = part.partition("t1").log
    assert log is not None
    log.advance_high_watermark(2)
    assert await find(part, LATEST) == (0, -1, 2, 1)


async def test_a_former_leader_answers_the_debugging_replica() -> None:
    part = HostedNode()
    part.host("t1", isr=(0, OTHER))
    part.append("t1", [BASE])
    part.append("t1", [BASE + 1])
    part.host("t1", leader_epoch=1, isr=(0, OTHER))
    part.host("t1", leader_epoch=2, leader=OTHER, isr=(0, OTHER))
    log = part.partition("t1").log
    assert log is not None
    log.truncate_to(1)
    assert await find(part, LATEST) == (6, -1, -1, -1)
    assert await find(part, LATEST, replica_id=-2) == (0, -1, 1, 2)


async def test_who_has_no_replica_sends_clients_elsewhere(part: HostedNode) -> None:
    """Whatever epoch they believe in: it is not known here."""
    part.know("elsewhere", leader=OTHER)
    for epoch in (-1, 0, 5):
        assert await find(part, LATEST, topic="elsewhere", epoch=epoch) == (6, -1, -1, -1)
        assert await find(part, LATEST, topic="nowhere", epoch=epoch) == (3, -1, -1, -1)


async def test_last_stable_offset(part: HostedNode) -> None:
    transactional = {"producer_id": 7, "producer_epoch": 0, "transactional": True}
    part.append("t1", [BASE + 5000], base_sequence=0, **transactional)
    part.append("t1", [BASE + 6000])
    committed = {"isolation_level": 1}
    assert await find(part, LATEST, **committed) == (0, -1, 9, 0)
    assert await find(part, LATEST) == (0, -1, 11, 0)
    assert await find(part, BASE + 5000, **committed) == NOTHING
    assert await find(part, BASE + 5000) == (0, BASE + 5000, 9, 0)
    assert await find(part, MAX_TIMESTAMP, **committed) == NOTHING
    marker = build_end_txn_marker(
        producer_id=7, producer_epoch=0, committed=True, timestamp=BASE + 6000
    )
    part.append_batch("t1", marker, origin="coordinator")
    assert await find(part, LATEST, **committed) == (0, -1, 12, 0)
    assert await find(part, BASE + 5000, **committed) == (0, BASE + 5000, 9, 0)


async def test_a_transaction_from_before_the_leader_does_not_make_it_lag(part: HostedNode) -> None:
    transactional = {"producer_id": 7, "producer_epoch": 0, "transactional": True}
    part.append("t1", [BASE + 5000], base_sequence=0, **transactional)
    part.append("t1", [BASE + 6000])
    part.host("t1", leader_epoch=1)
    committed = {"isolation_level": 1}
    assert await find(part, LATEST, **committed) == (0, -1, 9, 1)
    assert await find(part, BASE + 2002, **committed) == (0, BASE + 2002, 8, 0)
    assert await find(part, BASE + 5000, **committed) == NOTHING
    assert await find(part, LATEST) == (0, -1, 11, 1)


async def test_refusals() -> None:
    part = HostedNode()
    part.host("t1", leader_epoch=4)
    part.know("away", leader=OTHER)
    part.host("followed", leader=OTHER)
    assert (await ask(part, 11, LATEST, topic="nope")).error_code == 3
    assert (await ask(part, 11, LATEST, index=9)).error_code == 3
    assert (await ask(part, 11, LATEST, topic="away")).error_code == 6
    assert (await ask(part, 11, LATEST, topic="followed")).error_code == 6
    assert (await ask(part, 11, LATEST, epoch=5)).error_code == 75
    assert (await ask(part, 11, LATEST, epoch=3)).error_code == 74
    assert (await ask(part, 11, LATEST, epoch=4)).error_code == 0
    assert (await ask(part, 11, -7, topic="nope")).error_code == 35
    # The debugging replica is answered by a follower too.
    assert await find(part, EARLIEST, topic="followed", replica_id=-2) == (0, -1, 0, -1)
    assert (await ask(part, 11, LATEST, topic="away", replica_id=-2)).error_code == 6
    part.partition("t1").log = None
    assert (await ask(part, 11, LATEST)).error_code == 56


async def test_a_partition_named_twice(part: HostedNode) -> None:
    request = question(LATEST)
    request.topics.append(ListOffsetsTopic("other", [ListOffsetsPartition(0, timestamp=LATEST)]))
    request.topics.append(request.topics[0])

    async def codes(version: int) -> list[tuple[str, int]]:
        answer = await part.ask(version, request)
        return [(t.name, p.error_code) for t in answer.topics for p in t.partitions]

    assert await codes(9) == [("t1", 42), ("other", 3), ("t1", 42)]
    assert await codes(10) == [("t1", 42), ("other", 3)]
    assert await codes(0) == [("t1", 0), ("other", 3), ("t1", 0)]


async def test_version_0_lists_segments(tmp_path: Any) -> None:
    part = HostedNode(fs=RealFileSystem(), dirs=[str(tmp_path)])
    log = part.host("t1")
    assert (await ask(part, 0, LATEST, count=10)).old_style_offsets == [0]
    for at in range(3):
        if at:
            log.roll(BASE)
        part.append("t1", [BASE + at * 1000 + i for i in range(3)])

    async def offsets(timestamp: int, count: int = 10, **fields: Any) -> list[int]:
        found = await ask(part, 0, timestamp, count=count, **fields)
        assert found.error_code == 0
        listed: list[int] = found.old_style_offsets
        return listed

    assert await offsets(LATEST) == [9, 6, 3, 0]
    assert await offsets(LATEST, 2) == [9, 6]
    assert await offsets(LATEST, 0) == []
    assert (await ask(part, 0, LATEST, count=-1)).error_code == -1
    assert await offsets(EARLIEST) == [0]
    # By the time at which files were written, not by what is in them.
    written = part.fs.modified_ms(f"{log.directory}/{6:020d}.log")
    part.clock.ms = written + 1000
    assert written > BASE + 2002
    assert await offsets(written - 60_000) == []
    assert await offsets(part.clock.ms - 1) == [6, 3, 0]
    assert await offsets(part.clock.ms, 2) == [9, 6]
    log.advance_log_start_offset(4)
    assert await offsets(LATEST) == [9, 6, 4, 4]  # no segment before the log's start
    part.logs.close(part.clock.ms)


async def test_version_0_ends_at_the_high_watermark_for_consumers() -> None:
    part = HostedNode()
    log = part.host("t1", isr=(0, OTHER))
    part.append("t1", [BASE, BASE + 1, BASE + 2])
    log.advance_high_watermark(1)
    assert (await ask(part, 0, LATEST, count=10)).old_style_offsets == [1, 0]
    answer = await ask(part, 0, LATEST, count=10, replica_id=OTHER)
    assert answer.old_style_offsets == [3, 0]


def _filled(kafka: str) -> HostedNode:
    """As it was on that broker when the requests were recorded."""
    part = HostedNode()
    part.host("t1", 2)
    part.host("compact", cleanup_policy="compact")
    for at in range(3):
        part.append("t1", [BASE + at * 1000 + i for i in range(3)])
    part.append("t1", [BASE + i for i in range(9 if kafka == "3.9.2" else 11)])
    return part


def _comparable(case: Exchange) -> bool:
    by_file_time = case.version == 0 and case.request.topics[0].partitions[0].timestamp > BASE
    # 4.4.0 answers a partition named twice once; below version 10 this broker follows 3.9.2.
    otherwise = case.kafka == "4.4.0" and case.version < 10 and "twice" in case.case
    return not (by_file_time or otherwise or any(name in case.case for name in UNMET))


@pytest.mark.parametrize("kafka", ["3.9.2", "4.4.0"])
async def test_as_recorded(kafka: str) -> None:
    part = _filled(kafka)
    compared = set()
    for case in filter(_comparable, recorded(CAPTURED, 2, kafka)):
        assert await part.ask(case.version, case.request) == case.answer, case
        compared.add((case.version, case.case))
    assert {version for version, _ in compared} == set(
        range(10) if kafka == "3.9.2" else range(1, 12)
    )
    assert len(compared) > 200


async def test_wrong_broker_as_recorded() -> None:
    part = HostedNode()
    part.know("on1", leader=OTHER)
    part.host("both", leader=OTHER)
    for case in recorded(CAPTURED, 2, "3.9.2 wrong broker"):
        assert await part.ask(case.version, case.request) == case.answer, case


async def test_a_record_in_the_middle_of_a_compressed_batch() -> None:
    part = HostedNode()
    part.host("t1")
    records = [Record(i, BASE + 10 * i, b"k", b"v" * 50, ()) for i in range(100)]
    part.append_batch("t1", build(records, codec=1))
    assert await find(part, BASE + 371) == (0, BASE + 380, 38, 0)
    assert await find(part, MAX_TIMESTAMP) == (0, BASE + 990, 99, 0)
