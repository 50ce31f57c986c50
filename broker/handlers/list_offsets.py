"""ListOffsets (key 2): offsets by timestamp, or the first or last one of a partition.

Versions 0-11: 0 a list of segment offsets; 1 one offset with its timestamp (KIP-79); 2 isolation
level (KIP-98); 3 throttling after the answer (KIP-219); 4 leader epochs (KIP-320); 5
OFFSET_NOT_AVAILABLE instead of LEADER_NOT_AVAILABLE (KIP-207); 6 flexible (KIP-482); 7 the record
with the largest timestamp, -3 (KIP-734); 8 the first local offset, -4 (KIP-405); 9 the last tiered
offset, -5 (KIP-1005); 10 a time limit for remote lookups (KIP-1075); 11 the first offset that is
not tiered yet, -6 (KIP-1023).

A consumer sees offsets below the high watermark, or with read_committed below the last stable
offset; a follower sees all. A record found beyond that is answered like none: -1 without error.
Only the leader answers, but for the debugging replica id -2. Other negative timestamps, and those
of later versions, are UNSUPPORTED_VERSION per partition. From version 1 a partition named twice is
INVALID_REQUEST, told for each mention as Apache Kafka 3.9 does, from version 10 once as 4.4 does,
which also leaves out topics without partitions. A consumer's unknown isolation level is
UNKNOWN_SERVER_ERROR per partition, from version 10 anybody's for all.

Left out: tiered storage (-4 is -2, -5 and -6 find nothing, the time limit has no use);
authorization.
"""

from typing import TYPE_CHECKING

from broker.errors import REFUSALS, code_of
from protocol.errors import ErrorCode
from protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
    ListOffsetsTopicResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node
    from broker.partition import Partition
    from storage.log import Log
    from storage.segment import Segment

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5
EARLIEST_PENDING_UPLOAD = -6
SINCE = {
    LATEST: 0,
    EARLIEST: 0,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}
"""Negative timestamps with a meaning, and the first version of each."""

CONSUMER = -1
DEBUGGER = -2
READ_COMMITTED = 1
ISOLATION_LEVELS = (0, READ_COMMITTED)
NO_TIMESTAMP = -1
LEADER_EPOCH_SINCE = 4
OFFSET_NOT_AVAILABLE_SINCE = 5
ONE_ANSWER_SINCE = 10

Found = tuple[int, int, int]
"""Timestamp in ms, offset, leader epoch; -1 for what there is not."""
NOTHING: Found = (-1, -1, -1)


def handle(node: "Node", context: "Context", request: ListOffsetsRequest) -> ListOffsetsResponse:
    """Answer each partition from its log."""
    version = context.version
    if version >= ONE_ANSWER_SINCE and request.isolation_level not in ISOLATION_LEVELS:
        return _all_refused(request, ErrorCode.UNKNOWN_SERVER_ERROR)
    twice = _named_twice(request) if version > 0 else frozenset()
    topics: list[ListOffsetsTopicResponse] = []
    for topic in _once(request.topics) if version >= ONE_ANSWER_SINCE else request.topics:
        answers: list[ListOffsetsPartitionResponse] = []
        for asked in topic.partitions:
            if (topic.name, asked.partition_index) in twice:
                answer = _refused(asked, ErrorCode.INVALID_REQUEST)
            elif asked.timestamp < 0 and version < SINCE.get(asked.timestamp, version + 1):
                answer = _refused(asked, ErrorCode.UNSUPPORTED_VERSION)
            else:
                answer = _answer(node, version, request, topic.name, asked)
            answers.append(answer)
        topics.append(ListOffsetsTopicResponse(name=topic.name, partitions=answers))
    return ListOffsetsResponse(topics=topics)


def _all_refused(request: ListOffsetsRequest, error: ErrorCode) -> ListOffsetsResponse:
    topics = [
        ListOffsetsTopicResponse(t.name, [_refused(asked, error) for asked in t.partitions])
        for t in request.topics
    ]
    return ListOffsetsResponse(topics=topics)


def _named_twice(request: ListOffsetsRequest) -> frozenset[tuple[str, int]]:
    if len(request.topics) == 1 and len(request.topics[0].partitions) == 1:
        return frozenset()
    seen: set[tuple[str, int]] = set()
    twice: set[tuple[str, int]] = set()
    for topic in request.topics:
        for asked in topic.partitions:
            key = (topic.name, asked.partition_index)
            if key in seen:
                twice.add(key)
            seen.add(key)
    return frozenset(twice)


def _once(topics: list[ListOffsetsTopic]) -> list[ListOffsetsTopic]:
    """Every topic that has partitions and every partition once, in order of first mention."""
    if len(topics) == 1 and len(topics[0].partitions) == 1:
        return topics
    merged: dict[str, dict[int, ListOffsetsPartition]] = {}
    for topic in topics:
        if not topic.partitions:
            continue
        partitions = merged.setdefault(topic.name, {})
        for asked in topic.partitions:
            partitions.setdefault(asked.partition_index, asked)
    return [ListOffsetsTopic(name, list(found.values())) for name, found in merged.items()]


