"""Record batches of magic 2: the 61-byte header, without looking at the records.

A batch is ``base offset int64, length int32, leader epoch int32, magic int8, crc uint32``, then
what the CRC-32C covers: ``attributes int16, last offset delta int32, base timestamp int64, max
timestamp int64, producer id int64, producer epoch int16, base sequence int32, record count int32,
records``. Base offset and leader epoch lie outside the CRC, so a broker assigns both in place
(KIP-98 and Kafka's message format document).

The hot path reads one header with :func:`parse_header` (or the bare tuple of :data:`peek`), checks
:func:`crc_ok`, and calls :func:`patch`; nothing here touches or copies records except
:func:`build`.
"""

from collections.abc import Iterable, Iterator
from struct import Struct
from struct import error as struct_error
from typing import TYPE_CHECKING, NamedTuple

from protocol.crc import crc32c
from protocol.errors import CorruptRecord, Malformed
from protocol.wire import Buffer

if TYPE_CHECKING:
    from protocol.record import Record

HEADER_SIZE = 61
"""Bytes before the first record."""
LENGTH_END = 12
"""Bytes before what the length field counts: a batch is LENGTH_END + length bytes."""
MIN_LENGTH = HEADER_SIZE - LENGTH_END
CRC_START = 21
"""Offset of the first byte under the CRC (the attributes)."""

NO_TIMESTAMP = -1
NO_PRODUCER_ID = -1
NO_EPOCH = -1
NO_SEQUENCE = -1

CODEC_MASK = 0x07
APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
DELETE_HORIZON = 0x40

CONTROL_ABORT = 0
CONTROL_COMMIT = 1
CONTROL_LEADER_CHANGE = 2

MAX_INT32 = 0x7FFFFFFF

_HEADER = Struct(">qiibIhiqqqhii")
_INT64 = Struct(">q")
_INT32 = Struct(">i")
_LENGTH_TO_ATTRIBUTES = Struct(">iibIh")  # from byte 8
_CRC = Struct(">I")
_ATTRIBUTES = Struct(">h")
_CONTROL_KEY = Struct(">hh")
_END_TXN_VALUE = Struct(">hi")


class BatchHeader(NamedTuple):
    """The header of one batch as read; a tuple, because making one costs less than filling a slots
    class.

    Timestamps are milliseconds since the epoch, ``size`` and ``length`` bytes. Nothing is checked
    beyond what :func:`parse_header` says; in particular counts and deltas are what the sender
    claims.
    """

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return LENGTH_END + self.length

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def codec(self) -> int:
        return self.attributes & CODEC_MASK

    @property
    def append_time(self) -> bool:
        """Whether every record's timestamp is ``max_timestamp``, set by the broker
        (LogAppendTime)."""
        return bool(self.attributes & APPEND_TIME)

    @property
    def transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def control(self) -> bool:
        return bool(self.attributes & CONTROL)

    @property
    def delete_horizon(self) -> int | None:
        """When compaction may drop this batch's tombstones or markers, or None (KIP-534)."""
        return self.base_timestamp if self.attributes & DELETE_HORIZON else None

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record; sequences wrap from 2^31-1 to 0. NO_SEQUENCE without one."""
        if self.base_sequence == NO_SEQUENCE:
            return NO_SEQUENCE
        return (self.base_sequence + self.last_offset_delta) & MAX_INT32


_new = tuple.__new__
_unpack = _HEADER.unpack_from

peek = _unpack
"""``peek(data, pos=0) -> tuple`` of the 13 raw fields in :class:`BatchHeader`'s order, nothing
checked.

