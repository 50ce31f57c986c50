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
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from protocol.errors import CorruptRecord, Malformed
from protocol.legacy import AnyHeader, any_crc_ok, parse_message
from protocol.record_errors import InvalidRecord
from storage.aborted import AbortedTxn
from storage.cleaning import BatchFilter, Kept, LastOfProducer, learn
from storage.compaction import (
    CleaningPlan,
    OffsetMap,
    TransactionsSeen,
    group_segments,
    plan_cleaning,
)
from storage.errors import LogDirOffline
from storage.index import OFFSET_ENTRY, TIME_ENTRY
from storage.log import Log
from storage.scan import NoBatch
from storage.segment import CLEANED, ENDINGS, LOG, IndexWrite, Segment

if TYPE_CHECKING:
    from storage.log_dir import Key
    from storage.manager import LogManager

logger = logging.getLogger(__name__)

DECOMPRESSED_LIMIT: Final = 1 << 30
WRITE_BYTES: Final = 256 << 10
SLICE_COST: Final = 64 << 10
BATCH_COST: Final = 1 << 10  # reading one batch takes about as long as copying so many bytes


class Abandoned(Exception):
    """The log changed underneath (truncated, deleted, offline): this round leaves it as it is."""


class SyncJob:
    """Work on the disk to be run, anywhere, before the generator goes on."""

    __slots__ = ("_done", "_error", "_work")

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._done = False
        self._error: OSError | None = None

    def __call__(self) -> None:
        if self._done:
            return
        try:
            self._work()
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
            if key in manager.futures.logs:
                continue  # a tombstone must not go before it is in the future replica
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
        aborted_txns = [txn for segment in log.segments for txn in segment.aborted]
        yield from self.learn(aborted_txns)
        end = self.offsets.latest_offset + 1
        if end <= self.plan.first_dirty_offset:
            return
        segments = [segment for segment in log.segments[:-1] if segment.base_offset < end]
        chosen = self.batch_filter()
        chosen.transactions.add_aborted(aborted_txns)
        horizon = self.legacy_horizon()
        sizes = [
            (
                segment.base_offset,
                segment.size,
                len(segment.offset_index) * OFFSET_ENTRY,
                len(segment.time_index) * TIME_ENTRY,
            )
            for segment in segments
        ]
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
            found = segment.locate(start)
            position = segment.size if found is None else found[0]
            for header, data, pos in batches_of(segment, position):
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
        return self.modified_ms(clean[-1]) - self.log.config.delete_retention_ms

    def modified_ms(self, segment: Segment) -> int:
        """When the segment was last written; when it was made where that is not kept."""
        modified = self.manager.fs.modified_ms(segment.path(LOG)) if segment.made else 0
        return modified or segment.created_ms

    def rewrite(self, old: list[Segment], chosen: BatchFilter, legacy_horizon: int) -> Slices:
        """Writes one new segment in place of some neighbours."""
        out = _Output(self.log, old[0].base_offset, self.now_ms)
        try:
            for segment in old:
                chosen.legacy_deletes_stay = self.modified_ms(segment) > legacy_horizon
                for header, data, pos in batches_of(segment):
                    if not any_crc_ok(data, pos, header):
                        raise CorruptRecord(f"wrong CRC of the batch at {header.base_offset}")
                    out.add((yield from chosen.apply(header, data, pos)))
                    if self.spend(header.size):
                        yield None
                        self.check(old)
            self.bytes_before += sum(segment.size for segment in old)
            self.bytes_after += out.segment.end
            if len(old) == 1 and not out.changed:
                out.discard()
                return
            for work in out.finish(chosen.aborted_kept):
                job = SyncJob(work)
                yield job
                job.finish()
            out.indexed(self.modified_ms(old[-1]))
            self.check(old)
            self.log.replace_segments([out.segment], old, self.now_ms)
        except BaseException:
            out.discard()
            raise
        finally:
            chosen.aborted_kept.clear()


class _Output:
    """One new segment, its files named `.cleaned`."""

    def __init__(self, log: Log, base_offset: int, now_ms: int) -> None:
        self.segment = Segment(
            log.fs,
            log.directory,
            base_offset,
            created_ms=now_ms,
            suffix=CLEANED,
            interval=log.config.index_interval_bytes,
        )
        self.changed = False
        self.buffers: list[bytes] = []
        self.writes: list[IndexWrite] = []
        self.discard()  # what a round that was given up may have left
        self.segment.make()

    def add(self, kept: Kept | None) -> None:
        """The next batch that stays; None for one that does not."""
        if kept is None:
            self.changed = True
            return
        self.changed = self.changed or not kept.whole
        segment = self.segment
        segment.add(len(kept.data), kept.last_offset, kept.max_timestamp)
        # What stays as it was is a view of a large read: a copy lets that go.
        self.buffers.append(bytes(kept.data))
        if segment.end - segment.size >= WRITE_BYTES:
            self.write()

    def write(self) -> None:
        if self.buffers:
            self.segment.write(self.buffers)
            self.buffers = []

    def finish(self, aborted_kept: list[AbortedTxn]) -> list[Callable[[], None]]:
        """Writes what is left; what remains to be done on the disk before the files may be used."""
        segment = self.segment
        self.write()
        for transaction in aborted_kept:
            segment.add_aborted(transaction)
        segment.seal()
        self.writes = segment.index_writes()
        return [
            segment.file().sync,
            *(partial(write.perform, segment.fs) for write in self.writes),
        ]

    def indexed(self, modified_ms: int) -> None:
        """All that `finish` told to do is done. What the segment replaces was last written at
        `modified_ms`: retention goes by that when no record with a timestamp is left."""
        segment = self.segment
        segment.index_written(self.writes)
        segment.flushed = segment.size
        segment.fs.set_modified_ms(segment.path(LOG), modified_ms)

    def discard(self) -> None:
        """Removes the files; what cannot be removed is removed at the next start."""
        segment = self.segment
        for ending in ENDINGS:
            path = segment.path(ending)
            try:
                if segment.suffix == CLEANED and segment.fs.exists(path):
                    segment.fs.remove(path)
            except OSError:
                continue
        segment.close()


def batches_of(segment: Segment, position: int = 0) -> Iterator[tuple[AnyHeader, bytes, int]]:
    """(header, bytes, where in them) of every batch from `position` on, in its own format.

    Raises CorruptRecord for what is no whole batch.
    """
    try:
        for found in segment.walk(position):
            header: AnyHeader = found.header
            if header.magic < 2:
                header = parse_message(found.data, found.at)
            yield header, found.data, found.at
    except NoBatch as error:
        raise CorruptRecord(f"at position {error.position}: {error.reason}") from None
