"""The controller's shell: election, one event after the other, fenced writes, requests to brokers.

One task owns the state. Watches, answers of brokers and calls of handlers only queue an event; each
event writes to the store first, applies what was written to the state, then queues the requests.
A write that finds another controller's epoch ends the reign (`ControllerMoved`); trouble in the
store fails the call that met it, never the process.
"""

import asyncio
import logging
import random as random_module
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from broker.clock import Clock
from broker.cluster import layout
from broker.cluster.layout import BadContent, Leadership
from broker.cluster.membership import Membership, random_uuid
from broker.cluster.store import (
    ConnectionLoss,
    Create,
    Delete,
    MultiFailed,
    NodeExists,
    NoNode,
    SessionEvent,
    SetData,
    Store,
    StoreError,
    WatchEvent,
)
from broker.controller import decide, load
from broker.controller.admin import Admin
from broker.controller.channel import BrokerChannel, ControlResponse, Outbox
from broker.controller.decide import Notices, Plan, Unclean
from broker.controller.fence import ControllerMoved, Fence, Group
from broker.controller.requests import ControlRequest, Writer, partitions_of
from broker.controller.state import Broker, Key, State
from broker.controller.topics import Created, Defaults, PartitionsWish, Refusal, TopicWish
from protocol.errors import ErrorCode
from protocol.messages.leader_and_isr import LeaderAndIsrRequest, LeaderAndIsrResponse
from protocol.messages.stop_replica import StopReplicaRequest, StopReplicaResponse

log = logging.getLogger("odradek.controller")

T = TypeVar("T")
Event = Callable[[], Awaitable[None]]
Connect = Callable[[Broker], BrokerChannel]
RETRY_S = 1.0
"""Before an election or a load that the store refused is tried again."""
NO_CONTROLLER = -1


class NotController(Exception):  # noqa: N818 - an answer, not a fault
    """This broker is not the active controller: NOT_CONTROLLER (41)."""


