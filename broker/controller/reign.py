"""One reign of the active controller: its state, its fence, its channels, and what it does when the
store or a broker says that something changed.

Begins with `begin` (read everything, tell everybody) and ends with `close`: from then on it writes
nothing, sends nothing and hears nothing. All methods but `close` run as events of the controller.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from broker.cluster import layout
from broker.cluster.layout import BadContent, Leadership
from broker.cluster.store import (
    Create,
    Delete,
    NodeExists,
    NoNode,
    SetData,
    Store,
    StoreError,
    WatchEvent,
)
from broker.controller import decide, load
from broker.controller.asked_elections import AskedElections
from broker.controller.channel import BrokerChannel, Outbox
from broker.controller.decide import Notices, Plan, Unclean
from broker.controller.fence import Fence, Group
from broker.controller.moves import Moves
from broker.controller.requests import ControlRequest, ControlResponse, Writer, partitions_of
from broker.controller.state import Broker, Key, State
from protocol.errors import ErrorCode
from protocol.messages.leader_and_isr import LeaderAndIsrRequest, LeaderAndIsrResponse
from protocol.messages.stop_replica import StopReplicaRequest, StopReplicaResponse

log = logging.getLogger("odradek.controller")

FIRST_BALANCE_S = 5.0
"""After the beginning of a reign, until it first looks whether leaders are where they should be."""

Event = Callable[[], Awaitable[None]]
Put = Callable[[str | None, Event], None]
"""Queue an event for the controller's task; one with a name is not queued twice."""
Connect = Callable[[Broker], BrokerChannel]


class Balance(NamedTuple):
    """How often leaders are given back to preferred replicas, and from which share on."""

    interval_s: float
    percentage: int


class Ways:
    """What a reign needs from outside beside the store."""

    __slots__ = ("balance", "connect", "listener", "new_topic_id", "unclean")

    def __init__(
        self,
        connect: Connect,
        listener: str,
        unclean: Unclean,
        new_topic_id: Callable[[], bytes],
        balance: Balance | None = None,
    ) -> None:
        self.balance = balance
        self.connect = connect
        self.listener = listener
        self.unclean = unclean
        self.new_topic_id = new_topic_id


