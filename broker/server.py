"""Builds the parts of a broker, starts them in order and stops them in reverse. Knows all of them;
nobody knows it.

Order of a start: metadata store, cluster id, settings, logs, listeners bound, registration,
controller (which tells this broker its partitions), declared topics, and only then serving.
"""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

from broker.auto_topics import ask_for
from broker.clock import Clock, SystemClock
from broker.cluster import layout
from broker.cluster.configs import BROKERS, TOPICS, ConfigStore
from broker.cluster.features import (
    LATEST,
    SUPPORTED,
    TRANSACTION_VERSION,
    FeatureCache,
    FeatureWatch,
    IncompatibleFeatures,
)
from broker.cluster.layout import BadContent
from broker.cluster.local import LocalStore
from broker.cluster.membership import Membership, new_broker_id, random_uuid
from broker.cluster.old_offsets import OldOffsets
from broker.cluster.store import Store, StoreError
from broker.cluster.view import (
    OFFSETS_TOPIC,
    SHARE_STATE_TOPIC,
    TRANSACTIONS_TOPIC,
    ClusterView,
    MetadataCache,
)
from broker.config import BrokerConfig, ConfigError, TopicSpec
from broker.connections import Connections
from broker.context import Node
from broker.control import ControlPlane
from broker.controller.channel import BrokerChannel, LocalChannel
from broker.controller.reign import Balance
from broker.controller.run import Controller, no_id
from broker.controller.state import Broker
from broker.controller.topics import TopicWish
from broker.coordinator import Coordinator
from broker.dispatch import Dispatcher
from broker.dynamic_configs import DynamicConfigs
from broker.groups.common import topic_changes
from broker.groups.machine import GroupMachine
from broker.housekeeping import Housekeeping
from broker.ibp import has_topic_ids
from broker.producer_ids import ProducerIds
from broker.replicas import ReplicaManager
from broker.replication import Replication
from broker.sessions import FetchSessions
from broker.transactions.machine import TransactionMachine
from broker.transactions.state import EndMarkers
from protocol.errors import ErrorCode
from storage.errors import StorageError
from storage.filesystem import FileSystem, MemoryFileSystem, RealFileSystem
from storage.manager import LogManager
from storage.metafiles import InconsistentLogDir, known_broker_id

if TYPE_CHECKING:
    from broker.shares.state import ShareStates
    from broker.shares.tending import StateTender
    from broker.transactions.markers import MarkerSender

log = logging.getLogger("odradek.server")

STORE_FILE = "odradek-metadata.sqlite"
"""In the first log directory; Apache Kafka ignores files there that it does not know."""
MEMORY_DIR = "/memory"
PATIENCE_MS = 2000
"""Beyond a session timeout, for the end of the session that a killed broker has left behind."""
INTRODUCTION_S = 10.0
"""How long a start waits for the controller to tell of the cluster."""
SESSION_EVICTION_MS = 120_000
"""Age from which a fetch session may make room for a new one; a constant in Apache Kafka too."""
COLLECTIONS = (10_000, 20, 20)
"""Thresholds of Python's garbage collector. What a broker makes lives long, or ends by its count of
references; a collection looks at all that lives, which with thousands of partitions is a lot.
"""


