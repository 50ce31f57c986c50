"""Message formats 0 and 1: what old clients send and read, and what old logs hold.

A message set is a row of ``offset int64, size int32, crc uint32, magic int8, attributes int8,
[timestamp int64 from magic 1 on,] key, value`` with int32 lengths, -1 for null; the CRC-32 covers
everything from the magic on. Attributes: bits 0-2 codec, bit 3 (magic 1) LogAppendTime. A message
with a codec is a wrapper: its value holds a message set, and its offset is the last inner one's.
Inner offsets are absolute in magic 0 and count from the first one in magic 1 (KIP-31); the
wrapper's timestamp is the largest inner one (KIP-32).

Here: walking logs of mixed formats, :func:`to_v2` for Produce 0 to 2, :func:`down_convert` for
Fetch 0 to 3.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import ClassVar
from zlib import crc32

from protocol import batch as v2
from protocol.batch import APPEND_TIME, CODEC_MASK, LENGTH_END, NO_TIMESTAMP, BatchHeader
from protocol.compression import NONE, ZSTD, compress, decompress
from protocol.errors import CorruptRecord, Malformed
from protocol.record import Record
from protocol.record import records_of as v2_records_of
from protocol.record_errors import InvalidRecord, TimestampOutOfRange, UnsupportedCompression
from protocol.wire import Buffer

MIN_SIZE = 14
"""Least value of the size field (magic 0 with null key and value)."""
MAGIC_AT = 16

_LEAST_SIZE = (MIN_SIZE, 22, v2.MIN_LENGTH)
_CRC_END = 16

_HEAD = Struct(">qiIbb")
_SIZE = Struct(">i")
_INT64 = Struct(">q")
_CRC = Struct(">I")
_V0 = Struct(">bbi")
_V1 = Struct(">bbqi")


@dataclass(slots=True, frozen=True)
class LegacyHeader:
    """The head of one top-level message; answers what :class:`BatchHeader` answers, where it makes
    sense."""

    offset: int
    length: int
    crc: int
    magic: int
    attributes: int
    timestamp: int

    leader_epoch: ClassVar[int] = v2.NO_EPOCH
    producer_id: ClassVar[int] = v2.NO_PRODUCER_ID
    producer_epoch: ClassVar[int] = v2.NO_EPOCH
    base_sequence: ClassVar[int] = v2.NO_SEQUENCE
    last_sequence: ClassVar[int] = v2.NO_SEQUENCE
    transactional: ClassVar[bool] = False
    control: ClassVar[bool] = False
    delete_horizon: ClassVar[int | None] = None

    @property
    def size(self) -> int:
        """Bytes of the whole entry."""
        return LENGTH_END + self.length

    @property
    def base_offset(self) -> int:
        """The message's offset. Of a wrapper it is the last inner one: see :func:`first_offset`."""
        return self.offset

    @property
    def last_offset(self) -> int:
        return self.offset

    @property
    def next_offset(self) -> int:
        return self.offset + 1

    @property
    def codec(self) -> int:
        return self.attributes & CODEC_MASK

    @property
    def append_time(self) -> bool:
        return self.magic > 0 and bool(self.attributes & APPEND_TIME)

    @property
    def max_timestamp(self) -> int:
        """Largest timestamp inside, in ms since the epoch; NO_TIMESTAMP in magic 0."""
        return self.timestamp


AnyHeader = BatchHeader | LegacyHeader


