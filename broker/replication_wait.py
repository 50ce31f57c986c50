"""A Produce with acks=all that waits until its batches are replicated, or its time is over."""

import asyncio
from collections.abc import Callable

from broker.handlers.produce import Call


class ReplicationWait:
    """Wakes with each change of the partitions; calls `resume(timed_out)` once."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._resume: Callable[[bool], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, resume: Callable[[bool], None]) -> None:
        self._resume = resume
        seconds = max(self._call.timeout_ms, 0) / 1000
        self._timer = asyncio.get_running_loop().call_later(seconds, self._finish, True)
        self._register()

    def _register(self) -> None:
        for partition in self._call.partitions():
            partition.add_waiter(self)

    def wake(self) -> None:
        """A high watermark moved, or leadership did."""
        self._release()
        if self._call.settled():
            self._finish(False)
        elif self._resume is not None:
            self._register()

    def _finish(self, timed_out: bool) -> None:
        resume = self._resume
        self.cancel()
        if resume is not None:
            resume(timed_out)

    def _release(self) -> None:
        for partition in self._call.partitions():
            partition.drop_waiter(self)

    def cancel(self) -> None:
        """The client is gone, or it was answered."""
        self._resume = None
        self._release()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
