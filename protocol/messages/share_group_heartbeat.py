"""ShareGroupHeartbeat (key 76): a member of a share group reports and gets its assignment
(KIP-932).

Versions: 0 was an early access of Apache Kafka 3.9 and 4.0; 1 the first stable one (KIP-932).
"""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import ZERO_UUID, Int16, Int32, NullableString, String, Uuid


@dataclass(slots=True)
class ShareGroupHeartbeatRequest:
    """What changed about the member since its last heartbeat; epoch 0 joins, -1 leaves."""

    API_KEY: ClassVar[int] = 76
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    group_id: String = ""
    member_id: String = ""
    member_epoch: Int32 = 0
    rack_id: NullableString = None
    subscribed_topic_names: list[String] | None = None


@dataclass(slots=True)
class TopicPartitions:
    topic_id: Uuid = ZERO_UUID
    partitions: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class Assignment:
    topic_partitions: list[TopicPartitions] = field(default_factory=list)


@dataclass(slots=True)
class ShareGroupHeartbeatResponse:
    """The member's epoch, its next heartbeat in ms, and an assignment when that changed."""

    API_KEY: ClassVar[int] = 76
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None
    member_id: NullableString = None
    member_epoch: Int32 = 0
    heartbeat_interval_ms: Int32 = 0
    assignment: Assignment | None = None
