"""Records of __consumer_offsets that every group has: committed offsets and classic groups.

Key and value are led by an int16: the key's says what kind of record it is, the value's its own
version. The kinds of the newer group protocols are in `consumer_groups`, `share_groups` and
`streams_groups`; `RECORD_TYPES` names them all, and a module is imported when a record of its kind
is seen.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from protocol.stored import versioned
from protocol.stored.versioned import RecordTypes, encode_key, encode_value
from protocol.wire import (
    ZERO_UUID,
    Buffer,
    Bytes,
    Int32,
    Int64,
    NullableString,
    String,
    Uuid,
    ignorable,
    since,
    tag,
    until,
)

__all__ = [
    "RECORD_TYPES",
    "GroupMetadataKey",
    "GroupMetadataValue",
    "LegacyOffsetCommitKey",
    "LegacyOffsetCommitValue",
    "MemberMetadata",
    "OffsetCommitKey",
    "OffsetCommitValue",
    "decode_key",
    "decode_value",
    "encode_key",
    "encode_value",
]


@dataclass(slots=True)
class LegacyOffsetCommitKey:
    """A committed offset, as written before Kafka 0.9."""

    RECORD_TYPE: ClassVar[int] = 0
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group: String = ""
    topic: String = ""
    partition: Int32 = 0


@dataclass(slots=True)
class OffsetCommitKey:
    """Whose committed offset it is."""

    RECORD_TYPE: ClassVar[int] = 1
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group: String = ""
    topic: String = ""
    partition: Int32 = 0


@dataclass(slots=True)
class OffsetCommitValue:
    """A committed offset. Kafka 3.9 writes 1 where an expiry is given, else 3."""

    RECORD_TYPE: ClassVar[int] = 1
    VERSIONS: ClassVar[tuple[int, int]] = (0, 4)
    FLEXIBLE_SINCE: ClassVar[int | None] = 4

    offset: Int64 = 0
    leader_epoch: Annotated[Int32, since(3), ignorable] = -1
    metadata: String = ""
    commit_timestamp: Int64 = 0
    expire_timestamp: Annotated[Int64, since(1), until(1), ignorable] = -1
    topic_id: Annotated[Uuid, since(4), tag(0), ignorable] = ZERO_UUID


LegacyOffsetCommitValue = OffsetCommitValue
"""The old kind has the same values; what Kafka 4.4 declares is version 0 of them."""


@dataclass(slots=True)
class GroupMetadataKey:
    """A classic group."""

    RECORD_TYPE: ClassVar[int] = 2
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group: String = ""


@dataclass(slots=True)
class MemberMetadata:
    member_id: String = ""
    group_instance_id: Annotated[NullableString, since(3), ignorable] = None
    client_id: String = ""
    client_host: String = ""
    rebalance_timeout: Annotated[Int32, since(1), ignorable] = -1
    session_timeout: Int32 = 0
    subscription: Bytes = b""
    assignment: Bytes = b""


@dataclass(slots=True)
class GroupMetadataValue:
    """State of a classic group after a rebalance. Kafka 3.9 writes version 3."""

    RECORD_TYPE: ClassVar[int] = 2
    VERSIONS: ClassVar[tuple[int, int]] = (0, 4)
    FLEXIBLE_SINCE: ClassVar[int | None] = 4

    protocol_type: String = ""
    generation: Int32 = 0
    protocol: NullableString = ""
    leader: NullableString = ""
    current_state_timestamp: Annotated[Int64, since(2), ignorable] = -1
    members: list[MemberMetadata] = field(default_factory=list)


RECORD_TYPES: RecordTypes = {
    0: ("consumer_offsets", "LegacyOffsetCommit"),
    1: ("consumer_offsets", "OffsetCommit"),
    2: ("consumer_offsets", "GroupMetadata"),
    3: ("consumer_groups", "ConsumerGroupMetadata"),
    4: ("consumer_groups", "ConsumerGroupPartitionMetadata"),
    5: ("consumer_groups", "ConsumerGroupMemberMetadata"),
    6: ("consumer_groups", "ConsumerGroupTargetAssignmentMetadata"),
    7: ("consumer_groups", "ConsumerGroupTargetAssignmentMember"),
    8: ("consumer_groups", "ConsumerGroupCurrentMemberAssignment"),
    9: ("share_groups", "ShareGroupPartitionMetadata"),
    10: ("share_groups", "ShareGroupMemberMetadata"),
    11: ("share_groups", "ShareGroupMetadata"),
    12: ("share_groups", "ShareGroupTargetAssignmentMetadata"),
    13: ("share_groups", "ShareGroupTargetAssignmentMember"),
    14: ("share_groups", "ShareGroupCurrentMemberAssignment"),
    15: ("share_groups", "ShareGroupStatePartitionMetadata"),
    16: ("consumer_groups", "ConsumerGroupRegularExpression"),
    17: ("streams_groups", "StreamsGroupMetadata"),
    19: ("streams_groups", "StreamsGroupMemberMetadata"),
    20: ("streams_groups", "StreamsGroupTargetAssignmentMetadata"),
    21: ("streams_groups", "StreamsGroupTargetAssignmentMember"),
    22: ("streams_groups", "StreamsGroupCurrentMemberAssignment"),
    23: ("streams_groups", "StreamsGroupTopology"),
}
"""This topic's kinds of record, by the int16 that leads a key: module, and name without Key."""


def decode_key(data: Buffer) -> Any | None:
    """The key object, whose `RECORD_TYPE` is its kind; None for a kind that is not known."""
    return versioned.decode_key(RECORD_TYPES, data)


def decode_value(kind: int, data: Buffer | None) -> Any | None:
    """The value that belongs to a key of this kind; a tombstone (None) stays None."""
    return versioned.decode_value(RECORD_TYPES, kind, data)
