"""One segment: a `.log` file and the indexes beside it, all named after its first offset.

    position   0            written          size   end
               | batches ... | batches ... | batches |      size: written and visible
                                             staged         end:  with what waits for the write

Files are opened when they are needed and forgotten when others need the descriptors. Indexes are
loaded when they are needed; an index that is missing, cut off or points to the wrong place is
rebuilt from the batches on the spot.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from protocol.batch import LENGTH_END, BatchHeader
from protocol.wire import Buffer
from storage import aborted
from storage.aborted import AbortedTxn, CorruptTxnIndex
from storage.filesystem import File, FileSystem
from storage.index import CorruptIndex, OffsetIndex, TimeIndex
from storage.open_files import OPEN_FILES
from storage.scan import Found, NoBatch, search, walk, walk_headers

logger = logging.getLogger(__name__)

LOG: Final = ".log"
INDEX: Final = ".index"
TIMEINDEX: Final = ".timeindex"
TXNINDEX: Final = ".txnindex"
SNAPSHOT: Final = ".snapshot"
ENDINGS: Final = (LOG, INDEX, TIMEINDEX, TXNINDEX)

CLEANED: Final = ".cleaned"
SWAP: Final = ".swap"
DELETED: Final = ".deleted"

NO_TIMESTAMP: Final = -1
MAX_ENTRIES: Final = 10 << 20 >> 3
UNKNOWN: Final = -2
"""In place of a timestamp that has not been looked up yet."""


def file_name(offset: int, ending: str) -> str:
    """Name of a segment's or snapshot's file: 20 digits and the ending."""
    return f"{offset:020d}{ending}"


class IndexWrite(NamedTuple):
    """Bytes that an index file is to hold from `start` on; taken on the log's thread, written
    anywhere."""

    path: str
    start: int
    data: bytes
    source: OffsetIndex | TimeIndex | None
    entries: int

    def perform(self, fs: FileSystem) -> None:
        """Writes and syncs the file."""
        file = fs.open(self.path, create=True)
        if file.size != self.start:
            file.truncate(self.start)  # an older, longer one, or Kafka's zeros
        if self.data:
            file.append([self.data])
        file.sync()
        file.close()


class Segment:
    """A segment of a log. Sizes and positions in bytes, timestamps in ms since the epoch."""

    __slots__ = (
        "_aborted",
        "_aborted_saved",
        "_file",
        "_first_timestamp",
        "_newest",
        "_newest_offset",
        "_offset_index",
        "_time_index",
        "base_offset",
        "created_ms",
        "directory",
        "end",
        "flushed",
        "fs",
        "index_files",
        "interval",
        "made",
        "max_entries",
        "recently_used",
        "room",
        "since_index",
        "size",
        "suffix",
    )

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        base_offset: int,
        *,
        size: int = 0,
        created_ms: int = 0,
        made: bool = False,
        suffix: str = "",
        interval: int = 4096,
    ) -> None:
        """`made`: its `.log` file is there already. `interval`: index.interval.bytes."""
        self.fs = fs
        self.directory = directory
        self.base_offset = base_offset
        self.suffix = suffix
        self.created_ms = created_ms
        self.made = made
        self.size = self.end = size
        self.flushed = 0  # bytes of it that are known to be on disk, with their index entries
        self.index_files = False  # both index files are there
        self.interval = interval
        self.max_entries = MAX_ENTRIES
        self.room = 0  # where it must end; below 0 once an index is full
        self.since_index = 0
        self.recently_used = False
        self._file: File | None = None
        self._offset_index: OffsetIndex | None = None if made else OffsetIndex(base_offset)
        self._time_index: TimeIndex | None = None if made else TimeIndex(base_offset)
        # None: not looked at; a missing file means there are no aborted transactions.
        self._aborted: list[AbortedTxn] | None = None if made else []
        self._aborted_saved = 0
        self._first_timestamp = UNKNOWN
        self._newest = UNKNOWN if made and size else NO_TIMESTAMP
        self._newest_offset = base_offset

    def __repr__(self) -> str:
        return f"Segment({self.directory}/{file_name(self.base_offset, LOG)}, {self.size} bytes)"

    # --- files

    def path(self, ending: str) -> str:
        """Path of one of its files."""
        return f"{self.directory}/{self.base_offset:020d}{ending}{self.suffix}"

    def file(self) -> File:
        """The open `.log` file; made if it is not there yet."""
        file = self._file
        if file is None:
            file = self._file = self.fs.open(self.path(LOG), create=not self.made)
            self.made = True
            OPEN_FILES.opened(self)
        self.recently_used = True
        return file

    def make(self, preallocate: int = 0) -> None:
        """Makes the `.log` file now, with space reserved for `preallocate` bytes."""
        file = self.file()
        if preallocate:
            self.fs.preallocate(file, preallocate)

    def release(self) -> None:
        """Forgets the open file, and the indexes as far as their files have them."""
        self._file = None
        if self.index_files:
            if self._offset_index is not None and self._offset_index.saved == len(
                self._offset_index
            ):
                self._offset_index = None
            if self._time_index is not None and self._time_index.saved == len(self._time_index):
                self._time_index = None
        if self._aborted is not None and self._aborted_saved == len(self._aborted):
            self._aborted = None

    def close(self) -> None:
        """Gives up its descriptor and memory; it can still be used."""
        self.release()
        OPEN_FILES.closed(self)

    def rename_files(self, suffix: str) -> list[str]:
        """Renames all its files to another suffix; the paths they have now."""
        renamed = []
        fs = self.fs
        for ending in ENDINGS:
            old = self.path(ending)
            if fs.exists(old):
                new = old[: len(old) - len(self.suffix)] + suffix
                fs.rename(old, new)
                renamed.append(new)
        self.suffix = suffix
        return renamed

    # --- writing

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Appends to the `.log`; account for the batches with `add`. Raises OSError, and then
        `size` is as before and the file may have more."""
        self.size += (self._file or self.file()).append(buffers)

    def add(self, size: int, last_offset: int, max_timestamp: int) -> None:
        """Accounts for a batch of `size` bytes at `end`: largest timestamp, index entries."""
        position = self.end
        if max_timestamp > self._newest:
            self._newest = max_timestamp
            self._newest_offset = last_offset
        if self.since_index > self.interval:
            self.add_entry(last_offset, position)
            self.since_index = size
        else:
            self.since_index += size
        if not position:
            self._first_timestamp = max_timestamp
        self.end = position + size

    def add_entry(self, last_offset: int, position: int) -> None:
        """Index entries for the batch at `position`."""
        offsets = self.offset_index
        offsets.add(last_offset, position)
        # The time index has at most as many, and keeps a slot free for `seal`.
        self.time_index.add(self._newest, self._newest_offset)
        if len(offsets) >= self.max_entries:
            self.room = -1

    def add_aborted(self, transaction: AbortedTxn) -> None:
        """An aborted transaction whose marker is in this segment."""
        self.aborted.append(transaction)

    def seal(self) -> None:
        """No more batches will come: the time index gets its last entry."""
        if self.end and self.newest_timestamp >= 0:
            self.time_index.add(self._newest, self._newest_offset)

    @property
    def dirty(self) -> bool:
        """Whether the disk lacks something of it: batches, index files, or the entry of a `seal`
        that came after the last flush."""
        times = self._time_index
        return (
            self.flushed < self.size
            or not self.index_files
            or (times is not None and times.saved < len(times))
        )

    def index_writes(self) -> list[IndexWrite]:
        """What the index files lack, as it is now."""
        writes = []
        both: tuple[tuple[str, OffsetIndex | TimeIndex | None], ...] = (
            (INDEX, self._offset_index),
            (TIMEINDEX, self._time_index),
        )
        for ending, index in both:
            if index is not None and (not self.index_files or index.saved < len(index)):
                start = index.saved
                data = index.to_bytes(start)
                writes.append(
                    IndexWrite(self.path(ending), start * index.entry_size, data, index, len(index))
                )
        if self._aborted is not None and self._aborted_saved < len(self._aborted):
            data = aborted.encode(self._aborted[self._aborted_saved :])
            start = self._aborted_saved * aborted.TXN_ENTRY
            entries = len(self._aborted)
            writes.append(IndexWrite(self.path(TXNINDEX), start, data, None, entries))
        return writes

    def index_written(self, writes: Sequence[IndexWrite]) -> None:
        """Those writes are in the files."""
        for write in writes:
            if write.source is None:
                self._aborted_saved = write.entries
            else:
                write.source.saved = write.entries
        self.index_files = True

    def truncate(self, position: int, offset: int) -> None:
        """Cuts the `.log` at `position` and drops index entries for `offset` and above."""
        offsets, times = self.offset_index, self.time_index
        if self.made:
            file = self.file()
            file.truncate(position)
        self.size = self.end = position
        self.flushed = min(self.flushed, position)
        offsets.truncate(offset)
        times.truncate(offset)
        self.cut_aborted(offset)
        if self.index_files:
            for ending, index in ((INDEX, offsets), (TIMEINDEX, times)):
                self._cut_file(ending, index.saved * index.entry_size)
        self.find_newest()
        if not position:
            self._first_timestamp = UNKNOWN

    def cut_aborted(self, offset: int) -> None:
        """Drops aborted transactions whose marker is at or above `offset`."""
        transactions = self.aborted
        while transactions and transactions[-1].last_offset >= offset:
            transactions.pop()
        if self._aborted_saved > len(transactions):
            self._aborted_saved = len(transactions)
            self._cut_file(TXNINDEX, self._aborted_saved * aborted.TXN_ENTRY)

    def _cut_file(self, ending: str, size: int) -> None:
        file = self.fs.open(self.path(ending), create=True)
        if file.size != size:
            file.truncate(size)
        file.close()

    def restart_at(self, position: int, offsets: OffsetIndex, times: TimeIndex) -> None:
        """Goes back to `position`, the last entry's of these indexes: every batch from there on
        comes through `add` once more."""
        self._offset_index, self._time_index = offsets, times
        self.index_files = False
        self.end = position
        self.since_index = 0
        self._newest, self._newest_offset = times.last()

    # --- indexes

    @property
    def offset_index(self) -> OffsetIndex:
        index = self._offset_index
        if index is None:
            index = self._load_indexes()[0]
        return index

    @property
    def time_index(self) -> TimeIndex:
        index = self._time_index
        if index is None:
            index = self._load_indexes()[1]
        return index

    @property
    def aborted(self) -> list[AbortedTxn]:
        """Transactions that markers in this segment aborted, in the order of the markers."""
        found = self._aborted
        if found is None:
            try:
                found = aborted.decode(self.fs.read_bytes(self.path(TXNINDEX)), self.base_offset)
            except FileNotFoundError:
                found = []
            except CorruptTxnIndex as error:
                # Its size is right, so recovery believed it; nobody remembers more.
                logger.error("%s cannot be used: %s", self.path(TXNINDEX), error)
                found = []
            self._aborted = found
            self._aborted_saved = len(found)
        return found

    def _load_indexes(self) -> tuple[OffsetIndex, TimeIndex]:
        try:
            offsets, times = self.read_indexes()
        except (CorruptIndex, FileNotFoundError) as error:
            logger.warning("Indexes of %r are rebuilt: %s", self, error)
            return self.rebuild_indexes()
        self._offset_index = offsets
        self._time_index = times
        if self._file is None:
            OPEN_FILES.opened(self)  # memory is given back the same way as descriptors
        return offsets, times

    def read_indexes(self) -> tuple[OffsetIndex, TimeIndex]:
        """The index files' content. Raises CorruptIndex, FileNotFoundError."""
        fs = self.fs
        offsets = OffsetIndex.from_bytes(
            self.base_offset, fs.read_bytes(self.path(INDEX)), self.size
        )
        times = TimeIndex.from_bytes(self.base_offset, fs.read_bytes(self.path(TIMEINDEX)))
        return offsets, times

    def use_indexes(self, offsets: OffsetIndex, times: TimeIndex) -> None:
        """Takes these from now on; entries beyond `saved` go to the files with the next flush."""
        self._offset_index, self._time_index = offsets, times

    def rebuild_indexes(self) -> tuple[OffsetIndex, TimeIndex]:
        """Makes both anew from the batches; they are written with the next flush.

        The end is where a whole batch ends last; nothing is cut off here.
        """
        offsets, times = OffsetIndex(self.base_offset), TimeIndex(self.base_offset)
        self.use_indexes(offsets, times)
        self.index_files = False
        size, end = self.size, self.end
        self.end = self.since_index = 0
        self._newest, self._newest_offset = NO_TIMESTAMP, self.base_offset
        for _, header in walk_headers(self.file(), 0, size):
            self.add(LENGTH_END + header[1], header.last_offset, header.max_timestamp)
        self.seal()
        self.since_index += end - size  # staged batches
        self.end = end
        self.flushed = 0
        return offsets, times

    def find_newest(self) -> None:
        """Largest timestamp and bytes since the last index entry, from the time index's last
        entry and the batches from the offset index's last entry on."""
        if not self._time_index_fits():
            logger.warning("%s does not fit its log and is rebuilt", self.path(TIMEINDEX))
            self.rebuild_indexes()
            return
        self._newest, self._newest_offset = self.time_index.last()
        _, position = self.offset_index.last()
        self.since_index = self.size - position
        if position < self.size:
            for _, header in walk_headers(self.file(), position, self.size):
                if header.max_timestamp > self._newest:
                    self._newest, self._newest_offset = header.max_timestamp, header.last_offset

    def _time_index_fits(self) -> bool:
        """Whether the batch that the last entry tells has that timestamp; an empty index fits a
        segment that has no other index entries either."""
        timestamp, offset = self.time_index.last()
        if timestamp < 0:
            return not len(self.offset_index)
        found = self.locate(offset)
        return (
            found is not None
            and found[1].max_timestamp == timestamp
            and found[1].base_offset <= offset
        )

    # --- timestamps

    @property
    def newest_timestamp(self) -> int:
        """Largest timestamp of a batch in it, -1 when none has one."""
        if self._newest == UNKNOWN:
            self.find_newest()
        return self._newest

    @property
    def newest_offset(self) -> int:
        """Last offset of the (first) batch with the largest timestamp."""
        if self._newest == UNKNOWN:
            self.find_newest()
        return self._newest_offset

    @property
    def largest_timestamp(self) -> int:
        """Largest record timestamp, or when the file was last written if it holds none."""
        newest = self.newest_timestamp
        if newest >= 0:
            return newest
        if not self.made:
            return self.created_ms
        return self.fs.modified_ms(self.path(LOG)) or self.created_ms

    @property
    def first_timestamp(self) -> int | None:
        """Largest timestamp of the first batch, which time-based rolling counts from; None when
        the segment is empty or that batch has none."""
        if self._first_timestamp == UNKNOWN and self.size:
            for _, header in walk_headers(self.file(), 0, self.size):
                self._first_timestamp = header.max_timestamp
                break
        return self._first_timestamp if self._first_timestamp >= 0 else None

    # --- reading

    def walk(self, position: int = 0) -> Iterator[Found]:
        """Every whole batch from `position` on. Raises NoBatch, OSError."""
        return walk(self.file(), position, self.size)

    def locate(self, offset: int) -> tuple[int, BatchHeader] | None:
        """Position and header of the first batch whose last offset is `offset` or above; None
        when all are below."""
        for _ in range(2):
            entry, position = self.offset_index.find(offset)
            try:
                # The entry tells that batch's last offset, so a wrong one shows here.
                return search(self.file(), position, self.size, offset, entry if position else -1)
            except NoBatch as error:
                if not position:
                    return None
                logger.warning("%s is rebuilt: %s", self.path(INDEX), error)
                self.rebuild_indexes()
        return None

    def next_offset(self) -> int:
        """The offset after its last batch, its base offset when it is empty."""
        following = self.base_offset
        if self.size:
            _, position = self.offset_index.last()
            for _, header in walk_headers(self.file(), position, self.size):
                following = header.next_offset
        return following
