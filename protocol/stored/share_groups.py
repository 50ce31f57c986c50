"""Records of __consumer_offsets that share groups have (KIP-932)."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import (
    ZERO_UUID,
    Int8,
    Int32,
    Int64,
    NullableString,
    String,
    Uuid,
    ignorable,
    tag,
)


@dataclass(slots=True)
class ShareGroupPartitionMetadataKey:
    """Key of `ShareGroupPartitionMetadataValue`."""

    RECORD_TYPE: ClassVar[int] = 9
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""


@dataclass(slots=True)
class TopicPartitionsInfo:
    topic_id: Uuid = ZERO_UUID
    topic_name: String = ""
    partitions: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class TopicInfo:
    topic_id: Uuid = ZERO_UUID
    topic_name: String = ""


@dataclass(slots=True)
class ShareGroupPartitionMetadataValue:
    """Topics of a share group, as the early access of Kafka 3.9 kept them."""

    RECORD_TYPE: ClassVar[int] = 9
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    initialized_topics: list[TopicPartitionsInfo] = field(default_factory=list)
    deleting_topics: list[TopicInfo] = field(default_factory=list)


@dataclass(slots=True)
class ShareGroupMemberMetadataKey:
    """Key of `ShareGroupMemberMetadataValue`."""

    RECORD_TYPE: ClassVar[int] = 10
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""
    member_id: String = ""


@dataclass(slots=True)
class ShareGroupMemberMetadataValue:
    """What a member said about itself."""

    RECORD_TYPE: ClassVar[int] = 10
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    rack_id: NullableString = ""
    client_id: String = ""
    client_host: String = ""
    subscribed_topic_names: list[String] = field(default_factory=list)


@dataclass(slots=True)
class ShareGroupMetadataKey:
    """Key of `ShareGroupMetadataValue`."""

    RECORD_TYPE: ClassVar[int] = 11
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""


@dataclass(slots=True)
class ShareGroupMetadataValue:
    """A group and its epoch."""

    RECORD_TYPE: ClassVar[int] = 11
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    epoch: Int32 = 0
    metadata_hash: Int64 = 0


@dataclass(slots=True)
class ShareGroupTargetAssignmentMetadataKey:
    """Key of `ShareGroupTargetAssignmentMetadataValue`."""

    RECORD_TYPE: ClassVar[int] = 12
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""


@dataclass(slots=True)
class ShareGroupTargetAssignmentMetadataValue:
    """The epoch of the group's assignment."""

    RECORD_TYPE: ClassVar[int] = 12
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    assignment_epoch: Int32 = 0
    assignment_timestamp: Annotated[Int64, tag(0), ignorable] = 0


@dataclass(slots=True)
class ShareGroupTargetAssignmentMemberKey:
    """Key of `ShareGroupTargetAssignmentMemberValue`."""

    RECORD_TYPE: ClassVar[int] = 13
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""
    member_id: String = ""


@dataclass(slots=True)
class TopicPartition:
    topic_id: Uuid = ZERO_UUID
    partitions: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class ShareGroupTargetAssignmentMemberValue:
    """A member's part of the group's assignment."""

    RECORD_TYPE: ClassVar[int] = 13
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    topic_partitions: list[TopicPartition] = field(default_factory=list)


@dataclass(slots=True)
class ShareGroupCurrentMemberAssignmentKey:
    """Key of `ShareGroupCurrentMemberAssignmentValue`."""

    RECORD_TYPE: ClassVar[int] = 14
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""
    member_id: String = ""


@dataclass(slots=True)
class TopicPartitions:
    topic_id: Uuid = ZERO_UUID
    partitions: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class ShareGroupCurrentMemberAssignmentValue:
    """What a member has at present."""

    RECORD_TYPE: ClassVar[int] = 14
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    member_epoch: Int32 = 0
    previous_member_epoch: Int32 = 0
    state: Int8 = 0
    assigned_partitions: list[TopicPartitions] = field(default_factory=list)


@dataclass(slots=True)
class ShareGroupStatePartitionMetadataKey:
    """Key of `ShareGroupStatePartitionMetadataValue`."""

    RECORD_TYPE: ClassVar[int] = 15
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""


@dataclass(slots=True)
class ShareGroupStatePartitionMetadataValue:
    """Which partitions have state, are getting some, or are losing it."""

    RECORD_TYPE: ClassVar[int] = 15
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    initializing_topics: list[TopicPartitionsInfo] = field(default_factory=list)
    initialized_topics: list[TopicPartitionsInfo] = field(default_factory=list)
    deleting_topics: list[TopicInfo] = field(default_factory=list)
