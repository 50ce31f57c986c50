"""DescribeShareGroupOffsets (key 90): where share groups are, and how far behind (KIP-932).

Versions 0-1: 1 lag (KIP-1226).

Null topics mean all that the group has states of. A share partition without a state, or whose state
cannot be had, and one of an unknown topic stands at -1; lag, the records that the group has still
to do with, is -1 where it is not known. Served where the feature share.version is finalized at 1,
else UNSUPPORTED_VERSION. Left out: authorization.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from broker.cluster.features import SHARE_VERSION
from broker.coordinator import Waiting
from broker.shares.common import NO_OFFSET, UNKNOWN_COUNT, ShareKey
from broker.shares.ends import End, Place
from broker.shares.state import Answer
from broker.waiting import gather
from protocol.errors import ErrorCode
from protocol.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsResponse,
    DescribeShareGroupOffsetsResponseGroup,
    DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

Group = DescribeShareGroupOffsetsResponseGroup
Topic = DescribeShareGroupOffsetsResponseTopic
Row = DescribeShareGroupOffsetsResponsePartition


def handle(node: "Node", context: "Context", request: DescribeShareGroupOffsetsRequest) -> Any:
    """The response, or who will have it."""
    groups = [_describe(node, asked) for asked in request.groups]
    return gather(groups, lambda answers: DescribeShareGroupOffsetsResponse(groups=answers))


def _describe(node: "Node", asked: DescribeShareGroupOffsetsRequestGroup) -> Any:
    """The group, or a `Waiting` for it."""
    group_id = asked.group_id
    if node.features.level(SHARE_VERSION) < 1:
        return Group(group_id, error_code=ErrorCode.UNSUPPORTED_VERSION)
    keys: list[ShareKey] = []
    unknown: list[Topic] = []
    if asked.topics is None:
        found = node.groups.find(group_id)
        if isinstance(found, ErrorCode):
            return Group(group_id, error_code=found, error_message=found.message)
        keys = found.share.states.with_states(group_id)
    for topic in asked.topics or ():
        info = node.metadata.view.topics.get(topic.topic_name)
        if info is not None and not (group_id and topic.partitions):
            # Nothing that the share coordinator could be asked; an unknown error to Apache Kafka.
            code = ErrorCode.UNKNOWN_SERVER_ERROR
            return Group(group_id, error_code=code, error_message=code.message)
        if info is None:
            rows = [Row(index, NO_OFFSET) for index in topic.partitions]
            unknown.append(Topic(topic.topic_name, partitions=rows))
        else:
            keys += [ShareKey(group_id, info.topic_id, index) for index in topic.partitions]
    result = Waiting(lambda code: Group(group_id, error_code=code))

    def told(answers: dict[ShareKey, Answer]) -> None:
        places = _places(node, answers)
        counted = [places[key] for key, answer in answers.items() if _is_counted(answer)]
        node.shares.ends.ask(
            counted,
            lambda ends: result.answer(
                Group(group_id, [*_topics(answers, places, ends), *unknown])
            ),
        )

    node.shares.groups.summaries(keys, told)
    return result


def _places(node: "Node", keys: Iterable[ShareKey]) -> dict[ShareKey, Place]:
    names = node.metadata.view.names
    return {key: (names.get(key.topic_id, ""), key.partition) for key in keys}


def _is_counted(answer: Answer) -> bool:
    """Whether lag can be told: there is a start, and what is done after it is counted."""
    state = answer.state
    return (
        state is not None
        and state.start_offset != NO_OFFSET
        and state.complete_count != UNKNOWN_COUNT
    )


def _topics(
    answers: Mapping[ShareKey, Answer], places: Mapping[ShareKey, Place], ends: Mapping[Place, End]
) -> list[Topic]:
    topics: dict[bytes, Topic] = {}
    for key, answer in answers.items():
        name, index = places[key]
        topic = topics.setdefault(key.topic_id, Topic(name, key.topic_id))
        topic.partitions.append(_row(index, answer, ends.get(places[key])))
    return list(topics.values())


def _row(index: int, answer: Answer, end: End | None) -> Row:
    """`end` of a partition whose lag can be told."""
    state = answer.state
    if state is None:
        return Row(index, NO_OFFSET)
    if isinstance(end, ErrorCode):
        return Row(index, error_code=end, error_message=end.message)
    row = Row(index, state.start_offset, state.leader_epoch)
    if end is not None:
        row.lag = end - state.start_offset - state.complete_count
    return row
