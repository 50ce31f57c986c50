"""AlterReplicaLogDirs (key 34): replicas to be moved between log directories of a broker (KIP-113).

Versions: 1 throttling after the answer (KIP-219); 2 flexible (KIP-482).
"""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import Int16, Int32, String


@dataclass(slots=True)
class AlterReplicaLogDirTopic:
    name: String = ""
    partitions: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class AlterReplicaLogDir:
    path: String = ""
    topics: list[AlterReplicaLogDirTopic] = field(default_factory=list)


@dataclass(slots=True)
class AlterReplicaLogDirsRequest:
    """Directories with the partitions that belong there."""

    API_KEY: ClassVar[int] = 34
    VERSIONS: ClassVar[tuple[int, int]] = (0, 2)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    dirs: list[AlterReplicaLogDir] = field(default_factory=list)


@dataclass(slots=True)
class AlterReplicaLogDirPartitionResult:
    partition_index: Int32 = 0
    error_code: Int16 = 0


@dataclass(slots=True)
class AlterReplicaLogDirTopicResult:
    topic_name: String = ""
    partitions: list[AlterReplicaLogDirPartitionResult] = field(default_factory=list)


@dataclass(slots=True)
class AlterReplicaLogDirsResponse:
    """What became of each partition."""

    API_KEY: ClassVar[int] = 34
    VERSIONS: ClassVar[tuple[int, int]] = (0, 2)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    throttle_time_ms: Int32 = 0
    results: list[AlterReplicaLogDirTopicResult] = field(default_factory=list)