def parse_message(data: Buffer, pos: int = 0) -> LegacyHeader:
    """The head of the message at ``pos``; its body need not be there in full.

    Raises Malformed when its head is cut off, the magic is not 0 or 1, or the size is below the
    minimum.
    """
    if len(data) - pos < LENGTH_END + MIN_SIZE:
        raise Malformed(f"{len(data) - pos} bytes left of a message")
    offset, length, crc, magic, attributes = _HEAD.unpack_from(data, pos)
    if not 0 <= magic <= 1:
        raise Malformed(f"message of magic {magic} where 0 or 1 is expected")
    if length < _LEAST_SIZE[magic]:
        raise Malformed(f"message of size {length}, below the minimum {_LEAST_SIZE[magic]}")
    if not magic:
        return LegacyHeader(offset, length, crc, magic, attributes, NO_TIMESTAMP)
    if len(data) - pos < LENGTH_END + _LEAST_SIZE[1]:
        raise Malformed(f"{len(data) - pos} bytes left of a message")
    return LegacyHeader(
        offset, length, crc, magic, attributes, _INT64.unpack_from(data, pos + 18)[0]
    )


def any_batches(
    data: Buffer, pos: int = 0, end: int | None = None
) -> Iterator[tuple[int, AnyHeader]]:
    """``(pos, header)`` of each whole batch or top-level message in ``data[pos:end]``, whatever
    its magic.

    Stops before a partial one at the end. Raises Malformed at an unknown magic or an impossible
    size.
    """
    if end is None:
        end = len(data)
    while end - pos > MAGIC_AT:
        magic = data[pos + MAGIC_AT]
        if magic > 2:
            raise Malformed(f"unknown magic {magic} at byte {pos}")
        length = _SIZE.unpack_from(data, pos + 8)[0]
        if length < _LEAST_SIZE[magic]:
            raise Malformed(f"size {length} at byte {pos}, below the minimum {_LEAST_SIZE[magic]}")
        following = pos + LENGTH_END + length
        if following > end:
            return
        yield pos, v2.parse_header(data, pos) if magic == 2 else parse_message(data, pos)
        pos = following


def crc_ok(data: Buffer, pos: int, size: int) -> bool:
    """Whether the stored CRC-32 of the message ``data[pos:pos + size]`` is that of its bytes."""
    covered = memoryview(data)[pos + _CRC_END : pos + size]
    return bool(_CRC.unpack_from(data, pos + LENGTH_END)[0] == crc32(covered))


def any_crc_ok(data: Buffer, pos: int, header: AnyHeader) -> bool:
    """Whether the CRC of what :func:`any_batches` found at ``pos`` is right."""
    check = v2.crc_ok if header.magic == 2 else crc_ok
    return check(data, pos, header.size)


def any_records(data: Buffer, pos: int, header: AnyHeader, limit: int) -> Iterator[Record]:
    """The records of what :func:`any_batches` found at ``pos``."""
    if isinstance(header, BatchHeader):
        return v2_records_of(data, pos, header, limit)
    return records_of(data, pos, limit)


def first_offset(data: Buffer, pos: int, header: AnyHeader, limit: int) -> int:
    """The first offset inside; a wrapper is decompressed for it (at most ``limit`` bytes)."""
    if isinstance(header, BatchHeader) or header.codec == NONE:
        return header.base_offset
    return next(records_of(data, pos, limit)).offset


def records_of(data: Buffer, pos: int, limit: int) -> Iterator[Record]:
    """The record, or the records of the wrapper, at ``pos``, with absolute offsets.

    ``limit`` bounds the decompressed bytes of a wrapper. CRCs of inner messages are checked, that
    of the one at ``pos`` is not. Raises Malformed, CorruptRecord (UndecodableBody for what the
    codec cannot decode) or InvalidRecord.
    """
    header = parse_message(data, pos)
    key, value = _key_and_value(data, pos, header)
    if header.codec == NONE:
        yield Record(header.offset, header.timestamp, key, value)
        return
    if value is None:
        raise InvalidRecord("a compressed message without a value")
    if header.codec == ZSTD:
        raise InvalidRecord(f"zstd in a message of magic {header.magic}")
    inner = decompress(header.codec, value, limit, legacy_lz4=header.magic == 0)
    found = list(_inner_messages(inner, header))
    if not found:
        raise InvalidRecord("a compressed message with no messages inside")
    shift = header.offset - found[-1][1].offset if header.magic else 0
    for at, message in found:
        key, value = _key_and_value(inner, at, message)
        timestamp = header.timestamp if header.append_time else message.timestamp
        yield Record(message.offset + shift, timestamp, key, value)


