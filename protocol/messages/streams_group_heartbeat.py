"""StreamsGroupHeartbeat (key 88): a member of a streams group reports and gets its tasks
(KIP-1071).

Versions: 1 whether a topology description is wanted (KIP-1331), more statuses, a longer acceptable
lag.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import (
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    NullableString,
    String,
    UInt16,
    ignorable,
    since,
    until,
)


@dataclass(slots=True)
class KeyValue:
    key: String = ""
    value: String = ""


@dataclass(slots=True)
class TopicInfo:
    name: String = ""
    partitions: Int32 = 0
    replication_factor: Int16 = 0
    topic_configs: list[KeyValue] = field(default_factory=list)


@dataclass(slots=True)
class CopartitionGroup:
    source_topics: list[Int16] = field(default_factory=list)
    source_topic_regex: list[Int16] = field(default_factory=list)
    repartition_source_topics: list[Int16] = field(default_factory=list)


@dataclass(slots=True)
class Subtopology:
    subtopology_id: String = ""
    source_topics: list[String] = field(default_factory=list)
    source_topic_regex: list[String] = field(default_factory=list)
    state_changelog_topics: list[TopicInfo] = field(default_factory=list)
    repartition_sink_topics: list[String] = field(default_factory=list)
    repartition_source_topics: list[TopicInfo] = field(default_factory=list)
    copartition_groups: list[CopartitionGroup] = field(default_factory=list)


@dataclass(slots=True)
class Topology:
    epoch: Int32 = 0
    subtopologies: list[Subtopology] = field(default_factory=list)


@dataclass(slots=True)
class TaskIds:
    subtopology_id: String = ""
    partitions: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class Endpoint:
    host: String = ""
    port: UInt16 = 0


@dataclass(slots=True)
class TaskOffset:
    subtopology_id: String = ""
    partition: Int32 = 0
    offset: Int64 = 0


@dataclass(slots=True)
class StreamsGroupHeartbeatRequest:
    """What changed about the member since its last heartbeat; epoch 0 joins, -1 leaves."""

    API_KEY: ClassVar[int] = 88
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    group_id: String = ""
    member_id: String = ""
    member_epoch: Int32 = 0
    endpoint_information_epoch: Int32 = 0
    instance_id: NullableString = None
    rack_id: NullableString = None
    rebalance_timeout_ms: Int32 = -1
    topology: Topology | None = None
    active_tasks: list[TaskIds] | None = None
    standby_tasks: list[TaskIds] | None = None
    warmup_tasks: list[TaskIds] | None = None
    process_id: NullableString = None
    user_endpoint: Endpoint | None = None
    client_tags: list[KeyValue] | None = None
    task_offsets: list[TaskOffset] | None = None
    task_end_offsets: list[TaskOffset] | None = None
    shutdown_application: Bool = False


@dataclass(slots=True)
class Status:
    status_code: Int8 = 0
    status_detail: String = ""


@dataclass(slots=True)
class TopicPartition:
    topic: String = ""
    partitions: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class EndpointToPartitions:
    user_endpoint: Endpoint = field(default_factory=Endpoint)
    active_partitions: list[TopicPartition] = field(default_factory=list)
    standby_partitions: list[TopicPartition] = field(default_factory=list)


@dataclass(slots=True)
class StreamsGroupHeartbeatResponse:
    """The member's epoch, its tasks when they changed, and where other members' partitions are."""

    API_KEY: ClassVar[int] = 88
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None
    member_id: String = ""
    member_epoch: Int32 = 0
    heartbeat_interval_ms: Int32 = 0
    acceptable_recovery_lag_legacy: Annotated[Int32, until(0)] = 0
    task_offset_interval_ms: Int32 = 0
    acceptable_recovery_lag: Annotated[Int64, since(1), ignorable] = -1
    status: list[Status] | None = field(default_factory=list)
    active_tasks: list[TaskIds] | None = None
    standby_tasks: list[TaskIds] | None = None
    warmup_tasks: list[TaskIds] | None = None
    topology_description_required: Annotated[Bool, since(1)] = False
    endpoint_information_epoch: Int32 = 0
    partitions_by_user_endpoint: list[EndpointToPartitions] | None = None
