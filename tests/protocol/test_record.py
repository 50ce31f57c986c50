"""Records of a batch: against kafka-python's and aiokafka's, strict checking, recompression, wrong
bytes."""

import gzip
import random
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.batch import BatchHeader, build, crc_ok, parse_header, set_append_time
from protocol.compression import compress
from protocol.crc import crc32c
from protocol.errors import CorruptRecord, Malformed
from protocol.record import Record, encode_records, plain_body, recompress, records_of, validate
from protocol.record_errors import InvalidRecord, TimestampOutOfRange, UndecodableBody
from protocol.varint import encode_varint
from tests.protocol.record_oracles import AioBatch, AioBuilder, PyBatch, PyBuilder
from tests.protocol.records_kit import CODECS, LIMIT, START, record_lists, some_records


def read(data: bytes) -> list[Record]:
    return list(records_of(data, 0, parse_header(data), LIMIT))


def wrap(body: bytes, count: int, **changes: int) -> tuple[bytes, BatchHeader]:
    """A batch with that body and a right CRC, whatever the body is."""
    fields = {
        "base_offset": 0,
        "length": 49 + len(body),
        "epoch": -1,
        "magic": 2,
        "crc": 0,
        "attributes": 0,
        "last_offset_delta": count - 1,
        "base_timestamp": START,
        "max_timestamp": START,
        "producer_id": -1,
        "producer_epoch": -1,
        "base_sequence": -1,
        "record_count": count,
    } | changes
    data = bytearray(struct.pack(">qiibIhiqqqhii", *fields.values()) + body)
    struct.pack_into(">I", data, 17, crc32c(memoryview(data)[21:]))
    return bytes(data), parse_header(data)


def record_bytes(*fields: bytes | int, size: int | None = None) -> bytes:
    """A record: ints become varints."""
    body = b"".join(f if isinstance(f, bytes) else encode_varint(f) for f in fields)
    return encode_varint(len(body) if size is None else size) + body


PLAIN = (b"\x00", 0, 0, 1, b"k", 1, b"v", 0)


@pytest.mark.parametrize("codec", CODECS)
@given(records=record_lists())
@settings(max_examples=40)
def test_both_clients_read_what_we_build(codec: int, records: list[Record]) -> None:
    data = build(records, codec=codec)
    expected = [
        (r.offset, r.timestamp, r.key, r.value, [(n, v) for n, v in r.headers]) for r in records
    ]
    for reader in (PyBatch(data), AioBatch(bytearray(data))):
        assert reader.validate_crc()
        found: Any = [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in reader]
        assert found == expected
    assert read(data) == records
    assert validate(data, 0, parse_header(data), LIMIT) == max(r.timestamp for r in records)


@pytest.mark.parametrize("codec", CODECS)
@given(records=record_lists())
@settings(max_examples=40)
def test_we_read_what_both_clients_build(codec: int, records: list[Record]) -> None:
    theirs = PyBuilder(2, codec, False, -1, -1, -1, 1 << 20)
    aio = AioBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
    for r in records:
        r.timestamp = max(r.timestamp, 0)  # aiokafka takes -1 for "none given yet"
        for builder in (theirs, aio):
            assert builder.append(r.offset, r.timestamp, r.key, r.value, list(r.headers))
    for built in (bytes(theirs.build()), bytes(aio.build())):
        header = parse_header(built)
        assert crc_ok(built, 0, len(built))
        assert read(built) == records
        assert validate(built, 0, header, LIMIT) == header.max_timestamp
        if header.codec == 0:
            assert build(records) == built[:12] + b"\xff\xff\xff\xff" + built[16:]


def test_values_may_be_memoryviews_and_data_any_buffer() -> None:
    record = Record(0, START, memoryview(b"xkeyx")[1:4], memoryview(b"value"), (("h", b"1"),))
    data = build([record])
    for form in (data, bytearray(data), memoryview(data)):
        (found,) = records_of(form, 0, parse_header(form), LIMIT)
        assert found == Record(0, START, b"key", b"value", (("h", b"1"),))
        assert type(found.key) is type(found.value) is bytes


