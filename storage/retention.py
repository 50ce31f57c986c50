"""Which segments of a log have had their time. Pure: facts in, a plan out; the log carries it out.

The rules are Apache Kafka's. Three passes, each from the oldest segment on and stopping at the
first one that stays: segments wholly below the log start offset (DeleteRecords) always go; with
cleanup.policy=delete then those that the log can spare and still be `retention.bytes` long, then
those whose largest timestamp is more than `retention.ms` ago. No segment that reaches beyond the
high watermark goes. The active segment goes too when it breaks a rule and is not empty: then a new
one begins at the log end first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from storage.config import LogConfig


class SegmentFacts(Protocol):
    """What the plan asks of a segment."""

    @property
    def base_offset(self) -> int:
        """Offset its name tells."""
        ...

    @property
    def size(self) -> int:
        """Bytes of its `.log` file."""
        ...

    @property
    def largest_timestamp(self) -> int:
        """Largest record timestamp, or the file's modification time when it holds none (ms)."""
        ...


class RetentionPlan(NamedTuple):
    """The first `segments` of the log go; `roll` first begins a new segment at the log end."""

    segments: int
    roll: bool
    below_start: int  # how many of them for which reason
    by_size: int
    by_time: int

    def sentence(self, config: LogConfig) -> str:
        """The reasons, for the log line."""
        reasons = (
            (self.below_start, "below the log start offset"),
            (self.by_size, f"over retention.bytes={config.retention_bytes}"),
            (self.by_time, f"older than retention.ms={config.retention_ms}"),
        )
        return ", ".join(f"{count} {reason}" for count, reason in reasons if count)


NOTHING = RetentionPlan(0, False, 0, 0, 0)


def plan_retention(
    segments: Sequence[SegmentFacts],
    config: LogConfig,
    *,
    log_start_offset: int,
    high_watermark: int,
    end_offset: int,
    now_ms: int,
) -> RetentionPlan:
    """What retention removes now. `segments` is in offset order, the last one is active."""
    # Only segments wholly below the high watermark may go, and an empty active one need not.
    may_go = 0
    for index, segment in enumerate(segments):
        last = index + 1 == len(segments)
        upper = end_offset if last else segments[index + 1].base_offset
        if high_watermark < upper or (last and segment.size == 0):
            break
        may_go += 1
    below = 0
    while below < min(may_go, len(segments) - 1):
        if segments[below + 1].base_offset > log_start_offset:
            break
        below += 1
    by_size = by_time = 0
    if config.delete:
        by_size = _over_size(segments[below:], may_go - below, config.retention_bytes)
        gone = below + by_size
        by_time = _expired(segments[gone:may_go], config.retention_ms, now_ms)
    count = below + by_size + by_time
    if not count:
        return NOTHING
    return RetentionPlan(count, count == len(segments), below, by_size, by_time)


def _over_size(segments: Sequence[SegmentFacts], may_go: int, retention_bytes: int) -> int:
    if retention_bytes < 0 or not may_go:
        return 0
    spare = sum(segment.size for segment in segments) - retention_bytes
    count = 0
    while count < may_go and spare >= segments[count].size:
        spare -= segments[count].size
        count += 1
    return count


def _expired(segments: Sequence[SegmentFacts], retention_ms: int, now_ms: int) -> int:
    if retention_ms < 0:
        return 0
    count = 0
    for segment in segments:
        if now_ms - segment.largest_timestamp <= retention_ms:
            break
        count += 1
    return count
