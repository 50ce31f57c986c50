"""ReadShareGroupStateSummary (key 87): where share partitions stand (KIP-932).

Sent by brokers to the share coordinator. Versions: 1 the count of records that are done with
(KIP-1226).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import (
    ZERO_UUID,
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
class PartitionData:
    partition: Int32 = 0
    leader_epoch: Int32 = 0


@dataclass(slots=True)
class ReadStateSummaryData:
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionData] = field(default_factory=list)


@dataclass(slots=True)
class ReadShareGroupStateSummaryRequest:
    """The partitions."""

    API_KEY: ClassVar[int] = 87
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    group_id: String = ""
    topics: list[ReadStateSummaryData] = field(default_factory=list)


@dataclass(slots=True)
class PartitionResult:
    partition: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None
    state_epoch: Int32 = 0
    leader_epoch: Int32 = 0
    start_offset: Int64 = 0
    delivery_complete_count: Annotated[Int32, since(1), ignorable] = -1


@dataclass(slots=True)
class ReadStateSummaryResult:
    topic_id: Uuid = ZERO_UUID
    partitions: list[PartitionResult] = field(default_factory=list)


@dataclass(slots=True)
class ReadShareGroupStateSummaryResponse:
    """Each partition's epochs and start offset; -1 where there is no state."""

    API_KEY: ClassVar[int] = 87
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    results: list[ReadStateSummaryResult] = field(default_factory=list)
