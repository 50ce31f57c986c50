"""Message formats 0 and 1: against kafka-python and aiokafka, conversions up and down, wrong
bytes."""

import random
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import batch, legacy
from protocol.batch import BatchHeader
from protocol.compression import GZIP, LZ4, NONE, ZSTD, compress
from protocol.errors import CorruptRecord, Malformed
from protocol.legacy import (
    LegacyHeader,
    any_batches,
    any_crc_ok,
    any_records,
    build_set,
    down_convert,
    parse_message,
    to_v2,
)
from protocol.record import Record
from protocol.record_errors import InvalidRecord, UndecodableBody, UnsupportedCompression
from tests.protocol.record_oracles import (
    AioLegacyBatch,
    AioLegacyBuilder,
    PyLegacyBatch,
    PyLegacyBuilder,
)
from tests.protocol.records_kit import LIMIT, START, record_lists, some_records

OLD_CODECS = range(4)


def old_records(count: int, magic: int, base: int = 0) -> list[Record]:
    return [
        Record(r.offset, r.timestamp if magic else -1, r.key, r.value)
        for r in some_records(count, base)
    ]


def read(data: bytes) -> list[Record]:
    return [r for pos, header in any_batches(data) for r in any_records(data, pos, header, LIMIT)]


def message(
    magic: int = 1,
    attributes: int = 0,
    offset: int = 0,
    timestamp: int = START,
    key: bytes | None = None,
    value: bytes | None = b"v",
    tail: bytes = b"",
) -> bytes:
    """One message with any attributes and a right CRC."""
    body = struct.pack(">bb", magic, attributes)
    if magic:
        body += struct.pack(">q", timestamp)
    for field in (key, value):
        body += struct.pack(">i", -1 if field is None else len(field)) + (field or b"")
    body += tail
    return struct.pack(">qiI", offset, len(body) + 4, zlib.crc32(body)) + body


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, 1, 2, 3])
@given(records=record_lists(with_headers=False))
@settings(max_examples=30)
def test_both_clients_read_what_we_build(magic: int, codec: int, records: list[Record]) -> None:
    for record in records:  # kafka-python reads -1 in a wrapper as none given
        record.timestamp = max(record.timestamp, 0) if magic else -1
    data = build_set(records, magic, codec=codec)
    assert read(data) == records
    if magic == 0 and codec == LZ4:
        return  # their readers need a package for the old checksum; see test_legacy_captured
    expected = [(r.offset, r.timestamp if magic else None, r.key, r.value) for r in records]
    for reader in (PyLegacyBatch, AioLegacyBatch):
        found: list[Any] = []
        for pos, header in any_batches(data):
            theirs = reader(bytearray(data[pos : pos + header.size]), magic)
            assert theirs.validate_crc()
            found += [(r.offset, r.timestamp, r.key, r.value) for r in theirs]
        assert found == expected


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, 1, 2, 3])
@given(records=record_lists(with_headers=False))
@settings(max_examples=30)
def test_we_read_what_both_clients_build(magic: int, codec: int, records: list[Record]) -> None:
    if magic == 0 and codec == LZ4:
        return
    for record in records:
        record.timestamp = max(record.timestamp, 0) if magic else -1
    theirs = PyLegacyBuilder(magic, codec, 1 << 20)
    aio = AioLegacyBuilder(magic, codec, 1 << 20)
    for r in records:
        assert theirs.append(r.offset, r.timestamp, r.key, r.value)
        assert aio.append(r.offset, r.timestamp, r.key, r.value)
    for built in (bytes(theirs.build()), bytes(aio.build())):
        assert all(any_crc_ok(built, pos, header) for pos, header in any_batches(built))
        # A producer leaves its wrapper's offset at 0; the broker that keeps it sets the last one.
        found = read(built)
        for index, record in enumerate(found):
            record.offset = index
        assert found == records
        if codec == NONE:
            assert built == build_set(records, magic)
        up = to_v2(built, limit=LIMIT)
        assert batch.crc_ok(up, 0, len(up))
        header = batch.parse_header(up)
        assert (header.codec, header.base_offset, header.leader_epoch) == (codec, 0, -1)
        assert (header.producer_id, header.append_time) == (-1, False)
        assert header.last_offset_delta == len(records) - 1
        assert header.max_timestamp == max(r.timestamp for r in records)
        assert read(up) == records