class Server:
    """One broker."""

    def __init__(
        self,
        config: BrokerConfig,
        *,
        memory: bool = False,
        clock: Clock | None = None,
        store: Store | None = None,
    ) -> None:
        """`store`: a session of a store that brokers of this process share; not started yet."""
        self.config = config
        self._given_store = store
        self.memory = memory
        self.clock = clock or SystemClock()
        self.node = Node()
        self.ports: dict[str, int] = {}
        self._fs: FileSystem = MemoryFileSystem() if memory else RealFileSystem()
        self._dirs = [MEMORY_DIR] if memory else list(config.log_dirs)
        self._undo: list[tuple[str, object]] = []
        self._markers: MarkerSender | None = None
        self._state_tender: StateTender | None = None

    async def start(self, topics: list[TopicSpec]) -> None:
        """Serve when this returns. Raises ConfigError with a sentence for whoever started the
        broker.
        """
        self._store = self._choose_store()
        try:
            await self._start(topics)
        except BaseException as error:
            # At once, so that the next start need not wait for the end of this one's session.
            await self._store.close()
            if isinstance(error, StoreError):
                raise ConfigError(f"{error.detail or error}.") from error
            raise

    async def _start(self, topics: list[TopicSpec]) -> None:
        config, clock, node = self.config, self.clock, self.node
        await self._store.start()
        await self._settle_id()
        self._membership = Membership(
            self._store, config.broker_id, clock, rack=config.broker_rack, features=SUPPORTED
        )
        # A cluster in ZooKeeper may have brokers of Apache Kafka 3.9, which end when they meet a
        # finalized feature: there UpdateFeatures decides.
        first_features = None if config.zookeeper_connect else LATEST
        node.cluster_id = await self._membership.prepare(first_features)
        node.broker_id = config.broker_id
        node.config = config
        node.clock = clock
        node.configs = ConfigStore(self._store, clock)
        await node.configs.start()
        await self._watch_features(node)
        dynamic = DynamicConfigs(config, node.configs)
        dynamic.start()
        node.metadata = MetadataCache(node.cluster_id)
        self._load_logs(dynamic)
        node.replicas = ReplicaManager(
            config.broker_id,
            node.logs,
            node.metadata,
            dynamic.for_topic,
            clock,
            lag_ms=config.replica_lag_time_max_ms,
            spread=bool(config.replica_selector_class),
        )
        self._store.listen(node.replicas.on_session)
        node.log_dir_moves = None
        node.replicas.go_on_moving = lambda partition: node.dir_moves.resume(partition)
        node.control = ControlPlane(node.replicas, node.metadata, node.configs, self._epoch)
        node.replication = node.replicas.replication = Replication(node, self._epoch, self._store)
        node.sessions = FetchSessions(
            config.max_incremental_fetch_session_cache_slots,
            SESSION_EVICTION_MS,
            lambda: int.from_bytes(os.urandom(4), "big") & 0x7FFFFFFF,
        )
        self._coordinate(node)
        self._bind()
        await self._join(node, dynamic)
        alone = node.controller.active
        if alone:
            await self.declare(topics)
        self._housekeeping = Housekeeping(node.logs, config, clock)
        self._housekeeping.start()
        self._connections.serve()
        if not alone:
            # A controller elsewhere can tell of the cluster only now.
            own = config.broker_id
            await node.metadata.wait_until(lambda view: own in view.brokers, INTRODUCTION_S)
            await self.declare(topics)

    def _choose_store(self) -> Store:
        """ZooKeeper where one is named, the embedded store otherwise. Raises ConfigError."""
        if self._given_store is not None:
            return self._given_store
        if not self.config.zookeeper_connect:
            return LocalStore(self._store_path())
        from broker.cluster.zookeeper import ZooKeeperStore
        from broker.cluster.zookeeper_options import options

        return ZooKeeperStore(options(self.config, os.environ))

    def session(self) -> Store:
        """A session of this broker's embedded store, for another broker of the process."""
        assert isinstance(self._store, LocalStore)
        return self._store.session()

    async def _settle_id(self) -> None:
        """A broker without an id takes that of its directories, or a new one."""
        if self.config.broker_id >= 0:
            return
        found = known_broker_id(self._fs, self._dirs)
        if found is None:
            found = await new_broker_id(self._store, self.config.reserved_broker_max_id)
        self.config.take_id(found)

    def _store_path(self) -> str | None:
        if self.memory:
            return None
        first = self._dirs[0]
        try:
            self._fs.mkdir(first)
        except OSError as error:
            raise ConfigError(str(error)) from error
        return f"{first}/{STORE_FILE}"

    async def _watch_features(self, node: Node) -> None:
        node.features = FeatureCache()
        self._feature_watch = FeatureWatch(self._store, node.features)
        try:
            await self._feature_watch.start()
        except (IncompatibleFeatures, BadContent) as error:
            raise ConfigError(str(error)) from error

    def _load_logs(self, dynamic: DynamicConfigs) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            logs = LogManager(
                self._fs,
                self._dirs,
                self.config.log_config,
                broker_id=self.config.broker_id,
                cluster_id=self.node.cluster_id,
                on_dir_failure=self._dir_failed,
                producer_expiration_ms=self.config.producer_id_expiration_ms,
            )
            logs.load(dynamic.topic_configs(), self.clock.now_ms())
        except (InconsistentLogDir, StorageError, OSError) as error:
            raise ConfigError(str(error)) from error
        self.node.logs = logs
        dynamic.attach(logs)

    def _dir_failed(self, path: str, error: BaseException) -> None:
        """From whatever thread met the failure."""
        log.error("log directory %s is offline: %s", path, error)
        self._loop.call_soon_threadsafe(self._drop_offline_replicas)

    def _drop_offline_replicas(self) -> None:
        if hasattr(self.node, "replicas"):
            self.node.replicas.log_dir_failed()

    def _coordinate(self, node: Node) -> None:
        """Before this broker learns which partitions it leads: that loads the coordinators."""
        node.groups = Coordinator(
            OFFSETS_TOPIC,
            node.replicas,
            node.metadata,
            self.clock,
            lambda index, timers: GroupMachine(
                index, timers, self.config, lambda: node.metadata.view, lambda: str(uuid4())
            ),
            codec=self.config.offsets_topic_compression_codec,
            work=lambda _, what: node.shares.groups.initialize(what),
            patience_ms=self.config.offsets_commit_timeout_ms,
        )
        node.metadata.on_change(self._topics_changed)
        node.old_offsets = OldOffsets(self._store)
        node.transactions = Coordinator(
            TRANSACTIONS_TOPIC,
            node.replicas,
            node.metadata,
            self.clock,
            lambda index, timers: TransactionMachine(
                index,
                timers,
                self.config.transactional_id_expiration_ms,
                lambda: node.features.level(TRANSACTION_VERSION),
                lambda: node.producer_ids.take(),
            ),
            work=self._send_markers,
            patience_ms=self.config.request_timeout_ms,
        )
        node.share_manager = None
        node.share_states = Coordinator(
            SHARE_STATE_TOPIC,
            node.replicas,
            node.metadata,
            self.clock,
            lambda index, timers: self._share_states(index),
            codec=self.config.share_coordinator_state_topic_compression_codec,
            patience_ms=self.config.share_coordinator_write_timeout_ms,
        )

    def _share_states(self, index: int) -> "ShareStates":
        from broker.shares.state import ShareStates
        from broker.shares.tending import StateTender

        if self._state_tender is None:
            self._state_tender = StateTender(self.node)
            self._state_tender.start()
        return ShareStates(index, self.config, lambda: self.node.metadata.view)

    def _topics_changed(self, old: ClusterView, new: ClusterView) -> None:
        changes, groups = topic_changes(old, new), self.node.groups
        if changes.changed:
            groups.feed_all(lambda machine, now: machine.topics_changed(changes, now))
        if changes.deleted:
            groups.feed_all(lambda machine, now: machine.topics_deleted(changes.deleted, now))
            ids = frozenset(old.topics[name].topic_id for name in changes.deleted)
            groups.feed_all(lambda machine, now: machine.states_deleted(ids))
            self.node.share_states.feed_all(lambda machine, now: machine.topics_deleted(ids))

    def _send_markers(self, index: int, work: EndMarkers) -> None:
        if self._markers is None:
            from broker.transactions.markers import MarkerSender

            self._markers = MarkerSender(self.node)
        self._markers.send(index, work)

    def _bind(self) -> None:
        self._connections = Connections(Dispatcher(self.node))
        for endpoint in self.config.listeners:
            try:
                self.ports[endpoint.name] = self._connections.bind(endpoint)
            except OSError as error:
                reason = error.strerror or error
                raise ConfigError(
                    f"{endpoint.host or '*'}:{endpoint.port} cannot be listened on: {reason}."
                ) from error
        self.config.advertise(self.ports)

    async def _join(self, node: Node, dynamic: DynamicConfigs) -> None:
        """Register, stand for controller, and learn this broker's partitions."""
        config = self.config
        self._membership.endpoints = tuple(
            layout.Endpoint(e.name, e.host, e.port, e.protocol) for e in config.advertised_listeners
        )
        if taken := await self._membership.address_in_use():
            raise ConfigError(f"{taken} is advertised by another broker of this cluster.")
        patience_s = (config.zookeeper_session_timeout_ms + PATIENCE_MS) / 1000
        await self._membership.register(patience_s=patience_s)
        node.controller = Controller(
            self._store,
            self._membership,
            self.clock,
            self._channel,
            listener=config.inter_broker_listener_name,
            unclean=lambda topic: dynamic.for_topic(topic).unclean_leader_election_enable,
            balance=self._balance(),
            new_topic_id=(
                random_uuid if has_topic_ids(config.inter_broker_protocol_version) else no_id
            ),
        )
        node.configs.subscribe(self._settings_changed)
        await node.controller.start()
        await node.controller.drained(config.broker_id)
        node.replication.start()
        node.producer_ids = ProducerIds(node.replication.allocate_producer_ids, self.clock)

    def _balance(self) -> Balance | None:
        config = self.config
        if not config.auto_leader_rebalance_enable:
            return None
        return Balance(
            config.leader_imbalance_check_interval_seconds,
            config.leader_imbalance_per_broker_percentage,
        )

    def _settings_changed(self, kind: str, name: str) -> None:
        if kind in (TOPICS, BROKERS):
            self.node.controller.reconsider(name if kind == TOPICS else None)

    def _epoch(self) -> int:
        return self._membership.epoch

    def _channel(self, broker: Broker) -> BrokerChannel:
        """The controller's way to a broker."""
        if broker.id == self.config.broker_id:
            return LocalChannel(self.node.control)
        return self.node.replication.channel(broker)

    async def declare(self, topics: list[TopicSpec]) -> None:
        """Create the topics of the command line that are not there yet."""
        wishes = [
            TopicWish(topic.name, topic.partitions, configs=topic.configs)
            for topic in topics
            if topic.name not in self.node.metadata.view.topics
        ]
        if not wishes:
            return
        for wish, refusal in zip(wishes, await ask_for(self.node, wishes), strict=True):
            if refusal is not None and refusal.code != ErrorCode.TOPIC_ALREADY_EXISTS:
                raise ConfigError(f"Topic {wish.name} cannot be created: {refusal.message}.")
        await self.node.controller.drained(self.config.broker_id)

    async def stop(self) -> None:
        """Finish what is under way and leave the directories clean."""
        node = self.node
        await node.replication.hand_over()
        await self._connections.close()
        await node.replication.close()
        if node.log_dir_moves is not None:
            await node.log_dir_moves.close()
        await self._housekeeping.stop()
        await self.close_coordinators()
        await node.producer_ids.stop()
        await node.controller.stop()
        node.logs.close(self.clock.now_ms())
        await self._feature_watch.close()
        await node.configs.close()
        await self._store.close()

    async def close_coordinators(self) -> None:
        """Nothing more is coordinated here, and nobody elsewhere is asked or told anything."""
        node = self.node
        for coordinator in (node.groups, node.transactions):
            await coordinator.close()
        if node.share_manager is not None:
            node.share_manager.close()
        if self._state_tender is not None:
            self._state_tender.close()
        await node.share_states.close()
        if self._markers is not None:
            self._markers.close()
        if node.transaction_link_made is not None:
            node.transaction_link_made.close()


