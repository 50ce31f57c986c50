"""Records of __consumer_offsets that consumer groups have (KIP-848).

Two tagged fields say "none" by a null that is written out; left out they mean something empty,
which is not the same. Set `classic_member_metadata` and `assignment_epochs` to None where nothing
is meant.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import (
    ZERO_UUID,
    Bytes,
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
class ConsumerGroupMetadataKey:
    """Key of `ConsumerGroupMetadataValue`."""

    RECORD_TYPE: ClassVar[int] = 3
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""


@dataclass(slots=True)
class ConsumerGroupMetadataValue:
    """A group and its epoch."""

    RECORD_TYPE: ClassVar[int] = 3
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    epoch: Int32 = 0
    metadata_hash: Annotated[Int64, tag(0)] = 0


@dataclass(slots=True)
class ConsumerGroupPartitionMetadataKey:
    """Key of `ConsumerGroupPartitionMetadataValue`."""

    RECORD_TYPE: ClassVar[int] = 4
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""


@dataclass(slots=True)
class PartitionMetadata:
    partition: Int32 = 0
    racks: list[String] = field(default_factory=list)


@dataclass(slots=True)
class TopicMetadata:
    topic_id: Uuid = ZERO_UUID
    topic_name: String = ""
    num_partitions: Int32 = 0
    partition_metadata: list[PartitionMetadata] = field(default_factory=list)


@dataclass(slots=True)
class ConsumerGroupPartitionMetadataValue:
    """Partition counts and racks of the topics a group subscribes to; no longer written."""

    RECORD_TYPE: ClassVar[int] = 4
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    topics: list[TopicMetadata] = field(default_factory=list)


@dataclass(slots=True)
class ConsumerGroupMemberMetadataKey:
    """Key of `ConsumerGroupMemberMetadataValue`."""

    RECORD_TYPE: ClassVar[int] = 5
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""
    member_id: String = ""


@dataclass(slots=True)
class ClassicProtocol:
    name: String = ""
    metadata: Bytes = b""


@dataclass(slots=True)
class ClassicMemberMetadata:
    session_timeout_ms: Int32 = 0
    supported_protocols: list[ClassicProtocol] = field(default_factory=list)


@dataclass(slots=True)
class ConsumerGroupMemberMetadataValue:
    """What a member said about itself."""

    RECORD_TYPE: ClassVar[int] = 5
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    instance_id: NullableString = ""
    rack_id: NullableString = ""
    client_id: String = ""
    client_host: String = ""
    subscribed_topic_names: list[String] = field(default_factory=list)
    subscribed_topic_regex: NullableString = ""
    rebalance_timeout_ms: Int32 = -1
    server_assignor: NullableString = ""
    classic_member_metadata: Annotated[ClassicMemberMetadata | None, tag(0)] = field(
        default_factory=ClassicMemberMetadata
    )


@dataclass(slots=True)
class ConsumerGroupTargetAssignmentMetadataKey:
    """Key of `ConsumerGroupTargetAssignmentMetadataValue`."""

    RECORD_TYPE: ClassVar[int] = 6
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""


@dataclass(slots=True)
class ConsumerGroupTargetAssignmentMetadataValue:
    """The epoch of the assignment that a group moves to."""

    RECORD_TYPE: ClassVar[int] = 6
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    assignment_epoch: Int32 = 0
    assignment_timestamp: Annotated[Int64, tag(0), ignorable] = 0


@dataclass(slots=True)
class ConsumerGroupTargetAssignmentMemberKey:
    """Key of `ConsumerGroupTargetAssignmentMemberValue`."""

    RECORD_TYPE: ClassVar[int] = 7
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""
    member_id: String = ""


@dataclass(slots=True)
class TopicPartition:
    topic_id: Uuid = ZERO_UUID
    partitions: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class ConsumerGroupTargetAssignmentMemberValue:
    """A member's part of the assignment that the group moves to."""

    RECORD_TYPE: ClassVar[int] = 7
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    topic_partitions: list[TopicPartition] = field(default_factory=list)


@dataclass(slots=True)
class ConsumerGroupCurrentMemberAssignmentKey:
    """Key of `ConsumerGroupCurrentMemberAssignmentValue`."""

    RECORD_TYPE: ClassVar[int] = 8
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""
    member_id: String = ""


@dataclass(slots=True)
class TopicPartitions:
    topic_id: Uuid = ZERO_UUID
    partitions: list[Int32] = field(default_factory=list)
    assignment_epochs: Annotated[list[Int32] | None, tag(0)] = field(default_factory=list)


@dataclass(slots=True)
class ConsumerGroupCurrentMemberAssignmentValue:
    """What a member has at present."""

    RECORD_TYPE: ClassVar[int] = 8
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    member_epoch: Int32 = 0
    previous_member_epoch: Int32 = 0
    state: Int8 = 0
    assigned_partitions: list[TopicPartitions] = field(default_factory=list)
    partitions_pending_revocation: list[TopicPartitions] = field(default_factory=list)


@dataclass(slots=True)
class ConsumerGroupRegularExpressionKey:
    """Key of `ConsumerGroupRegularExpressionValue`."""

    RECORD_TYPE: ClassVar[int] = 16
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""
    regular_expression: String = ""


@dataclass(slots=True)
class ConsumerGroupRegularExpressionValue:
    """The topics that a subscription pattern matches."""

    RECORD_TYPE: ClassVar[int] = 16
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    topics: list[String] = field(default_factory=list)
    version: Int64 = 0
    timestamp: Int64 = 0
