"""DeleteShareGroupState (key 86): share partitions lose their state (KIP-932).

Sent by brokers to the share coordinator.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import ZERO_UUID, Int16, Int32, NullableString, String, Uuid


@dataclass(slots=True)
class PartitionData:
    partition: Int32 = 0


@dataclass(slots=True)
class DeleteStateData:
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionData] = field(default_factory=list)


@dataclass(slots=True)
class DeleteShareGroupStateRequest:
    """The partitions."""

    API_KEY: ClassVar[int] = 86
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    group_id: String = ""
    topics: list[DeleteStateData] = field(default_factory=list)


@dataclass(slots=True)
class PartitionResult:
    partition: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None


@dataclass(slots=True)
class DeleteStateResult:
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionResult] = field(default_factory=list)


@dataclass(slots=True)
class DeleteShareGroupStateResponse:
    """What became of each partition."""

    API_KEY: ClassVar[int] = 86
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    results: list[DeleteStateResult] = field(default_factory=list)
