"""One segment: finding batches of every format, and indexes that do not fit."""

import logging

import pytest

from protocol.batch import parse_header
from protocol.compression import GZIP
from protocol.legacy import any_batches, build_set
from protocol.record import Record
from storage.filesystem import MemoryFileSystem
from storage.segment import INDEX, LOG, TIMEINDEX, Segment
from tests.storage.log_kit import NOW, batch, placed

BASE = 100


def segment_of(pieces: list[bytes], interval: int = 200) -> Segment:
    """A segment with these batches, all of it written, as it is found when a log is opened."""
    fs = MemoryFileSystem()
    fs.mkdir("/d")
    made = Segment(fs, "/d", BASE, interval=interval)
    for piece in pieces:
        made.write([piece])
        for _, header in any_batches(piece):
            made.add(header.size, header.last_offset, header.max_timestamp)
    made.seal()
    writes = made.index_writes()
    for write in writes:
        write.perform(fs)
    return Segment(fs, "/d", BASE, size=made.size, made=True, interval=interval)


def with_gaps() -> list[bytes]:
    """What compaction leaves: some offsets are gone."""
    offsets = [100, 101, 105, 110, 111, 130, 131, 140, 200]
    return [
        placed(batch(2, size=number * 9, timestamp=NOW + number % 4 * 100), offset)
        for number, offset in enumerate(offsets)
        if number % 2 == 0 or number > 4
    ]


def old(magic: int, codec: int = 0) -> list[bytes]:
    """Message sets of an old format, three messages each."""
    return [
        build_set(
            [Record(start + n, NOW + start + n if magic else -1, b"k", b"v" * n) for n in range(3)],
            magic,
            codec=codec,
        )
        for start in range(BASE, BASE + 60, 3)
    ]


@pytest.mark.parametrize("interval", [0, 200, 1 << 20])
@pytest.mark.parametrize(
    "pieces",
    [with_gaps(), old(0), old(1), old(0, GZIP), old(1, GZIP), [*old(1), *with_gaps()[-1:]]],
    ids=["gaps", "magic 0", "magic 1", "magic 0 gzip", "magic 1 gzip", "mixed"],
)
def test_every_offset_is_found(pieces: list[bytes], interval: int) -> None:
    segment = segment_of(pieces, interval)
    data = b"".join(pieces)
    found = list(any_batches(data))
    for offset in range(BASE, found[-1][1].last_offset + 1):
        wanted = next((at, h) for at, h in found if h.last_offset >= offset)
        located = segment.locate(offset)
        assert located is not None
        assert located[0] == wanted[0]
        assert located[1].last_offset == wanted[1].last_offset
        assert located[1].size == wanted[1].size
    assert segment.locate(found[-1][1].last_offset + 1) is None
    assert segment.next_offset() == found[-1][1].last_offset + 1


def test_timestamps() -> None:
    segment = segment_of(with_gaps())
    stamps = [h.max_timestamp for _, h in any_batches(b"".join(with_gaps()))]
    assert segment.newest_timestamp == segment.largest_timestamp == max(stamps)
    assert segment.first_timestamp == stamps[0]


def test_without_timestamps() -> None:
    segment = segment_of(old(0))
    assert segment.newest_timestamp == -1
    assert segment.first_timestamp is None
    assert segment.largest_timestamp == segment.fs.modified_ms(segment.path(LOG))


@pytest.mark.parametrize("shift", [1, 61, 100])
def test_an_index_into_the_middle_of_batches_is_rebuilt(
    shift: int, caplog: pytest.LogCaptureFixture
) -> None:
    """In order, of the right size, and still wrong: only the batches tell."""
    pieces = [placed(batch(2, size=40), offset) for offset in range(BASE, BASE + 40, 2)]
    segment = segment_of(pieces)
    path = segment.path(INDEX)
    entries = bytearray(segment.fs.read_bytes(path))
    assert len(entries) >= 5 * 8
    for at in range(4, len(entries), 8):
        position = int.from_bytes(entries[at : at + 4], "big") + shift
        entries[at : at + 4] = min(position, segment.size - 1).to_bytes(4, "big")
    segment.fs.open(path).pwrite(entries, 0)
    with caplog.at_level(logging.WARNING, "storage"):
        for number, offset in enumerate(range(BASE, BASE + 40, 2)):
            located = segment.locate(offset + 1)
            assert located is not None
            assert located[0] == number * len(pieces[0])
            assert located[1].base_offset == offset
    assert len(caplog.records) == 1


def test_a_time_index_of_another_log_is_rebuilt() -> None:
    pieces = [placed(batch(2, timestamp=NOW + offset), offset) for offset in range(BASE, 140, 2)]
    segment = segment_of(pieces)
    path = segment.path(TIMEINDEX)
    right = segment.fs.read_bytes(path)
    segment.fs.open(path).pwrite((NOW * 2).to_bytes(8, "big"), len(right) - 12)
    newest = parse_header(pieces[-1]).max_timestamp
    assert segment.newest_timestamp == newest
    assert segment.time_index.to_bytes() == right


def test_an_empty_segment_finds_nothing() -> None:
    empty = Segment(segment_of(with_gaps()).fs, "/d", 5000)
    assert empty.locate(5000) is None
    assert empty.next_offset() == 5000
