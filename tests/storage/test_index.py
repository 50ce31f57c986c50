"""Offset, time and transaction indexes: lookups against plain lists, bytes as Kafka's layout."""

from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import aborted
from storage.aborted import AbortedTxn, CorruptTxnIndex
from storage.index import CorruptIndex, OffsetIndex, TimeIndex

BASE = 1000

growing = st.lists(st.integers(1, 1 << 20), max_size=30).map(
    lambda steps: [sum(steps[: index + 1]) for index in range(len(steps))]
)


def offsets_of(entries: list[tuple[int, int]]) -> OffsetIndex:
    index = OffsetIndex(BASE)
    for offset, position in entries:
        index.add(offset, position)
    return index


@settings(derandomize=True, database=None)
@given(growing, growing, st.integers(0, 1 << 26))
def test_offset_lookup(deltas: list[int], positions: list[int], wanted: int) -> None:
    entries = [(BASE + delta, position) for delta, position in zip(deltas, positions, strict=False)]
    index = offsets_of(entries)
    below = [entry for entry in entries if entry[0] <= BASE + wanted]
    assert index.find(BASE + wanted) == (below[-1] if below else (BASE, 0))
    assert index.last() == (entries[-1] if entries else (BASE, 0))
    data = index.to_bytes()
    assert data == b"".join(pack(">ii", offset - BASE, position) for offset, position in entries)
    again = OffsetIndex.from_bytes(BASE, data, 1 << 30)
    assert again.entries() == entries
    assert again.saved == len(again) == len(entries)
    again.truncate(BASE + wanted)
    assert again.entries() == [entry for entry in entries if entry[0] < BASE + wanted]
    assert again.saved == len(again)


@settings(derandomize=True, database=None)
@given(growing, growing, st.integers(0, 1 << 26))
def test_time_lookup(stamps: list[int], deltas: list[int], wanted: int) -> None:
    entries = [
        (stamp + (1 << 40), BASE + delta) for stamp, delta in zip(stamps, deltas, strict=False)
    ]
    index = TimeIndex(BASE)
    for stamp, offset in entries:
        index.add(stamp, offset)
        index.add(stamp, offset + 1)  # not above the last one: no entry
    below = [entry for entry in entries if entry[0] <= wanted + (1 << 40)]
    assert index.find(wanted + (1 << 40)) == (below[-1] if below else (-1, BASE))
    data = index.to_bytes()
    assert data == b"".join(pack(">qi", stamp, offset - BASE) for stamp, offset in entries)
    again = TimeIndex.from_bytes(BASE, data)
    assert again.entries() == entries
    again.truncate(BASE + wanted)
    assert again.entries() == [entry for entry in entries if entry[1] < BASE + wanted]


def test_zeros_that_kafka_leaves_are_no_entries() -> None:
    index = offsets_of([(BASE + 5, 100), (BASE + 9, 300)])
    found = OffsetIndex.from_bytes(BASE, index.to_bytes() + bytes(8 * 50), 1000)
    assert found.entries() == index.entries()
    assert len(OffsetIndex.from_bytes(BASE, bytes(8 * 50), 1000)) == 0
    times = TimeIndex(BASE)
    times.add(256, BASE)
    times.add(1 << 16, BASE + 9)
    assert TimeIndex.from_bytes(BASE, times.to_bytes() + bytes(600)).entries() == times.entries()
    assert len(TimeIndex.from_bytes(BASE, bytes(600))) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 7,
        pack(">ii", 5, 100) + b"\0",
        pack(">iiii", 5, 100, 5, 200),
        pack(">iiii", 5, 100, 9, 100),
        pack(">iiii", 9, 100, 5, 200),
        pack(">iiiiii", 5, 300, 7, 200, 9, 400),
        pack(">ii", -1, 100),
        pack(">ii", 5, 1000),
        pack(">iiii", 5, 0, 9, 100),
        b"\xff" * 16,
    ],
)
def test_corrupt_offset_indexes(data: bytes) -> None:
    with pytest.raises(CorruptIndex):
        OffsetIndex.from_bytes(BASE, data, 1000)


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 13,
        pack(">qiqi", 5, 1, 5, 2),
        pack(">qiqi", 7, 1, 5, 2),
        pack(">qiqi", 5, 2, 7, 1),
        pack(">qi", 5, -1),
        b"\x01" * 24,
    ],
)
def test_corrupt_time_indexes(data: bytes) -> None:
    with pytest.raises(CorruptIndex):
        TimeIndex.from_bytes(BASE, data)


TXNS = [
    AbortedTxn(1, 1000, 1010, 1005),
    AbortedTxn(2, 1005, 1020, 1021),
    AbortedTxn(1, 1030, 1040, 1041),
]


def test_transaction_index_bytes() -> None:
    data = aborted.encode(TXNS)
    assert data[:34] == pack(">hqqqq", 0, 1, 1000, 1010, 1005)
    assert aborted.decode(data, BASE) == TXNS
    assert aborted.decode(b"", BASE) == []


@pytest.mark.parametrize(
    "data",
    [
        aborted.encode(TXNS)[:-1],
        b"\0\1" + aborted.encode(TXNS)[2:],
        aborted.encode(TXNS[::-1]),
        aborted.encode([AbortedTxn(1, 900, 950, 951)]),
    ],
)
def test_corrupt_transaction_indexes(data: bytes) -> None:
    with pytest.raises(CorruptTxnIndex):
        aborted.decode(data, BASE)


@pytest.mark.parametrize(
    ("start", "upper", "found", "complete"),
    [
        (1000, 1005, [(1, 1000)], True),
        (1000, 1006, [(1, 1000), (2, 1005)], True),
        (1011, 1030, [(2, 1005)], True),
        (1021, 2000, [(1, 1030)], False),
        (1041, 2000, [], False),
        (1000, 2000, [(1, 1000), (2, 1005), (1, 1030)], False),
    ],
)
def test_collecting(start: int, upper: int, found: list[tuple[int, int]], complete: bool) -> None:
    assert [tuple(f) for f in aborted.collect(TXNS, start, upper)[0]] == found
    if not complete:
        assert aborted.collect(TXNS, start, upper)[1] is False
