"""DeleteRecords: what moves the log's start, what is refused, and what Apache Kafka answered."""

import asyncio
from typing import Any

import pytest

from broker.context import Context
from broker.handlers import delete_records
from broker.handlers.delete_records import DeletionWait
from protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from tests.kit.hosted import OTHER, HostedNode, recorded

CAPTURED = "offsets-wire.jsonl.gz"


def question(*wanted: tuple[str, int, int]) -> DeleteRecordsRequest:
    """(topic, partition, offset) each, a topic entry for every one."""
    return DeleteRecordsRequest(
        topics=[
            DeleteRecordsTopic(topic, [DeleteRecordsPartition(index, offset)])
            for topic, index, offset in wanted
        ],
        timeout_ms=1000,
    )


async def delete(
    part: HostedNode, offset: int, topic: str = "t", index: int = 0
) -> tuple[int, int]:
    """(error, low watermark)."""
    answer = await part.ask(2, question((topic, index, offset)))
    ((found,),) = (t.partitions for t in answer.topics)
    return found.error_code, found.low_watermark


@pytest.fixture
def part() -> HostedNode:
    made = HostedNode()
    made.host("t", isr=(0, OTHER))
    made.append("t", range(10))
    log = made.partition("t").log
    assert log is not None
    log.advance_high_watermark(8)
    made.partition("t").eligible = lambda broker_id: broker_id != OTHER
    return made


async def test_moves_the_start_up_to_the_high_watermark(part: HostedNode) -> None:
    log = part.partition("t").log
    assert log is not None
    assert await delete(part, 0) == (0, 0)
    assert await delete(part, 3) == (0, 3)
    assert log.log_start_offset == 3
    assert await delete(part, 1) == (0, 3)
    assert await delete(part, 9) == (1, -1)
    assert log.log_start_offset == 3
    assert await delete(part, 8) == (0, 8)
    assert log.log_start_offset == 8


async def test_minus_one_is_the_high_watermark(part: HostedNode) -> None:
    log = part.partition("t").log
    assert log is not None
    assert await delete(part, -2) == (1, -1)
    assert await delete(part, -1) == (0, 8)
    assert log.log_start_offset == 8
    assert log.end_offset == 10


async def test_refusals(part: HostedNode) -> None:
    part.know("away", leader=OTHER)
    part.host("followed", leader=OTHER)
    part.host("__consumer_offsets", cleanup_policy="compact")
    part.host("compact", cleanup_policy="compact")
    part.host("both", cleanup_policy="compact,delete")
    assert await delete(part, 0, "nope") == (3, -1)
    assert await delete(part, 0, index=1) == (3, -1)
    assert await delete(part, 0, "away") == (6, -1)
    assert await delete(part, 0, "followed") == (6, -1)
    assert await delete(part, 0, "__consumer_offsets") == (17, -1)
    assert await delete(part, 0, "__transaction_state") == (3, -1)
    assert await delete(part, 99, "compact") == (44, -1)
    assert await delete(part, 0, "both") == (0, 0)
    part.partition("t").log = None
    assert await delete(part, 0) == (56, -1)


async def test_named_twice_the_last_offset_counts(part: HostedNode) -> None:
    answer = await part.ask(2, question(("t", 0, 5), ("nope", 0, 0), ("t", 0, 2), ("t", 1, 0)))
    seen = {
        (t.name, p.partition_index, p.error_code, p.low_watermark)
        for t in answer.topics
        for p in t.partitions
    }
    assert seen == {("t", 0, 0, 2), ("t", 1, 3, -1), ("nope", 0, 3, -1)}
    assert [t.name for t in answer.topics] == ["t", "nope"]


@pytest.mark.parametrize("kafka", ["3.9.2", "4.4.0"])
async def test_as_recorded(kafka: str) -> None:
    part = HostedNode()
    part.host("del")
    part.host("compact", cleanup_policy="compact")
    cases = recorded(CAPTURED, 21, kafka)
    to_the_end = [case for case in cases if "-1" in case.case]
    ends = [case.answer.topics[0].partitions[0].low_watermark for case in to_the_end]
    part.append("del", range(ends[0]))
    for case in cases:
        assert await part.ask(case.version, case.request) == case.answer, case
    assert {case.version for case in cases} == {0, 1, 2}
    assert ends


async def test_wrong_broker_as_recorded() -> None:
    part = HostedNode()
    part.know("on1", leader=OTHER)
    part.host("both", leader=OTHER)
    for case in recorded(CAPTURED, 21, "3.9.2 wrong broker"):
        answer = await part.ask(case.version, case.request)
        assert sorted(answer.topics, key=str) == sorted(case.answer.topics, key=str), case


# --- followers ------------------------------------------------------------------------------------


class Waits:
    """A request whose answer waits for followers."""

    def __init__(self, part: HostedNode, offset: int, timeout_ms: int = 60_000) -> None:
        request = question(("t", 0, offset))
        request.timeout_ms = timeout_ms
        call = delete_records.handle(part.node, Context("c", "PLAINTEXT", "h"), request)
        assert isinstance(call, DeletionWait)
        self.call = call
        self.answers: list[Any] = []
        self.call.start(self.answers.append)

    @property
    def found(self) -> tuple[int, int] | None:
        """(error, low watermark) once answered."""
        if not self.answers:
            return None
        (response,) = self.answers
        ((answer,),) = (t.partitions for t in response.topics)
        return answer.error_code, answer.low_watermark


@pytest.fixture
def followed(part: HostedNode) -> HostedNode:
    part.partition("t").eligible = lambda _: True
    return part


def fetched(part: HostedNode, start: int) -> None:
    partition = part.partition("t")
    if partition.fetched(OTHER, 10, start, part.clock.now_ms()):
        part.replicas.visible(partition)


async def test_it_waits_for_the_followers_log_start(followed: HostedNode) -> None:
    waits = Waits(followed, 5)
    fetched(followed, 0)
    fetched(followed, 4)
    assert waits.found is None
    fetched(followed, 6)
    assert waits.found == (0, 5)
    assert followed.partition("t").waiters is None
    # What the follower has already is answered at once.
    assert await delete(followed, 5) == (0, 5)


async def test_it_does_not_wait_for_ever(followed: HostedNode) -> None:
    waits = Waits(followed, 5, timeout_ms=0)
    await asyncio.sleep(0.01)
    error, _ = waits.found or (0, 0)
    assert error == 7
    log = followed.partition("t").log
    assert log is not None and log.log_start_offset == 5


async def test_who_leads_no_more_cannot_tell(followed: HostedNode) -> None:
    waits = Waits(followed, 5)
    followed.host("t", leader=OTHER, leader_epoch=1, isr=(0, OTHER))
    assert waits.found == (6, -1)


async def test_a_client_that_goes_leaves_nobody_waiting(followed: HostedNode) -> None:
    waits = Waits(followed, 5)
    waits.call.cancel()
    assert followed.partition("t").waiters is None
    fetched(followed, 9)
    assert waits.found is None
