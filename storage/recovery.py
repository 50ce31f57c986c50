"""Opening a log: the one way from files to a state that can be served.

Every opening comes through `recover`; what it finds has a name (`Kind`) and a log line. After a
clean shutdown the files are believed and only the newest segment's end is read. Otherwise the
batches are read again from the newest snapshot at or below the recovery point on: CRCs, offsets,
indexes, epochs, producers. From the first byte that is no whole, valid batch on, everything is cut
off. What is missing or damaged beside the `.log` files is made anew from them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from protocol.batch import BatchHeader, end_txn_marker
from protocol.errors import CorruptRecord, Malformed
from protocol.record_errors import InvalidRecord
from storage import checkpoint, leftovers
from storage.aborted import TXN_ENTRY, AbortedTxn
from storage.config import LogConfig
from storage.epochs import LeaderEpochCache
from storage.errors import StorageError
from storage.filesystem import FileSystem
from storage.findings import INFORMATIVE, NOTHING, Finding, Kind
from storage.flush import EPOCHS
from storage.index import OFFSET_ENTRY, TIME_ENTRY, CorruptIndex, OffsetIndex, TimeIndex
from storage.metadata import PARTITION_METADATA, decode
from storage.producers import CorruptSnapshot, ProducerStates
from storage.reread import WrongCrc, reread
from storage.scan import NoBatch, walk_headers
from storage.segment import DELETED, INDEX, LOG, SNAPSHOT, TIMEINDEX, TXNINDEX, Segment, file_name

logger = logging.getLogger(__name__)


INDEXES: Final = (INDEX, TIMEINDEX, TXNINDEX)


class Recovered(NamedTuple):
    """The state of an opened log."""

    segments: list[Segment]
    epochs: LeaderEpochCache
    producers: ProducerStates
    snapshots: list[int]
    findings: Sequence[Finding]
    log_start_offset: int
    end_offset: int
    recovery_point: int
    topic_id: bytes | None
    batches_read: int


def recover(
    fs: FileSystem,
    directory: str,
    config: LogConfig,
    *,
    recovery_point: int,
    log_start_offset: int,
    clean: bool,
    now_ms: int,
) -> Recovered:
    """See `Log.open`. Raises OSError."""
    sizes = {entry.name: entry.size for entry in fs.scan(directory)}
    return _Recovery(fs, directory, config, sizes, clean, now_ms).run(
        recovery_point, log_start_offset
    )


class _Recovery:
    """One opening."""

    __slots__ = (
        "batches_read",
        "clean",
        "config",
        "directory",
        "end_offset",
        "epochs",
        "epochs_known",
        "findings",
        "fs",
        "now_ms",
        "producers",
        "segments",
        "sizes",
        "snapshots",
    )

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        config: LogConfig,
        sizes: dict[str, int],
        clean: bool,
        now_ms: int,
    ) -> None:
        self.fs = fs
        self.directory = directory
        self.config = config
        self.sizes = sizes
        self.clean = clean
        self.now_ms = now_ms
        self.findings: list[Finding] = []
        self.segments: list[Segment] = []
        self.snapshots: list[int] = []
        self.producers = ProducerStates()
        self.epochs = LeaderEpochCache()
        self.epochs_known = True
        self.end_offset = 0
        self.batches_read = 0

    def found(self, kind: Kind, detail: str) -> None:
        """Notes a finding."""
        self.findings.append(Finding(kind, detail))
        level = logging.INFO if kind in INFORMATIVE else logging.WARNING
        logger.log(level, "%s: %s: %s", self.directory, kind.value, detail)

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def drop(self, name: str) -> None:
        """Removes a file that was there when the opening began."""
        self.fs.remove(self.path(name))
        self.sizes.pop(name, None)

    # --- the course

    def run(self, recovery_point: int, log_start_offset: int) -> Recovered:
        topic_id = None
        if self.sizes:
            topic_id = self._topic_id()
            leftovers.tidy(self)
            self._collect()
        if self.segments:
            self._epochs_file()
            damaged = self._damaged_txn_index()
            if damaged is not None:
                self._reread(min(damaged, recovery_point))
            elif self.clean:
                self._believe()
            else:
                self._reread(recovery_point)
            self._check_indexes()
        start = max(log_start_offset, self.segments[0].base_offset if self.segments else 0)
        if self.segments and start > self.end_offset:
            self.found(
                Kind.START_BEYOND_END,
                f"the log ends at {self.end_offset} and starts at {start}: all of it is removed",
            )
            self._remove_segments(0)
        if not self.segments:
            self._begin(start)
        self._trim(start)
        done = self.end_offset if self.clean else min(recovery_point, self.end_offset)
        return Recovered(
            self.segments,
            self.epochs,
            self.producers,
            self.snapshots,
            self.findings or NOTHING,
            start,
            self.end_offset,
            done,
            topic_id,
            self.batches_read,
        )

    def _topic_id(self) -> bytes | None:
        if PARTITION_METADATA not in self.sizes:
            return None
        topic_id = decode(self.fs.read_bytes(self.path(PARTITION_METADATA)))
        if topic_id is None:
            self.found(Kind.BAD_METADATA, "partition.metadata cannot be read and is removed")
            self.drop(PARTITION_METADATA)
        return topic_id

    def _collect(self) -> None:
        """Segments and snapshots by their names; indexes without a segment go."""
        bases = []
        for name in list(self.sizes):
            offset = leftovers.offset_of(name)
            if offset is None:
                continue
            if name.endswith(LOG):
                bases.append(offset)
            elif name.endswith(SNAPSHOT):
                self.snapshots.append(offset)
            elif name.endswith(INDEXES) and file_name(offset, LOG) not in self.sizes:
                self.found(Kind.ORPHAN_INDEX, f"{name} has no segment and is removed")
                self.drop(name)
        bases.sort()
        self.snapshots.sort()
        for base in bases:
            segment = Segment(
                self.fs,
                self.directory,
                base,
                size=self.sizes[file_name(base, LOG)],
                created_ms=self.now_ms,
                made=True,
                interval=self.config.index_interval_bytes,
            )
            segment.index_files = True
            segment.flushed = segment.size
            self.segments.append(segment)

    def _epochs_file(self) -> None:
        if EPOCHS not in self.sizes:
            self.epochs_known = False
            return
        try:
            entries = checkpoint.read_epochs(self.fs, self.path(EPOCHS))
        except checkpoint.MalformedCheckpoint as error:
            self.found(Kind.BAD_EPOCHS, f"{error}; made anew")
            self.epochs_known = False
            return
        self.epochs = LeaderEpochCache(entries)

    def _begin(self, start: int) -> None:
        """A log without segments: the first one begins at the log start."""
        for offset in self.snapshots:
            self.fs.remove(self.path(file_name(offset, SNAPSHOT)))
        self.snapshots = []
        self.end_offset = start
        self.producers.clear(start)
        self.epochs.clear()
        segment = Segment(
            self.fs,
            self.directory,
            start,
            created_ms=self.now_ms,
            interval=self.config.index_interval_bytes,
        )
        if start:
            segment.make()  # else nobody could tell where the log ends
            self.fs.sync_dir(self.directory)
        self.segments.append(segment)

    def _trim(self, start: int) -> None:
        for offset in [offset for offset in self.snapshots if offset > self.end_offset]:
            self.found(
                Kind.STRAY_SNAPSHOT, f"the snapshot at {offset} is beyond the log end: removed"
            )
            self.fs.remove(self.path(file_name(offset, SNAPSHOT)))
            self.snapshots.remove(offset)
        dirty = self.epochs.dirty
        self.epochs.truncate_from_end(self.end_offset)
        self.epochs.truncate_from_start(start)
        # What the batches tell anyway need not be written because it was read.
        self.epochs.dirty = self.epochs.dirty or dirty or not self.epochs_known
        self.producers.on_log_start_offset(start)
        if len(self.segments) > 1 or self.segments[-1].made:
            last = self.segments[-1]
            last.newest_timestamp  # noqa: B018 - looked up now, appends rely on it
            last.close()

    # --- after a clean shutdown

    def _believe(self) -> None:
        last = self.segments[-1]
        try:
            following = self._end_of(last)
        except (NoBatch, CorruptIndex, FileNotFoundError) as error:
            self.found(Kind.TORN_TAIL, f"after a clean shutdown: {error}; everything is read again")
            self.clean = False
            self._reread(last.base_offset)
            return
        if following > self.segments[0].base_offset and not self.snapshots:
            # A clean end always leaves one: somebody removed it, and perhaps more.
            self.found(Kind.MISSING_SNAPSHOT, "none after a clean shutdown: all is read again")
            self.clean = False
            self._reread(self.segments[0].base_offset)
            return
        self.end_offset = following
        if not self.epochs_known:
            self.found(Kind.MISSING_EPOCHS, "leader epochs are read from the batches")
        self._load_producers(following)

    def _end_of(self, segment: Segment) -> int:
        """The offset after the segment's last batch. Raises NoBatch when it ends in none."""
        if not segment.size:
            return segment.base_offset
        try:
            offsets, times = segment.read_indexes()
        except (CorruptIndex, FileNotFoundError):
            self._reindex(segment)
        else:
            segment.use_indexes(offsets, times)
        _, position = segment.offset_index.last()
        following = segment.base_offset
        end = position
        for found in segment.walk(position):
            following = found.header.next_offset
            end = found.position + found.header.size
        if end != segment.size:
            raise NoBatch(end, "the last segment does not end with a batch", torn=True)
        segment.find_newest()
        return following

    def _load_producers(self, end_offset: int) -> None:
        """The newest snapshot, then every batch from there to the end."""
        start = self._load_snapshot(end_offset)
        from_offset = start if self.epochs_known else self.segments[0].base_offset
        if from_offset >= end_offset:
            return
        for segment in self._from(from_offset):
            for found in segment.walk():
                header = found.header
                if not self.epochs_known:
                    self.epochs.assign(header.leader_epoch, header.base_offset)
                if header.producer_id >= 0 and header.base_offset >= start:
                    self._track(segment, found.data, found.at, header, index=False)
        self.producers.map_end_offset = max(self.producers.map_end_offset, end_offset)

    def _load_snapshot(self, limit: int) -> int:
        """Loads the newest snapshot at or below `limit`; the offset from which batches have to be
        read to complete it."""
        first = self.segments[0].base_offset
        for offset in [offset for offset in reversed(self.snapshots) if offset <= limit]:
            name = file_name(offset, SNAPSHOT)
            try:
                self.producers.load(self.fs.read_bytes(self.path(name)), offset, self.now_ms)
            except CorruptSnapshot as error:
                self.found(Kind.CORRUPT_SNAPSHOT, f"{name} is removed: {error}")
                self.drop(name)
                self.snapshots.remove(offset)
                continue
            return max(offset, first)
        self.producers.clear(first)
        if limit > first:
            self.found(
                Kind.MISSING_SNAPSHOT, f"there is none up to {limit}: producers are read again"
            )
        return first

    def _from(self, offset: int) -> list[Segment]:
        """Segments that may hold offsets at or above `offset`."""
        segments = self.segments
        return [
            segment
            for number, segment in enumerate(segments)
            if number + 1 == len(segments) or segments[number + 1].base_offset > offset
        ]

    # --- after anything else

    def _reread(self, recovery_point: int) -> None:
        first = self.segments[0].base_offset
        start = self._load_snapshot(max(recovery_point, first))
        if not self.epochs_known:
            if self.sizes.get(file_name(first, LOG)):
                self.found(Kind.MISSING_EPOCHS, "leader epochs are read from the batches")
            start = first
            self.producers.clear(first)
        else:
            self.epochs.truncate_from_end(start)
        number = len(self.segments) - len(self._from(start))
        self.end_offset = self.segments[number].base_offset
        while number < len(self.segments):
            segment = self.segments[number]
            if self._follows_a_hole(segment, recovery_point):
                self.found(
                    Kind.HOLE,
                    f"{file_name(segment.base_offset, LOG)} follows offset {self.end_offset - 1}: "
                    "what lay between did not reach the disk",
                )
                self._remove_segments(number)
                break
            self._reread_segment(segment, start)  # may remove those after it
            number += 1
        if self.end_offset < start:
            # Bytes that were on disk once are gone, and the snapshot tells of them.
            self._load_producers(self.end_offset)
        self.producers.map_end_offset = max(self.producers.map_end_offset, self.end_offset)

    def _follows_a_hole(self, segment: Segment, recovery_point: int) -> bool:
        """Whether the end of the segment before this one was lost in a crash of the machine.

        A segment begins where the one before ended. Only compaction opens gaps later, and nothing
        below the recovery point, or below a snapshot (written after the data), can be missing.
        """
        base = segment.base_offset
        return (
            base > max(self.end_offset, recovery_point)
            and base not in self.snapshots
            and not self.config.compact
        )

    def _reread_segment(self, segment: Segment, start: int) -> None:
        """Reads the segment from offset `start` on. If it has to be cut, those after it go."""
        position = self._trusted_indexes(segment, start)
        segment.flushed = min(segment.flushed, position)
        expected = -1 if position else max(self.end_offset, segment.base_offset)
        expected, count, bad = reread(
            segment,
            position,
            start,
            expected,
            self.epochs,
            partial(self._track, segment, index=True),
        )
        self.end_offset = expected
        self.batches_read += count
        if bad is None:
            segment.seal()
            return
        kind = Kind.TORN_TAIL if bad.torn else Kind.BAD_BATCH
        if isinstance(bad, WrongCrc):
            kind = Kind.BAD_CRC
        name = file_name(segment.base_offset, LOG)
        self.found(
            kind,
            f"{name} at byte {bad.position}, offset {expected}: {bad.reason}; "
            f"{segment.size - bad.position} bytes are cut off",
        )
        # In this order: if recovery is cut short now, the next one finds the same.
        self._remove_segments(self.segments.index(segment) + 1)
        file = segment.file()
        file.truncate(bad.position)
        file.sync()
        segment.size = segment.end = bad.position
        segment.seal()

    def _trusted_indexes(self, segment: Segment, start: int) -> int:
        """Gives the segment the part of its indexes that lies below `start`; the position of the
        batch from which on they are made anew."""
        base = segment.base_offset
        offsets, times = OffsetIndex(base), TimeIndex(base)
        if start > base and segment.size:
            try:
                offsets, times = segment.read_indexes()
            except FileNotFoundError:
                name = file_name(base, "")
                self.found(Kind.MISSING_INDEX, f"an index of {name} is made anew")
            except CorruptIndex as error:
                name = file_name(base, "")
                self.found(Kind.CORRUPT_INDEX, f"an index of {name} is made anew: {error}")
            offsets.truncate(start)
            times.truncate(start)
        segment.cut_aborted(start)
        position = self._last_entry(segment, offsets, times)
        segment.restart_at(position, offsets, times)
        return position

    def _last_entry(self, segment: Segment, offsets: OffsetIndex, times: TimeIndex) -> int:
        """Position of the batch that the last entry tells; 0, and the indexes empty, when there
        is no such batch."""
        entry, position = offsets.last()
        if not position:
            offsets.truncate(segment.base_offset)
            times.truncate(segment.base_offset)
            return 0
        for at, header in walk_headers(segment.file(), position, segment.size):
            if at == position and header.last_offset == entry:
                return position
            break
        self.found(
            Kind.CORRUPT_INDEX,
            f"an index of {file_name(segment.base_offset, '')} points to no batch: made anew",
        )
        offsets.truncate(segment.base_offset)
        times.truncate(segment.base_offset)
        return 0

    def _track(
        self, segment: Segment, data: bytes, at: int, header: BatchHeader, *, index: bool
    ) -> None:
        """Takes a batch of a producer into account as replication would."""
        try:
            if not header.control:
                self.producers.check_and_append(header, header.base_offset, "replication")
                return
            marker = end_txn_marker(data, at, header)
            if marker is None:
                return
            done = self.producers.append_marker(
                header.producer_id,
                header.producer_epoch,
                header.last_offset,
                committed=marker[0],
                coordinator_epoch=marker[1],
                timestamp=header.max_timestamp,
                origin="replication",
            )
        except (StorageError, CorruptRecord, InvalidRecord, Malformed) as error:
            logger.warning("%s: offset %d: %s", self.directory, header.base_offset, error)
            return
        if done is not None:
            # Kept from before: nothing tells how far the high watermark was, and it will be told.
            self.producers.on_high_watermark(header.last_offset + 1)
            if done.aborted and index:
                segment.add_aborted(
                    AbortedTxn(
                        done.producer_id,
                        done.first_offset,
                        done.last_offset,
                        done.last_stable_offset,
                    )
                )

    def _remove_segments(self, start: int) -> None:
        for segment in reversed(self.segments[start:]):
            self.found(
                Kind.CUT_SEGMENT,
                f"the segment {file_name(segment.base_offset, LOG)} lies after a cut: removed",
            )
            segment.close()
            for path in segment.rename_files(DELETED):
                self.fs.remove(path)
        if start < len(self.segments):
            self.fs.sync_dir(self.directory)
        del self.segments[start:]

    # --- indexes of segments that need not be read

    def _check_indexes(self) -> None:
        """Every other segment has both indexes, of a size that can be; else they are made anew."""
        for segment in self.segments:
            if not segment.size or not segment.index_files:
                continue
            problem = self._index_problem(segment)
            if problem is not None:
                kind, detail = problem
                self.found(kind, detail)
                self._reindex(segment, told=True)

    def _index_problem(self, segment: Segment) -> tuple[Kind, str] | None:
        for ending, entry in ((INDEX, OFFSET_ENTRY), (TIMEINDEX, TIME_ENTRY)):
            name = file_name(segment.base_offset, ending)
            size = self.sizes.get(name)
            if size is None:
                return Kind.MISSING_INDEX, f"{name} is made anew"
            if size % entry:
                return Kind.CORRUPT_INDEX, f"{name} of {size} bytes is made anew"
        return None

    def _damaged_txn_index(self) -> int | None:
        """The offset from which batches have to be read to make a damaged one anew."""
        for segment in self.segments:
            name = file_name(segment.base_offset, TXNINDEX)
            if self.sizes.get(name, 0) % TXN_ENTRY:
                self.found(Kind.CORRUPT_INDEX, f"{name} of {self.sizes[name]} bytes is made anew")
                self.drop(name)
                return segment.base_offset
        return None

    def _reindex(self, segment: Segment, *, told: bool = False) -> None:
        if not told:
            kind, detail = self._index_problem(segment) or (
                Kind.CORRUPT_INDEX,
                f"the indexes of {file_name(segment.base_offset, LOG)} are made anew",
            )
            self.found(kind, detail)
        segment.rebuild_indexes()
        segment.release()
