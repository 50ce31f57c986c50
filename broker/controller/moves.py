"""Reassignments of partitions carried out: written, told, begun again after a failover.

Runs as events of the controller (`run.py`); what follows from what is in `reassign.py`. The topic's
node is the only record of a move: written first with old and new replicas, and last with the target
alone, so that a controller that takes over in between goes on from it. Partitions of a topic are
written together, and many partitions in each step.

/admin/reassign_partitions, the way of old tools, is read too: its entries are moves like others,
and leave the node when they are done, refused, or replaced by a request.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from broker.cluster import layout
from broker.cluster.layout import Assignment, BadContent, Leadership
from broker.cluster.store import Delete, NoNode, SetData, StoreError, WatchEvent
from broker.controller import decide, load, reassign
from broker.controller.decide import Notices
from broker.controller.reassign import BY_REQUEST, BY_ZNODE, Rules, Target
from broker.controller.state import Key
from broker.controller.topics import Refusal
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.controller.reign import Reign

log = logging.getLogger("odradek.controller")

TRIES = 5
"""Of a leadership that somebody else writes, too (leaders below IBP 2.7)."""


class Moves:
    """The moves of one reign."""

    def __init__(self, reign: "Reign") -> None:
        self._reign = reign
        self._state = reign.state
        self._asked: dict[Key, tuple[int, ...]] = {}
        """What the old znode asks for and is not done yet."""

    # --- begun

    async def begin(
        self, targets: Iterable[Target], rules: Rules = BY_REQUEST
    ) -> dict[Key, Refusal | None]:
        """See Controller.alter_reassignments: an answer for each partition."""
        wanted = {target.key: target for target in targets}
        planned, refused = reassign.plan(self._state, wanted.values(), rules)
        # Whoever asks last is right, also against the old znode.
        await self._settle_asked(planned)
        refused |= await self._carry(planned)
        return {key: refused.get(key) for key in wanted}

    async def resume(self) -> None:
        """Go on with all that is moving, and begin what the old znode asks for: after a
        failover."""
        begun = await self.read_asked()
        moving = reassign.running(self._state, list(self._state.all_keys()))
        await self._carry({key: a for key, a in moving.items() if key not in begun})

    async def resume_on(self, came: set[int]) -> None:
        """Brokers have come: go on with what moves to them."""
        moving = reassign.running(self._state, self._state.keys_on(came))
        await self._carry(
            {key: a for key, a in moving.items() if not came.isdisjoint(reassign.target(a))}
        )

    async def advance(self, keys: Iterable[Key]) -> None:
        """The ISRs of these partitions are others: end the moves whose target is in sync."""
        done = [key for key in reassign.running(self._state, keys) if self._reached(key)]
        if done:
            await self._end(done)

    def _reached(self, key: Key) -> bool:
        partition = self._state.partition(key)
        return partition is not None and reassign.reached(self._state, key, partition)

    async def _carry(self, planned: Mapping[Key, Assignment]) -> dict[Key, Refusal]:
        """Put the partitions on their way as far as it goes now; refusals of those that could not
        be written."""
        state = self._state
        changed = {
            key: assignment
            for key, assignment in planned.items()
            if (partition := state.partition(key)) is not None
            and partition.assignment != assignment
        }
        refused = await self._write(changed)
        unneeded: dict[Key, tuple[int, ...]] = {}
        for key, assignment in changed.items():
            partition = state.partition(key)
            if partition is None or key in refused:
                continue
            gone = tuple(b for b in partition.replicas if b not in assignment.replicas)
            partition.assignment = assignment
            if gone:
                unneeded[key] = gone
        await self._remove(unneeded)
        left = [key for key in planned if key not in refused]
        # A partition without a leader so far may get one of the new replicas.
        await self._reign.carry_out(decide.new_partitions(state, left))
        done = [key for key in left if self._reached(key)]
        await self._announce([key for key in left if key not in done])
        await self._end(done)
        return refused

    async def _announce(self, keys: Sequence[Key]) -> None:
        """Phase A."""
        if not keys:
            return
        state = self._state
        log.info("%d partitions move to other replicas: %s", len(keys), _some(keys))
        notices = Notices()
        for key in await self._change(keys, lambda key: reassign.announced(state, key)):
            partition = state.partition(key)
            assert partition is not None
            adding = partition.assignment.adding
            for broker_id in partition.replicas:
                if state.alive(broker_id, key):
                    # A new replica may go to any directory; an old one only to where it was.
                    notices.leads(key, [broker_id], new=broker_id in adding)
        self._reign.send(notices)

    async def _end(self, keys: Sequence[Key]) -> None:
        """Phase B. What cannot be written stays on its way, until it is looked at again."""
        if not keys:
            return
        state = self._state
        before: dict[Key, Assignment] = {}
        for key in keys:
            partition = state.partition(key)
            assert partition is not None
            before[key] = partition.assignment
            partition.assignment = Assignment(reassign.target(partition.assignment))
        notices = Notices()
        led = await self._change(keys, lambda key: self._led_by_target(key, before[key]))
        for key in keys:
            partition = state.partition(key)
            assert partition is not None
            if key in led:
                notices.leads(key, [b for b in partition.replicas if state.alive(b, key)])
            else:
                partition.assignment = before[key]
        self._reign.send(notices)
        await self._remove({key: before[key].removing for key in led if before[key].removing})
        targets = {key: Assignment(reassign.target(before[key])) for key in led}
        refused = await self._write(targets)
        if refused:
            raise StoreError(detail=f"the ends of moves cannot be written: {refused}")
        await self._settle_asked([k for k in keys if k in led or not reassign.moving(before[k])])
        self._reign.send(Notices(metadata=dict.fromkeys(led)))
        log.info("%d partitions have moved: %s", len(led), _some(led))

    def _led_by_target(self, key: Key, before: Assignment) -> Leadership | None:
        """None if the ISR was found to be another: somebody has left it meanwhile."""
        partition = self._state.partition(key)
        if partition is None or partition.state is None:
            return None
        if reassign.moving(before) and not set(partition.replicas) <= set(partition.state.isr):
            return None
        return reassign.led_by_target(self._state, key)

    async def _remove(self, gone: Mapping[Key, tuple[int, ...]]) -> None:
        """Replicas that are not assigned any more leave the ISR and are deleted."""
        if not gone:
            return
        state = self._state
        notices = Notices()
        out = await self._change(gone, lambda key: reassign.without(state, key, gone[key]))
        for key in out:
            partition = state.partition(key)
            assert partition is not None
            notices.leads(key, [b for b in partition.replicas if state.alive(b, key)])
        for key, replicas in gone.items():
            for broker_id in replicas:
                if state.alive(broker_id, key):
                    notices.stop.setdefault(broker_id, {})[key] = True
        self._reign.send(notices)

    # --- written

    async def _change(
        self, keys: Iterable[Key], decided: Callable[[Key], Leadership | None]
    ) -> list[Key]:
        """Write what is decided of each partition; those of which something was written."""
        written: list[Key] = []
        left = list(keys)
        for _ in range(TRIES):
            changes = {key: new for key in left if (new := decided(key)) is not None}
            if not changes:
                break
            again = await self._reign.write(changes)
            written += [key for key in changes if key not in again]
            left = [key for key in left if key in again]
        return written

    async def _write(self, changed: Mapping[Key, Assignment]) -> dict[Key, Refusal]:
        """Write these assignments into their topics' nodes; refusals of those whose topic is
        gone."""
        topics: dict[str, dict[int, Assignment]] = {}
        for (name, index), assignment in changed.items():
            topics.setdefault(name, {})[index] = assignment
        nodes = {name: self._state.topics[name].node(some) for name, some in topics.items()}
        groups = [
            [SetData(layout.topic_path(name), layout.encode_topic(node))]
            for name, node in nodes.items()
        ]
        refused: dict[Key, Refusal] = {}
        outcomes = await self._reign.fence.write([[*group] for group in groups])
        for (name, some), outcome in zip(topics.items(), outcomes, strict=True):
            if isinstance(outcome, StoreError):
                log.error("topic %s cannot be reassigned: %s", name, outcome)
                refusal = Refusal(ErrorCode.UNKNOWN_SERVER_ERROR, str(outcome))
                refused |= {(name, index): refusal for index in some}
        return refused

    # --- the old znode

    async def read_asked(self) -> set[Key]:
        """Read /admin/reassign_partitions, watch it, and begin what is new in it: which that is."""
        data = await load.content(self._reign.store, layout.REASSIGN_PARTITIONS, self._on_asked)
        if data is None:
            self._asked = {}
            return set()
        try:
            asked = layout.decode_reassignments(data)
        except BadContent as error:
            log.error("reassignments are not read: %s", error)
            return set()
        before, self._asked = self._asked, asked
        fresh = [Target(key, to) for key, to in asked.items() if before.get(key) != to]
        planned, refused = reassign.plan(self._state, fresh, BY_ZNODE)
        refused |= await self._carry(planned)
        for key, refusal in refused.items():
            log.warning("%s-%d is not reassigned: %s %s", *key, refusal.code.name, refusal.message)
        await self._settle_asked(refused)
        if not asked:
            await self._write_asked()
        return planned.keys() - refused

    def _on_asked(self, _: WatchEvent) -> None:
        async def read() -> None:
            await self.read_asked()

        self._reign.later("reassignments", read)

    async def forget(self, names: Iterable[str]) -> None:
        """These topics are being deleted, and move no more."""
        gone = set(names)
        await self._settle_asked([key for key in self._asked if key[0] in gone])

    async def _settle_asked(self, keys: Iterable[Key]) -> None:
        """Take entries out of the old znode; the last one takes the node along."""
        left = reassign.still_asked(self._asked, keys)
        if len(left) < len(self._asked):
            self._asked = left
            await self._write_asked()

    async def _write_asked(self) -> None:
        path = layout.REASSIGN_PARTITIONS
        change = SetData(path, layout.encode_reassignments(self._asked)) if self._asked else None
        try:
            await self._reign.fence.one(change or Delete(path))
        except NoNode:
            pass  # somebody has taken it away, and is heard of by the watch


def _some(keys: Sequence[Key]) -> str:
    shown = ", ".join(f"{name}-{index}" for name, index in keys[:10])
    return shown if len(keys) <= 10 else f"{shown}, ..."
