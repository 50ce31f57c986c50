"""DescribeProducers: producers and open transactions, and what Apache Kafka answered."""

import pytest

from protocol.batch import build_end_txn_marker
from protocol.messages.describe_producers import (
    DescribeProducersRequest,
    PartitionResponse,
    ProducerState,
    TopicRequest,
)
from tests.kit.hosted import OTHER, HostedNode, recorded

CAPTURED = "offsets-wire.jsonl.gz"


async def describe(part: HostedNode, topic: str, index: int = 0) -> PartitionResponse:
    request = DescribeProducersRequest(topics=[TopicRequest(topic, [index])])
    answer = await part.ask(0, request)
    ((found,),) = (t.partitions for t in answer.topics)
    assert isinstance(found, PartitionResponse)
    assert found.partition_index == index
    return found


async def producers(part: HostedNode, topic: str) -> list[tuple[int, ...]]:
    """(id, epoch, last sequence, last timestamp, coordinator epoch, transaction's start) each."""
    found = await describe(part, topic)
    assert (found.error_code, found.error_message) == (0, None)
    return [
        (
            p.producer_id,
            p.producer_epoch,
            p.last_sequence,
            p.last_timestamp,
            p.coordinator_epoch,
            p.current_txn_start_offset,
        )
        for p in found.active_producers
    ]


async def test_idempotent_producers() -> None:
    part = HostedNode()
    part.host("t")
    part.append("t", [7, 8])
    assert await producers(part, "t") == []
    part.append("t", [10, 12, 11], producer_id=5, producer_epoch=1, base_sequence=0)
    part.append("t", [20], producer_id=6, producer_epoch=0, base_sequence=4)
    part.append("t", [30, 31], producer_id=5, producer_epoch=1, base_sequence=3)
    assert sorted(await producers(part, "t")) == [(5, 1, 4, 31, -1, -1), (6, 0, 4, 20, -1, -1)]


async def test_a_transaction() -> None:
    part = HostedNode()
    part.host("t")
    part.append("t", [1])
    header = {"producer_id": 5, "producer_epoch": 2, "transactional": True}
    part.append("t", [10, 11], base_sequence=0, **header)
    part.append("t", [12], base_sequence=2, **header)
    assert await producers(part, "t") == [(5, 2, 2, 12, -1, 1)]
    marker = build_end_txn_marker(
        producer_id=5, producer_epoch=2, committed=False, timestamp=50, coordinator_epoch=9
    )
    part.append_batch("t", marker, origin="coordinator")
    assert await producers(part, "t") == [(5, 2, 2, 50, 9, -1)]


async def test_any_replica_answers() -> None:
    part = HostedNode()
    part.host("t")
    part.append("t", [1], producer_id=5, producer_epoch=0, base_sequence=0)
    part.host("t", leader=OTHER, leader_epoch=1)
    assert len(await producers(part, "t")) == 1


async def test_refusals() -> None:
    part = HostedNode()
    part.host("t", 2)
    part.know("away", leader=OTHER)
    unknown = await describe(part, "nope")
    assert unknown.error_code == 3
    assert unknown.error_message
    other = await describe(part, "t", 2)
    assert (other.error_code, other.error_message) == (3, None)
    assert (await describe(part, "away")).error_code == 6
    part.partition("t").log = None
    assert (await describe(part, "t")).error_code == 56
    assert (await describe(part, "t", 1)).error_code == 0


@pytest.mark.parametrize("kafka", ["3.9.2", "4.4.0"])
async def test_as_recorded(kafka: str) -> None:
    part = HostedNode()
    for case in recorded(CAPTURED, 61, kafka):
        # The state is made from the answer: one batch that ends as the producer's last one did.
        for topic in case.answer.topics:
            if topic.name != "nope" and topic.name not in part.metadata.view.topics:
                part.host(topic.name)
                for state in topic.partitions[0].active_producers:
                    _append(part, topic.name, state)
        ours = await part.ask(0, case.request)
        for answer in (ours, case.answer):
            for topic in answer.topics:
                for partition in topic.partitions:
                    if partition.error_message:
                        partition.error_message = "a sentence"
        assert ours == case.answer, case


def _append(part: HostedNode, topic: str, state: ProducerState) -> None:
    part.append(
        topic,
        [state.last_timestamp],
        producer_id=state.producer_id,
        producer_epoch=state.producer_epoch,
        base_sequence=state.last_sequence,
        transactional=state.current_txn_start_offset >= 0,
    )


async def test_wrong_broker_as_recorded() -> None:
    part = HostedNode()
    part.know("on1", leader=OTHER)
    for case in recorded(CAPTURED, 61, "3.9.2 wrong broker"):
        ours = await part.ask(0, case.request)
        assert ours.topics[0] == next(t for t in case.answer.topics if t.name == "on1")
