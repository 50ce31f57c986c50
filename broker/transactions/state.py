"""One transactional id: its state, and the record that keeps it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from broker.auto_topics import java_hash
from broker.coordinator import StoredRecord
from protocol.stored.versioned import encode_key, encode_value

NO_PRODUCER_ID: Final = -1
NO_EPOCH: Final = -1
NO_TIME: Final = -1
LAST_EPOCH: Final = 32766
"""The last epoch that a producer may have; the one after it is left for fencing it."""

TopicPartition = tuple[str, int]


class State(IntEnum):
    """Numbers as in the records."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6
    PREPARE_EPOCH_FENCE = 7

    @property
    def title(self) -> str:
        """As the APIs spell it: "PrepareCommit"."""
        return self.name.title().replace("_", "")


PREPARING: Final = frozenset((State.PREPARE_COMMIT, State.PREPARE_ABORT))
COMPLETE: Final = frozenset((State.COMPLETE_COMMIT, State.COMPLETE_ABORT))
IDLE: Final = COMPLETE | {State.EMPTY}
TITLES: Final = frozenset(state.title for state in State)


class EndMarkers(NamedTuple):
    """The end of a transaction, to be written into its partitions. `resumed`: by a coordinator that
    has just been loaded."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    committed: bool
    partitions: tuple[TopicPartition, ...]
    transaction_version: int
    resumed: bool = False


@dataclass(slots=True)
class Transaction:
    """What the coordinator knows of a transactional id. Times are ms since the epoch.

    `last_producer_epoch` (before it was last raised on the producer's own request, for a request
    that is sent again) is not in the record, nor is `previous_producer_id` in one of version 0:
    after a load they are not known.
    """

    transactional_id: str
    producer_id: int
    producer_epoch: int = NO_EPOCH
    timeout_ms: int = 0
    state: State = State.EMPTY
    partitions: frozenset[TopicPartition] = frozenset()
    start_ms: int = NO_TIME
    last_update_ms: int = NO_TIME
    previous_producer_id: int = NO_PRODUCER_ID
    next_producer_id: int = NO_PRODUCER_ID
    """With the epochs of `producer_id` at an end: the producer's id after this transaction."""
    client_version: int = 0
    """The version of transactions that the producer last used (KIP-890)."""
    last_producer_epoch: int = NO_EPOCH

    @property
    def exhausted(self) -> bool:
        """Whether the producer id has no epoch left."""
        return self.producer_epoch >= LAST_EPOCH

    @property
    def committed(self) -> bool:
        """Whether the transaction that ends, or ended last, was committed."""
        return self.state in (State.PREPARE_COMMIT, State.COMPLETE_COMMIT)

    @property
    def granted(self) -> tuple[int, int]:
        """The id and epoch that the producer goes on with."""
        if self.next_producer_id != NO_PRODUCER_ID:
            return self.next_producer_id, 0
        return self.producer_id, self.producer_epoch

    def markers(self, *, resumed: bool = False) -> EndMarkers:
        """What a transaction that is prepared still has to have written."""
        return EndMarkers(
            self.transactional_id,
            self.producer_id,
            self.producer_epoch,
            self.committed,
            tuple(sorted(self.partitions)),
            self.client_version,
            resumed,
        )


def by_topic(partitions: Iterable[TopicPartition]) -> dict[str, list[int]]:
    """Partitions of each topic, all in order."""
    topics: dict[str, list[int]] = {}
    for topic, index in sorted(partitions):
        topics.setdefault(topic, []).append(index)
    return topics


def _hashed(partitions: Iterable[TopicPartition]) -> list[tuple[str, list[int]]]:
    """As `by_topic`, in the order in which Java's hash tables iterate."""
    topics = by_topic(partitions)
    places = 16
    while sum(len(indexes) for indexes in topics.values()) > places * 3 // 4:
        places *= 2
    ordered = []
    for topic, indexes in topics.items():
        seed = java_hash(topic)
        indexes.sort(key=lambda index: _place(31 * (31 + index) + seed, places))
        ordered.append((_place(seed, 16), topic, indexes))
    return [(topic, indexes) for _, topic, indexes in sorted(ordered)]


def _place(hash_code: int, places: int) -> int:
    """Where in a table of that many places a key is kept."""
    code = hash_code & 0xFFFFFFFF
    return (code ^ code >> 16) & places - 1


def encode(transaction: Transaction, version: int) -> StoredRecord:
    """The record of a state. Version 0 is that of Apache Kafka 3.9, 1 is written once the cluster
    has `transaction.version` 1.

    Partitions are in the order of Apache Kafka 4's hash tables, so that records are the same.
    """
    from protocol.stored.transaction_state import (
        PartitionsSchema,
        TransactionLogKey,
        TransactionLogValue,
    )

    value = TransactionLogValue(
        producer_id=transaction.producer_id,
        producer_epoch=transaction.producer_epoch,
        transaction_timeout_ms=transaction.timeout_ms,
        transaction_status=transaction.state,
        transaction_partitions=None
        if transaction.state == State.EMPTY
        else [PartitionsSchema(*row) for row in _hashed(transaction.partitions)],
        transaction_last_update_timestamp_ms=transaction.last_update_ms,
        transaction_start_timestamp_ms=transaction.start_ms,
    )
    if version > 0:
        value.previous_producer_id = transaction.previous_producer_id
        value.next_producer_id = transaction.next_producer_id
        value.client_transaction_version = transaction.client_version
    key = TransactionLogKey(transaction.transactional_id)
    return StoredRecord(encode_key(key), encode_value(value, version))


def tombstone(transactional_id: str) -> StoredRecord:
    """The record that forgets a transactional id."""
    from protocol.stored.transaction_state import TransactionLogKey

    return StoredRecord(encode_key(TransactionLogKey(transactional_id)), None)


def decode_id(key: bytes) -> str | None:
    """The transactional id of a record's key; None for a kind of record of a later release."""
    from protocol.stored.transaction_state import decode_key

    found = decode_key(key)
    return None if found is None else str(found.transactional_id)


def decode(transactional_id: str, data: bytes) -> Transaction:
    """The state in a record's value. Raises Malformed for a version that nobody writes."""
    from protocol.stored.transaction_state import decode_value

    value = decode_value(0, data)
    assert value is not None
    return Transaction(
        transactional_id,
        value.producer_id,
        value.producer_epoch,
        value.transaction_timeout_ms,
        State(value.transaction_status),
        frozenset(
            (row.topic, index)
            for row in value.transaction_partitions or ()
            for index in row.partition_ids
        ),
        value.transaction_start_timestamp_ms,
        value.transaction_last_update_timestamp_ms,
        value.previous_producer_id,
        value.next_producer_id,
        value.client_transaction_version,
    )
