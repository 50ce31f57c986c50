"""Several whole brokers in one event loop over one embedded store: real sockets on loopback, real
logs, one metadata store of which each broker has a session.

`Cluster` belongs to the loop it is started in; `ThreadedCluster` runs one in a thread, for tests
whose clients block. A crash is what kill -9 does to a broker's surroundings: its sockets are cut,
its session ends, nothing is flushed or handed over.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from broker.cluster.local import LocalStore
from broker.config import BrokerConfig, TopicSpec
from broker.partition import Partition
from broker.peer import PeerGone
from broker.server import Server
from tests.kit.threaded import Threaded

CALL_S = 30.0
"""How long a `ThreadedCluster.call` may take."""
QUICK: Mapping[str, str] = {
    "replica.lag.time.max.ms": "1500",
    "replica.fetch.backoff.ms": "200",
    "controlled.shutdown.retry.backoff.ms": "100",
    "offsets.topic.num.partitions": "3",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.num.partitions": "2",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "group.initial.rebalance.delay.ms": "0",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
}
"""Settings that make a test fast."""


class Cluster:
    """Brokers 0 to `count`-1, data below `path`; `settings` for all, `own` for single ones."""

    def __init__(
        self,
        path: Path,
        count: int = 3,
        settings: Mapping[str, str] | None = None,
        own: Mapping[int, Mapping[str, str]] | None = None,
    ) -> None:
        self.path = path
        self.count = count
        self.servers: dict[int, Server] = {}
        self.ports: dict[int, int] = {}
        self._settings = {**QUICK, **(settings or {})}
        self._own = own or {}
        self.store = LocalStore()
        """A session of the test's own, which also keeps the tree while brokers come and go."""
        self.resumed = asyncio.Event()

    async def start(self, topics: Sequence[TopicSpec] = ()) -> None:
        """All brokers up and known to each other; the first one is the controller."""
        await self.store.start()
        for broker_id in range(self.count):
            await self.start_one(broker_id)
        await self.until(
            lambda: all(
                set(server.node.metadata.view.brokers) == set(self.servers)
                for server in self.servers.values()
            )
        )
        if topics:
            await self.servers[0].declare(list(topics))

    async def start_one(self, broker_id: int) -> Server:
        """Start a broker, or start it again on its old port and directory."""
        port = self.ports.get(broker_id, 0)
        config = BrokerConfig(
            {
                "broker.id": str(broker_id),
                "listeners": f"PLAINTEXT://127.0.0.1:{port}",
                "log.dirs": str(self.path / f"broker-{broker_id}"),
                **self._settings,
                **self._own.get(broker_id, {}),
            }
        )
        server = self.servers[broker_id] = Server(config, store=self.store.session())
        await server.start([])
        self.ports[broker_id] = server.ports["PLAINTEXT"]
        return server

    async def stop_one(self, broker_id: int) -> None:
        """A graceful stop."""
        await self.servers.pop(broker_id).stop()

    async def crash(self, broker_id: int) -> None:
        """The broker's process is gone, as far as anybody can see."""
        server = self.servers.pop(broker_id)
        await crash(server)

    async def pause_fetching(self, broker_id: int) -> None:
        """The broker fetches nothing more from its leaders, as if it hung, until it goes on."""
        hanging: set[int] = set()

        def hang(number: int) -> Callable[..., Awaitable[Any]]:
            async def call(*_: Any, **__: Any) -> Any:
                hanging.add(number)
                await self.resumed.wait()
                raise PeerGone("it hung")

            return call

        fetchers = list(self.servers[broker_id].node.replication._fetchers.values())
        for number, fetcher in enumerate(fetchers):
            fetcher._peer.__dict__["call"] = hang(number)
        # What is under way is answered first.
        await self.until(lambda: len(hanging) == len(fetchers))

    def go_on_fetching(self) -> None:
        """All that paused go on."""
        for server in self.servers.values():
            for fetcher in server.node.replication._fetchers.values():
                fetcher._peer.__dict__.pop("call", None)
        self.resumed.set()
        self.resumed = asyncio.Event()

    async def stop(self) -> None:
        """All brokers, the controller last."""
        for broker_id in sorted(
            self.servers, key=lambda i: (self.servers[i].node.controller.active, i)
        ):
            await self.stop_one(broker_id)
        await self.store.close()

    # --- looking

    @property
    def controller(self) -> Server:
        """The broker that is the controller."""
        (found,) = [s for s in self.servers.values() if s.node.controller.active]
        return found

    @property
    def bootstrap(self) -> str:
        """Addresses of all brokers, also of those that are down."""
        return ",".join(f"127.0.0.1:{port}" for _, port in sorted(self.ports.items()))

    def replica(self, broker_id: int, topic: str, index: int = 0) -> Partition:
        """A replica."""
        partition = self.servers[broker_id].node.replicas.partition(topic, index)
        assert partition is not None, f"{topic}-{index} is not on {broker_id}"
        return partition

    def leader_of(self, topic: str, index: int = 0) -> int:
        """Who leads, as the controller knows; -1 for nobody."""
        state = self.controller.node.controller.state
        assert state is not None
        partition = state.partition((topic, index))
        return -1 if partition is None or partition.state is None else partition.state.leader

    def isr_of(self, topic: str, index: int = 0) -> set[int]:
        """The ISR, as the controller knows."""
        state = self.controller.node.controller.state
        assert state is not None
        partition = state.partition((topic, index))
        assert partition is not None and partition.state is not None
        return set(partition.state.isr)

    async def in_sync(self, topic: str, index: int = 0) -> None:
        """Wait until every broker that runs is in the ISR."""
        await self.until(lambda: self.isr_of(topic, index) == set(self.servers))

    async def until(self, done: Callable[[], bool], timeout_s: float = 15.0) -> None:
        """Let everything run until `done()`; an AssertionError when that takes too long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not done():
            assert loop.time() < deadline, "it did not happen in time"
            await asyncio.sleep(0.01)


async def crash(server: Server) -> None:
    """Take a broker out without a word: sockets, tasks, session, locks."""
    connections = server._connections
    if connections._sweep is not None:
        connections._sweep.cancel()
    for sock in connections._listeners.values():
        connections.loop.remove_reader(sock.fileno())
        sock.close()
    for connection in list(connections._connections):
        connection.close(None)
    node = server.node
    controller = node.controller
    task, controller._task = controller._task, None
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if controller._reign is not None:
        await controller._reign.close()
    await node.replication.close()
    if node.log_dir_moves is not None:
        await node.log_dir_moves.close()
    await server._housekeeping.stop()
    await server.close_coordinators()
    await node.producer_ids.stop()
    for log in node.logs.logs.values():
        log.close(clean=False)
    for log in node.logs.futures.logs.values():
        log.close(clean=False)
    node.logs._release()
    await node.configs.close()
    await server._store.close()


class ThreadedCluster(Threaded):
    """A `Cluster` in a thread of its own; `call` runs something of it in its loop."""

    def __init__(
        self,
        path: Path,
        count: int = 3,
        settings: Mapping[str, str] | None = None,
        own: Mapping[int, Mapping[str, str]] | None = None,
        topics: Sequence[TopicSpec] = (),
    ) -> None:
        self._arguments = (path, count, settings, own)
        self._topics = topics
        super().__init__(30)
        self.cluster: Cluster

    def call(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """`work(cluster, ...)` in the cluster's loop; its result."""

        async def run() -> Any:
            result = work(self.cluster, *arguments)
            return await result if isinstance(result, Coroutine) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(CALL_S)

    @property
    def bootstrap(self) -> str:
        return self.cluster.bootstrap

    async def _serve(self) -> None:
        self.cluster = Cluster(*self._arguments)
        await self.cluster.start(self._topics)
        await self._until_the_end()
        await self.cluster.stop()
