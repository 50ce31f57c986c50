"""AlterShareGroupOffsets (key 91): where a share group is to go on reading (KIP-932).

Version 0. The states of the share partitions begin anew at the offsets given, in a group without
members (else NON_EMPTY_GROUP), which is made if there is none. Unknown topics and partitions are
UNKNOWN_TOPIC_OR_PARTITION and do not hold up the others. Served where the feature share.version is
finalized at 1, else UNSUPPORTED_VERSION. Left out: authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.cluster.features import SHARE_VERSION
from broker.coordinator import Outcome, Waiting
from broker.groups.share_states import InitializeStates
from broker.shares.common import Refused, ShareKey
from broker.shares.state import Answer
from broker.waiting import then
from protocol.errors import ErrorCode
from protocol.messages.alter_share_group_offsets import (
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsResponse,
    AlterShareGroupOffsetsResponsePartition,
    AlterShareGroupOffsetsResponseTopic,
)

if TYPE_CHECKING:
    from broker.cluster.view import ClusterView
    from broker.context import Context, Node
    from broker.groups.machine import GroupMachine

Topic = AlterShareGroupOffsetsResponseTopic
Row = AlterShareGroupOffsetsResponsePartition
Offsets = dict[bytes, dict[int, int]]
"""Topic id -> partition -> start offset."""


def handle(node: "Node", context: "Context", request: AlterShareGroupOffsetsRequest) -> Any:
    """The response, or who will have it once the states are there."""
    if node.features.level(SHARE_VERSION) < 1:
        return _refused(ErrorCode.UNSUPPORTED_VERSION)
    group_id = request.group_id
    if not group_id:
        return _refused(ErrorCode.INVALID_GROUP_ID)
    topics, offsets = _sort_out(request, node.metadata.view)
    if any(index < 0 for of_topic in offsets.values() for index in of_topic):
        return _refused(ErrorCode.UNKNOWN_SERVER_ERROR, "A partition is negative.")
    result = Waiting(_refused)

    def decide(machine: "GroupMachine", who: Waiting, now_ms: int) -> Outcome:
        try:
            records, work = machine.share.states.alter_offsets(group_id, offsets, now_ms)
        except Refused as refused:
            return Outcome(replies=((who, _refused(refused.code, refused.message)),))
        return Outcome(records, ((who, work),))

    def decided(work: InitializeStates | AlterShareGroupOffsetsResponse) -> None:
        if isinstance(work, InitializeStates):
            node.shares.groups.initialize(work, made)
        else:
            result.answer(work)

    def made(answers: dict[ShareKey, Answer]) -> None:
        _tell(topics, {key[1:]: answer for key, answer in answers.items() if answer.code})
        result.answer(AlterShareGroupOffsetsResponse(responses=topics))

    node.shares.groups.write(group_id, decide, _refused, decided)
    return then(result, lambda response: response)


def _sort_out(
    request: AlterShareGroupOffsetsRequest, view: "ClusterView"
) -> tuple[list[Topic], Offsets]:
    """The answer's rows, those of unknown topics first, and the offsets of what is known."""
    topics: dict[str, Topic] = {}
    offsets: Offsets = {}
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    for asked in sorted(request.topics, key=lambda topic: topic.topic_name in view.topics):
        name = asked.topic_name
        info = view.topics.get(name)
        topic = topics.setdefault(name, Topic(name))
        if info is not None:
            topic.topic_id = info.topic_id
            of_topic = offsets.setdefault(info.topic_id, {})
        for partition in asked.partitions:
            index = partition.partition_index
            row = Row(index)
            topic.partitions.append(row)
            if info is None or index >= len(info.partitions):
                row.error_code, row.error_message = unknown, unknown.message
            else:
                of_topic[index] = partition.start_offset
    return list(topics.values()), offsets


def _tell(topics: list[Topic], failed: dict[tuple[bytes, int], Answer]) -> None:
    """What the share coordinator refused."""
    for topic in topics:
        for row in topic.partitions:
            answer = failed.get((topic.topic_id, row.partition_index))
            if answer is not None:
                row.error_code, row.error_message = answer.code, answer.message


def _refused(code: ErrorCode, message: str | None = None) -> AlterShareGroupOffsetsResponse:
    return AlterShareGroupOffsetsResponse(error_code=code, error_message=message or code.message)