async def _serve(configs: Sequence[BrokerConfig], *, memory: bool, topics: list[TopicSpec]) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, ended.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(ended.set))
    servers: list[Server] = []
    try:
        for config in configs:
            started = loop.time()
            store = servers[0].session() if servers else None
            server = Server(config, memory=memory, store=store)
            await server.start(topics if len(configs) == 1 else [])
            servers.append(server)
            spent = loop.time() - started
            log.info("[KafkaServer id=%d] started in %.3f s", config.broker_id, spent)
        if len(servers) > 1:
            await servers[-1].declare(topics)
        ends = [server.config.advertised_listeners[0] for server in servers]
        addresses = ",".join(f"{end.host}:{end.port}" for end in ends)
        print(f"Odradek serves {addresses}; try: kcat -b {addresses} -L", flush=True)  # noqa: T201
        await ended.wait()
    finally:
        for server in reversed(servers):
            log.info("[KafkaServer id=%d] shutting down", server.config.broker_id)
            await server.stop()
            log.info("[KafkaServer id=%d] shut down completed", server.config.broker_id)


def run(configs: Sequence[BrokerConfig], *, memory: bool, topics: list[TopicSpec]) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. Raises ConfigError with a sentence.

    Several brokers share the embedded store of the first one.
    """
    _raise_descriptor_limit()
    gc.freeze()  # modules are not looked through again and again
    gc.enable()
    gc.set_threshold(*COLLECTIONS)
    asyncio.run(_serve(configs, memory=memory, topics=topics))
    return 0


def _raise_descriptor_limit() -> None:
    """As many open files as the system lets us have: connections and segments need them."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            pass
