"""OffsetForLeaderEpoch: where epochs end, who answers, and what Apache Kafka answered."""

import pytest

from protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from tests.kit.hosted import OTHER, HostedNode, recorded

CAPTURED = "offsets-wire.jsonl.gz"


async def ask(
    part: HostedNode,
    epoch: int,
    *,
    topic: str = "t",
    index: int = 0,
    current: int = -1,
    version: int = 4,
) -> tuple[int, int, int]:
    """(error, epoch, end offset)."""
    partition = OffsetForLeaderPartition(index, current, epoch)
    request = OffsetForLeaderEpochRequest(topics=[OffsetForLeaderTopic(topic, [partition])])
    answer = await part.ask(version, request)
    ((found,),) = (t.partitions for t in answer.topics)
    assert answer.topics[0].topic == topic
    assert found.partition == index
    return found.error_code, found.leader_epoch, found.end_offset


async def test_ends_of_epochs() -> None:
    part = HostedNode()
    part.host("t")
    part.append("t", [1, 2, 3])
    part.host("t", leader_epoch=2)
    part.append("t", [4, 5])
    part.host("t", leader_epoch=5)
    assert await ask(part, 0) == (0, 0, 3)
    assert await ask(part, 1) == (0, 0, 3)
    assert await ask(part, 2) == (0, 2, 5)
    assert await ask(part, 4) == (0, 2, 5)
    assert await ask(part, 5) == (0, 5, 5)
    part.append("t", [6])
    assert await ask(part, 5) == (0, 5, 6)
    assert await ask(part, 6) == (0, -1, -1)
    assert await ask(part, -1) == (0, -1, -1)


async def test_version_0_tells_the_offset_only() -> None:
    part = HostedNode()
    part.host("t")
    part.append("t", [1])
    assert await ask(part, 0, version=0) == (0, -1, 1)


async def test_the_end_of_the_log_not_the_high_watermark() -> None:
    part = HostedNode()
    part.host("t", isr=(0, OTHER))
    part.append("t", [1, 2])
    assert await ask(part, 0) == (0, 0, 2)


async def test_refusals() -> None:
    part = HostedNode()
    part.host("t", leader_epoch=4)
    part.know("away", leader=OTHER)
    part.host("followed", leader=OTHER)
    assert await ask(part, 0, topic="nope") == (3, -1, -1)
    assert await ask(part, 0, index=1) == (3, -1, -1)
    assert await ask(part, 0, topic="away") == (6, -1, -1)
    assert await ask(part, 0, topic="followed") == (6, -1, -1)
    assert await ask(part, 4, current=5) == (75, -1, -1)
    assert await ask(part, 4, current=3) == (74, -1, -1)
    assert await ask(part, 4, current=4) == (0, 4, 0)
    # Before version 2 the asker cannot say which epoch it believes in.
    assert await ask(part, 4, current=3, version=1) == (0, 4, 0)
    part.partition("t").log = None
    assert await ask(part, 4) == (56, -1, -1)


@pytest.mark.parametrize(("kafka", "end"), [("3.9.2", 18), ("4.4.0", 20)])
async def test_as_recorded(kafka: str, end: int) -> None:
    part = HostedNode()
    part.host("t1", 2)
    part.host("compact")
    part.append("t1", range(end))
    cases = recorded(CAPTURED, 23, kafka)
    for case in cases:
        assert await part.ask(case.version, case.request) == case.answer, case
    assert {case.version for case in cases} == set(range(5) if kafka == "3.9.2" else range(2, 5))


async def test_wrong_broker_as_recorded() -> None:
    part = HostedNode()
    part.know("on1", leader=OTHER)
    part.host("both", leader=OTHER)
    for case in recorded(CAPTURED, 23, "3.9.2 wrong broker"):
        assert await part.ask(case.version, case.request) == case.answer, case
