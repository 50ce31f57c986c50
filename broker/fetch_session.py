"""The follower's side of a fetch session (KIP-227). Pure.

The leader remembers what a session asks for, so a request names only partitions of which something
has changed since the last one. Whatever goes wrong ends in a full request, which opens a session
anew (and closes the old one, if the leader still has it).
"""

from typing import NamedTuple

from broker.sessions import INITIAL_EPOCH, INVALID_SESSION_ID, next_epoch
from protocol.errors import ErrorCode
from protocol.wire import ZERO_UUID

Key = tuple[str, int]
"""Topic and partition."""


class Ask(NamedTuple):
    """What is asked of a partition. Offsets."""

    topic_id: bytes
    offset: int
    leader_epoch: int
    last_epoch: int
    """Epoch of the record before `offset`, -1 if there is none."""
    log_start: int


class Turn(NamedTuple):
    """What the next request says."""

    session_id: int
    epoch: int
    by_id: bool
    asks: list[tuple[Key, Ask]]
    forgotten: list[tuple[Key, bytes]]
    """Partitions that are fetched no more, with the topic's id."""


class SessionClient:
    """One fetcher's session with one leader."""

    def __init__(self) -> None:
        self._wanted: dict[Key, Ask] = {}
        self._changed: dict[Key, None] = {}
        self._forgotten: dict[tuple[Key, bytes], None] = {}
        self._session_id = INVALID_SESSION_ID
        self._epoch = INITIAL_EPOCH
        self._by_id = True
        self._without_id = 0

    def __len__(self) -> int:
        return len(self._wanted)

    def put(self, key: Key, ask: Ask) -> None:
        """Fetch a partition like this from now on."""
        before = self._wanted.get(key)
        if before == ask:
            return
        if before is not None:
            self._without_id -= before.topic_id == ZERO_UUID
            if before.topic_id != ask.topic_id:
                self._forgotten[key, before.topic_id] = None
        self._without_id += ask.topic_id == ZERO_UUID
        self._wanted[key] = ask
        self._changed[key] = None
        self._forgotten.pop((key, ask.topic_id), None)

    def drop(self, key: Key) -> None:
        """Fetch it no more."""
        before = self._wanted.pop(key, None)
        if before is not None:
            self._without_id -= before.topic_id == ZERO_UUID
            self._changed.pop(key, None)
            self._forgotten[key, before.topic_id] = None

    def turn(self) -> Turn:
        """The next request: all that is wanted, or what has changed since the last one."""
        by_id = not self._without_id
        if by_id != self._by_id:
            self._by_id = by_id
            self._epoch = INITIAL_EPOCH
        changed, self._changed = self._changed, {}
        forgotten, self._forgotten = self._forgotten, {}
        if self._epoch == INITIAL_EPOCH:
            everything = list(self._wanted.items())
            return Turn(self._session_id, INITIAL_EPOCH, by_id, everything, [])
        asks = [(key, self._wanted[key]) for key in changed]
        return Turn(self._session_id, self._epoch, by_id, asks, list(forgotten))

    def answered(self, error_code: int, session_id: int) -> bool:
        """The answer to the last turn; whether its partitions count."""
        if error_code != ErrorCode.NONE:
            if error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND:
                self._session_id = INVALID_SESSION_ID
            self._epoch = INITIAL_EPOCH
            return False
        if session_id == INVALID_SESSION_ID:
            # The leader has no room for a session, or has just dropped it.
            self._session_id, self._epoch = INVALID_SESSION_ID, INITIAL_EPOCH
        else:
            self._session_id = session_id
            self._epoch = next_epoch(self._epoch)
        return True

    def failed(self) -> None:
        """No answer: whether the leader has taken in what was said is not known."""
        self._epoch = INITIAL_EPOCH
