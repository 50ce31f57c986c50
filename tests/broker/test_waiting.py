"""Answers made from those of coordinators."""

import asyncio
from typing import Any

import pytest

from broker.coordinator import Waiting
from broker.waiting import gather, settled, then


def waiting() -> Waiting:
    return Waiting(lambda code: code)


def test_what_is_there_is_made_at_once() -> None:
    assert then(3, str) == "3"
    done = waiting()
    done.answer(4)
    assert gather([3, done], sum) == 7
    assert gather([], len) == 0


def test_the_last_answer_makes_the_whole() -> None:
    first, second = waiting(), waiting()
    call = gather([first, 2, then(second, lambda n: n * 10)], tuple)
    answers: list[Any] = []
    call.start(answers.append)
    second.answer(3)
    assert answers == []
    first.answer(1)
    assert answers == [(1, 2, 30)]


def test_a_client_that_goes_is_not_answered() -> None:
    first, second = waiting(), waiting()
    call = gather([first, second], tuple)
    call.start(lambda answer: pytest.fail("answered"))
    call.cancel()
    assert first.cancelled and second.cancelled
    first.answer(1)
    second.answer(2)


async def test_a_coroutine_waits() -> None:
    assert await settled(5) == 5
    first = waiting()
    asyncio.get_running_loop().call_soon(first.answer, 6)
    assert await settled(first) == 6


async def test_a_coroutine_that_is_cancelled() -> None:
    first = waiting()
    task = asyncio.create_task(settled(first))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert first.cancelled
    first.answer(1)


async def test_an_answer_in_the_turn_of_a_cancellation() -> None:
    first = waiting()
    task = asyncio.create_task(settled(first))
    await asyncio.sleep(0)
    task.cancel()
    first.answer(1)
    with pytest.raises(asyncio.CancelledError):
        await task
