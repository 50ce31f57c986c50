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

A following broker (a replica id that is not negative) is served by `broker.follower_fetch`. From
version 11 on a consumer may read from any replica, up to what that one knows of the high watermark;
the leader tells it of a closer one where replica.selector.class says so.

Left out: quotas of clients; tiered storage.
"""

import asyncio
import logging
from collections.abc import Callable

from broker.context import Context, Node
from broker.errors import REFUSALS, code_of
from broker.fetch_wire import FLEXIBLE_SINCE, Endpoint, PartitionAnswer, encode_response
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
from protocol.compiler import encoder
from protocol.errors import CorruptRecord, ErrorCode
from protocol.messages.fetch import (
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    PartitionData,
)
from protocol.record_errors import InvalidRecord, UnsupportedCompression
from protocol.wire import ZERO_UUID
from storage.errors import OffsetOutOfRange
from storage.log import Log, LogSlice

log = logging.getLogger("odradek.fetch")

READ_COMMITTED = 1
ISOLATION_LEVELS = (0, READ_COMMITTED)
MAX_INT32 = 0x7FFFFFFF
MAX_DECOMPRESSED = 1 << 27
"""Bytes that one batch may hold when it is converted for an old client."""

MAGIC_2_SINCE = 4
ZSTD_SINCE = 10
ANY_REPLICA_SINCE = 11
IDS_SINCE = 13
ENDPOINTS_SINCE = 16
TELL_LEADER = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH)
BATCH_OVERHEAD = 12
"""Bytes of a batch that its own length does not count."""

Answer = list[bytes | LogSlice]


class FetchCall:
    """One Fetch request, run once or, while it waits, again after each change."""

    _privileged = False

    def __init__(self, node: Node, context: Context, request: FetchRequest) -> None:
        self._node = node
        self._version = context.version
        self._by_id = context.version >= IDS_SINCE
        self._correlation_id = context.correlation_id
        self._listener = context.listener
        self._request = request
        self._session: Session | None = None
        self._session_id = INVALID_SESSION_ID
        self._create_session = False
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
        if request.session_epoch in (INITIAL_EPOCH, FINAL_EPOCH):
            if request.session_id != INVALID_SESSION_ID:
                sessions.remove(request.session_id)
            self._create_session = request.session_epoch == INITIAL_EPOCH
            return asked
        return self._continue(sessions, asked)

    def _continue(
        self, sessions: FetchSessions, asked: list[FetchedPartition]
    ) -> list[FetchedPartition]:
        request, now_ms = self._request, self._node.clock.now_ms()
        found = sessions.resume(
            request.session_id, request.session_epoch, now_ms, by_id=self._by_id
        )
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
            return asked if forgotten else []
        self._session = found
        self._session_id = found.session_id
        return self._of_session(found, asked, forgotten)

    def _of_session(
        self, session: Session, asked: list[FetchedPartition], forgotten: list[PartitionKey]
    ) -> list[FetchedPartition]:
        """All partitions of a session, over which the request's changes are laid already."""
        partitions = list(session.partitions.values())
        if session.by_id:
            for one in partitions:
                if one.name is None:
                    one.name = self._name(one.topic_id)
        return partitions

    def _asked(self) -> list[FetchedPartition]:
        """What the request names; of a partition named twice the last mention, in the place of the
        first.
        """
        asked: list[FetchedPartition] = []
        for topic in self._request.topics:
            name = self._name(topic.topic_id) if self._by_id else topic.topic
            for p in topic.partitions:
                one = FetchedPartition(
                    topic.topic,
                    topic.topic_id,
                    p.partition,
                    p.fetch_offset,
                    p.partition_max_bytes,
                    max(p.current_leader_epoch, -1),
                    p.last_fetched_epoch,
                    p.log_start_offset,
                )
                one.name = name
                asked.append(one)
        if len(asked) > 1:
            return list({one.key: one for one in asked}.values())
        return asked

    def _name(self, topic_id: bytes) -> str | None:
        return None if topic_id == ZERO_UUID else self._node.replicas.topic_name(topic_id)

    # --- one round

    def run(self, *, last: bool) -> Answer | None:
        """Read once; the answer, or None if too little is there and there is time to wait."""
        request = self._request
        if self._error:
            return self._encode([])
        left = min(request.max_bytes if self._version >= 3 else MAX_INT32, self._cap())
        enough = min(request.min_bytes, left)
        size = 0
        at_once = request.max_wait_ms <= 0
        answers: list[PartitionAnswer] = []
        unknown: list[PartitionAnswer] = []
        for asked in self._partitions:
            answer = PartitionAnswer(asked)
            if not self._known(asked, answer):
                unknown.append(answer)
                continue
            self._read(answer, left, min_one=self._version >= 3 and size == 0)
            answers.append(answer)
            length = len(answer)
            size += length
            left = max(left - length, 0)
            at_once = at_once or answer.urgent
        if answers and request.isolation_level not in ISOLATION_LEVELS:
            return self._failed()
        if not (last or at_once or not answers or size >= enough):
            return None
        # What the cluster does not know comes last, ids before names, as in Apache Kafka.
        unknown.sort(key=lambda answer: answer.asked.name is not None)
        return self._encode(answers + unknown if unknown else answers)

    def _cap(self) -> int:
        cap: int = self._node.config.fetch_max_bytes
        return cap

    def _known(self, asked: FetchedPartition, answer: PartitionAnswer) -> bool:
        """Whether the cluster has the partition; if not, the answer says so."""
        if asked.name is None:
            answer.refuse(ErrorCode.UNKNOWN_TOPIC_ID, aborted=[])
            return False
        node = self._node
        if (
            node.replicas.partition(asked.name, asked.index) is None
            and node.metadata.view.partition(asked.name, asked.index) is None
        ):
            answer.refuse(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, aborted=[])
            return False
        return True

    def _read(self, answer: PartitionAnswer, left: int, *, min_one: bool) -> None:
        asked = answer.asked
        partition = self._readable(asked)
        if isinstance(partition, ErrorCode):
            answer.refuse(partition)
        elif not self._elsewhere(answer, partition):
            try:
                self._fill(answer, partition, left, min_one=min_one)
            except OffsetOutOfRange:
                answer.refuse(ErrorCode.OFFSET_OUT_OF_RANGE)
            except REFUSALS as error:
                answer.refuse(code_of(error))

    def _readable(self, asked: FetchedPartition) -> Partition | ErrorCode:
        """The replica to read from, or why there is none."""
        assert asked.name is not None
        replicas = self._node.replicas
        find = replicas.leader if self._version < ANY_REPLICA_SINCE else replicas.replica
        partition = find(asked.name, asked.index, asked.current_leader_epoch)
        if (
            self._by_id
            and not isinstance(partition, ErrorCode)
            and partition.topic_id != asked.topic_id
        ):
            return ErrorCode.INCONSISTENT_TOPIC_ID
        return partition

    def _elsewhere(self, answer: PartitionAnswer, partition: Partition) -> bool:
        """Whether the client should rather read from a replica close to it: the answer says which
        one (KIP-392)."""
        rack = self._request.rack_id
        if not rack or not partition.followers or not self._node.config.replica_selector_class:
            return False
        from broker.closest import closest_replica

        view, asked = self._node.metadata.view, answer.asked
        now_ms = self._node.clock.now_ms()
        chosen = closest_replica(partition, rack, asked.fetch_offset, view, self._listener, now_ms)
        if chosen is None:
            return False
        log = partition.log
        assert log is not None
        answer.preferred_read_replica = chosen
        answer.high_watermark = log.high_watermark
        answer.last_stable_offset = log.last_stable_offset
        answer.log_start_offset = log.log_start_offset
        return True

    def _fill(
        self, answer: PartitionAnswer, partition: Partition, left: int, *, min_one: bool
    ) -> None:
        log, asked = partition.log, answer.asked
        assert log is not None
        committed = self._request.isolation_level == READ_COMMITTED
        answer.high_watermark = log.high_watermark
        answer.last_stable_offset = log.last_stable_offset
        answer.log_start_offset = log.log_start_offset
        if asked.last_fetched_epoch >= 0:
            answer.diverging_epoch = divergence(asked, log)
            if answer.diverging_epoch is not None:
                return
        upper = log.last_stable_offset if committed else log.high_watermark
        limit = min(left, asked.max_bytes)
        found = log.read(asked.fetch_offset, max(limit, 0), upper, min_one=min_one)
        if limit < 0 and asked.fetch_offset < upper:
            answer.refuse(ErrorCode.UNKNOWN_SERVER_ERROR)
            return
        if committed:
            answer.aborted = []
            if found.length:
                answer.aborted = log.aborted_transactions(asked.fetch_offset, log.bound_of(found))
        if found.length:
            answer.records = found

    # --- the answer

    def _encode(self, answers: list[PartitionAnswer]) -> Answer:
        endpoints: list[Endpoint] = []
        if self._session is not None:
            session = self._session
            answers = [a for a in answers if _has_news(session, a)]
        elif self._create_session:
            self._open_session(answers)
        if self._version < ZSTD_SINCE:
            for answer in answers:
                self._suit_old_client(answer)
        elif self._version >= ENDPOINTS_SINCE:
            endpoints = self._tell_leaders(answers)
        return encode_response(
            self._version, self._correlation_id, self._error, self._session_id, answers, endpoints
        )

    def _failed(self) -> Answer:
        """The whole request is refused for an isolation level that does not exist."""
        error, request, version = ErrorCode.UNKNOWN_SERVER_ERROR, self._request, self._version
        message = FetchResponse(error_code=error, session_id=request.session_id)
        if version < IDS_SINCE:
            for topic in request.topics:
                refused = [
                    PartitionData(p.partition, error, -1, records=None, aborted_transactions=[])
                    for p in topic.partitions
                ]
                message.responses.append(FetchableTopicResponse(topic.topic, partitions=refused))
        out = bytearray(4) + self._correlation_id.to_bytes(4, "big", signed=True)
        if version >= FLEXIBLE_SINCE:
            out.append(0)
        encoder(FetchResponse, version)(message, out)
        out[:4] = (len(out) - 4).to_bytes(4, "big")
        return [bytes(out)]

    def _open_session(self, answers: list[PartitionAnswer]) -> None:
        partitions = []
        for answer in answers:
            asked = answer.asked
            asked.sent_high_watermark = answer.high_watermark
            asked.sent_log_start_offset = answer.log_start_offset
            partitions.append(asked)
        node = self._node
        session = node.sessions.create(
            partitions,
            node.clock.now_ms(),
            by_id=self._by_id,
            privileged=self._privileged,
        )
        if session is not None:
            self._session_id = session.session_id

    def _tell_leaders(self, answers: list[PartitionAnswer]) -> list[Endpoint]:
        """Who leads instead, where this broker does not or the reader's epoch is over (KIP-951)."""
        brokers: dict[int, Endpoint] = {}
        view = self._node.metadata.view
        for answer in answers:
            if answer.error_code not in TELL_LEADER or answer.asked.name is None:
                continue
            told = view.leader_told(answer.asked.name, answer.asked.index, self._listener)
            if told is None:
                continue
            answer.current_leader, endpoint = told
            if endpoint is not None:
                brokers[endpoint[0]] = endpoint
        return list(brokers.values())

    def _suit_old_client(self, answer: PartitionAnswer) -> None:
        """Convert, or refuse what the version cannot carry."""
        asked = answer.asked
        partition = self._node.replicas.partition(asked.name or "", asked.index)
        if partition is None or partition.log is None:
            return
        config = partition.log.config
        if config.compression_type == "zstd":
            answer.refuse(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, aborted=[], records=None)
        elif self._version < MAGIC_2_SINCE and not config.message_downconversion_enable:
            answer.refuse(ErrorCode.UNSUPPORTED_VERSION, aborted=[], records=None)
        elif self._version < MAGIC_2_SINCE and isinstance(answer.records, LogSlice):
            self._down_convert(answer, answer.records.bytes())

    def _down_convert(self, answer: PartitionAnswer, data: bytes) -> None:
        """Records in the old format, no more bytes than they had before, but the first batch.

        Apache Kafka fills what is left with a part of a batch that is not there; we do not.
        """
        from protocol.legacy import down_convert

        def convert(data: bytes) -> bytes:
            magic = 0 if self._version < 2 else 1
            first = answer.asked.fetch_offset
            return down_convert(data, magic, limit=MAX_DECOMPRESSED, first_offset=first)

        try:
            records = convert(data)
            if len(records) > len(data):
                first = convert(data[: BATCH_OVERHEAD + int.from_bytes(data[8:12], "big")])
                records = records[: max(len(data), len(first))]
            answer.records = records
        except UnsupportedCompression:
            answer.refuse(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, aborted=[], records=None)
        except (CorruptRecord, InvalidRecord) as error:
            # Batches are taken by their headers: the producer's records may be nonsense.
            name, index, offset = answer.asked.name, answer.asked.index, answer.asked.fetch_offset
            log.warning("%s-%s at %s cannot be converted: %s", name, index, offset, error)
            answer.refuse(ErrorCode.CORRUPT_MESSAGE, aborted=[], records=None)

    # --- waiting

    def start(self, resume: Callable[[Answer], None]) -> None:
        """Wait for the partitions to change; `resume(answer)` is called once."""
        self._resume = resume
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._deadline, self._expire)
        self._register()

    def _register(self) -> None:
        for asked in self._partitions:
            partition = self._node.replicas.partition(asked.name or "", asked.index)
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


