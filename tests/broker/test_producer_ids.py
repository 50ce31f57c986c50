"""Producer ids: blocks in order, the next one ahead of need, refusals, many who wait."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker.cluster.local import LocalStore
from broker.producer_ids import RETRY_S, ProducerIds
from tests.kit.nodes import FakeClock, MetadataNode


class Blocks:
    """A controller that grants blocks of `size` when `granting`, and counts the questions."""

    def __init__(self, size: int = 10) -> None:
        self.size = size
        self.asked = 0
        self.first = 0
        self.refusal: Exception | None = None
        self.granting = asyncio.Event()
        self.granting.set()
        self.question = asyncio.Event()

    async def allocate(self) -> tuple[int, int]:
        self.asked += 1
        self.question.set()
        await self.granting.wait()
        if self.refusal is not None:
            raise self.refusal
        first, self.first = self.first, self.first + self.size
        return first, self.size


@pytest.fixture
def blocks() -> Blocks:
    return Blocks()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def ids(blocks: Blocks, clock: FakeClock) -> AsyncIterator[ProducerIds]:
    made = ProducerIds(blocks.allocate, clock)
    yield made
    await made.stop()


async def test_no_block_before_it_is_wanted(ids: ProducerIds, blocks: Blocks) -> None:
    assert blocks.asked == 0
    assert ids.take() is None
    assert await ids.next() == 0
    assert ids.take() == 1
    assert blocks.asked == 1


async def test_started_it_has_a_block(ids: ProducerIds, blocks: Blocks) -> None:
    await ids.start()
    assert ids.left == 10
    assert ids.take() == 0


async def test_the_next_block_comes_before_the_last_id(ids: ProducerIds, blocks: Blocks) -> None:
    await ids.start()
    assert [ids.take() for _ in range(8)] == list(range(8))
    assert blocks.asked == 1
    blocks.question.clear()
    assert ids.take() == 8  # one of ten is left
    await blocks.question.wait()
    assert blocks.asked == 2
    assert [ids.take() for _ in range(11)] == list(range(9, 20))
    assert ids.left == 0


async def test_every_id_once_over_many_blocks(ids: ProducerIds, blocks: Blocks) -> None:
    assert [await ids.next() for _ in range(95)] == list(range(95))
    assert blocks.asked == 10


async def test_others_may_get_blocks_in_between(ids: ProducerIds, blocks: Blocks) -> None:
    await ids.start()
    blocks.first = 5000
    seen = [await ids.next() for _ in range(15)]
    assert seen == [*range(10), *range(5000, 5005)]


async def test_more_wait_than_a_block_has(ids: ProducerIds, blocks: Blocks) -> None:
    blocks.granting.clear()
    waiting = [asyncio.ensure_future(ids.next()) for _ in range(35)]
    await blocks.question.wait()
    assert blocks.asked == 1
    blocks.granting.set()
    assert set(await asyncio.gather(*waiting)) == set(range(35))


async def test_a_refusal_is_told_at_once_and_tried_again_later(
    ids: ProducerIds, blocks: Blocks, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    blocks.refusal = RuntimeError("not the controller")
    assert await ids.next() is None
    assert "not the controller" in caplog.text
    blocks.refusal = None
    assert await ids.next() is None
    assert blocks.asked == 1
    clock.seconds += RETRY_S
    assert await ids.next() == 0
    assert blocks.asked == 2


async def test_no_answer_in_time(ids: ProducerIds, blocks: Blocks) -> None:
    blocks.granting.clear()
    assert await ids.next(0.001) is None
    assert await ids.next(0) is None
    # The question is still under way, and not asked twice.
    blocks.granting.set()
    assert await ids.next() == 0
    assert blocks.asked == 1


async def test_a_waiting_client_that_goes_does_not_end_the_question(
    ids: ProducerIds, blocks: Blocks
) -> None:
    blocks.granting.clear()
    gone = asyncio.ensure_future(ids.next())
    await blocks.question.wait()
    gone.cancel()
    blocks.granting.set()
    assert await ids.next() == 0
    assert blocks.asked == 1


async def test_stopped(ids: ProducerIds, blocks: Blocks) -> None:
    blocks.granting.clear()
    waiting = asyncio.ensure_future(ids.next())
    await blocks.question.wait()
    await ids.stop()
    assert await waiting is None
    assert ids.take() is None
    assert blocks.asked == 1


async def test_blocks_of_the_controller() -> None:
    """A thousand each, counted on by every broker and after a restart."""
    part = MetadataNode(LocalStore(), 0)
    await part.start()

    def fresh() -> ProducerIds:
        return ProducerIds(
            lambda: part.controller.allocate_producer_ids(0, part.membership.epoch), part.clock
        )

    first, second = fresh(), fresh()
    assert await first.next() == 0
    assert await second.next() == 1000
    assert [first.take() for _ in range(3)] == [1, 2, 3]
    assert first.left == 996
    await part.controller.stop()
    stranded = fresh()
    assert await stranded.next() is None
    for each in (first, second, stranded):
        await each.stop()
    await part.stop()


async def test_ids_are_waited_for_without_taking_one(
    ids: ProducerIds, blocks: Blocks, clock: FakeClock
) -> None:
    assert await ids.ready()
    assert ids.left == 10
    assert await ids.ready(0), "without another question"
    assert blocks.asked == 1
    for _ in range(10):
        ids.take()
    await asyncio.sleep(0)
    blocks.refusal = RuntimeError("no controller")
    while ids.take() is not None:
        pass
    clock.seconds += 2 * RETRY_S
    assert not await ids.ready(0)
    assert not await ids.ready()
