"""Produce read and written by hand, for the hot path: the same bytes as the declaration in
`messages/produce.py`.

A test holds the two against each other for every version. The reader yields tuples and leaves
records where they are; a topic keeps its encoded name (or id), which the answer repeats byte for
byte.
"""

from collections.abc import Sequence
from struct import Struct
from struct import error as struct_error

from protocol.compiler import read_uvarint, write_uvarint
from protocol.errors import Malformed
from protocol.leader_wire import write_endpoints, write_leader
from protocol.wire import ZERO_UUID

FLEXIBLE_SINCE = 9
TOPIC_IDS_SINCE = 13

RequestTopic = tuple[bytes, str, bytes, list[tuple[int, memoryview | None]]]
"""Encoded name or id, name ("" for ids), id (zero for names), [(index, records)]."""

_INT16 = Struct(">h")
_INT32 = Struct(">i")
_ACKS = Struct(">hi")
_ACKS_COUNT = Struct(">hii")
_INDEX_LENGTH = Struct(">ii")
_FIXED = Struct(">ihqqq")  # index, error, base offset, append time, log start
_FIXED_V2 = Struct(">ihqq")
_FIXED_V0 = Struct(">ihq")


_ONE_START = Struct(">hhih").unpack_from  # API key, version, correlation id, client id's length
_ONE_TOPIC = Struct(">BBhiBB").unpack_from  # tags, id, acks, timeout, topics, length of the name
_ONE_PARTITION = Struct(">BiB").unpack_from  # partitions, index, length of the records
_ONE_ANSWER_HEAD = Struct(">iiBB").pack  # frame length, correlation id, tags, topics
_ONE_ANSWER = Struct(">Bihqqq9s").pack  # partitions, index, error, offsets and times, the rest
_ONE_REST = b"\x01\0\0\0\0\0\0\0\0"
"""No record errors, no message, the partition's and topic's tags, throttle time 0, tags."""

One = tuple[int, int, int, bytes, str, int, memoryview, bool]
"""Correlation id, acks, timeout in ms, encoded name, name, partition, records, and whether there is
a transactional id."""


def read_one(frame: memoryview) -> One | None:
    """A request frame of version 9 to 12, header included, that has the shape nearly all have: one
    topic, one partition, no tags. None for every other shape, also for bytes that are no request:
    `decode_request` tells these apart.
    """
    try:
        _, _, correlation_id, length = _ONE_START(frame)
        if length < -1:
            return None
        pos = 10 + length if length > 0 else 10
        tags, transactional, acks, timeout_ms, topics, length = _ONE_TOPIC(frame, pos)
        if transactional:
            if transactional > 127:
                return None
            pos += transactional - 1
            _, _, acks, timeout_ms, topics, length = _ONE_TOPIC(frame, pos)
        if tags or topics != 2 or not 0 < length < 128:
            return None
        start = pos + 9
        pos = start + length
        partitions, index, size = _ONE_PARTITION(frame, pos)
        if partitions != 2:
            return None
        pos += 6
        if size > 127:
            size, pos = read_uvarint(frame, pos - 1)
        end = pos + size - 1
        if size == 0 or frame[end : end + 3] != b"\0\0\0":  # type: ignore[comparison-overlap]
            return None
    except (struct_error, IndexError, Malformed):
        return None
    raw = bytes(frame[start : start + length])
    name = str(raw[1:], "utf-8", "replace")
    return correlation_id, acks, timeout_ms, raw, name, index, frame[pos:end], transactional > 0


def write_one(
    correlation_id: int, raw: bytes, index: int, base_offset: int, append_time: int, log_start: int
) -> bytes:
    """The answer frame, its length in front, to what `read_one` read, when all went well."""
    body = _ONE_ANSWER(2, index, 0, base_offset, append_time, log_start, _ONE_REST)
    return _ONE_ANSWER_HEAD(len(raw) + 46, correlation_id, 0, 2) + raw + body


