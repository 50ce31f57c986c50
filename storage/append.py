"""What a batch must be before it is appended: everything but the ordinary case.

The ordinary case (`Log.stage` itself) looks at header fields and the CRC only. Here: topics with
LogAppendTime, a codec of their own, keys needed or limits on timestamps; transactional and control
batches; and whatever the ordinary case would not take, to say what is wrong with it, in the order
in which Apache Kafka looks.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from protocol import batch as batches
from protocol.batch import APPEND_TIME, CRC_START, HEADER_SIZE, LENGTH_END, BatchHeader, peek
from protocol.compression import GZIP, LZ4, NONE, SNAPPY, ZSTD
from protocol.crc import crc32c
from protocol.record_errors import TIMESTAMPS_REJECTED, TimestampOutOfRange, UndecodableBody
from protocol.record_errors import InvalidRecord as RecordsAtFault
from storage.config import LONG_MAX, LogConfig
from storage.errors import CorruptRecord, InvalidRecord, InvalidTimestamp, RecordTooLarge

DECOMPRESSED_LIMIT: Final = 1 << 28
"""Bytes that one compressed batch may hold when its records have to be looked at."""

LEAST_RECORD: Final = 7
"""Bytes of the shortest record."""

CODECS: Final = {"uncompressed": NONE, "gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}


class Appended(NamedTuple):
    """Where a batch went. `log_append_time_ms` is -1 with CreateTime.

    Of a `duplicate` the offsets are those of the first time, and the append time is that batch's
    largest timestamp (as Kafka answers). Offsets below `Log.end_offset` are written.
    """

    base_offset: int
    last_offset: int
    log_append_time_ms: int
    log_start_offset: int
    duplicate: bool
    first_timestamp: int
    max_timestamp: int


def is_plain(config: LogConfig) -> bool:
    """Whether batches of this topic need no more than their headers looked at."""
    return (
        config.compression_type == "producer"
        and config.message_timestamp_type == "CreateTime"
        and not config.compact
        and config.message_timestamp_before_max_ms == LONG_MAX
        and config.message_timestamp_after_max_ms == LONG_MAX
    )


def examine(
    batch: memoryview, config: LogConfig, now_ms: int, origin: str
) -> tuple[memoryview, BatchHeader, int]:
    """The batch as it is to be stored, its header, and its append time (-1 for CreateTime).

    Raises CorruptRecord, InvalidRecord, InvalidTimestamp, RecordTooLarge, UnsupportedCompression.
    """
    header = _checked_header(batch, config, origin)
    client = origin == "client"
    if client:
        _check_client_batch(header)
    append_time = config.message_timestamp_type == "LogAppendTime"
    if client and append_time and header.attributes & APPEND_TIME:
        raise _not_the_clients(header, len(batch))
    if client and (config.compact or _limits_timestamps(config)) and not append_time:
        _check_records(batch, header, config, now_ms)
    elif client and config.compact:
        _check_records(batch, header, config, None)
    batch = _in_codec(batch, header, config)
    stamp = -1
    if append_time:
        batches.set_append_time(batch, 0, now_ms)
        stamp = now_ms
    elif header.attributes & APPEND_TIME:
        batches.set_max_timestamp(batch, 0, header.max_timestamp, append_time=False)
    if len(batch) > config.max_message_bytes:
        raise _too_large(len(batch), config)
    return batch, batches.parse_header(batch), stamp


def _checked_header(batch: memoryview, config: LogConfig, origin: str) -> BatchHeader:
    size = len(batch)
    if size < HEADER_SIZE:
        raise CorruptRecord(f"A record batch of {size} bytes is too short.")
    header = BatchHeader(*peek(batch))
    if header.magic != 2:
        raise InvalidRecord(f"A record batch of magic {header.magic} where 2 is expected.")
    if header.base_offset != 0 and origin == "client":
        raise InvalidRecord(f"The base offset of a batch must be 0, not {header.base_offset}.")
    if LENGTH_END + header.length != size:
        raise CorruptRecord(f"A record batch of {size} bytes tells a length of {header.length}.")
    if size > config.max_message_bytes:
        raise _too_large(size, config)
    if crc32c(batch[CRC_START:]) != header.crc:
        raise CorruptRecord("The CRC of the record batch is wrong.")
    return header


def _too_large(size: int, config: LogConfig) -> RecordTooLarge:
    return RecordTooLarge(
        f"The record batch of {size} bytes is larger than max.message.bytes, "
        f"{config.max_message_bytes}."
    )


def _not_the_clients(header: BatchHeader, size: int) -> InvalidTimestamp:
    """Append times are the broker's: every record is at fault (no more of them than fit in)."""
    sentence = "The batch says that its timestamps are append times."
    count = min(header.record_count, (size - HEADER_SIZE) // LEAST_RECORD)
    return InvalidTimestamp(TIMESTAMPS_REJECTED, [(index, sentence) for index in range(count)])


def _check_client_batch(header: BatchHeader) -> None:
    count = header.record_count
    if header.last_offset_delta < 0:
        raise InvalidRecord(f"The last offset delta of the batch is {header.last_offset_delta}.")
    if count <= 0 or header.last_offset_delta + 1 != count:
        raise InvalidRecord(
            f"The batch tells {count} records and a last offset delta of "
            f"{header.last_offset_delta}."
        )
    if header.control:
        raise InvalidRecord("Clients are not allowed to write control records.")
    if header.producer_id >= 0 and header.base_sequence < 0:
        raise InvalidRecord(
            f"The batch of producer {header.producer_id} has sequence {header.base_sequence}."
        )
    if header.codec > ZSTD:
        raise UndecodableBody(f"Unknown compression codec {header.codec}.")


def _limits_timestamps(config: LogConfig) -> bool:
    return (
        config.message_timestamp_before_max_ms != LONG_MAX
        or config.message_timestamp_after_max_ms != LONG_MAX
    )


def _check_records(
    batch: memoryview, header: BatchHeader, config: LogConfig, now_ms: int | None
) -> None:
    """Reads every record: keys of compacted topics; create times when `now_ms` is given."""
    from protocol.record import validate

    limits = None
    if now_ms is not None:
        limits = (
            now_ms - config.message_timestamp_before_max_ms,
            now_ms + config.message_timestamp_after_max_ms,
        )
    try:
        validate(
            batch,
            0,
            header,
            DECOMPRESSED_LIMIT,
            keys_needed=config.compact,
            timestamps=limits,
        )
    except TimestampOutOfRange as error:
        raise InvalidTimestamp(error.message, error.record_errors) from None
    except RecordsAtFault as error:
        raise InvalidRecord(error.message, error.record_errors) from None


def _in_codec(batch: memoryview, header: BatchHeader, config: LogConfig) -> memoryview:
    """The batch in the topic's codec."""
    if config.compression_type == "producer":
        return batch
    codec = CODECS[config.compression_type]
    if codec == header.codec or header.control:
        return batch
    from protocol.record import recompress

    levels = {
        GZIP: config.compression_gzip_level,
        LZ4: config.compression_lz4_level,
        ZSTD: config.compression_zstd_level,
    }
    return memoryview(recompress(batch, 0, header, codec, levels.get(codec), DECOMPRESSED_LIMIT))
