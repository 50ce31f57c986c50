"""OffsetFetch (key 9): committed offsets of groups.

Versions 0-10: 1 offsets of the offsets topic; 2 all partitions at once (null), a code for the group
(KIP-88); 3 throttle time (KIP-124); 4 throttling after the answer (KIP-219); 5 leader epochs
(KIP-320); 6 flexible (KIP-482); 7 UNSTABLE_OFFSET_COMMIT where a transaction is under way, if the
caller wants to know (KIP-447); 8 several groups (KIP-709); 9 member id and epoch (KIP-848); 10
topic ids for names (KIP-848).

Version 0 reads what OffsetCommit 0 has written and nothing else; see there. Nobody has committed:
offset -1 without an error (version 0: UNKNOWN_TOPIC_OR_PARTITION), also for topics and groups that
are not there. A partition named twice is answered once before version 10, as in Apache Kafka. Left
out: authorization.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from broker.groups.offset_table import Place, read_value
from broker.waiting import gather, then
from protocol.errors import ErrorCode
from protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from protocol.wire import ZERO_UUID

if TYPE_CHECKING:
    from broker.cluster.view import ClusterView
    from broker.context import Context, Node
    from broker.groups.machine import GroupMachine

SEVERAL_SINCE = 8
TOPIC_ID_SINCE = 10
GROUP_ERROR_SINCE = 2
UNSTABLE = ErrorCode.UNSTABLE_OFFSET_COMMIT


def handle(node: "Node", context: "Context", request: OffsetFetchRequest) -> Any:
    """The response, or who will have it: after all that it tells of is replicated."""
    version = context.version
    if version >= SEVERAL_SINCE:
        stable = request.require_stable
        results = [_fetch(node, version, group, stable) for group in request.groups]
        return gather(results, lambda groups: OffsetFetchResponse(groups=groups))
    if version == 0:
        return _fetch_old(node, request)
    topics = None if request.topics is None else [_newer(topic) for topic in request.topics]
    group = OffsetFetchRequestGroup(request.group_id, topics=topics)
    return then(_fetch(node, version, group, request.require_stable), _older)


def _newer(topic: OffsetFetchRequestTopic) -> OffsetFetchRequestTopics:
    return OffsetFetchRequestTopics(topic.name, partition_indexes=topic.partition_indexes)


def _older(group: OffsetFetchResponseGroup) -> OffsetFetchResponse:
    """The form for a single group."""
    topics = [
        OffsetFetchResponseTopic(
            topic.name,
            [
                OffsetFetchResponsePartition(
                    p.partition_index,
                    p.committed_offset,
                    p.committed_leader_epoch,
                    p.metadata,
                    p.error_code,
                )
                for p in topic.partitions
            ],
        )
        for topic in group.topics
    ]
    return OffsetFetchResponse(topics=topics, error_code=group.error_code)


def _fetch(node: "Node", version: int, group: OffsetFetchRequestGroup, stable: bool) -> Any:
    """An `OffsetFetchResponseGroup`, or who will have it."""
    view = node.metadata.view
    asked = None if group.topics is None else _asked(view, version, group.topics)
    return node.groups.read(
        group.group_id,
        lambda machine: _look(machine, view, version, group, asked, stable),
        lambda code: _refused(version, group.group_id, asked, code),
    )


class _Asked(NamedTuple):
    """One topic that a group is asked for: `name` is None for an id that nobody has."""

    name: str | None
    topic_id: bytes
    indexes: Sequence[int]


def _asked(
    view: "ClusterView", version: int, topics: list[OffsetFetchRequestTopics]
) -> list[_Asked]:
    """Before version 10 each partition is there once, and topics without any are left out."""
    if version >= TOPIC_ID_SINCE:
        return [
            _Asked(view.names.get(topic.topic_id), topic.topic_id, topic.partition_indexes)
            for topic in topics
        ]
    wanted: dict[str, dict[int, None]] = {}
    for topic in topics:
        if topic.partition_indexes:
            wanted.setdefault(topic.name, {}).update(dict.fromkeys(topic.partition_indexes))
    return [_Asked(name, ZERO_UUID, list(indexes)) for name, indexes in wanted.items()]


def _all(view: "ClusterView", version: int, have: Iterable[Place]) -> list[_Asked]:
    """Everything that a group has; without topics whose id is wanted and that are gone."""
    topics: dict[str, list[int]] = {}
    for name, index in have:
        topics.setdefault(name, []).append(index)
    if version < TOPIC_ID_SINCE:
        return [_Asked(name, ZERO_UUID, indexes) for name, indexes in topics.items()]
    return [
        _Asked(name, view.topics[name].topic_id, indexes)
        for name, indexes in topics.items()
        if name in view.topics
    ]


def _look(
    machine: "GroupMachine",
    view: "ClusterView",
    version: int,
    group: OffsetFetchRequestGroup,
    asked: list[_Asked] | None,
    stable: bool,
) -> OffsetFetchResponseGroup:
    group_id, offsets = group.group_id, machine.offsets
    code = offsets.check_fetch(group_id, group.member_id, group.member_epoch)
    if code != ErrorCode.NONE:
        return _refused(version, group_id, asked, code)
    have, table = offsets.table.of(group_id), offsets.table
    rows = []
    for name, topic_id, indexes in _all(view, version, have) if asked is None else asked:
        if name is None:
            rows.append(_failed("", topic_id, indexes, ErrorCode.UNKNOWN_TOPIC_ID))
            continue
        partitions = [
            _offset(index, have.get((name, index)))
            if not stable or not table.is_pending(group_id, (name, index))
            else OffsetFetchResponsePartitions(index, -1, error_code=UNSTABLE)
            for index in indexes
        ]
        rows.append(OffsetFetchResponseTopics(name, topic_id, partitions))
    return OffsetFetchResponseGroup(group_id, rows)


def _offset(index: int, value: bytes | None) -> OffsetFetchResponsePartitions:
    if value is None:
        return OffsetFetchResponsePartitions(index, -1)
    offset, leader_epoch, metadata, _, _ = read_value(value)
    return OffsetFetchResponsePartitions(index, offset, leader_epoch, metadata)


def _failed(
    name: str, topic_id: bytes, indexes: Sequence[int], code: ErrorCode
) -> OffsetFetchResponseTopics:
    """A topic whose partitions all have that code."""
    rows = [OffsetFetchResponsePartitions(index, -1, error_code=code) for index in indexes]
    return OffsetFetchResponseTopics(name, topic_id, rows)


def _refused(
    version: int, group_id: str, asked: list[_Asked] | None, code: ErrorCode
) -> OffsetFetchResponseGroup:
    """The group's code, in version 1 that of each partition."""
    if version >= GROUP_ERROR_SINCE or asked is None:
        return OffsetFetchResponseGroup(group_id, error_code=code)
    topics = [_failed(a.name or "", a.topic_id, a.indexes, code) for a in asked]
    return OffsetFetchResponseGroup(group_id, topics)


async def _fetch_old(node: "Node", request: OffsetFetchRequest) -> OffsetFetchResponse:
    view, group_id = node.metadata.view, request.group_id
    topics: dict[str, OffsetFetchResponseTopic] = {}
    for topic in request.topics or ():
        if not topic.partition_indexes:
            continue
        row = topics.setdefault(topic.name, OffsetFetchResponseTopic(topic.name))
        known = {p.partition_index for p in row.partitions}
        for index in dict.fromkeys(topic.partition_indexes):
            if index in known:
                continue
            found: int | ErrorCode = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            if view.partition(topic.name, index) is not None:
                found = await node.old_offsets.fetch(group_id, topic.name, index)
            refused = isinstance(found, ErrorCode)
            row.partitions.append(
                OffsetFetchResponsePartition(
                    index, -1 if refused else found, error_code=found if refused else 0
                )
            )
    return OffsetFetchResponse(topics=list(topics.values()))
