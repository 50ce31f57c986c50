"""Metadata (key 3): brokers, controller, topics and the leaders of their partitions.

Versions: 1 racks, controller, internal topics (KIP-4); 2 cluster id (KIP-78); 3 throttle time
(KIP-124); 4 auto-creation as the client's choice; 5 offline replicas (KIP-112); 6 throttling after
the answer (KIP-219); 7 leader epochs (KIP-320); 8 authorized operations (KIP-430); 9 flexible
(KIP-482); 10 topic ids (KIP-516); 11 cluster operations moved to DescribeCluster (KIP-700); 12
topics asked for by id (KIP-516); 13 an error code for the whole answer (KIP-1102).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import (
    ZERO_UUID,
    Bool,
    Int16,
    Int32,
    NullableString,
    String,
    Uuid,
    ignorable,
    nullable_since,
    since,
    until,
)


@dataclass(slots=True)
class MetadataRequestTopic:
    topic_id: Annotated[Uuid, since(10), ignorable] = ZERO_UUID
    name: Annotated[NullableString, nullable_since(10)] = ""


@dataclass(slots=True)
class MetadataRequest:
    """The topics asked for; null (in version 0 an empty list) means all of them."""

    API_KEY: ClassVar[int] = 3
    VERSIONS: ClassVar[tuple[int, int]] = (0, 13)
    FLEXIBLE_SINCE: ClassVar[int | None] = 9

    topics: Annotated[list[MetadataRequestTopic] | None, nullable_since(1)] = field(
        default_factory=list
    )
    allow_auto_topic_creation: Annotated[Bool, since(4)] = True
    include_cluster_authorized_operations: Annotated[Bool, since(8), until(10)] = False
    include_topic_authorized_operations: Annotated[Bool, since(8)] = False


@dataclass(slots=True)
class MetadataResponseBroker:
    node_id: Int32 = 0
    host: String = ""
    port: Int32 = 0
    rack: Annotated[NullableString, since(1), ignorable] = None


@dataclass(slots=True)
class MetadataResponsePartition:
    error_code: Int16 = 0
    partition_index: Int32 = 0
    leader_id: Int32 = 0
    leader_epoch: Annotated[Int32, since(7), ignorable] = -1
    replica_nodes: list[Int32] = field(default_factory=list)
    isr_nodes: list[Int32] = field(default_factory=list)
    offline_replicas: Annotated[list[Int32], since(5), ignorable] = field(default_factory=list)


@dataclass(slots=True)
class MetadataResponseTopic:
    error_code: Int16 = 0
    name: Annotated[NullableString, nullable_since(12)] = ""
    topic_id: Annotated[Uuid, since(10), ignorable] = ZERO_UUID
    is_internal: Annotated[Bool, since(1), ignorable] = False
    partitions: list[MetadataResponsePartition] = field(default_factory=list)
    topic_authorized_operations: Annotated[Int32, since(8)] = -2147483648


@dataclass(slots=True)
class MetadataResponse:
    """The cluster as the answering broker knows it."""

    API_KEY: ClassVar[int] = 3
    VERSIONS: ClassVar[tuple[int, int]] = (0, 13)
    FLEXIBLE_SINCE: ClassVar[int | None] = 9

    throttle_time_ms: Annotated[Int32, since(3), ignorable] = 0
    brokers: list[MetadataResponseBroker] = field(default_factory=list)
    cluster_id: Annotated[NullableString, since(2), ignorable] = None
    controller_id: Annotated[Int32, since(1), ignorable] = -1
    topics: list[MetadataResponseTopic] = field(default_factory=list)
    cluster_authorized_operations: Annotated[Int32, since(8), until(10)] = -2147483648
    error_code: Annotated[Int16, since(13), ignorable] = 0