def test_long_fields() -> None:
    records = [
        Record(i, START + i * 1_000_000, b"k" * (1 << i), b"v" * (1 << 2 * i)) for i in range(11)
    ]
    assert read(build(records)) == records
    many = [Record(i, START, None, b"") for i in range(20_000)]
    assert read(build(many)) == many


def test_header_names_that_are_not_utf8_survive() -> None:
    body = record_bytes(b"\x00", 0, 0, -1, -1, 1, 2, b"\xff\xfe", 3, b"abc")
    data, header = wrap(body, 1)
    records = list(records_of(data, 0, header, LIMIT))
    assert records[0].headers == (("\udcff\udcfe", b"abc"),)
    assert encode_records(records, 0).body == body


def test_timestamps_wrap_at_64_bits() -> None:
    top, bottom = (1 << 63) - 1, -(1 << 63)
    records = [Record(0, bottom), Record(1, top), Record(2, 0)]
    data = build(records, base_timestamp=bottom)
    assert read(data) == records
    assert validate(data, 0, parse_header(data), LIMIT) == top
    records = [Record(0, top), Record(1, bottom), Record(2, -1)]
    assert read(build(records)) == records


def test_append_time_stands_for_every_timestamp() -> None:
    data = bytearray(build(some_records(6)))
    set_append_time(data, 0, START + 12345)
    header = parse_header(data)
    assert [r.timestamp for r in records_of(data, 0, header, LIMIT)] == [START + 12345] * 6
    assert validate(data, 0, header, LIMIT) == START + 12345


