"""DescribeProducers (key 61): idempotent and transactional producers of partitions (KIP-664).

Version 0. Any replica answers, not only the leader. A topic that the cluster does not know is
UNKNOWN_TOPIC_OR_PARTITION (INVALID_TOPIC_EXCEPTION if it cannot be a name) with a sentence, an
unknown partition of a known topic the same without, as in Apache Kafka. Left out: authorization.
"""

from typing import TYPE_CHECKING

from broker.controller.topics import name_error
from protocol.errors import ErrorCode
from protocol.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(
    node: "Node", context: "Context", request: DescribeProducersRequest
) -> DescribeProducersResponse:
    """Answer from the producer states of the hosted logs."""
    known = node.metadata.view.topics
    topics: list[TopicResponse] = []
    for topic in request.topics:
        if topic.name in known:
            partitions = [_describe(node, topic.name, index) for index in topic.partition_indexes]
        else:
            error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            if name_error(topic.name) is not None:
                error = ErrorCode.INVALID_TOPIC_EXCEPTION
            partitions = [_refused(index, error) for index in topic.partition_indexes]
        topics.append(TopicResponse(name=topic.name, partitions=partitions))
    return DescribeProducersResponse(topics=topics)


def _refused(index: int, error: ErrorCode) -> PartitionResponse:
    return PartitionResponse(partition_index=index, error_code=error, error_message=error.message)


def _describe(node: "Node", topic: str, index: int) -> PartitionResponse:
    partition = node.replicas.partition(topic, index)
    if partition is None:
        error = node.replicas.missing(topic, index)
        return PartitionResponse(partition_index=index, error_code=error)
    if partition.log is None:
        return PartitionResponse(partition_index=index, error_code=ErrorCode.KAFKA_STORAGE_ERROR)
    return PartitionResponse(
        partition_index=index,
        active_producers=[
            ProducerState(
                producer_id=entry.producer_id,
                producer_epoch=entry.epoch,
                last_sequence=entry.last_sequence,
                last_timestamp=entry.last_timestamp,
                coordinator_epoch=entry.coordinator_epoch,
                current_txn_start_offset=entry.txn_first_offset,
            )
            for entry in partition.log.producers.entries()
        ],
    )
