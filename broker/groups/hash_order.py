"""The orders in which Java's hash tables hand out what they hold.

Apache Kafka's coordinator keeps members and partitions in such tables, and takes them as they come:
which member gets a partition, which one it gives up, how records list them. To give the same
answers, the same orders are used here. (From eight keys in one place on Java may order that place
otherwise; this is not followed.)
"""

import struct
from collections.abc import Iterable

from broker.auto_topics import java_hash

SMALLEST = 16
"""Places of a java.util.HashMap or HashSet that was made without a size."""
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def members_ordered(keys: Iterable[str]) -> list[str]:
    """Texts as a HashMap that got them one after the other iterates over them."""
    wanted = list(keys)
    return names_ordered(wanted, grown(SMALLEST, len(wanted)))


def timeline_ordered(keys: Iterable[str], most: int = 0) -> list[str]:
    """Texts as a TimelineHashMap, the coordinator's own kind of table, iterates over them; `most`
    is how many it had at a time, if that was more."""
    wanted = list(keys)
    bits = 1
    while max(len(wanted), most) * 3 / 4 > 1 << bits:
        bits += 1
    wanted.reverse()  # the newest is the first in its place
    return sorted(wanted, key=lambda key: (java_hash(key) * _GOLDEN & _MASK) >> 64 - bits)


def partitions_ordered(partitions: Iterable[int], table: int) -> tuple[int, ...]:
    """Partitions as a table of that many places iterates over them; those that share a place keep
    their order."""
    return tuple(sorted(partitions, key=lambda partition: partition & table - 1))


def places_ordered(places: Iterable[tuple[bytes, int]], table: int) -> list[tuple[bytes, int]]:
    """Partitions of several topics (id, partition), likewise."""
    return sorted(
        places, key=lambda place: _spread(31 * _uuid_hash(place[0]) + place[1]) & table - 1
    )


def ids_ordered(ids: Iterable[bytes], table: int) -> list[bytes]:
    """Ids of topics, likewise."""
    return sorted(ids, key=lambda topic_id: _spread(_uuid_hash(topic_id)) & table - 1)


def names_ordered(names: Iterable[str], table: int) -> list[str]:
    """Texts, likewise."""
    return sorted(names, key=lambda name: _spread(java_hash(name)) & table - 1)


def _uuid_hash(uuid: bytes) -> int:
    first, second, third, fourth = struct.unpack(">4i", uuid)
    mixed: int = first ^ second ^ third ^ fourth
    return mixed


def copied_set(count: int) -> int:
    """Places of a HashSet that was made as a copy of so many elements."""
    return max(places_for(int(count / 0.75) + 1), SMALLEST)


def copied_map(count: int) -> int:
    """Places of a HashMap that was made as a copy of so many entries."""
    return places_for(int(count / 0.75 + 1))


def grown(table: int, count: int) -> int:
    """Places of a table that had so many and was filled: it doubles when over three quarters."""
    while count > table * 3 / 4:
        table *= 2
    return table


def _spread(value: int) -> int:
    value &= 0xFFFFFFFF
    return value ^ value >> 16


def places_for(least: int) -> int:
    """Places of a table that is asked for that many: the next power of two."""
    return 1 << max(least - 1, 0).bit_length()
