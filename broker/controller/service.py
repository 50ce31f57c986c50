"""What brokers ask of the active controller, and elections that somebody asks for.

Runs as events of the controller (`run.py`). Decisions are in `elect.py`; here they are written,
fenced, and told.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from broker.cluster.layout import Assignment, Leadership
from broker.controller import elect, reassign
from broker.controller.decide import Notices
from broker.controller.elect import Election, Wish
from broker.controller.reassign import Rules, Target
from broker.controller.reign import Reign
from broker.controller.state import Key
from broker.controller.topics import Refusal, Refused
from protocol.errors import ErrorCode

log = logging.getLogger("odradek.controller")

IsrAnswer = tuple[Leadership, int] | ErrorCode
"""What is committed and its partition epoch, or why nothing was done."""
ANY_EPOCH = -1


class Elected(NamedTuple):
    """`leaders`: who leads now, by partition; `refused`: why no election was held."""

    leaders: dict[Key, int]
    refused: dict[Key, ErrorCode]


class Service:
    """The brokers' half of a reign."""

    __slots__ = ("_reign", "_state")

    def __init__(self, reign: Reign) -> None:
        self._reign = reign
        self._state = reign.state

    async def alter_isr(
        self, broker_id: int, broker_epoch: int, wishes: Sequence[Wish]
    ) -> list[IsrAnswer]:
        """See Controller.alter_isr."""
        state = self._state
        broker = state.brokers.get(broker_id)
        if broker is None or broker.epoch != broker_epoch:
            raise Refused(ErrorCode.STALE_BROKER_EPOCH)
        refused: dict[Key, ErrorCode] = {}
        changes: dict[Key, Leadership] = {}
        for wish in wishes:
            found = elect.wished_isr(state, broker_id, wish)
            if isinstance(found, ErrorCode):
                refused[wish.key] = found
            elif found is not None:
                changes[wish.key] = found
        for key in await self._reign.write(changes) if changes else ():
            refused[key] = ErrorCode.INVALID_UPDATE_VERSION
        written = [key for key in changes if key not in refused]
        if written:
            self._reign.send(Notices(metadata=dict.fromkeys(written)))
            self._reign.later(f"moves of {written}", lambda: self._reign.moves.advance(written))
        return [refused.get(wish.key) or self._committed(wish.key) for wish in wishes]

    def _committed(self, key: Key) -> IsrAnswer:
        partition = self._state.partition(key)
        assert partition is not None and partition.state is not None
        return partition.state, partition.version

    async def shut_down(self, broker_id: int, broker_epoch: int) -> list[Key]:
        """See Controller.controlled_shutdown."""
        state = self._state
        broker = state.brokers.get(broker_id)
        if broker is None:
            raise Refused(ErrorCode.BROKER_NOT_AVAILABLE)
        if broker_epoch != ANY_EPOCH and broker_epoch < broker.epoch:
            raise Refused(ErrorCode.STALE_BROKER_EPOCH)
        log.info("broker %d is about to stop", broker_id)
        state.shutting_down.add(broker_id)
        await self._reign.carry_out(elect.shut_down(state, broker_id))
        return elect.still_led(state, broker_id)

    async def elect(self, keys: Sequence[Key] | None, kind: Election) -> Elected:
        """See Controller.elect_leaders."""
        state = self._state
        wanted = list(state.all_keys()) if keys is None else list(dict.fromkeys(keys))
        plan, refused = elect.elect(state, wanted, kind)
        await self._reign.carry_out(plan)
        leaders: dict[Key, int] = {}
        for key in wanted:
            partition = state.partition(key)
            if key not in refused and partition is not None and partition.state is not None:
                leaders[key] = partition.state.leader
        return Elected(leaders, refused)

    # --- reassignments

    async def reassign(self, targets: Sequence[Target], rules: Rules) -> dict[Key, Refusal | None]:
        """See Controller.alter_reassignments."""
        return await self._reign.moves.begin(targets, rules)

    async def reassignments(self, keys: Sequence[Key] | None) -> dict[Key, Assignment]:
        """See Controller.reassignments."""
        state = self._state
        return reassign.running(state, state.all_keys() if keys is None else keys)
