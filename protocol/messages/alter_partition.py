"""AlterPartition (key 56): a leader asks the controller to change a partition's ISR (KIP-497).

Versions: 1 leader recovery state (KIP-704); 2 topic ids for names (KIP-841); 3 broker epochs of the
ISR's members (KIP-903).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import (
    ZERO_UUID,
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
class BrokerState:
    broker_id: Int32 = 0
    broker_epoch: Int64 = -1


@dataclass(slots=True)
class RequestPartitionData:
    partition_index: Int32 = 0
    leader_epoch: Int32 = 0
    new_isr: Annotated[list[Int32], until(2)] = field(default_factory=list)
    new_isr_with_epochs: Annotated[list[BrokerState], since(3)] = field(default_factory=list)
    leader_recovery_state: Annotated[Int8, since(1)] = 0
    partition_epoch: Int32 = 0


@dataclass(slots=True)
class RequestTopicData:
    topic_name: Annotated[String, until(1), ignorable] = ""
    topic_id: Annotated[Uuid, since(2), ignorable] = ZERO_UUID
    partitions: list[RequestPartitionData] = field(default_factory=list)


@dataclass(slots=True)
class AlterPartitionRequest:
    """The ISR that the leader wants, with the partition epoch it knows."""

    API_KEY: ClassVar[int] = 56
    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    broker_id: Int32 = 0
    broker_epoch: Int64 = -1
    topics: list[RequestTopicData] = field(default_factory=list)


@dataclass(slots=True)
class ResponsePartitionData:
    partition_index: Int32 = 0
    error_code: Int16 = 0
    leader_id: Int32 = 0
    leader_epoch: Int32 = 0
    isr: list[Int32] = field(default_factory=list)
    leader_recovery_state: Annotated[Int8, since(1), ignorable] = 0
    partition_epoch: Int32 = 0


@dataclass(slots=True)
class ResponseTopicData:
    topic_name: Annotated[String, until(1), ignorable] = ""
    topic_id: Annotated[Uuid, since(2), ignorable] = ZERO_UUID
    partitions: list[ResponsePartitionData] = field(default_factory=list)


@dataclass(slots=True)
class AlterPartitionResponse:
    """The partition's state as it is now."""

    API_KEY: ClassVar[int] = 56
    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    topics: list[ResponseTopicData] = field(default_factory=list)
