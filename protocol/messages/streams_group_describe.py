"""StreamsGroupDescribe (key 89): state, topology and members of streams groups (KIP-1071).

Versions: 1 the described topology (KIP-1331) and the assignor (KIP-1357).
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
)


@dataclass(slots=True)
class StreamsGroupDescribeRequest:
    """The groups."""

    API_KEY: ClassVar[int] = 89
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    group_ids: list[String] = field(default_factory=list)
    include_authorized_operations: Bool = False
    include_topology_description: Annotated[Bool, since(1)] = False


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
class Subtopology:
    subtopology_id: String = ""
    source_topics: list[String] = field(default_factory=list)
    repartition_sink_topics: list[String] = field(default_factory=list)
    state_changelog_topics: list[TopicInfo] = field(default_factory=list)
    repartition_source_topics: list[TopicInfo] = field(default_factory=list)


@dataclass(slots=True)
class Topology:
    epoch: Int32 = 0
    subtopologies: list[Subtopology] | None = None


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
class TaskIds:
    subtopology_id: String = ""
    partitions: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class Assignment:
    active_tasks: list[TaskIds] = field(default_factory=list)
    standby_tasks: list[TaskIds] = field(default_factory=list)
    warmup_tasks: list[TaskIds] = field(default_factory=list)


@dataclass(slots=True)
class Member:
    member_id: String = ""
    member_epoch: Int32 = 0
    instance_id: NullableString = None
    rack_id: NullableString = None
    client_id: String = ""
    client_host: String = ""
    topology_epoch: Int32 = 0
    process_id: String = ""
    user_endpoint: Endpoint | None = None
    client_tags: list[KeyValue] = field(default_factory=list)
    task_offsets: list[TaskOffset] = field(default_factory=list)
    task_end_offsets: list[TaskOffset] = field(default_factory=list)
    assignment: Assignment = field(default_factory=Assignment)
    target_assignment: Assignment = field(default_factory=Assignment)
    is_classic: Bool = False


@dataclass(slots=True)
class TopologyDescriptionNode:
    name: String = ""
    node_type: Int8 = 0
    source_topics: list[String] = field(default_factory=list)
    sink_topic: NullableString = None
    stores: list[String] = field(default_factory=list)
    successors: list[String] = field(default_factory=list)


@dataclass(slots=True)
class TopologyDescriptionSubtopology:
    subtopology_id: String = ""
    nodes: list[TopologyDescriptionNode] = field(default_factory=list)


@dataclass(slots=True)
class TopologyDescriptionGlobalStore:
    source: TopologyDescriptionNode = field(default_factory=TopologyDescriptionNode)
    processor: TopologyDescriptionNode = field(default_factory=TopologyDescriptionNode)


@dataclass(slots=True)
class TopologyDescription:
    subtopologies: list[TopologyDescriptionSubtopology] = field(default_factory=list)
    global_stores: list[TopologyDescriptionGlobalStore] = field(default_factory=list)


@dataclass(slots=True)
class DescribedGroup:
    error_code: Int16 = 0
    error_message: NullableString = None
    group_id: String = ""
    group_state: String = ""
    group_epoch: Int32 = 0
    assignment_epoch: Int32 = 0
    topology: Topology | None = None
    members: list[Member] = field(default_factory=list)
    authorized_operations: Int32 = -2147483648
    topology_description: Annotated[TopologyDescription | None, since(1)] = None
    topology_description_status: Annotated[Int8, since(1)] = 0
    assignor_name: Annotated[NullableString, since(1), ignorable] = None


@dataclass(slots=True)
class StreamsGroupDescribeResponse:
    """Each group's epochs, topology, members and their tasks."""

    API_KEY: ClassVar[int] = 89
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Int32 = 0
    groups: list[DescribedGroup] = field(default_factory=list)