def test_fields_of_a_message() -> None:
    data = message(attributes=8, offset=77, timestamp=START)
    header = parse_message(b"ab" + data, 2)
    assert header.size == len(data)
    assert (header.base_offset, header.last_offset, header.next_offset) == (77, 77, 78)
    assert (header.magic, header.codec, header.append_time) == (1, 0, True)
    assert header.max_timestamp == START
    assert (header.leader_epoch, header.producer_id, header.producer_epoch) == (-1, -1, -1)
    assert (header.base_sequence, header.last_sequence) == (-1, -1)
    assert not header.transactional
    assert not header.control
    assert header.delete_horizon is None
    old = parse_message(message(magic=0, attributes=8 | 2))
    assert (old.magic, old.codec, old.append_time, old.max_timestamp) == (0, 2, False, -1)


def test_a_log_of_all_three_formats() -> None:
    parts = [
        build_set(old_records(2, 0), 0),
        build_set(old_records(3, 0, base=2), 0, codec=GZIP),
        build_set(old_records(4, 1, base=5), 1, codec=LZ4),
        build_set(old_records(2, 1, base=9), 1),
        batch.build(some_records(5, base=11), base_offset=11),
    ]
    data = b"".join(parts)
    walked = list(any_batches(data))
    assert [(h.magic, h.last_offset) for _, h in walked] == [
        (0, 0),
        (0, 1),
        (0, 4),
        (1, 8),
        (1, 9),
        (1, 10),
        (2, 15),
    ]
    assert all(any_crc_ok(data, pos, header) for pos, header in walked)
    assert [legacy.first_offset(data, pos, header, LIMIT) for pos, header in walked] == [
        0,
        1,
        2,
        5,
        9,
        10,
        11,
    ]
    assert isinstance(walked[0][1], LegacyHeader)
    assert isinstance(walked[-1][1], BatchHeader)
    assert [r.offset for r in read(data)] == list(range(16))
    edges = {pos for pos, _ in walked} | {len(data)}
    for end in range(len(data)):
        whole = sum(0 < edge <= end for edge in edges)
        assert len(list(any_batches(data[:end]))) == whole
        assert len(list(any_batches(memoryview(data), 0, end))) == whole


@pytest.mark.parametrize("left", [0, 11, 25])
def test_a_cut_message_is_malformed(left: int) -> None:
    with pytest.raises(Malformed, match=f"{left} bytes left"):
        parse_message(message(magic=0, value=None)[:left])
    with pytest.raises(Malformed, match="33 bytes left"):
        parse_message(message(value=None)[:33])


@pytest.mark.parametrize(("magic", "least"), [(0, 14), (1, 22), (2, 49)])
def test_impossible_sizes_and_magics_are_malformed(magic: int, least: int) -> None:
    data = bytearray(batch.build(some_records(1)) if magic == 2 else message(magic=magic))
    for size in (least - 1, 0, -1):
        struct.pack_into(">i", data, 8, size)
        with pytest.raises(Malformed, match="below the minimum"):
            list(any_batches(data))
        if magic < 2:
            with pytest.raises(Malformed, match="below the minimum"):
                parse_message(data)
    for wrong in (3, 0x80):
        data[16] = wrong
        with pytest.raises(Malformed, match="magic"):
            list(any_batches(data))
        with pytest.raises(Malformed, match="magic"):
            parse_message(data)


def test_append_time_of_a_wrapper_holds_for_all_inside() -> None:
    records = old_records(3, 1)
    data = bytearray(build_set(records, 1, codec=GZIP, append_time=True))
    struct.pack_into(">q", data, 18, START + 777)
    struct.pack_into(">I", data, 12, zlib.crc32(data[16:]))
    assert [r.timestamp for r in read(bytes(data))] == [START + 777] * 3
    single = message(attributes=8, timestamp=START + 5)
    assert [r.timestamp for r in read(single)] == [START + 5]


