"""The controller's shell: election and the queue of events.

One task owns everything. Watches, answers of brokers and calls of handlers only queue an event;
each event writes to the store first, applies what was written to the state, then queues requests to
brokers. A write that finds another controller's epoch ends the reign (`ControllerMoved`); trouble
in the store fails the call that met it, never the process.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from broker.clock import Clock
from broker.cluster import layout
from broker.cluster.layout import BadContent
from broker.cluster.membership import Membership, random_uuid
from broker.cluster.store import (
    ConnectionLoss,
    Create,
    Delete,
    MultiFailed,
    NodeExists,
    NoNode,
    Op,
    SessionEvent,
    SessionExpired,
    SetData,
    Stat,
    Store,
    StoreError,
    WatchEvent,
)
from broker.controller import decide
from broker.controller.admin import Admin
from broker.controller.decide import Unclean
from broker.controller.features import FeatureWish
from broker.controller.fence import ControllerMoved
from broker.controller.reign import Balance, Connect, Event, Reign, Ways
from broker.controller.state import State
from broker.controller.topics import Created, Defaults, PartitionsWish, Refusal, TopicWish
from protocol.wire import ZERO_UUID

log = logging.getLogger("odradek.controller")

if TYPE_CHECKING:
    from broker.cluster.layout import Assignment
    from broker.controller.elect import Election, Wish
    from broker.controller.reassign import Rules, Target
    from broker.controller.service import Elected, IsrAnswer, Service
    from broker.controller.state import Key

T = TypeVar("T")
RETRY_S = 1.0
"""Before an election or a load that the store refused is tried again."""
NO_CONTROLLER = -1


def any_below(limit: int) -> int:
    """A random number from 0 to limit-1: which broker a topic's first replica goes to."""
    return int.from_bytes(os.urandom(8), "big") % limit


def no_id() -> bytes:
    """In the place of a new topic's id."""
    return ZERO_UUID


class NotController(Exception):
    """This broker is not the active controller: NOT_CONTROLLER (41)."""


