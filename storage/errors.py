"""What a log refuses, and what may happen to its files.

Refusals that the protocol package knows too (records that break a rule) derive from its classes, so
either name catches them. `broker.errors` says which error code a client sees.
"""

from __future__ import annotations

from protocol import record_errors
from protocol.errors import CorruptRecord

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
    "UnexpectedAppendOffset",
    "UnknownProducerId",
    "UnsupportedCompression",
    "UnsupportedMessageFormat",
]


class StorageError(Exception):
    """Base of everything this package raises on its own account."""


class InvalidRecord(StorageError, record_errors.InvalidRecord):
    """A batch that breaks a rule; `record_errors` lists (index, sentence) of records at fault."""


class InvalidTimestamp(InvalidRecord, record_errors.TimestampOutOfRange):
    """Records older or newer than message.timestamp.before/after.max.ms allow."""


class UnsupportedCompression(StorageError, record_errors.UnsupportedCompression):
    """A codec that the record format cannot carry."""


class OffsetOutOfRange(StorageError):
    """An offset below the log start or above the log end."""


class RecordTooLarge(StorageError):
    """A batch above max.message.bytes."""


class RecordBatchTooLarge(StorageError):
    """A batch that does not fit into a segment (segment.bytes)."""


class OutOfOrderSequence(StorageError):
    """An idempotent producer left out sequence numbers."""


class DuplicateSequence(StorageError):
    """A batch older than those remembered was sent again."""


class InvalidProducerEpoch(StorageError):
    """A newer incarnation of this producer has written already."""


class UnknownProducerId(StorageError):
    """Nothing is known of this producer id."""


class InvalidTxnState(StorageError):
    """A batch that does not fit the transaction in progress."""


class CoordinatorFenced(StorageError):
    """A marker from a coordinator that has been replaced."""


class LogDirOffline(StorageError):
    """The log directory failed (IO error, full disk); its logs take and give nothing any more."""


class UnsupportedMessageFormat(StorageError):
    """Records of magic 0 or 1 where only magic 2 is taken."""


class InconsistentTopicId(StorageError):
    """The log on disk belongs to another topic of the same name."""


class UnexpectedAppendOffset(StorageError):
    """Replicated batches that begin below the log end: the follower has to truncate first."""
