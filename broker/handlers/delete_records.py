"""DeleteRecords (key 21): the head of partitions is cut off at an offset (KIP-107).

Versions 0-2: 1 throttling after the answer (KIP-219); 2 flexible (KIP-482).

Per partition, in this order: unknown UNKNOWN_TOPIC_OR_PARTITION, internal topic
INVALID_TOPIC_EXCEPTION, not led here NOT_LEADER_OR_FOLLOWER, compaction without deletion
POLICY_VIOLATION, an offset below 0 (but -1, the high watermark) or above the high watermark
OFFSET_OUT_OF_RANGE. An offset below the log's start changes nothing. A topic and a partition named
twice are answered once, the last offset counts; a topic without partitions is not answered (as in
Apache Kafka).

Left out: waiting until followers have moved their log start too (the answer's low watermark is the
leader's log start, which with one replica is the same; the timeout has no use); authorization.
"""

from typing import TYPE_CHECKING

from broker.cluster.view import INTERNAL_TOPICS
from broker.errors import REFUSALS, code_of
from protocol.errors import ErrorCode
from protocol.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

HIGH_WATERMARK = -1
NO_WATERMARK = -1


def handle(
    node: "Node", context: "Context", request: DeleteRecordsRequest
) -> DeleteRecordsResponse:
    """Move the log starts; each partition is answered on its own."""
    wanted: dict[str, dict[int, int]] = {}
    for topic in request.topics:
        offsets = wanted.setdefault(topic.name, {})
        for partition in topic.partitions:
            offsets[partition.partition_index] = partition.offset
    topics = [
        DeleteRecordsTopicResult(
            name=name,
            partitions=[_delete(node, name, index, offset) for index, offset in offsets.items()],
        )
        for name, offsets in wanted.items()
        if offsets
    ]
    return DeleteRecordsResponse(topics=topics)


def _delete(node: "Node", topic: str, index: int, offset: int) -> DeleteRecordsPartitionResult:
    answer = DeleteRecordsPartitionResult(partition_index=index, low_watermark=NO_WATERMARK)
    if node.metadata.view.partition(topic, index) is None:
        answer.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return answer
    if topic in INTERNAL_TOPICS:
        answer.error_code = ErrorCode.INVALID_TOPIC_EXCEPTION
        return answer
    partition = node.replicas.leader(topic, index)
    if isinstance(partition, ErrorCode):
        answer.error_code = partition
        return answer
    log = partition.log
    assert log is not None
    if log.config.compact and not log.config.delete:
        answer.error_code = ErrorCode.POLICY_VIOLATION
        return answer
    start = log.high_watermark if offset == HIGH_WATERMARK else offset
    if not 0 <= start <= log.high_watermark:
        answer.error_code = ErrorCode.OFFSET_OUT_OF_RANGE
        return answer
    try:
        log.advance_log_start_offset(start)
    except REFUSALS as error:
        answer.error_code = code_of(error)
    else:
        answer.low_watermark = log.log_start_offset
    return answer
