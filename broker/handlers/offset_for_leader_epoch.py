"""OffsetForLeaderEpoch (key 23): where a leader epoch ends in the leader's log (KIP-101, KIP-279).

Versions 0-4: 1 the epoch found, which may be an older one (KIP-279); 2 the asker's leader epoch is
checked, throttle time (KIP-320); 3 who asks (KIP-392); 4 flexible (KIP-482).

The answer is the largest epoch of this log that is not above the one asked for, with the offset
where the next epoch begins (for the newest: the log's end); -1 and -1, without error, for an epoch
above all of them. Only the leader answers. The replica id (version 3) makes no difference.
Left out: authorization.
"""

from typing import TYPE_CHECKING

from broker.errors import REFUSALS, code_of
from protocol.errors import ErrorCode
from protocol.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(
    node: "Node", context: "Context", request: OffsetForLeaderEpochRequest
) -> OffsetForLeaderEpochResponse:
    """Answer each partition from its log's leader epochs."""
    topics = [
        OffsetForLeaderTopicResult(
            topic=topic.topic,
            partitions=[_answer(node, topic.topic, asked) for asked in topic.partitions],
        )
        for topic in request.topics
    ]
    return OffsetForLeaderEpochResponse(topics=topics)


def _answer(node: "Node", topic: str, asked: OffsetForLeaderPartition) -> EpochEndOffset:
    found = node.replicas.leader(topic, asked.partition, asked.current_leader_epoch)
    if isinstance(found, ErrorCode):
        return EpochEndOffset(error_code=found, partition=asked.partition)
    log = found.log
    assert log is not None
    try:
        epoch, end_offset = log.end_offset_for_epoch(asked.leader_epoch)
    except REFUSALS as error:
        return EpochEndOffset(error_code=code_of(error), partition=asked.partition)
    return EpochEndOffset(partition=asked.partition, leader_epoch=epoch, end_offset=end_offset)
