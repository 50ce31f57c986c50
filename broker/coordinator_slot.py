"""One partition of an internal topic that this broker leads: what happens when it is replicated,
and who waits for that. Part of `broker.coordinator`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from broker.partition import Partition
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.coordinator import Waiting
    from broker.timers import Timers

M = TypeVar("M")


class Pending(NamedTuple):
    """What is to happen when the high watermark is above an offset; `due` is a time of the loop."""

    offset: int
    due: float
    replies: "Sequence[tuple[Waiting, Any]]"
    act: Callable[[], None] | None


class Slot(Generic[M]):
    """One partition of the internal topic that this broker leads."""

    __slots__ = (
        "_patience_s",
        "_registered",
        "_timer",
        "active",
        "leader_epoch",
        "loading",
        "machine",
        "open",
        "partition",
        "queue",
        "timers",
    )

    def __init__(self, partition: Partition, patience_s: float) -> None:
        self.partition = partition
        self.leader_epoch = partition.leader_epoch
        self.machine: M
        self.timers: Timers
        self.active = False
        self.loading: asyncio.Task[None] | None = None
        self.queue: deque[Pending] = deque()
        """In the order of offsets, and of their times."""
        self.open: dict[Waiting, None] = {}
        """Everybody who was promised an answer and has none yet."""
        self._registered = False
        self._patience_s = patience_s
        self._timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """The partition changed (`broker.partition.Waiter`)."""
        partition, queue = self.partition, self.queue
        self._registered = False
        while (
            queue and partition.log is not None and queue[0].offset < partition.log.high_watermark
        ):
            done = queue.popleft()
            self.reply(done.replies)
            if done.act is not None:
                done.act()
        self._register()

    def when_replicated(
        self,
        offset: int,
        replies: "Sequence[tuple[Waiting, Any]]" = (),
        act: Callable[[], None] | None = None,
    ) -> None:
        """Send replies and `act()` when the high watermark is above `offset`, after all that came
        before. Replies that are late become refusals."""
        due = asyncio.get_running_loop().time() + self._patience_s
        self.queue.append(Pending(offset, due, replies, act))
        self._register()
        if self._timer is None:
            self._look_at(due)

    def after_all(self, replies: "Sequence[tuple[Waiting, Any]]", act: Callable[[], None]) -> None:
        """The same when all that was written so far is replicated, which may be now."""
        if self.queue:
            self.when_replicated(self.queue[-1].offset, replies, act)
        else:
            self.reply(replies)
            act()

    def reply(self, replies: "Sequence[tuple[Waiting, Any]]") -> None:
        """Answer those who wait."""
        for waiting, response in replies:
            self.open.pop(waiting, None)
            waiting.answer(response)

    def refuse(self, waiting: "Sequence[Waiting]", code: ErrorCode) -> None:
        """Answer all of these with that code."""
        self.reply([(one, one.refuse(code)) for one in waiting])

    def close(self) -> None:
        """Nothing that waits for replicas happens any more; whoever waits is sent away."""
        self.active = False
        if self.loading is not None:
            self.loading.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self.timers.clear()
        self.queue.clear()
        self.partition.drop_waiter(self)
        self.refuse(list(self.open), ErrorCode.NOT_COORDINATOR)

    def _register(self) -> None:
        if self.queue and not self._registered:
            self._registered = True
            self.partition.add_waiter(self)

    def _look_at(self, due: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(due, self._refuse_late)

    def _refuse_late(self) -> None:
        """The timer is left to run when nothing waits any more: most answers come at once."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        for pending in list(self.queue):
            if pending.due > now:
                self._look_at(pending.due)
                return
            late = [who for who, _ in pending.replies if not who.done]
            self.refuse(late, ErrorCode.COORDINATOR_NOT_AVAILABLE)
