"""What clients ask of the active controller: create, grow and delete topics, change the levels of
features, hand out producer ids.

Runs as events of the controller (`run.py`). A topic is created by one fenced transaction of all its
nodes, in the order in which Apache Kafka creates them one by one; several topics share a multi.
"""

import asyncio
import logging
from collections import ChainMap
from collections.abc import Mapping, Sequence

from broker.cluster import layout
from broker.cluster.layout import Assignment, Leadership, TopicNode
from broker.cluster.store import (
    BadVersion,
    Create,
    NodeExists,
    NoNode,
    Op,
    SetData,
    Stat,
    StoreError,
)
from broker.cluster.view import ZERO_UUID
from broker.controller import decide
from broker.controller.decide import Notices
from broker.controller.features import FeatureWish, plan_levels, supported_by_all
from broker.controller.fence import Group, Outcome
from broker.controller.reign import Reign
from broker.controller.state import State
from broker.controller.topics import (
    MAX_NEW_PARTITIONS,
    BrokerSite,
    Created,
    Defaults,
    PartitionsWish,
    Random,
    Refusal,
    Refused,
    TopicPlan,
    TopicWish,
    collision_key,
    plan_partitions,
    plan_topic,
    too_many_partitions,
)
from protocol.errors import ErrorCode

log = logging.getLogger("odradek.controller")

PRODUCER_ID_BLOCK_SIZE = 1000
PRODUCER_ID_LIMIT = (1 << 63) - 1
TRIES = 10


