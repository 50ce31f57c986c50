"""Produce (key 0): append batches to partitions this broker leads.

Versions 0 to 13. 0 to 2 carry message sets of magic 0 and 1 (a magic 2 batch is taken too), which
are converted to magic 2; 3 magic 2 and transactional ids (KIP-98); 7 zstd (KIP-110); 8 errors per
record (KIP-467); 9 flexible (KIP-482); 10 the present leader with a refusal (KIP-951); 11 and 12 as
10 (KIP-890); 13 topic ids (KIP-516).

The hot path: the request is read by hand (`protocol.produce_wire`), each batch is staged in its log
from the receive buffer, and the answers are written after the pass's write (`OneBatch`,
`ProduceCall`). Refusals of a partition are codes; the first check that fails decides, in Apache
Kafka's order: topic, record format, what the transaction's coordinator says, acks, leadership,
min.insync.replicas, then the log's own checks.

A request with a transactional id holds its batches until the coordinator has been asked about those
that begin a transaction in their partition (`broker.transactions.verification`); a call with
`unverified` batches is not staged: the connection has it `ask`, and goes on when it is answered.

A topic or partition named twice is one, the last records that fit count. Transactional batches in
a request without a transactional id: TRANSACTIONAL_ID_AUTHORIZATION_FAILED for all.

A gap in a producer's sequence is NOT_LEADER_OR_FOLLOWER, not OUT_OF_ORDER_SEQUENCE_NUMBER, while
this broker's leadership is in doubt (`ReplicaManager.in_doubt`): the producer tries again, and is
told of a real gap a moment later. Apache Kafka says at once that the sequence is broken, and there
are producers that then give records up, or write them twice.

Left out: quotas.
"""

from struct import Struct
from typing import TYPE_CHECKING, Any

from broker.cluster.view import INTERNAL_TOPICS
from broker.context import Context, Node
from broker.errors import REFUSALS, code_of
from broker.leader_told import Brokers, tell_leader
from broker.partition import Partition
from broker.produce_checks import (
    ATTRIBUTES_AT,
    NONE,
    TRANSACTIONAL,
    Batch,
    check_records,
    each_once,
    whole_refusal,
)
from protocol.batch import HEADER_SIZE
from protocol.errors import ErrorCode, Malformed
from protocol.header import decode_request_header
from protocol.produce_wire import (
    FLEXIBLE_SINCE,
    TOPIC_IDS_SINCE,
    PartitionResult,
    RequestTopic,
    TopicResult,
    decode_request,
    encode_response,
    read_one,
    write_one,
)
from protocol.record_errors import InvalidRecord
from storage.errors import OutOfOrderSequence

if TYPE_CHECKING:
    from broker.transactions.verification import ProduceVerification
    from storage.log import Appended, Log

ACKS = (-1, 0, 1)
PRODUCER_AT = 43
ADMIN_CLIENT_ID = "__admin_client"
MAX_DECOMPRESSED = 1 << 27
"""Bytes that an old client's compressed message set may hold."""

WITHOUT_LOG_START = (
    ErrorCode.CORRUPT_MESSAGE,
    ErrorCode.MESSAGE_TOO_LARGE,
    ErrorCode.RECORD_LIST_TOO_LARGE,
    ErrorCode.KAFKA_STORAGE_ERROR,
)
"""Refusals of the log that do not tell where it starts."""

_PRODUCER = Struct(">qh").unpack_from


class OneBatch:
    """The ordinary request in hand: one batch, staged, for one partition. Cheaper than
    `ProduceCall`, which answers everything else."""

    __slots__ = (
        "_appended",
        "_correlation_id",
        "_index",
        "_origin",
        "_partition",
        "_raw",
        "acks",
        "timeout_ms",
    )

    unverified = ()
    """See `ProduceCall`."""

    def __init__(
        self,
        correlation_id: int,
        acks: int,
        timeout_ms: int,
        raw: bytes,
        partition: Partition,
        appended: "Appended",
        origin: tuple[Node, str, int],
    ) -> None:
        """`origin`: the node, the listener that was asked, and the version."""
        self._correlation_id = correlation_id
        self.acks = acks
        self.timeout_ms = timeout_ms
        self._raw = raw
        self._partition = partition
        self._appended = appended
        self._origin = origin

    def settled(self) -> bool:
        """Whether the batch is as safe as acks asks for (or cannot become so any more)."""
        return self.acks != -1 or not _waits(self._partition, self._appended)

    def partitions(self) -> list[Partition]:
        """The partition whose high watermark this call waits for."""
        return [self._partition]

    def answer(self, *, timed_out: bool = False) -> bytes | None:
        """The response frame; None when none is due (acks=0)."""
        partition, appended = self._partition, self._appended
        log = partition.log
        if (
            log is not None
            and appended.last_offset < log.end_offset
            and (self.acks != -1 or log.high_watermark > appended.last_offset)
            and not (self.acks == -1 and partition.followers and partition.lost_min_isr)
        ):
            if self.acks == 0:
                return None
            return write_one(
                self._correlation_id,
                self._raw,
                partition.index,
                appended.base_offset,
                appended.log_append_time_ms,
                appended.log_start_offset,
            )
        result = PartitionResult(partition.index)
        _settle(partition, appended, result, self.acks, timed_out)
        node, listener, version = self._origin
        brokers: Brokers = {}
        tell_leader(node, listener, version, partition.topic, result, brokers)
        topics = [(self._raw, [result])]
        return _frame(self.acks, self._correlation_id, version, topics, brokers)


