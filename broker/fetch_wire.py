"""Fetch's answer as pieces for the socket: encoded bytes between regions of segment files (no
record is copied).

Hand-written beside the declaration in `protocol.messages.fetch`; a test holds the two against each
other.
"""

from collections.abc import Sequence
from struct import Struct

from broker.cluster.view import NodeEndpoint
from broker.sessions import FetchedPartition
from protocol.compiler import write_uvarint
from protocol.errors import ErrorCode
from protocol.leader_wire import write_endpoints, write_leader
from storage.log import LogSlice

FLEXIBLE_SINCE = 12
TOPIC_IDS_SINCE = 13

_INT16 = Struct(">h")
_INT32 = Struct(">i")
_HEAD = Struct(">ihi")  # throttle, error, session
_INDEX_TO_START = Struct(">ihqqq")
_INDEX_TO_STABLE = Struct(">ihqq")
_INDEX_TO_WATERMARK = Struct(">ihq")
_ABORTED = Struct(">qq")
_EPOCH_END = Struct(">iq")
NO_RECORDS = b""
NULL = b"\xff\xff\xff\xff"

Endpoint = NodeEndpoint
"""Broker id, host, port, rack."""


class PartitionAnswer:
    """What is answered for one partition; `len()` is the bytes of its records."""

    __slots__ = (
        "aborted",
        "asked",
        "current_leader",
        "diverging_epoch",
        "error_code",
        "high_watermark",
        "last_stable_offset",
        "log_start_offset",
        "preferred_read_replica",
        "records",
    )

    def __init__(self, asked: FetchedPartition) -> None:
        self.asked = asked
        self.error_code = 0
        self.high_watermark = -1
        self.last_stable_offset = -1
        self.log_start_offset = -1
        self.aborted: list[tuple[int, int]] | None = None
        self.current_leader: tuple[int, int] | None = None
        self.diverging_epoch: tuple[int, int] | None = None
        self.preferred_read_replica = -1
        self.records: LogSlice | bytes | None = NO_RECORDS

    @property
    def urgent(self) -> bool:
        """Whether the reader must hear of it at once, records or not."""
        return (
            self.error_code != 0
            or self.diverging_epoch is not None
            or self.preferred_read_replica >= 0
        )

    def __len__(self) -> int:
        records = self.records
        if isinstance(records, LogSlice):
            return records.length
        return 0 if records is None else len(records)

    def refuse(
        self,
        code: ErrorCode,
        aborted: list[tuple[int, int]] | None = None,
        records: bytes | None = NO_RECORDS,
    ) -> "PartitionAnswer":
        """An error instead of records. Which refusals say "no list" (None) and which "an empty
        one" is as in Apache Kafka: before the log is asked, in the log, or while converting.
        """
        self.error_code = int(code)
        self.high_watermark = self.last_stable_offset = self.log_start_offset = -1
        self.aborted = aborted
        self.diverging_epoch = None
        self.records = records
        return self


def encode_response(
    version: int,
    correlation_id: int,
    error: int,
    session_id: int,
    answers: list[PartitionAnswer],
    endpoints: Sequence[Endpoint] = (),
) -> list[bytes | LogSlice]:
    """The whole frame, its length in front, as pieces in order.

    `endpoints` and the answers' current leaders are for version 16 and later.
    """
    flexible = version >= FLEXIBLE_SINCE
    out = bytearray(4)
    pieces: list[bytes | LogSlice] = []
    _head(out, version, correlation_id, error, session_id)
    topics = _by_topic(answers)
    _count(out, len(topics), flexible)
    for partitions in topics:
        _topic(out, version, partitions[0].asked)
        _count(out, len(partitions), flexible)
        for answer in partitions:
            _partition(out, version, answer)
            if isinstance(answer.records, LogSlice):
                pieces += (bytes(out), answer.records)
                out = bytearray()
            elif answer.records:
                out += answer.records
            if flexible:
                _partition_tags(out, answer)
        if flexible:
            out.append(0)
    if flexible:
        write_endpoints(out, endpoints)
    if out:
        pieces.append(bytes(out))
    return _with_length(pieces)


def _head(out: bytearray, version: int, correlation_id: int, error: int, session_id: int) -> None:
    """Response header and what precedes the topics; the throttle time is 0."""
    out += _INT32.pack(correlation_id)
    if version >= FLEXIBLE_SINCE:
        out.append(0)
    if version >= 7:
        out += _HEAD.pack(0, error, session_id)
    elif version >= 1:
        out += _INT32.pack(0)


def _with_length(pieces: list[bytes | LogSlice]) -> list[bytes | LogSlice]:
    """Puts the frame's length into the four bytes left for it."""
    total = sum(p.length if isinstance(p, LogSlice) else len(p) for p in pieces)
    first = pieces[0]
    assert isinstance(first, bytes)
    pieces[0] = _INT32.pack(total - 4) + first[4:]
    return pieces


def _by_topic(answers: list[PartitionAnswer]) -> list[list[PartitionAnswer]]:
    """Answers of neighbouring partitions of one topic belong together, in the order asked."""
    topics: list[list[PartitionAnswer]] = []
    last: tuple[str, bytes] | None = None
    for answer in answers:
        key = (answer.asked.topic, answer.asked.topic_id)
        if key != last:
            topics.append([])
            last = key
        topics[-1].append(answer)
    return topics


def _count(out: bytearray, count: int, flexible: bool) -> None:
    if flexible:
        write_uvarint(out, count + 1)
    else:
        out += _INT32.pack(count)


def _topic(out: bytearray, version: int, asked: FetchedPartition) -> None:
    if version >= TOPIC_IDS_SINCE:
        out += asked.topic_id
        return
    if version >= FLEXIBLE_SINCE:
        _text(out, asked.topic)
        return
    name = asked.topic.encode()
    out += _INT16.pack(len(name))
    out += name


def _partition(out: bytearray, version: int, answer: PartitionAnswer) -> None:
    """Everything of a partition before the bytes of its records, their length included."""
    flexible = version >= FLEXIBLE_SINCE
    index, code = answer.asked.index, answer.error_code
    if version >= 5:
        out += _INDEX_TO_START.pack(
            index, code, answer.high_watermark, answer.last_stable_offset, answer.log_start_offset
        )
    elif version >= 4:
        out += _INDEX_TO_STABLE.pack(index, code, answer.high_watermark, answer.last_stable_offset)
    else:
        out += _INDEX_TO_WATERMARK.pack(index, code, answer.high_watermark)
    if version >= 4:
        _aborted(out, answer.aborted, flexible)
    if version >= 11:
        out += _INT32.pack(answer.preferred_read_replica)
    _count(out, -1 if answer.records is None else len(answer), flexible)


def _aborted(out: bytearray, aborted: list[tuple[int, int]] | None, flexible: bool) -> None:
    if aborted is None:
        out += b"\x00" if flexible else NULL
        return
    _count(out, len(aborted), flexible)
    for producer_id, first_offset in aborted:
        out += _ABORTED.pack(producer_id, first_offset)
        if flexible:
            out.append(0)


def _partition_tags(out: bytearray, answer: PartitionAnswer) -> None:
    diverging, leader = answer.diverging_epoch, answer.current_leader
    out.append((diverging is not None) + (leader is not None))
    if diverging is not None:
        out += b"\x00\x0d"
        out += _EPOCH_END.pack(*diverging)
        out.append(0)
    if leader is not None:
        write_leader(out, 1, leader)


def _text(out: bytearray, text: str) -> None:
    data = text.encode()
    write_uvarint(out, len(data) + 1)
    out += data