class PartitionResult:
    """What is answered for one partition. Record errors are (index in the batch, message)."""

    __slots__ = (
        "base_offset",
        "current_leader",
        "error_code",
        "error_message",
        "index",
        "log_append_time_ms",
        "log_start_offset",
        "record_errors",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.error_code = 0
        self.base_offset = -1
        self.log_append_time_ms = -1
        self.log_start_offset = -1
        self.record_errors: list[tuple[int, str | None]] | None = None
        self.error_message: str | None = None
        self.current_leader: tuple[int, int] | None = None
        """Id and epoch, from version 10 on."""


TopicResult = tuple[bytes, list[PartitionResult]]


def decode_request(
    data: memoryview, pos: int, version: int
) -> tuple[str | None, int, int, list[RequestTopic]]:
    """(transactional id, acks, timeout in ms, topics). Raises Malformed."""
    try:
        if version >= FLEXIBLE_SINCE:
            decoded, pos = _decode_flexible(data, pos, version)
        else:
            decoded, pos = _decode_plain(data, pos, version)
    except (struct_error, IndexError) as error:
        raise Malformed(f"a produce request ends early: {error}") from None
    if pos > len(data):
        raise Malformed("a produce request ends early")
    return decoded


def _decode_flexible(
    data: memoryview, pos: int, version: int
) -> tuple[tuple[str | None, int, int, list[RequestTopic]], int]:
    transactional_id = None
    length = data[pos]
    pos += 1
    if length:
        length, pos = read_uvarint(data, pos - 1)
        transactional_id = _text(data, pos, length - 1)
        pos += length - 1
    acks, timeout_ms = _ACKS.unpack_from(data, pos)
    count, pos = read_uvarint(data, pos + 6)
    count = _count(data, pos, count - 1)
    topics: list[RequestTopic] = []
    for _ in range(count):
        start = pos
        if version >= TOPIC_IDS_SINCE:
            pos += 16
            raw = topic_id = bytes(data[start:pos])
            name = ""
        else:
            length, pos = read_uvarint(data, pos)
            name = _text(data, pos, length - 1)
            pos += length - 1
            raw = bytes(data[start:pos])
            topic_id = ZERO_UUID
        inner, pos = read_uvarint(data, pos)
        partitions: list[tuple[int, memoryview | None]] = []
        for _ in range(_count(data, pos, inner - 1)):
            (index,) = _INT32.unpack_from(data, pos)
            length, pos = read_uvarint(data, pos + 4)
            records, pos = _records(data, pos, length - 1)
            partitions.append((index, records))
            pos = pos + 1 if data[pos] == 0 else _skip_tags(data, pos)
        topics.append((raw, name, topic_id, partitions))
        pos = pos + 1 if data[pos] == 0 else _skip_tags(data, pos)
    pos = pos + 1 if data[pos] == 0 else _skip_tags(data, pos)
    return (transactional_id, acks, timeout_ms, topics), pos


def _decode_plain(
    data: memoryview, pos: int, version: int
) -> tuple[tuple[str | None, int, int, list[RequestTopic]], int]:
    transactional_id = None
    if version >= 3:
        (length,) = _INT16.unpack_from(data, pos)
        pos += 2
        if length != -1:
            transactional_id = _text(data, pos, length)
            pos += length
    acks, timeout_ms, count = _ACKS_COUNT.unpack_from(data, pos)
    pos += 10
    topics: list[RequestTopic] = []
    for _ in range(_count(data, pos, count)):
        start = pos
        (length,) = _INT16.unpack_from(data, pos)
        name = _text(data, pos + 2, length)
        pos += 2 + length
        raw = bytes(data[start:pos])
        (inner,) = _INT32.unpack_from(data, pos)
        pos += 4
        partitions: list[tuple[int, memoryview | None]] = []
        for _ in range(_count(data, pos, inner)):
            index, length = _INDEX_LENGTH.unpack_from(data, pos)
            records, pos = _records(data, pos + 8, length)
            partitions.append((index, records))
        topics.append((raw, name, ZERO_UUID, partitions))
    return (transactional_id, acks, timeout_ms, topics), pos


def _text(data: memoryview, pos: int, length: int) -> str:
    if length < 0 or length > 32767:
        raise Malformed("a string is null, negative or too long")
    if pos + length > len(data):
        raise Malformed("a string is cut off")
    return str(data[pos : pos + length], "utf-8", "replace")


def _count(data: memoryview, pos: int, count: int) -> int:
    if count < 0 or count > len(data) - pos:
        raise Malformed("an array is null, negative or longer than its bytes")
    return count


def _records(data: memoryview, pos: int, length: int) -> tuple[memoryview | None, int]:
    if length < 0:
        if length != -1:
            raise Malformed("records have a negative length")
        return None, pos
    end = pos + length
    if end > len(data):
        raise Malformed("records are cut off")
    return data[pos:end], end


def _skip_tags(data: memoryview, pos: int) -> int:
    count, pos = read_uvarint(data, pos)
    for _ in range(count):
        _, pos = read_uvarint(data, pos)
        size, pos = read_uvarint(data, pos)
        pos += size
        if pos > len(data):
            raise Malformed("a tagged field is cut off")
    return pos


def encode_response(
    out: bytearray,
    correlation_id: int,
    version: int,
    topics: list[TopicResult],
    endpoints: Sequence[tuple[int, str, int, str | None]] = (),
) -> None:
    """Appends response header and body. Current leaders and the brokers they are (id, host, port,
    rack) are for version 10 and later."""
    out += _INT32.pack(correlation_id)
    if version >= FLEXIBLE_SINCE:
        out.append(0)
        _encode_flexible(out, topics)
        write_endpoints(out, endpoints)
    else:
        _encode_plain(out, version, topics)


def _encode_flexible(out: bytearray, topics: list[TopicResult]) -> None:
    write_uvarint(out, len(topics) + 1)
    for raw, partitions in topics:
        out += raw
        write_uvarint(out, len(partitions) + 1)
        for p in partitions:
            out += _FIXED.pack(
                p.index, p.error_code, p.base_offset, p.log_append_time_ms, p.log_start_offset
            )
            leader = p.current_leader
            if p.record_errors is None and p.error_message is None and leader is None:
                out += b"\x01\x00\x00"
                continue
            errors = p.record_errors or ()
            write_uvarint(out, len(errors) + 1)
            for index, message in errors:
                out += _INT32.pack(index)
                _compact(out, message)
                out.append(0)
            _compact(out, p.error_message)
            if leader is None:
                out.append(0)
            else:
                out.append(1)
                write_leader(out, 0, leader)
        out.append(0)
    out += b"\0\0\0\0"


def _compact(out: bytearray, text: str | None) -> None:
    if text is None:
        out.append(0)
        return
    encoded = text.encode()
    write_uvarint(out, len(encoded) + 1)
    out += encoded


def _encode_plain(out: bytearray, version: int, topics: list[TopicResult]) -> None:
    out += _INT32.pack(len(topics))
    for raw, partitions in topics:
        out += raw
        out += _INT32.pack(len(partitions))
        for p in partitions:
            if version >= 5:
                out += _FIXED.pack(
                    p.index, p.error_code, p.base_offset, p.log_append_time_ms, p.log_start_offset
                )
            elif version >= 2:
                out += _FIXED_V2.pack(p.index, p.error_code, p.base_offset, p.log_append_time_ms)
            else:
                out += _FIXED_V0.pack(p.index, p.error_code, p.base_offset)
            if version >= 8:
                errors = p.record_errors or ()
                out += _INT32.pack(len(errors))
                for index, message in errors:
                    out += _INT32.pack(index)
                    _plain(out, message)
                _plain(out, p.error_message)
    if version >= 1:
        out += b"\0\0\0\0"


def _plain(out: bytearray, text: str | None) -> None:
    if text is None:
        out += b"\xff\xff"
        return
    encoded = text.encode()
    out += _INT16.pack(len(encoded))
    out += encoded
