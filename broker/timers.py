"""Timers by key: setting one again replaces it.

Made for timers that are pushed back far more often than they fire (a member's session with every
heartbeat): setting one is a dict entry, and the heap learns of a later time only when the earlier
one comes up.
"""

import asyncio
from collections.abc import Callable, Hashable
from heapq import heappop, heappush
from itertools import count

from broker.clock import Clock

MOST_AHEAD_S = 3600.0
"""The loop is asked to wake at least this often: far deadlines survive a clock that is set."""


class Timers:
    """Calls `fire(key)` when the clock's `now_ms` has reached a key's time. Belongs to the loop."""

    __slots__ = ("_at", "_clock", "_fire", "_handle", "_heap", "_loop", "_order", "_wakes_at")

    def __init__(self, clock: Clock, fire: Callable[[Hashable], None]) -> None:
        self._clock = clock
        self._fire = fire
        self._loop = asyncio.get_running_loop()
        self._at: dict[Hashable, int] = {}
        self._heap: list[tuple[int, int, Hashable]] = []
        self._order = count()
        self._handle: asyncio.TimerHandle | None = None
        self._wakes_at = 0

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: Hashable, at_ms: int) -> None:
        """Fire `key` at that time (ms since the epoch) and not at one set before."""
        before = self._at.get(key)
        self._at[key] = at_ms
        if before is None or at_ms < before:
            heappush(self._heap, (at_ms, next(self._order), key))
            if self._handle is None or at_ms < self._wakes_at:
                self._arm(at_ms)

    def cancel(self, key: Hashable) -> None:
        """Do not fire `key`; nothing happens if it is not set."""
        self._at.pop(key, None)

    def clear(self) -> None:
        """Cancel all."""
        self._at.clear()
        self._heap.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, at_ms: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._wakes_at = at_ms
        ahead = (at_ms - self._clock.now_ms()) / 1000
        self._handle = self._loop.call_later(min(max(ahead, 0.0), MOST_AHEAD_S), self._wake)

    def _wake(self) -> None:
        self._handle = None
        heap, times = self._heap, self._at
        now = self._clock.now_ms()
        while heap and heap[0][0] <= now:
            at, _, key = heappop(heap)
            wanted = times.get(key)
            if wanted is None:
                continue
            if wanted > at:  # pushed back since: that entry was never on the heap
                heappush(heap, (wanted, next(self._order), key))
            elif wanted == at:
                del times[key]
                self._fire(key)
        if heap and (self._handle is None or heap[0][0] < self._wakes_at):
            # What fired may have set, and armed, a later time than the next one that was there.
            self._arm(heap[0][0])
