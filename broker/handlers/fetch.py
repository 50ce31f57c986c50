"""Fetch (key 1): records from partitions, for consumers and following brokers.

Versions 0 to 18. 0 to 1 are answered in magic 0, 2 to 3 in magic 1 (down-conversion); 3 a limit for
the whole answer, and at least one whole batch of the first partition that has any (KIP-74); 4
isolation level (KIP-98); 5 log start offset; 7 sessions (KIP-227); 9 leader epochs (KIP-320); 10
zstd; 11 preferred replica (KIP-392); 12 divergence (KIP-595); 13 topic ids (KIP-516); 15 replica
state (KIP-903); 16 endpoints of new leaders; 17 replica directory ids; 18 the follower's high
watermark.

A request that finds fewer than min_bytes waits on its partitions and is run again from the start
when one changes or its time is over: nothing is kept between the rounds. Records leave as regions
of segment files.

Left out: quotas; replicas' fetches (a single node has no followers: any replica id is refused); a
preferred replica other than the leader; node endpoints of new leaders; tiered storage.
"""

import asyncio
from collections.abc import Callable

from storage.log import LogSlice

from broker.context import Context, Node
from broker.errors import REFUSALS, code_of
from broker.fetch_wire import PartitionAnswer, encode_response
from broker.partition import Partition
from broker.sessions import (
    FINAL_EPOCH,
    INITIAL_EPOCH,
    INVALID_SESSION_ID,
    FetchedPartition,
    FetchSessions,
    PartitionKey,
    Session,
)
from protocol.errors import ErrorCode
from protocol.messages.fetch import FetchRequest
from protocol.record_errors import UnsupportedCompression
from protocol.wire import ZERO_UUID
from storage.errors import OffsetOutOfRange

NO_RECORDS = b""
READ_COMMITTED = 1
MAX_INT32 = 0x7FFFFFFF
MAX_DECOMPRESSED = 1 << 27
"""Bytes that one batch may hold when it is converted for an old client."""

Answer = list[bytes | LogSlice]