def test_relative_offsets_with_gaps() -> None:
    """Cleaned wrappers of magic 1 lack records; the last one always tells where they lie."""
    inner = build_set([Record(2, START, b"a"), Record(5, START, b"b")], 1)
    data = message(attributes=GZIP, offset=100, value=compress(GZIP, inner))
    assert [r.offset for r in read(data)] == [97, 100]
    header = parse_message(data)
    assert legacy.first_offset(data, 0, header, LIMIT) == 97
    absolute = build_set([Record(98), Record(100)], 0)
    data = message(magic=0, attributes=GZIP, offset=100, value=compress(GZIP, absolute))
    assert [r.offset for r in read(data)] == [98, 100]


INNER = build_set([Record(0, START, b"k", b"v")], 1)

WRONG_WRAPPERS = {
    "null value": (InvalidRecord, message(attributes=GZIP, value=None)),
    "nothing inside": (InvalidRecord, message(attributes=GZIP, value=compress(GZIP, b""))),
    "zstd": (InvalidRecord, message(attributes=ZSTD, value=compress(ZSTD, INNER))),
    "unknown codec": (UndecodableBody, message(attributes=5, value=INNER)),
    "not compressed": (UndecodableBody, message(attributes=GZIP, value=INNER)),
    "another magic inside": (
        InvalidRecord,
        message(attributes=GZIP, value=compress(GZIP, build_set([Record()], 0))),
    ),
    "a batch inside": (
        CorruptRecord,
        message(attributes=GZIP, value=compress(GZIP, batch.build(some_records(1)))),
    ),
    "a wrapper inside": (
        InvalidRecord,
        message(
            attributes=GZIP,
            value=compress(GZIP, message(attributes=GZIP, value=compress(GZIP, INNER))),
        ),
    ),
    "inner CRC": (
        CorruptRecord,
        message(attributes=GZIP, value=compress(GZIP, INNER[:-1] + b"w")),
    ),
    "cut inside": (InvalidRecord, message(attributes=GZIP, value=compress(GZIP, INNER[:-1]))),
    "an impossible size inside": (
        CorruptRecord,
        message(
            attributes=GZIP, value=compress(GZIP, INNER + struct.pack(">qi", 1, 13) + bytes(40))
        ),
    ),
    "CRC": (CorruptRecord, message()[:-1] + b"w"),
    "small": (CorruptRecord, struct.pack(">qiIb", 0, 5, 0, 1) + b"\x00" * 12),
    "magic 3": (CorruptRecord, message(magic=3)),
    "two wrappers": (InvalidRecord, message(attributes=GZIP, value=compress(GZIP, INNER)) * 2),
    "a wrapper behind a message": (
        InvalidRecord,
        message() + message(attributes=GZIP, value=compress(GZIP, INNER)),
    ),
    "a message behind a wrapper": (
        InvalidRecord,
        message(attributes=GZIP, value=compress(GZIP, INNER)) + message(),
    ),
    "two magics": (InvalidRecord, message() + message(magic=0)),
    "a batch behind a message": (InvalidRecord, message() + batch.build(some_records(1))),
    "two batches": (InvalidRecord, batch.build(some_records(1)) * 2),
}


@pytest.mark.parametrize("name", WRONG_WRAPPERS)
def test_what_a_producer_may_not_send(name: str) -> None:
    kind, data = WRONG_WRAPPERS[name]
    with pytest.raises((CorruptRecord, InvalidRecord)) as refused:
        to_v2(data, limit=LIMIT)
    assert isinstance(refused.value, kind)


def with_crc(data: bytearray) -> bytes:
    struct.pack_into(">I", data, 12, zlib.crc32(memoryview(data)[16:]))
    return bytes(data)


@pytest.mark.parametrize(("at", "size"), [(26, 100), (26, 0x7FFFFFFF), (30, 2), (30, 1 << 30)])
def test_fields_longer_than_the_message(at: int, size: int) -> None:
    data = bytearray(message())
    struct.pack_into(">i", data, at, size)
    with pytest.raises(CorruptRecord):
        to_v2(with_crc(data), limit=LIMIT)


def test_a_key_that_leaves_no_room_for_a_value() -> None:
    data = bytearray(message())
    struct.pack_into(">i", data, 26, 3)
    with pytest.raises(CorruptRecord, match="cut off in a length"):
        to_v2(with_crc(data), limit=LIMIT)


def test_a_message_that_is_not_there_in_full() -> None:
    with pytest.raises(CorruptRecord, match="are left"):
        list(legacy.records_of(message()[:-1], 0, LIMIT))


