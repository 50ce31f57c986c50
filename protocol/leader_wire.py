"""Where a partition is led instead (KIP-951), as Produce's and Fetch's hand-written answers carry
it: tagged fields of a partition and of the whole answer.
"""

from collections.abc import Sequence
from struct import Struct

from protocol.compiler import write_uvarint

_INT32 = Struct(">i")
_LEADER = Struct(">BBiiB")  # tag, size, leader, epoch, no tags
ENDPOINTS_TAG = 0


def write_leader(out: bytearray, tag: int, leader: tuple[int, int]) -> None:
    """One tagged field with the leader's id and epoch; the number of tags stands before it."""
    out += _LEADER.pack(tag, 9, *leader, 0)


def write_endpoints(out: bytearray, endpoints: Sequence[tuple[int, str, int, str | None]]) -> None:
    """The tagged fields at the end of an answer: brokers by id, host, port and rack, if any."""
    if not endpoints:
        out.append(0)
        return
    nodes = bytearray()
    write_uvarint(nodes, len(endpoints) + 1)
    for broker_id, host, port, rack in endpoints:
        nodes += _INT32.pack(broker_id)
        _text(nodes, host)
        nodes += _INT32.pack(port)
        if rack is None:
            nodes.append(0)
        else:
            _text(nodes, rack)
        nodes.append(0)
    out.append(1)
    out.append(ENDPOINTS_TAG)
    write_uvarint(out, len(nodes))
    out += nodes


def _text(out: bytearray, text: str) -> None:
    data = text.encode()
    write_uvarint(out, len(data) + 1)
    out += data
