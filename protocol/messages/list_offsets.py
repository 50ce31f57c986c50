"""ListOffsets (key 2): offsets by timestamp, or the first or last one of a partition.

Versions: 1 one offset with its timestamp (KIP-79); 2 isolation level (KIP-98); 3 throttling after
the answer (KIP-219); 4 leader epochs (KIP-320); 5 OFFSET_NOT_AVAILABLE (KIP-207); 6 flexible
(KIP-482); 7 the record with the largest timestamp, -3 (KIP-734); 8 the first local offset, -4
(KIP-405); 9 the last tiered offset, -5 (KIP-1005); 10 a time limit for remote lookups (KIP-1075);
11 the first offset not yet uploaded, -6 (KIP-1023).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Int8, Int16, Int32, Int64, String, ignorable, since, until


@dataclass(slots=True)
class ListOffsetsPartition:
    partition_index: Int32 = 0
    current_leader_epoch: Annotated[Int32, since(4), ignorable] = -1
    timestamp: Int64 = 0
    max_num_offsets: Annotated[Int32, until(0)] = 1


@dataclass(slots=True)
class ListOffsetsTopic:
    name: String = ""
    partitions: list[ListOffsetsPartition] = field(default_factory=list)


@dataclass(slots=True)
class ListOffsetsRequest:
    """A timestamp in ms since the epoch for each partition, or one of the negative sentinels."""

    API_KEY: ClassVar[int] = 2
    VERSIONS: ClassVar[tuple[int, int]] = (0, 11)
    FLEXIBLE_SINCE: ClassVar[int | None] = 6

    replica_id: Int32 = 0
    isolation_level: Annotated[Int8, since(2)] = 0
    topics: list[ListOffsetsTopic] = field(default_factory=list)
    timeout_ms: Annotated[Int32, since(10), ignorable] = 0


@dataclass(slots=True)
class ListOffsetsPartitionResponse:
    partition_index: Int32 = 0
    error_code: Int16 = 0
    old_style_offsets: Annotated[list[Int64], until(0)] = field(default_factory=list)
    timestamp: Annotated[Int64, since(1)] = -1
    offset: Annotated[Int64, since(1)] = -1
    leader_epoch: Annotated[Int32, since(4)] = -1


@dataclass(slots=True)
class ListOffsetsTopicResponse:
    name: String = ""
    partitions: list[ListOffsetsPartitionResponse] = field(default_factory=list)


@dataclass(slots=True)
class ListOffsetsResponse:
    """The offset found for each partition, -1 where there is none."""

    API_KEY: ClassVar[int] = 2
    VERSIONS: ClassVar[tuple[int, int]] = (0, 11)
    FLEXIBLE_SINCE: ClassVar[int | None] = 6

    throttle_time_ms: Annotated[Int32, since(2), ignorable] = 0
    topics: list[ListOffsetsTopicResponse] = field(default_factory=list)
