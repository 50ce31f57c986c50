"""An asyncio loop on virtual time, whose callbacks belong to nodes that can die.

Nothing waits for real: when nothing is ready the clock jumps to the next timer. Work for threads
runs at once in the loop (after a seeded delay: a slow disk). Every callback, timer and task
belongs to the `Incarnation` in whose context it was made; once that is dead none of them runs
again, which is what kill -9 does to a process. While it is paused they wait, as under SIGSTOP.
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
TURNS = 10_000
"""As many turns of the loop at one time are a loop without end."""


class Deadlock(AssertionError):
    """Nothing is ready and no timer stands, or time stands still: the simulated world would wait
    for ever."""


class Incarnation:
    """One life of a node's process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.paused = False
        self._held: list[tuple[Any, tuple[Any, ...]]] = []

    def __repr__(self) -> str:
        return f"<{self.name}{' dead' if self.dead else ''}>"

    def hold(self, callback: Any, args: tuple[Any, ...]) -> None:
        """Keep a callback that came due while this life is paused."""
        self._held.append((callback, args))

    def go_on(self, loop: "SimLoop") -> None:
        """End the pause: what came due meanwhile runs now, in order."""
        self.paused = False
        held, self._held = self._held, []
        with self.running():
            for callback, args in held:
                loop.call_soon(callback, *args)

    @contextmanager
    def running(self) -> Iterator[None]:
        """What is made inside (tasks, timers, readers) belongs to this life."""
        token = CURRENT.set(self)
        try:
            yield
        finally:
            CURRENT.reset(token)


CURRENT: contextvars.ContextVar[Incarnation | None] = contextvars.ContextVar("life", default=None)
NOBODY = contextvars.Context()
"""What runs in it belongs to no life."""


class SimSelector(selectors.BaseSelector):
    """Says which simulated sockets are ready; lets time pass when none is.

    `ready(fd)` gives the events of a descriptor of the simulated network, which `touch`es each
    whose state has changed: only those are looked at.
    """

    def __init__(self) -> None:
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._touched: dict[int, None] = {}
        self.now = 0.0
        self._moved_at, self._turns = 0.0, 0
        self.ready: Callable[[int], int] = lambda fd: 0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, self._fd(fileobj), events, data)
        self._keys[key.fd] = key
        self._touched[key.fd] = None
        return key

    def touch(self, fd: int) -> None:
        """The descriptor may be ready for something that it was not ready for."""
        self._touched[fd] = None

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
        for fd in list(self._touched):
            key = self._keys.get(fd)
            events = self.ready(fd) & key.events if key is not None else 0
            if events:
                assert key is not None
                found.append((key, events))
            else:
                del self._touched[fd]
        if not found:
            if timeout is None:
                raise Deadlock("nothing is ready and no timer stands")
            self.now += max(timeout, 0.0)
        if self.now > self._moved_at:
            self._moved_at, self._turns = self.now, 0
        self._turns += 1
        if self._turns > TURNS:
            raise Deadlock(f"{TURNS} turns of the loop at {self.now}: it goes round in circles")
        return found


class SimLoop(asyncio.SelectorEventLoop):
    """See the module. `chance` is the seeded source of everything random in a run."""

    def __init__(self, seed: int) -> None:
        self._sim_selector = SimSelector()
        self.chance = random.Random(seed)
        self.disk_delay_s: Callable[[], float] = lambda: 0.0
        super().__init__(self._sim_selector)
        self.tasks: dict[asyncio.Task[Any], None] = {}
        """All that have not ended. Those of dead lives stay: collected, they would be closed, and
        their last words said."""
        self.set_task_factory(_task_of_a_life)

    def time(self) -> float:
        return self._sim_selector.now

    def watch_sockets(self, ready: Callable[[int], int]) -> None:
        """Where to ask which descriptors are ready."""
        self._sim_selector.ready = ready

    def touch(self, fd: int) -> None:
        """The state of a simulated socket has changed."""
        self._sim_selector.touch(fd)

    def end(self) -> None:
        """Close the loop with all that is still under way: its coroutines are ended one by one,
        and nothing that they say on the way counts."""
        self.close()
        self.set_exception_handler(lambda *_: None)
        for task in list(self.tasks):
            try:
                task.get_coro().close()  # type: ignore[union-attr]
            except (RuntimeError, AttributeError, OSError, ValueError):
                pass
        self.tasks.clear()

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
        if life.paused:
            life.hold(callback, args)
        elif not life.dead:
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
    tasks = loop.tasks  # type: ignore[attr-defined]
    tasks[task] = None
    task.add_done_callback(lambda ended: tasks.pop(ended, None), context=NOBODY)
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
