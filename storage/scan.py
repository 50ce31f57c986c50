"""Walking over the batches of a segment file, those of old message formats included.

A message of magic 0 or 1 is shown as a `BatchHeader` too: its offset is base and last offset (of a
compressed set it is the last one's), its timestamp base and max timestamp, leader epoch and
producer id are -1.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

from protocol.batch import CRC_START, HEADER_SIZE, LENGTH_END, MIN_LENGTH, BatchHeader, peek
from protocol.crc import crc32c
from protocol.legacy import MAGIC_AT
from protocol.legacy import MIN_SIZE as LEGACY_MIN_LENGTH
from protocol.wire import Buffer
from storage.filesystem import File

CHUNK: Final = 1 << 20
LOOKUP: Final = 8 << 10
LEGACY_MIN_SIZE: Final = LENGTH_END + LEGACY_MIN_LENGTH

_LEGACY_HEAD: Final = Struct(">qiIbb")  # offset, size, CRC-32, magic, attributes
_short = Struct(">qi4xb6xi").unpack_from  # base offset, length, magic, last offset delta
_TIMESTAMP: Final = Struct(">q")
_TIMESTAMP_AT: Final = 18
_LEGACY_CRC_START: Final = 16
_LEGACY_LENGTHS: Final = (14, 22)

_new = tuple.__new__


class Found(NamedTuple):
    """A whole batch: where it is in the file, and where in `data`."""

    position: int
    header: BatchHeader
    data: bytes
    at: int


class NoBatch(Exception):
    """What lies at `position` is no whole batch. `torn` when it is the beginning of one that
    the file ends in, or nothing but zeros."""

    def __init__(self, position: int, reason: str, *, torn: bool) -> None:
        super().__init__(reason)
        self.position = position
        self.reason = reason
        self.torn = torn


def header_at(data: Buffer, pos: int, available: int) -> BatchHeader | None:
    """The header at `pos`, of which `available` bytes are there; None when it is no header, or
    not there in full."""
    if available < LEGACY_MIN_SIZE:
        return None
    magic = data[pos + MAGIC_AT]
    if magic == 2:
        if available < HEADER_SIZE:
            return None
        fields = peek(data, pos)
        if fields[1] < MIN_LENGTH or fields[6] < 0:
            return None
        return _new(BatchHeader, fields)
    if magic > 2:
        return None
    offset, length, crc, magic, attributes = _LEGACY_HEAD.unpack_from(data, pos)
    if length < _LEGACY_LENGTHS[magic]:
        return None
    timestamp = -1
    if magic:
        if available < _TIMESTAMP_AT + 8:
            return None
        timestamp = _TIMESTAMP.unpack_from(data, pos + _TIMESTAMP_AT)[0]
    return BatchHeader(
        offset, length, -1, magic, crc, attributes, 0, timestamp, timestamp, -1, -1, -1, 1
    )


def crc_ok(data: Buffer, pos: int, header: BatchHeader) -> bool:
    """Whether the whole batch at `pos` has the checksum its header tells."""
    end = pos + LENGTH_END + header[1]
    if header[3] == 2:
        return bool(crc32c(memoryview(data)[pos + CRC_START : end]) == header[4])
    return crc32(memoryview(data)[pos + _LEGACY_CRC_START : end]) == header[4]


def walk(file: File, position: int, end: int) -> Iterator[Found]:
    """Every batch from `position` to `end` in the file, each whole in memory; CRCs unchecked.

    Raises NoBatch at the first thing that is none. Memory stays near the largest batch.
    """
    data = b""
    at = 0
    while position < end:
        header = header_at(data, at, len(data) - at)
        if header is None or LENGTH_END + header[1] > len(data) - at:
            data, header = read_batch(file, position, end)
            at = 0
        yield Found(position, header, data, at)
        size = LENGTH_END + header[1]
        position += size
        at += size


def read_batch(file: File, position: int, end: int) -> tuple[bytes, BatchHeader]:
    """A chunk that begins with the batch at `position` and holds it in full."""
    data = file.pread(min(CHUNK, end - position), position)
    header = header_at(data, 0, len(data))
    if header is None:
        if len(data) < LEGACY_MIN_SIZE or (data[MAGIC_AT] == 2 and len(data) < HEADER_SIZE):
            raise NoBatch(position, "the last batch is cut off", torn=True)
        if not any(data):
            raise NoBatch(position, "nothing but zeros follows", torn=True)
        raise NoBatch(position, "what follows is no batch header", torn=False)
    size = LENGTH_END + header[1]
    if size > end - position:
        raise NoBatch(position, "the last batch is cut off", torn=True)
    if size > len(data):
        data = file.pread(size, position)
        if len(data) < size:
            raise NoBatch(position, "the last batch is cut off", torn=True)
    return data, header


def search(
    file: File, position: int, end: int, offset: int, entry: int = -1
) -> tuple[int, BatchHeader] | None:
    """Position and header of the first batch from `position` on that ends at or after `offset`;
    None when there is none before `end`.

    `entry` is the last offset that the batch at `position` must have, -1 for any. Raises NoBatch
    when it has another one, or is no batch.
    """
    start = position
    while position < end:
        data = file.pread(min(LOOKUP, end - position), position)
        left = len(data) - HEADER_SIZE
        at = 0
        while at <= left:
            base_offset, length, magic, delta = _short(data, at)
            if magic != 2 or length < MIN_LENGTH or delta < 0:
                return _search_slowly(file, start, position + at, end, offset, entry)
            if entry >= 0:
                if base_offset + delta != entry:
                    raise NoBatch(position, "another batch than the index tells", torn=False)
                entry = -1
            if base_offset + delta >= offset:
                return position + at, _new(BatchHeader, peek(data, at))
            at += LENGTH_END + length
        if not at:
            return _search_slowly(file, start, position, end, offset, entry)
        position += at
    return None


def _search_slowly(
    file: File, start: int, position: int, end: int, offset: int, entry: int
) -> tuple[int, BatchHeader] | None:
    """The same where messages of old formats (or something that is no batch) begin."""
    found = False
    for at, header in walk_headers(file, position, end):
        last = header.last_offset
        if entry >= 0 and last != entry:
            break
        found, entry = True, -1
        if last >= offset:
            return at, header
    if not found and (entry >= 0 or position == start):
        raise NoBatch(position, "no batch where the index tells one", torn=False)
    return None


def walk_headers(file: File, position: int, end: int) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each batch that begins in the file's `[position, end)`, bodies
    skipped; stops at the first thing that is none."""
    data = b""
    start = position
    while position < end:
        at = position - start
        left = len(data) - at
        if left < HEADER_SIZE and start + len(data) < end:
            data = file.pread(min(LOOKUP, end - position), position)
            start = position
            at, left = 0, len(data)
        header = header_at(data, at, left) if left > 0 else None
        if header is None:
            return
        yield position, header
        position += LENGTH_END + header[1]
