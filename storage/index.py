"""The two sparse indexes of a segment, in memory as arrays and on disk in Kafka's formats.

`.index`: 8 bytes an entry, int32 offset minus base, int32 position in the `.log`; the offset is the
last one of the batch that begins at the position. `.timeindex`: 12 bytes an entry, int64 largest
timestamp so far, int32 offset minus base; timestamps strictly increase. Both big-endian, both can
be rebuilt from the log.

Entries are only ever added at the end while a segment grows, and `written` says how many of them
the file has; so a thread may persist an index while the log goes on.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from struct import Struct
from typing import Final

from storage.errors import StorageError

OFFSET_ENTRY: Final = 8
TIME_ENTRY: Final = 12
MAX_INT32: Final = 0x7FFFFFFF

_TIME: Final = Struct(">qi")
_TIMESTAMP: Final = Struct(">q")
_SWAP: Final = sys.byteorder == "little"


class CorruptIndex(StorageError):
    """An index file that cannot be one; the segment's indexes are rebuilt from its log."""


class OffsetIndex:
    """Offset -> position. An entry is one int: offset minus base above, position in the low half."""

    __slots__ = ("entries", "written")

    def __init__(self) -> None:
        self.entries: array[int] = array("Q")
        self.written = 0

    @classmethod
    def parse(cls, data: bytes) -> OffsetIndex:
        """Reads a `.index` file. Raises CorruptIndex for a wrong size or zeros at the end.

        The order of all entries is `ordered`'s matter.
        """
        if len(data) % OFFSET_ENTRY:
            raise CorruptIndex(f"{len(data)} bytes are no whole number of 8-byte entries")
        index = cls()
        entries = index.entries
        entries.frombytes(data)
        if _SWAP:
            entries.byteswap()
        index.written = len(entries)
        if len(entries) and not entries[-1] & MAX_INT32:
            # The first batch never gets an entry: zeros are space that was never trimmed.
            raise CorruptIndex("it ends in zeros")
        if len(entries) > 1 and not entries[-2] < entries[-1]:
            raise CorruptIndex("its last entry is not above the one before")
        return index

    def ordered(self) -> bool:
        """Whether offsets and positions both increase from entry to entry."""
        entries = self.entries.tolist()
        positions = [entry & 0xFFFFFFFF for entry in entries]
        return all(a < b for a, b in zip(entries, entries[1:], strict=False)) and all(
            a < b for a, b in zip(positions, positions[1:], strict=False)
        )

    def append(self, relative: int, position: int) -> None:
        """Adds an entry at the end."""
        self.entries.append(relative << 32 | position)

    def lookup(self, relative: int) -> int:
        """Position of the last entry at or below this offset (minus base), 0 if there is none."""
        entries = self.entries
        number = bisect_right(entries, relative << 32 | 0xFFFFFFFF)
        return entries[number - 1] & 0xFFFFFFFF if number else 0

    def last(self) -> tuple[int, int]:
        """(offset minus base, position) of the last entry, (0, 0) if there is none."""
        if not self.entries:
            return 0, 0
        entry = self.entries[-1]
        return entry >> 32, entry & 0xFFFFFFFF

    def truncate(self, relative: int, size: int) -> None:
        """Drops entries at or above this offset (minus base), or not below position `size`."""
        entries = self.entries
        keep = bisect_left(entries, relative << 32) if relative > 0 else 0
        while keep and entries[keep - 1] & 0xFFFFFFFF >= size:
            keep -= 1
        del entries[keep:]
        self.written = min(self.written, keep)

    def encode(self, start: int, stop: int) -> bytes:
        """Entries as the file has them."""
        part = self.entries[start:stop]
        if _SWAP:
            part.byteswap()
        return part.tobytes()


class TimeIndex:
    """Largest timestamp -> offset, kept as the file has it."""

    __slots__ = ("data", "last_timestamp", "written")

    def __init__(self) -> None:
        self.data = bytearray()
        self.last_timestamp = -1
        self.written = 0

    def __len__(self) -> int:
        return len(self.data) // TIME_ENTRY

    @classmethod
    def parse(cls, data: bytes) -> TimeIndex:
        """Reads a `.timeindex` file. Raises CorruptIndex for a wrong size or zeros at the end."""
        if len(data) % TIME_ENTRY:
            raise CorruptIndex(f"{len(data)} bytes are no whole number of 12-byte entries")
        index = cls()
        index.data += data
        count = index.written = len(index)
        if count:
            timestamp, relative = index.entry(count - 1)
            if (
                timestamp < 0
                or relative < 0
                or (count > 1 and timestamp <= index.entry(count - 2)[0])
            ):
                raise CorruptIndex("its last entry is not above the one before")
            if timestamp == 0 and relative == 0 and count > 1:
                raise CorruptIndex("it ends in zeros")
            index.last_timestamp = timestamp
        return index

    def entry(self, number: int) -> tuple[int, int]:
        """(timestamp, offset minus base) of one entry."""
        timestamp, relative = _TIME.unpack_from(self.data, number * TIME_ENTRY)
        return timestamp, relative

    def ordered(self) -> bool:
        """Whether timestamps increase and offsets do not decrease."""
        entries = list(_TIME.iter_unpack(self.data))
        return all(a[0] < b[0] and a[1] <= b[1] for a, b in zip(entries, entries[1:], strict=False))

    def append(self, timestamp: int, relative: int) -> None:
        """Adds an entry unless its timestamp is not above the last one's."""
        if timestamp > self.last_timestamp:
            self.data += _TIME.pack(timestamp, relative)
            self.last_timestamp = timestamp

    def lookup(self, timestamp: int) -> tuple[int, int]:
        """The last entry at or before this timestamp, (-1, 0) if there is none."""
        data = self.data
        number = bisect_right(
            range(len(self)),
            timestamp,
            key=lambda n: _TIMESTAMP.unpack_from(data, n * TIME_ENTRY)[0],
        )
        return self.entry(number - 1) if number else (-1, 0)

    def last(self) -> tuple[int, int]:
        """The last entry, (-1, 0) if there is none."""
        return self.entry(len(self) - 1) if self.data else (-1, 0)

    def truncate(self, relative: int) -> None:
        """Drops entries at or above this offset (minus base)."""
        data = self.data
        keep = bisect_left(
            range(len(self)), relative, key=lambda n: _TIME.unpack_from(data, n * TIME_ENTRY)[1]
        )
        del data[keep * TIME_ENTRY :]
        self.written = min(self.written, keep)
        self.last_timestamp = self.last()[0]

    def encode(self, start: int, stop: int) -> bytes:
        """Entries as the file has them."""
        return bytes(self.data[start * TIME_ENTRY : stop * TIME_ENTRY])
