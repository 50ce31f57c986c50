"""One ShareFetch: acknowledgements, then records to be acquired, for which it may wait.

A call that finds nothing to acquire, or too little, waits on its share partitions and their logs
and looks again when one changes, until its time is over. Records are acquired in the turn in which
they are read; they leave as regions of segment files.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from broker.errors import REFUSALS, code_of
from broker.partition import Partition
from broker.shares.acks import RENEW_SINCE, sort_out
from broker.shares.acquire import Span, Wish, acquire
from broker.shares.common import Refused, ShareKey
from broker.shares.fetch_wire import Answer, encode_response
from broker.shares.leaders import leaders_of
from broker.shares.manager import Led, Said
from broker.shares.sessions import CLOSE, OPEN, Asked, Session
from protocol.batch import BatchHeader, end_txn_marker
from protocol.errors import ErrorCode
from storage.errors import OffsetOutOfRange
from storage.log import Log, LogSlice
from storage.scan import walk_headers

if TYPE_CHECKING:
    from broker.context import Context, Node
    from protocol.messages.share_fetch import ShareFetchRequest

Pieces = list[bytes | LogSlice]

RECORD_LIMIT = 1
ACQUIRE_MODES = (0, RECORD_LIMIT)


class _Read(NamedTuple):
    """What was found at the offset from which a share partition is read."""

    asked: Asked
    led: Led
    offset: int
    found: LogSlice | None
    upper: int
    error: ErrorCode = ErrorCode.NONE


class ShareFetch:
    """See the module. A `broker.dispatch.Parked`."""

    def __init__(self, node: "Node", context: "Context", request: "ShareFetchRequest") -> None:
        self._node = node
        self._shares = node.shares
        self._context = context
        self._version = context.version
        self._correlation_id = context.correlation_id
        self._listener = context.listener
        self._request = request
        self._group_id = request.group_id or ""
        self._member_id = request.member_id or ""
        self._renews = self._version >= RENEW_SINCE and request.is_renew_ack
        self._session: Session | None = None
        self._epoch = 0
        self._errors: dict[Asked, ErrorCode] = {}
        self._led: dict[Asked, Led] = {}
        self._fetched: list[Answer] | None = None
        self._acknowledged: dict[Asked, Said] | None = {}
        self._refused: Refused | None = None
        self._waits_on: list[Partition | Led] = []
        self._timer: asyncio.TimerHandle | None = None
        self._resume: Callable[[Pieces], None] | None = None
        wait_ms = max(request.max_wait_ms, 0)
        self._deadline = asyncio.get_running_loop().time() + wait_ms / 1000

    # --- the request

    def begin(self) -> "Pieces | ShareFetch":
        """The answer, or this call, which waits. Raises Refused."""
        request = self._request
        asked = [Asked(t.topic_id, p.partition_index) for t in request.topics for p in t.partitions]
        acknowledges = any(p.acknowledgement_batches for t in request.topics for p in t.partitions)
        try:
            partitions = self._enter_session(asked, acknowledges=acknowledges)
        except Refused as refused:
            if refused.code != ErrorCode.SHARE_SESSION_LIMIT_REACHED:
                raise
            self._refused = refused  # told late, so that it does not ask again at once
            return self
        if request.share_acquire_mode not in ACQUIRE_MODES:
            raise Refused(ErrorCode.UNKNOWN_SERVER_ERROR, None)
        if acknowledges:
            self._acknowledge()
        if self._renews or request.share_session_epoch == CLOSE:
            partitions = []
        self._lead(partitions)
        self._fetched = self._run(last=request.max_wait_ms <= 0)
        return self if self._waits else self._answer()

    def _enter_session(self, asked: list[Asked], *, acknowledges: bool) -> list[Asked]:
        """The partitions that are meant. Raises Refused."""
        request, key = self._request, (self._group_id, self._member_id)
        sessions = self._shares.sessions
        if request.share_session_epoch == OPEN:
            if acknowledges:
                raise Refused(ErrorCode.INVALID_REQUEST, None)
            self._shares.open_session(key, asked, self._context)
            return asked
        session = sessions.resume(key, request.share_session_epoch)
        if request.share_session_epoch != CLOSE:
            forgotten = [
                Asked(t.topic_id, index)
                for t in request.forgotten_topics_data
                for index in t.partitions
            ]
            session.change(asked, forgotten)
            self._session, self._epoch = session, session.epoch
        return list(session.partitions)

    def _acknowledge(self) -> None:
        view = self._node.metadata.view
        work, said = sort_out(self._request.topics, view, self._version, renew=self._renews)
        self._acknowledged = None

        def done(answers: dict[Asked, Said]) -> None:
            self._acknowledged = {**said, **answers}
            self._settle()

        self._shares.acknowledge(self._group_id, self._member_id, work.items(), done)

    def _lead(self, partitions: Iterable[Asked]) -> None:
        """Look up the share partitions, in an order that lets each be the first one."""
        ordered = list(partitions)
        request, view = self._request, self._node.metadata.view
        meant: list[tuple[Asked, str]] = []
        for asked in ordered:
            name = view.names.get(asked.topic_id)
            if name is None:
                self._errors[asked] = ErrorCode.UNKNOWN_TOPIC_ID
            elif view.partition(name, asked.partition) is None:
                self._errors[asked] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            else:
                meant.append((asked, name))
        if request.max_records == 0 or self._max_bytes == 0:
            return
        if len(meant) > 1 and request.share_session_epoch > 0:
            first = request.share_session_epoch % len(meant)
            meant = meant[first:] + meant[:first]
        for asked, name in meant:
            key = ShareKey(self._group_id, *asked)
            led = self._shares.lead(key, name, partial(self._failed, asked))
            if isinstance(led, ErrorCode):
                self._errors[asked] = led
            else:
                self._led[asked] = led

    def _failed(self, asked: Asked, said: Said) -> None:
        """The state of a share partition cannot be had."""
        self._errors[asked] = said.code
        self._led.pop(asked, None)

    @property
    def _max_bytes(self) -> int:
        cap: int = self._node.config.fetch_max_bytes
        return min(self._request.max_bytes, cap)

    # --- one round

    def _run(self, *, last: bool) -> list[Answer] | None:
        """Acquire what there is; None if there is too little and time to wait."""
        errors = [Answer(*asked, error) for asked, error in self._errors.items()]
        if not self._led:
            # Nothing is here; states that cannot be had are told late, as in Apache Kafka.
            return errors if last or self._timer is None else None
        limits = self._shares.limits(self._group_id)
        free = [
            (asked, led)
            for asked, led in self._led.items()
            if led.share is not None and led.current and led.share.can_acquire(limits)
        ]
        if not free:
            return errors if last else None
        if self._max_bytes < 0:
            code = ErrorCode.UNKNOWN_SERVER_ERROR
            return [*(Answer(*asked, code) for asked, _ in free), *errors]
        reads = self._read(free)
        if not last and not self._enough(reads):
            return None
        answers: list[Answer] = []
        left = self._request.max_records
        for read in reads:
            answer = self._acquire(read, left)
            left -= sum(one.size for one in answer.acquired)
            answers.append(answer)
        return answers + errors

    def _read(self, free: list[tuple[Asked, Led]]) -> list[_Read]:
        """Read from every share partition, sharing the bytes out evenly."""
        total = left = self._max_bytes
        each, more = divmod(total, len(free))
        reads: list[_Read] = []
        size = 0
        for asked, led in free:
            assert led.share is not None and led.partition.log is not None
            limit = min(left, each + more if not reads else each)
            read = self._read_one(asked, led, led.partition.log, limit, min_one=size == 0)
            reads.append(read)
            size += read.found.length if read.found is not None else 0
            left = max(total - size, 0)
        return reads

    def _read_one(self, asked: Asked, led: Led, log: Log, limit: int, *, min_one: bool) -> _Read:
        assert led.share is not None
        offset = led.share.next_fetch_offset
        upper = log.last_stable_offset if self._committed else log.high_watermark
        try:
            found = log.read(offset, limit, upper, min_one=min_one)
        except OffsetOutOfRange:
            return _Read(asked, led, offset, None, upper, ErrorCode.OFFSET_OUT_OF_RANGE)
        except REFUSALS as error:
            return _Read(asked, led, offset, None, upper, code_of(error))
        return _Read(asked, led, offset, found, upper)

    @property
    def _committed(self) -> bool:
        level = self._node.config.groups.get(self._group_id, "share.isolation.level")
        return bool(level == "read_committed")

    def _enough(self, reads: list[_Read]) -> bool:
        """Whether there is as much as was asked for; an error is told at once."""
        each = self._max_bytes // len(reads)
        size = 0
        for read in reads:
            if read.error:
                return True
            log = read.led.partition.log
            assert read.found is not None and log is not None
            if read.offset < read.upper and log.segment_of(read.offset) != log.segment_of(
                read.upper
            ):
                return True
            size += min(read.found.length, max(each, 1))
        return size >= min(self._request.min_bytes, self._max_bytes)

    def _acquire(self, read: _Read, max_records: int) -> Answer:
        asked, led, offset, found, _, error = read
        share, log = led.share, led.partition.log
        assert share is not None and log is not None
        answer = Answer(*asked)
        if error == ErrorCode.OFFSET_OUT_OF_RANGE:
            share.log_start_moved(log.log_start_offset)
            return answer
        if error:
            answer.error = error
            return answer
        assert found is not None
        batches = _whole_batches(found)
        if not batches:
            return answer
        request = self._request
        spans = [(header.base_offset, header.last_offset) for _, header in batches]
        aborted: list[Span] = []
        if self._committed:
            begun = log.aborted_transactions(offset, spans[-1][1] + 1)
            aborted = _aborted(found, batches, begun)
        answer.acquired = acquire(
            share,
            Wish(
                self._member_id,
                max_records,
                request.batch_size,
                request.share_acquire_mode == RECORD_LIMIT,
            ),
            offset,
            spans,
            aborted,
            self._shares.limits(self._group_id),
            self._node.clock.now_ms(),
        )
        if answer.acquired:
            first, last = answer.acquired[0].first, answer.acquired[-1].last
            # One batch goes with whatever follows it, as in Apache Kafka.
            one = len(batches) == 1
            answer.records = found if one else _part(found, batches, first, last)
        self._shares.changed(led)
        if share.search and led.waiters:  # there may be something left for others
            asyncio.get_running_loop().call_soon(led.wake)
        return answer

    # --- the answer

    @property
    def _waits(self) -> bool:
        return self._fetched is None or self._acknowledged is None

    def _answer(self) -> Pieces:
        assert self._fetched is not None and self._acknowledged is not None
        request, session = self._request, self._session
        answers = {Asked(a.topic_id, a.index): a for a in self._fetched}
        error = ErrorCode.NONE
        if session is not None:
            if session.epoch != self._epoch:  # another request of the session came meanwhile
                answers, error = {}, ErrorCode.INVALID_SHARE_SESSION_EPOCH
            answers = {
                asked: answer
                for asked, answer in answers.items()
                if session.must_name(
                    asked, records=answer.records is not None, error=bool(answer.error)
                )
            }
        leaders, endpoints = leaders_of(
            ((asked, answer.error) for asked, answer in answers.items()),
            self._node.metadata.view,
            self._listener,
        )
        for asked, leader in leaders.items():
            answers[asked].leader = leader
        for asked, said in self._acknowledged.items():
            answer = answers.setdefault(asked, Answer(*asked))
            answer.ack_error, answer.ack_message = said.code, said.message
        if request.share_session_epoch == CLOSE:
            self._shares.close_session((self._group_id, self._member_id))
        lock_ms = self._shares.limits(self._group_id).lock_ms
        return encode_response(self._correlation_id, error, lock_ms, answers.values(), endpoints)

    # --- waiting

    def start(self, resume: Callable[[Pieces], None]) -> None:
        """Wait for records, or for acknowledgements to be durable."""
        self._resume = resume
        if self._fetched is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._deadline, self._expire)
            self._register()

    def _register(self) -> None:
        for led in self._led.values():
            led.partition.add_waiter(self)
            led.waiters[self] = None
            self._waits_on += (led.partition, led)

    def _release(self) -> None:
        for place in self._waits_on:
            if isinstance(place, Partition):
                place.drop_waiter(self)
            else:
                place.waiters.pop(self, None)
        self._waits_on.clear()

    def wake(self) -> None:
        """A share partition or its log changed: look again when all that changes in this turn has
        changed."""
        self._release()
        asyncio.get_running_loop().call_soon(self._look_again)

    def _look_again(self) -> None:
        if self._resume is None or self._fetched is not None:
            return
        self._fetched = self._run(last=False)
        if self._fetched is None:
            self._register()
        self._settle()

    def _expire(self) -> None:
        if self._refused is not None:
            self._finish(encode_response(self._correlation_id, self._refused.code, 0))
            return
        self._release()
        self._fetched = self._run(last=True)
        self._settle()

    def _settle(self) -> None:
        if self._resume is not None and not self._waits:
            self._finish(self._answer())

    def _finish(self, answer: Pieces) -> None:
        resume = self._resume
        self.cancel()
        if resume is not None:
            resume(answer)

    def cancel(self) -> None:
        """The client is gone, or it was answered."""
        self._resume = None
        self._release()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


Batches = list[tuple[int, BatchHeader]]
"""(position in the file, header)"""


def _whole_batches(found: LogSlice) -> Batches:
    """The batches of a region; one at its end that is cut off does not count."""
    end = found.position + found.length
    return [
        (position, header)
        for position, header in walk_headers(found.file, found.position, end)
        if position + header.size <= end
    ]


def _part(found: LogSlice, batches: Batches, first: int, last: int) -> LogSlice:
    """The region of the batches that hold records from `first` to `last`."""
    inside = [
        (position, header)
        for position, header in batches
        if header.next_offset > first and header.base_offset <= last
    ]
    begin, (end, header) = inside[0][0], inside[-1]
    return LogSlice(found.file, begin, end + header.size - begin, inside[0][1].base_offset)


def _aborted(found: LogSlice, batches: Batches, begun: list[tuple[int, int]]) -> list[Span]:
    """The batches that belong to transactions which were given up; `begun` are (producer id, first
    offset) of such transactions."""
    waiting = sorted(begun, key=lambda one: one[1])
    given_up: set[int] = set()
    spans: list[Span] = []
    for position, header in batches:
        if header.producer_id < 0:
            continue
        while waiting and waiting[0][1] < header.next_offset:
            given_up.add(waiting.pop(0)[0])
        if header.control:
            data = found.file.pread(header.size, position)
            marker = end_txn_marker(data, 0, header)
            if marker is not None and not marker[0]:
                given_up.discard(header.producer_id)
        elif header.transactional and header.producer_id in given_up:
            spans.append((header.base_offset, header.last_offset))
    return spans