def _inner_messages(inner: bytes, wrapper: LegacyHeader) -> Iterator[tuple[int, LegacyHeader]]:
    pos, end = 0, len(inner)
    index = 0
    while end - pos >= LENGTH_END:
        size = _SIZE.unpack_from(inner, pos + 8)[0]
        if size < MIN_SIZE:
            raise CorruptRecord(f"inner message {index} of size {size}")
        if size > end - pos - LENGTH_END:
            return  # Apache Kafka takes what is there in full, inside a wrapper too.
        message = parse_message(inner, pos)
        fault = ""
        if message.magic != wrapper.magic:
            fault = f"magic {message.magic} inside a wrapper of magic {wrapper.magic}"
        elif message.codec != NONE:
            fault = "a compressed message inside a wrapper"
        if fault:
            raise InvalidRecord(fault, [(index, fault)])
        if not crc_ok(inner, pos, message.size):
            raise CorruptRecord(f"wrong CRC of inner message {index}")
        yield pos, message
        pos += message.size
        index += 1


def _key_and_value(
    data: Buffer, pos: int, header: LegacyHeader
) -> tuple[bytes | None, bytes | None]:
    end = pos + header.size
    if end > len(data):
        raise CorruptRecord(f"message of {header.size} bytes where {len(data) - pos} are left")
    key, pos = _blob(data, pos + (26 if header.magic else 18), end)
    # Bytes behind the value, under the CRC, are let pass as in Apache Kafka.
    return key, _blob(data, pos, end)[0]


def _blob(data: Buffer, pos: int, end: int) -> tuple[bytes | None, int]:
    if end - pos < 4:
        raise CorruptRecord("message cut off in a length")
    size = _SIZE.unpack_from(data, pos)[0]
    pos += 4
    if size < 0:
        return None, pos
    if size > end - pos:
        raise CorruptRecord(f"a field of {size} bytes where {end - pos} are left in the message")
    return bytes(memoryview(data)[pos : pos + size]), pos + size


def to_v2(
    message_set: Buffer, *, limit: int, codec: int | None = None, level: int | None = None
) -> bytes:
    """What a producer of version 0 to 2 sent, as one batch of magic 2 with base offset 0; b"" for
    an empty set.

    All messages become one batch in the codec they came in (or ``codec``), as in Apache Kafka;
    offsets are counted anew, timestamps kept (NO_TIMESTAMP from magic 0). A set that is one batch
    of magic 2 already comes back as it is, its CRC unchecked. A partial message at the end is left
    out. ``limit`` bounds decompressed bytes.

    Raises CorruptRecord for wrong CRCs and sizes, InvalidRecord for a wrapper or a batch beside
    something else, mixed magics and zstd, TimestampOutOfRange for negative times.
    """
    try:
        found = list(any_batches(message_set))
    except Malformed as error:
        raise CorruptRecord(str(error)) from None
    if not found:
        return b""
    magic = found[0][1].magic
    source = NONE
    for pos, header in found:
        if header.magic != magic:
            raise InvalidRecord(f"magic {header.magic} behind magic {magic}")
        source = header.codec or source
        if magic < 2 and not any_crc_ok(message_set, pos, header):
            raise CorruptRecord(f"wrong CRC of the message at byte {pos}")
    if len(found) > 1 and (magic == 2 or source != NONE):
        raise InvalidRecord("a compressed message or a batch must come alone")
    if magic == 2:
        pos, header = found[0]
        return bytes(memoryview(message_set)[pos : pos + header.size])
    return v2.build(
        _produced(message_set, found, limit),
        codec=source if codec is None else codec,
        level=level,
        renumber=True,
    )


