"""StopReplica (key 5): the controller tells a broker to stop replicas and perhaps delete them
(ZooKeeper mode).

Versions: 1 broker epoch, grouped by topic (KIP-380); 2 flexible (KIP-482); 3 leader epochs,
deletion by partition (KIP-570); 4 marks of a KRaft controller (KIP-866).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Bool, Int16, Int32, Int64, String, ignorable, since, until


@dataclass(slots=True)
class StopReplicaPartitionV0:
    topic_name: String = ""
    partition_index: Int32 = 0


@dataclass(slots=True)
class StopReplicaTopicV1:
    name: String = ""
    partition_indexes: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class StopReplicaPartitionState:
    partition_index: Int32 = 0
    leader_epoch: Int32 = -1
    delete_partition: Bool = False


@dataclass(slots=True)
class StopReplicaTopicState:
    topic_name: String = ""
    partition_states: list[StopReplicaPartitionState] = field(default_factory=list)


@dataclass(slots=True)
class StopReplicaRequest:
    """The partitions to stop, fenced by controller epoch, broker epoch and leader epoch."""

    API_KEY: ClassVar[int] = 5
    VERSIONS: ClassVar[tuple[int, int]] = (0, 4)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    controller_id: Int32 = 0
    is_kraft_controller: Annotated[Bool, since(4)] = False
    controller_epoch: Int32 = 0
    broker_epoch: Annotated[Int64, since(1), ignorable] = -1
    delete_partitions: Annotated[Bool, until(2)] = False
    ungrouped_partitions: Annotated[list[StopReplicaPartitionV0], until(0)] = field(
        default_factory=list
    )
    topics: Annotated[list[StopReplicaTopicV1], since(1), until(2)] = field(default_factory=list)
    topic_states: Annotated[list[StopReplicaTopicState], since(3)] = field(default_factory=list)


@dataclass(slots=True)
class StopReplicaPartitionError:
    topic_name: String = ""
    partition_index: Int32 = 0
    error_code: Int16 = 0


@dataclass(slots=True)
class StopReplicaResponse:
    """What became of each partition."""

    API_KEY: ClassVar[int] = 5
    VERSIONS: ClassVar[tuple[int, int]] = (0, 4)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    error_code: Int16 = 0
    partition_errors: list[StopReplicaPartitionError] = field(default_factory=list)