def test_sets_that_are_taken_as_they_are() -> None:
    assert to_v2(b"", limit=LIMIT) == b""
    assert to_v2(message()[:-1], limit=LIMIT) == b""
    new = batch.build(some_records(3), codec=ZSTD)
    assert to_v2(new, limit=LIMIT) == new
    assert to_v2(memoryview(new + new[:-1]), limit=LIMIT) == new
    assert len(read(to_v2(message() * 3 + message()[:-1], limit=LIMIT))) == 3


def test_pieces_that_apache_kafka_lets_pass() -> None:
    piece = message(attributes=GZIP, value=compress(GZIP, INNER + INNER[:20]))
    assert read(to_v2(piece, limit=LIMIT)) == [Record(0, START, b"k", b"v")]
    shorter = message(attributes=GZIP, value=compress(GZIP, INNER + INNER[:11]))
    assert read(to_v2(shorter, limit=LIMIT)) == [Record(0, START, b"k", b"v")]
    assert read(to_v2(message(tail=b"x"), limit=LIMIT)) == [Record(0, START, None, b"v")]


def test_conversion_up_into_another_codec() -> None:
    data = build_set(old_records(30, 1), 1, codec=GZIP)
    up = to_v2(data, limit=LIMIT, codec=ZSTD, level=9)
    assert batch.parse_header(up).codec == ZSTD
    assert read(up) == old_records(30, 1)
    plain = to_v2(data, limit=LIMIT, codec=NONE)
    assert batch.parse_header(plain).codec == NONE
    assert (
        batch.parse_header(to_v2(build_set(old_records(3, 0), 0), limit=LIMIT)).max_timestamp == -1
    )


def test_a_bomb_in_a_wrapper() -> None:
    data = message(attributes=GZIP, value=compress(GZIP, bytes(1 << 24)))
    with pytest.raises(UndecodableBody, match="more than 65536 bytes"):
        to_v2(data, limit=1 << 16)


@pytest.mark.parametrize("codec", OLD_CODECS)
@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("append_time", [False, True])
def test_conversion_down(codec: int, magic: int, append_time: bool) -> None:
    records = some_records(10, base=50)
    data = batch.build(records, base_offset=50, codec=codec, append_time=append_time)
    down = down_convert(data, magic, limit=LIMIT)
    newest = records[-1].timestamp
    expected = [
        Record(
            r.offset,
            -1 if not magic else newest if append_time else r.timestamp,
            r.key,
            r.value,
        )
        for r in records
    ]
    assert read(down) == expected
    walked = list(any_batches(down))
    assert len(walked) == (1 if codec else 10)
    for pos, header in walked:
        assert any_crc_ok(down, pos, header)
        assert (header.magic, header.codec) == (magic, codec)
        assert header.append_time == bool(magic and append_time)
    assert walked[-1][1].last_offset == 59


def test_conversion_down_leaves_out_control_batches_and_what_was_not_asked_for() -> None:
    marker = batch.build_end_txn_marker(
        producer_id=1, producer_epoch=0, committed=True, timestamp=START, base_offset=10
    )
    data = (
        batch.build(some_records(10))
        + marker
        + batch.build(some_records(4, base=11), base_offset=11, codec=GZIP)
    )
    assert [r.offset for r in read(down_convert(data, 1, limit=LIMIT))] == [
        *range(10),
        *range(11, 15),
    ]
    some = down_convert(data, 1, limit=LIMIT, first_offset=7)
    assert [r.offset for r in read(some)] == [7, 8, 9, *range(11, 15)]
    # Whoever asks for the middle of a compressed batch gets all of it.
    some = down_convert(data, 1, limit=LIMIT, first_offset=13)
    assert [r.offset for r in read(some)] == [11, 12, 13, 14]
    assert down_convert(marker, 1, limit=LIMIT) == b""
    assert down_convert(b"", 1, limit=LIMIT) == down_convert(data[:50], 0, limit=LIMIT) == b""
    empty = batch.build([], base_offset=3, last_offset_delta=9, codec=GZIP)
    assert down_convert(empty, 0, limit=LIMIT) == b""


