"""Committed offsets as the records hold them, of all groups of one machine.

A million of them fit into 300 MB and load in seconds: a value is kept as it is in the log, and is
taken apart when somebody asks for it.
"""

import sys
from collections.abc import Iterator, Mapping
from struct import Struct
from types import MappingProxyType
from typing import NamedTuple

from protocol.errors import Malformed

KEY_KIND = 1
"""Kind of record that offsets are written as; 0, from before Kafka 0.9, has the same key."""

_HEAD = Struct(">hq")
_INT16 = Struct(">h")
_INT32 = Struct(">i")
_INT64 = Struct(">q")
_TAIL_OF_V1 = Struct(">qq")

EXPIRING_VERSION, VERSION = 1, 3
"""Version of a value with an expiry of its own (KIP-211), and of all others: those of Kafka 3.9."""

Place = tuple[str, int]
"""Topic and partition."""


class Committed(NamedTuple):
    """A value taken apart; times in ms. -1: no leader epoch, no expiry of its own."""

    offset: int
    leader_epoch: int
    metadata: str
    commit_timestamp: int
    expire_timestamp: int


def offset_key(group: str, topic: str, partition: int) -> bytes:
    """The key of an offset's record."""
    a, b = group.encode(), topic.encode()
    head = _INT16.pack(KEY_KIND) + _INT16.pack(len(a)) + a + _INT16.pack(len(b)) + b
    return head + _INT32.pack(partition)


def offset_value(committed: Committed) -> bytes:
    """The value of an offset's record."""
    metadata = committed.metadata.encode()
    length = _INT16.pack(len(metadata))
    if committed.expire_timestamp >= 0:
        head = _HEAD.pack(EXPIRING_VERSION, committed.offset)
        times = _TAIL_OF_V1.pack(committed.commit_timestamp, committed.expire_timestamp)
        return head + length + metadata + times
    head = _HEAD.pack(VERSION, committed.offset) + _INT32.pack(committed.leader_epoch)
    return head + length + metadata + _INT64.pack(committed.commit_timestamp)


def read_value(value: bytes) -> Committed:
    """A value of any version that was ever written."""
    version, offset = _HEAD.unpack_from(value)
    if not 0 <= version <= 3:
        return _declared(value)
    at, epoch = _HEAD.size, -1
    if version >= 3:
        (epoch,) = _INT32.unpack_from(value, at)
        at += 4
    (length,) = _INT16.unpack_from(value, at)
    at += 2
    metadata = value[at : at + length].decode()
    at += length
    if version == EXPIRING_VERSION:
        committed, expires = _TAIL_OF_V1.unpack_from(value, at)
    else:
        (committed,), expires = _INT64.unpack_from(value, at), -1
    return Committed(offset, epoch, metadata, committed, expires)


def times_of(value: bytes) -> tuple[int, int]:
    """(commit time, expiry of its own or -1) of a value."""
    if value[1] in (0, 2, 3):
        return _INT64.unpack_from(value, len(value) - 8)[0], -1
    committed = read_value(value)
    return committed.commit_timestamp, committed.expire_timestamp


def _declared(value: bytes) -> Committed:
    from protocol.stored.consumer_offsets import OffsetCommitValue
    from protocol.stored.versioned import decode_versioned

    v = decode_versioned(OffsetCommitValue, value)
    return Committed(v.offset, v.leader_epoch, v.metadata, v.commit_timestamp, v.expire_timestamp)


