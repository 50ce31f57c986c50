"""What the parts of share groups have in common: names of share partitions, states of records."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from typing import NamedTuple

from protocol.errors import ErrorCode

AVAILABLE, ACQUIRED, ACKNOWLEDGED, ARCHIVED = 0, 1, 2, 4
"""Delivery states of records, as stored. 3 is ARCHIVING, on the way to a dead letter queue
(KIP-1191), which is never written here."""
TERMINAL = (ACKNOWLEDGED, ARCHIVED)

NO_OFFSET = -1
UNKNOWN_COUNT = -1
MAX_MEMBER_ID = 36
"""Characters: as many as a UUID has."""


class ShareKey(NamedTuple):
    """A share partition: a topic's partition as one group sees it."""

    group_id: str
    topic_id: bytes
    partition: int

    def __str__(self) -> str:
        """What the share coordinator's partition is found by: group:topic id:partition."""
        return f"{self.group_id}:{uuid_text(self.topic_id)}:{self.partition}"


_KEY = re.compile(r"(.*\S.*):([A-Za-z0-9_-]{22}(?:==)?):([+-]?[0-9]{1,10}):*", re.DOTALL)


def parse_key(text: str) -> ShareKey | None:
    """The share partition that a text names; None if it names none."""
    match = _KEY.fullmatch(text)
    if match is None or not -(1 << 31) <= int(match[3]) < 1 << 31:
        return None
    topic_id = urlsafe_b64decode(match[2][:22] + "==")
    return ShareKey(match[1], topic_id, int(match[3]))


def is_member_id(member_id: str | None) -> bool:
    """Whether a member of a share group can have that id."""
    return member_id is not None and 0 < len(member_id) <= MAX_MEMBER_ID


def uuid_text(uuid: bytes) -> str:
    """As Kafka writes ids: base64 for URLs, without padding."""
    return urlsafe_b64encode(uuid)[:-2].decode()


class Refused(Exception):
    """A request (or what it says of one partition) is refused; the message may be None."""

    def __init__(self, code: ErrorCode, message: str | None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class StateBatch(NamedTuple):
    """Records from `first` to `last` (offsets, both included) that are in the same state."""

    first: int
    last: int
    state: int
    deliveries: int
    """How often they were handed out."""


def combined(batches: Iterable[StateBatch], start_offset: int) -> tuple[StateBatch, ...]:
    """The same without overlaps, in order of offsets, as Apache Kafka stores it.

    What lies below `start_offset` (-1: nothing) is dropped. Where batches overlap the higher
    delivery count wins, then the higher state; neighbours that are alike become one.
    """
    kept = [
        batch if batch.first >= start_offset else batch._replace(first=start_offset)
        for batch in batches
        if batch.last >= max(batch.first, start_offset)
    ]
    if len(kept) < 2:
        return tuple(kept)
    edges: dict[int, list[tuple[int, tuple[int, int]]]] = {}
    for first, last, state, deliveries in kept:
        edges.setdefault(first, []).append((1, (deliveries, state)))
        edges.setdefault(last + 1, []).append((-1, (deliveries, state)))
    done: list[StateBatch] = []
    active: dict[tuple[int, int], int] = {}
    since = NO_OFFSET
    for offset in sorted(edges):
        if active:
            deliveries, state = max(active)
            _append(done, StateBatch(since, offset - 1, state, deliveries))
        for change, rank in edges[offset]:
            active[rank] = active.get(rank, 0) + change
            if not active[rank]:
                del active[rank]
        since = offset
    return tuple(done)


def _append(done: list[StateBatch], batch: StateBatch) -> None:
    if done and done[-1].last + 1 == batch.first and done[-1][2:] == batch[2:]:
        done[-1] = done[-1]._replace(last=batch.last)
    else:
        done.append(batch)
