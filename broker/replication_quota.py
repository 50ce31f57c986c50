"""How fast replicas may catch up (KIP-73). Plain objects; times are handed in.

A rate is set for a broker (leader.replication.throttled.rate, follower....), and which replicas it
is about for a topic (leader.replication.throttled.replicas, follower...). It holds for replicas
that are not in sync: those that are must stay so. What is over the rate is left out until the rate
has come down; nothing is delayed.
"""

from collections import deque
from typing import Final

UNLIMITED: Final = 9223372036854775807
EVERYBODY: Final = ("*",)


class ReplicationQuota:
    """Bytes per second, measured over `samples` of `sample_s` seconds each."""

    __slots__ = ("_sample_s", "_samples", "_taken", "limit")

    def __init__(self, samples: int, sample_s: int) -> None:
        self.limit = UNLIMITED
        self._samples = samples
        self._sample_s = sample_s
        # (begin in seconds, bytes), oldest first.
        self._taken: deque[tuple[float, int]] = deque()

    def record(self, size: int, now_s: float) -> None:
        """So many bytes went by."""
        taken = self._taken
        if taken and now_s < taken[-1][0] + self._sample_s:
            begin, before = taken.pop()
            taken.append((begin, before + size))
        else:
            taken.append((now_s, size))
            if len(taken) > self._samples:
                taken.popleft()

    def rate(self, now_s: float) -> float:
        """Bytes per second at present."""
        taken = self._taken
        while taken and taken[0][0] <= now_s - self._samples * self._sample_s:
            taken.popleft()
        if not taken:
            return 0.0
        elapsed = max(now_s - taken[0][0], self._sample_s)
        return sum(size for _, size in taken) / elapsed

    def exceeded(self, now_s: float) -> bool:
        """Whether throttled replicas must wait."""
        return self.limit != UNLIMITED and self.rate(now_s) > self.limit


def names(throttled: tuple[str, ...], index: int, broker_id: int) -> bool:
    """Whether a topic's list of throttled replicas has that partition's replica on that broker."""
    return bool(throttled) and (throttled == EVERYBODY or f"{index}:{broker_id}" in throttled)
