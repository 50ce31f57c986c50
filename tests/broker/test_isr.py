"""Changes of ISRs on their way to the controller and back."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from broker.isr import IsrChanges
from broker.partition import Partition
from protocol.errors import ErrorCode
from protocol.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    ResponsePartitionData,
    ResponseTopicData,
)
from tests.broker.test_partition import lead, led
from tests.kit.nodes import FakeClock

Answer = Callable[[AlterPartitionRequest], Any]


class Controller:
    """Gives the answers it was told to give, then writes every ISR as asked."""

    def __init__(self, version: int = 3) -> None:
        self.version = version
        self.asked: list[AlterPartitionRequest] = []
        self.most: list[int | None] = []
        self.answers: list[Answer] = []
        self.hold: asyncio.Event | None = None

    async def ask(self, key: int, make: Callable[[int], Any], most: int | None) -> Any:
        assert key == 56
        request = make(self.version if most is None else most)
        self.asked.append(request)
        self.most.append(most)
        if self.hold is not None:
            await self.hold.wait()
        answer = (self.answers.pop(0) if self.answers else granted)(request)
        if isinstance(answer, Exception):
            raise answer
        return answer


def granted(request: AlterPartitionRequest, code: int = 0) -> AlterPartitionResponse:
    response = AlterPartitionResponse()
    for topic in request.topics:
        answers = ResponseTopicData(topic.topic_name, topic.topic_id)
        response.topics.append(answers)
        for p in topic.partitions:
            isr = p.new_isr or [b.broker_id for b in p.new_isr_with_epochs]
            answers.partitions.append(
                ResponsePartitionData(
                    p.partition_index, code, 0, p.leader_epoch, isr, 0, p.partition_epoch + 1
                )
            )
    return response


def refused(code: ErrorCode) -> Answer:
    return lambda request: granted(request, code)


class Leader:
    """A broker that leads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, version: int = 3) -> None:
        monkeypatch.setattr("broker.isr.RETRY_S", 0.0)
        self.controller = Controller(version)
        self.settled: list[Partition] = []
        self.changes = IsrChanges(
            0, lambda: 77, self.controller.ask, self.settled.append, FakeClock()
        )

    async def done(self) -> None:
        while self.changes._task is not None:
            await asyncio.sleep(0)


def partition(topic: str = "t", index: int = 0, isr: tuple[int, ...] = (0, 1, 2)) -> Partition:
    made = led(isr)
    made.topic, made.index = topic, index
    made.topic_id = topic.encode().rjust(16, b".")
    return made


@pytest.fixture
def leader(monkeypatch: pytest.MonkeyPatch) -> Leader:
    return Leader(monkeypatch)


async def test_a_change_counts_once_it_is_written(leader: Leader) -> None:
    p = partition()
    leader.changes.submit(p, (0, 1))
    assert p.isr == (0, 1, 2) and p.pending is not None
    await leader.done()
    assert (p.isr, p.partition_epoch, p.pending) == ((0, 1), 2, None)
    assert leader.settled == [p]
    (request,) = leader.controller.asked
    assert (request.broker_id, request.broker_epoch) == (0, 77)
    (topic,) = request.topics
    (asked,) = topic.partitions
    assert topic.topic_id == p.topic_id
    assert (asked.leader_epoch, asked.partition_epoch) == (1, 1)
    assert [b.broker_id for b in asked.new_isr_with_epochs] == [0, 1]
    assert {b.broker_epoch for b in asked.new_isr_with_epochs} == {-1}


async def test_one_request_carries_all_that_waits(leader: Leader) -> None:
    several = [partition("a", 0), partition("a", 1), partition("b", 0)]
    leader.controller.hold = asyncio.Event()
    for p in several[:2]:
        leader.changes.submit(p, (0, 1))
    while not leader.controller.asked:
        await asyncio.sleep(0)
    leader.changes.submit(several[2], (0,))
    leader.controller.hold.set()
    await leader.done()
    shape = [
        [(t.topic_name, [p.partition_index for p in t.partitions]) for t in request.topics]
        for request in leader.controller.asked
    ]
    assert shape == [[("a", [0, 1])], [("b", [0])]]
    assert [p.isr for p in several] == [(0, 1), (0, 1), (0,)]