def divergence(asked: FetchedPartition, log: Log) -> tuple[int, int] | None:
    """Where the reader's last epoch ends here, if that is not where it ends for the reader
    (KIP-595 truncation detection). Raises OffsetOutOfRange."""
    epoch, end_offset = log.end_offset_for_epoch(asked.last_fetched_epoch)
    if epoch < 0 or end_offset < 0:
        raise OffsetOutOfRange("The epoch is older than everything this log knows.")
    if epoch < asked.last_fetched_epoch or end_offset < asked.fetch_offset:
        return epoch, end_offset
    return None


def _has_news(session: Session, answer: PartitionAnswer) -> bool:
    """Whether a session's answer must name the partition; remembers what it is told."""
    asked = answer.asked
    news = (
        len(answer) > 0
        or answer.urgent
        or asked.sent_high_watermark != answer.high_watermark
        or asked.sent_log_start_offset != answer.log_start_offset
    )
    # An error is told again next time, so that the client does not miss that it is over.
    asked.sent_high_watermark = -1 if answer.error_code else answer.high_watermark
    asked.sent_log_start_offset = answer.log_start_offset
    if len(answer) > 0 and session.partitions.pop(asked.key, None) is not None:
        # To the back of the order, so that limits do not starve the others.
        session.partitions[asked.key] = asked
    return news


def handle(node: Node, context: Context, request: FetchRequest) -> Answer | FetchCall:
    """The encoded answer at once, or the parked call."""
    version = context.version
    replica_id = request.replica_state.replica_id if version >= 15 else request.replica_id
    call: FetchCall
    if replica_id >= 0:
        from broker.follower_fetch import FollowerFetch

        call = FollowerFetch(node, context, request, replica_id)
    else:
        call = FetchCall(node, context, request)
    answer = call.run(last=False)
    return call if answer is None else answer
