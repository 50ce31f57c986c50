"""OffsetFetch (key 9): committed offsets of groups.

Versions: 1 read from the offsets topic instead of ZooKeeper; 2 all partitions, an error code for
the group (KIP-88); 3 throttle time (KIP-124); 4 throttling after the answer (KIP-219); 5 leader
epochs (KIP-320); 6 flexible (KIP-482); 7 stable offsets only (KIP-447); 8 several groups (KIP-709);
9 member id and epoch (KIP-848); 10 topic ids for names (KIP-848).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import (
    ZERO_UUID,
    Bool,
    Int16,
    Int32,
    Int64,
    NullableString,
    String,
    Uuid,
    ignorable,
    nullable_since,
    since,
    until,
)


@dataclass(slots=True)
class OffsetFetchRequestTopic:
    name: String = ""
    partition_indexes: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class OffsetFetchRequestTopics:
    name: Annotated[String, until(9), ignorable] = ""
    topic_id: Annotated[Uuid, since(10), ignorable] = ZERO_UUID
    partition_indexes: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class OffsetFetchRequestGroup:
    group_id: String = ""
    member_id: Annotated[NullableString, since(9), ignorable] = None
    member_epoch: Annotated[Int32, since(9), ignorable] = -1
    topics: list[OffsetFetchRequestTopics] | None = field(default_factory=list)


@dataclass(slots=True)
class OffsetFetchRequest:
    """Group (since version 8: groups) and partitions; null means all that have an offset."""

    API_KEY: ClassVar[int] = 9
    VERSIONS: ClassVar[tuple[int, int]] = (0, 10)
    FLEXIBLE_SINCE: ClassVar[int | None] = 6

    group_id: Annotated[String, until(7)] = ""
    topics: Annotated[list[OffsetFetchRequestTopic] | None, until(7), nullable_since(2)] = field(
        default_factory=list
    )
    groups: Annotated[list[OffsetFetchRequestGroup], since(8)] = field(default_factory=list)
    require_stable: Annotated[Bool, since(7)] = False


@dataclass(slots=True)
class OffsetFetchResponsePartition:
    partition_index: Int32 = 0
    committed_offset: Int64 = 0
    committed_leader_epoch: Annotated[Int32, since(5), ignorable] = -1
    metadata: NullableString = ""
    error_code: Int16 = 0


@dataclass(slots=True)
class OffsetFetchResponseTopic:
    name: String = ""
    partitions: list[OffsetFetchResponsePartition] = field(default_factory=list)


@dataclass(slots=True)
class OffsetFetchResponsePartitions:
    partition_index: Int32 = 0
    committed_offset: Int64 = 0
    committed_leader_epoch: Annotated[Int32, ignorable] = -1
    metadata: NullableString = ""
    error_code: Int16 = 0


@dataclass(slots=True)
class OffsetFetchResponseTopics:
    name: Annotated[String, until(9), ignorable] = ""
    topic_id: Annotated[Uuid, since(10), ignorable] = ZERO_UUID
    partitions: list[OffsetFetchResponsePartitions] = field(default_factory=list)


@dataclass(slots=True)
class OffsetFetchResponseGroup:
    group_id: String = ""
    topics: list[OffsetFetchResponseTopics] = field(default_factory=list)
    error_code: Int16 = 0


@dataclass(slots=True)
class OffsetFetchResponse:
    """Committed offsets, -1 where there is none."""

    API_KEY: ClassVar[int] = 9
    VERSIONS: ClassVar[tuple[int, int]] = (0, 10)
    FLEXIBLE_SINCE: ClassVar[int | None] = 6

    throttle_time_ms: Annotated[Int32, since(3), ignorable] = 0
    topics: Annotated[list[OffsetFetchResponseTopic], until(7)] = field(default_factory=list)
    error_code: Annotated[Int16, since(2), until(7), ignorable] = 0
    groups: Annotated[list[OffsetFetchResponseGroup], since(8)] = field(default_factory=list)
