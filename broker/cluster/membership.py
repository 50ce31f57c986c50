"""This broker in the cluster: the paths every broker makes sure of, the cluster id, registration.

The registration is an ephemeral node made by a multi of create (empty) and set, as Apache Kafka
does it: the set's stat carries the creation's transaction id, which is the broker epoch (KIP-380).
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType

from broker.clock import Clock
from broker.cluster import layout
from broker.cluster.layout import Endpoint, Registration
from broker.cluster.store import (
    ConnectionLoss,
    Create,
    MultiFailed,
    NodeExists,
    NoNode,
    Op,
    SetData,
    Stat,
    Store,
    StoreFailed,
    WatchEvent,
    ensure_path,
)

log = logging.getLogger("odradek.membership")

TRIES = 10
NO_FEATURES: Mapping[str, tuple[int, int]] = MappingProxyType({})
LOOK_AGAIN_S = 1.0
"""How often a registration that is in the way is looked at, beside its watch."""


def random_uuid() -> bytes:
    """A topic or cluster id as Kafka draws them: random, not starting with a dash when printed."""
    while True:
        # A version 4 UUID by hand: the module that makes them costs a start 5 ms.
        raw = bytearray(os.urandom(16))
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        value = bytes(raw)
        if not layout.encode_uuid(value).startswith("-"):
            return value


async def new_broker_id(store: Store, reserved: int) -> int:
    """An id that no broker of the cluster has had: above `reserved` and above all taken before."""
    await ensure_path(store, layout.BROKER_SEQUENCE)
    stat = await store.set(layout.BROKER_SEQUENCE, b"")
    return reserved + stat.version


class Membership:
    """Registers broker `broker_id`; `epoch` is its broker epoch, -1 while not registered."""

    def __init__(
        self,
        store: Store,
        broker_id: int,
        clock: Clock,
        *,
        rack: str | None = None,
        features: Mapping[str, tuple[int, int]] = NO_FEATURES,
        new_uuid: Callable[[], bytes] = random_uuid,
    ) -> None:
        """`features`: lowest and highest level of each feature that this broker supports."""
        self.broker_id = broker_id
        self.cluster_id = ""
        self.epoch = -1
        self.endpoints: tuple[Endpoint, ...] = ()
        self._store = store
        self._clock = clock
        self._rack = rack
        self._features = {
            name: {"min_version": low, "max_version": high}
            for name, (low, high) in features.items()
        }
        self._new_uuid = new_uuid
        self._registered_in = 0

    @property
    def registered(self) -> bool:
        """Whether the broker was registered in the present session."""
        return self._registered_in != 0 and self._registered_in == self._store.session_id

    async def prepare(self, first_features: Mapping[str, int] | None = None) -> str:
        """Make sure of the common paths; returns the cluster id (drawn by the first broker).

        `first_features`: what a cluster that begins now has finalized; None leaves that to the
        controller, which begins with nothing.
        """
        for path in layout.PERSISTENT_PATHS:
            await ensure_path(self._store, path)
        await ensure_path(self._store, layout.CLUSTER_ID[: layout.CLUSTER_ID.rfind("/")])
        for _ in range(TRIES):
            try:
                data, _ = await self._store.get(layout.CLUSTER_ID)
                break
            except NoNode:
                await self._found(first_features)
        else:
            raise StoreFailed(layout.CLUSTER_ID, "it cannot be created")
        self.cluster_id = layout.decode_cluster_id(data)
        return self.cluster_id

    async def _found(self, features: Mapping[str, int] | None) -> None:
        """The first nodes of a cluster, all or none of them."""
        fresh = layout.encode_cluster_id(layout.encode_uuid(self._new_uuid()))
        ops: list[Op] = [Create(layout.CLUSTER_ID, fresh)]
        if features is not None:
            ops.append(Create(layout.FEATURE, layout.encode_feature(features)))
        try:
            await self._store.multi(ops)
        except ConnectionLoss:
            pass  # done or not: the caller looks
        except MultiFailed as failed:
            if not isinstance(failed.error, NodeExists):
                raise failed.error from None
            # another broker was faster: take its id

    async def register(
        self, endpoints: tuple[Endpoint, ...] | None = None, *, patience_s: float = 0
    ) -> int:
        """Announce the broker with what it advertises (again after an expiry); the broker epoch.

        `patience_s`: how long the registration of an earlier session may be in the way, as a
        broker that was killed leaves it behind. Raises StoreFailed when a broker of that id is
        registered by somebody else.
        """
        if endpoints is not None:
            self.endpoints = endpoints
        path = layout.broker_path(self.broker_id)
        data = layout.encode_registration(
            Registration(self.endpoints, self._rack, self._clock.now_ms(), self._features)
        )
        until = self._clock.monotonic() + patience_s
        for _ in range(TRIES):
            session_id = self._store.session_id
            try:
                results = await self._store.multi(
                    [Create(path, None, ephemeral=True), SetData(path, data, 0)]
                )
            except (MultiFailed, ConnectionLoss) as error:
                if isinstance(error, MultiFailed) and not isinstance(error.error, NodeExists):
                    raise error.error from None
                if await self._already_there(path, data):
                    self._registered_in = session_id
                    return self.epoch
                await self._outlast(path, until)
                continue
            stat = results[1]
            assert isinstance(stat, Stat)
            self.epoch = stat.czxid
            self._registered_in = session_id
            return self.epoch
        raise StoreFailed(path, "the broker could not be registered")

    async def _already_there(self, path: str, data: bytes) -> bool:
        """After a lost reply or NodeExists: True when the registration is ours and current."""
        try:
            present, stat = await self._store.get(path)
        except NoNode:
            return False
        if stat.owner != self._store.session_id:
            return False
        if present == data:
            self.epoch = stat.czxid
            return True
        await self._store.delete(path)
        return False

    async def _outlast(self, path: str, until: float) -> None:
        """Wait while another session's registration is there. Raises StoreFailed at `until`."""
        waited, changed = False, asyncio.Event()

        def heard(_: WatchEvent) -> None:
            changed.set()

        while True:
            changed.clear()
            stat = await self._store.exists(path, heard)
            if stat is None or stat.owner == self._store.session_id:
                return
            left = until - self._clock.monotonic()
            if left <= 0:
                raise StoreFailed(path, f"a broker with id {self.broker_id} is registered already")
            if not waited:
                log.warning("broker %d is registered by an earlier session", self.broker_id)
                waited = True
            try:
                async with asyncio.timeout(min(left, LOOK_AGAIN_S)):
                    await changed.wait()
            except TimeoutError:
                pass

    async def announce_dir_failure(self) -> None:
        """Tell the controller that a log directory of this broker failed (KIP-112)."""
        path = f"{layout.LOG_DIR_EVENTS}/{layout.LOG_DIR_EVENT_PREFIX}"
        data = layout.encode_log_dir_event(self.broker_id)
        await self._store.create(path, data, sequential=True)

    async def address_in_use(self) -> str | None:
        """A host:port of ours that another registered broker advertises, or None."""
        mine = {(e.host, e.port) for e in self.endpoints}
        for name in await self._store.children(layout.BROKER_IDS):
            if name == str(self.broker_id) or not name.isdigit():
                continue
            (node,) = await self._store.get_many([layout.broker_path(int(name))])
            if node is None:
                continue
            try:
                other = layout.decode_registration(int(name), node[0])
            except layout.BadContent as error:
                log.warning("registration ignored: %s", error)
                continue
            for e in other.endpoints:
                if (e.host, e.port) in mine:
                    return f"{e.host}:{e.port}"
        return None
