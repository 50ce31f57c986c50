"""DeleteRecords (key 21): the head of partitions is cut off at an offset (KIP-107).

Versions 0-2: 1 throttling after the answer (KIP-219); 2 flexible (KIP-482).

Per partition, in this order: unknown UNKNOWN_TOPIC_OR_PARTITION, internal topic
INVALID_TOPIC_EXCEPTION, not led here NOT_LEADER_OR_FOLLOWER, compaction without deletion
POLICY_VIOLATION, an offset below 0 (but -1, the high watermark) or above the high watermark
OFFSET_OUT_OF_RANGE. An offset below the log's start changes nothing. A topic and a partition named
twice are answered once, the last offset counts; a topic without partitions is not answered (as in
Apache Kafka).

The answer waits until all replicas that are alive have moved their log starts, and tells the lowest
of them; after the request's time limit REQUEST_TIMED_OUT (the records are gone all the same). Left
out: authorization.
"""

import asyncio
from collections.abc import Callable
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
    from broker.partition import Partition

HIGH_WATERMARK = -1
NO_WATERMARK = -1


Pending = list[tuple["Partition", DeleteRecordsPartitionResult, int]]
"""Partitions whose followers have not moved yet: the answer to be, and the start they shall have.
"""


class DeletionWait:
    """A request that waits for followers, without a task."""

    def __init__(self, response: DeleteRecordsResponse, pending: Pending, timeout_ms: int) -> None:
        self._response = response
        self._pending = pending
        self._timeout_s = max(timeout_ms, 0) / 1000
        self._resume: Callable[[DeleteRecordsResponse], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, resume: Callable[[DeleteRecordsResponse], None]) -> None:
        """`resume(response)` once all have moved, or the time is over."""
        self._resume = resume
        self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._expire)
        for partition, _, _ in self._pending:
            partition.add_waiter(self)

    def wake(self) -> None:
        """A partition has changed."""
        self._release()
        self._pending = [one for one in self._pending if not _settled(*one)]
        if not self._pending:
            self._finish()
        elif self._resume is not None:
            for partition, _, _ in self._pending:
                partition.add_waiter(self)

    def _expire(self) -> None:
        for _, answer, _ in self._pending:
            answer.error_code = ErrorCode.REQUEST_TIMED_OUT
        self._finish()

    def _finish(self) -> None:
        resume = self._resume
        self.cancel()
        if resume is not None:
            resume(self._response)

    def _release(self) -> None:
        for partition, _, _ in self._pending:
            partition.drop_waiter(self)

    def cancel(self) -> None:
        """The client is gone, or it was answered."""
        self._resume = None
        self._release()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _settled(partition: "Partition", answer: DeleteRecordsPartitionResult, start: int) -> bool:
    """Whether all live replicas begin at `start` or later; puts the answer right."""
    if partition.log is None:
        answer.error_code = ErrorCode.KAFKA_STORAGE_ERROR
    elif not partition.is_leader:
        answer.error_code = ErrorCode.NOT_LEADER_OR_FOLLOWER
    else:
        answer.low_watermark = partition.low_watermark()
        return answer.low_watermark >= start
    answer.low_watermark = NO_WATERMARK
    return True


def handle(
    node: "Node", context: "Context", request: DeleteRecordsRequest
) -> DeleteRecordsResponse | DeletionWait:
    """Move the log starts; each partition is answered on its own."""
    pending: Pending = []
    wanted: dict[str, dict[int, int]] = {}
    for topic in request.topics:
        offsets = wanted.setdefault(topic.name, {})
        for partition in topic.partitions:
            offsets[partition.partition_index] = partition.offset
    topics = [
        DeleteRecordsTopicResult(
            name=name,
            partitions=[
                _delete(node, name, index, offset, pending) for index, offset in offsets.items()
            ],
        )
        for name, offsets in wanted.items()
        if offsets
    ]
    response = DeleteRecordsResponse(topics=topics)
    return DeletionWait(response, pending, request.timeout_ms) if pending else response


def _delete(
    node: "Node", topic: str, index: int, offset: int, pending: Pending
) -> DeleteRecordsPartitionResult:
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
        return answer
    partition.tell_start()
    if not _settled(partition, answer, start):
        pending.append((partition, answer, start))
    return answer
