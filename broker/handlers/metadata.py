"""Metadata (key 3): brokers, topics and who leads their partitions.

Versions 0-13: 1 rack, controller, internal topics, null for all topics; 2 cluster id; 3 throttle
time; 4 creation may be forbidden; 5 offline replicas (KIP-112); 6 another error for a leader
without this listener; 7 leader epochs (KIP-320); 8 authorized operations (KIP-430); 9 flexible;
10 topic ids in answers (KIP-516); 11 no cluster operations (KIP-700); 12 questions by topic id;
13 an error for the whole answer (KIP-1102).

As Apache Kafka 3.9 in ZooKeeper mode, but that version 13 answers UNKNOWN_TOPIC_OR_PARTITION
instead of LEADER_NOT_AVAILABLE when the question creates the topic, as 4.4 does. Left out:
authorization (every operation is allowed), auto-creation on a broker that is not the controller
(the client is told to ask again).
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from broker import auto_topics
from broker.cluster.view import NO_LEADER, ClusterView, PartitionInfo, TopicInfo
from broker.controller.topics import name_error
from protocol.errors import ErrorCode
from protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from protocol.wire import ZERO_UUID

if TYPE_CHECKING:
    from broker.context import Context, Node

TOPIC_OPERATIONS = 3576
"""Bits of read, write, create, delete, alter, describe, describe and alter configs (KIP-430)."""
CLUSTER_OPERATIONS = 8096
"""Bits of create, alter, describe, cluster action, describe and alter configs, idempotent write."""


def handle(
    node: "Node", context: "Context", request: MetadataRequest
) -> MetadataResponse | Awaitable[MetadataResponse]:
    """Answer from the metadata cache; waits only when a topic must be created."""
    version, asked = context.version, request.topics
    if asked is None or (version == 0 and not asked):
        return _answer(node, context, request, list(node.metadata.view.topics), [])
    error = _whole_refusal(version, asked)
    if error is not None:
        return _refused(error, asked)
    ids = [topic.topic_id for topic in asked if topic.topic_id != ZERO_UUID]
    if ids:
        return _by_id(node, context, request, ids)
    view = node.metadata.view
    names = list(dict.fromkeys(topic.name for topic in asked if topic.name is not None))
    missing = [name for name in names if name not in view.topics]
    if not missing:
        return _answer(node, context, request, names, [])
    if not (request.allow_auto_topic_creation and node.config.auto_create_topics_enable):
        absent = [_absent(name, _why_absent(name)) for name in missing]
        return _answer(node, context, request, names, absent)
    invalid = [name for name in missing if name_error(name) is not None]
    if len(invalid) == len(missing):
        absent = [_absent(name, ErrorCode.INVALID_TOPIC_EXCEPTION) for name in missing]
        return _answer(node, context, request, names, absent)
    context_version, listener = version, context.listener
    return _create(node, context_version, listener, request, names, missing)


def _whole_refusal(version: int, asked: list[MetadataRequestTopic]) -> ErrorCode | None:
    if version < 12:
        if any(topic.name is None or topic.topic_id != ZERO_UUID for topic in asked):
            return ErrorCode.INVALID_REQUEST
        return None
    if any(topic.name is None for topic in asked) and all(
        topic.topic_id == ZERO_UUID for topic in asked
    ):
        return ErrorCode.UNKNOWN_SERVER_ERROR
    return None


def _refused(error: ErrorCode, asked: list[MetadataRequestTopic]) -> MetadataResponse:
    topics = [
        MetadataResponseTopic(error_code=error, name=topic.name or "", topic_id=topic.topic_id)
        for topic in asked
    ]
    return MetadataResponse(topics=topics, error_code=error)


def _by_id(
    node: "Node", context: "Context", request: MetadataRequest, ids: list[bytes]
) -> MetadataResponse:
    known = node.metadata.view.names
    unknown = [
        MetadataResponseTopic(error_code=ErrorCode.UNKNOWN_TOPIC_ID, name=None, topic_id=topic_id)
        for topic_id in dict.fromkeys(ids)
        if topic_id not in known
    ]
    names = list(dict.fromkeys(known[topic_id] for topic_id in ids if topic_id in known))
    response = _answer(node, context, request, names, [])
    response.topics[:0] = unknown
    return response


async def _create(
    node: "Node",
    version: int,
    listener: str,
    request: MetadataRequest,
    names: list[str],
    missing: list[str],
) -> MetadataResponse:
    wanted = [name for name in missing if name_error(name) is None]
    codes = await auto_topics.create(node, wanted)
    absent = []
    for name in missing:
        code = codes.get(name, ErrorCode.INVALID_TOPIC_EXCEPTION)
        if code in (ErrorCode.NONE, ErrorCode.NOT_CONTROLLER):
            # On its way; the client asks again.
            code = (
                ErrorCode.LEADER_NOT_AVAILABLE
                if version < 13
                else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            )
        absent.append(_absent(name, code))
    present = [name for name in names if name not in missing]
    return _build(node, version, listener, request, present, absent)


def _why_absent(name: str) -> ErrorCode:
    if name_error(name) is not None:
        return ErrorCode.INVALID_TOPIC_EXCEPTION
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def _absent(name: str, error: ErrorCode) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        error_code=error, name=name, is_internal=auto_topics.is_internal(name)
    )


def _answer(
    node: "Node",
    context: "Context",
    request: MetadataRequest,
    names: list[str],
    absent: list[MetadataResponseTopic],
) -> MetadataResponse:
    return _build(node, context.version, context.listener, request, names, absent)


def _build(
    node: "Node",
    version: int,
    listener: str,
    request: MetadataRequest,
    names: list[str],
    absent: list[MetadataResponseTopic],
) -> MetadataResponse:
    """The answer about `names` (those not in the view are passed over) and `absent`."""
    view = node.metadata.view
    # Three ways to tell of unreachable replicas; beyond that the codec drops what is too new.
    manner = 0 if version == 0 else 1 if version < 6 else 2
    made = node.metadata.memo.setdefault((manner, listener), {})
    topics: list[MetadataResponseTopic] = []
    for name in names:
        info = view.topics.get(name)
        if info is None:
            continue
        entry = made.get(name)
        if entry is None or entry[0] is not info:
            entry = made[name] = (info, _topic(view, info, listener, manner))
        topics.append(entry[1])
    topics += absent
    response = MetadataResponse(
        brokers=_brokers(view, listener),
        cluster_id=view.cluster_id,
        controller_id=view.controller_id,
        topics=topics,
    )
    if request.include_topic_authorized_operations:
        response.topics = [_with_operations(topic) for topic in topics]
    if request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = CLUSTER_OPERATIONS
    return response


def _with_operations(topic: MetadataResponseTopic) -> MetadataResponseTopic:
    """A copy: the original is shared by all answers."""
    return MetadataResponseTopic(
        topic.error_code,
        topic.name,
        topic.topic_id,
        topic.is_internal,
        topic.partitions,
        TOPIC_OPERATIONS,
    )


def _brokers(view: ClusterView, listener: str) -> list[MetadataResponseBroker]:
    """Live brokers that have the listener on which the question came."""
    found: list[MetadataResponseBroker] = []
    for broker_id, broker in sorted(view.brokers.items()):
        endpoint = broker.endpoints.get(listener)
        if endpoint is not None:
            found.append(MetadataResponseBroker(broker_id, *endpoint, broker.rack))
    return found


def _topic(view: ClusterView, info: TopicInfo, listener: str, manner: int) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        name=info.name,
        topic_id=info.topic_id,
        is_internal=info.internal,
        partitions=[_partition(view, p, listener, manner) for p in info.partitions],
    )


def _partition(
    view: ClusterView, info: PartitionInfo, listener: str, manner: int
) -> MetadataResponsePartition:
    replicas, isr = list(info.replicas), list(info.isr)
    if manner == 0:
        # Version 0 leaves unreachable replicas out and calls that an error.
        replicas = [b for b in replicas if view.endpoint(b, listener) is not None]
        isr = [b for b in isr if view.endpoint(b, listener) is not None]
    error, leader = leader_error(view, info, listener, listener_errors=manner == 2)
    if error == ErrorCode.NONE and len(replicas) + len(isr) < len(info.replicas) + len(info.isr):
        error = ErrorCode.REPLICA_NOT_AVAILABLE
    return MetadataResponsePartition(
        error_code=error,
        partition_index=info.index,
        leader_id=leader,
        leader_epoch=info.leader_epoch,
        replica_nodes=replicas,
        isr_nodes=isr,
        offline_replicas=list(info.offline_replicas),
    )


def leader_error(
    view: ClusterView, info: PartitionInfo, listener: str, *, listener_errors: bool
) -> tuple[ErrorCode, int]:
    """(error, leader) to tell of a partition: its leader must be alive and have the listener."""
    broker = view.brokers.get(info.leader)
    if broker is None:
        return ErrorCode.LEADER_NOT_AVAILABLE, NO_LEADER
    if listener in broker.endpoints:
        return ErrorCode.NONE, info.leader
    error = ErrorCode.LISTENER_NOT_FOUND if listener_errors else ErrorCode.LEADER_NOT_AVAILABLE
    return error, NO_LEADER
