"""An operator of the simulated cluster: has partitions moved to other replicas and back, makes and
deletes a topic, all while everything else goes on.

In the end everything is where it was: all replicas on all nodes, and no topic but the run's.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from protocol.errors import ErrorCode
from protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from protocol.messages.delete_topics import DeleteTopicsRequest
from protocol.messages.list_partition_reassignments import ListPartitionReassignmentsRequest
from protocol.messages.metadata import MetadataRequest
from tests.sim.clients import METADATA, Client
from tests.sim.history import History, Key

if TYPE_CHECKING:
    from tests.sim.world import World

MOVED, LISTED, MADE, DELETED = 0, 0, 5, 4
"""Versions that are sent."""
TIMEOUT_MS = 2000
PASSING = "passing"
"""The topic that comes and goes."""


class Operator(Client):
    """Acts until `finish`, then puts everything back; `idle` while nothing is left to do."""

    def __init__(
        self, world: "World", history: History, number: int, keys: Sequence[Key], rate: float
    ) -> None:
        """`rate`: acts a second."""
        super().__init__(world, history, number, f"operator-{number}")
        self.keys = list(keys)
        self.rate = rate
        self.finished = self.idle = False
        self._controller = 0

    def finish(self) -> None:
        """Begin nothing new."""
        self.finished = True

    async def run(self) -> None:
        chance = self.world.chance
        while not self.finished:
            await self.pause(chance.expovariate(self.rate))
            act = chance.choice((self._move, self._move, self._move, self._make, self._delete))
            await act()
        while True:  # what a controller that was paused has read may be done late
            self.idle = await self._is_back()
            await self.pause(0.5)

    # --- acts

    async def _move(self) -> None:
        """Some partitions to other replicas, in another order; or they are to stay where they
        were."""
        chance, nodes = self.world.chance, range(len(self.world.nodes))
        wanted: dict[Key, list[int] | None] = {}
        for key in chance.sample(self.keys, chance.randint(1, len(self.keys))):
            replicas = chance.sample(nodes, chance.choice((2, 2, len(nodes))))
            wanted[key] = None if chance.random() < 0.15 else replicas
        self.world.note(f"moves: {wanted}")
        await self._reassign(wanted)

    async def _reassign(self, wanted: dict[Key, list[int] | None]) -> None:
        topics: dict[str, list[ReassignablePartition]] = {}
        for (name, index), replicas in wanted.items():
            topics.setdefault(name, []).append(ReassignablePartition(index, replicas))
        rows = [ReassignableTopic(*item) for item in topics.items()]
        await self._ask(AlterPartitionReassignmentsRequest(TIMEOUT_MS, True, rows), MOVED)

    async def _make(self) -> None:
        topic = CreatableTopic(PASSING, 2, len(self.world.nodes))
        await self._ask(CreateTopicsRequest([topic], TIMEOUT_MS), MADE)

    async def _delete(self) -> None:
        await self._ask(DeleteTopicsRequest([], [PASSING], TIMEOUT_MS), DELETED)

    async def _ask(self, request: Any, version: int) -> Any:
        """The controller's answer; None if there is none now."""
        for _ in self.world.nodes:
            answer = await self.call(self._controller, request, version)
            if answer is not None and _code(answer) != ErrorCode.NOT_CONTROLLER:
                return answer
            self._controller = (self._controller + 1) % len(self.world.nodes)
        return None

    # --- the end

    async def _is_back(self) -> bool:
        """Whether everything is where it was; else it is on its way, or was asked for again."""
        if any(node.partition(PASSING, i) for node in self.world.nodes for i in range(2)):
            await self._delete()
            return False
        everywhere = list(range(len(self.world.nodes)))
        moving = await self._ask(ListPartitionReassignmentsRequest(TIMEOUT_MS, None), LISTED)
        answer = await self.call(self._controller, MetadataRequest(None, False), METADATA)
        if moving is None or moving.error_code or answer is None:
            return False
        topics = {topic.name: topic.partitions for topic in answer.topics}
        if PASSING in topics:
            await self._delete()
            return False
        if moving.topics:
            return False
        away: dict[Key, list[int] | None] = {
            (name, row.partition_index): everywhere
            for name, rows in topics.items()
            for row in rows
            if sorted(row.replica_nodes) != everywhere
        }
        if away:
            await self._reassign(away)
        return not away


def _code(answer: Any) -> int:
    """Of the whole answer, or of its first row."""
    for rows in (getattr(answer, "topics", None), getattr(answer, "responses", None)):
        if rows and hasattr(rows[0], "error_code"):
            return int(rows[0].error_code)
    return int(getattr(answer, "error_code", 0))