def _waits(partition: Partition, appended: "Appended") -> bool:
    """Whether a written batch still waits for its replicas."""
    log = partition.log
    return (
        log is not None
        and partition.leader == partition.broker_id
        and log.high_watermark <= appended.last_offset < log.end_offset
    )


def _settle(
    partition: Partition, appended: "Appended", result: PartitionResult, acks: int, timed_out: bool
) -> None:
    """What became of a staged batch, after the pass's write."""
    log = partition.log
    if log is None or appended.last_offset >= log.end_offset:
        result.error_code = int(ErrorCode.KAFKA_STORAGE_ERROR)
        return
    # It is in the log, whatever became of its replicas.
    result.base_offset = appended.base_offset
    result.log_append_time_ms = appended.log_append_time_ms
    result.log_start_offset = appended.log_start_offset
    if acks == -1 and log.high_watermark <= appended.last_offset:
        if partition.leader != partition.broker_id:
            result.error_code = int(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        elif timed_out:
            result.error_code = int(ErrorCode.REQUEST_TIMED_OUT)
    elif acks == -1 and partition.is_leader and partition.lost_min_isr:
        result.error_code = int(ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND)


def _frame(
    acks: int, correlation_id: int, version: int, topics: list[TopicResult], brokers: Brokers
) -> bytes | None:
    """The response frame. Raises Malformed where acks=0 met a refusal: closing the connection is
    the only way its client learns of it."""
    if acks == 0:
        if any(result.error_code for _, results in topics for result in results):
            raise Malformed("a produce request with acks=0 was refused")
        return None
    out = bytearray(4)
    encode_response(out, correlation_id, version, topics, list(brokers.values()))
    out[:4] = (len(out) - 4).to_bytes(4, "big")
    return bytes(out)


class ProduceCall:
    """A Produce request in hand: staged at once, answered when its batches are written and
    replicated.
    """

    __slots__ = (
        "_brokers",
        "_context",
        "_node",
        "_staged",
        "_verification",
        "acks",
        "correlation_id",
        "timeout_ms",
        "topics",
        "version",
    )

    def __init__(self, node: Node, context: Context, body: memoryview, pos: int) -> None:
        """Read the request and stage its batches, unless some are `unverified`. Raises Malformed.

        `body` must stay as it is until the pass is written.
        """
        version = context.version
        self._node = node
        self._context = context
        self.version = version
        self.correlation_id = context.correlation_id
        transactional_id, self.acks, self.timeout_ms, topics = decode_request(body, pos, version)
        self._staged: list[tuple[Partition, Appended, PartitionResult]] = []
        self.topics: list[TopicResult] = []
        self._brokers: Brokers = {}
        self._verification = _verification(node, transactional_id, version)
        self._take(topics, whole_refusal(topics, transactional_id))
        if self._verification is not None:
            self._verification.begin()
            if not self._verification.unverified:
                self._stage_held()

    def _take(self, topics: list[RequestTopic], whole: int) -> None:
        version, replicas = self.version, self._node.replicas
        merged, more = each_once(topics)
        for raw, name, topic_id, partitions in merged:
            refusal = whole
            if version >= TOPIC_IDS_SINCE and not whole:
                found = replicas.topic_name(topic_id)
                if found is None:
                    name, refusal = "", int(ErrorCode.UNKNOWN_TOPIC_ID)
                else:
                    name = found
            results: list[PartitionResult] = []
            for index, records in partitions:
                if more and (several := more.get((raw, index))):
                    results.append(self._several(name, index, several, refusal))
                else:
                    results.append(self._one(name, index, records, refusal))
            self.topics.append((raw, results))

    def _one(
        self, name: str, index: int, records: memoryview | None, refusal: int
    ) -> PartitionResult:
        """Check and stage (or hold) one partition's records, unless they are refused already."""
        result = PartitionResult(index)
        if refusal:
            result.error_code = refusal
            return result
        node = self._node
        partition = node.replicas.partition(name, index)
        code = NONE
        if partition is None:
            code = node.replicas.missing(name, index)
        if code != ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            refused = check_records(records, self.version, result)
            if not refused and self._verification is not None:
                assert records is not None
                self._verification.hold(name, index, partition, records, result)
                return result
            code = refused or self._check_place(name, partition, code)
        if code:
            self._say(name, result, code)
            return result
        assert partition is not None and records is not None
        self._stage(partition, records, result)
        return result

    def _say(self, name: str, result: PartitionResult, code: int) -> None:
        """A partition is refused."""
        result.error_code = int(code)
        if code == ErrorCode.NOT_ENOUGH_REPLICAS:
            log = self._node.logs.get(name, result.index)
            result.log_start_offset = -1 if log is None else log.log_start_offset
        listener = self._context.listener
        tell_leader(self._node, listener, self.version, name, result, self._brokers)

    def _several(
        self, name: str, index: int, several: list[Batch], refusal: int
    ) -> PartitionResult:
        """A partition named several times: the last fitting records are staged, but the answer
        tells what is wrong with others, as Apache Kafka's does.
        """
        place = self._node.replicas
        unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if refusal or (
            place.partition(name, index) is None and place.missing(name, index) == unknown
        ):
            return self._one(name, index, several[-1], refusal)
        unfit: PartitionResult | None = None
        result: PartitionResult | None = None
        fitting: list[Batch] = []
        for records in several:
            checked = PartitionResult(index)
            checked.error_code = int(check_records(records, self.version, checked))
            if checked.error_code:
                unfit = checked
            else:
                fitting.append(records)
        if fitting:
            result = self._one(name, index, fitting[-1], refusal)
        answer = unfit or result
        assert answer is not None
        return answer

    def _check_place(self, name: str, partition: Partition | None, code: int) -> int:
        """Acks, leadership and in-sync replicas, in this order; `code` where there is no
        partition."""
        if self.acks not in ACKS:
            return ErrorCode.INVALID_REQUIRED_ACKS
        if name in INTERNAL_TOPICS and self._context.client_id != ADMIN_CLIENT_ID:
            return ErrorCode.INVALID_TOPIC_EXCEPTION
        if partition is None:
            return code
        if partition.log is None:
            return ErrorCode.KAFKA_STORAGE_ERROR
        if partition.leader != partition.broker_id:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        if self.acks == -1 and partition.under_min_isr:
            return ErrorCode.NOT_ENOUGH_REPLICAS
        return NONE

    def _stage(self, partition: Partition, records: memoryview, result: PartitionResult) -> None:
        log = partition.log
        assert log is not None
        node = self._node
        now_ms = node.clock.now_ms()
        try:
            if self.version < 3:
                records = self._to_v2(records)
                if not records:
                    result.log_start_offset = log.log_start_offset
                    return
            else:
                records = records[: 12 + int.from_bytes(records[8:12], "big")]
            appended = log.stage(records, partition.leader_epoch, now_ms)
        except REFUSALS as error:
            if isinstance(error, OutOfOrderSequence) and node.replicas.in_doubt(partition):
                self._say(partition.topic, result, ErrorCode.NOT_LEADER_OR_FOLLOWER)
            else:
                self._refuse(result, error, log.log_start_offset)
            return
        self._staged.append((partition, appended, result))
        if not partition.dirty:
            partition.dirty = True
            node.replicas.dirty.append(partition)

    @staticmethod
    def _to_v2(records: memoryview) -> memoryview:
        """An old client's message set as one batch; empty if it holds no whole message."""
        from protocol.legacy import to_v2

        return memoryview(bytearray(to_v2(records, limit=MAX_DECOMPRESSED)))

    def _refuse(self, result: PartitionResult, error: Exception, log_start_offset: int) -> None:
        code = code_of(error)
        result.error_code = int(code)
        if code not in WITHOUT_LOG_START:
            result.log_start_offset = log_start_offset
        if isinstance(error, InvalidRecord):
            result.record_errors = list(getattr(error, "record_errors", ()) or ())
            result.error_message = str(error.args[0]) if error.args else None

    # --- transactions

    @property
    def unverified(self) -> bool:
        """Whether batches wait for what the coordinator says: nothing is staged yet."""
        return self._verification is not None and bool(self._verification.unverified)

    def ask(self) -> Any:
        """Ask the coordinator of an `unverified` call. None when it has answered and the batches
        are staged; else a `broker.dispatch.Parked` whose answer goes to `verified`.

        What waits is no part of the frame any more.
        """
        assert self._verification is not None
        waiting = self._verification.ask()
        if waiting is None:
            self._stage_held()
        return waiting

    def verified(self, codes: list[ErrorCode]) -> None:
        """The coordinator's answer: stage what it vouches for."""
        assert self._verification is not None
        self._verification.take(codes)
        self._stage_held()

    def _stage_held(self) -> None:
        verification = self._verification
        assert verification is not None
        replicas = self._node.replicas
        for held in verification.held:
            partition, result = held.partition, held.result
            if result.error_code:
                continue
            missing = NONE if partition else replicas.missing(held.topic, held.index)
            code = self._check_place(held.topic, partition, missing)
            if not code and not verification.vouched(held):
                code = ErrorCode.INVALID_TXN_STATE
            if code:
                self._say(held.topic, result, code)
                continue
            assert partition is not None
            self._stage(partition, held.records, result)

    # --- after the write

    def settled(self) -> bool:
        """Whether every appended batch is as safe as acks asks for."""
        return self.acks != -1 or not any(_waits(p, appended) for p, appended, _ in self._staged)

    def partitions(self) -> list[Partition]:
        """The partitions whose high watermark this call waits for."""
        return [partition for partition, _, _ in self._staged]

    def answer(self, *, timed_out: bool = False) -> bytes | None:
        """The response frame; None when none is due. Raises Malformed to close the connection."""
        for partition, appended, result in self._staged:
            _settle(partition, appended, result, self.acks, timed_out)
            if result.error_code:
                self._say(partition.topic, result, result.error_code)
        return _frame(self.acks, self.correlation_id, self.version, self.topics, self._brokers)


def _verification(
    node: Node, transactional_id: str | None, version: int
) -> "ProduceVerification | None":
    if transactional_id is None:
        return None
    from broker.transactions.verification import ProduceVerification

    return ProduceVerification(node, transactional_id, version)


Call = OneBatch | ProduceCall


def begin(node: Node, context: Context, frame: memoryview, version: int) -> Call:
    """Read a Produce request frame and stage its batches; the connection answers the call after
    the pass's write. Raises Malformed. The frame must stay as it is until the pass is written.
    """
    if FLEXIBLE_SINCE <= version < TOPIC_IDS_SINCE:
        call = _begin_one(node, context.listener, frame, version)
        if call is not None:
            return call
    header, pos = decode_request_header(frame)
    context.api_key = header.api_key
    context.version = version
    context.correlation_id = header.correlation_id
    context.client_id = header.client_id
    return ProduceCall(node, context, frame, pos)


def _in_transaction(log: "Log", records: memoryview) -> bool:
    """Whether the batch goes on with a transaction that is open in the log."""
    producer_id, epoch = _PRODUCER(records, PRODUCER_AT)
    return log.producers.has_ongoing_transaction(producer_id, epoch)


def _begin_one(node: Node, listener: str, frame: memoryview, version: int) -> OneBatch | None:
    """The short way; None, with nothing done, if anything is out of the ordinary or refused."""
    one = read_one(frame)
    if one is None:
        return None
    correlation_id, acks, timeout_ms, raw, name, index, records, transactional = one
    replicas = node.replicas
    partition = replicas.partition(name, index)
    if (
        partition is None
        or partition.log is None
        or partition.leader != partition.broker_id
        or len(records) < HEADER_SIZE
        or (
            records[ATTRIBUTES_AT] & TRANSACTIONAL
            and not (transactional and _in_transaction(partition.log, records))
        )
        or acks not in ACKS
        or (acks == -1 and partition.under_min_isr)
        or name in INTERNAL_TOPICS
    ):
        return None
    try:
        appended = partition.log.stage(records, partition.leader_epoch, node.clock.now_ms())
    except REFUSALS:
        # Nothing was appended: the long way finds the refusal again and words it.
        return None
    if not partition.dirty:
        partition.dirty = True
        replicas.dirty.append(partition)
    origin = (node, listener, version)
    return OneBatch(correlation_id, acks, timeout_ms, raw, partition, appended, origin)
