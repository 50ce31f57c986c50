"""What happens between the question whether a batch belongs to its transaction, and the answer."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.cluster.view import TRANSACTIONS_TOPIC
from broker.transactions.markers import Marker, write_markers
from protocol.errors import ErrorCode
from tests.broker.transactions.part import TID, Part
from tests.kit.hosted import BROKER, OTHER

A, B = ("a", 0), ("b", 0)


@pytest.fixture
async def part() -> AsyncIterator[Part]:
    made = await Part().start("a", "b")
    yield made
    await made.stop()


class Held:
    """A Produce that waits: the coordinator's records are not replicated until `release`."""

    def __init__(self, part: Part, me: tuple[int, int], keys: Any, version: int = 12) -> None:
        self.part = part
        part.host(TRANSACTIONS_TOPIC, leader_epoch=1, isr=(BROKER, OTHER))
        self.answers: list[Any] = []
        self.call = part.call(
            me, dict.fromkeys(keys, 0) if isinstance(keys, list) else keys, version
        )

    async def ask(self) -> None:
        await self.part.quiet()
        assert self.call.unverified
        self.waiting = self.call.ask()
        assert self.waiting is not None
        self.waiting.start(self.answers.append)
        await self.part.quiet()
        assert self.answers == []

    async def release(self) -> dict[tuple[str, int], int]:
        partition = self.part.partition(TRANSACTIONS_TOPIC)
        assert partition.log is not None
        partition.log.advance_high_watermark(partition.log.end_offset)
        partition.notify()
        (codes,) = self.answers
        self.call.verified(codes)
        return self.part.answer(self.call)


def abort(part: Part, me: tuple[int, int], *keys: tuple[str, int]) -> None:
    codes: list[Any] = []
    write_markers(part.node, Marker(*me, False, 0, 0), keys, codes.append)
    part.replicas.write_staged()
    assert codes == [dict.fromkeys(keys, ErrorCode.NONE)]


async def test_taken_when_the_coordinator_has_answered(part: Part) -> None:
    me = await part.begin()
    held = Held(part, me, [A, B])
    await held.ask()
    assert part.log("a") == part.log("b") == []
    assert await held.release() == {A: 0, B: 0}
    assert part.log("a") == part.log("b") == [(0, 1)]


async def test_a_marker_in_between_ends_it(part: Part) -> None:
    """The answer is about a transaction that is over: nothing may be opened again."""
    me = await part.begin()
    held = Held(part, me, [A, B])
    await held.ask()
    abort(part, me, A)
    assert await held.release() == {A: 48, B: 0}
    assert part.log("a") == [(0, ("abort", 0))]


async def test_also_for_a_partition_that_needed_no_question(part: Part) -> None:
    me = await part.begin()
    assert await part.produce(me, {A: 0}) == {A: 0}
    held = Held(part, me, {A: 1, B: 0})
    await held.ask()
    abort(part, me, A)
    assert await held.release() == {A: 48, B: 0}
    assert part.log("a") == [(0, 1), (0, ("abort", 0))]


async def test_a_leader_that_is_lost_meanwhile(part: Part) -> None:
    me = await part.begin()
    held = Held(part, me, [A, B])
    await held.ask()
    part.host("a", leader=OTHER, leader_epoch=1, isr=(OTHER,))
    assert await held.release() == {A: 6, B: 0}


async def test_a_coordinator_that_is_lost_meanwhile(part: Part) -> None:
    me = await part.begin()
    held = Held(part, me, [A])
    await held.ask()
    part.host(TRANSACTIONS_TOPIC, leader=OTHER, leader_epoch=2)
    (codes,) = held.answers
    held.call.verified(codes)
    assert part.answer(held.call) == {A: 19}
    assert part.log("a") == []


async def test_a_client_that_goes_meanwhile(part: Part) -> None:
    me = await part.begin()
    held = Held(part, me, [A])
    await held.ask()
    held.waiting.cancel()
    with pytest.raises(ValueError, match="not enough values"):
        await held.release()
    assert held.answers == [] and part.log("a") == []


async def test_what_waits_is_not_in_the_frame_any_more(part: Part) -> None:
    me = await part.begin()
    held = Held(part, me, [A])
    await held.ask()
    (one,) = held.call._verification.held
    frame = one.records.obj
    assert len(frame) == len(one.records), "a copy"
    assert await held.release() == {A: 0}


async def test_verification_alone_waits_for_what_it_rests_on(part: Part) -> None:
    me = await part.begin()
    held = Held(part, me, [A], 9)
    await part.quiet()
    part.node.transactions.write(
        TID,
        lambda machine, who, now: machine.add_partitions(who, now, TID, me, [A], 0),
        lambda code: code,
    )
    await held.ask()
    assert await held.release() == {A: 0}


# --- what the coordinator could not say


@pytest.mark.parametrize("version", [9, 12])
async def test_nobody_to_ask(version: int) -> None:
    part = Part()
    part.host("a")
    assert await part.produce((1, 0), {A: 0}, version) == {A: 19}, "no topic yet"
    part.host(TRANSACTIONS_TOPIC, leader=OTHER)
    assert await part.produce((1, 0), {A: 0}, version) == {A: 19}
    await part.stop()


@pytest.mark.parametrize("version", [9, 12])
async def test_a_coordinator_that_is_loading(part: Part, version: int) -> None:
    me = await part.begin()
    await part.add(me, {"a": [0]})
    part.come_back(TRANSACTIONS_TOPIC)
    assert await part.produce(me, {A: 0}, version) == {A: 19}
    await part.quiet()
    assert await part.produce(me, {A: 0}, version) == {A: 0}


async def test_while_the_transaction_before_ends(part: Part) -> None:
    part.host("c", isr=(BROKER, OTHER))
    me = await part.begin()
    await part.add(me, {"c": [0]})
    assert (await part.end(me))[0] == 0
    await part.quiet()
    assert await part.produce(me, {A: 0}, 9) == {A: 19}
    assert await part.produce(me, {A: 0}, 12) == {A: 51}, "after add.partitions...max.ms"
    call = part.call(me, {A: 0})
    waiting = call.ask()
    answers: list[Any] = []
    waiting.start(answers.append)
    log = part.partition("c").log
    assert log is not None
    log.advance_high_watermark(1)
    part.partition("c").notify()
    while not answers:
        await part.quiet()
    call.verified(answers[0])
    assert part.answer(call) == {A: 0}
