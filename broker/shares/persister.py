"""How leaders of share partitions and the group coordinator reach the share coordinator.

`Persister` is what they use: each question is about one share partition and is answered by a call
of `done`. `StatePersister` asks the leader of the share partition's place in __share_group_state:
the coordinator in this process, or on another broker by way of `broker.shares.network`.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from broker import auto_topics
from broker.cluster.view import NO_LEADER, SHARE_STATE_TOPIC
from broker.coordinator import Outcome, Waiting
from broker.shares.common import ShareKey
from broker.shares.state import Answer, Change, ShareStates
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.context import Node
    from broker.shares.network import StateLink

log = logging.getLogger("odradek.shares")

Done = Callable[[Answer], None]

INITIALIZE, READ, WRITE, DELETE, SUMMARY = range(83, 88)
"""Keys of the APIs."""
FIRST_PAUSE_S, LAST_PAUSE_S, TRIES = 0.02, 1.0, 20
"""Waits for a coordinator that is not there (yet) double from the first to the last: some 15 s in
all, as long as Apache Kafka has patience with one that dies."""
NOT_YET = (
    ErrorCode.NETWORK_EXCEPTION,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
)


class Question(NamedTuple):
    """What is asked about one share partition; `said` is what the API's row has after the
    partition, or the `Change`."""

    api: int
    key: ShareKey
    said: tuple[Any, ...] = ()


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


class StatePersister:
    """See the module. The topic of the states is created on first need."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._creating: asyncio.Task[Any] | None = None
        self._retries: set[asyncio.TimerHandle] = set()
        self._link: StateLink | None = None
        self._closed = False

    def initialize(self, key: ShareKey, state_epoch: int, start_offset: int, done: Done) -> None:
        """A new state, see `ShareStates.initialize`."""
        self._write(
            INITIALIZE,
            key,
            (state_epoch, start_offset),
            lambda machine, who, now: machine.initialize(key, state_epoch, start_offset, who, now),
            done,
        )

    def read(self, key: ShareKey, leader_epoch: int, done: Done) -> None:
        """The state, see `ShareStates.read`."""
        self._write(
            READ,
            key,
            (leader_epoch,),
            lambda machine, who, now: machine.read(key, leader_epoch, who, now),
            done,
        )

    def write(self, key: ShareKey, change: Change, done: Done) -> None:
        """What happened to records, see `ShareStates.write`."""
        self._write(
            WRITE,
            key,
            change,
            lambda machine, who, now: machine.write(key, change, who, now),
            done,
        )

    def delete(self, key: ShareKey, done: Done) -> None:
        """Forget a state, see `ShareStates.delete`."""
        self._write(DELETE, key, (), lambda machine, who, now: machine.delete(key, who, now), done)

    def summary(self, key: ShareKey, done: Done) -> None:
        """Where it stands, see `ShareStates.summary`."""
        here = self._node.share_states
        self._ask(
            SUMMARY,
            key,
            (),
            lambda: here.read(str(key), lambda machine: machine.summary(key), refusal),
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
        if self._link is not None:
            self._link.close()

    def _write(
        self,
        api: int,
        key: ShareKey,
        said: tuple[Any, ...],
        decide: Callable[[ShareStates, Waiting, int], Outcome],
        done: Done,
    ) -> None:
        here = self._node.share_states
        self._ask(api, key, said, lambda: here.write(str(key), decide, refusal), done)

    def _ask(
        self,
        api: int,
        key: ShareKey,
        said: tuple[Any, ...],
        here: Callable[[], Any],
        done: Done,
    ) -> None:
        """Until there is an answer of whoever coordinates the key then: this broker (`here()`), or
        another one."""
        tries = 0

        def attempt() -> None:
            nonlocal tries
            tries += 1
            node = self._node
            broker_id = node.share_states.broker_of(str(key))
            if broker_id not in (NO_LEADER, node.broker_id):
                self._elsewhere().ask(broker_id, Question(api, key, said), answered)
                return
            answer = here()
            if isinstance(answer, Waiting):
                answer.start(answered)
            else:
                answered(answer)

        def answered(answer: Answer) -> None:
            if answer.code not in NOT_YET or tries >= TRIES or self._closed:
                done(answer)
                return
            self._create_topic()
            self._later(min(FIRST_PAUSE_S * 2 ** (tries - 1), LAST_PAUSE_S), attempt)

        attempt()

    def _later(self, pause_s: float, act: Callable[[], None]) -> None:
        def now() -> None:
            self._retries.discard(handle)
            act()

        handle = asyncio.get_running_loop().call_later(pause_s, now)
        self._retries.add(handle)

    def _elsewhere(self) -> "StateLink":
        if self._link is None:
            from broker.shares.network import StateLink

            self._link = StateLink(self._node)
        return self._link

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
