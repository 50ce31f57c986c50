"""Records inside a batch of magic 2: reading, strict checking, writing, recompression.

A record is ``length varint, attributes int8, timestamp delta varlong, offset delta varint, key,
value, headers``: key and value with a varint length (negative for null), headers counted by a
varint. Only requests that need records come here: compaction, conversion for old clients, topics
that demand keys, tools and tests.

Refusals: InvalidRecord for records that are not laid out as the batch says, UndecodableBody (a
CorruptRecord) for a body its codec cannot decode, CorruptRecord for a batch that is not there in
full. CRCs are ``batch.crc_ok``'s matter.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from protocol.batch import (
    CODEC_MASK,
    CRC_START,
    HEADER_SIZE,
    LENGTH_END,
    NO_TIMESTAMP,
    BatchHeader,
)
from protocol.compression import NONE, compress, decompress
from protocol.crc import crc32c
from protocol.errors import CorruptRecord, Malformed
from protocol.record_errors import TIMESTAMPS_REJECTED, InvalidRecord, TimestampOutOfRange
from protocol.varint import encode_varint, read_varint, read_varlong
from protocol.wire import Buffer

Headers = tuple[tuple[str, bytes | None], ...]

_INT64_MIN = -(1 << 63)
_INT64_MAX = (1 << 63) - 1

_LENGTH = Struct(">i")
_CRC = Struct(">I")
_ATTRIBUTES = Struct(">h")


@dataclass(slots=True)
class Record:
    """One record with its absolute offset and timestamp (ms since the epoch, -1 for none).

    Header names that are not UTF-8 carry surrogate escapes, so that writing them gives the same
    bytes again.
    """

    offset: int = 0
    timestamp: int = NO_TIMESTAMP
    key: bytes | memoryview | None = None
    value: bytes | memoryview | None = None
    headers: Headers = ()


class Encoded(NamedTuple):
    """Records as the body of a batch, and what its header says of them."""

    body: bytes
    record_count: int
    base_timestamp: int
    max_timestamp: int
    last_offset_delta: int


def plain_body(data: Buffer, pos: int, header: BatchHeader, limit: int) -> bytes:
    """The records of the batch at ``pos``, decompressed, at most ``limit`` bytes when
    compressed."""
    end = pos + header.size
    if end > len(data):
        raise CorruptRecord(f"batch of {header.size} bytes where {len(data) - pos} are left")
    packed = memoryview(data)[pos + HEADER_SIZE : end]
    codec = header.attributes & CODEC_MASK
    if codec == NONE:
        return bytes(packed)
    # An empty batch that compaction left keeps its codec in the attributes but has no body at all.
    if not packed and not header.record_count:
        return b""
    return decompress(codec, packed, limit)


def records_of(data: Buffer, pos: int, header: BatchHeader, limit: int) -> Iterator[Record]:
    """The records of the batch at ``pos`` in order; keys, values and headers are ``bytes``.

    ``limit`` bounds a compressed body's size in bytes. Raises InvalidRecord or CorruptRecord
    (module docstring) when the iteration comes to the fault; a wrong record count is known at the
    end only.
    """
    body = plain_body(data, pos, header, limit)
    base_offset = header.base_offset
    base_timestamp = header.base_timestamp
    fixed_timestamp = header.max_timestamp if header.append_time else None
    for timestamp_delta, offset_delta, key_at, key_end, value_at, value_end, headers in _layouts(
        body, header.record_count
    ):
        timestamp = base_timestamp + timestamp_delta
        if fixed_timestamp is not None:
            timestamp = fixed_timestamp
        elif not _INT64_MIN <= timestamp <= _INT64_MAX:
            timestamp = _wrapped(timestamp)
        yield Record(
            base_offset + offset_delta,
            timestamp,
            None if key_at < 0 else body[key_at:key_end],
            None if value_at < 0 else body[value_at:value_end],
            headers,
        )


def validate(
    data: Buffer,
    pos: int,
    header: BatchHeader,
    limit: int,
    *,
    keys_needed: bool = False,
    timestamps: tuple[int, int] | None = None,
) -> int:
    """Check every record of a producer's batch; returns the largest timestamp (NO_TIMESTAMP
    without records).

    Offsets must be 0, 1, 2 ... in order and as many as the header says by its count and by its
    last offset. With ``keys_needed`` (compacted topics) a null key, with ``timestamps`` a
    timestamp outside ``(earliest, latest)``, is a fault of that record: InvalidRecord or
    TimestampOutOfRange with all such records' indexes.
    """
    count = header.record_count
    if count <= 0 or header.last_offset_delta + 1 != count:
        raise InvalidRecord(
            f"batch of {count} records whose last offset delta is {header.last_offset_delta}"
        )
    if header.producer_id >= 0 and header.base_sequence < 0:
        raise InvalidRecord(f"producer {header.producer_id} without a sequence")
    body = plain_body(data, pos, header, limit)
    largest = header.max_timestamp if header.append_time else None
    base_timestamp = header.base_timestamp
    seen = NO_TIMESTAMP
    earliest, latest = timestamps or (_INT64_MIN, _INT64_MAX)
    keyless: list[tuple[int, str]] = []
    untimely: list[tuple[int, str]] = []
    for index, (timestamp_delta, offset_delta, key_at, *_) in enumerate(_layouts(body, count)):
        if offset_delta != index:
            sentence = f"record {index} has offset delta {offset_delta}"
            raise InvalidRecord(sentence, [(index, sentence)])
        timestamp = _wrapped(base_timestamp + timestamp_delta) if largest is None else largest
        seen = max(seen, timestamp)
        if keys_needed and key_at < 0:
            keyless.append((index, "a compacted topic takes no record without a key"))
        if timestamp != NO_TIMESTAMP and not earliest <= timestamp <= latest:
            untimely.append((index, f"timestamp {timestamp} is not in {earliest} to {latest}"))
    if keyless:
        raise InvalidRecord("one or more records have been rejected", keyless)
    if untimely:
        raise TimestampOutOfRange(TIMESTAMPS_REJECTED, untimely)
    return seen


_Layout = tuple[int, int, int, int, int, int, Headers]
"""timestamp delta, offset delta, start and end of the key and of the value in the body (start -1 =
null), headers"""


def _layouts(body: bytes, count: int) -> Iterator[_Layout]:
    if count < 0:
        raise InvalidRecord(f"batch of {count} records")
    pos, end = 0, len(body)
    for index in range(count):
        if pos >= end:
            raise InvalidRecord(f"batch of {count} records holds {index}")
        try:
            start = pos
            if (size := body[pos]) < 0x80:
                size = (size >> 1) ^ -(size & 1)
                pos += 1
            else:
                size, pos = read_varint(body, pos)
            limit = pos + size
            if size < 0 or limit > end:
                raise Malformed(f"{size} bytes long where {end - pos} are left")
            layout, pos = _layout(body, pos, limit)
        except (IndexError, Malformed) as error:
            sentence = f"record {index} at byte {start} of the body: {error}"
            raise InvalidRecord(sentence, [(index, sentence)]) from None
        yield layout
    if pos != end:
        raise InvalidRecord(f"{end - pos} bytes follow the {count} records of the batch")


def _layout(body: bytes, pos: int, limit: int) -> tuple[_Layout, int]:
    """The record whose attributes are at ``pos`` and which ends before ``limit``.

    One-byte varints are read in place: that is nearly all of them, and a call costs more than the
    rest.
    """
    pos += 1
    if (byte := body[pos]) < 0x80:
        timestamp_delta = (byte >> 1) ^ -(byte & 1)
        pos += 1
    else:
        timestamp_delta, pos = read_varlong(body, pos)
    if (byte := body[pos]) < 0x80:
        offset_delta = (byte >> 1) ^ -(byte & 1)
        pos += 1
    else:
        offset_delta, pos = read_varint(body, pos)
    if (byte := body[pos]) == 1:
        key_at, key_end = -1, pos + 1
    else:
        key_at, key_end = _blob(body, pos, limit)
    value_at, value_end = _blob(body, key_end, limit)
    if body[value_end] == 0:
        headers: Headers = ()
        pos = value_end + 1
    else:
        headers, pos = _headers(body, value_end, limit)
    if pos != limit:
        raise Malformed(f"its fields end {abs(limit - pos)} bytes off its length")
    return (
        timestamp_delta,
        offset_delta,
        key_at,
        key_end,
        value_at,
        value_end,
        headers,
    ), pos


def _blob(body: bytes, pos: int, limit: int) -> tuple[int, int]:
    """``(start, end)`` of the bytes whose length is at ``pos``; start -1 for null."""
    if (byte := body[pos]) < 0x80:
        size = (byte >> 1) ^ -(byte & 1)
        pos += 1
    else:
        size, pos = read_varint(body, pos)
    if size < 0:
        return -1, pos
    if pos + size > limit:
        raise Malformed(f"a field of {size} bytes where {limit - pos} are left")
    return pos, pos + size


def _headers(body: bytes, pos: int, limit: int) -> tuple[Headers, int]:
    count, pos = read_varint(body, pos)
    if not 0 <= count <= limit - pos:
        raise Malformed(f"{count} headers in {limit - pos} bytes")
    headers = []
    for _ in range(count):
        at, pos = _blob(body, pos, limit)
        if at < 0:
            raise Malformed("a header without a name")
        name = body[at:pos].decode("utf-8", "surrogateescape")
        at, pos = _blob(body, pos, limit)
        headers.append((name, None if at < 0 else body[at:pos]))
    return tuple(headers), pos


def _wrapped(timestamp: int) -> int:
    """Sums of timestamps wrap at 64 bits, as in Java."""
    return (timestamp - _INT64_MIN & 0xFFFFFFFFFFFFFFFF) + _INT64_MIN


def encode_records(
    records: Iterable[Record],
    base_offset: int,
    base_timestamp: int | None = None,
    *,
    renumber: bool = False,
) -> Encoded:
    """The uncompressed body that holds ``records``.

    ``base_timestamp`` None takes the first record's. ``renumber`` gives the offsets
    ``base_offset``, + 1, + 2 ... whatever the records say.
    """
    pieces: list[bytes | memoryview] = []
    add = pieces.append
    varint = encode_varint
    largest = NO_TIMESTAMP
    delta = -1
    count = 0
    for record in records:
        timestamp = record.timestamp
        if base_timestamp is None:
            base_timestamp = timestamp
        if timestamp > largest:
            largest = timestamp
        delta = count if renumber else record.offset - base_offset
        timestamp_delta = timestamp - base_timestamp
        if not _INT64_MIN <= timestamp_delta <= _INT64_MAX:
            timestamp_delta = _wrapped(timestamp_delta)
        head = b"\x00" + varint(timestamp_delta) + varint(delta)
        key, value = record.key, record.value
        head += b"\x01" if key is None else varint(len(key)) + key
        middle = b"\x01" if value is None else varint(len(value))
        tail = _encode_headers(record.headers) if record.headers else b"\x00"
        size = len(head) + len(middle) + len(tail)
        if value:
            add(varint(size + len(value)) + head + middle)
            add(value)
            add(tail)
        else:
            add(varint(size) + head + middle + tail)
        count += 1
    return Encoded(
        b"".join(pieces),
        count,
        NO_TIMESTAMP if base_timestamp is None else base_timestamp,
        largest,
        delta,
    )


def _encode_headers(headers: Headers) -> bytes:
    parts = [encode_varint(len(headers))]
    for name, value in headers:
        raw = name.encode("utf-8", "surrogateescape")
        parts += (encode_varint(len(raw)), raw)
        if value is None:
            parts.append(b"\x01")
        else:
            parts += (encode_varint(len(value)), value)
    return b"".join(parts)


def recompress(
    data: Buffer, pos: int, header: BatchHeader, codec: int, level: int | None, limit: int
) -> bytearray:
    """The batch at ``pos`` with its body in another codec and the CRC of that; records are not
    looked at.

    The answer is writable so that ``batch.patch`` can follow. ``limit`` bounds the body's size in
    bytes when it is compressed now.
    """
    body = plain_body(data, pos, header, limit)
    if codec != NONE and body:
        body = compress(codec, body, level)
    out = bytearray(memoryview(data)[pos : pos + HEADER_SIZE])
    out += body
    _LENGTH.pack_into(out, 8, len(out) - LENGTH_END)
    _ATTRIBUTES.pack_into(out, 21, header.attributes & ~CODEC_MASK | codec)
    _CRC.pack_into(out, 17, crc32c(memoryview(out)[CRC_START:]))
    return out
