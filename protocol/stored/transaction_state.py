"""Records of __transaction_state: one for each transactional id (KIP-98)."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from protocol.stored import versioned
from protocol.stored.versioned import RecordTypes, encode_key, encode_value
from protocol.wire import Buffer, Int8, Int16, Int32, Int64, String, since, tag

__all__ = [
    "RECORD_TYPES",
    "PartitionsSchema",
    "TransactionLogKey",
    "TransactionLogValue",
    "decode_key",
    "decode_value",
    "encode_key",
    "encode_value",
]


@dataclass(slots=True)
class TransactionLogKey:
    """The transactional id."""

    RECORD_TYPE: ClassVar[int] = 0
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    transactional_id: String = ""


@dataclass(slots=True)
class PartitionsSchema:
    topic: String = ""
    partition_ids: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class TransactionLogValue:
    """State of a transaction. Kafka 3.9 writes version 0, newer ones 1 (KIP-890, KIP-915)."""

    RECORD_TYPE: ClassVar[int] = 0
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 1

    producer_id: Int64 = 0
    previous_producer_id: Annotated[Int64, since(1), tag(0)] = -1
    next_producer_id: Annotated[Int64, since(1), tag(1)] = -1
    producer_epoch: Int16 = 0
    next_producer_epoch: Annotated[Int16, since(1), tag(3)] = -1
    transaction_timeout_ms: Int32 = 0
    transaction_status: Int8 = 0
    transaction_partitions: list[PartitionsSchema] | None = field(default_factory=list)
    transaction_last_update_timestamp_ms: Int64 = 0
    transaction_start_timestamp_ms: Int64 = 0
    client_transaction_version: Annotated[Int16, since(1), tag(2)] = 0


RECORD_TYPES: RecordTypes = {
    0: ("transaction_state", "TransactionLog"),
}
"""This topic's kinds of record, by the int16 that leads a key: module, and name without Key."""


def decode_key(data: Buffer) -> Any | None:
    """The key object, whose `RECORD_TYPE` is its kind; None for a kind that is not known."""
    return versioned.decode_key(RECORD_TYPES, data)


def decode_value(kind: int, data: Buffer | None) -> Any | None:
    """The value that belongs to a key of this kind; a tombstone (None) stays None."""
    return versioned.decode_value(RECORD_TYPES, kind, data)
