"""Fetch of a following broker: reads to the log's end, and tells the leader how far it is.

A request records the positions it carries: that raises high watermarks (and answers producers with
acks=all) and lets followers into the ISR. Then it reads the partitions that are due
(`broker.following`); where nothing is new it waits for an append. The answer carries the high
watermark as it is after the positions were taken in.
"""

import asyncio
from collections.abc import Callable

from broker.context import Context, Node
from broker.fetch_wire import PartitionAnswer, encode_response
from broker.following import FollowerSession
from broker.handlers.fetch import (
    ENDPOINTS_SINCE,
    ISOLATION_LEVELS,
    Answer,
    FetchCall,
    divergence,
)
from broker.partition import Partition
from broker.sessions import FetchedPartition, PartitionKey, Session
from broker.throttles import Throttle
from protocol.errors import ErrorCode
from protocol.messages.fetch import FetchRequest
from storage.errors import OffsetOutOfRange


class FollowerFetch(FetchCall):
    """One such request; see the module's docstring."""

    _privileged = True

    def __init__(
        self, node: Node, context: Context, request: FetchRequest, replica_id: int
    ) -> None:
        self._replica = replica_id
        self._following: FollowerSession | None = None
        self._rung = False
        super().__init__(node, context, request)
        if self._error:
            return
        if self._following is None:
            self._following = FollowerSession(replica_id)
            for asked in self._partitions:
                self._put(asked)
        self._following.fetched_ms = node.clock.now_ms()
        self._record()

    def _of_session(
        self, session: Session, asked: list[FetchedPartition], forgotten: list[PartitionKey]
    ) -> list[FetchedPartition]:
        following = session.following
        if following is None or following.broker_id != self._replica:
            following = session.following = FollowerSession(self._replica)
            asked = list(session.partitions.values())
        self._following = following
        for one in asked:
            self._put(one)
        for key in forgotten:
            following.drop(key)
        return []

    def _put(self, asked: FetchedPartition) -> None:
        assert self._following is not None
        hosted = None
        if asked.name is not None:
            hosted = self._node.replicas.partition(asked.name, asked.index)
        self._following.put(asked, hosted)

    def _due(self) -> list[FetchedPartition]:
        """What is to be looked at: of a session what is due, without one all that was asked."""
        if self._session is None:
            return self._partitions
        assert self._following is not None
        return list(self._following.due.values())

    # --- positions

    def _record(self) -> None:
        """Take in how far the follower is."""
        replicas, now_ms = self._node.replicas, self._node.clock.now_ms()
        assert self._following is not None
        outside = self._following.outside
        moved: list[Partition] = []
        for asked in self._due():
            partition = self._readable(asked)
            if isinstance(partition, ErrorCode) or not self._in_line(asked, partition):
                continue
            offset, start = asked.fetch_offset, asked.log_start_offset
            if partition.fetched(self._replica, offset, start, now_ms):
                moved.append(partition)
            if self._replica not in partition.isr:
                outside[partition] = None
        for partition in moved:
            replicas.visible(partition)
        for partition in list(outside):
            self._join(partition, now_ms)

    def _join(self, partition: Partition, now_ms: int) -> None:
        """Let the follower into the ISR, if it may be there now."""
        assert self._following is not None
        if self._replica in partition.isr or self._replica not in partition.followers:
            del self._following.outside[partition]
            return
        isr = partition.joined(self._replica, now_ms)
        if isr is not None:
            self._node.replicas.replication.alter_isr(partition, isr)

    @staticmethod
    def _in_line(asked: FetchedPartition, partition: Partition) -> bool:
        """Whether the follower's log is a beginning of this one."""
        log = partition.log
        assert log is not None
        if not log.log_start_offset <= asked.fetch_offset <= log.end_offset:
            return False
        if asked.last_fetched_epoch < 0:
            return True
        try:
            return divergence(asked, log) is None
        except OffsetOutOfRange:
            return False

    def _readable(self, asked: FetchedPartition) -> Partition | ErrorCode:
        if asked.name is None:
            return ErrorCode.UNKNOWN_TOPIC_ID
        partition = self._node.replicas.leader(asked.name, asked.index, asked.current_leader_epoch)
        if isinstance(partition, ErrorCode):
            return partition
        if self._replica not in partition.followers:
            # It has heard of an assignment that this leader does not know yet.
            known = asked.current_leader_epoch >= 0
            return ErrorCode.UNKNOWN_LEADER_EPOCH if known else ErrorCode.NOT_LEADER_OR_FOLLOWER
        if self._by_id and partition.topic_id != asked.topic_id:
            return ErrorCode.INCONSISTENT_TOPIC_ID
        return partition

    # --- one round

    def run(self, *, last: bool) -> Answer | None:
        if self._error:
            return self._encode([])
        request, spread = self._request, self._node.replicas.spread
        left = request.max_bytes
        size = 0
        at_once = last or request.max_wait_ms <= 0
        answers: list[PartitionAnswer] = []
        unknown: list[PartitionAnswer] = []
        for asked in self._due():
            answer = PartitionAnswer(asked)
            if not self._known(asked, answer):
                unknown.append(answer)
                continue
            self._read(answer, left, min_one=size == 0)
            length = len(answer)
            size += length
            left = max(left - length, 0)
            at_once = at_once or answer.urgent or (spread and _rose(answer))
            answers.append(answer)
        if answers and request.isolation_level not in ISOLATION_LEVELS:
            return self._failed()
        at_once = at_once or bool(unknown)
        answers += unknown
        waits = bool(answers) or self._session is not None
        if waits and not at_once and size < min(request.min_bytes, request.max_bytes):
            self._set_aside(answers)
            return None
        return self._encode(answers)

    def _set_aside(self, answers: list[PartitionAnswer]) -> None:
        """While the request waits: what has nothing to tell need not be looked at again."""
        if self._session is None:
            return
        assert self._following is not None
        for answer in answers:
            if not len(answer) and not _untold(answer):
                self._following.told(answer.asked)

    def _fill(
        self, answer: PartitionAnswer, partition: Partition, left: int, *, min_one: bool
    ) -> None:
        log, asked = partition.log, answer.asked
        assert log is not None and self._following is not None
        self._following.link(asked, partition)
        answer.high_watermark = log.high_watermark
        answer.last_stable_offset = log.last_stable_offset
        answer.log_start_offset = log.log_start_offset
        if asked.last_fetched_epoch >= 0:
            answer.diverging_epoch = divergence(asked, log)
            if answer.diverging_epoch is not None:
                return
        throttle = self._node.replicas.throttle
        if (
            throttle is not None
            and self._replica not in partition.isr
            and throttle.holds(partition)
        ):
            return
        limit = max(min(left, asked.max_bytes), 0)
        found = log.read(asked.fetch_offset, limit, log.end_offset, min_one=min_one)
        if found.length:
            answer.records = found

    def _elsewhere(self, answer: PartitionAnswer, partition: Partition) -> bool:
        return False

    # --- the answer

    def _encode(self, answers: list[PartitionAnswer]) -> Answer:
        following = self._following
        if self._session is not None:
            assert following is not None
            answers = [answer for answer in answers if len(answer) or _untold(answer)]
            for answer in answers:
                _tell(answer)
                if len(answer):
                    following.served(answer.asked)
                elif not answer.urgent:
                    following.told(answer.asked)
        elif following is not None:
            if self._create_session:
                self._open_session(answers)
            self._keep(following, answers)
        throttle = self._node.replicas.throttle
        if throttle is not None and not throttle.off:
            self._count(throttle, answers)
        endpoints = self._tell_leaders(answers) if self._version >= ENDPOINTS_SINCE else []
        return encode_response(
            self._version, self._correlation_id, self._error, self._session_id, answers, endpoints
        )

    def _count(self, throttle: Throttle, answers: list[PartitionAnswer]) -> None:
        """What is sent counts for the rate of throttled replicas."""
        for answer in answers:
            asked = answer.asked
            partition = self._node.replicas.partition(asked.name or "", asked.index)
            if partition is not None:
                throttle.record(partition, len(answer))

    def _keep(self, following: FollowerSession, answers: list[PartitionAnswer]) -> None:
        """The session that was opened, if one was, goes on from here."""
        session = self._node.sessions.get(self._session_id)
        if session is not None:
            session.following = following
            following.ring = None
            for answer in answers:
                if not len(answer) and not answer.urgent:
                    following.told(answer.asked)
        else:
            following.close()

    # --- waiting

    def start(self, resume: Callable[[Answer], None]) -> None:
        self._resume = resume
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._deadline, self._expire)
        if self._following is not None:
            self._following.ring = self._ring

    def _ring(self) -> None:
        """Something is new; whatever else is new in this turn of the loop comes along."""
        if not self._rung:
            self._rung = True
            asyncio.get_running_loop().call_soon(self._look_again)

    def _look_again(self) -> None:
        self._rung = False
        if self._resume is None:
            return
        answer = self.run(last=False)
        if answer is not None:
            self._finish(answer)

    def cancel(self) -> None:
        following = self._following
        if following is not None and following.ring == self._ring:
            following.ring = None
            if self._session is None and self._resume is not None:
                following.close()  # the follower is gone before it had a session
        super().cancel()


def _untold(answer: PartitionAnswer) -> bool:
    """Whether something other than records must be told."""
    asked = answer.asked
    return (
        answer.urgent
        or asked.sent_high_watermark != answer.high_watermark
        or asked.sent_log_start_offset != answer.log_start_offset
    )


def _rose(answer: PartitionAnswer) -> bool:
    """Whether the high watermark is above the one that the follower knows."""
    return answer.high_watermark > answer.asked.sent_high_watermark >= 0


def _tell(answer: PartitionAnswer) -> None:
    """Remember what the follower is told; an error is told again next time."""
    asked = answer.asked
    asked.sent_high_watermark = -1 if answer.error_code else answer.high_watermark
    asked.sent_log_start_offset = answer.log_start_offset
