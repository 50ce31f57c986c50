"""Batch headers: parse, walk, patch, control batches; against kafka-python's reader."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import batch
from protocol.batch import BatchHeader, build, crc_ok, parse_header
from protocol.errors import CorruptRecord, Malformed
from protocol.record import Record, records_of
from protocol.record_errors import InvalidRecord, UnsupportedCompression
from tests.protocol.record_oracles import PyBatch
from tests.protocol.records_kit import CODECS, LIMIT, START, some_records


def test_every_field_lies_where_the_format_has_it() -> None:
    values = (0x0102030405060708, 0x0A0B0C0D, 7, 2, 0xDEADBEEF, 0x55, 9, -5, 1 << 40, 77, 3, 12, 10)
    data = struct.pack(">qiibIhiqqqhii", *values)
    assert len(data) == batch.HEADER_SIZE
    header = parse_header(b"xy" + data, 2)
    assert header == values == batch.peek(data, 0)
    assert header.base_offset == 0x0102030405060708
    assert header.size == 0x0A0B0C0D + 12
    assert header.leader_epoch == 7
    assert header.crc == 0xDEADBEEF
    assert header.last_offset == 0x0102030405060708 + 9
    assert header.next_offset == header.last_offset + 1
    assert header.codec == 5
    assert header.transactional
    assert not header.append_time
    assert not header.control
    assert header.delete_horizon == header.base_timestamp == -5
    assert (header.producer_id, header.producer_epoch) == (77, 3)
    assert (header.base_sequence, header.last_sequence) == (12, 21)
    assert header.record_count == 10


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True), (True, True)])
def test_built_headers_as_kafka_python_reads_them(codec: int, flags: tuple[bool, bool]) -> None:
    transactional, append_time = flags
    data = build(
        some_records(5, base=100),
        base_offset=100,
        codec=codec,
        append_time=append_time,
        max_timestamp=START + 99 if append_time else None,
        producer_id=4000,
        producer_epoch=2,
        base_sequence=17,
        transactional=transactional,
        leader_epoch=6,
    )
    header = parse_header(data)
    theirs = PyBatch(data)
    assert theirs.validate_crc()
    assert crc_ok(data, 0, header.size)
    assert header.size == len(data) == theirs.size_in_bytes
    assert header.base_offset == theirs.base_offset == 100
    assert header.last_offset == theirs.last_offset == 104
    assert header.next_offset == theirs.next_offset == 105
    assert header.leader_epoch == theirs.leader_epoch == 6
    assert header.codec == theirs.compression_type == codec
    assert header.append_time == bool(theirs.timestamp_type) == append_time
    assert header.transactional == theirs.is_transactional == transactional
    assert header.base_timestamp == theirs.first_timestamp == START
    assert header.max_timestamp == theirs.max_timestamp
    assert header.max_timestamp == START + (99 if append_time else 28)
    assert header.producer_id == theirs.producer_id == 4000
    assert header.producer_epoch == theirs.producer_epoch == 2
    assert header.base_sequence == theirs.base_sequence == 17
    assert header.last_sequence == theirs.last_sequence == 21
    assert header.record_count == theirs.records_count == 5
    assert header.delete_horizon is None


def test_sequences_wrap_and_may_be_absent() -> None:
    records = some_records(3)
    header = parse_header(build(records, base_sequence=(1 << 31) - 2, producer_id=1))
    assert header.last_sequence == 0
    assert parse_header(build(records)).last_sequence == batch.NO_SEQUENCE


@pytest.mark.parametrize("left", [0, 1, 16, 60])
def test_a_cut_header_is_malformed(left: int) -> None:
    with pytest.raises(Malformed, match=f"{left} bytes left"):
        parse_header(build(some_records(1))[:left])
    with pytest.raises(Malformed):
        parse_header(memoryview(build(some_records(1))), 10_000)


@pytest.mark.parametrize("magic", [0, 1, 3, 0x7F, 0xFF])
def test_another_magic_is_malformed(magic: int) -> None:
    data = bytearray(build(some_records(1)))
    data[16] = magic
    with pytest.raises(Malformed, match="magic"):
        parse_header(data)


@pytest.mark.parametrize("length", [48, 0, -1, -(1 << 31)])
def test_an_impossible_length_is_malformed(length: int) -> None:
    data = bytearray(build(some_records(1)))
    struct.pack_into(">i", data, 8, length)
    with pytest.raises(Malformed, match="length"):
        parse_header(data)
    with pytest.raises(Malformed, match="length"):
        list(batch.batches(data))


def test_walking_stops_before_a_partial_batch() -> None:
    parts = [build(some_records(n, base=n * 10), base_offset=n * 10) for n in (1, 2, 3)]
    data = b"".join(parts)
    starts = [0, len(parts[0]), len(parts[0]) + len(parts[1])]
    assert [(pos, header.base_offset) for pos, header in batch.batches(data)] == list(
        zip(starts, [10, 20, 30], strict=True)
    )
    for end in range(len(data)):
        whole = sum(end >= start + len(part) for start, part in zip(starts, parts, strict=True))
        assert len(list(batch.batches(data[:end]))) == whole
        assert len(list(batch.batches(memoryview(data), 0, end))) == whole
    assert [pos for pos, _ in batch.batches(data, starts[1])] == starts[1:]
    assert list(batch.batches(b"")) == []


def test_walking_meets_another_magic() -> None:
    data = bytearray(build(some_records(1)) * 2)
    data[len(data) // 2 + 16] = 1
    walk = batch.batches(data)
    next(walk)
    with pytest.raises(Malformed):
        next(walk)


@given(st.integers(0, (1 << 63) - 1), st.integers(-1, (1 << 31) - 1), st.integers(0, 50))
def test_patch_changes_two_fields_and_keeps_the_crc(offset: int, epoch: int, pos: int) -> None:
    original = build(some_records(2))
    data = bytearray(pos) + bytearray(original) + b"tail"
    before = parse_header(original)
    batch.patch(memoryview(data), pos, offset, epoch)
    assert parse_header(data, pos) == before._replace(base_offset=offset, leader_epoch=epoch)
    assert crc_ok(data, pos, before.size)
    assert data[:pos] == bytes(pos)
    assert data[pos + before.size :] == b"tail"
    assert data[pos + 16 : pos + before.size] == original[16:]


def test_any_flipped_bit_under_the_crc_is_found() -> None:
    data = build(some_records(1))
    for at in range(17, len(data)):
        for bit in range(8):
            wrong = bytearray(data)
            wrong[at] ^= 1 << bit
            assert not crc_ok(wrong, 0, len(data))


@pytest.mark.parametrize("codec", CODECS)
def test_append_time_in_place(codec: int) -> None:
    data = bytearray(b"head") + build(some_records(4), codec=codec)
    before = parse_header(data, 4)
    batch.set_append_time(data, 4, START + 5000)
    header = parse_header(data, 4)
    assert header == before._replace(
        crc=header.crc, attributes=before.attributes | 8, max_timestamp=START + 5000
    )
    assert crc_ok(data, 4, header.size)
    assert {r.timestamp for r in records_of(data, 4, header, LIMIT)} == {START + 5000}
    theirs = list(PyBatch(bytes(data[4:])))
    assert {(r.timestamp, r.timestamp_type) for r in theirs} == {(START + 5000, 1)}
    batch.set_max_timestamp(memoryview(data), 4, before.max_timestamp, append_time=False)
    assert parse_header(data, 4) == before


def test_a_timestamp_that_is_right_is_left_alone() -> None:
    data = bytearray(build(some_records(4)))
    spoiled = bytearray(data)
    spoiled[20] ^= 1
    kept = bytes(spoiled)
    newest = parse_header(data).max_timestamp
    batch.set_max_timestamp(spoiled, 0, newest, append_time=False)
    assert spoiled == kept
    batch.set_max_timestamp(spoiled, 0, newest + 1, append_time=False)
    assert crc_ok(spoiled, 0, len(spoiled))


@pytest.mark.parametrize("committed", [True, False])
def test_transaction_markers(committed: bool) -> None:
    data = batch.build_end_txn_marker(
        producer_id=9,
        producer_epoch=3,
        committed=committed,
        timestamp=START,
        coordinator_epoch=11,
        base_offset=50,
        leader_epoch=2,
    )
    header = parse_header(data)
    assert header.control
    assert header.transactional
    assert (header.base_offset, header.last_offset, header.record_count) == (50, 50, 1)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (9, 3, -1)
    assert crc_ok(data, 0, header.size)
    assert batch.control_type(data, 0, header) == int(committed)
    assert batch.end_txn_marker(data, 0, header) == (committed, 11)
    (theirs,) = PyBatch(data)
    assert theirs.commit == committed  # type: ignore[attr-defined]
    assert theirs.abort != committed  # type: ignore[attr-defined]


def control(key: bytes | None, value: bytes | None = b"") -> tuple[bytes, BatchHeader]:
    data = build([Record(0, START, key, value)], control=True)
    return data, parse_header(data)


def test_other_control_batches() -> None:
    data, header = control(b"\x00\x00\x00\x02", b"whatever")
    assert batch.control_type(data, 0, header) == batch.CONTROL_LEADER_CHANGE
    assert batch.end_txn_marker(data, 0, header) is None
    empty = build([], control=True, base_offset=7)
    assert batch.control_type(empty, 0, parse_header(empty)) is None
    assert batch.end_txn_marker(empty, 0, parse_header(empty)) is None


@pytest.mark.parametrize("key", [None, b"", b"\x00\x00\x00", b"\xff\xff\x00\x01"])
def test_unreadable_control_keys(key: bytes | None) -> None:
    data, header = control(key)
    with pytest.raises(CorruptRecord):
        batch.control_type(data, 0, header)
    with pytest.raises(CorruptRecord):
        batch.end_txn_marker(data, 0, header)


@pytest.mark.parametrize("value", [None, b"\x00\x00\x00\x00\x00"])
def test_unreadable_markers(value: bytes | None) -> None:
    data, header = control(b"\x00\x00\x00\x01", value)
    assert batch.control_type(data, 0, header) == batch.CONTROL_COMMIT
    with pytest.raises(CorruptRecord):
        batch.end_txn_marker(data, 0, header)


def test_a_control_batch_that_is_no_record() -> None:
    data, header = control(b"\x00\x00\x00\x01")
    wrong = data[:61] + b"\x7f" + data[62:]
    with pytest.raises(InvalidRecord):
        batch.control_type(wrong, 0, header)


@pytest.mark.parametrize("codec", CODECS)
def test_what_compaction_writes(codec: int) -> None:
    kept = [record for record in some_records(20, base=40) if record.offset in (43, 47)]
    data = build(
        kept,
        base_offset=40,
        codec=codec,
        last_offset_delta=19,
        delete_horizon=START - 1_000_000,
        base_sequence=5,
        producer_id=1,
    )
    header = parse_header(data)
    assert header.delete_horizon == START - 1_000_000
    assert (header.last_offset, header.last_sequence, header.record_count) == (59, 24, 2)
    assert header.max_timestamp == kept[1].timestamp
    assert list(records_of(data, 0, header, LIMIT)) == kept


def test_an_empty_batch() -> None:
    data = build([], base_offset=40, codec=2, last_offset_delta=19, max_timestamp=START)
    header = parse_header(data)
    assert header.size == len(data) == batch.HEADER_SIZE
    assert (header.base_timestamp, header.max_timestamp) == (-1, START)
    assert (header.record_count, header.last_offset) == (0, 59)
    assert list(records_of(data, 0, header, LIMIT)) == []
    assert parse_header(build([])).last_offset_delta == 0


def test_renumbering() -> None:
    records = [Record(offset, START) for offset in (5, 5, 0)]
    data = build(records, base_offset=70, renumber=True)
    found = records_of(data, 0, parse_header(data), LIMIT)
    assert [record.offset for record in found] == [70, 71, 72]


def test_an_unknown_codec_cannot_be_written() -> None:
    with pytest.raises(UnsupportedCompression, match="codec 5"):
        build(some_records(1), codec=5)
