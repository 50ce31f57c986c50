"""The blobs that Kafka's consumers put into JoinGroup (subscription) and SyncGroup (assignment).

A broker passes them on; it reads them to answer for its clients, and to let members of both group
protocols share a group. They are never flexible: unknown versions only append fields, so a blob of
a later version is read as the highest that is known here.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.compiler import decoder
from protocol.errors import Malformed
from protocol.stored.versioned import encode_value, leading_int16
from protocol.wire import Buffer, Int32, NullableBytes, NullableString, String, ignorable, since

__all__ = [
    "ConsumerProtocolAssignment",
    "ConsumerProtocolSubscription",
    "TopicPartition",
    "decode_assignment",
    "decode_subscription",
    "encode_value",
]


@dataclass(slots=True)
class TopicPartition:
    topic: String = ""
    partitions: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class ConsumerProtocolSubscription:
    """What a member tells the leader of its group. 1 adds the partitions it has, 2 their generation
    (KIP-792), 3 the rack (KIP-881).
    """

    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    topics: list[String] = field(default_factory=list)
    user_data: NullableBytes = None
    owned_partitions: Annotated[list[TopicPartition], since(1), ignorable] = field(
        default_factory=list
    )
    generation_id: Annotated[Int32, since(2), ignorable] = -1
    rack_id: Annotated[NullableString, since(3), ignorable] = None


@dataclass(slots=True)
class ConsumerProtocolAssignment:
    """What the leader gives a member."""

    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    assigned_partitions: list[TopicPartition] = field(default_factory=list)
    user_data: NullableBytes = None


def decode_subscription(data: Buffer) -> ConsumerProtocolSubscription:
    """A member's subscription."""
    return decoder(ConsumerProtocolSubscription, _version(data))(data, 2)[0]


def decode_assignment(data: Buffer) -> ConsumerProtocolAssignment:
    """A member's assignment."""
    return decoder(ConsumerProtocolAssignment, _version(data))(data, 2)[0]


def _version(data: Buffer) -> int:
    version = leading_int16(data)
    if version < 0:
        raise Malformed(f"a group's blob has version {version}")
    return min(version, 3)
