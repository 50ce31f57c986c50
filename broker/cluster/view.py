"""The picture of the cluster that handlers read: frozen, replaced as a whole, painted by requests.

UpdateMetadata (KIP-497 era, ZooKeeper mode) is the only source: the controller sends partial
updates, `MetadataCache.apply` lays them over the present `ClusterView` and swaps in a new one.
Whoever holds a view may keep it; whoever waits for a change uses `wait` or `wait_until`.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protocol.messages.update_metadata import (
        UpdateMetadataBroker,
        UpdateMetadataRequest,
        UpdateMetadataTopicState,
    )

ZERO_UUID = bytes(16)
NO_LEADER = -1
LEADER_DURING_DELETE = -2
"""Leader in UpdateMetadata that takes a partition out of the picture."""

OFFSETS_TOPIC = "__consumer_offsets"
TRANSACTIONS_TOPIC = "__transaction_state"
SHARE_STATE_TOPIC = "__share_group_state"
INTERNAL_TOPICS = frozenset((OFFSETS_TOPIC, TRANSACTIONS_TOPIC, SHARE_STATE_TOPIC))

Leadership = tuple[int, int]
"""Leader and its epoch."""
NodeEndpoint = tuple[int, str, int, str | None]
"""Broker id, host, port, rack."""


@dataclass(frozen=True, slots=True)
class BrokerInfo:
    """A live broker: `endpoints` is listener name -> (host, port)."""

    id: int
    endpoints: Mapping[str, tuple[str, int]]
    rack: str | None = None


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """A partition as the controller last told it; `leader` is -1 when there is none."""

    index: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    offline_replicas: tuple[int, ...] = ()
    partition_epoch: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class TopicInfo:
    """A topic; `partitions` in order of index, normally 0..n-1 without gaps."""

    name: str
    topic_id: bytes
    partitions: tuple[PartitionInfo, ...]
    internal: bool = False

    def partition(self, index: int) -> PartitionInfo | None:
        """The partition with that index, or None."""
        if 0 <= index < len(self.partitions) and self.partitions[index].index == index:
            return self.partitions[index]
        return next((p for p in self.partitions if p.index == index), None)


@dataclass(frozen=True, slots=True, eq=False)
class ClusterView:
    """One state of the cluster; `version` counts the changes this broker has seen."""

    version: int
    cluster_id: str
    controller_id: int
    brokers: Mapping[int, BrokerInfo]
    topics: Mapping[str, TopicInfo]
    names: Mapping[bytes, str]
    """Topic id -> name."""

    def partition(self, topic: str, index: int) -> PartitionInfo | None:
        """The partition, or None when the topic or the partition is unknown."""
        info = self.topics.get(topic)
        return None if info is None else info.partition(index)

    def endpoint(self, broker_id: int, listener: str) -> tuple[str, int] | None:
        """(host, port) of a live broker on that listener, or None."""
        broker = self.brokers.get(broker_id)
        return None if broker is None else broker.endpoints.get(listener)

    def leader_told(
        self, topic: str, index: int, listener: str
    ) -> tuple[Leadership, NodeEndpoint | None] | None:
        """Who leads a partition, and where that broker is on a listener if it lives: what a client
        is told along with NOT_LEADER_OR_FOLLOWER (KIP-951). None for an unknown partition."""
        info = self.partition(topic, index)
        if info is None:
            return None
        place = self.endpoint(info.leader, listener)
        if place is None:
            return (info.leader, info.leader_epoch), None
        rack = self.brokers[info.leader].rack
        return (info.leader, info.leader_epoch), (info.leader, *place, rack)

    def leader(self, topic: str, index: int) -> int:
        """Id of the partition's leader when that broker is alive, else -1."""
        info = self.partition(topic, index)
        return info.leader if info is not None and info.leader in self.brokers else NO_LEADER


def _empty_view(cluster_id: str) -> ClusterView:
    nothing: Mapping[str, TopicInfo] = MappingProxyType({})
    return ClusterView(0, cluster_id, NO_LEADER, {}, nothing, {})


