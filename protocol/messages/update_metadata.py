"""UpdateMetadata (key 6): the controller tells a broker what the cluster looks like (ZooKeeper
mode).

Versions: 1 several endpoints a broker; 2 rack (KIP-36); 3 listener names (KIP-103); 4 offline
replicas (KIP-112); 5 broker epoch, grouped by topic (KIP-380); 6 flexible (KIP-482); 7 topic ids
(KIP-516); 8 marks of a KRaft controller (KIP-866).
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
    NullableString,
    String,
    Uuid,
    ignorable,
    since,
    tag,
    until,
)


@dataclass(slots=True)
class UpdateMetadataPartitionState:
    topic_name: Annotated[String, until(4), ignorable] = ""
    partition_index: Int32 = 0
    controller_epoch: Int32 = 0
    leader: Int32 = 0
    leader_epoch: Int32 = 0
    isr: list[Int32] = field(default_factory=list)
    zk_version: Int32 = 0
    replicas: list[Int32] = field(default_factory=list)
    offline_replicas: Annotated[list[Int32], since(4), ignorable] = field(default_factory=list)


@dataclass(slots=True)
class UpdateMetadataTopicState:
    topic_name: String = ""
    topic_id: Annotated[Uuid, since(7), ignorable] = ZERO_UUID
    partition_states: list[UpdateMetadataPartitionState] = field(default_factory=list)


@dataclass(slots=True)
class UpdateMetadataEndpoint:
    port: Int32 = 0
    host: String = ""
    listener: Annotated[String, since(3), ignorable] = ""
    security_protocol: Int16 = 0


@dataclass(slots=True)
class UpdateMetadataBroker:
    id: Int32 = 0
    v0_host: Annotated[String, until(0), ignorable] = ""
    v0_port: Annotated[Int32, until(0), ignorable] = 0
    endpoints: Annotated[list[UpdateMetadataEndpoint], since(1), ignorable] = field(
        default_factory=list
    )
    rack: Annotated[NullableString, since(2), ignorable] = ""


@dataclass(slots=True)
class UpdateMetadataRequest:
    """Live brokers and the state of the partitions that changed."""

    API_KEY: ClassVar[int] = 6
    VERSIONS: ClassVar[tuple[int, int]] = (0, 8)
    FLEXIBLE_SINCE: ClassVar[int | None] = 6

    controller_id: Int32 = 0
    is_kraft_controller: Annotated[Bool, since(8)] = False
    type: Annotated[Int8, since(8), tag(0)] = 0
    controller_epoch: Int32 = 0
    broker_epoch: Annotated[Int64, since(5), ignorable] = -1
    ungrouped_partition_states: Annotated[list[UpdateMetadataPartitionState], until(4)] = field(
        default_factory=list
    )
    topic_states: Annotated[list[UpdateMetadataTopicState], since(5)] = field(default_factory=list)
    live_brokers: list[UpdateMetadataBroker] = field(default_factory=list)


@dataclass(slots=True)
class UpdateMetadataResponse:
    """Whether the news was taken."""

    API_KEY: ClassVar[int] = 6
    VERSIONS: ClassVar[tuple[int, int]] = (0, 8)
    FLEXIBLE_SINCE: ClassVar[int | None] = 6

    error_code: Int16 = 0
