"""Making a log durable: data, then indexes, then epochs, then a snapshot named after the offset.

That order is what recovery relies on: a snapshot that this code wrote means that everything below
its offset is on disk, so only what lies above is read again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Final

from storage import checkpoint
from storage.segment import SNAPSHOT, IndexWrite, Segment, file_name

if TYPE_CHECKING:
    from storage.filesystem import File
    from storage.log import Log

logger = logging.getLogger(__name__)

EPOCHS: Final = "leader-epoch-checkpoint"

new_lock = Lock


class _Part:
    """What one segment has to bring to disk, as it was when the flush began."""

    __slots__ = ("file", "segment", "size", "writes")

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.size = segment.size
        self.file: File | None = segment.file() if segment.size > segment.flushed else None
        self.writes: list[IndexWrite] = segment.index_writes()


def _dirty_segments(log: Log) -> list[Segment]:
    """Segments with something to bring to disk, oldest first. Those are the last ones."""
    dirty = []
    for segment in reversed(log.segments):
        if segment.made and segment.dirty:
            dirty.append(segment)
        elif segment.size:
            break
    dirty.reverse()
    return dirty


def unflushed_bytes(log: Log) -> int:
    """Bytes written since the last flush."""
    total = 0
    for segment in reversed(log.segments):
        left = segment.size - segment.flushed
        if not left and segment.size:
            break
        total += left
    return total


def due(log: Log, now_ms: int, most: int) -> bool:
    """See `Log.flush_due`."""
    if log.recovery_point >= log.end_offset:
        return False
    if log.pending_snapshots or unflushed_bytes(log) >= most:
        return True
    started = log.flush_started_ms
    if started < 0:
        # Nothing is known of how long the data has waited: the clock starts now.
        log.flush_started_ms = now_ms
    return started >= 0 and now_ms - started >= log.config.flush_ms


def sync(log: Log) -> None:
    """See `Log.sync`."""
    offset = log.end_offset
    try:
        for segment in _dirty_segments(log):
            if segment.size > segment.flushed:
                segment.file().sync()
    except OSError as error:
        raise log.fail(error) from error
    log.synced_offset = offset


class _Job:
    """One flush: taken on the log's thread, run anywhere, or never: then the next one has what
    this one would have written."""

    __slots__ = (
        "batches",
        "changes",
        "end_offset",
        "epochs",
        "log",
        "parts",
        "pending",
        "snapshots",
        "stale",
    )

    def __init__(self, log: Log) -> None:
        log.write_staged()
        self.log = log
        self.changes = log.changes
        self.end_offset = log.end_offset
        self.batches = log.batches_written
        self.parts = [_Part(segment) for segment in _dirty_segments(log)]
        if log.epochs.dirty:
            log.epochs.dirty = False
            log.pending_epochs = checkpoint.epochs_text(log.epochs.entries())
        self.epochs = log.pending_epochs
        self.pending = list(log.pending_snapshots)
        self.snapshots = list(self.pending)
        if self.snapshots:
            known = self.snapshots[-1][0]
        elif log.snapshots:
            known = log.snapshots[-1]
        else:
            known = log.bases[0]  # from where a log without snapshots is read
        if known < self.end_offset:
            self.snapshots.append((self.end_offset, log.producers.encode()))
        # Those stay that a segment begins with (Kafka's rule), and the newest before this flush:
        # the checkpoint of recovery points may not have got further yet.
        bases = set(log.bases)
        self.stale = [offset for offset in log.snapshots if offset not in bases][:-1]

    def __call__(self) -> None:
        log = self.log
        with log.io_lock:
            if log.changes == self.changes and log.failure is None:
                self._run(log)

    def _run(self, log: Log) -> None:
        fs, directory = log.fs, log.directory
        for part in self.parts:
            if part.file is not None:
                part.file.sync()
            for write in part.writes:
                write.perform(fs)
        if self.epochs is not None:
            _write_small(log, EPOCHS, self.epochs)
        for offset, data in self.snapshots:
            _write_small(log, file_name(offset, SNAPSHOT), data)
        if self.parts or self.snapshots or self.epochs is not None:
            fs.sync_dir(directory)
        for offset in self.stale:
            fs.remove(f"{directory}/{file_name(offset, SNAPSHOT)}")
        self._done(log)

    def _done(self, log: Log) -> None:
        # Truncation waits for the lock, so nothing was taken back meanwhile.
        for part in self.parts:
            part.segment.flushed = max(part.segment.flushed, part.size)
            part.segment.index_written(part.writes)
        gone = set(self.stale)
        new = {offset for offset, _ in self.snapshots}
        for entry in self.pending:
            log.pending_snapshots.remove(entry)  # in place: a roll may add one meanwhile
        if log.pending_epochs is self.epochs:
            log.pending_epochs = None
        log.batches_flushed = self.batches
        log.snapshots = sorted((set(log.snapshots) - gone) | new)
        log.recovery_point = max(log.recovery_point, self.end_offset)
        log.synced_offset = max(log.synced_offset, self.end_offset)
        log.flush_started_ms = -1


def _write_small(log: Log, name: str, data: bytes) -> None:
    """Write aside, sync, rename; the directory is synced once for all of them."""
    fs = log.fs
    path = f"{log.directory}/{name}"
    file = fs.open(path + ".tmp", create=True, truncate=True)
    file.append([data])
    file.sync()
    file.close()
    fs.rename(path + ".tmp", path)


def job(log: Log) -> Callable[[], None]:
    """See `Log.flush_job`."""
    return _Job(log)


def flush(log: Log, upto: int | None) -> None:
    """See `Log.flush`."""
    if (upto is not None and upto <= log.recovery_point) or _untouched(log):
        return
    if log.failure is not None:
        raise log.fail(log.failure)
    try:
        _Job(log)()
    except OSError as error:
        raise log.fail(error) from error


def _untouched(log: Log) -> bool:
    """Nothing was ever written: there are no files, and none are needed."""
    return not log.active.made and len(log.segments) == 1 and not log.active.end


def close(log: Log, clean: bool) -> None:
    """See `Log.close`."""
    if _untouched(log):
        return
    if not clean or log.failure is not None:
        with log.io_lock:
            log.drop_staged()
            log.changes += 1
            for segment in log.segments:
                segment.close()
        return
    try:
        log.write_staged()
        active = log.active
        if active.made:
            active.seal()
        _Job(log)()
        _complete(log)
    except OSError as error:
        raise log.fail(error) from error
    for segment in log.segments:
        segment.close()


def _complete(log: Log) -> None:
    """Every segment gets its indexes: Kafka reads a segment without one from start to end."""
    made = False
    for segment in log.segments:
        if segment.made and not segment.index_files:
            segment.rebuild_indexes()
            writes = segment.index_writes()
            for write in writes:
                write.perform(log.fs)
            segment.index_written(writes)
            made = True
    if made:
        log.fs.sync_dir(log.directory)
