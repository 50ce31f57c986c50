"""An asyncio loop on virtual time, whose callbacks belong to nodes that can die.

Nothing waits for real: when nothing is ready the clock jumps to the next timer. Work for threads
runs at once in the loop (after a seeded delay: a slow disk). Every callback, timer and task
belongs to the `Incarnation` in whose context it was made; once that is dead none of them runs
again, which is what kill -9 does to a process.
"""

import asyncio
import contextvars
import random
import selectors
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH_MS = 1_700_000_000_000


class Deadlock(AssertionError):
    """Nothing is ready and no timer stands: the simulated world would wait for ever."""


class Incarnation:
    """One life of a node's process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False

    def __repr__(self) -> str:
        return f"<{self.name}{' dead' if self.dead else ''}>"

    @contextmanager
    def running(self) -> Iterator[None]:
        """What is made inside (tasks, timers, readers) belongs to this life."""
        token = CURRENT.set(self)
        try:
            yield
        finally:
            CURRENT.reset(token)


CURRENT: contextvars.ContextVar[Incarnation | None] = contextvars.ContextVar("life", default=None)


class SimSelector(selectors.BaseSelector):
    """Says which simulated sockets are ready; lets time pass when none is.

    `ready(fd)` gives the events of a descriptor of the simulated network.
    """

    def __init__(self) -> None:
        self._keys: dict[int, selectors.SelectorKey] = {}
        self.now = 0.0
        self.ready: Callable[[int], int] = lambda fd: 0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, self._fd(fileobj), events, data)
        self._keys[key.fd] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(self._fd(fileobj))

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[self._fd(fileobj)]

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    @staticmethod
    def _fd(fileobj: Any) -> int:
        return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = []
        for fd, key in self._keys.items():
            events = self.ready(fd) & key.events
            if events:
                found.append((key, events))
        if not found:
            if timeout is None:
                raise Deadlock("nothing is ready and no timer stands")
            self.now += max(timeout, 0.0)
        return found


class SimLoop(asyncio.SelectorEventLoop):
    """See the module. `chance` is the seeded source of everything random in a run."""

    def __init__(self, seed: int) -> None:
        self._sim_selector = SimSelector()
        self.chance = random.Random(seed)
        self.disk_delay_s: Callable[[], float] = lambda: 0.0
        super().__init__(self._sim_selector)
        self.set_task_factory(_task_of_a_life)

    def time(self) -> float:
        return self._sim_selector.now

    def watch_sockets(self, ready: Callable[[int], int]) -> None:
        """Where to ask which descriptors are ready."""
        self._sim_selector.ready = ready

    # --- callbacks belong to a life

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        return super().call_soon(_alive(callback, context), *args, context=context)

    def call_soon_threadsafe(
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return super().call_at(when, _alive(callback, context), *args, context=context)

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        super().add_reader(fd, _alive(callback, None), *args)

    def add_writer(self, fd: Any, callback: Any, *args: Any) -> None:
        super().add_writer(fd, _alive(callback, None), *args)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        """Work for a thread, done in the loop after the disk's delay."""
        done: asyncio.Future[T] = self.create_future()

        def run() -> None:
            if done.cancelled():
                return
            try:
                done.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits the work
                done.set_exception(error)

        self.call_later(self.disk_delay_s(), run)
        return done


def _alive(callback: Any, context: contextvars.Context | None) -> Any:
    """The callback, which does nothing once the life it was made in is over."""
    life = CURRENT.get() if context is None else context.get(CURRENT)
    if life is None:
        return callback

    def guarded(*args: Any) -> Any:
        if not life.dead:
            return callback(*args)
        return None

    return guarded


def _task_of_a_life(
    loop: asyncio.AbstractEventLoop, coroutine: Any, context: Any = None
) -> "asyncio.Task[Any]":
    """An ordinary task; its steps are callbacks and end with its life by themselves.

    A task whose life is over stays suspended for ever: it must not complain when it is collected.
    """
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, context=context)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    return task


class SimClock:
    """The broker's clock on virtual time; `skew_ms` sets a node's wall clock apart."""

    def __init__(self, loop: SimLoop, skew_ms: int = 0) -> None:
        self._loop = loop
        self.skew_ms = skew_ms

    def now_ms(self) -> int:
        return EPOCH_MS + self.skew_ms + int(self._loop.time() * 1000)

    def monotonic(self) -> float:
        return self._loop.time()
