"""WriteShareGroupState (key 85): what happened to records of share partitions (KIP-932).

Sent by brokers to the share coordinator. Versions: 1 the count of records that are done with
(KIP-1226).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import (
    ZERO_UUID,
    Int8,
    Int16,
    Int32,
    Int64,
    NullableString,
    String,
    Uuid,
    ignorable,
    since,
)


@dataclass(slots=True)
class StateBatch:
    first_offset: Int64 = 0
    last_offset: Int64 = 0
    delivery_state: Int8 = 0
    delivery_count: Int16 = 0


@dataclass(slots=True)
class PartitionData:
    partition: Int32 = 0
    state_epoch: Int32 = 0
    leader_epoch: Int32 = 0
    start_offset: Int64 = 0
    delivery_complete_count: Annotated[Int32, since(1), ignorable] = -1
    state_batches: list[StateBatch] = field(default_factory=list)


@dataclass(slots=True)
class WriteStateData:
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionData] = field(default_factory=list)


@dataclass(slots=True)
class WriteShareGroupStateRequest:
    """The partitions with their changes; -1 leaves a start offset as it is."""

    API_KEY: ClassVar[int] = 85
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    group_id: String = ""
    topics: list[WriteStateData] = field(default_factory=list)


@dataclass(slots=True)
class PartitionResult:
    partition: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None


@dataclass(slots=True)
class WriteStateResult:
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionResult] = field(default_factory=list)


@dataclass(slots=True)
class WriteShareGroupStateResponse:
    """What became of each partition."""

    API_KEY: ClassVar[int] = 85
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    results: list[WriteStateResult] = field(default_factory=list)
