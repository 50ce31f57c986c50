"""What a partition log refuses, and the error code that each refusal has in a response.

Refusals of records that are found while reading them (`InvalidRecord`, `InvalidTimestamp`,
`CorruptRecord`, `UnsupportedCompression`) come from `protocol` and are named here once more.
"""

from typing import ClassVar, Final

from protocol.errors import CorruptRecord, ErrorCode, Malformed
from protocol.record_errors import (
    InvalidRecord,
    TimestampOutOfRange,
    UndecodableBody,
    UnsupportedCompression,
)

__all__ = [
    "CoordinatorFenced",
    "CorruptRecord",
    "DuplicateSequence",
    "InconsistentTopicId",
    "InvalidProducerEpoch",
    "InvalidRecord",
    "InvalidTimestamp",
    "InvalidTxnState",
    "LogDirOffline",
    "OffsetOutOfRange",
    "OutOfOrderSequence",
    "RecordBatchTooLarge",
    "RecordTooLarge",
    "StorageError",
    "UndecodableBody",
    "UnexpectedAppendOffset",
    "UnknownProducerId",
    "UnsupportedCompression",
    "UnsupportedMessageFormat",
    "error_code",
]

InvalidTimestamp = TimestampOutOfRange
"""INVALID_TIMESTAMP (32); an InvalidRecord, `record_errors` names the records."""


class StorageError(Exception):
    """Base of what this package raises itself. `code` is what a client is told."""

    code: ClassVar[ErrorCode] = ErrorCode.UNKNOWN_SERVER_ERROR


class OffsetOutOfRange(StorageError):
    """The offset is below the log start offset or above the log end (or the high watermark)."""

    code = ErrorCode.OFFSET_OUT_OF_RANGE


class RecordTooLarge(StorageError):
    """A batch larger than max.message.bytes."""

    code = ErrorCode.MESSAGE_TOO_LARGE


class RecordBatchTooLarge(StorageError):
    """A batch larger than a whole segment (segment.bytes)."""

    code = ErrorCode.RECORD_LIST_TOO_LARGE


class OutOfOrderSequence(StorageError):
    """An idempotent producer's batch does not follow the one before it."""

    code = ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


class DuplicateSequence(StorageError):
    """A batch that was appended before but is too old to tell where."""

    code = ErrorCode.DUPLICATE_SEQUENCE_NUMBER


class InvalidProducerEpoch(StorageError):
    """A producer of an older epoch: another one with its transactional id took over."""

    code = ErrorCode.INVALID_PRODUCER_EPOCH


class UnknownProducerId(StorageError):
    """Nothing is known of the producer id any more."""

    code = ErrorCode.UNKNOWN_PRODUCER_ID


class InvalidTxnState(StorageError):
    """A batch outside of the transaction that its producer has open."""

    code = ErrorCode.INVALID_TXN_STATE


class CoordinatorFenced(StorageError):
    """A transaction marker of a former coordinator."""

    code = ErrorCode.TRANSACTION_COORDINATOR_FENCED


class LogDirOffline(StorageError):
    """The log directory failed (IO error, full disk): KAFKA_STORAGE_ERROR, retriable elsewhere."""

    code = ErrorCode.KAFKA_STORAGE_ERROR


class UnsupportedMessageFormat(StorageError):
    """A feature that batches of magic 0 and 1 cannot carry."""

    code = ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT


class InconsistentTopicId(StorageError):
    """The directory belongs to another topic of the same name."""

    code = ErrorCode.INCONSISTENT_TOPIC_ID


class UnexpectedAppendOffset(StorageError):
    """Replicated batches that begin below the log end: the follower has to truncate first."""


_CODES: Final[tuple[tuple[type[Exception], ErrorCode], ...]] = (
    (InvalidTimestamp, ErrorCode.INVALID_TIMESTAMP),
    (InvalidRecord, ErrorCode.INVALID_RECORD),
    (UndecodableBody, ErrorCode.UNKNOWN_SERVER_ERROR),
    (CorruptRecord, ErrorCode.CORRUPT_MESSAGE),
    (Malformed, ErrorCode.CORRUPT_MESSAGE),
    (UnsupportedCompression, ErrorCode.UNSUPPORTED_COMPRESSION_TYPE),
)


def error_code(error: Exception) -> ErrorCode:
    """The code a client is told for anything that an append or a read raised."""
    if isinstance(error, StorageError):
        return error.code
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return ErrorCode.UNKNOWN_SERVER_ERROR
