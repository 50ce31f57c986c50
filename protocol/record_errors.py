"""Refusals of records that carry more than a sentence.

``protocol.errors.CorruptRecord`` stands for bytes that are not what they claim to be
(CORRUPT_MESSAGE); the classes here are refusals of well-formed bytes, or of compressed bodies,
each with an error code of its own in Kafka.
"""

from collections.abc import Sequence

from protocol.errors import CorruptRecord


class InvalidRecord(Exception):
    """INVALID_RECORD (87): the batch can be read but breaks a rule, and is refused as a whole.

    ``record_errors`` lists ``(index in the batch, sentence)`` of the records at fault; empty when
    the batch itself is at fault. A Produce answer carries both from version 8 (KIP-467).
    """

    def __init__(self, message: str, record_errors: Sequence[tuple[int, str]] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.record_errors: list[tuple[int, str]] = list(record_errors)


class UnsupportedCompression(Exception):
    """UNSUPPORTED_COMPRESSION_TYPE (76): this version or message format cannot carry the codec."""


class UndecodableBody(CorruptRecord):
    """A compressed body that its codec cannot decode, or that decodes to more than the limit.

    Apache Kafka answers a Produce with such a body with UNKNOWN_SERVER_ERROR (-1), while a wrong
    checksum is CORRUPT_MESSAGE (2); whoever cares tells the two apart by this class.
    """


TIMESTAMPS_REJECTED = "One or more records have been rejected due to invalid timestamp"
"""What Apache Kafka says of the whole batch; programs look for this sentence."""


class TimestampOutOfRange(InvalidRecord):
    """INVALID_TIMESTAMP (32): records whose timestamps lie outside what the topic accepts."""