class Reign:
    """See the module's docstring. `state` mirrors the store; `fence` is how it writes."""

    def __init__(self, store: Store, state: State, put: Put, ways: Ways) -> None:
        self.store = store
        self.state = state
        self.fence = Fence(store, state.epoch_version)
        self.new_topic_id = ways.new_topic_id
        self._ways = ways
        self._unclean = ways.unclean
        self._queue = put
        self._closed = False
        self._outboxes: dict[int, Outbox] = {}
        self._gone: dict[str, list[asyncio.Future[None]]] = {}
        self._balancer: asyncio.TimerHandle | None = None
        self._telling: asyncio.Task[None] | None = None
        self.moves = Moves(self)

    def later(self, name: str, event: Event) -> None:
        """Queue an event of this reign, once under its name."""
        self._put(name, event)

    def start_over(self, error: StoreError) -> None:
        """The store failed in the middle of something: forget everything and read it again."""

        async def fail() -> None:
            raise error

        self._put("start over", fail)

    def _put(self, name: str | None, event: Event) -> None:
        async def while_it_lasts() -> None:
            if not self._closed:
                await event()

        if not self._closed:
            # Events of an earlier reign may still be queued under the same name, and do nothing.
            self._queue(None if name is None else f"{id(self)} {name}", while_it_lasts)

    async def begin(self) -> None:
        """Read the tree, tell the brokers who is alive, then settle and tell everything.

        Raises ControllerMoved, StoreError.
        """
        state = self.state
        try:
            await self.fence.one(Create(layout.FEATURE, layout.encode_feature()))
        except NodeExists:
            pass
        await self._take_notes(layout.ISR_CHANGES, self._on_isr_changes)
        await self._take_notes(layout.LOG_DIR_EVENTS, self._on_log_dir_events)
        ids = await self.store.children(layout.BROKER_IDS, self._on_brokers)
        state.brokers = await load.brokers(self.store, load.broker_ids(ids))
        names = sorted(await self.store.children(layout.TOPICS, self._on_topics))
        await load.topics(self.store, self.fence, state, names, self._on_topic, self.new_topic_id)
        for broker in state.brokers.values():
            self._open(broker)
        self.send(decide.announce_brokers(state))
        await self._delete_marked()
        await self.carry_out(decide.take_over(state, self._unclean))
        await self.moves.resume()
        await AskedElections(self).read()
        self._balance_in(FIRST_BALANCE_S)
        self._telling = asyncio.get_running_loop().create_task(self._tell_when_all_know())

    async def _tell_when_all_know(self) -> None:
        await self.drained()
        if not self._closed:
            log.info("all brokers know what controller epoch %d began with", self.state.epoch)

    def revoke(self) -> None:
        """At once, without waiting: no further write and no further event (session expired)."""
        self._closed = True
        self.fence.close()

    async def close(self) -> None:
        """End of the reign: channels closed, everybody who waits is let go."""
        self.revoke()
        if self._balancer is not None:
            self._balancer.cancel()
        outboxes, self._outboxes = self._outboxes, {}
        for outbox in outboxes.values():
            await outbox.close()
        if self._telling is not None:
            await self._telling
        for name in list(self._gone):
            self._let_go(name)

    async def drained(self, broker_id: int | None = None) -> None:
        """Wait until the brokers, or one of them, have answered every request queued so far."""
        await asyncio.gather(
            *(
                outbox.drained()
                for other, outbox in list(self._outboxes.items())
                if broker_id in (None, other)
            )
        )

    async def _take_notes(
        self, path: str, watch: Callable[[WatchEvent], None]
    ) -> list[bytes | None]:
        """Delete and return the notes under `path`."""
        names = await self.store.children(path, watch)
        paths = [f"{path}/{name}" for name in sorted(names)]
        nodes = await self.store.get_many(paths)
        for note in paths:
            try:
                await self.store.delete(note)
            except NoNode:
                pass
        return [node[0] for node in nodes if node is not None]

    # --- brokers ---------------------------------------------------------------------------------

    def _open(self, broker: Broker) -> None:
        def on_response(request: ControlRequest, response: ControlResponse) -> None:
            self._on_response(broker.id, request, response)

        self._outboxes[broker.id] = Outbox(broker.id, self._ways.connect(broker), on_response)

    async def _close(self, broker_id: int) -> None:
        outbox = self._outboxes.pop(broker_id, None)
        if outbox is not None:
            await outbox.close()

    def _on_brokers(self, _: WatchEvent) -> None:
        self._put("brokers", self._brokers_changed)

    async def _brokers_changed(self) -> None:
        state = self.state
        ids = await self.store.children(layout.BROKER_IDS, self._on_brokers)
        present = await load.brokers(self.store, load.broker_ids(ids))
        known = state.brokers
        bounced = {i for i in present if i in known and present[i].epoch > known[i].epoch}
        went = (set(known) - set(present)) | bounced
        came = (set(present) - set(known)) | bounced
        if went:
            log.info("brokers gone: %s", sorted(went))
            for broker_id in went:
                del known[broker_id]
                state.shutting_down.discard(broker_id)
                await self._close(broker_id)
            await self.carry_out(decide.brokers_went(state, went, self._unclean))
        if came:
            log.info("brokers new: %s", sorted(came))
            for broker_id in came:
                known[broker_id] = present[broker_id]
                self._open(present[broker_id])
            state.offline_replicas = {r for r in state.offline_replicas if r[0] not in came}
            # A broker must know where a leader is before it is told to follow it.
            self.send(decide.introduce(state, came))
            await self.carry_out(decide.brokers_came(state, came, self._unclean))
            await self.moves.resume_on(came)
        if went or came:
            self.send(decide.resume_deletions(state, went))
            self._tell_stalled()

    def _on_isr_changes(self, _: WatchEvent) -> None:
        self._put("isr changes", self._isrs_changed)

    async def _isrs_changed(self) -> None:
        """Leaders below IBP 2.7 have written ISRs themselves: read them, tell everybody."""
        state = self.state
        notes = await self._take_notes(layout.ISR_CHANGES, self._on_isr_changes)
        named = dict.fromkeys(key for note in notes for key in layout.decode_isr_change(note))
        keys = [key for key in named if state.partition(key) is not None]
        await load.leaderships(self.store, state, keys)
        self.send(Notices(metadata=dict.fromkeys(keys)))
        await self.moves.advance(keys)

    def _on_log_dir_events(self, _: WatchEvent) -> None:
        self._put("log dirs", self._log_dirs_changed)

    async def _log_dirs_changed(self) -> None:
        """A broker lost a log directory: its answer to LeaderAndIsr says which replicas."""
        state = self.state
        notices = Notices()
        for note in await self._take_notes(layout.LOG_DIR_EVENTS, self._on_log_dir_events):
            broker_id = layout.decode_log_dir_event(note)
            for key in state.keys_on([broker_id]) if broker_id in state.brokers else ():
                notices.leader_and_isr.setdefault(broker_id, {})[key] = False
        self.send(notices)

    # --- topics changed in the store -------------------------------------------------------------

    def _on_topics(self, _: WatchEvent) -> None:
        self._put("topics", self._topics_changed)

    async def _topics_changed(self) -> None:
        state = self.state
        names = set(await self.store.children(layout.TOPICS, self._on_topics))
        for name in [n for n in state.topics if n not in names]:
            state.remove_topic(name)  # by hand, or this is the echo of our own deletion
        fresh = sorted(names - state.topics.keys())
        if fresh:
            await self.take_in(fresh)

    async def take_in(self, names: Sequence[str]) -> None:
        """Topics that appeared in the store: read them, give their partitions leaders."""
        state = self.state
        read = await load.topics(
            self.store, self.fence, state, names, self._on_topic, self.new_topic_id
        )
        keys = [(name, index) for name in read for index in state.topics[name].partitions]
        await self.carry_out(decide.new_partitions(state, keys))

    def _on_topic(self, event: WatchEvent) -> None:
        name = event.path[event.path.rfind("/") + 1 :]

        async def changed() -> None:
            await self._topic_changed(name)

        self._put(f"topic {name}", changed)

    async def _topic_changed(self, name: str) -> None:
        state = self.state
        if name not in state.topics:
            return
        try:
            data, _ = await self.store.get(layout.topic_path(name), self._on_topic)
            node = layout.decode_topic(name, data)
        except NoNode:
            return
        except BadContent as error:
            log.error("topic change ignored: %s", error)
            return
        topic = state.topics[name]
        added = [(name, i) for i in sorted(node.assignments) if i not in topic.partitions]
        if added and name not in state.deletions:
            state.add_topic(name, node)
            await load.leaderships(self.store, state, added)
            await self.carry_out(decide.new_partitions(state, added))

    # --- deletion --------------------------------------------------------------------------------

    def _on_deletions(self, _: WatchEvent) -> None:
        self._put("deletions", self._deletions_changed)

    async def _deletions_changed(self) -> None:
        await self._delete_marked()

    async def _delete_marked(self) -> None:
        """Begin what /admin/delete_topics asks for; marks of unknown topics are taken away."""
        state = self.state
        names = await self.store.children(layout.DELETE_TOPICS, self._on_deletions)
        unknown = [name for name in names if name not in state.topics]
        if unknown:
            await self.fence.write([[Delete(layout.deletion_path(name))] for name in unknown])
        await self.begin_deletions(name for name in names if name in state.topics)

    async def begin_deletions(self, names: Iterable[str]) -> None:
        """Their deletion marks are in the store: out of the metadata, replicas told to go."""
        state = self.state
        fresh = [name for name in names if name not in state.deletions]
        self.send(decide.delete_topics(state, fresh))
        await self.moves.forget(fresh)
        # A topic that no replica ever had is finished already.
        await self._finish_deletions({n for n in fresh if decide.deletion_complete(state, n)})
        self._tell_stalled()

    async def _finish_deletions(self, names: set[str]) -> None:
        state = self.state
        groups = [await self._removal(name) for name in sorted(names)]
        for name, outcome in zip(sorted(names), await self.fence.write(groups), strict=True):
            if isinstance(outcome, StoreError):
                raise outcome
            state.remove_topic(name)
            self._let_go(name)
            log.info("topic %s is deleted", name)

    async def _removal(self, name: str) -> Group:
        """Everything of a topic, bottom up, the deletion mark last: a crash anywhere resumes."""
        paths: list[str] = []
        for index in sorted(self.state.topics[name].partitions):
            paths += (layout.state_path(name, index), layout.partition_path(name, index))
        paths += (
            layout.partitions_path(name),
            layout.topic_path(name),
            layout.config_path("topics", name),
            layout.deletion_path(name),
        )
        nodes = await self.store.get_many(paths)
        return [Delete(p) for p, node in zip(paths, nodes, strict=True) if node is not None]

    def _tell_stalled(self) -> None:
        """Nobody waits for a deletion that waits for a broker."""
        state = self.state
        for name in [name for name in self._gone if decide.deletion_stalled(state, name)]:
            self._let_go(name)

    async def deleted(self, name: str) -> None:
        """Wait until a topic's deletion is finished, or waits for a broker that is away."""
        if name not in self.state.deletions or decide.deletion_stalled(self.state, name):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gone.setdefault(name, []).append(future)
        await future

    def _let_go(self, name: str) -> None:
        for future in self._gone.pop(name, ()):
            if not future.done():
                future.set_result(None)

    # --- answers of brokers ----------------------------------------------------------------------

    def _on_response(
        self, broker_id: int, request: ControlRequest, response: ControlResponse
    ) -> None:
        if response.error_code != ErrorCode.NONE:
            log.warning(
                "broker %d answered %s with error %d",
                broker_id,
                type(request).__name__,
                response.error_code,
            )
        if isinstance(request, StopReplicaRequest) and isinstance(response, StopReplicaResponse):
            self._put(None, lambda: self._replicas_stopped(broker_id, request, response))
        elif isinstance(request, LeaderAndIsrRequest) and isinstance(
            response, LeaderAndIsrResponse
        ):
            self._on_leader_and_isr(broker_id, response)

    async def _replicas_stopped(
        self, broker_id: int, request: StopReplicaRequest, response: StopReplicaResponse
    ) -> None:
        state = self.state
        failed = {
            (p.topic_name, p.partition_index)
            for p in response.partition_errors
            if p.error_code != ErrorCode.NONE
        }
        asked = partitions_of(request)
        if response.error_code != ErrorCode.NONE:
            failed = set(asked)
        finished = decide.replicas_deleted(
            state, broker_id, [key for key in asked if key not in failed], ok=True
        )
        decide.replicas_deleted(state, broker_id, failed, ok=False)
        if failed:
            log.error("broker %d could not delete %s", broker_id, sorted(failed))
        await self._finish_deletions(finished)
        self._tell_stalled()

    def _on_leader_and_isr(self, broker_id: int, response: LeaderAndIsrResponse) -> None:
        """Only KAFKA_STORAGE_ERROR and success tell something: about the replica's directory."""
        state = self.state
        if response.error_code != ErrorCode.NONE:
            return
        for key, code in self._answers(response):
            replica = (broker_id, *key)
            failed = code == ErrorCode.KAFKA_STORAGE_ERROR
            if failed == (replica in state.offline_replicas):
                continue
            if failed:
                state.offline_replicas.add(replica)
            elif code == ErrorCode.NONE:
                state.offline_replicas.discard(replica)
            else:
                continue
            self._settle_later(key)

    def _answers(self, response: LeaderAndIsrResponse) -> Iterator[tuple[Key, int]]:
        """Before version 5 topics are told by name, later by id; in this process by both."""
        for error in response.partition_errors:
            yield (error.topic_name, error.partition_index), error.error_code
        for topic in response.topics:
            name = self.state.names.get(topic.topic_id, "")
            for error in topic.partition_errors:
                yield (error.topic_name or name, error.partition_index), error.error_code

    def _settle_later(self, key: Key) -> None:
        async def settle() -> None:
            await self.carry_out(decide.settle(self.state, [key], self._unclean))

        self._put(f"settle {key[0]} {key[1]}", settle)

    # --- elections -------------------------------------------------------------------------------

    def _balance_in(self, seconds: float) -> None:
        if self._ways.balance is not None and not self._closed:
            loop = asyncio.get_running_loop()
            self._balancer = loop.call_later(seconds, self._put, "balance", self._balance)

    async def _balance(self) -> None:
        """Give leaders back to preferred replicas, where too many are elsewhere."""
        from broker.controller import elect

        balance = self._ways.balance
        assert balance is not None
        self._balance_in(balance.interval_s)
        keys = elect.imbalanced(self.state, balance.percentage)
        if keys:
            log.info("%d partitions go back to their preferred leaders", len(keys))
            plan, _ = elect.elect(self.state, keys, elect.Election.PREFERRED)
            await self.carry_out(plan)

    def reconsider(self, topic: str | None) -> None:
        """Settings of a topic, or of all, have changed: it may allow unclean elections now."""

        async def settle() -> None:
            state = self.state
            names = state.topics if topic is None else {topic} & state.topics.keys()
            keys = [(name, index) for name in names for index in state.topics[name].partitions]
            leaderless = [key for key in keys if state.leaderless(key)]
            await self.carry_out(decide.settle(state, leaderless, self._unclean))

        self._put(f"reconsider {topic}", settle)

    # --- carrying out ----------------------------------------------------------------------------

    async def carry_out(self, plan: Plan) -> None:
        """Write the changes, apply those that were written, then tell the brokers."""
        if plan.changes:
            await self.write(plan.changes)
        self.send(plan.notices)

    async def write(self, changes: dict[Key, Leadership]) -> set[Key]:
        """Write leaderships, each on the condition that nobody else has changed it; returns those
        that somebody had, which are read again and settled later."""
        state = self.state
        keys = list(changes)
        groups = await self._state_groups(changes)
        again: list[Key] = []
        for key, outcome in zip(keys, await self.fence.write(groups), strict=True):
            partition = state.partition(key)
            assert partition is not None
            if isinstance(outcome, StoreError):
                log.warning("partition %s-%d changed by another: %s", *key, outcome)
                again.append(key)
            else:
                partition.state = changes[key]
                partition.version += 1
        if again:
            await load.leaderships(self.store, state, again)
            for key in again:
                self._settle_later(key)
        return set(again)

    async def _state_groups(self, changes: dict[Key, Leadership]) -> list[Group]:
        """One group a partition: a conditional set, or the creation of its nodes."""
        state = self.state
        parents: list[str] = []
        for name, index in changes:
            if (p := state.partition((name, index))) is not None and p.version < 0:
                parents += (layout.partitions_path(name), layout.partition_path(name, index))
        parents = list(dict.fromkeys(parents))
        nodes = await self.store.get_many(parents)
        missing = {path for path, node in zip(parents, nodes, strict=True) if node is None}
        groups: list[Group] = []
        for key, new in changes.items():
            partition = state.partition(key)
            assert partition is not None
            path, data = layout.state_path(*key), layout.encode_state(new)
            if partition.version >= 0:
                groups.append([SetData(path, data, partition.version)])
                continue
            ops: Group = []
            for parent in (layout.partitions_path(key[0]), layout.partition_path(*key)):
                if parent in missing:
                    missing.discard(parent)
                    ops.append(Create(parent))
            groups.append([*ops, Create(path, data)])
        return groups

    def send(self, notices: Notices) -> None:
        """Queue the requests that say it."""
        state = self.state
        for broker_id, request in Writer(state, notices, self._ways.listener).requests():
            outbox = self._outboxes.get(broker_id)
            if outbox is not None:
                outbox.put(request)

    async def arm(self, name: str) -> None:
        """Watch a topic this controller has just created."""
        await self.store.exists(layout.topic_path(name), self._on_topic)