WRONG = {
    "length past the end": record_bytes(*PLAIN, size=9),
    "negative length": encode_varint(-1) + b"\x00" * 8,
    "length too short": record_bytes(*PLAIN, size=7) + b"\x00",
    "key longer than the record": record_bytes(b"\x00", 0, 0, 9, b"k", 1, b"v", 0),
    "value longer than the record": record_bytes(b"\x00", 0, 0, 1, b"k", 2, b"v", 0),
    "huge key": record_bytes(b"\x00", 0, 0, (1 << 31) - 1, b"k", 1, b"v", 0),
    "bytes after the headers": record_bytes(*PLAIN, b"\x00"),
    "negative header count": record_bytes(b"\x00", 0, 0, 1, b"k", 1, b"v", -1),
    "more headers than bytes": record_bytes(b"\x00", 0, 0, 1, b"k", 1, b"v", 1 << 20),
    "header without a name": record_bytes(b"\x00", 0, 0, 1, b"k", 1, b"v", 1, -1, 0),
    "header value too long": record_bytes(b"\x00", 0, 0, 1, b"k", 1, b"v", 1, 1, b"h", 9, b"x"),
    "varint of six bytes": record_bytes(b"\x00", 0, b"\x80\x80\x80\x80\x80\x00", 0, 0, 0),
    "varlong of eleven bytes": record_bytes(b"\x00", b"\x80" * 10 + b"\x00", 0, 0, 0, 0),
    "nothing but a length": b"\x00",
    "cut in a varint": b"\x04\x00\x80",
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("before", [0, 2])
def test_wrong_layouts_name_their_record(name: str, before: int) -> None:
    good = b"".join(record_bytes(b"\x00", 0, i, 1, b"k", 1, b"v", 0) for i in range(before))
    data, header = wrap(good + WRONG[name], before + 1)
    for attempt in (lambda: list(records_of(data, 0, header, LIMIT)), lambda: validate_all(data)):
        with pytest.raises(InvalidRecord, match=f"record {before} at byte {len(good)}") as refused:
            attempt()
        assert [index for index, _ in refused.value.record_errors] == [before]
    walk = records_of(data, 0, header, LIMIT)
    assert [next(walk).offset for _ in range(before)] == list(range(before))


def validate_all(data: bytes) -> int:
    return validate(data, 0, parse_header(data), LIMIT)


def test_bytes_and_records_left_over_or_missing() -> None:
    two = b"".join(record_bytes(b"\x00", 0, i, -1, -1, 0) for i in range(2))
    data, header = wrap(two, 2)
    assert len(list(records_of(data, 0, header, LIMIT))) == 2
    data, header = wrap(two, 1)
    with pytest.raises(InvalidRecord, match="7 bytes follow the 1 records"):
        list(records_of(data, 0, header, LIMIT))
    data, header = wrap(two, 3)
    with pytest.raises(InvalidRecord, match="batch of 3 records holds 2"):
        list(records_of(data, 0, header, LIMIT))
    data, header = wrap(two, -1)
    with pytest.raises(InvalidRecord, match="batch of -1 records"):
        list(records_of(data, 0, header, LIMIT))
    data, header = wrap(b"", 1 << 30)
    with pytest.raises(InvalidRecord):
        list(records_of(data, 0, header, LIMIT))


def test_a_body_that_is_not_there() -> None:
    data = build(some_records(2))
    header = parse_header(data)
    with pytest.raises(CorruptRecord, match="are left"):
        plain_body(data[:-1], 0, header, LIMIT)


@pytest.mark.parametrize(
    ("count", "delta"), [(2, 2), (2, 0), (0, -1), (0, 0), (-1, -2), (1, 1), (2, -1)]
)
def test_validation_refuses_counts_that_do_not_fit(count: int, delta: int) -> None:
    body = b"".join(record_bytes(b"\x00", 0, i, -1, -1, 0) for i in range(max(count, 0)))
    data, _ = wrap(body, count, last_offset_delta=delta)
    with pytest.raises(InvalidRecord, match="last offset delta"):
        validate_all(data)


def test_validation_refuses_a_producer_without_a_sequence() -> None:
    with pytest.raises(InvalidRecord, match="producer 7 without a sequence"):
        validate_all(build(some_records(2), producer_id=7, producer_epoch=0))
    validate_all(build(some_records(2), producer_id=7, producer_epoch=0, base_sequence=0))


@pytest.mark.parametrize("deltas", [(1, 2), (0, 2), (0, 0), (1, 0), (0, -1)])
@pytest.mark.parametrize("codec", CODECS)
def test_validation_refuses_offsets_out_of_order(deltas: tuple[int, int], codec: int) -> None:
    records = [Record(delta, START, b"k", b"v") for delta in deltas]
    data = build(records, codec=codec, last_offset_delta=1)
    at = 0 if deltas[0] else 1
    with pytest.raises(InvalidRecord, match="offset delta") as refused:
        validate_all(data)
    assert [index for index, _ in refused.value.record_errors] == [at]


def test_validation_of_keys_lists_every_record() -> None:
    data = build(some_records(20))
    header = parse_header(data)
    assert validate(data, 0, header, LIMIT) == START + 19 * 7
    with pytest.raises(InvalidRecord) as refused:
        validate(data, 0, header, LIMIT, keys_needed=True)
    assert [index for index, _ in refused.value.record_errors] == [4, 9, 14, 19]
    assert not isinstance(refused.value, TimestampOutOfRange)
    keyed = build([Record(0, START, b"", b"")])
    assert validate(keyed, 0, parse_header(keyed), LIMIT, keys_needed=True) == START


def test_validation_of_timestamps_lists_every_record() -> None:
    stamps = [START, START - 1, -1, START + 10, START + 11]
    data = build([Record(i, stamp) for i, stamp in enumerate(stamps)])
    header = parse_header(data)
    assert validate(data, 0, header, LIMIT, timestamps=(START - 1, START + 11)) == START + 11
    with pytest.raises(TimestampOutOfRange) as refused:
        validate(data, 0, header, LIMIT, timestamps=(START, START + 10))
    assert [index for index, _ in refused.value.record_errors] == [1, 4]
    assert refused.value.message == (
        "One or more records have been rejected due to invalid timestamp"
    )


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("to", CODECS)
def test_recompression_changes_the_body_only(codec: int, to: int) -> None:
    records = some_records(30)
    data = build(records, codec=codec, producer_id=8, producer_epoch=1, base_sequence=3)
    header = parse_header(data)
    again = recompress(b"xx" + data, 2, header, to, None, LIMIT)
    found = parse_header(again)
    assert crc_ok(again, 0, len(again))
    assert found.size == len(again)
    assert found == header._replace(
        length=found.length, crc=found.crc, attributes=header.attributes & ~7 | to
    )
    assert read(bytes(again)) == records
    assert list(PyBatch(bytes(again)))[29].offset == 29
    if to == codec:
        assert again == data


def test_recompression_of_an_empty_batch_and_of_one_too_large() -> None:
    empty = build([], codec=1)
    assert recompress(empty, 0, parse_header(empty), 4, None, LIMIT)[61:] == b""
    large = build([Record(0, START, None, bytes(100_000))], codec=1)
    with pytest.raises(UndecodableBody, match="more than 1000 bytes"):
        recompress(large, 0, parse_header(large), 0, None, 1000)


def test_levels_are_passed_on() -> None:
    records = [Record(i, START, b"%d" % (i * 7919), b"%d" % (i * i) * 9) for i in range(2000)]
    low, high = (len(build(records, codec=1, level=level)) for level in (1, 9))
    assert high < low
    plain = build(records)
    assert len(recompress(plain, 0, parse_header(plain), 1, 9, LIMIT)) == high


@pytest.mark.parametrize("codec", CODECS)
def test_a_limit_is_kept_for_compressed_bodies(codec: int) -> None:
    data = build([Record(0, START, None, bytes(50_000))], codec=codec)
    header = parse_header(data)
    size = len(encode_records([Record(0, START, None, bytes(50_000))], 0).body)
    assert len(plain_body(data, 0, header, size)) == size
    if codec:
        with pytest.raises(UndecodableBody):
            list(records_of(data, 0, header, size - 1))


def test_an_unknown_codec_is_a_corrupt_record() -> None:
    data, header = wrap(b"abc", 1, attributes=6)
    with pytest.raises(UndecodableBody, match="codec 6"):
        list(records_of(data, 0, header, LIMIT))


@pytest.mark.parametrize("codec", CODECS)
def test_mutated_batches_raise_nothing_else(codec: int) -> None:
    """CRCs are not looked at here, so every change reaches the parser."""
    rng = random.Random(20_000 + codec)
    data = build(some_records(8), codec=codec)
    refused = 0
    for _ in range(2_000):
        wrong = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            wrong[rng.randrange(8, len(wrong))] = rng.randrange(256)
        if rng.random() < 0.2:
            del wrong[rng.randrange(61, len(wrong)) :]
        try:
            header = parse_header(wrong)
            list(records_of(wrong, 0, header, 1 << 20))
            validate(wrong, 0, header, 1 << 20)
        except (Malformed, CorruptRecord, InvalidRecord):
            refused += 1
    assert 500 < refused <= 2_000


@given(st.binary(max_size=120), st.integers(0, 6))
def test_any_body_raises_nothing_else(body: bytes, count: int) -> None:
    data, header = wrap(body, count)
    try:
        found = list(records_of(data, 0, header, LIMIT))
    except InvalidRecord:
        return
    assert len(found) == count


def test_gzip_in_several_members_is_one_body() -> None:
    body = encode_records(some_records(5), 0).body
    packed = gzip.compress(body[:50]) + compress(1, body[50:])
    data, header = wrap(packed, 5, attributes=1)
    assert list(records_of(data, 0, header, LIMIT)) == some_records(5)
