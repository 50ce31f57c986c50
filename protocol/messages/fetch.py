"""Fetch (key 1): records to be read from partitions, by consumers and by following brokers.

Versions: 1 throttle time (KIP-13); 2 magic 1 (KIP-32); 3 a limit for the whole answer (KIP-74); 4
isolation level and aborted transactions, magic 2 (KIP-98); 5 log start offset (KIP-107); 6
KAFKA_STORAGE_ERROR (KIP-112); 7 sessions (KIP-227); 8 throttling after the answer (KIP-219); 9
leader epoch fencing (KIP-320); 10 zstd (KIP-110); 11 rack and preferred replica (KIP-392); 12
flexible, divergence (KIP-595); 13 topic ids (KIP-516); 14 OFFSET_MOVED_TO_TIERED_STORAGE (KIP-405);
15 replica state (KIP-903); 16 endpoints of new leaders (KIP-951); 17 replica directory ids
(KIP-853); 18 the follower's high watermark (KIP-1166).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import (
    ZERO_UUID,
    Int8,
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
class ReplicaState:
    replica_id: Int32 = -1
    replica_epoch: Int64 = -1


@dataclass(slots=True)
class FetchPartition:
    partition: Int32 = 0
    current_leader_epoch: Annotated[Int32, since(9), ignorable] = -1
    fetch_offset: Int64 = 0
    last_fetched_epoch: Annotated[Int32, since(12)] = -1
    log_start_offset: Annotated[Int64, since(5), ignorable] = -1
    partition_max_bytes: Int32 = 0
    replica_directory_id: Annotated[Uuid, since(17), tag(0), ignorable] = ZERO_UUID
    high_watermark: Annotated[Int64, since(18), tag(1), ignorable] = 9223372036854775807


@dataclass(slots=True)
class FetchTopic:
    topic: Annotated[String, until(12), ignorable] = ""
    topic_id: Annotated[Uuid, since(13), ignorable] = ZERO_UUID
    partitions: list[FetchPartition] = field(default_factory=list)


@dataclass(slots=True)
class ForgottenTopic:
    topic: Annotated[String, until(12), ignorable] = ""
    topic_id: Annotated[Uuid, since(13), ignorable] = ZERO_UUID
    partitions: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class FetchRequest:
    """Where to read from, how much, and how long to wait for it; since version 7 relative to a
    session.
    """

    API_KEY: ClassVar[int] = 1
    VERSIONS: ClassVar[tuple[int, int]] = (0, 18)
    FLEXIBLE_SINCE: ClassVar[int | None] = 12

    cluster_id: Annotated[NullableString, since(12), tag(0), ignorable] = None
    replica_id: Annotated[Int32, until(14)] = -1
    replica_state: Annotated[ReplicaState, since(15), tag(1)] = field(default_factory=ReplicaState)
    max_wait_ms: Int32 = 0
    min_bytes: Int32 = 0
    max_bytes: Annotated[Int32, since(3), ignorable] = 0x7FFFFFFF
    isolation_level: Annotated[Int8, since(4), ignorable] = 0
    session_id: Annotated[Int32, since(7), ignorable] = 0
    session_epoch: Annotated[Int32, since(7), ignorable] = -1
    topics: list[FetchTopic] = field(default_factory=list)
    forgotten_topics_data: Annotated[list[ForgottenTopic], since(7)] = field(default_factory=list)
    rack_id: Annotated[String, since(11), ignorable] = ""


@dataclass(slots=True)
class EpochEndOffset:
    epoch: Int32 = -1
    end_offset: Int64 = -1


@dataclass(slots=True)
class LeaderIdAndEpoch:
    leader_id: Int32 = -1
    leader_epoch: Int32 = -1


@dataclass(slots=True)
class SnapshotId:
    end_offset: Int64 = -1
    epoch: Int32 = -1


@dataclass(slots=True)
class AbortedTransaction:
    producer_id: Int64 = 0
    first_offset: Int64 = 0


@dataclass(slots=True)
class PartitionData:
    partition_index: Int32 = 0
    error_code: Int16 = 0
    high_watermark: Int64 = 0
    last_stable_offset: Annotated[Int64, since(4), ignorable] = -1
    log_start_offset: Annotated[Int64, since(5), ignorable] = -1
    diverging_epoch: Annotated[EpochEndOffset, since(12), tag(0)] = field(
        default_factory=EpochEndOffset
    )
    current_leader: Annotated[LeaderIdAndEpoch, since(12), tag(1)] = field(
        default_factory=LeaderIdAndEpoch
    )
    snapshot_id: Annotated[SnapshotId, since(12), tag(2)] = field(default_factory=SnapshotId)
    aborted_transactions: Annotated[list[AbortedTransaction] | None, since(4), ignorable] = field(
        default_factory=list
    )
    preferred_read_replica: Annotated[Int32, since(11)] = -1
    records: NullableRecords = None


@dataclass(slots=True)
class FetchableTopicResponse:
    topic: Annotated[String, until(12), ignorable] = ""
    topic_id: Annotated[Uuid, since(13), ignorable] = ZERO_UUID
    partitions: list[PartitionData] = field(default_factory=list)


@dataclass(slots=True)
class NodeEndpoint:
    node_id: Int32 = 0
    host: String = ""
    port: Int32 = 0
    rack: NullableString = None


@dataclass(slots=True)
class FetchResponse:
    """Records by partition with the offsets that bound them, and since version 12 leader and
    divergence.
    """

    API_KEY: ClassVar[int] = 1
    VERSIONS: ClassVar[tuple[int, int]] = (0, 18)
    FLEXIBLE_SINCE: ClassVar[int | None] = 12

    throttle_time_ms: Annotated[Int32, since(1), ignorable] = 0
    error_code: Annotated[Int16, since(7), ignorable] = 0
    session_id: Annotated[Int32, since(7)] = 0
    responses: list[FetchableTopicResponse] = field(default_factory=list)
    node_endpoints: Annotated[list[NodeEndpoint], since(16), tag(0)] = field(default_factory=list)
