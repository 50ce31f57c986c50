"""Answers made from what coordinators answer, at once or later."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from broker.coordinator import Waiting


def then(result: Any, make: Callable[[Any], Any]) -> Any:
    """`make(answer)`, or a `broker.dispatch.Parked` that will have it.

    `result` is what `Coordinator.write` or `read` gave: the answer, or a `Waiting` for it.
    """
    return gather([result], lambda answers: make(answers[0]))


def gather(results: Sequence[Any], make: Callable[[list[Any]], Any]) -> Any:
    """`make([answer, ...])` of several results, or a `Parked` that will have it, once all are
    there. `make` may give a `Parked` itself."""
    call = _Gathered(list(results), make)
    return call if call.left else make(call.answers)


async def settled(result: Any) -> Any:
    """The answer, waited for in a coroutine."""
    if not hasattr(result, "start"):
        return result
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def resume(answer: Any) -> None:
        if not answered.done():  # it is when the task was cancelled in this turn
            answered.set_result(answer)

    result.start(resume)
    try:
        return await answered
    except asyncio.CancelledError:
        result.cancel()
        raise


class _Gathered:
    """A `broker.dispatch.Parked`."""

    __slots__ = ("_make", "_resume", "_waiting", "answers", "left")

    def __init__(self, results: list[Any], make: Callable[[list[Any]], Any]) -> None:
        self._make = make
        self._resume: Callable[[Any], None] | None = None
        self._waiting: list[tuple[int, Any]] = []
        self.answers = results
        for index, result in enumerate(results):
            if isinstance(result, Waiting) and result.done:
                results[index] = result.response
            elif isinstance(result, Waiting | _Gathered):
                self._waiting.append((index, result))
        self.left = len(self._waiting)

    def start(self, resume: Callable[[Any], None]) -> None:
        self._resume = resume
        for index, waiting in self._waiting:
            waiting.start(partial(self._answered, index))

    def _answered(self, index: int, answer: Any) -> None:
        self.answers[index] = answer
        self.left -= 1
        if self.left or self._resume is None:
            return
        made = self._make(self.answers)
        if hasattr(made, "start"):
            self._waiting = [(0, made)]
            made.start(self._resume)
        else:
            self._resume(made)

    def cancel(self) -> None:
        """The client is gone."""
        self._resume = None
        for _, waiting in self._waiting:
            waiting.cancel()
