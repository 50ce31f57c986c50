"""ElectLeaders (key 43): leaders of partitions to be elected (KIP-183).

Versions: 1 unclean elections (KIP-460); 2 flexible (KIP-482).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Int8, Int16, Int32, NullableString, String, since


@dataclass(slots=True)
class TopicPartitions:
    topic: String = ""
    partitions: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class ElectLeadersRequest:
    """The partitions (null means all) and the kind of election: 0 preferred, 1 unclean."""

    API_KEY: ClassVar[int] = 43
    VERSIONS: ClassVar[tuple[int, int]] = (0, 2)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    election_type: Annotated[Int8, since(1)] = 0
    topic_partitions: list[TopicPartitions] | None = field(default_factory=list)
    timeout_ms: Int32 = 60000


@dataclass(slots=True)
class PartitionResult:
    partition_id: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = ""


@dataclass(slots=True)
class ReplicaElectionResult:
    topic: String = ""
    partition_result: list[PartitionResult] = field(default_factory=list)


@dataclass(slots=True)
class ElectLeadersResponse:
    """What became of each partition."""

    API_KEY: ClassVar[int] = 43
    VERSIONS: ClassVar[tuple[int, int]] = (0, 2)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    throttle_time_ms: Int32 = 0
    error_code: Annotated[Int16, since(1)] = 0
    replica_election_results: list[ReplicaElectionResult] = field(default_factory=list)
