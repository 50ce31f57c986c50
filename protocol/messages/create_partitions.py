"""CreatePartitions (key 37): topics to be given more partitions (KIP-195).

Versions: 1 throttling after the answer (KIP-219); 2 flexible (KIP-482); 3 THROTTLING_QUOTA_EXCEEDED
(KIP-599).
"""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import Bool, Int16, Int32, NullableString, String


@dataclass(slots=True)
class CreatePartitionsAssignment:
    broker_ids: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class CreatePartitionsTopic:
    name: String = ""
    count: Int32 = 0
    assignments: list[CreatePartitionsAssignment] | None = field(default_factory=list)


@dataclass(slots=True)
class CreatePartitionsRequest:
    """The new total of each topic, perhaps with an assignment for the new partitions."""

    API_KEY: ClassVar[int] = 37
    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    topics: list[CreatePartitionsTopic] = field(default_factory=list)
    timeout_ms: Int32 = 0
    validate_only: Bool = False


@dataclass(slots=True)
class CreatePartitionsTopicResult:
    name: String = ""
    error_code: Int16 = 0
    error_message: NullableString = None


@dataclass(slots=True)
class CreatePartitionsResponse:
    """What became of each topic."""

    API_KEY: ClassVar[int] = 37
    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    throttle_time_ms: Int32 = 0
    results: list[CreatePartitionsTopicResult] = field(default_factory=list)
