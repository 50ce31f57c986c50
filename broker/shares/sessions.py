"""Share sessions: the partitions that a member of a share group reads from this broker (KIP-932).
Pure.

A member has one session. It opens it with epoch 0, naming its partitions; later requests carry
epochs that count up and name only what changed; -1 closes it. A session ends with its connection.
"""

from collections.abc import Iterable
from typing import NamedTuple

from broker.shares.common import Refused
from protocol.errors import ErrorCode

OPEN = 0
CLOSE = -1
MAX_EPOCH = 0x7FFFFFFF

SessionKey = tuple[str, str]
"""(group id, member id)"""


class Asked(NamedTuple):
    """A partition of a session."""

    topic_id: bytes
    partition: int


class Session:
    """One member's partitions; `epoch` is what its next request must carry."""

    __slots__ = ("connection", "epoch", "key", "partitions")

    def __init__(self, key: SessionKey, partitions: Iterable[Asked], connection: object) -> None:
        self.key = key
        self.epoch = 1
        self.connection = connection
        self.partitions: dict[Asked, bool] = dict.fromkeys(partitions, False)
        """Whether the next answer must name the partition, whatever there is to say of it."""

    def advance(self) -> None:
        """The next request has the next epoch; 0 and -1 mean something else."""
        self.epoch = 1 if self.epoch >= MAX_EPOCH else self.epoch + 1

    def change(self, added: Iterable[Asked], forgotten: Iterable[Asked]) -> None:
        """What a request says of the partitions."""
        for one in added:
            self.partitions.setdefault(one, True)
        for one in forgotten:
            self.partitions.pop(one, None)

    def must_name(self, one: Asked, *, records: bool, error: bool) -> bool:
        """Whether an answer names the partition; remembers what it is told.

        What got records goes to the end, so that the others have their turn.
        """
        if one not in self.partitions:
            return True
        named = self.partitions[one] or records or error
        self.partitions[one] = error
        if records:
            self.partitions[one] = self.partitions.pop(one)
        return named


class ShareSessions:
    """All share sessions of this broker, at most `limit` (group.share.max.share.sessions)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sessions: dict[SessionKey, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: SessionKey) -> Session | None:
        """The session of a member, if it has one."""
        return self._sessions.get(key)

    def open(self, key: SessionKey, partitions: list[Asked], connection: object) -> Session:
        """A new session in place of what the member had. Raises Refused."""
        self._sessions.pop(key, None)
        if len(set(partitions)) < len(partitions):
            # Apache Kafka fails over it; clients see an unknown error.
            raise Refused(ErrorCode.UNKNOWN_SERVER_ERROR, None)
        if len(self._sessions) >= self._limit:
            raise Refused(ErrorCode.SHARE_SESSION_LIMIT_REACHED, None)
        session = self._sessions[key] = Session(key, partitions, connection)
        return session

    def resume(self, key: SessionKey, epoch: int) -> Session:
        """The session of a request with that epoch. Raises Refused."""
        session = self._sessions.get(key)
        if session is None:
            raise Refused(ErrorCode.SHARE_SESSION_NOT_FOUND, None)
        if epoch != CLOSE:
            if epoch != session.epoch:
                raise Refused(ErrorCode.INVALID_SHARE_SESSION_EPOCH, None)
            session.advance()
        return session

    def remove(self, key: SessionKey) -> Session | None:
        """Close a session; None if there is none."""
        return self._sessions.pop(key, None)

    def has_members(self, group_id: str) -> bool:
        """Whether a member of the group has a session here."""
        return any(group == group_id for group, _ in self._sessions)
