"""AlterPartitionReassignments (key 45): partitions to be moved to other replicas (KIP-455).

Versions: 1 whether the number of replicas may change (KIP-860).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Bool, Int16, Int32, NullableString, String, ignorable, since


@dataclass(slots=True)
class ReassignablePartition:
    partition_index: Int32 = 0
    replicas: list[Int32] | None = None


@dataclass(slots=True)
class ReassignableTopic:
    name: String = ""
    partitions: list[ReassignablePartition] = field(default_factory=list)


@dataclass(slots=True)
class AlterPartitionReassignmentsRequest:
    """The replicas each partition shall have; null cancels a move."""

    API_KEY: ClassVar[int] = 45
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    timeout_ms: Int32 = 60000
    allow_replication_factor_change: Annotated[Bool, since(1)] = True
    topics: list[ReassignableTopic] = field(default_factory=list)


@dataclass(slots=True)
class ReassignablePartitionResponse:
    partition_index: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = ""


@dataclass(slots=True)
class ReassignableTopicResponse:
    name: String = ""
    partitions: list[ReassignablePartitionResponse] = field(default_factory=list)


@dataclass(slots=True)
class AlterPartitionReassignmentsResponse:
    """What became of each partition."""

    API_KEY: ClassVar[int] = 45
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Int32 = 0
    allow_replication_factor_change: Annotated[Bool, since(1), ignorable] = True
    error_code: Int16 = 0
    error_message: NullableString = ""
    responses: list[ReassignableTopicResponse] = field(default_factory=list)
