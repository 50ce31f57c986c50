"""Carries compaction out, in slices.

A round takes the logs that are due, dirtiest first. For each it reads the dirty part once to learn
the latest offset of every key, then writes the segments anew, group by group: into files named
`.cleaned`, synced, renamed to `.swap` (from then on a restart finishes the swap instead of dropping
it), the old files out of the way, renamed to their final names. At every moment one complete copy
of every record that has to stay is on disk.

Everything is a generator. It yields None often, so that an event loop can do other things in
between, and a `SyncJob` where a file must reach the disk before it goes on: run that in a thread if
you like; what was not run is run here.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Final

from protocol.errors import CorruptRecord, Malformed
from protocol.legacy import AnyHeader, any_batches, any_crc_ok
from protocol.record_errors import InvalidRecord
from protocol.wire import Buffer
from storage import aborted
from storage.aborted import AbortedTxn
from storage.cleaning import BatchFilter, Kept, LastOfProducer, learn
from storage.compaction import (
    CleaningPlan,
    OffsetMap,
    TransactionsSeen,
    group_segments,
    plan_cleaning,
)
from storage.config import LogConfig
from storage.errors import LogDirOffline
from storage.filesystem import File, FileSystem
from storage.index import OffsetIndex, TimeIndex
from storage.log import Log
from storage.segment import Segment

if TYPE_CHECKING:
    from storage.manager import Key, LogManager

logger = logging.getLogger(__name__)

DECOMPRESSED_LIMIT: Final = 1 << 30
READ_BYTES: Final = 256 << 10
WRITE_BYTES: Final = 256 << 10
SLICE_COST: Final = 64 << 10
BATCH_COST: Final = 1 << 10  # reading one batch takes about as long as copying so many bytes


CLEANED: Final = ".cleaned"


class Abandoned(Exception):
    """The log changed underneath (truncated, deleted, offline): this round leaves it as it is."""


class SyncJob:
    """An fsync to be run, anywhere, before the generator goes on."""

    __slots__ = ("_done", "_error", "_file")

    def __init__(self, file: File) -> None:
        self._file = file
        self._done = False
        self._error: OSError | None = None

    def __call__(self) -> None:
        if self._done:
            return
        try:
            self._file.sync()
        except OSError as error:
            self._error = error
        self._done = True

    def finish(self) -> None:
        """Runs it if nobody did; raises what went wrong."""
        self()
        if self._error is not None:
            raise self._error


Slice = SyncJob | None
Slices = Generator[Slice, None, None]


class Cleaner:
    """Compacts the logs of one `LogManager`, one after the other."""

    __slots__ = ("_memory", "_uncleanable", "busy")

    def __init__(self, memory_bytes: int) -> None:
        self._memory = memory_bytes
        self._uncleanable: set[Key] = set()
        self.busy: Key | None = None

    def forget(self, key: Key) -> None:
        """The log is gone; one of the same name may be compacted again."""
        self._uncleanable.discard(key)

    def round(self, manager: LogManager, now_ms: int) -> Slices:
        """Compacts every log that is due now. Not to be run twice at the same time."""
        for key in self._due(manager, now_ms):
            log = manager.logs.get(key)
            if log is None:
                continue
            plan = _plan(manager, key, log, now_ms)
            self.busy = key
            try:
                yield from _Run(manager, key, log, plan, self._memory, now_ms).slices()
            except (Abandoned, LogDirOffline) as error:
                logger.info("%s-%d: compaction given up: %s", *key, error)
            except (CorruptRecord, Malformed, InvalidRecord) as error:
                self._uncleanable.add(key)
                logger.error("%s-%d cannot be compacted any more: %s", *key, error)
            except OSError as error:
                manager.dir_failed(key, error)
            finally:
                self.busy = None

    def _due(self, manager: LogManager, now_ms: int) -> list[Key]:
        """Logs to compact, the ones with the largest dirty share first."""
        due = []
        for key, log in list(manager.logs.items()):
            if not log.config.compact or key in self._uncleanable or manager.is_offline(key):
                continue
            plan = _plan(manager, key, log, now_ms)
            if plan.reset:
                manager.set_cleaner_offset(key, plan.first_dirty_offset)
            if plan.due(log.config):
                due.append((-plan.ratio, key))
        return [key for _, key in sorted(due)]


def _plan(manager: LogManager, key: Key, log: Log, now_ms: int) -> CleaningPlan:
    return plan_cleaning(
        log.segments,
        log.config,
        checkpoint=manager.cleaner_offset(key),
        log_start_offset=log.log_start_offset,
        end_offset=log.end_offset,
        last_stable_offset=log.last_stable_offset,
        now_ms=now_ms,
    )


class _Run:
    """One compaction of one log."""

    def __init__(
        self,
        manager: LogManager,
        key: Key,
        log: Log,
        plan: CleaningPlan,
        memory: int,
        now_ms: int,
    ) -> None:
        self.manager = manager
        self.key = key
        self.log = log
        self.plan = plan
        self.now_ms = now_ms
        self.offsets = OffsetMap(memory)
        self.spent = 0
        self.bytes_before = self.bytes_after = self.records_after = 0

    def slices(self) -> Slices:
        log = self.log
        aborted_txns = [txn for segment in log.segments for txn in segment.aborted_transactions()]
        yield from self.learn(aborted_txns)
        end = self.offsets.latest_offset + 1
        if end <= self.plan.first_dirty_offset:
            return
        segments = [segment for segment in log.segments[:-1] if segment.base_offset < end]
        chosen = self.batch_filter()
        chosen.transactions.add_aborted(aborted_txns)
        horizon = self.legacy_horizon()
        sizes = [(s.base_offset, s.size, s.index_bytes, s.time_index_bytes) for s in segments]
        groups = group_segments(sizes, log.config, self.plan.first_uncleanable_offset)
        for first, stop in groups:
            yield from self.rewrite(segments[first:stop], chosen, horizon)
        self.manager.set_cleaner_offset(self.key, end)
        logger.info(
            "%s-%d: compacted up to offset %d, %d bytes became %d",
            *self.key,
            end,
            self.bytes_before,
            self.bytes_after,
        )

    def learn(self, aborted_txns: list[AbortedTxn]) -> Slices:
        """Fills the offset map from the dirty part, until it is full."""
        start, end = self.plan.first_dirty_offset, self.plan.first_uncleanable_offset
        transactions = TransactionsSeen()
        transactions.add_aborted(txn for txn in aborted_txns if txn.last_offset >= start)
        dirty = [segment for segment in self.log.segments if segment.base_offset < end]
        while len(dirty) > 1 and dirty[1].base_offset <= start:
            del dirty[0]
        ends = [segment.base_offset for segment in dirty[1:]] + [end]
        for segment, following in zip(dirty, ends, strict=True):
            position = segment.position_of(start)
            for header, data, pos in walk(segment.file(), position, segment.size):
                fits = yield from learn(
                    self.offsets,
                    transactions,
                    header,
                    data,
                    pos,
                    start=start,
                    limit=DECOMPRESSED_LIMIT,
                )
                if not fits:
                    return
                if self.spend(header.size):
                    yield None
                    self.check(dirty)
            self.offsets.reached(following - 1)

    def spend(self, size: int) -> bool:
        """Whether a slice is over, after work on a batch of so many bytes."""
        self.spent += size + BATCH_COST
        if self.spent < SLICE_COST:
            return False
        self.spent = 0
        return True

    def check(self, needed: list[Segment]) -> None:
        """Raises Abandoned when the log is gone or one of the segments is no longer in it."""
        log = self.log
        if self.manager.logs.get(self.key) is not log or self.manager.is_offline(self.key):
            raise Abandoned("the log is gone")
        present = {id(segment) for segment in log.segments[:-1]}
        if not all(id(segment) in present for segment in needed):
            raise Abandoned("the log was truncated")

    def batch_filter(self) -> BatchFilter:
        last = {
            entry.producer_id: LastOfProducer(entry.last_offset, entry.epoch)
            for entry in self.log.producers.entries()
        }
        return BatchFilter(
            self.offsets,
            last,
            now_ms=self.now_ms,
            delete_retention_ms=self.log.config.delete_retention_ms,
            round_end=self.plan.first_uncleanable_offset,
            limit=DECOMPRESSED_LIMIT,
        )

    def legacy_horizon(self) -> int:
        """Tombstones of message formats 0 and 1 stay in segments changed after this time (ms)."""
        clean = [s for s in self.log.segments if s.base_offset < self.plan.first_dirty_offset]
        if not clean:
            return 0
        return clean[-1].modified_ms - self.log.config.delete_retention_ms

    def rewrite(self, old: list[Segment], chosen: BatchFilter, legacy_horizon: int) -> Slices:
        """Writes one new segment in place of some neighbours."""
        log = self.log
        out = _Output(self.manager.fs, log.directory, old[0].base_offset, log.config)
        try:
            for segment in old:
                chosen.legacy_deletes_stay = segment.modified_ms > legacy_horizon
                for header, data, pos in walk(segment.file(), 0, segment.size):
                    if not any_crc_ok(data, pos, header):
                        raise CorruptRecord(f"wrong CRC of the batch at {header.base_offset}")
                    kept = yield from chosen.apply(header, data, pos)
                    out.add(kept)
                    if self.spend(header.size):
                        yield None
                        self.check(old)
            self.bytes_before += sum(segment.size for segment in old)
            self.bytes_after += out.size
            if len(old) == 1 and not out.changed:
                out.discard()
                return
            for file in out.finish(chosen.aborted_kept):
                job = SyncJob(file)
                yield job
                job.finish()
            self.check(old)
            log.replace_segments(old, old[0].base_offset)
        except BaseException:
            out.discard()
            raise
        finally:
            chosen.aborted_kept.clear()


class _Output:
    """The `.cleaned` files of one new segment."""

    def __init__(self, fs: FileSystem, directory: str, base_offset: int, config: LogConfig) -> None:
        self.fs = fs
        self.stem = f"{directory}/{base_offset:020d}"
        self.base_offset = base_offset
        self.interval = config.index_interval_bytes
        self.index = OffsetIndex()
        self.times = TimeIndex()
        self.size = 0
        self.changed = False
        self.buffers: list[Buffer] = []
        self.buffered = 0
        self.unindexed = 0
        self.newest = (-1, 0)  # largest timestamp, offset minus base of the batch that holds it
        self.paths: list[str] = []
        self.file = self.open(".log")

    def open(self, ending: str) -> File:
        path = f"{self.stem}{ending}{CLEANED}"
        self.paths.append(path)
        return self.fs.open(path, create=True, truncate=True)

    def add(self, kept: Kept | None) -> None:
        """The next batch that stays; None for one that does not."""
        if kept is None:
            self.changed = True
            return
        self.changed = self.changed or not kept.whole
        relative = kept.last_offset - self.base_offset
        if self.unindexed > self.interval:
            self.index.append(relative, self.size)
            self.times.append(*self.newest)
            self.unindexed = 0
        if kept.max_timestamp > self.newest[0]:
            self.newest = (kept.max_timestamp, relative)
        length = len(kept.data)
        self.unindexed += length
        self.size += length
        # What stays as it was is a view of a large read: a copy lets that go.
        self.buffers.append(bytes(kept.data))
        self.buffered += length
        if self.buffered >= WRITE_BYTES:
            self.write()

    def write(self) -> None:
        if self.buffers:
            self.file.append(self.buffers)
            self.buffers, self.buffered = [], 0

    def finish(self, aborted_txns: list[AbortedTxn]) -> list[File]:
        """Writes what is left and the indexes; the files, which have to be synced now."""
        self.write()
        self.times.append(*self.newest)
        files = [self.file]
        contents = {
            ".index": self.index.encode(0, len(self.index.entries)),
            ".timeindex": self.times.encode(0, len(self.times)),
        }
        if aborted_txns:
            contents[".txnindex"] = aborted.encode(aborted_txns)
        for ending, content in contents.items():
            file = self.open(ending)
            if content:
                file.append([content])
            files.append(file)
        return files

    def discard(self) -> None:
        """Removes the files again; what cannot be removed is removed at the next start."""
        for path in self.paths:
            try:
                self.fs.remove(path)
            except OSError:
                continue


def walk(file: File, position: int, end: int) -> Iterator[tuple[AnyHeader, bytes, int]]:
    """(header, bytes, where in them) of every batch in the file's `[position, end)`.

    Raises CorruptRecord when the batches do not end at `end`, Malformed for what is no batch.
    """
    length = READ_BYTES
    while position < end:
        data = file.pread(min(length, end - position), position)
        done = 0
        for pos, header in any_batches(data):
            yield header, data, pos
            done = pos + header.size
        if done:
            position += done
            length = READ_BYTES
        elif len(data) == end - position:
            raise CorruptRecord(f"the batch at position {position} is cut off")
        else:
            length *= 4
