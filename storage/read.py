"""Reading a log: by offset, by timestamp, and what a read_committed reader must skip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from protocol import legacy, record
from protocol.batch import LENGTH_END, BatchHeader
from storage import aborted
from storage.append import DECOMPRESSED_LIMIT
from storage.errors import OffsetOutOfRange
from storage.filesystem import File, MemoryData, MemoryFile
from storage.scan import walk
from storage.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage.log import Log

_LENGTH: Final = 12


class LogSlice(NamedTuple):
    """Bytes of one segment, for `os.sendfile` or `bytes()`; `first_offset` is the base offset of
    the first batch. `file` is kept open by this."""

    file: File
    position: int
    length: int
    first_offset: int

    def bytes(self) -> bytes:
        """The bytes themselves. Raises OSError."""
        return self.file.pread(self.length, self.position)


_NO_FILE: Final = MemoryFile(MemoryData())
_new = tuple.__new__


def read(log: Log, offset: int, max_bytes: int, upper_offset: int, min_one: bool) -> LogSlice:
    """See `Log.read`."""
    end_offset = log.end_offset
    if not log.log_start_offset <= offset <= end_offset:
        raise OffsetOutOfRange(
            f"Offset {offset} of {log.topic}-{log.partition} is not in "
            f"{log.log_start_offset} to {end_offset}."
        )
    if offset >= upper_offset or offset == end_offset:
        return LogSlice(_NO_FILE, 0, 0, offset)
    try:
        position = log.tail.get(offset)
        if position is None or position >= log.active.size:
            return _search(log, offset, max_bytes, upper_offset, min_one)
        active = log.active
        length = active.size - position
        if upper_offset < end_offset:
            length = _position_of(log, active, upper_offset) - position
        if length > max_bytes:
            length = _limited(active, position, max_bytes, min_one)
        return _new(LogSlice, (active.file(), position, length, offset))
    except OSError as error:
        raise log.fail(error) from error


def _search(log: Log, offset: int, max_bytes: int, upper_offset: int, min_one: bool) -> LogSlice:
    """By the index of the segment that may hold the offset, or of those after it: compaction
    leaves gaps."""
    for number in range(log.segment_of(offset), len(log.segments)):
        segment = log.segments[number]
        found = segment.locate(offset) if segment.size else None
        if found is None:
            continue
        position, header = found
        if header.base_offset >= upper_offset:
            break
        following = number + 1
        end = segment.size
        if following < len(log.bases):
            if upper_offset < log.bases[following]:
                end = _position_of(log, segment, upper_offset)
        elif upper_offset < log.end_offset:
            end = _position_of(log, segment, upper_offset)
        length = end - position
        if length > max_bytes:
            size = LENGTH_END + header.length
            length = max_bytes if size <= max_bytes else min(size, length) if min_one else 0
        return LogSlice(segment.file(), position, max(length, 0), header.base_offset)
    return LogSlice(_NO_FILE, 0, 0, offset)


def _position_of(log: Log, segment: Segment, offset: int) -> int:
    """Where in the segment what lies below `offset` ends."""
    if segment is log.active:
        position = log.tail.get(offset)
        if position is not None and position <= segment.size:
            return position
    found = segment.locate(offset)
    return segment.size if found is None else found[0]


def _limited(segment: Segment, position: int, max_bytes: int, min_one: bool) -> int:
    """`max_bytes`, or the first batch's size when it is larger and has to come; else 0."""
    head = segment.file().pread(_LENGTH, position)
    size = LENGTH_END + int.from_bytes(head[8:12], "big")
    if size <= max_bytes:
        return max_bytes
    return size if min_one else 0


def bound_of(log: Log, found: LogSlice) -> int:
    """See `Log.bound_of`."""
    number = log.segment_of(found.first_offset)
    bound = log.segments[number].offset_index.offset_from(found.position + found.length)
    if bound is not None:
        return bound
    return log.bases[number + 1] if number + 1 < len(log.bases) else log.end_offset


def aborted_transactions(log: Log, start_offset: int, upper_offset: int) -> list[tuple[int, int]]:
    """See `Log.aborted_transactions`."""
    found: list[tuple[int, int]] = []
    for segment in log.segments[log.segment_of(start_offset) :]:
        transactions = segment.aborted
        if transactions:
            some, complete = aborted.collect(transactions, start_offset, upper_offset)
            found += some
            if complete:
                break
    return found


def offset_for_timestamp(log: Log, timestamp: int) -> tuple[int, int, int] | None:
    """See `Log.offset_for_timestamp`."""
    try:
        for segment in log.segments:
            if segment.size and segment.newest_timestamp >= timestamp:
                found = _first_at(segment, timestamp, log.log_start_offset)
                if found is not None:
                    return found
    except OSError as error:
        raise log.fail(error) from error
    return None


def _first_at(segment: Segment, timestamp: int, start_offset: int) -> tuple[int, int, int] | None:
    _, offset = segment.time_index.find(timestamp)
    _, position = segment.offset_index.find(max(offset, start_offset))
    for batch in walk(segment.file(), position, segment.size):
        header = batch.header
        if header.max_timestamp >= timestamp and header.last_offset >= start_offset:
            for one in _records(batch.data, batch.at, header):
                if one.timestamp >= timestamp and one.offset >= start_offset:
                    return one.timestamp, one.offset, header.leader_epoch
    return None


def _records(data: bytes, at: int, header: BatchHeader) -> Iterator[record.Record]:
    if header.magic == 2:
        return record.records_of(data, at, header, DECOMPRESSED_LIMIT)
    return legacy.records_of(data, at, DECOMPRESSED_LIMIT)


def max_timestamp(log: Log) -> tuple[int, int, int] | None:
    """See `Log.max_timestamp`."""
    try:
        newest = max(log.segments, key=lambda segment: segment.newest_timestamp)
        timestamp = newest.newest_timestamp
        if timestamp < 0 or not newest.size:
            return None
        _, position = newest.offset_index.find(newest.newest_offset)
        for batch in walk(newest.file(), position, newest.size):
            header = batch.header
            if header.max_timestamp != timestamp:
                continue
            for one in _records(batch.data, batch.at, header):
                if one.timestamp == timestamp:
                    return timestamp, one.offset, header.leader_epoch
    except OSError as error:
        raise log.fail(error) from error
    return None
