"""Which error code a client sees for what the log refuses. One table; a test enumerates the
classes.
"""

from protocol import record_errors
from protocol.errors import CorruptRecord, ErrorCode, Malformed
from storage import errors

CODES: dict[type[Exception], ErrorCode] = {
    errors.OffsetOutOfRange: ErrorCode.OFFSET_OUT_OF_RANGE,
    errors.RecordTooLarge: ErrorCode.MESSAGE_TOO_LARGE,
    errors.RecordBatchTooLarge: ErrorCode.RECORD_LIST_TOO_LARGE,
    errors.InvalidTimestamp: ErrorCode.INVALID_TIMESTAMP,
    errors.InvalidRecord: ErrorCode.INVALID_RECORD,
    record_errors.InvalidRecord: ErrorCode.INVALID_RECORD,
    record_errors.TimestampOutOfRange: ErrorCode.INVALID_TIMESTAMP,
    record_errors.UnsupportedCompression: ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
    record_errors.UndecodableBody: ErrorCode.UNKNOWN_SERVER_ERROR,
    CorruptRecord: ErrorCode.CORRUPT_MESSAGE,
    Malformed: ErrorCode.CORRUPT_MESSAGE,
    errors.UnsupportedCompression: ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
    errors.OutOfOrderSequence: ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
    errors.DuplicateSequence: ErrorCode.DUPLICATE_SEQUENCE_NUMBER,
    errors.InvalidProducerEpoch: ErrorCode.INVALID_PRODUCER_EPOCH,
    errors.UnknownProducerId: ErrorCode.UNKNOWN_PRODUCER_ID,
    errors.InvalidTxnState: ErrorCode.INVALID_TXN_STATE,
    errors.CoordinatorFenced: ErrorCode.TRANSACTION_COORDINATOR_FENCED,
    errors.LogDirOffline: ErrorCode.KAFKA_STORAGE_ERROR,
    errors.UnsupportedMessageFormat: ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    errors.InconsistentTopicId: ErrorCode.INCONSISTENT_TOPIC_ID,
}


REFUSALS = (
    errors.StorageError,
    record_errors.InvalidRecord,
    record_errors.UnsupportedCompression,
    CorruptRecord,
    Malformed,
)
"""Everything that a log, or the conversion of records, refuses a request with."""


def code_of(error: Exception) -> ErrorCode:
    """The code for a refusal of the log; UNKNOWN_SERVER_ERROR for what is in no table."""
    for cls in type(error).__mro__:
        code = CODES.get(cls)
        if code is not None:
            return code
    return ErrorCode.UNKNOWN_SERVER_ERROR