class Controller:
    """One node's controller: elected or standing by. Built and started by the server.

    `connect(broker)` opens the way to a broker; `unclean(topic)` says whether the topic allows an
    unclean election; `listener` is the inter-broker listener's name; `new_topic_id` is `no_id` in a
    cluster whose topics get none (IBP below 2.8).
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
        balance: Balance | None = None,
        random: Callable[[int], int] = any_below,
        new_topic_id: Callable[[], bytes] = random_uuid,
    ) -> None:
        self.controller_id = NO_CONTROLLER
        """Who holds /controller, as far as this broker has seen; -1 for nobody."""
        self._store = store
        self._membership = membership
        self._clock = clock
        self._random = random
        self._ways = Ways(connect, listener, unclean, new_topic_id, balance)
        self._reign: Reign | None = None
        self._events: deque[Event] = deque()
        self._queued: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._watches_lost = False

    # --- what others call ------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether this broker is the controller now."""
        return self._reign is not None

    @property
    def epoch(self) -> int:
        """Controller epoch of this broker's reign, -1 while it has none."""
        return -1 if self._reign is None else self._reign.state.epoch

    @property
    def state(self) -> State | None:
        """What the active controller knows (to look at, not to change); None when standing by."""
        return None if self._reign is None else self._reign.state

    async def start(self) -> None:
        """Stand for election and, when elected, take over; returns when that is done.

        The broker must be registered before. Trouble in the store is retried in the background.
        """
        self._store.listen(self._on_session)
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def settle() -> None:
            settled.set_result(None)

        self._put("elect", self._elect)
        self._put(None, settle)
        self._task = asyncio.get_running_loop().create_task(self._run())
        await settled

    async def drained(self, broker_id: int | None = None) -> None:
        """Wait until the brokers, or one of them, have answered every request queued so far."""
        if self._reign is not None:
            await self._reign.drained(broker_id)

    async def stop(self) -> None:
        """Resign (so that another broker can take over at once) and end the task."""
        task, self._task = self._task, None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        was_active = self.active
        await self._resign()
        while self._events:
            await self._events.popleft()()  # calls in the queue are told: not the controller
        if was_active:
            await self._leave_office()

    async def _leave_office(self) -> None:
        """Together with the registration, as if the session ended here: the next controller must
        not count on a broker that serves nobody any more."""
        membership = self._membership
        try:
            _, stat = await self._store.get(layout.CONTROLLER)
            if stat.owner == self._store.session_id:
                ops: list[Op] = [Delete(layout.CONTROLLER, stat.version)]
                if membership.registered:
                    ops.append(Delete(layout.broker_path(membership.broker_id)))
                await self._store.multi(ops)
        except StoreError as error:
            log.info("the controller node is left to the end of the session: %s", error)

    async def create_topics(
        self, wishes: Sequence[TopicWish], defaults: Defaults, *, validate_only: bool = False
    ) -> list[Created | Refusal]:
        """Create topics whose names are all different; an answer for each, in order.

        Done means written and on its way to the brokers: wait for the metadata cache to see the
        leaders. Raises NotController.
        """
        return await self._call(lambda admin: admin.create(wishes, defaults, validate_only))

    async def create_partitions(
        self, wishes: Sequence[PartitionsWish], *, validate_only: bool = False
    ) -> list[Refusal | None]:
        """Add partitions to topics whose names are all different. Raises NotController."""
        return await self._call(lambda admin: admin.grow(wishes, validate_only))

    async def delete_topics(self, names: Sequence[str]) -> list[Refusal | None]:
        """Mark topics for deletion; they leave the metadata at once. Raises NotController."""
        return await self._call(lambda admin: admin.delete(names))

    async def deleted(self, name: str) -> None:
        """Wait until a topic's deletion is finished, or waits for a broker that is away."""
        if self._reign is not None:
            await self._reign.deleted(name)

    async def update_features(
        self, wishes: Sequence[FeatureWish], *, together: bool, validate_only: bool = False
    ) -> tuple[list[Refusal | None], int]:
        """Finalize other levels: an answer to each wish, and the epoch from which on they hold.

        `together`: one refusal stands for all, nothing is changed. Raises NotController, StoreError
        (not written).
        """
        return await self._call(
            lambda admin: admin.update_features(wishes, together, validate_only)
        )

    async def allocate_producer_ids(self, broker_id: int, broker_epoch: int) -> tuple[int, int]:
        """Reserve producer ids for a broker: (first, how many) (KIP-730).

        Raises NotController, topics.Refused (BROKER_ID_NOT_REGISTERED, STALE_BROKER_EPOCH).
        """
        return await self._call(lambda admin: admin.allocate_ids(broker_id, broker_epoch))

    async def alter_isr(
        self, broker_id: int, broker_epoch: int, wishes: "Sequence[Wish]"
    ) -> "list[IsrAnswer]":
        """ISRs that a leader proposes: what is committed now, or why not (KIP-497).

        Raises NotController, topics.Refused (STALE_BROKER_EPOCH).
        """
        return await self._serve(lambda service: service.alter_isr(broker_id, broker_epoch, wishes))

    async def topic_names(self) -> Mapping[bytes, str]:
        """Names of all topics by id (to look at, not to change). Raises NotController.

        An event like any other: a controller that has just been elected reads its topics first.
        """

        async def names(reign: Reign) -> Mapping[bytes, str]:
            return reign.state.names

        return await self._ask(names)

    async def controlled_shutdown(self, broker_id: int, broker_epoch: int) -> "list[Key]":
        """A broker is about to stop: take leadership from it; what it still leads.

        A broker epoch of -1 is not looked at. Raises NotController, topics.Refused
        (STALE_BROKER_EPOCH, BROKER_NOT_AVAILABLE).
        """
        return await self._serve(lambda service: service.shut_down(broker_id, broker_epoch))

    async def elect_leaders(self, keys: "Sequence[Key] | None", kind: "Election") -> "Elected":
        """Elections of these partitions, or (None) of all that need one. Raises NotController."""
        return await self._serve(lambda service: service.elect(keys, kind))

    async def alter_reassignments(
        self, targets: "Sequence[Target]", rules: "Rules"
    ) -> "dict[Key, Refusal | None]":
        """Have partitions move to other replicas, or back: None where it is on its way (KIP-455).

        Raises NotController.
        """
        return await self._serve(lambda service: service.reassign(targets, rules))

    async def reassignments(self, keys: "Sequence[Key] | None") -> "dict[Key, Assignment]":
        """Those of the partitions, or (None) of all, that are moving. Raises NotController."""
        return await self._serve(lambda service: service.reassignments(keys))

    def reconsider(self, topic: str | None) -> None:
        """Settings of a topic, or (None) of all, have changed: unclean elections may be allowed
        now."""
        if self._reign is not None:
            self._reign.reconsider(topic)

    # --- events ----------------------------------------------------------------------------------

    def _put(self, name: str | None, event: Event) -> None:
        """Queue an event; one with a name is not queued twice."""
        if name is None:
            self._events.append(event)
        elif name not in self._queued:
            self._queued.add(name)

            async def named() -> None:
                self._queued.discard(name)
                await event()

            self._events.append(named)
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
            log.warning("broker %d is outdated as controller", self._membership.broker_id)
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
        if self._retry is None:
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(RETRY_S, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._put("elect", self._elect)

    async def _call(self, work: Callable[[Admin], Awaitable[T]]) -> T:
        """What a client asks for, as an event."""
        return await self._ask(lambda reign: work(Admin(reign, self._random)))

    async def _serve(self, work: "Callable[[Service], Awaitable[T]]") -> T:
        """What a broker asks for, as an event. Where the store fails meanwhile, it may hold more
        than is known here, and than the brokers were told."""
        from broker.controller.service import Service

        async def serve(reign: Reign) -> T:
            try:
                return await work(Service(reign))
            except StoreError as error:
                reign.start_over(error)
                raise

        return await self._ask(serve)

    async def _ask(self, work: Callable[[Reign], Awaitable[T]]) -> T:
        """Have the active reign do something as an event. Raises NotController."""
        if self._task is None:
            raise NotController
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        async def event() -> None:
            if self._reign is None:
                _fail(future, NotController())
                return
            try:
                result = await work(self._reign)
            except (ControllerMoved, asyncio.CancelledError):
                _fail(future, NotController())
                raise
            except SessionExpired:
                _fail(future, NotController())  # the resignation is queued already
            except Exception as error:  # noqa: BLE001 - it is the caller's to judge
                _fail(future, error)
            else:
                if not future.done():
                    future.set_result(result)

        self._put(None, event)
        return await future

    def _on_session(self, event: SessionEvent) -> None:
        if event is SessionEvent.EXPIRED:
            # Before any other event: until somebody else wins, the store would let us write.
            self.controller_id = NO_CONTROLLER
            reign = self._reign
            if reign is not None:
                reign.revoke()
            self._put(None, self._resign)
        elif event is SessionEvent.CONNECTED:
            self._put(None, self._return)
        elif event is SessionEvent.RECONNECTED:
            self._watches_lost = True
            self._put("elect", self._elect)

    async def _return(self) -> None:
        """A new session: register again, then stand for election."""
        await self._resign()
        self._put("elect", self._elect)

    # --- election --------------------------------------------------------------------------------

    def _on_controller_node(self, _: WatchEvent) -> None:
        self._put("elect", self._elect)

    async def _elect(self) -> None:
        """Find out who is the controller; become it if nobody is. Only a registered broker may."""
        while self._task is not None:  # not while stopping
            if not self._membership.registered:
                await self._membership.register()
            stat = await self._store.exists(layout.CONTROLLER, self._on_controller_node)
            if stat is not None:
                if await self._found(stat.owner):
                    return
            elif await self._win():
                return

    async def _found(self, owner: int) -> bool:
        """There is a controller; False when it went away meanwhile."""
        try:
            data, _ = await self._store.get(layout.CONTROLLER)
            self.controller_id = layout.decode_controller(data)
        except NoNode:
            return False
        except BadContent as error:
            log.error("%s", error)
        if owner != self._store.session_id:
            await self._resign()
        elif self._reign is None or self._watches_lost:
            # Ours, but what we knew was dropped after a failure, or changes may have been missed:
            # read everything and reign on under the same epoch.
            epoch, own = await self._read_epoch()
            await self._reign_with(epoch, own.version, own.mzxid)
        return True

    async def _read_epoch(self) -> tuple[int, Stat]:
        """The controller epoch and its node."""
        try:
            data, stat = await self._store.get(layout.CONTROLLER_EPOCH)
        except NoNode:
            try:
                await self._store.create(layout.CONTROLLER_EPOCH, b"0")
            except NodeExists:
                pass
            data, stat = await self._store.get(layout.CONTROLLER_EPOCH)
        return int(data or b"0"), stat

    async def _win(self) -> bool:
        """Try to become the controller; False when somebody else may have been faster."""
        me = self._membership.broker_id
        epoch, last = await self._read_epoch()
        node = layout.encode_controller(me, self._clock.now_ms())
        try:
            await self._store.multi(
                [
                    Create(layout.CONTROLLER, node, ephemeral=True),
                    SetData(layout.CONTROLLER_EPOCH, str(epoch + 1).encode(), last.version),
                ]
            )
        except (MultiFailed, ConnectionLoss):
            # After a lost reply the node may be ours all the same: look again.
            return False
        self.controller_id = me
        await self._reign_with(epoch + 1, last.version + 1, last.mzxid)
        return True

    async def _reign_with(self, epoch: int, version: int, last_takeover: int) -> None:
        await self._resign()
        self._watches_lost = False
        state = State(self._membership.broker_id, epoch, version, last_takeover)
        # In place before it begins, so that whatever ends it early finds it.
        self._reign = reign = Reign(self._store, state, self._put, self._ways)
        await reign.begin()
        log.info(
            "broker %d is the controller, epoch %d: %d brokers, %d topics",
            state.broker_id,
            epoch,
            len(state.brokers),
            len(state.topics),
        )

    async def _resign(self) -> None:
        """End the reign, if there is one. Calls in the queue find nobody active."""
        reign, self._reign = self._reign, None
        if reign is not None:
            log.info("broker %d resigns as the controller", self._membership.broker_id)
            await reign.close()


def _fail(future: "asyncio.Future[T]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
