"""ShareFetch's answer as pieces for the socket: encoded bytes between regions of segment files (no
record is copied).

Hand-written beside the declaration in `protocol.messages.share_fetch`, for versions 1 and 2, which
are alike; a test holds the two against each other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct

from broker.shares.acquire import Acquired
from broker.shares.leaders import Endpoint
from protocol.compiler import write_uvarint
from storage.log import LogSlice

_HEAD = Struct(">ih")  # throttle, error
_INT16 = Struct(">h")
_INT32 = Struct(">i")
_LEADER = Struct(">iib")  # id, epoch, no tags
_ACQUIRED = Struct(">qqhb")


@dataclass(slots=True)
class Answer:
    """What is answered for one partition."""

    topic_id: bytes
    index: int
    error: int = 0
    ack_error: int = 0
    ack_message: str | None = None
    leader: tuple[int, int] = (0, 0)
    """Id and epoch, where this broker is not it."""
    records: LogSlice | None = None
    acquired: Sequence[Acquired] = ()


def encode_response(
    correlation_id: int,
    error: int,
    lock_ms: int,
    answers: Iterable[Answer] = (),
    endpoints: Sequence[Endpoint] = (),
    *,
    message: str | None = None,
) -> list[bytes | LogSlice]:
    """The whole frame, its length in front, as pieces in order."""
    out = bytearray(4) + _INT32.pack(correlation_id)
    out.append(0)
    out += _HEAD.pack(0, error)
    _text(out, message)
    out += _INT32.pack(lock_ms)
    pieces: list[bytes | LogSlice] = []
    topics: dict[bytes, list[Answer]] = {}
    for answer in answers:
        topics.setdefault(answer.topic_id, []).append(answer)
    write_uvarint(out, len(topics) + 1)
    for topic_id, partitions in topics.items():
        out += topic_id
        write_uvarint(out, len(partitions) + 1)
        for answer in partitions:
            out = _partition(out, pieces, answer)
        out.append(0)
    write_uvarint(out, len(endpoints) + 1)
    for node_id, host, port, rack in endpoints:
        out += _INT32.pack(node_id)
        _text(out, host)
        out += _INT32.pack(port)
        _text(out, rack)
        out.append(0)
    out.append(0)
    pieces.append(bytes(out))
    size = sum(len(p) if isinstance(p, bytes) else p.length for p in pieces) - 4
    first = pieces[0]
    assert isinstance(first, bytes)
    pieces[0] = _INT32.pack(size) + first[4:]
    return pieces


def _partition(out: bytearray, pieces: list[bytes | LogSlice], answer: Answer) -> bytearray:
    out += _INT32.pack(answer.index)
    out += _INT16.pack(answer.error)
    _text(out, None)
    out += _INT16.pack(answer.ack_error)
    _text(out, answer.ack_message)
    out += _LEADER.pack(*answer.leader, 0)
    records = answer.records
    write_uvarint(out, (records.length if records is not None else 0) + 1)
    if records is not None:
        pieces += (bytes(out), records)
        out = bytearray()
    write_uvarint(out, len(answer.acquired) + 1)
    for one in answer.acquired:
        out += _ACQUIRED.pack(*one, 0)
    out.append(0)
    return out


def _text(out: bytearray, text: str | None) -> None:
    if text is None:
        out.append(0)
        return
    data = text.encode()
    write_uvarint(out, len(data) + 1)
    out += data