class OffsetTable:
    """Offsets by group and place, and those of transactions that are under way."""

    def __init__(self) -> None:
        # One flat dict a group costs the same whatever the topics and partitions are.
        self._groups: dict[str, dict[Place, bytes]] = {}
        # Of transactions: group -> place -> producer id -> (log offset, value), or None where
        # something newer was committed since.
        self._pending: dict[str, dict[Place, dict[int, tuple[int, bytes] | None]]] = {}
        self._producers: dict[int, dict[tuple[str, Place], None]] = {}
        # The last record's group and topic, encoded, and what they are: commits come topic by
        # topic.
        self._last_prefix = b""
        self._last: dict[Place, bytes] = {}
        self._last_topic = ""

    def replay(self, key: bytes, value: bytes | None, producer_id: int, offset: int) -> None:
        """A record of the log; Malformed if its key is cut off."""
        prefix = key[:-4]
        (partition,) = _INT32.unpack_from(key, len(prefix))
        if value is not None and producer_id < 0 and not self._pending:
            if prefix != self._last_prefix:
                group, self._last_topic = _names(prefix)
                self._last = self._groups.setdefault(group, {})
                self._last_prefix = prefix
            self._last[self._last_topic, partition] = value
            return
        group, topic = _names(prefix)
        place = topic, partition
        if producer_id >= 0:
            self._replay_pending(group, place, value, producer_id, offset)
        elif value is None:
            self._remove(group, place)
        else:
            self._groups.setdefault(group, {})[place] = value
            self._supersede(group, place, offset)

    def _remove(self, group: str, place: Place) -> None:
        """Also what transactions would have made of it."""
        offsets = self._groups.get(group, {})
        if offsets.pop(place, None) is not None and not offsets:
            self._last_prefix = b""
            del self._groups[group]
        for producer_id in list(self._pending.get(group, {}).get(place, ())):
            self._take(producer_id, group, place)

    # --- transactions

    def _replay_pending(
        self, group: str, place: Place, value: bytes | None, producer_id: int, offset: int
    ) -> None:
        if value is None:
            self._take(producer_id, group, place)
            return
        self._pending.setdefault(group, {}).setdefault(place, {})[producer_id] = (offset, value)
        self._producers.setdefault(producer_id, {})[group, place] = None

    def _supersede(self, group: str, place: Place, offset: int) -> None:
        """Something was committed at that point of the log: what is pending from before will not
        count."""
        by_producer = self._pending.get(group, {}).get(place, {})
        for producer_id, pending in by_producer.items():
            if pending is not None and pending[0] < offset:
                by_producer[producer_id] = None

    def _take(self, producer_id: int, group: str, place: Place) -> tuple[int, bytes] | None:
        """Take out what a producer has pending there."""
        places = self._producers.get(producer_id, {})
        if (group, place) not in places:
            return None
        by_place = self._pending[group]
        by_producer = by_place[place]
        taken = by_producer.pop(producer_id)
        if not by_producer:
            del by_place[place]
            if not by_place:
                del self._pending[group]
        del places[group, place]
        if not places:
            del self._producers[producer_id]
        return taken

    def replay_end(self, producer_id: int, committed: bool) -> None:
        """A transaction's marker."""
        for group, place in list(self._producers.get(producer_id, ())):
            taken = self._take(producer_id, group, place)
            if committed and taken is not None:
                offset, value = taken
                self._groups.setdefault(group, {})[place] = value
                self._supersede(group, place, offset)

    # --- questions

    def groups(self) -> Iterator[str]:
        """Every group that has an offset or a pending one."""
        yield from self._groups
        for group in self._pending:
            if group not in self._groups:
                yield group

    def has(self, group: str) -> bool:
        """Whether the group has an offset or a pending one."""
        return group in self._groups or group in self._pending

    def of(self, group: str) -> Mapping[Place, bytes]:
        """The group's offsets: values by place."""
        return self._groups.get(group, NOTHING)

    def is_pending(self, group: str, place: Place) -> bool:
        """Whether a transaction that is under way has committed there."""
        return place in self._pending.get(group, ())

    def places(self, group: str) -> list[Place]:
        """All that the group has, also pending."""
        return list(dict.fromkeys((*self.of(group), *self._pending.get(group, ()))))


NOTHING: Mapping[Place, bytes] = MappingProxyType({})


def _names(prefix: bytes) -> tuple[str, str]:
    """Group and topic of a key."""
    length = int.from_bytes(prefix[2:4], "big")
    group, topic = prefix[4 : 4 + length], prefix[6 + length :]
    if len(topic) != int.from_bytes(prefix[4 + length : 6 + length], "big"):
        raise Malformed("the key of an offset is cut off")
    return group.decode(), sys.intern(topic.decode())