@pytest.mark.parametrize("version", [0, 2])
async def test_older_controllers(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    leader = Leader(monkeypatch, version)
    p = partition()
    leader.changes.submit(p, (0, 1))
    await leader.done()
    (asked,) = leader.controller.asked[0].topics[0].partitions
    assert asked.new_isr == [0, 1] and not asked.new_isr_with_epochs
    assert p.isr == (0, 1)


async def test_a_topic_without_an_id_is_called_by_its_name(leader: Leader) -> None:
    p = partition()
    p.topic_id = bytes(16)
    leader.changes.submit(p, (0,))
    await leader.done()
    assert leader.controller.most == [1] and p.isr == (0,)


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: ConnectionError("gone"),
        lambda request: AlterPartitionResponse(error_code=ErrorCode.NOT_CONTROLLER),
        lambda request: AlterPartitionResponse(error_code=ErrorCode.STALE_BROKER_EPOCH),
        refused(ErrorCode.NOT_CONTROLLER),
        refused(ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
async def test_what_is_not_decided_is_asked_again(leader: Leader, answer: Answer) -> None:
    p = partition()
    leader.controller.answers = [answer, answer]
    leader.changes.submit(p, (0, 1))
    await leader.done()
    assert len(leader.controller.asked) == 3 and p.isr == (0, 1)


@pytest.mark.parametrize("code", [ErrorCode.INELIGIBLE_REPLICA, ErrorCode.OPERATION_NOT_ATTEMPTED])
async def test_an_isr_that_cannot_be_falls_back(leader: Leader, code: ErrorCode) -> None:
    p = partition(isr=(0, 1))
    leader.controller.answers = [refused(code)]
    leader.changes.submit(p, (0, 1, 2))
    await leader.done()
    assert (p.isr, p.maximal_isr, p.partition_epoch) == ((0, 1), (0, 1), 1)
    assert leader.settled == [p], "the high watermark need not wait for 2"


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.INVALID_UPDATE_VERSION,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ],
)
async def test_where_the_controller_knows_better_its_word_is_awaited(
    leader: Leader, code: ErrorCode
) -> None:
    p = partition(isr=(0, 1))
    leader.controller.answers = [refused(code)]
    leader.changes.submit(p, (0, 1, 2))
    await leader.done()
    assert p.maximal_isr == (0, 1, 2), "it may have been written"
    assert leader.settled == []
    lead(p, (0, 1, 2), epoch=2)
    assert p.pending is None


async def test_an_answer_to_what_is_over_changes_nothing(leader: Leader) -> None:
    p = partition()
    leader.controller.hold = asyncio.Event()
    leader.changes.submit(p, (0,))
    while not leader.controller.asked:
        await asyncio.sleep(0)
    lead(p, (0, 2), epoch=5)
    leader.controller.hold.set()
    await leader.done()
    assert (p.isr, p.partition_epoch) == ((0, 2), 5)


async def test_a_change_of_the_next_epoch_outlasts_the_answer_to_the_last_one(
    leader: Leader,
) -> None:
    p = partition()
    leader.controller.hold = asyncio.Event()
    leader.changes.submit(p, (0,))
    while not leader.controller.asked:
        await asyncio.sleep(0)
    lead(p, (0, 2), epoch=5)
    leader.changes.submit(p, (0, 2, 1))
    leader.controller.hold.set()
    await leader.done()
    assert len(leader.controller.asked) == 2
    assert (p.isr, p.pending) == ((0, 2, 1), None)


async def test_a_change_that_is_over_before_it_was_sent(leader: Leader) -> None:
    p = partition()
    leader.controller.answers = [lambda request: ConnectionError("gone")]
    leader.changes.submit(p, (0,))
    while not leader.controller.asked:
        await asyncio.sleep(0)
    lead(p, (0, 2), epoch=5)
    await leader.done()
    assert len(leader.controller.asked) == 1


async def test_nothing_is_asked_after_the_end(leader: Leader) -> None:
    leader.controller.hold = asyncio.Event()
    p = partition()
    leader.changes.submit(p, (0,))
    await asyncio.sleep(0)
    await leader.changes.close()
    assert p.isr == (0, 1, 2)
