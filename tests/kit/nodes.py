"""A broker's metadata half for tests: store, membership, configs, metadata cache and controller.

Replicas are a recorder that answers as a broker would; nothing opens a socket or a log.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from broker.cluster.configs import ConfigStore
from broker.cluster.features import SUPPORTED, FeatureCache, FeatureWatch
from broker.cluster.layout import Endpoint
from broker.cluster.local import LocalStore
from broker.cluster.membership import Membership, random_uuid
from broker.cluster.view import MetadataCache
from broker.config import BrokerConfig
from broker.context import Node
from broker.control import ControlPlane
from broker.controller.channel import BrokerChannel, LocalChannel
from broker.controller.requests import ControlRequest, ControlResponse
from broker.controller.run import Controller, no_id
from broker.controller.state import Broker
from broker.controller_link import NoController
from broker.replication import Replication
from protocol.errors import ErrorCode
from protocol.messages.leader_and_isr import (
    LeaderAndIsrPartitionError,
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
    LeaderAndIsrTopicError,
)
from protocol.messages.stop_replica import (
    StopReplicaPartitionError,
    StopReplicaRequest,
    StopReplicaResponse,
)
from protocol.messages.update_metadata import UpdateMetadataRequest


class FakeClock:
    """Time that stands still until it is set."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.ms = now_ms
        self.seconds = 1000.0

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class FakeReplicas:
    """Answers control requests without logs; `refuse` maps (topic, partition) to an error."""

    leader_epochs: dict[tuple[str, int], int] = field(default_factory=dict)
    leaders: dict[tuple[str, int], int] = field(default_factory=dict)
    new: set[tuple[str, int]] = field(default_factory=set)
    stopped: list[tuple[str, int]] = field(default_factory=list)
    refuse: dict[tuple[str, int], ErrorCode] = field(default_factory=dict)

    def leader_and_isr(self, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse:
        response = LeaderAndIsrResponse()
        for topic in request.topic_states:
            errors = []
            for p in topic.partition_states:
                key = (topic.topic_name, p.partition_index)
                code = self.refuse.get(key, ErrorCode.NONE)
                if code == ErrorCode.NONE:
                    self.leader_epochs[key] = p.leader_epoch
                    self.leaders[key] = p.leader
                    if p.is_new:
                        self.new.add(key)
                errors.append(LeaderAndIsrPartitionError(*key, code))
            response.topics.append(
                LeaderAndIsrTopicError(topic_id=topic.topic_id, partition_errors=errors)
            )
        return response

    def stop_replica(self, request: StopReplicaRequest) -> StopReplicaResponse:
        response = StopReplicaResponse()
        for topic in request.topic_states:
            for p in topic.partition_states:
                key = (topic.topic_name, p.partition_index)
                code = self.refuse.get(key, ErrorCode.NONE)
                if code == ErrorCode.NONE:
                    self.stopped.append(key)
                    self.leader_epochs.pop(key, None)
                    self.leaders.pop(key, None)
                response.partition_errors.append(
                    StopReplicaPartitionError(
                        topic_name=topic.topic_name,
                        partition_index=p.partition_index,
                        error_code=code,
                    )
                )
        return response


class RecordingChannel:
    """Passes on to the broker it belongs to, and writes down what was sent."""

    def __init__(self, inner: BrokerChannel, sent: list[ControlRequest]) -> None:
        self._inner = inner
        self._sent = sent

    async def send(self, request: ControlRequest) -> ControlResponse:
        self._sent.append(request)
        return await self._inner.send(request)

    async def close(self) -> None:
        await self._inner.close()


class MetadataNode:
    """One broker without data; several on sessions of one LocalStore make a cluster.

    `peers` (shared by the nodes of a cluster) is how the controller of one reaches the others.
    """

    def __init__(
        self,
        store: LocalStore,
        broker_id: int = 0,
        *,
        peers: "dict[int, MetadataNode] | None" = None,
        random: Callable[[int], int] = lambda _: 0,
        clock: FakeClock | None = None,
        rack: str | None = None,
        features: bool = True,
        topic_ids: bool = True,
    ) -> None:
        """`features`: whether it supports those of Odradek, or none as Apache Kafka 3.9;
        `topic_ids`: whether as a controller it gives topics ids.
        """
        self.peers = {} if peers is None else peers
        self.peers[broker_id] = self
        self.broker_id = broker_id
        self.store = store
        self.clock = clock or FakeClock()
        self.membership = Membership(
            store, broker_id, self.clock, rack=rack, features=SUPPORTED if features else {}
        )
        self.features = FeatureCache()
        self.feature_watch = FeatureWatch(store, self.features)
        self.configs = ConfigStore(store, self.clock)
        self.metadata = MetadataCache()
        self.replicas = FakeReplicas()
        self.control = ControlPlane(
            self.replicas, self.metadata, self.configs, lambda: self.membership.epoch
        )
        self.received: list[ControlRequest] = []
        self.controller = Controller(
            store,
            self.membership,
            self.clock,
            self._connect,
            random=random,
            new_topic_id=random_uuid if topic_ids else no_id,
        )

    def _connect(self, broker: Broker) -> BrokerChannel:
        peer = self.peers[broker.id]
        return RecordingChannel(LocalChannel(peer.control), peer.received)

    async def start(self) -> None:
        """As the server starts these parts."""
        await self.store.start()
        cluster_id = await self.membership.prepare()
        self.metadata.view = MetadataCache(cluster_id).view
        await self.configs.start()
        await self.feature_watch.start()
        await self.membership.register((Endpoint("PLAINTEXT", "127.0.0.1", 9092 + self.broker_id),))
        await self.controller.start()
        await self.controller.drained()

    async def stop(self) -> None:
        """As the server stops them."""
        await self.controller.stop()
        await self.feature_watch.close()
        await self.configs.close()
        await self.store.close()

    async def crash(self) -> None:
        """The process dies: no resignation, the session ends by itself."""
        task = self.controller._task
        assert task is not None
        task.cancel()
        if self.controller._reign is not None:
            await self.controller._reign.close()
        await self.feature_watch.close()
        await self.configs.close()
        await self.store.close()

    def metadata_updates(self) -> list[UpdateMetadataRequest]:
        """The UpdateMetadata requests this broker got."""
        return [r for r in self.received if isinstance(r, UpdateMetadataRequest)]


class Unreachable:
    """In the place of `broker.replication.Replication`: the controller is not to be found."""

    async def ask(self, key: int, make: Callable[[int], Any], most: int | None = None) -> Any:
        raise NoController


def handler_node(part: MetadataNode, settings: Mapping[str, str] | None = None) -> Node:
    """What handlers get, over the metadata half of a broker; other parts are missing."""
    node = Node()
    node.broker_id = part.broker_id
    node.cluster_id = part.membership.cluster_id
    node.config = BrokerConfig(settings)
    node.clock = part.clock
    node.metadata = part.metadata
    node.control = part.control
    node.controller = part.controller
    node.configs = part.configs
    node.features = part.features
    node.replication = cast(Replication, Unreachable())
    return node