class FetchCall:
    """One Fetch request, run once or, while it waits, again after each change."""

    def __init__(self, node: Node, context: Context, request: FetchRequest) -> None:
        self._node = node
        self._version = context.version
        self._correlation_id = context.correlation_id
        self._request = request
        self._session: Session | None = None
        self._session_id = INVALID_SESSION_ID
        self._incremental = False
        self._error = ErrorCode.NONE
        self._waiting: list[Partition] = []
        self._timer: asyncio.TimerHandle | None = None
        self._resume: Callable[[Answer], None] | None = None
        self._partitions = self._resolve()
        wait_ms = max(request.max_wait_ms, 0)
        self._deadline = asyncio.get_running_loop().time() + wait_ms / 1000

    # --- which partitions

    def _resolve(self) -> list[FetchedPartition]:
        """The partitions to read, by way of the session if there is one."""
        request, sessions = self._request, self._node.sessions
        asked = self._asked()
        if self._version < 7 or (
            request.session_id == INVALID_SESSION_ID and request.session_epoch == FINAL_EPOCH
        ):
            return asked
        by_id = self._version >= 13
        now_ms = self._node.clock.now_ms()
        if request.session_epoch in (INITIAL_EPOCH, FINAL_EPOCH):
            if request.session_id != INVALID_SESSION_ID:
                sessions.remove(request.session_id)
            if request.session_epoch == INITIAL_EPOCH and asked:
                privileged = self._replica_id() >= 0
                self._session = sessions.create(asked, now_ms, by_id=by_id, privileged=privileged)
                if self._session is not None:
                    self._session_id = self._session.session_id
            return asked
        return self._continue(sessions, asked, now_ms, by_id=by_id)

    def _continue(
        self, sessions: FetchSessions, asked: list[FetchedPartition], now_ms: int, *, by_id: bool
    ) -> list[FetchedPartition]:
        request = self._request
        found = sessions.resume(request.session_id, request.session_epoch, now_ms, by_id=by_id)
        if isinstance(found, ErrorCode):
            self._error = found
            return []
        forgotten: list[PartitionKey] = [
            (topic.topic, topic.topic_id, index)
            for topic in request.forgotten_topics_data
            for index in topic.partitions
        ]
        sessions.update(found, asked, forgotten)
        if not found.partitions:
            # Nothing is left to fetch: Apache Kafka drops the session and says so with id 0.
            sessions.remove(found.session_id)
            return []
        self._session = found
        self._session_id = found.session_id
        self._incremental = True
        return list(found.partitions.values())

    def _asked(self) -> list[FetchedPartition]:
        return [
            FetchedPartition(
                topic.topic,
                topic.topic_id,
                p.partition,
                p.fetch_offset,
                p.partition_max_bytes,
                p.current_leader_epoch,
                p.last_fetched_epoch,
                p.log_start_offset,
            )
            for topic in self._request.topics
            for p in topic.partitions
        ]

    def _replica_id(self) -> int:
        if self._version >= 15:
            return self._request.replica_state.replica_id
        return self._request.replica_id

    # --- one round

    def run(self, *, last: bool) -> Answer | None:
        """Read once; the answer, or None if too little is there and there is time to wait."""
        request = self._request
        if self._error:
            return self._encode([])
        limit = min(request.max_bytes if self._version >= 3 else MAX_INT32, self._cap())
        left = max(limit, 0)
        size = 0
        at_once = not self._partitions or request.max_wait_ms <= 0
        answers: list[PartitionAnswer] = []
        for asked in self._partitions:
            answer = self._read(asked, left, min_one=self._version >= 3 and size == 0)
            answers.append(answer)
            length = len(answer)
            size += length
            left = max(left - length, 0)
            at_once = at_once or answer.error_code != 0 or answer.diverging_epoch is not None
        if not (last or at_once or size >= request.min_bytes):
            return None
        return self._encode(answers)

    def _cap(self) -> int:
        cap: int = self._node.config.fetch_max_bytes
        return cap

    def _read(self, asked: FetchedPartition, left: int, *, min_one: bool) -> PartitionAnswer:
        answer = PartitionAnswer(asked)
        topic = asked.topic
        if self._version >= 13:
            name = self._node.replicas.topic_name(asked.topic_id)
            if name is None or asked.topic_id == ZERO_UUID:
                return answer.refuse(ErrorCode.UNKNOWN_TOPIC_ID)
            topic = name
        partition = self._node.replicas.leader(topic, asked.index, asked.current_leader_epoch)
        if isinstance(partition, ErrorCode):
            unknown = partition == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            return answer.refuse(partition, aborted=[] if unknown else None)
        if self._replica_id() >= 0:
            known = asked.current_leader_epoch >= 0
            return answer.refuse(
                ErrorCode.UNKNOWN_LEADER_EPOCH if known else ErrorCode.NOT_LEADER_OR_FOLLOWER
            )
        try:
            self._fill(answer, partition, asked, left, min_one=min_one)
        except OffsetOutOfRange:
            return answer.refuse(ErrorCode.OFFSET_OUT_OF_RANGE)
        except REFUSALS as error:
            return answer.refuse(code_of(error))
        return answer

    def _fill(
        self,
        answer: PartitionAnswer,
        partition: Partition,
        asked: FetchedPartition,
        left: int,
        *,
        min_one: bool,
    ) -> None:
        log = partition.log
        assert log is not None
        committed = self._request.isolation_level == READ_COMMITTED
        answer.high_watermark = log.high_watermark
        answer.last_stable_offset = log.last_stable_offset
        answer.log_start_offset = log.log_start_offset
        if asked.last_fetched_epoch >= 0 and self._diverges(answer, partition, asked):
            return
        upper = log.last_stable_offset if committed else log.high_watermark
        limit = min(left, asked.max_bytes)
        found = log.read(asked.fetch_offset, max(limit, 0), upper, min_one=min_one)
        if committed:
            answer.aborted = []
            if found.length:
                answer.aborted = log.aborted_transactions(asked.fetch_offset, upper)
        if not found.length:
            return
        if self._version < 4:
            answer.records = self._down_convert(found, asked, answer)
            return
        answer.records = found

    def _diverges(
        self, answer: PartitionAnswer, partition: Partition, asked: FetchedPartition
    ) -> bool:
        """Whether the reader's last epoch ends elsewhere here (KIP-595 truncation detection)."""
        assert partition.log is not None
        epoch, end_offset = partition.log.end_offset_for_epoch(asked.last_fetched_epoch)
        if epoch < 0 or end_offset < 0:
            raise OffsetOutOfRange("The epoch is older than everything this log knows.")
        if epoch < asked.last_fetched_epoch or end_offset < asked.fetch_offset:
            answer.diverging_epoch = (epoch, end_offset)
            return True
        return False

    def _down_convert(
        self, found: LogSlice, asked: FetchedPartition, answer: PartitionAnswer
    ) -> bytes:
        from protocol.legacy import down_convert

        try:
            return down_convert(
                found.bytes(),
                0 if self._version < 2 else 1,
                limit=MAX_DECOMPRESSED,
                first_offset=asked.fetch_offset,
            )
        except UnsupportedCompression:
            answer.refuse(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE)
            return NO_RECORDS

    # --- the answer

    def _encode(self, answers: list[PartitionAnswer]) -> Answer:
        if self._session is not None:
            answers = [a for a in answers if self._has_news(a)]
        return encode_response(
            self._version, self._correlation_id, self._error, self._session_id, answers
        )

    def _has_news(self, answer: PartitionAnswer) -> bool:
        """Whether a session's answer must name the partition; remembers what it is told."""
        asked = answer.asked
        news = (
            len(answer) > 0
            or answer.error_code != 0
            or answer.diverging_epoch is not None
            or asked.sent_high_watermark != answer.high_watermark
            or asked.sent_log_start_offset != answer.log_start_offset
        )
        if answer.error_code:
            # An error is told again next time, so that the client does not miss it.
            asked.sent_high_watermark = -1
        else:
            asked.sent_high_watermark = answer.high_watermark
            asked.sent_log_start_offset = answer.log_start_offset
        return news or not self._incremental

    # --- waiting

    def start(self, resume: Callable[[Answer], None]) -> None:
        """Wait for the partitions to change; `resume(answer)` is called once."""
        self._resume = resume
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._deadline, self._expire)
        self._register()

    def _register(self) -> None:
        for asked in self._partitions:
            topic = asked.topic or self._node.replicas.topic_name(asked.topic_id) or ""
            partition = self._node.replicas.partition(topic, asked.index)
            if partition is not None:
                partition.add_waiter(self)
                self._waiting.append(partition)

    def wake(self) -> None:
        """A partition changed: run again."""
        if self._resume is None:
            return
        self._release()
        answer = self.run(last=False)
        if answer is None:
            self._register()
        else:
            self._finish(answer)

    def _expire(self) -> None:
        self._release()
        answer = self.run(last=True)
        assert answer is not None
        self._finish(answer)

    def _finish(self, answer: Answer) -> None:
        resume = self._resume
        self.cancel()
        if resume is not None:
            resume(answer)

    def _release(self) -> None:
        for partition in self._waiting:
            partition.drop_waiter(self)
        self._waiting.clear()

    def cancel(self) -> None:
        """The client is gone, or it was answered."""
        self._resume = None
        self._release()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def handle(node: Node, context: Context, request: FetchRequest) -> Answer | FetchCall:
    """The encoded answer at once, or the parked call."""
    call = FetchCall(node, context, request)
    answer = call.run(last=False)
    return call if answer is None else answer
