"""Questions to other brokers, gathered: one request at a time to each, and what comes while it is
under way goes along with the next.

That is how coordinators and the leaders of partitions talk to each other. Nothing is sent again
here: who asks knows whom to ask next.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from broker.peer import NotServed, Peer, PeerGone

if TYPE_CHECKING:
    from broker.cluster.view import ClusterView
    from broker.context import Node

log = logging.getLogger("odradek.peers")

Q = TypeVar("Q")
A = TypeVar("A")


class _Lane(Generic[Q, A]):
    """What goes to one broker."""

    __slots__ = ("address", "peer", "questions", "task")

    def __init__(self, peer: Peer, address: tuple[str, int] | None) -> None:
        self.peer = peer
        self.address = address
        self.questions: list[tuple[Q, Callable[[A], None]]] = []
        self.task: asyncio.Task[None] | None = None


class Outbox(Generic[Q, A]):
    """`exchange(peer, questions)` has them answered: the answers in the order of the questions.

    Where it raises (PeerGone, NotServed, or what an answer that makes no sense leads to), the
    answer to each is `failed(question, error)`. `purpose` is part of the client id. A broker that
    dies or moves is given up at once, not only when its answer is late.
    """

    def __init__(
        self,
        node: "Node",
        purpose: str,
        exchange: Callable[[Peer, list[Q]], Awaitable[list[A]]],
        failed: Callable[[Q, Exception], A],
    ) -> None:
        self._node = node
        self._purpose = purpose
        self._exchange = exchange
        self._failed = failed
        self._listener: str = node.config.inter_broker_listener_name
        self._lanes: dict[int, _Lane[Q, A]] = {}
        self._closed = False
        node.metadata.on_change(self._brokers_changed)

    def ask(self, broker_id: int, question: Q, done: Callable[[A], None]) -> None:
        """`done(answer)` in a later turn of the loop; never, if this is closed before."""
        if self._closed:
            return
        lane = self._lanes.get(broker_id)
        if lane is None:
            lane = self._lanes[broker_id] = self._new_lane(broker_id)
        lane.questions.append((question, done))
        if lane.task is None:
            lane.task = asyncio.get_running_loop().create_task(self._work_off(lane))

    def _new_lane(self, broker_id: int) -> _Lane[Q, A]:
        node, listener = self._node, self._listener
        peer = Peer(
            lambda: node.metadata.view.endpoint(broker_id, listener),
            f"broker-{node.broker_id}-{self._purpose}",
            timeout_s=node.config.request_timeout_ms / 1000,
        )
        return _Lane(peer, node.metadata.view.endpoint(broker_id, listener))

    async def _work_off(self, lane: _Lane[Q, A]) -> None:
        while lane.questions:
            taken, lane.questions = lane.questions, []
            questions = [question for question, _ in taken]
            try:
                answers = await self._exchange(lane.peer, questions)
            except (PeerGone, NotServed) as error:
                log.info("%s: %s", self._purpose, error)
                answers = [self._failed(question, error) for question in questions]
            except Exception as error:
                log.exception("%s: an exchange failed", self._purpose)
                answers = [self._failed(question, error) for question in questions]
            for (_, done), answer in zip(taken, answers, strict=True):
                done(answer)
        lane.task = None

    def _brokers_changed(self, old: "ClusterView", new: "ClusterView") -> None:
        if new.brokers is old.brokers:
            return
        for broker_id, lane in list(self._lanes.items()):
            if new.endpoint(broker_id, self._listener) != lane.address:
                del self._lanes[broker_id]
                lane.peer.close()

    def close(self) -> None:
        """Nothing more is asked, and nobody is answered."""
        self._closed = True
        for lane in self._lanes.values():
            lane.peer.close()
            if lane.task is not None:
                lane.task.cancel()
        self._lanes.clear()


def in_rounds(names: Sequence[Hashable]) -> list[list[int]]:
    """The places of all names, in rounds: in each of them no name is there twice, and the same name
    comes in its order."""
    rounds: list[list[int]] = []
    seen: dict[Hashable, int] = {}
    for place, name in enumerate(names):
        turn = seen[name] = seen.get(name, -1) + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(place)
    return rounds