def _refused(asked: ListOffsetsPartition, error: ErrorCode) -> ListOffsetsPartitionResponse:
    return ListOffsetsPartitionResponse(partition_index=asked.partition_index, error_code=error)


def _answer(
    node: "Node",
    version: int,
    request: ListOffsetsRequest,
    topic: str,
    asked: ListOffsetsPartition,
) -> ListOffsetsPartitionResponse:
    if request.replica_id == CONSUMER and request.isolation_level not in ISOLATION_LEVELS:
        return _refused(asked, ErrorCode.UNKNOWN_SERVER_ERROR)
    partition = _replica(node, topic, asked, request.replica_id)
    if isinstance(partition, ErrorCode):
        return _refused(asked, partition)
    log = partition.log
    assert log is not None
    answer = ListOffsetsPartitionResponse(partition_index=asked.partition_index)
    try:
        if version == 0:
            if asked.max_num_offsets < 0:
                return _refused(asked, ErrorCode.UNKNOWN_SERVER_ERROR)
            visible = log.high_watermark if request.replica_id == CONSUMER else None
            answer.old_style_offsets = _segment_offsets(node, log, asked, visible)
            return answer
        # Only consumers are bound by the high watermark.
        lagging = (
            request.replica_id == CONSUMER
            and partition.is_leader
            and log.high_watermark < partition.leader_epoch_start
        )
        found = _find(partition, log, asked.timestamp, _visible_end(log, request), lagging)
    except REFUSALS as error:
        return _refused(asked, code_of(error))
    if found is None:
        fine = version >= OFFSET_NOT_AVAILABLE_SINCE
        return _refused(
            asked, ErrorCode.OFFSET_NOT_AVAILABLE if fine else ErrorCode.LEADER_NOT_AVAILABLE
        )
    answer.timestamp, answer.offset, epoch = found
    if version >= LEADER_EPOCH_SINCE:
        answer.leader_epoch = epoch
    return answer


def _replica(
    node: "Node", topic: str, asked: ListOffsetsPartition, replica_id: int
) -> "Partition | ErrorCode":
    """The leader; for a debugging consumer any replica, if its epoch is the one expected."""
    index, epoch = asked.partition_index, asked.current_leader_epoch
    found = node.replicas.leader(topic, index, epoch)
    if replica_id == DEBUGGER and found == ErrorCode.NOT_LEADER_OR_FOLLOWER:
        return node.replicas.partition(topic, index) or found
    return found


def _visible_end(log: "Log", request: ListOffsetsRequest) -> int:
    """The offset after the last one that the asker may know of."""
    if request.replica_id != CONSUMER:
        return log.end_offset
    if request.isolation_level == READ_COMMITTED:
        return log.last_stable_offset
    return log.high_watermark


def _find(
    partition: "Partition", log: "Log", timestamp: int, end: int, lagging: bool
) -> Found | None:
    """What is asked for; None when a new leader does not know its high watermark yet.

    Until it has passed the leader's first offset (`lagging`), the high watermark may be lower than
    one that the former leader has told (KIP-207). A last stable offset may stay below for as long
    as a transaction is open.
    """
    if timestamp == LATEST:
        return None if lagging else (NO_TIMESTAMP, end, partition.leader_epoch)
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        start = log.log_start_offset
        return NO_TIMESTAMP, start, log.epochs.epoch_of(start)
    if timestamp in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
        return NOTHING
    found = (
        log.max_timestamp() if timestamp == MAX_TIMESTAMP else log.offset_for_timestamp(timestamp)
    )
    if found is not None and found[1] < end:
        return found
    return None if lagging and found is not None else NOTHING


def _segment_offsets(
    node: "Node", log: "Log", asked: ListOffsetsPartition, visible: int | None
) -> list[int]:
    """Version 0: first offsets of segments, and the log's end, newest first.

    By time those of segments whose files have not changed since then; the end changes now. What is
    beyond `visible` (for a consumer) is replaced by it.
    """
    start = log.log_start_offset
    ages = [(max(s.base_offset, start), _changed_ms(node, log, s)) for s in log.segments]
    if log.segments[-1].size > 0:
        ages.append((log.end_offset, node.clock.now_ms()))
    if asked.timestamp == LATEST:
        count = len(ages)
    elif asked.timestamp == EARLIEST:
        count = 1
    else:
        count = 0
        for at, (_, age_ms) in enumerate(ages, 1):
            if age_ms <= asked.timestamp:
                count = at
    first = max(count - asked.max_num_offsets, 0)
    offsets = sorted((offset for offset, _ in ages[first:count]), reverse=True)
    if visible is None or not offsets or offsets[0] <= visible:
        return offsets
    return [visible, *(offset for offset in offsets if offset <= visible)]


def _changed_ms(node: "Node", log: "Log", segment: "Segment") -> int:
    """When the segment's file was last written; in memory, its largest timestamp."""
    try:
        changed = node.logs.fs.modified_ms(f"{log.directory}/{segment.base_offset:020d}.log")
    except OSError:  # no file before the first record
        changed = 0
    return changed or segment.largest_timestamp
