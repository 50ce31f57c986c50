"""TxnOffsetCommit (key 28): offsets committed as part of a transaction (KIP-98).

Versions: 1 throttling after the answer (KIP-219); 2 leader epochs (KIP-320); 3 flexible, member and
generation (KIP-447); 4 TRANSACTION_ABORTABLE and 5 offsets joining the transaction by being
committed (KIP-890); 6 topic ids for names (KIP-1319).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import (
    ZERO_UUID,
    Int16,
    Int32,
    Int64,
    NullableString,
    String,
    Uuid,
    ignorable,
    since,
    until,
)


@dataclass(slots=True)
class TxnOffsetCommitRequestPartition:
    partition_index: Int32 = 0
    committed_offset: Int64 = 0
    committed_leader_epoch: Annotated[Int32, since(2), ignorable] = -1
    committed_metadata: NullableString = ""


@dataclass(slots=True)
class TxnOffsetCommitRequestTopic:
    name: Annotated[String, until(5), ignorable] = ""
    topic_id: Annotated[Uuid, since(6), ignorable] = ZERO_UUID
    partitions: list[TxnOffsetCommitRequestPartition] = field(default_factory=list)


@dataclass(slots=True)
class TxnOffsetCommitRequest:
    """Offsets by partition, with the producer and the group's member."""

    API_KEY: ClassVar[int] = 28
    VERSIONS: ClassVar[tuple[int, int]] = (0, 6)
    FLEXIBLE_SINCE: ClassVar[int | None] = 3

    transactional_id: String = ""
    group_id: String = ""
    producer_id: Int64 = 0
    producer_epoch: Int16 = 0
    generation_id_or_member_epoch: Annotated[Int32, since(3)] = -1
    member_id: Annotated[String, since(3)] = ""
    group_instance_id: Annotated[NullableString, since(3)] = None
    topics: list[TxnOffsetCommitRequestTopic] = field(default_factory=list)


@dataclass(slots=True)
class TxnOffsetCommitResponsePartition:
    partition_index: Int32 = 0
    error_code: Int16 = 0


@dataclass(slots=True)
class TxnOffsetCommitResponseTopic:
    name: Annotated[String, until(5), ignorable] = ""
    topic_id: Annotated[Uuid, since(6), ignorable] = ZERO_UUID
    partitions: list[TxnOffsetCommitResponsePartition] = field(default_factory=list)


@dataclass(slots=True)
class TxnOffsetCommitResponse:
    """What became of each partition's offset."""

    API_KEY: ClassVar[int] = 28
    VERSIONS: ClassVar[tuple[int, int]] = (0, 6)
    FLEXIBLE_SINCE: ClassVar[int | None] = 3

    throttle_time_ms: Int32 = 0
    topics: list[TxnOffsetCommitResponseTopic] = field(default_factory=list)