Raises ``struct.error`` when fewer than 61 bytes remain. The bare tuple costs two thirds of
:func:`parse_header`.
"""


def parse_header(data: Buffer, pos: int = 0) -> BatchHeader:
    """The header of the batch at ``pos``; the batch's body need not be there.

    Raises Malformed when fewer than 61 bytes remain, the magic is not 2 or the length is below a
    header's.
    """
    try:
        header = _new(BatchHeader, _unpack(data, pos))
    except struct_error:
        raise Malformed(f"{len(data) - pos} bytes left of a 61-byte batch header") from None
    if header[3] != 2:
        raise Malformed(f"record batch of magic {header[3]} where 2 is expected")
    if header[1] < MIN_LENGTH:
        raise Malformed(f"record batch of length {header[1]}, below the minimum {MIN_LENGTH}")
    return header


def batches(
    data: Buffer, pos: int = 0, end: int | None = None
) -> Iterator[tuple[int, BatchHeader]]:
    """``(pos, header)`` of each whole batch in ``data[pos:end]``; stops before a partial one at
    the end.

    Raises Malformed at a batch that is not of magic 2 or whose length is impossible.
    """
    if end is None:
        end = len(data)
    while end - pos >= HEADER_SIZE:
        header = parse_header(data, pos)
        following = pos + LENGTH_END + header[1]
        if following > end:
            return
        yield pos, header
        pos = following


def crc_ok(data: Buffer, pos: int, size: int) -> bool:
    """Whether the stored CRC-32C of the batch ``data[pos:pos + size]`` is that of its bytes.

    ``size`` (LENGTH_END + length) must not reach past the end of ``data``; the caller has checked
    that.
    """
    stored: int = _CRC.unpack_from(data, pos + 17)[0]
    return crc32c(memoryview(data)[pos + CRC_START : pos + size]) == stored


def patch(buffer: bytearray | memoryview, pos: int, base_offset: int, leader_epoch: int) -> None:
    """Assign base offset and partition leader epoch in place; the CRC stays right."""
    _INT64.pack_into(buffer, pos, base_offset)
    _INT32.pack_into(buffer, pos + 12, leader_epoch)


def set_max_timestamp(
    buffer: bytearray | memoryview, pos: int, max_timestamp: int, *, append_time: bool
) -> None:
    """Set max timestamp and timestamp type in place and, if that changed anything, recompute the
    CRC."""
    length, _, _, _, attributes = _LENGTH_TO_ATTRIBUTES.unpack_from(buffer, pos + 8)
    wanted = attributes | APPEND_TIME if append_time else attributes & ~APPEND_TIME
    if wanted == attributes and _INT64.unpack_from(buffer, pos + 35)[0] == max_timestamp:
        return
    _ATTRIBUTES.pack_into(buffer, pos + 21, wanted)
    _INT64.pack_into(buffer, pos + 35, max_timestamp)
    covered = memoryview(buffer)[pos + CRC_START : pos + LENGTH_END + length]
    _CRC.pack_into(buffer, pos + 17, crc32c(covered))


def set_append_time(buffer: bytearray | memoryview, pos: int, now_ms: int) -> None:
    """Make every record's timestamp ``now_ms`` (message.timestamp.type=LogAppendTime) and
    recompute the CRC."""
    set_max_timestamp(buffer, pos, now_ms, append_time=True)


def build(
    records: "Iterable[Record]",
    *,
    base_offset: int = 0,
    codec: int = 0,
    level: int | None = None,
    append_time: bool = False,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_EPOCH,
    base_sequence: int = NO_SEQUENCE,
    transactional: bool = False,
    control: bool = False,
    leader_epoch: int = NO_EPOCH,
    delete_horizon: int | None = None,
    last_offset_delta: int | None = None,
    base_timestamp: int | None = None,
    max_timestamp: int | None = None,
    renumber: bool = False,
) -> bytes:
    """A batch of ``records``, whose offsets are absolute (``renumber``: counted on from
    ``base_offset``).

    Defaults: base timestamp of the first record (or ``delete_horizon``, which lies in its place),
    max timestamp and last offset of the records; without any, NO_TIMESTAMP and last offset delta
    0. Raises UnsupportedCompression.
    """
    from protocol.compression import NONE, compress
    from protocol.record import encode_records

    attributes = (
        codec
        | append_time * APPEND_TIME
        | transactional * TRANSACTIONAL
        | control * CONTROL
        | (delete_horizon is not None) * DELETE_HORIZON
    )
    if delete_horizon is not None:
        base_timestamp = delete_horizon
    encoded = encode_records(records, base_offset, base_timestamp, renumber=renumber)
    body = encoded.body
    if codec != NONE and encoded.record_count:
        body = compress(codec, body, level)
    if last_offset_delta is None:
        last_offset_delta = max(encoded.last_offset_delta, 0)
    head = _HEADER.pack(
        base_offset,
        MIN_LENGTH + len(body),
        leader_epoch,
        2,
        0,
        attributes,
        last_offset_delta,
        encoded.base_timestamp,
        encoded.max_timestamp if max_timestamp is None else max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        encoded.record_count,
    )
    crc = crc32c(body, crc32c(head[CRC_START:]))
    return b"".join((head[:17], _CRC.pack(crc), head[CRC_START:], body))


def build_end_txn_marker(
    *,
    producer_id: int,
    producer_epoch: int,
    committed: bool,
    timestamp: int,
    coordinator_epoch: int = 0,
    base_offset: int = 0,
    leader_epoch: int = NO_EPOCH,
) -> bytes:
    """The control batch that ends a producer's transaction: one record, COMMIT or ABORT
    (KIP-98)."""
    from protocol.record import Record

    key = _CONTROL_KEY.pack(0, CONTROL_COMMIT if committed else CONTROL_ABORT)
    value = _END_TXN_VALUE.pack(0, coordinator_epoch)
    return build(
        (Record(base_offset, timestamp, key, value),),
        base_offset=base_offset,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        transactional=True,
        control=True,
        leader_epoch=leader_epoch,
    )


def control_type(data: Buffer, pos: int, header: BatchHeader) -> int | None:
    """The type of the control batch at ``pos`` (CONTROL_ABORT, ...); None when compaction left it
    empty.

    Types unknown here are returned as they are. Raises InvalidRecord or CorruptRecord when it
    cannot be read.
    """
    record = _first_record(data, pos, header)
    return None if record is None else _control_type(record)


def end_txn_marker(data: Buffer, pos: int, header: BatchHeader) -> tuple[bool, int] | None:
    """``(committed, coordinator epoch)`` of the control batch at ``pos``, None when it is another
    kind or empty."""
    record = _first_record(data, pos, header)
    if record is None or (kind := _control_type(record)) not in (CONTROL_ABORT, CONTROL_COMMIT):
        return None
    value = record.value or b""
    if len(value) < _END_TXN_VALUE.size:
        raise CorruptRecord(f"transaction marker with a value of {len(value)} bytes")
    return kind == CONTROL_COMMIT, _END_TXN_VALUE.unpack_from(value)[1]


_CONTROL_LIMIT = 1 << 20


def _first_record(data: Buffer, pos: int, header: BatchHeader) -> "Record | None":
    from protocol.record import records_of

    return next(records_of(data, pos, header, _CONTROL_LIMIT), None)


def _control_type(record: "Record") -> int:
    key = record.key or b""
    if len(key) < _CONTROL_KEY.size:
        raise CorruptRecord(f"control record with a key of {len(key)} bytes")
    version, kind = _CONTROL_KEY.unpack_from(key)
    if version < 0:
        raise CorruptRecord(f"control record key of version {version}")
    return int(kind)
