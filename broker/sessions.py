"""Fetch sessions (KIP-227): what a client asked for last time, so that it need not say it again.
Pure.

A session is a table of partitions with what was asked and last answered; an incremental request
changes the table, its answer leaves out partitions of which there is nothing new.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.following import FollowerSession

INVALID_SESSION_ID = 0
INITIAL_EPOCH = 0
FINAL_EPOCH = -1
MAX_EPOCH = 0x7FFFFFFF

PartitionKey = tuple[str, bytes, int]
"""(topic name, topic id, partition); the name is "" in requests by id, the id zero in requests by
name.
"""


@dataclass(slots=True)
class FetchedPartition:
    """What a client asks of one partition, and what it was told last. Offsets and bytes.

    `name` is the topic's name also where it was asked for by id; None while no topic has that id.
    """

    topic: str
    topic_id: bytes
    index: int
    fetch_offset: int
    max_bytes: int
    current_leader_epoch: int = -1
    last_fetched_epoch: int = -1
    log_start_offset: int = -1
    sent_high_watermark: int = -1
    sent_log_start_offset: int = -1
    name: str | None = None

    @property
    def key(self) -> PartitionKey:
        return self.topic, self.topic_id, self.index


class Session:
    """One client's table; `epoch` is what its next request must carry."""

    __slots__ = (
        "by_id",
        "created_ms",
        "epoch",
        "following",
        "partitions",
        "privileged",
        "session_id",
        "used_ms",
    )

    def __init__(self, session_id: int, now_ms: int, *, by_id: bool, privileged: bool) -> None:
        self.session_id = session_id
        self.epoch = 1
        self.by_id = by_id
        self.privileged = privileged
        self.created_ms = now_ms
        self.used_ms = now_ms
        self.partitions: dict[PartitionKey, FetchedPartition] = {}
        self.following: FollowerSession | None = None
        """Of a following broker: which partitions have something to tell."""


def next_epoch(epoch: int) -> int:
    """The epoch after this one; wraps to 1, because 0 asks for a new session."""
    return 1 if epoch >= MAX_EPOCH else epoch + 1


class FetchSessions:
    """All sessions of this broker, at most `slots` (max.incremental.fetch.session.cache.slots)."""

    def __init__(self, slots: int, eviction_ms: int, new_id: Callable[[], int]) -> None:
        self._slots = slots
        self._eviction_ms = eviction_ms
        self._new_id = new_id
        self._sessions: dict[int, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def create(
        self, partitions: list[FetchedPartition], now_ms: int, *, by_id: bool, privileged: bool
    ) -> Session | None:
        """A new session over these partitions; None when there is no room for one."""
        if not self._make_room(len(partitions), now_ms, privileged=privileged):
            return None
        session_id = self._new_id()
        while session_id == INVALID_SESSION_ID or session_id in self._sessions:
            session_id = self._new_id()
        session = Session(session_id, now_ms, by_id=by_id, privileged=privileged)
        session.partitions = {p.key: p for p in partitions}
        self._sessions[session_id] = session
        return session

    def _make_room(self, size: int, now_ms: int, *, privileged: bool) -> bool:
        """Apache Kafka's rule: first what is long unused, then what is smaller than the
        newcomer.
        """
        if len(self._sessions) < self._slots:
            return True
        oldest = min(self._sessions.values(), key=lambda s: s.used_ms, default=None)
        if oldest is None:
            return False
        if now_ms - oldest.used_ms > self._eviction_ms:
            self.remove(oldest.session_id)
            return True
        smallest = min(
            (s for s in self._sessions.values() if privileged or not s.privileged),
            key=lambda s: (s.privileged, len(s.partitions)),
            default=None,
        )
        if smallest is None or now_ms - smallest.created_ms <= self._eviction_ms:
            return False
        if len(smallest.partitions) >= size and smallest.privileged >= privileged:
            return False
        self.remove(smallest.session_id)
        return True

    def get(self, session_id: int) -> Session | None:
        """The session, or None."""
        return self._sessions.get(session_id)

    def remove(self, session_id: int) -> None:
        """Forget a session; an unknown one is no error."""
        session = self._sessions.pop(session_id, None)
        if session is not None and session.following is not None:
            session.following.close()

    def resume(
        self, session_id: int, epoch: int, now_ms: int, *, by_id: bool
    ) -> Session | ErrorCode:
        """The session of an incremental request, its epoch counted on; or the code to refuse it
        with.
        """
        session = self._sessions.get(session_id)
        if session is None:
            return ErrorCode.FETCH_SESSION_ID_NOT_FOUND
        if session.epoch != epoch:
            return ErrorCode.INVALID_FETCH_SESSION_EPOCH
        if session.by_id != by_id:
            return ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR
        session.epoch = next_epoch(epoch)
        session.used_ms = now_ms
        return session

    @staticmethod
    def update(
        session: Session, changed: list[FetchedPartition], forgotten: list[PartitionKey]
    ) -> None:
        """Lay an incremental request over the table. Changed partitions keep what was sent of
        them.
        """
        for asked in changed:
            present = session.partitions.get(asked.key)
            if present is not None:
                asked.name = asked.name or present.name
                asked.sent_high_watermark = present.sent_high_watermark
                asked.sent_log_start_offset = present.sent_log_start_offset
            session.partitions[asked.key] = asked
        for key in forgotten:
            session.partitions.pop(key, None)
