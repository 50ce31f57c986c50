"""When a log begins a new segment: Kafka's rules of size, time, full indexes and offsets."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from protocol.crc import crc32c
from storage.index import MAX_RELATIVE, OFFSET_ENTRY, TIME_ENTRY
from storage.segment import Segment

if TYPE_CHECKING:
    from storage.log import Log

logger = logging.getLogger(__name__)

_ALWAYS: Final = -(1 << 63) - 1


def set_limits(log: Log) -> None:
    """Beyond which size, timestamp and offset the next batch needs a new segment.

    An empty segment always asks once more (`make_room`), to start its clock.
    """
    config = log.config
    active = log.active
    # Both indexes must hold what comes, and the time index one entry more.
    active.max_entries = max(
        min(
            config.segment_index_bytes // OFFSET_ENTRY,
            config.segment_index_bytes // TIME_ENTRY - 1,
        ),
        1,
    )
    active.room = config.segment_bytes if log.failure is None else -1
    log.last_possible = active.base_offset + MAX_RELATIVE
    first = active.first_timestamp if active.size else None
    if first is None:
        log.roll_after = _ALWAYS  # asks each time: the clock decides, or nothing is there
    else:
        log.roll_after = first + _roll_ms(log)


def _roll_ms(log: Log) -> int:
    config = log.config
    jitter = min(config.segment_jitter_ms, config.segment_ms)
    if jitter:
        # Any spread will do; it must only differ from log to log.
        jitter = crc32c(f"{log.directory}/{log.active.base_offset}".encode()) % jitter
    return config.segment_ms - jitter


def make_room(log: Log, size: int, newest: int, last: int, now_ms: int) -> None:
    """Rolls if the batch to be staged needs a new segment. Raises LogDirOffline."""
    if log.failure is not None:
        raise log.offline()
    active = log.active
    if active.end and (
        active.end + size > active.room or last > log.last_possible or _by_time(log, newest, now_ms)
    ):
        roll(log, now_ms)
        active = log.active
    if not active.end:
        if newest >= 0:
            log.roll_after = newest + _roll_ms(log)
        else:
            active.created_ms = now_ms


def _by_time(log: Log, newest: int, now_ms: int) -> bool:
    active = log.active
    first = active.first_timestamp
    if first is not None:
        return newest - first > _roll_ms(log)
    return now_ms - active.created_ms > _roll_ms(log)


def roll(log: Log, now_ms: int) -> None:
    """See `Log.roll`."""
    log.write_staged()
    old = log.active
    if not old.size and old.base_offset == log.end_offset:
        return
    try:
        old.seal()
        segment = new_segment(log, log.end_offset, now_ms)
    except OSError as error:
        raise log.fail(error) from error
    log.pending_snapshots.append((log.end_offset, log.producers.encode()))
    logger.info("%s-%d: segment %d begins", log.topic, log.partition, segment.base_offset)
    log.segments.append(segment)
    log.bases.append(segment.base_offset)
    log.set_active()


def new_segment(log: Log, base_offset: int, now_ms: int) -> Segment:
    """A segment with its `.log` file made, not yet in `segments`. Raises OSError."""
    config = log.config
    segment = Segment(
        log.fs,
        log.directory,
        base_offset,
        created_ms=now_ms,
        interval=config.index_interval_bytes,
    )
    segment.make(config.segment_bytes if config.preallocate else 0)
    return segment