class Admin:
    """The client-facing half of a reign; see the module's docstring."""

    __slots__ = ("_random", "_reign", "_state")

    def __init__(self, reign: Reign, random: Random) -> None:
        self._reign = reign
        self._random = random
        self._state: State = reign.state

    def _sites(self) -> list[BrokerSite]:
        return [BrokerSite(b.id, b.rack) for _, b in sorted(self._state.brokers.items())]

    # --- creation --------------------------------------------------------------------------------

    async def create(
        self, wishes: Sequence[TopicWish], defaults: Defaults, validate_only: bool
    ) -> list[Created | Refusal]:
        """See Controller.create_topics."""
        state = self._state
        answers: list[Created | Refusal] = []
        plans: list[tuple[int, TopicPlan, bytes]] = []
        sites = self._sites()
        # Topics of this very request collide with each other too.
        earlier: dict[str, str] = {}
        keys = ChainMap(earlier, state.collision_keys)
        room = MAX_NEW_PARTITIONS
        for wish in wishes:
            try:
                if room <= 0:
                    raise too_many_partitions()
                plan = plan_topic(
                    wish,
                    state.topics,
                    sites,
                    defaults,
                    self._random,
                    keys,
                )
                room -= len(plan.assignments)
                if room < 0:
                    raise too_many_partitions()
            except Refused as refused:
                answers.append(refused.refusal)
                continue
            topic_id = ZERO_UUID if validate_only else self._reign.new_topic_id()
            if not validate_only:
                plans.append((len(answers), plan, topic_id))
                earlier[collision_key(wish.name)] = wish.name
            answers.append(Created(topic_id, len(plan.assignments), plan.replication))
        for at, refusal in await self._write_topics(plans):
            answers[at] = refusal
        return answers

    async def _write_topics(
        self, plans: Sequence[tuple[int, TopicPlan, bytes]]
    ) -> list[tuple[int, Refusal]]:
        """Write, adopt and announce; returns the refusals of topics that could not be written."""
        state = self._state
        refusals: list[tuple[int, Refusal]] = []
        firsts = [self._first(plan) for _, plan, _ in plans]
        groups = [
            _creation(plan, topic_id, first)
            for (_, plan, topic_id), first in zip(plans, firsts, strict=True)
        ]
        outcomes = await self._reign.fence.write(groups) if groups else []
        notices = Notices()
        made: list[str] = []
        for i, (at, plan, topic_id) in enumerate(plans):
            outcome = await self._over_old_config(outcomes[i], groups[i], plan)
            if isinstance(outcome, StoreError):
                refusals.append((at, _refusal(outcome, plan.name)))
                continue
            topic = state.add_topic(plan.name, TopicNode(topic_id, plan.assignments))
            made.append(plan.name)
            for index, leadership in firsts[i].items():
                partition = topic.partitions[index]
                partition.state, partition.version = leadership, 0
                notices.leads((plan.name, index), leadership.isr, new=True)
        await asyncio.gather(*map(self._reign.arm, made))
        if plans:
            self._reign.send(notices)
        return refusals

    def _first(self, plan: TopicPlan) -> dict[int, Leadership]:
        state, name = self._state, plan.name
        firsts: dict[int, Leadership] = {}
        for index, assignment in plan.assignments.items():
            first = decide.first_leadership(state, (name, index), assignment.replicas)
            if first is not None:
                firsts[index] = first
        return firsts

    async def _over_old_config(self, outcome: Outcome, group: Group, plan: TopicPlan) -> Outcome:
        """A config node left from before is overwritten, as Apache Kafka does."""
        path = layout.config_path("topics", plan.name)
        if not (isinstance(outcome, NodeExists) and outcome.path == path):
            return outcome
        first = group[0]
        assert isinstance(first, Create)
        (again,) = await self._reign.fence.write([[SetData(path, first.data), *group[1:]]])
        return again

    # --- growth ----------------------------------------------------------------------------------

    async def grow(
        self, wishes: Sequence[PartitionsWish], validate_only: bool
    ) -> list[Refusal | None]:
        """See Controller.create_partitions."""
        answers: list[Refusal | None] = []
        room = MAX_NEW_PARTITIONS
        for wish in wishes:
            try:
                if room <= 0:
                    raise too_many_partitions()
                added = self._plan_growth(wish)
                room -= len(added)
                if room < 0:
                    raise too_many_partitions()
                if not validate_only:
                    await self._write_growth(wish.name, added)
            except Refused as refused:
                answers.append(refused.refusal)
            except StoreError as error:
                answers.append(_refusal(error, wish.name))
            else:
                answers.append(None)
        return answers

    def _plan_growth(self, wish: PartitionsWish) -> dict[int, Assignment]:
        state = self._state
        if wish.name in state.deletions:
            raise Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, "The topic is queued for deletion.")
        topic = state.topics.get(wish.name)
        if topic is None:
            raise Refused(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{wish.name}' does not exist."
            )
        present = topic.node().assignments
        return plan_partitions(wish, present, self._sites(), self._random)

    async def _write_growth(self, name: str, added: Mapping[int, Assignment]) -> None:
        state = self._state
        node = state.topics[name].node(added)
        await self._reign.fence.one(SetData(layout.topic_path(name), layout.encode_topic(node)))
        state.add_topic(name, node)
        keys = [(name, index) for index in added]
        await self._reign.carry_out(decide.new_partitions(state, keys))

    # --- deletion --------------------------------------------------------------------------------

    async def delete(self, names: Sequence[str]) -> list[Refusal | None]:
        """See Controller.delete_topics. A topic marked before counts as marked now."""
        state = self._state
        answers: list[Refusal | None] = []
        known = [name for name in names if name in state.topics]
        groups: list[Group] = [[Create(layout.deletion_path(name))] for name in known]
        outcomes = dict(
            zip(known, await self._reign.fence.write(groups) if groups else [], strict=True)
        )
        marked: list[str] = []
        for name in names:
            outcome = outcomes.get(name)
            if outcome is None:
                answers.append(Refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
            elif isinstance(outcome, StoreError) and not isinstance(outcome, NodeExists):
                answers.append(_refusal(outcome, name))
            else:
                answers.append(None)
                marked.append(name)
        await self._reign.begin_deletions(marked)
        return answers

    # --- features --------------------------------------------------------------------------------

    async def update_features(
        self, wishes: Sequence[FeatureWish], together: bool, validate_only: bool
    ) -> tuple[list[Refusal | None], int]:
        """See Controller.update_features."""
        data, stat = await self._reign.store.get(layout.FEATURE)
        finalized = layout.decode_feature(data)
        supported = supported_by_all(b.registration.features for b in self._state.brokers.values())
        levels, answers = plan_levels(wishes, finalized, supported)
        refused = together and any(answers)
        if refused or validate_only or levels == finalized:
            return answers, stat.version
        change = SetData(layout.FEATURE, layout.encode_feature(levels), stat.version)
        (written,) = await self._reign.fence.one(change)
        assert isinstance(written, Stat)
        log.info("finalized features: %s, epoch %d", levels, written.version)
        return answers, written.version

    # --- producer ids ----------------------------------------------------------------------------

    async def allocate_ids(self, broker_id: int, broker_epoch: int) -> tuple[int, int]:
        """See Controller.allocate_producer_ids."""
        broker = self._state.brokers.get(broker_id)
        if broker is None:
            raise Refused(ErrorCode.BROKER_ID_NOT_REGISTERED)
        if broker.epoch != broker_epoch:
            raise Refused(ErrorCode.STALE_BROKER_EPOCH)
        store = self._reign.store
        for _ in range(TRIES):
            try:
                data, stat = await store.get(layout.PRODUCER_ID_BLOCK)
            except NoNode:
                await store.create(layout.PRODUCER_ID_BLOCK)
                continue
            first = layout.decode_producer_block(data)[2] + 1 if data else 0
            last = first + PRODUCER_ID_BLOCK_SIZE - 1
            if last > PRODUCER_ID_LIMIT:
                raise Refused(ErrorCode.UNKNOWN_SERVER_ERROR, "The producer ids are used up.")
            block = layout.encode_producer_block(broker_id, first, last)
            try:
                await store.set(layout.PRODUCER_ID_BLOCK, block, stat.version)
            except BadVersion:
                continue
            return first, PRODUCER_ID_BLOCK_SIZE
        raise Refused(ErrorCode.UNKNOWN_SERVER_ERROR, "The producer id block is contended.")


def _creation(plan: TopicPlan, topic_id: bytes, firsts: Mapping[int, Leadership]) -> Group:
    name = plan.name
    node = layout.encode_topic(TopicNode(topic_id, plan.assignments))
    ops: list[Op] = [
        Create(layout.config_path("topics", name), layout.encode_config(plan.configs)),
        Create(layout.topic_path(name), node),
    ]
    if firsts:
        ops.append(Create(layout.partitions_path(name)))
    for index, leadership in firsts.items():
        ops.append(Create(layout.partition_path(name, index)))
        ops.append(Create(layout.state_path(name, index), layout.encode_state(leadership)))
    return ops


def _refusal(error: StoreError, name: str) -> Refusal:
    if isinstance(error, NodeExists) and error.path == layout.topic_path(name):
        return Refusal(ErrorCode.TOPIC_ALREADY_EXISTS, f"There is a topic {name!r} already.")
    log.error("topic %s: %s", name, error)
    return Refusal(ErrorCode.UNKNOWN_SERVER_ERROR, str(error))
