"""ReadShareGroupState (key 84): the state of share partitions, for their leader (KIP-932).

Sent by brokers to the share coordinator.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import ZERO_UUID, Int8, Int16, Int32, Int64, NullableString, String, Uuid


@dataclass(slots=True)
class PartitionData:
    partition: Int32 = 0
    leader_epoch: Int32 = 0


@dataclass(slots=True)
class ReadStateData:
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionData] = field(default_factory=list)


@dataclass(slots=True)
class ReadShareGroupStateRequest:
    """The partitions, and their leader's epoch: from now on older leaders are fenced."""

    API_KEY: ClassVar[int] = 84
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    group_id: String = ""
    topics: list[ReadStateData] = field(default_factory=list)


@dataclass(slots=True)
class StateBatch:
    first_offset: Int64 = 0
    last_offset: Int64 = 0
    delivery_state: Int8 = 0
    delivery_count: Int16 = 0


@dataclass(slots=True)
class PartitionResult:
    partition: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None
    state_epoch: Int32 = 0
    start_offset: Int64 = 0
    state_batches: list[StateBatch] = field(default_factory=list)


@dataclass(slots=True)
class ReadStateResult:
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionResult] = field(default_factory=list)


@dataclass(slots=True)
class ReadShareGroupStateResponse:
    """Each partition's start offset, and the records after it that are not simply available."""

    API_KEY: ClassVar[int] = 84
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    results: list[ReadStateResult] = field(default_factory=list)
