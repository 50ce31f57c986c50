"""Taking things out of a log: truncation, old segments, segments that compaction replaced.

Files are renamed to `.deleted` and removed later, because somebody may be reading them. A flush
that runs meanwhile is waited for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from storage import flush, replica, rolling
from storage.producers import CorruptSnapshot
from storage.segment import DELETED, SNAPSHOT, SWAP, Segment, file_name

if TYPE_CHECKING:
    from storage.log import Log

logger = logging.getLogger(__name__)


def truncate_to(log: Log, offset: int) -> None:
    """See `Log.truncate_to`."""
    if offset >= log.end_offset:
        # An epoch that this replica led without writing anything is not the log's.
        log.epochs.truncate_from_end(log.end_offset)
        return
    if log.failure is not None:
        raise log.fail(log.failure)
    if offset <= log.log_start_offset:
        start_over(log, offset, log.active.created_ms)
        return
    logger.info("%s-%d: truncated from %d to %d", log.topic, log.partition, log.end_offset, offset)
    with log.io_lock:
        log.changes += 1
        log.drop_staged()
        try:
            offset = _cut(log, offset)
        except OSError as error:
            raise log.fail(error) from error
        log.end_offset = log.next_offset = offset
        log.high_watermark = min(log.high_watermark, offset)
        log.recovery_point = min(log.recovery_point, offset)
        log.synced_offset = min(log.synced_offset, offset)
        log.epochs.truncate_from_end(offset)
        log.epochs.dirty = True  # the file may hold what was cut off
    if offset < log.log_start_offset:
        # The batch that went held the log start: nothing is left to be read.
        start_over(log, log.log_start_offset, log.active.created_ms)
        return
    try:
        reload_producers(log, offset)
    except OSError as error:
        raise log.fail(error) from error
    log.set_active()


def _cut(log: Log, offset: int) -> int:
    """Removes files and bytes from `offset` on; where the log ends now."""
    # First the snapshots: without them a restart reads again, and trusts nothing, from below here.
    _drop_snapshots(log, lambda snapshot: snapshot > offset)
    keep = log.segment_of(offset) + 1
    # The newest first: if this is cut short, what is left has no hole.
    if keep < len(log.segments):
        _put_aside(log, log.segments[keep:][::-1], 0)
        log.fs.sync_dir(log.directory)
    del log.segments[keep:], log.bases[keep:]
    last = log.segments[-1]
    found = last.locate(offset)
    if found is not None:
        position, header = found
        offset = min(offset, header.base_offset)
        last.truncate(position, offset)
    # Where compaction left a gap (on the leader), end where a restart will find the end.
    offset = min(offset, last.next_offset())
    log.fs.sync_dir(log.directory)
    return offset


def _drop_snapshots(log: Log, gone: Callable[[int], bool]) -> None:
    dropped = [snapshot for snapshot in log.snapshots if gone(snapshot)]
    for snapshot in dropped:
        log.fs.remove(f"{log.directory}/{file_name(snapshot, SNAPSHOT)}")
    if dropped:
        log.fs.sync_dir(log.directory)
    log.snapshots = [snapshot for snapshot in log.snapshots if not gone(snapshot)]
    log.pending_snapshots = [entry for entry in log.pending_snapshots if not gone(entry[0])]


def _put_aside(log: Log, segments: Sequence[Segment], due_ms: int) -> None:
    for segment in segments:
        segment.close()
        log.pending_deletes += [(due_ms, path) for path in segment.rename_files(DELETED)]


def reload_producers(log: Log, end_offset: int) -> None:
    """Producer state as of `end_offset`: the newest snapshot, then the batches after it."""
    producers = log.producers
    start = log.bases[0]
    producers.clear(start)
    for snapshot in reversed(log.snapshots):
        path = f"{log.directory}/{file_name(snapshot, SNAPSHOT)}"
        try:
            producers.load(log.fs.read_bytes(path), snapshot, 0)
        except CorruptSnapshot as error:
            logger.warning("%s is passed over: %s", path, error)
            continue
        start = max(start, snapshot)
        break
    first = log.segment_of(start)
    for segment in log.segments[first:]:
        found = segment.locate(start) if segment.size else None
        for batch in segment.walk(found[0]) if found else ():
            if batch.header.producer_id >= 0 and batch.header.base_offset >= start:
                replica.replay(log, batch.data, batch.at, batch.header)
    producers.map_end_offset = end_offset


def start_over(log: Log, offset: int, now_ms: int, log_start: int = 0) -> None:
    """See `Log.truncate_fully_and_start_at`. A `log_start` above `offset` stays the log start: what
    is appended next must reach it.
    """
    if log.failure is not None:
        raise log.fail(log.failure)
    logger.info("%s-%d: emptied, starts at %d", log.topic, log.partition, offset)
    with log.io_lock:
        log.changes += 1
        log.drop_staged()
        try:
            _drop_snapshots(log, lambda _: True)
            _put_aside(log, log.segments[::-1], 0)
            log.segments = [rolling.new_segment(log, offset, now_ms)]
            log.fs.sync_dir(log.directory)
        except OSError as error:
            raise log.fail(error) from error
        log.bases = [offset]
        log.pending_snapshots = []
        log.log_start_offset = log.high_watermark = max(offset, log_start)
        log.end_offset = log.next_offset = offset
        log.recovery_point = log.synced_offset = offset
        log.epochs.clear()
        log.epochs.dirty = True
        log.producers.clear(offset)
    log.set_active()


def delete_oldest(log: Log, count: int, now_ms: int) -> None:
    """See `Log.delete_oldest`."""
    count = min(count, len(log.segments) - 1)
    if count <= 0:
        return
    if log.failure is not None:
        raise log.fail(log.failure)
    start = log.bases[count]
    if len(log.producers) and start not in log.snapshots:
        # What the segments tell of producers must be known from elsewhere before they go.
        flush.flush(log, None)
    with log.io_lock:
        gone = log.segments[:count]
        try:
            # The segment that tells where the log goes on must be there before the others go.
            log.fs.sync_dir(log.directory)
            # The oldest first: if this is cut short, what is left has no hole.
            _put_aside(log, gone, now_ms + log.config.file_delete_delay_ms)
        except OSError as error:
            raise log.fail(error) from error
        del log.segments[:count], log.bases[:count]
    if start > log.log_start_offset:
        log.log_start_offset = start
        log.epochs.truncate_from_start(start)
        log.producers.on_log_start_offset(start)
    log.high_watermark = max(log.high_watermark, log.log_start_offset)


def replace_segments(
    log: Log, cleaned: Sequence[Segment], old: Sequence[Segment], now_ms: int
) -> None:
    """See `Log.replace_segments`."""
    if log.failure is not None:
        raise log.fail(log.failure)
    with log.io_lock:
        try:
            for segment in cleaned:
                segment.close()
                segment.rename_files(SWAP)
            log.fs.sync_dir(log.directory)
            _put_aside(log, old, now_ms + log.config.file_delete_delay_ms)
            log.fs.sync_dir(log.directory)
            for segment in cleaned:
                segment.rename_files("")
            log.fs.sync_dir(log.directory)
        except OSError as error:
            raise log.fail(error) from error
        gone = {id(segment) for segment in old}
        kept = [segment for segment in log.segments if id(segment) not in gone]
        log.segments = sorted([*kept, *cleaned], key=lambda segment: segment.base_offset)
        log.bases = [segment.base_offset for segment in log.segments]


def delete_jobs(log: Log, now_ms: int) -> list[Callable[[], None]]:
    """See `Log.delete_jobs`."""
    due = [path for due_ms, path in log.pending_deletes if due_ms <= now_ms]
    if due:
        log.pending_deletes = [entry for entry in log.pending_deletes if entry[0] > now_ms]
    return [partial(_remove, log, path) for path in due]


def _remove(log: Log, path: str) -> None:
    """Several truncations may have given a file of the same name to remove."""
    try:
        log.fs.remove(path)
    except FileNotFoundError:
        pass
