"""DescribeTopicPartitions (key 75): partitions of topics, page by page (KIP-966)."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import ZERO_UUID, Bool, Int16, Int32, NullableString, String, Uuid, ignorable


@dataclass(slots=True)
class TopicRequest:
    name: String = ""


@dataclass(slots=True)
class Cursor:
    topic_name: String = ""
    partition_index: Int32 = 0


@dataclass(slots=True)
class DescribeTopicPartitionsRequest:
    """Topics, a limit and where to go on."""

    API_KEY: ClassVar[int] = 75
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    topics: list[TopicRequest] = field(default_factory=list)
    response_partition_limit: Int32 = 2000
    cursor: Cursor | None = None


@dataclass(slots=True)
class DescribeTopicPartitionsResponsePartition:
    error_code: Int16 = 0
    partition_index: Int32 = 0
    leader_id: Int32 = 0
    leader_epoch: Annotated[Int32, ignorable] = -1
    replica_nodes: list[Int32] = field(default_factory=list)
    isr_nodes: list[Int32] = field(default_factory=list)
    eligible_leader_replicas: list[Int32] | None = None
    last_known_elr: list[Int32] | None = None
    offline_replicas: Annotated[list[Int32], ignorable] = field(default_factory=list)


@dataclass(slots=True)
class DescribeTopicPartitionsResponseTopic:
    error_code: Int16 = 0
    name: NullableString = ""
    topic_id: Annotated[Uuid, ignorable] = ZERO_UUID
    is_internal: Annotated[Bool, ignorable] = False
    partitions: list[DescribeTopicPartitionsResponsePartition] = field(default_factory=list)
    topic_authorized_operations: Int32 = -2147483648


@dataclass(slots=True)
class DescribeTopicPartitionsResponse:
    """Partitions, and where the next page starts."""

    API_KEY: ClassVar[int] = 75
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Annotated[Int32, ignorable] = 0
    topics: list[DescribeTopicPartitionsResponseTopic] = field(default_factory=list)
    next_cursor: Cursor | None = None
