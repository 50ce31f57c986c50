"""The sparse indexes beside a segment, in memory and as bytes.

    .index      8 bytes: int32 offset - base, int32 position    of a batch: last offset, start
    .timeindex 12 bytes: int64 timestamp, int32 offset - base   largest timestamp up to here, last
                                                                offset of the batch that holds it

Both grow strictly in both columns (the time index: in its timestamp). Entries are kept in arrays
and written to the file by `Log.flush` and a clean close; `saved` counts those the file has.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from itertools import islice
from operator import le, lt
from struct import Struct
from typing import Final

from storage.errors import StorageError
from storage.filesystem import FileSystem

OFFSET_ENTRY: Final = 8
TIME_ENTRY: Final = 12
MAX_RELATIVE: Final = 0x7FFFFFFF
NO_TIMESTAMP: Final = -1

_LITTLE: Final = sys.byteorder == "little"
_LAST_TIME = Struct(">qi")


class CorruptIndex(StorageError):
    """An index file that cannot belong to its segment; it is rebuilt."""


def _ints(data: bytes) -> array[int]:
    values = array("i")
    values.frombytes(data)
    if _LITTLE:
        values.byteswap()
    return values


def _interleaved(columns: list[array[int]]) -> bytes:
    """int32 columns as big-endian rows."""
    rows = array("i", bytes(4 * len(columns) * len(columns[0])))
    for number, column in enumerate(columns):
        rows[number :: len(columns)] = column
    if _LITTLE:
        rows.byteswap()
    return rows.tobytes()


class OffsetIndex:
    """Offsets to positions in one segment."""

    __slots__ = ("_offsets", "_positions", "base_offset", "saved")

    entry_size: Final = OFFSET_ENTRY

    def __init__(self, base_offset: int) -> None:
        self.base_offset = base_offset
        self._offsets = array("i")
        self._positions = array("i")
        self.saved = 0

    def __len__(self) -> int:
        return len(self._offsets)

    @classmethod
    def from_bytes(cls, base_offset: int, data: bytes, log_size: int) -> OffsetIndex:
        """The entries of a file, up to the zeros that Kafka leaves behind while it is running.

        Raises CorruptIndex when its size is no multiple of an entry's, entries do not grow, or
        one is outside of the segment of `log_size` bytes.
        """
        if len(data) % OFFSET_ENTRY:
            raise CorruptIndex(f"{len(data)} bytes are no multiple of {OFFSET_ENTRY}")
        index = cls(base_offset)
        rows = _ints(data)
        count = len(rows) // 2
        if count and not rows[-1]:
            # The batch at position 0 never has an entry.
            count = _without_zeros(rows[1::2])
        index._offsets = rows[0 : 2 * count : 2]
        index._positions = rows[1 : 2 * count : 2]
        if count:
            index._check(log_size)
        index.saved = count
        return index

    def _check(self, log_size: int) -> None:
        offsets, positions = self._offsets, self._positions
        if offsets[0] < 0 or not _grows(offsets):
            raise CorruptIndex("its offsets do not grow")
        if positions[0] <= 0 or positions[-1] >= log_size or not _grows(positions):
            raise CorruptIndex(f"its positions do not grow up to {log_size}")

    def to_bytes(self, start: int = 0, end: int | None = None) -> bytes:
        """Entries `start` to `end` as the file has them."""
        return _interleaved([self._offsets[start:end], self._positions[start:end]])

    def entries(self) -> list[tuple[int, int]]:
        """(offset, position) of every entry."""
        base = self.base_offset
        return [
            (base + offset, position)
            for offset, position in zip(self._offsets, self._positions, strict=True)
        ]

    def add(self, offset: int, position: int) -> None:
        """An entry for the batch at `position` whose last offset is `offset`; in order."""
        self._offsets.append(offset - self.base_offset)
        self._positions.append(position)

    def find(self, offset: int) -> tuple[int, int]:
        """(offset, position) of the last entry at or below `offset`; (base offset, 0) if none."""
        index = bisect_right(self._offsets, min(offset - self.base_offset, MAX_RELATIVE)) - 1
        if index < 0:
            return self.base_offset, 0
        return self.base_offset + self._offsets[index], self._positions[index]

    def offset_from(self, position: int) -> int | None:
        """The offset of the first entry whose batch begins at `position` or after it."""
        index = bisect_left(self._positions, position)
        if index == len(self._positions):
            return None
        return self.base_offset + self._offsets[index]

    def last(self) -> tuple[int, int]:
        """(offset, position) of the last entry; (base offset, 0) if there is none."""
        if not self._offsets:
            return self.base_offset, 0
        return self.base_offset + self._offsets[-1], self._positions[-1]

    def truncate(self, offset: int) -> None:
        """Drops the entries at and above `offset`."""
        count = bisect_left(self._offsets, max(min(offset - self.base_offset, MAX_RELATIVE), -1))
        del self._offsets[count:], self._positions[count:]
        self.saved = min(self.saved, count)


class TimeIndex:
    """Timestamps to offsets in one segment."""

    __slots__ = ("_offsets", "_timestamps", "base_offset", "saved")

    entry_size: Final = TIME_ENTRY

    def __init__(self, base_offset: int) -> None:
        self.base_offset = base_offset
        self._timestamps = array("q")
        self._offsets = array("i")
        self.saved = 0

    def __len__(self) -> int:
        return len(self._offsets)

    @classmethod
    def from_bytes(cls, base_offset: int, data: bytes) -> TimeIndex:
        """The entries of a file, up to the zeros that Kafka leaves behind while it is running.

        Raises CorruptIndex when its size is no multiple of an entry's or its entries do not grow.
        """
        if len(data) % TIME_ENTRY:
            raise CorruptIndex(f"{len(data)} bytes are no multiple of {TIME_ENTRY}")
        index = cls(base_offset)
        rows = _ints(data)
        offsets = rows[2::3]
        count = len(offsets)
        if count and not offsets[-1] and not rows[-2] and not rows[-3]:
            count = -(-len(data.rstrip(b"\0")) // TIME_ENTRY)
        halves = array("i", bytes(8 * count))
        # Back to big-endian halves, then both halves of each timestamp as one int64.
        halves[0::2] = rows[0 : 3 * count : 3]
        halves[1::2] = rows[1 : 3 * count : 3]
        if _LITTLE:
            halves.byteswap()
        index._timestamps.frombytes(halves.tobytes())
        if _LITTLE:
            index._timestamps.byteswap()
        index._offsets = offsets[:count]
        if count and (
            index._offsets[0] < 0
            or not _grows(index._timestamps)
            or not all(map(le, index._offsets, islice(index._offsets, 1, None)))
        ):
            raise CorruptIndex("its entries do not grow")
        index.saved = count
        return index

    def to_bytes(self, start: int = 0, end: int | None = None) -> bytes:
        """Entries `start` to `end` as the file has them."""
        timestamps = self._timestamps[start:end]
        if _LITTLE:
            timestamps.byteswap()
        halves = _ints(timestamps.tobytes())
        return _interleaved([halves[0::2], halves[1::2], self._offsets[start:end]])

    def entries(self) -> list[tuple[int, int]]:
        """(timestamp, offset) of every entry."""
        base = self.base_offset
        return [
            (timestamp, base + offset)
            for timestamp, offset in zip(self._timestamps, self._offsets, strict=True)
        ]

    def add(self, timestamp: int, offset: int) -> None:
        """Notes the largest timestamp up to and with the batch that ends with `offset`; nothing
        when it is not above the last entry's."""
        if timestamp > self.last()[0]:
            self._timestamps.append(timestamp)
            self._offsets.append(offset - self.base_offset)

    def find(self, timestamp: int) -> tuple[int, int]:
        """(timestamp, offset) of the last entry at or below `timestamp`; (-1, base offset) if
        none."""
        index = bisect_right(self._timestamps, timestamp) - 1
        if index < 0:
            return NO_TIMESTAMP, self.base_offset
        return self._timestamps[index], self.base_offset + self._offsets[index]

    def last(self) -> tuple[int, int]:
        """(timestamp, offset) of the last entry; (-1, base offset) if there is none."""
        if not self._offsets:
            return NO_TIMESTAMP, self.base_offset
        return self._timestamps[-1], self.base_offset + self._offsets[-1]

    def truncate(self, offset: int) -> None:
        """Drops the entries for `offset` and above."""
        count = bisect_left(self._offsets, max(min(offset - self.base_offset, MAX_RELATIVE), -1))
        del self._timestamps[count:], self._offsets[count:]
        self.saved = min(self.saved, count)


def _grows(column: array[int]) -> bool:
    """Whether each value is above the one before."""
    return all(map(lt, column, islice(column, 1, None)))


def _without_zeros(column: array[int]) -> int:
    """How many entries come before a tail of zeros."""
    low, high = 0, len(column)
    while low < high:
        middle = (low + high) // 2
        if column[middle]:
            low = middle + 1
        else:
            high = middle
    return low


def last_time_entry(fs: FileSystem, path: str, base_offset: int, size: int) -> tuple[int, int]:
    """(timestamp, offset) of the last entry of a time index that is complete; (-1, base offset)
    for an empty one. Raises CorruptIndex, OSError."""
    if size % TIME_ENTRY:
        raise CorruptIndex(f"{size} bytes are no multiple of {TIME_ENTRY}")
    if not size:
        return NO_TIMESTAMP, base_offset
    data = fs.open(path).pread(TIME_ENTRY, size - TIME_ENTRY)
    if len(data) < TIME_ENTRY:
        raise CorruptIndex("it is shorter than it was")
    timestamp, offset = _LAST_TIME.unpack(data)
    if offset < 0:
        raise CorruptIndex("its last offset is below the segment")
    return timestamp, base_offset + offset
