"""DescribeTopicPartitions (key 75): topics and partitions page by page (KIP-966).

Version 0. Topics come sorted by name; a page holds at most as many partitions as the request and
`max.request.partition.size.limit` allow, at least one, and ends with a cursor to where the next
page starts. As Apache Kafka 4.4; eligible leader replicas are a KRaft notion and always empty.
A cursor that points to none of the topics asked for is INVALID_REQUEST and an empty name
UNKNOWN_SERVER_ERROR, for every topic. Left out: authorization.
"""

from typing import TYPE_CHECKING

from broker.auto_topics import is_internal
from broker.cluster.view import ClusterView, TopicInfo
from broker.controller.topics import name_error
from broker.handlers.metadata import TOPIC_OPERATIONS, leader_error
from protocol.errors import ErrorCode
from protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(
    node: "Node", context: "Context", request: DescribeTopicPartitionsRequest
) -> DescribeTopicPartitionsResponse:
    """Answer one page from the metadata cache."""
    view, cursor = node.metadata.view, request.cursor
    everything = not request.topics
    start = "" if cursor is None else cursor.topic_name
    asked = view.topics if everything else (topic.name for topic in request.topics)
    if any(not topic.name for topic in request.topics):
        return _refused(request, ErrorCode.UNKNOWN_SERVER_ERROR)
    if cursor is not None and not _in_range(cursor, request):
        return _refused(request, ErrorCode.INVALID_REQUEST)
    names = {name for name in asked if name >= start}
    left = max(
        1, min(node.config.max_request_partition_size_limit, request.response_partition_limit)
    )
    response = DescribeTopicPartitionsResponse()
    for name in sorted(names):
        if left == 0:
            response.next_cursor = Cursor(name, 0)
            break
        info = view.topics.get(name)
        if info is None:
            if not everything:
                response.topics.append(_absent(name))
            continue
        first = cursor.partition_index if cursor is not None and name == start else 0
        topic = _topic(view, info, context.listener, first, left)
        response.topics.append(topic)
        left -= len(topic.partitions)
        after = first + len(topic.partitions)
        if after < len(info.partitions):
            response.next_cursor = Cursor(name, after)
            break
    return response


def _in_range(cursor: Cursor, request: DescribeTopicPartitionsRequest) -> bool:
    """Whether a cursor points to one of the topics asked for (with none given, to any)."""
    named = not request.topics or any(t.name == cursor.topic_name for t in request.topics)
    return named and cursor.partition_index >= 0


def _refused(
    request: DescribeTopicPartitionsRequest, error: ErrorCode
) -> DescribeTopicPartitionsResponse:
    return DescribeTopicPartitionsResponse(
        topics=[
            DescribeTopicPartitionsResponseTopic(error_code=error, name=topic.name)
            for topic in request.topics
        ]
    )


def _absent(name: str) -> DescribeTopicPartitionsResponseTopic:
    error = (
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if name_error(name) is None
        else ErrorCode.INVALID_TOPIC_EXCEPTION
    )
    return DescribeTopicPartitionsResponseTopic(
        error_code=error,
        name=name,
        is_internal=is_internal(name),
        topic_authorized_operations=TOPIC_OPERATIONS,
    )


def _topic(
    view: ClusterView, info: TopicInfo, listener: str, first: int, limit: int
) -> DescribeTopicPartitionsResponseTopic:
    topic = DescribeTopicPartitionsResponseTopic(
        name=info.name,
        topic_id=info.topic_id,
        is_internal=info.internal,
        topic_authorized_operations=TOPIC_OPERATIONS,
    )
    for p in info.partitions[first : first + limit]:
        error, leader = leader_error(view, p, listener, listener_errors=True)
        topic.partitions.append(
            DescribeTopicPartitionsResponsePartition(
                error_code=error,
                partition_index=p.index,
                leader_id=leader,
                leader_epoch=p.leader_epoch,
                replica_nodes=list(p.replicas),
                isr_nodes=list(p.isr),
                eligible_leader_replicas=[],
                last_known_elr=[],
                offline_replicas=list(p.offline_replicas),
            )
        )
    return topic
