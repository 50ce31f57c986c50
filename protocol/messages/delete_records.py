"""DeleteRecords (key 21): the head of partitions to be cut off (KIP-107).

Versions: 1 throttling after the answer (KIP-219); 2 flexible (KIP-482).
"""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import Int16, Int32, Int64, String


@dataclass(slots=True)
class DeleteRecordsPartition:
    partition_index: Int32 = 0
    offset: Int64 = 0


@dataclass(slots=True)
class DeleteRecordsTopic:
    name: String = ""
    partitions: list[DeleteRecordsPartition] = field(default_factory=list)


@dataclass(slots=True)
class DeleteRecordsRequest:
    """The offset before which each partition's records go; -1 means the high watermark."""

    API_KEY: ClassVar[int] = 21
    VERSIONS: ClassVar[tuple[int, int]] = (0, 2)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    topics: list[DeleteRecordsTopic] = field(default_factory=list)
    timeout_ms: Int32 = 0


@dataclass(slots=True)
class DeleteRecordsPartitionResult:
    partition_index: Int32 = 0
    low_watermark: Int64 = 0
    error_code: Int16 = 0


@dataclass(slots=True)
class DeleteRecordsTopicResult:
    name: String = ""
    partitions: list[DeleteRecordsPartitionResult] = field(default_factory=list)


@dataclass(slots=True)
class DeleteRecordsResponse:
    """The low watermark that each partition has now."""

    API_KEY: ClassVar[int] = 21
    VERSIONS: ClassVar[tuple[int, int]] = (0, 2)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    throttle_time_ms: Int32 = 0
    topics: list[DeleteRecordsTopicResult] = field(default_factory=list)
