"""What groups with assignors on the broker's side share: the hash by which they notice that their
topics have changed, and the epochs that every such group begins with.
"""

from collections.abc import Iterable
from struct import Struct

from broker.cluster.view import ClusterView, TopicInfo
from protocol.xxh3 import xxh3_64

FIRST_EPOCH = 1
"""Of a new group, and of its empty assignment; the first assignment that is computed has 2."""

_INT32 = Struct("<i")
_INT64S = Struct("<2Q")
_HALF = 1 << 63


class TopicHashes:
    """The metadata hashes of groups (KIP-1101), each topic's kept until it changes."""

    def __init__(self) -> None:
        self._brokers: object = None
        self._known: dict[str, tuple[TopicInfo, bytes]] = {}

    def of(self, topics: Iterable[str], view: ClusterView) -> int:
        """The signed 64-bit hash of these topics; those that are not there do not count, and 0 says
        that none is."""
        if view.brokers is not self._brokers:
            self._brokers = view.brokers
            self._known.clear()  # racks may have changed
        found = [(name, view.topics[name]) for name in sorted(topics) if name in view.topics]
        if not found:
            return 0
        return signed(xxh3_64(b"".join(self._topic(name, info, view) for name, info in found)))

    def forget(self, topics: Iterable[str]) -> None:
        """These topics have changed: what was known of them takes up room only."""
        for name in topics:
            self._known.pop(name, None)

    def _topic(self, name: str, info: TopicInfo, view: ClusterView) -> bytes:
        known = self._known.get(name)
        if known is None or known[0] is not info:
            value = xxh3_64(_topic_bytes(info, view)).to_bytes(8, "little")
            known = self._known[name] = (info, value)
        return known[1]


def _topic_bytes(info: TopicInfo, view: ClusterView) -> bytes:
    """A topic as it is hashed: a zero, id, name, partitions with the racks of their replicas."""
    high, low = info.topic_id[:8], info.topic_id[8:]
    out = bytearray(1)
    out += _INT64S.pack(int.from_bytes(high, "big"), int.from_bytes(low, "big"))
    out += _text(info.name)
    out += _INT32.pack(len(info.partitions))
    for partition in info.partitions:
        out += _INT32.pack(partition.index)
        brokers = [view.brokers[b] for b in partition.replicas if b in view.brokers]
        for rack in sorted(b.rack for b in brokers if b.rack is not None):
            text = _text(rack)
            out += text[-4:] + text
    return bytes(out)


def _text(text: str) -> bytes:
    """UTF-16 and how many units that are."""
    raw = text.encode("utf-16-le", "surrogatepass")
    return raw + _INT32.pack(len(raw) // 2)


def signed(value: int) -> int:
    """64 bits as the signed number that records hold."""
    return value - (_HALF << 1) if value >= _HALF else value
