"""The one place that reads the time: everything else is handed a `Clock` or a number."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where the broker takes the time from; tests hand in their own."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch (record timestamps, retention)."""

    def monotonic(self) -> float:
        """Seconds that never go back (deadlines, durations)."""


class SystemClock:
    """The clock of this machine."""

    __slots__ = ()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()