def test_conversion_down_of_mixed_logs() -> None:
    parts = [
        build_set(old_records(2, 0), 0),
        build_set(old_records(3, 1, base=2), 1, codec=GZIP),
        build_set(old_records(2, 1, base=5), 1),
        batch.build(some_records(3, base=7), base_offset=7),
    ]
    data = b"".join(parts)
    to_1 = down_convert(data, 1, limit=LIMIT)
    assert to_1 == b"".join(parts[:3]) + down_convert(parts[3], 1, limit=LIMIT)
    to_0 = down_convert(data, 0, limit=LIMIT)
    assert {h.magic for _, h in any_batches(to_0)} == {0}
    assert [r.offset for r in read(to_0)] == list(range(10))
    assert [(r.key, r.value) for r in read(to_0)] == [(r.key, r.value) for r in read(to_1)]
    assert [h.codec for _, h in any_batches(to_0)] == [0, 0, 1, 0, 0, 0, 0, 0]


def test_conversion_down_keeps_the_limit_but_gives_one_batch() -> None:
    parts = [batch.build(some_records(3, base=3 * i), base_offset=3 * i) for i in range(4)]
    sizes = [len(down_convert(part, 1, limit=LIMIT)) for part in parts]
    for count in range(1, 5):
        most = sum(sizes[:count])
        for max_bytes, expected in ((most, count), (most - 1, max(count - 1, 1))):
            down = down_convert(b"".join(parts), 1, limit=LIMIT, max_bytes=max_bytes)
            assert len(read(down)) == 3 * expected
    assert len(read(down_convert(b"".join(parts), 1, limit=LIMIT))) == 12


def test_zstd_cannot_be_converted_down() -> None:
    plain = batch.build(some_records(2))
    packed = batch.build(some_records(2, base=2), base_offset=2, codec=ZSTD)
    with pytest.raises(UnsupportedCompression, match="zstd"):
        down_convert(packed + plain, 1, limit=LIMIT)
    assert down_convert(plain + packed, 1, limit=LIMIT) == down_convert(plain, 1, limit=LIMIT)


def test_conversion_down_of_a_damaged_batch() -> None:
    plain = batch.build(some_records(2))
    broken = bytearray(batch.build(some_records(2, base=2), base_offset=2))
    broken[61] ^= 0x40
    with pytest.raises(InvalidRecord):
        down_convert(broken, 1, limit=LIMIT)
    assert down_convert(plain + broken, 1, limit=LIMIT) == down_convert(plain, 1, limit=LIMIT)


def test_lz4_down_to_magic_0_has_the_old_checksum() -> None:
    data = batch.build(some_records(5), codec=LZ4)
    frames = []
    for magic in (0, 1):
        down = down_convert(data, magic, limit=LIMIT)
        frames.append(down[down.index(b"\x04\x22\x4d\x18") :][:7])
    assert frames[0][:6] == frames[1][:6]
    assert frames[0][6] != frames[1][6]


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", OLD_CODECS)
def test_mutated_sets_raise_nothing_else(magic: int, codec: int) -> None:
    """With CRCs set right again, so that changes reach what lies behind them."""
    rng = random.Random(magic * 10 + codec)
    data = build_set(old_records(6, magic), magic, codec=codec)
    starts = [pos for pos, _ in any_batches(data)]
    outcomes = {"taken": 0, "refused": 0}
    for _ in range(1_000):
        wrong = bytearray(data)
        for _ in range(rng.choice((1, 2, 4))):
            wrong[rng.randrange(len(wrong))] = rng.randrange(256)
        for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
            struct.pack_into(
                ">I", wrong, start + 12, zlib.crc32(memoryview(wrong)[start + 16 : end])
            )
        try:
            to_v2(wrong, limit=1 << 20)
            read(bytes(wrong))
            outcomes["taken"] += 1
        except (Malformed, CorruptRecord, InvalidRecord):
            outcomes["refused"] += 1
        try:
            down_convert(wrong, 0, limit=1 << 20)
        except (Malformed, CorruptRecord, InvalidRecord, UnsupportedCompression):
            pass
    assert min(outcomes.values()) > 20, outcomes


@given(st.binary(max_size=100))
def test_any_bytes_raise_nothing_else(data: bytes) -> None:
    try:
        to_v2(data, limit=1000)
    except (CorruptRecord, InvalidRecord):
        pass
