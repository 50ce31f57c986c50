"""Produce (key 0): records to be appended to partitions.

Versions: 1 throttle time (KIP-13); 2 timestamps, magic 1 (KIP-32); 3 magic 2 and the transactional
id (KIP-98); 4 KAFKA_STORAGE_ERROR (KIP-112); 5 log start offset (KIP-107); 6 throttling after the
answer (KIP-219); 7 zstd (KIP-110); 8 which records were refused (KIP-467); 9 flexible (KIP-482); 10
the new leader (KIP-951); 11 TRANSACTION_ABORTABLE and 12 partitions joining the transaction by
being produced to (KIP-890); 13 topic ids for names (KIP-516).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import (
    ZERO_UUID,
    Int16,
    Int32,
    Int64,
    NullableRecords,
    NullableString,
    String,
    Uuid,
    ignorable,
    since,
    tag,
    until,
)


@dataclass(slots=True)
class PartitionProduceData:
    index: Int32 = 0
    records: NullableRecords = None


@dataclass(slots=True)
class TopicProduceData:
    name: Annotated[String, until(12), ignorable] = ""
    topic_id: Annotated[Uuid, since(13), ignorable] = ZERO_UUID
    partition_data: list[PartitionProduceData] = field(default_factory=list)


@dataclass(slots=True)
class ProduceRequest:
    """Record batches by partition, with the acknowledgement wanted (-1, 0 or 1) and a time limit in
    ms.
    """

    API_KEY: ClassVar[int] = 0
    VERSIONS: ClassVar[tuple[int, int]] = (0, 13)
    FLEXIBLE_SINCE: ClassVar[int | None] = 9

    transactional_id: Annotated[NullableString, since(3)] = None
    acks: Int16 = 0
    timeout_ms: Int32 = 0
    topic_data: list[TopicProduceData] = field(default_factory=list)


@dataclass(slots=True)
class BatchIndexAndErrorMessage:
    batch_index: Int32 = 0
    batch_index_error_message: NullableString = None


@dataclass(slots=True)
class LeaderIdAndEpoch:
    leader_id: Int32 = -1
    leader_epoch: Int32 = -1


@dataclass(slots=True)
class PartitionProduceResponse:
    index: Int32 = 0
    error_code: Int16 = 0
    base_offset: Int64 = 0
    log_append_time_ms: Annotated[Int64, since(2), ignorable] = -1
    log_start_offset: Annotated[Int64, since(5), ignorable] = -1
    record_errors: Annotated[list[BatchIndexAndErrorMessage], since(8), ignorable] = field(
        default_factory=list
    )
    error_message: Annotated[NullableString, since(8), ignorable] = None
    current_leader: Annotated[LeaderIdAndEpoch, since(10), tag(0)] = field(
        default_factory=LeaderIdAndEpoch
    )


@dataclass(slots=True)
class TopicProduceResponse:
    name: Annotated[String, until(12), ignorable] = ""
    topic_id: Annotated[Uuid, since(13), ignorable] = ZERO_UUID
    partition_responses: list[PartitionProduceResponse] = field(default_factory=list)


@dataclass(slots=True)
class NodeEndpoint:
    node_id: Int32 = 0
    host: String = ""
    port: Int32 = 0
    rack: NullableString = None


@dataclass(slots=True)
class ProduceResponse:
    """The offset that each partition's batch got, or why it was refused."""

    API_KEY: ClassVar[int] = 0
    VERSIONS: ClassVar[tuple[int, int]] = (0, 13)
    FLEXIBLE_SINCE: ClassVar[int | None] = 9

    responses: list[TopicProduceResponse] = field(default_factory=list)
    throttle_time_ms: Annotated[Int32, since(1), ignorable] = 0
    node_endpoints: Annotated[list[NodeEndpoint], since(10), tag(0)] = field(default_factory=list)
