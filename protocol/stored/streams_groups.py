"""Records of __consumer_offsets that streams groups have (KIP-1071).

As in `consumer_groups`, null is written out in the tagged lists `assignment_epochs` and
`last_assignment_configs`; left out they are empty.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Int8, Int16, Int32, Int64, NullableString, String, UInt16, ignorable, tag


@dataclass(slots=True)
class StreamsGroupMetadataKey:
    """Key of `StreamsGroupMetadataValue`."""

    RECORD_TYPE: ClassVar[int] = 17
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""


@dataclass(slots=True)
class LastAssignmentConfig:
    key: String = ""
    value: String = ""


@dataclass(slots=True)
class StreamsGroupMetadataValue:
    """A group and its epochs."""

    RECORD_TYPE: ClassVar[int] = 17
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    epoch: Int32 = 0
    metadata_hash: Int64 = 0
    validated_topology_epoch: Annotated[Int32, tag(0)] = -1
    last_assignment_configs: Annotated[list[LastAssignmentConfig] | None, tag(1)] = field(
        default_factory=list
    )
    stored_description_topology_epoch: Annotated[Int32, tag(2)] = -1
    failed_description_topology_epoch: Annotated[Int32, tag(3)] = -1


@dataclass(slots=True)
class StreamsGroupMemberMetadataKey:
    """Key of `StreamsGroupMemberMetadataValue`."""

    RECORD_TYPE: ClassVar[int] = 19
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""
    member_id: String = ""


@dataclass(slots=True)
class Endpoint:
    host: String = ""
    port: UInt16 = 0


@dataclass(slots=True)
class KeyValue:
    key: String = ""
    value: String = ""


@dataclass(slots=True)
class StreamsGroupMemberMetadataValue:
    """What a member said about itself."""

    RECORD_TYPE: ClassVar[int] = 19
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    instance_id: NullableString = ""
    rack_id: NullableString = ""
    client_id: String = ""
    client_host: String = ""
    rebalance_timeout_ms: Int32 = -1
    topology_epoch: Int32 = 0
    process_id: String = ""
    user_endpoint: Endpoint | None = None
    client_tags: list[KeyValue] = field(default_factory=list)


@dataclass(slots=True)
class StreamsGroupTargetAssignmentMetadataKey:
    """Key of `StreamsGroupTargetAssignmentMetadataValue`."""

    RECORD_TYPE: ClassVar[int] = 20
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""


@dataclass(slots=True)
class StreamsGroupTargetAssignmentMetadataValue:
    """The epoch of the assignment that a group moves to."""

    RECORD_TYPE: ClassVar[int] = 20
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    assignment_epoch: Int32 = 0
    assignment_timestamp: Annotated[Int64, tag(0), ignorable] = 0


@dataclass(slots=True)
class StreamsGroupTargetAssignmentMemberKey:
    """Key of `StreamsGroupTargetAssignmentMemberValue`."""

    RECORD_TYPE: ClassVar[int] = 21
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""
    member_id: String = ""


@dataclass(slots=True)
class TargetTaskIds:
    subtopology_id: String = ""
    partitions: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class StreamsGroupTargetAssignmentMemberValue:
    """A member's part of the assignment that the group moves to."""

    RECORD_TYPE: ClassVar[int] = 21
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    active_tasks: list[TargetTaskIds] = field(default_factory=list)
    standby_tasks: list[TargetTaskIds] = field(default_factory=list)
    warmup_tasks: list[TargetTaskIds] = field(default_factory=list)


@dataclass(slots=True)
class StreamsGroupCurrentMemberAssignmentKey:
    """Key of `StreamsGroupCurrentMemberAssignmentValue`."""

    RECORD_TYPE: ClassVar[int] = 22
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""
    member_id: String = ""


@dataclass(slots=True)
class CurrentTaskIds:
    subtopology_id: String = ""
    partitions: list[Int32] = field(default_factory=list)
    assignment_epochs: Annotated[list[Int32] | None, tag(0)] = field(default_factory=list)


@dataclass(slots=True)
class StreamsGroupCurrentMemberAssignmentValue:
    """What a member has at present."""

    RECORD_TYPE: ClassVar[int] = 22
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    member_epoch: Int32 = 0
    previous_member_epoch: Int32 = 0
    state: Int8 = 0
    active_tasks: list[CurrentTaskIds] = field(default_factory=list)
    standby_tasks: list[CurrentTaskIds] = field(default_factory=list)
    warmup_tasks: list[CurrentTaskIds] = field(default_factory=list)
    active_tasks_pending_revocation: list[CurrentTaskIds] = field(default_factory=list)
    standby_tasks_pending_revocation: list[CurrentTaskIds] = field(default_factory=list)
    warmup_tasks_pending_revocation: list[CurrentTaskIds] = field(default_factory=list)


@dataclass(slots=True)
class StreamsGroupTopologyKey:
    """Key of `StreamsGroupTopologyValue`."""

    RECORD_TYPE: ClassVar[int] = 23
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""


@dataclass(slots=True)
class TopicConfig:
    key: String = ""
    value: String = ""


@dataclass(slots=True)
class TopicInfo:
    name: String = ""
    partitions: Int32 = 0
    replication_factor: Int16 = 0
    topic_configs: list[TopicConfig] = field(default_factory=list)


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
class StreamsGroupTopologyValue:
    """A group's topology."""

    RECORD_TYPE: ClassVar[int] = 23
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    epoch: Int32 = 0
    subtopologies: list[Subtopology] = field(default_factory=list)
