"""OffsetDelete (key 47): committed offsets of a group are deleted (KIP-496).

Version 0. Topics that a member of the group subscribes to are GROUP_SUBSCRIBED_TO_TOPIC; a group of
another protocol type than "consumer" must be empty, else NON_EMPTY_GROUP. A group that is empty and
has no offset left is deleted with them, as in Apache Kafka 3.9. An error of the group is at the top
and leaves the topics out. A partition named twice is answered once. Left out: authorization.
"""

from typing import TYPE_CHECKING, Any

from protocol.errors import ErrorCode
from protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: OffsetDeleteRequest) -> Any:
    """The response, or who will have it."""
    group_id, view = request.group_id, node.metadata.view
    if not group_id:
        return _refused(ErrorCode.INVALID_GROUP_ID)
    topics: dict[str, OffsetDeleteResponseTopic] = {}
    known: dict[tuple[str, int], OffsetDeleteResponsePartition] = {}
    for topic in request.topics:
        if not topic.partitions:
            continue
        row = topics.setdefault(topic.name, OffsetDeleteResponseTopic(topic.name))
        answered = {p.partition_index for p in row.partitions}
        for index in dict.fromkeys(p.partition_index for p in topic.partitions):
            if index in answered:
                continue
            answer = OffsetDeleteResponsePartition(index)
            row.partitions.append(answer)
            if view.partition(topic.name, index) is None:
                answer.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            else:
                known[topic.name, index] = answer
    response = OffsetDeleteResponse(topics=list(topics.values()))
    return node.groups.write(
        group_id,
        lambda machine, who, now_ms: machine.offsets.delete_offsets(group_id, known, response, who),
        _refused,
    )


def _refused(code: ErrorCode) -> OffsetDeleteResponse:
    return OffsetDeleteResponse(error_code=code)