class Controller:
    """One node's controller: elected or standing by. Built and started by the server.

    `connect(broker)` opens the way to a broker; `unclean(topic)` says whether the topic allows an
    unclean election; `listener` is the inter-broker listener's name.
    """

    def __init__(
        self,
        store: Store,
        membership: Membership,
        clock: Clock,
        connect: Connect,
        *,
        listener: str = "PLAINTEXT",
        unclean: Unclean = decide.never,
        random: Callable[[int], int] = random_module.SystemRandom().randrange,
        new_uuid: Callable[[], bytes] = random_uuid,
    ) -> None:
        self.store = store
        self.new_uuid = new_uuid
        self.random = random
        self.controller_id = NO_CONTROLLER
        """Who holds /controller, as far as this broker has seen; -1 for nobody."""
        self.state: State | None = None
        """None while this broker is not the active controller."""
        self.fence = Fence(store, -1)
        self._membership = membership
        self._clock = clock
        self._connect = connect
        self._listener = listener
        self._unclean = unclean
        self._admin = Admin(self)
        self._outboxes: dict[int, Outbox] = {}
        self._events: deque[Event] = deque()
        self._queued: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._gone: dict[str, list[asyncio.Future[None]]] = {}
        self._watches_lost = False

    # --- what others call ------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether this broker is the controller now."""
        return self.state is not None

    @property
    def epoch(self) -> int:
        """Controller epoch of this broker's reign, -1 while it has none."""
        return -1 if self.state is None else self.state.epoch

    async def start(self) -> None:
        """Stand for election and, when elected, take over; returns when that is done.

        The broker must be registered before. Trouble in the store is retried in the background.
        """
        self.store.listen(self._on_session)
        self._put("elect", self._elect)
        idle = asyncio.get_running_loop().create_future()

        async def settled() -> None:
            if not idle.done():
                idle.set_result(None)

        self._put(None, settled)
        self._task = asyncio.get_running_loop().create_task(self._run())
        await idle

    async def drained(self) -> None:
        """Wait until the brokers have answered every request queued so far."""
        await asyncio.gather(*(outbox.drained() for outbox in list(self._outboxes.values())))

    async def stop(self) -> None:
        """Resign (so that another broker can take over at once) and end the task."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        was_active = self.active
        await self._resign()
        for event in list(self._events):
            await event()  # calls in the queue are told: not the controller
        self._events.clear()
        if was_active:
            try:
                _, stat = await self.store.get(layout.CONTROLLER)
                if stat.owner == self.store.session_id:
                    await self.store.delete(layout.CONTROLLER)
            except StoreError as error:
                log.info("the controller node was left to the session's end: %s", error)

    async def create_topics(
        self, wishes: Sequence[TopicWish], defaults: Defaults, *, validate_only: bool = False
    ) -> list[Created | Refusal]:
        """Create topics whose names are all different; an answer for each, in order.

        Done means written and on its way to the brokers: wait for the metadata cache to see the
        leaders. Raises NotController.
        """
        return await self._call(lambda: self._admin.create(wishes, defaults, validate_only))

    async def create_partitions(
        self, wishes: Sequence[PartitionsWish], *, validate_only: bool = False
    ) -> list[Refusal | None]:
        """Add partitions to topics whose names are all different. Raises NotController."""
        return await self._call(lambda: self._admin.grow(wishes, validate_only))

    async def delete_topics(self, names: Sequence[str]) -> list[Refusal | None]:
        """Mark topics for deletion; they leave the metadata at once. Raises NotController."""
        return await self._call(lambda: self._admin.delete(names))

    async def deleted(self, name: str) -> None:
        """Wait until a topic's deletion is finished, or waits for a broker that is away."""
        state = self.state
        if state is None or name not in state.deletions or decide.deletion_stalled(state, name):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gone.setdefault(name, []).append(future)
        await future

    async def allocate_producer_ids(self, broker_id: int, broker_epoch: int) -> tuple[int, int]:
        """Reserve producer ids for a broker: (first, how many) (KIP-730).

        Raises NotController, topics.Refused (BROKER_ID_NOT_REGISTERED, STALE_BROKER_EPOCH).
        """
        return await self._call(lambda: self._admin.allocate_ids(broker_id, broker_epoch))

    # --- events ----------------------------------------------------------------------------------

    def _put(self, name: str | None, event: Event) -> None:
        """Queue an event; one with a name is not queued twice."""
        if name is not None:
            if name in self._queued:
                return
            self._queued.add(name)

            async def named() -> None:
                self._queued.discard(name)
                await event()

            self._events.append(named)
        else:
            self._events.append(event)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._events:
                await self._handle(self._events.popleft())

    async def _handle(self, event: Event) -> None:
        try:
            await event()
        except ControllerMoved:
            log.warning("another broker became the controller")
            await self._resign()
            self._put("elect", self._elect)
        except StoreError as error:
            log.error("the controller's store failed: %s", error)
            await self._start_over()
        except Exception:
            log.exception("the controller met an unforeseen error and starts over")
            await self._start_over()

    async def _start_over(self) -> None:
        """Forget everything and read it again, a little later."""
        await self._resign()
        if self._task is not None and self._retry is None:
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(RETRY_S, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._put("elect", self._elect)

    async def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work` as an event of the active controller. Its refusal does not end the reign."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        async def event() -> None:
            if future.done():
                return
            if not self.active:
                future.set_exception(NotController())
                return
            try:
                result = await work()
            except ControllerMoved:
                _fail(future, NotController())
                raise
            except Exception as error:
                _fail(future, error)
            else:
                if not future.done():
                    future.set_result(result)

        self._put(None, event)
        if self._task is None:
            raise NotController
        return await future

    def _on_session(self, event: SessionEvent) -> None:
        if event is SessionEvent.EXPIRED:
            # At once, before any other event: until somebody else wins, our fence still holds.
            self.fence.close()
            self.state = None
            self.controller_id = NO_CONTROLLER
            self._put(None, self._resign)
        elif event is SessionEvent.CONNECTED:
            self._put(None, self._return)
        elif event is SessionEvent.RECONNECTED:
            self._watches_lost = True
            self._put("elect", self._elect)

    async def _return(self) -> None:
        """A new session: register again, then stand for election."""
        await self._resign()
        await self._membership.register()
        self._put("elect", self._elect)

    # --- election --------------------------------------------------------------------------------

    def _on_controller_node(self, _: WatchEvent) -> None:
        self._put("elect", self._elect)

    async def _elect(self) -> None:
        """Find out who is the controller; become it if nobody is."""
        while True:
            stat = await self.store.exists(layout.CONTROLLER, self._on_controller_node)
            if stat is not None:
                if await self._found(stat.owner):
                    return
            elif await self._win():
                return

    async def _found(self, owner: int) -> bool:
        """There is a controller; False when it went away meanwhile."""
        try:
            data, _ = await self.store.get(layout.CONTROLLER)
            self.controller_id = layout.decode_controller(data)
        except NoNode:
            return False
        except BadContent as error:
            log.error("%s", error)
        if owner != self.store.session_id:
            await self._resign()
        elif self.state is None or self._watches_lost:
            # Ours, but what we knew was dropped after a failure, or changes may have been missed:
            # read everything and reign on under the same epoch.
            epoch, version = await self._read_epoch()
            await self._take_over(epoch, version)
        return True

    async def _read_epoch(self) -> tuple[int, int]:
        """(controller epoch, version of its node)."""
        try:
            data, stat = await self.store.get(layout.CONTROLLER_EPOCH)
        except NoNode:
            try:
                await self.store.create(layout.CONTROLLER_EPOCH, b"0")
            except NodeExists:
                pass
            data, stat = await self.store.get(layout.CONTROLLER_EPOCH)
        return int(data or b"0"), stat.version

    async def _win(self) -> bool:
        """Try to become the controller; False when somebody else may have been faster."""
        me = self._membership.broker_id
        epoch, version = await self._read_epoch()
        node = layout.encode_controller(me, self._clock.now_ms())
        try:
            await self.store.multi(
                [
                    Create(layout.CONTROLLER, node, ephemeral=True),
                    SetData(layout.CONTROLLER_EPOCH, str(epoch + 1).encode(), version),
                ]
            )
        except (MultiFailed, ConnectionLoss):
            # After a lost reply the node may be ours all the same: look again.
            return False
        self.controller_id = me
        await self._take_over(epoch + 1, version + 1)
        return True

    async def _resign(self) -> None:
        """Forget the state, drop the channels. Calls in the queue find nobody active."""
        if self.active:
            log.info("broker %d is no longer the controller", self._membership.broker_id)
        self.state = None
        outboxes, self._outboxes = self._outboxes, {}
        for outbox in outboxes.values():
            await outbox.close()
        for futures in self._gone.values():
            for future in futures:
                _finish(future)
        self._gone = {}

    async def _take_over(self, epoch: int, version: int) -> None:
        await self._resign()
        self._watches_lost = False
        state = State(self._membership.broker_id, epoch, version)
        self.fence = Fence(self.store, version)
        try:
            await self.fence.one(Create(layout.FEATURE, layout.encode_feature()))
        except NodeExists:
            pass
        await self._drop_notes(layout.ISR_CHANGES, None)
        await self._drop_notes(layout.LOG_DIR_EVENTS, self._on_log_dir_events)
        ids = await self.store.children(layout.BROKER_IDS, self._on_brokers)
        state.brokers = await load.brokers(self.store, load.broker_ids(ids))
        names = await self.store.children(layout.TOPICS, self._on_topics)
        await load.topics(
            self.store, self.fence, state, sorted(names), self._on_topic, self.new_uuid
        )
        self.state = state
        for broker in state.brokers.values():
            self._open(broker)
        self.send(decide.announce_brokers(state))
        await self._delete_marked()
        await self.carry_out(decide.take_over(state, self._unclean))
        log.info(
            "broker %d is the controller, epoch %d: %d brokers, %d topics",
            state.broker_id,
            epoch,
            len(state.brokers),
            len(state.topics),
        )

    async def _drop_notes(
        self, path: str, watch: Callable[[WatchEvent], None] | None
    ) -> list[bytes | None]:
        """Delete and return the notes under `path`; everything is read anyway at a take-over."""
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

        self._outboxes[broker.id] = Outbox(broker.id, self._connect(broker), on_response)

    async def _close(self, broker_id: int) -> None:
        outbox = self._outboxes.pop(broker_id, None)
        if outbox is not None:
            await outbox.close()

    def _on_brokers(self, _: WatchEvent) -> None:
        self._put("brokers", self._brokers_changed)

    async def _brokers_changed(self) -> None:
        state = self.state
        if state is None:
            return
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
            await self.carry_out(decide.brokers_came(state, came, self._unclean))
        if went or came:
            self.send(decide.resume_deletions(state))
            self._tell_stalled()

    def _on_log_dir_events(self, _: WatchEvent) -> None:
        self._put("log dirs", self._log_dirs_changed)

    async def _log_dirs_changed(self) -> None:
        """A broker lost a log directory: LeaderAndIsr to it again, its answer says which replicas."""
        state = self.state
        if state is None:
            return
        notices = Notices()
        for note in await self._drop_notes(layout.LOG_DIR_EVENTS, self._on_log_dir_events):
            broker_id = layout.decode_log_dir_event(note)
            for key in state.keys_on([broker_id]) if broker_id in state.brokers else ():
                notices.leader_and_isr.setdefault(broker_id, {})[key] = False
        self.send(notices)

    # --- topics changed in the store -------------------------------------------------------------

    def _on_topics(self, _: WatchEvent) -> None:
        self._put("topics", self._topics_changed)

    async def _topics_changed(self) -> None:
        state = self.state
        if state is None:
            return
        names = set(await self.store.children(layout.TOPICS, self._on_topics))
        for name in [n for n in state.topics if n not in names]:
            state.remove_topic(name)  # by hand, or this is the echo of our own deletion
        fresh = sorted(names - state.topics.keys())
        if fresh:
            await self.take_in(fresh)

    async def take_in(self, names: Sequence[str]) -> None:
        """Topics that appeared in the store: read them, give their partitions leaders."""
        state = self._reigning()
        read = await load.topics(
            self.store, self.fence, state, names, self._on_topic, self.new_uuid
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
        if state is None or name not in state.topics:
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
        if self.state is not None:
            await self._delete_marked()

    async def _delete_marked(self) -> None:
        """Begin what /admin/delete_topics asks for; marks of unknown topics are taken away."""
        state = self._reigning()
        names = await self.store.children(layout.DELETE_TOPICS, self._on_deletions)
        unknown = [name for name in names if name not in state.topics]
        if unknown:
            await self.fence.write([[Delete(layout.deletion_path(name))] for name in unknown])
        await self.begin_deletions(name for name in names if name in state.topics)

    async def begin_deletions(self, names: Iterable[str]) -> None:
        """Their deletion marks are in the store: out of the metadata, replicas told to go."""
        state = self._reigning()
        fresh = [name for name in names if name not in state.deletions]
        self.send(decide.delete_topics(state, fresh))
        # A topic that no replica ever had is finished already.
        await self._finish_deletions({n for n in fresh if decide.deletion_complete(state, n)})
        self._tell_stalled()

    async def _finish_deletions(self, names: set[str]) -> None:
        state = self._reigning()
        groups = [await self._admin.removal(name) for name in sorted(names)]
        for name, outcome in zip(sorted(names), await self.fence.write(groups), strict=True):
            if isinstance(outcome, StoreError):
                raise outcome
            state.remove_topic(name)
            for future in self._gone.pop(name, ()):
                _finish(future)
            log.info("topic %s is deleted", name)

    def _tell_stalled(self) -> None:
        """Nobody waits for a deletion that waits for a broker."""
        state = self._reigning()
        for name in [name for name in self._gone if decide.deletion_stalled(state, name)]:
            for future in self._gone.pop(name):
                _finish(future)

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
        if state is None:
            return
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
        if state is None or response.error_code != ErrorCode.NONE:
            return
        for topic in response.topics:
            name = state.names.get(topic.topic_id)
            for partition in topic.partition_errors if name is not None else ():
                assert name is not None
                replica = (broker_id, name, partition.partition_index)
                failed = partition.error_code == ErrorCode.KAFKA_STORAGE_ERROR
                if failed == (replica in state.offline_replicas):
                    continue
                if failed:
                    state.offline_replicas.add(replica)
                elif partition.error_code == ErrorCode.NONE:
                    state.offline_replicas.discard(replica)
                else:
                    continue
                self._settle_later((name, partition.partition_index))

    def _settle_later(self, key: Key) -> None:
        async def settle() -> None:
            if self.state is not None:
                await self.carry_out(decide.settle(self.state, [key], self._unclean))

        self._put(f"settle {key[0]} {key[1]}", settle)

    # --- carrying out ----------------------------------------------------------------------------

    def _reigning(self) -> State:
        if self.state is None:
            raise ControllerMoved
        return self.state

    async def carry_out(self, plan: Plan) -> None:
        """Write the changes, apply those that were written, then tell the brokers."""
        if plan.changes:
            await self._write(plan.changes)
        self.send(plan.notices)

    async def _write(self, changes: dict[Key, Leadership]) -> None:
        state = self._reigning()
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

    async def _state_groups(self, changes: dict[Key, Leadership]) -> list[Group]:
        """One group a partition: a conditional set, or the creation of its nodes."""
        state = self._reigning()
        parents: list[str] = []
        for (name, index), _ in changes.items():
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
        state = self._reigning()
        for broker_id, request in Writer(state, notices, self._listener).requests():
            outbox = self._outboxes.get(broker_id)
            if outbox is not None:
                outbox.put(request)

    async def arm(self, name: str) -> None:
        """Watch a topic this controller has just created."""
        await self.store.exists(layout.topic_path(name), self._on_topic)


def _fail(future: "asyncio.Future[T]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