def _produced(
    message_set: Buffer, found: list[tuple[int, AnyHeader]], limit: int
) -> Iterator[Record]:
    for pos, _ in found:
        try:
            for record in records_of(message_set, pos, limit):
                if record.timestamp < NO_TIMESTAMP:
                    raise TimestampOutOfRange(f"a message of the time {record.timestamp}")
                yield record
        except Malformed as error:
            raise CorruptRecord(str(error)) from None


def down_convert(
    data: Buffer,
    magic: int,
    *,
    limit: int,
    first_offset: int = 0,
    max_bytes: int | None = None,
) -> bytes:
    """The whole batches in ``data`` for a consumer that knows formats up to ``magic`` (0 or 1).

    Control batches and headers fall away, as do uncompressed records below ``first_offset`` (the
    offset asked for); the codec stays; what is old enough is copied. Stops before the batch that
    would make the answer larger than ``max_bytes``, but gives at least one. ``limit`` bounds the
    decompressed bytes of one batch.

    Raises UnsupportedCompression at a zstd batch when nothing comes before it; otherwise the
    answer ends there, as it does at a batch that cannot be decoded (the next fetch begins with
    it). Offsets, timestamps and the timestamp type are kept; magic 0 has no timestamps.
    """
    out = bytearray()
    for pos, header in any_batches(data):
        if header.control:
            continue
        if header.magic <= magic:
            converted: Buffer = memoryview(data)[pos : pos + header.size]
        else:
            try:
                converted = _down(data, pos, header, magic, first_offset, limit)
            except (UnsupportedCompression, CorruptRecord, InvalidRecord):
                if out:
                    break
                raise
        if max_bytes is not None and out and len(out) + len(converted) > max_bytes:
            break
        out += converted
    return bytes(out)


def _down(
    data: Buffer, pos: int, header: AnyHeader, magic: int, first_offset: int, limit: int
) -> bytes:
    codec = header.codec
    if codec == ZSTD:
        raise UnsupportedCompression("zstd cannot be converted to message formats 0 and 1")
    records = any_records(data, pos, header, limit)
    if codec == NONE:
        records = (record for record in records if record.offset >= first_offset)
    return build_set(records, magic, codec=codec, append_time=header.append_time)


def build_set(
    records: Iterable[Record],
    magic: int,
    *,
    codec: int = NONE,
    level: int | None = None,
    append_time: bool = False,
) -> bytes:
    """A message set of ``records`` in magic 0 or 1, as one wrapper when there is a codec; headers
    are left out.

    With ``append_time`` (magic 1) the messages say LogAppendTime. Raises UnsupportedCompression.
    """
    attributes = APPEND_TIME if append_time and magic else 0
    chosen = list(records)
    if codec == NONE or not chosen:
        return b"".join(
            _message(r.offset, magic, attributes, r.timestamp, r.key, r.value) for r in chosen
        )
    base = chosen[0].offset if magic else 0
    inner = b"".join(
        _message(r.offset - base, magic, attributes, r.timestamp, r.key, r.value) for r in chosen
    )
    packed = compress(codec, inner, level, legacy_lz4=magic == 0)
    newest = max(record.timestamp for record in chosen)
    return _message(chosen[-1].offset, magic, attributes | codec, newest, None, packed)


def _message(
    offset: int,
    magic: int,
    attributes: int,
    timestamp: int,
    key: bytes | memoryview | None,
    value: bytes | memoryview | None,
) -> bytes:
    key_size = -1 if key is None else len(key)
    if magic:
        head = _V1.pack(magic, attributes, timestamp, key_size)
    else:
        head = _V0.pack(magic, attributes, key_size)
    body = b"".join(
        (head, key or b"", _SIZE.pack(-1 if value is None else len(value)), value or b"")
    )
    return b"".join((_INT64.pack(offset), _SIZE.pack(len(body) + 4), _CRC.pack(crc32(body)), body))
