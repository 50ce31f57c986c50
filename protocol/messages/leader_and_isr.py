"""LeaderAndIsr (key 4): the controller tells a broker which partitions it leads or follows
(ZooKeeper mode).

Versions: 1 new partitions are marked; 2 broker epoch, grouped by topic (KIP-380); 3 adding and
removing replicas (KIP-455); 4 flexible (KIP-482); 5 topic ids, full or partial picture (KIP-516); 6
leader recovery state (KIP-704); 7 marks of a KRaft controller (KIP-866).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import (
    ZERO_UUID,
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    String,
    Uuid,
    ignorable,
    since,
    until,
)


@dataclass(slots=True)
class LeaderAndIsrPartitionState:
    topic_name: Annotated[String, until(1), ignorable] = ""
    partition_index: Int32 = 0
    controller_epoch: Int32 = 0
    leader: Int32 = 0
    leader_epoch: Int32 = 0
    isr: list[Int32] = field(default_factory=list)
    partition_epoch: Int32 = 0
    replicas: list[Int32] = field(default_factory=list)
    adding_replicas: Annotated[list[Int32], since(3), ignorable] = field(default_factory=list)
    removing_replicas: Annotated[list[Int32], since(3), ignorable] = field(default_factory=list)
    is_new: Annotated[Bool, since(1), ignorable] = False
    leader_recovery_state: Annotated[Int8, since(6)] = 0


@dataclass(slots=True)
class LeaderAndIsrTopicState:
    topic_name: String = ""
    topic_id: Annotated[Uuid, since(5), ignorable] = ZERO_UUID
    partition_states: list[LeaderAndIsrPartitionState] = field(default_factory=list)


@dataclass(slots=True)
class LeaderAndIsrLiveLeader:
    broker_id: Int32 = 0
    host_name: String = ""
    port: Int32 = 0


@dataclass(slots=True)
class LeaderAndIsrRequest:
    """The state of partitions on the broker it is sent to, fenced by controller epoch and broker
    epoch.
    """

    API_KEY: ClassVar[int] = 4
    VERSIONS: ClassVar[tuple[int, int]] = (0, 7)
    FLEXIBLE_SINCE: ClassVar[int | None] = 4

    controller_id: Int32 = 0
    is_kraft_controller: Annotated[Bool, since(7)] = False
    controller_epoch: Int32 = 0
    broker_epoch: Annotated[Int64, since(2), ignorable] = -1
    type: Annotated[Int8, since(5)] = 0
    ungrouped_partition_states: Annotated[list[LeaderAndIsrPartitionState], until(1)] = field(
        default_factory=list
    )
    topic_states: Annotated[list[LeaderAndIsrTopicState], since(2)] = field(default_factory=list)
    live_leaders: list[LeaderAndIsrLiveLeader] = field(default_factory=list)


@dataclass(slots=True)
class LeaderAndIsrPartitionError:
    topic_name: Annotated[String, until(4), ignorable] = ""
    partition_index: Int32 = 0
    error_code: Int16 = 0


@dataclass(slots=True)
class LeaderAndIsrTopicError:
    topic_id: Uuid = ZERO_UUID
    partition_errors: list[LeaderAndIsrPartitionError] = field(default_factory=list)


@dataclass(slots=True)
class LeaderAndIsrResponse:
    """What became of each partition."""

    API_KEY: ClassVar[int] = 4
    VERSIONS: ClassVar[tuple[int, int]] = (0, 7)
    FLEXIBLE_SINCE: ClassVar[int | None] = 4

    error_code: Int16 = 0
    partition_errors: Annotated[list[LeaderAndIsrPartitionError], until(4)] = field(
        default_factory=list
    )
    topics: Annotated[list[LeaderAndIsrTopicError], since(5)] = field(default_factory=list)