class MetadataCache:
    """Holds the present `view`; applies UpdateMetadata; wakes those who wait for a change."""

    __slots__ = ("_changed", "_waiters", "memo", "view")

    def __init__(self, cluster_id: str = "") -> None:
        self.view = _empty_view(cluster_id)
        self.memo: dict[object, dict[str, tuple[TopicInfo, Any]]] = {}
        """Room for handlers: what they made of a topic, by handler's key and topic name, with the
        TopicInfo it was made from (another one makes it void). Emptied when brokers change."""
        self._waiters: list[asyncio.Future[None]] = []
        self._changed: list[Callable[[ClusterView, ClusterView], None]] = []

    def on_change(self, listener: Callable[[ClusterView, ClusterView], None]) -> None:
        """Call `listener(old, new)` after every change; it must not raise."""
        self._changed.append(listener)

    def apply(self, request: "UpdateMetadataRequest") -> None:
        """Lay a partial update over the view. The caller has checked epochs."""
        old = self.view
        brokers: Mapping[int, BrokerInfo] = {b.id: _broker(b) for b in request.live_brokers}
        if brokers == old.brokers:
            brokers = old.brokers
        topics, names = old.topics, old.names
        if request.topic_states:
            topics, names = _with_topics(old, request.topic_states)
        self._swap(
            ClusterView(
                old.version + 1,
                old.cluster_id,
                # A KRaft controller is never named to clients; ZooKeeper mode names itself.
                request.controller_id,
                brokers,
                topics,
                names,
            )
        )

    def _swap(self, view: ClusterView) -> None:
        old, self.view = self.view, view
        if view.brokers is not old.brokers:
            self.memo.clear()
        for made in self.memo.values():
            if len(made) > len(view.topics):
                for name in [name for name in made if name not in view.topics]:
                    del made[name]
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        for listener in self._changed:
            listener(old, view)

    async def wait(self, version: int) -> ClusterView:
        """The view as soon as its version is above `version`."""
        while self.view.version <= version:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        return self.view

    async def wait_until(self, done: Callable[[ClusterView], bool], timeout_s: float) -> bool:
        """Wait until `done(view)`; False when `timeout_s` seconds (loop time) went by before."""
        if done(self.view):
            return True
        if timeout_s <= 0:
            return False
        try:
            async with asyncio.timeout(timeout_s):
                while not done(await self.wait(self.view.version)):
                    pass
        except TimeoutError:
            return done(self.view)
        return True


def _broker(b: "UpdateMetadataBroker") -> BrokerInfo:
    endpoints = {e.listener: (e.host, e.port) for e in b.endpoints}
    return BrokerInfo(b.id, endpoints, b.rack)


def _with_topics(
    old: ClusterView, states: "list[UpdateMetadataTopicState]"
) -> tuple[Mapping[str, TopicInfo], Mapping[bytes, str]]:
    topics, names = dict(old.topics), dict(old.names)
    for state in states:
        name = state.topic_name
        present = topics.get(name)
        info = _topic(present, state)
        if present is not None and (info is None or info.topic_id != present.topic_id):
            names.pop(present.topic_id, None)
        if info is None:
            topics.pop(name, None)
            continue
        topics[name] = info
        if info.topic_id != ZERO_UUID:
            names[info.topic_id] = name
    return topics, names


def _topic(present: TopicInfo | None, state: "UpdateMetadataTopicState") -> TopicInfo | None:
    """The topic after a partial update; None when no partition is left."""
    name, topic_id = state.topic_name, state.topic_id
    partitions: dict[int, PartitionInfo] = {}
    if present is not None:
        if topic_id == ZERO_UUID:
            topic_id = present.topic_id
        if present.topic_id in (topic_id, ZERO_UUID):
            partitions = {p.index: p for p in present.partitions}
    for p in state.partition_states:
        if p.leader == LEADER_DURING_DELETE:
            partitions.pop(p.partition_index, None)
            continue
        partitions[p.partition_index] = PartitionInfo(
            p.partition_index,
            p.leader,
            p.leader_epoch,
            tuple(p.replicas),
            tuple(p.isr),
            tuple(p.offline_replicas),
            p.zk_version,
        )
    if not partitions:
        return None
    ordered = tuple(partitions[i] for i in sorted(partitions))
    return TopicInfo(name, topic_id, ordered, name in INTERNAL_TOPICS)
