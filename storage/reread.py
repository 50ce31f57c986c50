"""The loop of recovery: every batch of a segment read again, as fast as Python goes.

After a crash some 64 MiB of each log are read like this, which may be 400,000 batches; hence one
flat loop over what `scan.walk` would give in pieces.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.batch import CRC_START, HEADER_SIZE, LENGTH_END, MIN_LENGTH, BatchHeader, peek
from protocol.crc import crc32c
from protocol.legacy import MAGIC_AT
from storage.epochs import LeaderEpochCache
from storage.scan import NoBatch, crc_ok, read_batch
from storage.segment import Segment

Track = Callable[[bytes, int, BatchHeader], None]

_new = tuple.__new__


class WrongCrc(NoBatch):
    """A whole batch whose checksum is not that of its bytes."""


def reread(
    segment: Segment,
    position: int,
    start: int,
    expected: int,
    epochs: LeaderEpochCache,
    track: Track,
) -> tuple[int, int, NoBatch | None]:
    """Accounts (`Segment.add`) for every batch from `position` on.

    Those that reach `start` or beyond are checked: CRC, and offsets from `expected` on; they tell
    their leader epochs, and those of producers go to `track(data, at, header)`. Returns the offset
    after the last good batch, how many batches there were, and why the reading ended before the
    segment's end. Raises OSError.
    """
    file, end, add = segment.file(), segment.size, segment.add
    latest = epochs.latest
    data, size, at = b"", 0, 0
    count = 0
    view = memoryview(data)
    try:
        while position < end:
            batch_size = 0
            if size - at >= HEADER_SIZE and data[at + MAGIC_AT] == 2:
                header = peek(data, at)
                if header[1] >= MIN_LENGTH and header[6] >= 0:
                    batch_size = LENGTH_END + header[1]
            if not batch_size or at + batch_size > size:
                data, header = read_batch(file, position, end)
                view, size, at = memoryview(data), len(data), 0
                batch_size = LENGTH_END + header[1]
            base_offset = header[0]
            last = base_offset + header[6]
            if last >= start:
                if (
                    base_offset < expected
                    or header[3] != 2
                    or crc32c(view[at + CRC_START : at + batch_size]) != header[4]
                ):
                    _judge(position, data, at, _new(BatchHeader, header), expected)
                if header[2] > latest:
                    epochs.assign(header[2], base_offset)
                    latest = epochs.latest
                if header[9] >= 0:
                    track(data, at, _new(BatchHeader, header))
            add(batch_size, last, header[8])
            expected = last + 1
            count += 1
            position += batch_size
            at += batch_size
    except NoBatch as problem:
        return expected, count, problem
    return expected, count, None


def _judge(position: int, data: bytes, at: int, header: BatchHeader, expected: int) -> None:
    """Raises NoBatch unless this is a good message of an old format.

    Those may hold lower offsets: of a compressed set the header tells the last one only.
    """
    if header.magic == 2 and header.base_offset < expected:
        sentence = f"offset {header.base_offset} follows {expected - 1}"
        raise NoBatch(position, sentence, torn=False)
    if not crc_ok(data, at, header):
        raise WrongCrc(position, "its CRC is wrong", torn=False)
