"""InitializeShareGroupState (key 83): share partitions get a state (KIP-932).

Sent by brokers to the share coordinator.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import ZERO_UUID, Int16, Int32, Int64, NullableString, String, Uuid


@dataclass(slots=True)
class PartitionData:
    partition: Int32 = 0
    state_epoch: Int32 = 0
    start_offset: Int64 = 0


@dataclass(slots=True)
class InitializeStateData:
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionData] = field(default_factory=list)


@dataclass(slots=True)
class InitializeShareGroupStateRequest:
    """The partitions, with a start offset each; -1 leaves it to the group's reset strategy."""

    API_KEY: ClassVar[int] = 83
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    group_id: String = ""
    topics: list[InitializeStateData] = field(default_factory=list)


@dataclass(slots=True)
class PartitionResult:
    partition: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None


@dataclass(slots=True)
class InitializeStateResult:
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionResult] = field(default_factory=list)


@dataclass(slots=True)
class InitializeShareGroupStateResponse:
    """What became of each partition."""

    API_KEY: ClassVar[int] = 83
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    results: list[InitializeStateResult] = field(default_factory=list)
