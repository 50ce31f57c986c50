"""How leaders of share partitions and the group coordinator reach the share coordinator.

`Persister` is what they use: each question is about one share partition and is answered by a call
of `done`. `LocalPersister` asks the coordinator in this process; where several brokers share the
partitions of __share_group_state, another one can send InitializeShareGroupState, Read-, Write-,
DeleteShareGroupState and ReadShareGroupStateSummary (83 to 87), which ask and answer the same.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from broker import auto_topics
from broker.cluster.view import SHARE_STATE_TOPIC
from broker.coordinator import Outcome, Waiting
from broker.shares.common import ShareKey
from broker.shares.state import Answer, Change, ShareStates
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.context import Node

log = logging.getLogger("odradek.shares")

Done = Callable[[Answer], None]

FIRST_PAUSE_S, LAST_PAUSE_S, TRIES = 0.02, 1.0, 10
"""Waits for a coordinator that is not there yet double from the first to the last."""
NOT_YET = (
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
)


class Persister(Protocol):
    """See the module. `done` may be called before the method returns."""

    def initialize(
        self, key: ShareKey, state_epoch: int, start_offset: int, done: Done
    ) -> None: ...

    def read(self, key: ShareKey, leader_epoch: int, done: Done) -> None: ...

    def write(self, key: ShareKey, change: Change, done: Done) -> None: ...

    def delete(self, key: ShareKey, done: Done) -> None: ...

    def summary(self, key: ShareKey, done: Done) -> None: ...

    def close(self) -> None:
        """Nothing that is still open will be answered."""


class LocalPersister:
    """The coordinator in this process. Its topic is created on first need."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._creating: asyncio.Task[Any] | None = None
        self._retries: set[asyncio.TimerHandle] = set()
        self._closed = False

    def initialize(self, key: ShareKey, state_epoch: int, start_offset: int, done: Done) -> None:
        """A new state, see `ShareStates.initialize`."""
        self._write(
            key,
            lambda machine, who, now: machine.initialize(key, state_epoch, start_offset, who, now),
            done,
        )

    def read(self, key: ShareKey, leader_epoch: int, done: Done) -> None:
        """The state, see `ShareStates.read`."""
        self._write(key, lambda machine, who, now: machine.read(key, leader_epoch, who, now), done)

    def write(self, key: ShareKey, change: Change, done: Done) -> None:
        """What happened to records, see `ShareStates.write`."""
        self._write(key, lambda machine, who, now: machine.write(key, change, who, now), done)

    def delete(self, key: ShareKey, done: Done) -> None:
        """Forget a state, see `ShareStates.delete`."""
        self._write(key, lambda machine, who, now: machine.delete(key, who, now), done)

    def summary(self, key: ShareKey, done: Done) -> None:
        """Where it stands, see `ShareStates.summary`."""
        self._ask(
            lambda: self._node.share_states.read(
                str(key), lambda machine: machine.summary(key), refusal
            ),
            done,
        )

    def close(self) -> None:
        """See `Persister`."""
        self._closed = True
        for retry in self._retries:
            retry.cancel()
        self._retries.clear()
        if self._creating is not None:
            self._creating.cancel()

    def _write(
        self, key: ShareKey, decide: Callable[[ShareStates, Waiting, int], Outcome], done: Done
    ) -> None:
        self._ask(lambda: self._node.share_states.write(str(key), decide, refusal), done)

    def _ask(self, ask: Callable[[], Any], done: Done, tries: int = 1) -> None:
        def answered(answer: Answer) -> None:
            if answer.code not in NOT_YET or tries >= TRIES or self._closed:
                done(answer)
                return
            self._create_topic()
            pause = min(FIRST_PAUSE_S * 2 ** (tries - 1), LAST_PAUSE_S)
            retry: asyncio.TimerHandle

            def again() -> None:
                self._retries.discard(retry)
                self._ask(ask, done, tries + 1)

            retry = asyncio.get_running_loop().call_later(pause, again)
            self._retries.add(retry)

        answer = ask()
        if isinstance(answer, Waiting):
            answer.start(answered)
        else:
            answered(answer)

    def _create_topic(self) -> None:
        node = self._node
        if SHARE_STATE_TOPIC in node.metadata.view.topics or self._creating is not None:
            return

        async def create() -> None:
            try:
                await auto_topics.create(node, [SHARE_STATE_TOPIC])
            finally:
                self._creating = None

        self._creating = asyncio.get_running_loop().create_task(create())


def refusal(code: ErrorCode) -> Answer:
    """What a coordinator that is not there says."""
    return Answer(code, code.message)
