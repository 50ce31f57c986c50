"""What a Produce request may carry, whatever its partitions are (`broker.handlers.produce`)."""

from struct import Struct

from protocol.errors import ErrorCode
from protocol.produce_wire import PartitionResult, RequestTopic

NONE = int(ErrorCode.NONE)
MIN_BATCH = 14
MAX_INT32 = 0x7FFFFFFF
TRANSACTIONAL = 0x10
LENGTH_END = 12
MAGIC_AT = 16
ATTRIBUTES_AT = 22  # the low byte
CODEC_MASK = 0x07
ZSTD = 4
ZSTD_SINCE = 7

Batch = memoryview | None
"""What a request carries for one partition."""

# Bytes 8 to 23 of a batch: length, leader epoch, magic, CRC, attributes.
_LENGTH_TO_ATTRIBUTES = Struct(">iibIh").unpack_from


def whole_refusal(topics: list[RequestTopic], transactional_id: str | None) -> int:
    """Why no partition at all is served. Apache Kafka looks at the first batch of each in turn, for
    one that is transactional, and gives up at bytes that cannot begin a batch.
    """
    for _, _, _, partitions in topics:
        for _, records in partitions:
            if records is None or len(records) < LENGTH_END:
                continue
            length = int.from_bytes(records[8:LENGTH_END], "big", signed=True)
            if length < MIN_BATCH:
                return ErrorCode.CORRUPT_MESSAGE
            if len(records) <= MAGIC_AT:
                continue
            if records[MAGIC_AT] > 2:
                return ErrorCode.CORRUPT_MESSAGE
            if length > MAX_INT32 - LENGTH_END:
                return ErrorCode.UNKNOWN_SERVER_ERROR
            whole = len(records) >= length + LENGTH_END and length + LENGTH_END > ATTRIBUTES_AT
            if whole and records[MAGIC_AT] == 2 and records[ATTRIBUTES_AT] & TRANSACTIONAL:
                none = transactional_id is None
                return ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED if none else NONE
    return NONE


def each_once(
    topics: list[RequestTopic],
) -> tuple[list[RequestTopic], dict[tuple[bytes, int], list[Batch]]]:
    """Every topic that has partitions, and every partition, once, with its last records; and all
    records of the partitions named several times, by encoded topic and index.
    """
    more: dict[tuple[bytes, int], list[Batch]] = {}
    if len(topics) == 1 and len(topics[0][3]) == 1:
        return topics, more
    merged: dict[bytes, tuple[str, bytes, dict[int, Batch]]] = {}
    for raw, name, topic_id, partitions in topics:
        if not partitions:
            continue
        found = merged.setdefault(raw, (name, topic_id, {}))[2]
        for index, records in partitions:
            if index in found:
                more.setdefault((raw, index), [found[index]]).append(records)
            found[index] = records
    each = [(raw, name, id_, list(found.items())) for raw, (name, id_, found) in merged.items()]
    return each, more


def check_records(records: memoryview | None, version: int, result: PartitionResult) -> int:
    """What a request of this version may carry for a partition (Apache Kafka's
    ProduceRequest.validateRecords): a code, its sentence goes into `result`.
    """
    if records is None:
        return ErrorCode.INVALID_RECORD
    if version < 3:
        return NONE
    size = len(records)
    if size < MIN_BATCH + 12:
        return ErrorCode.INVALID_RECORD
    length, _, magic, _, attributes = _LENGTH_TO_ATTRIBUTES(records, 8)
    if length + LENGTH_END > size or magic != 2:
        result.error_message = "A request of this version carries one batch of magic 2."
        return ErrorCode.INVALID_RECORD
    codec = attributes & CODEC_MASK
    if version < ZSTD_SINCE and codec >= ZSTD:
        known = codec == ZSTD
        return ErrorCode.UNSUPPORTED_COMPRESSION_TYPE if known else ErrorCode.UNKNOWN_SERVER_ERROR
    end = length + LENGTH_END
    return _check_rest(records[end:], result) if end < size else NONE


def _check_rest(rest: memoryview, result: PartitionResult) -> int:
    """What follows the first batch; the torn begin of another is ignored, as Apache Kafka
    does.
    """
    if len(rest) < MIN_BATCH:
        return NONE
    length = int.from_bytes(rest[8:LENGTH_END], "big", signed=True)
    if length < MIN_BATCH:
        return ErrorCode.CORRUPT_MESSAGE
    if len(rest) <= MAGIC_AT:
        return NONE
    if rest[MAGIC_AT] > 2:
        return ErrorCode.CORRUPT_MESSAGE
    if len(rest) < length + LENGTH_END:
        return NONE
    result.error_message = "A request carries one batch for a partition, not several."
    return ErrorCode.INVALID_RECORD
