"""A simulated cluster: nodes that are whole brokers, the store they share, the network between.

Everything random comes from the seed: delays, ids, and what is done to the world. `Node` is one
machine with its disk; each start of its process is a new life. The disk keeps at a crash what was
written (the page cache outlives a process), after a power cut only what was flushed for sure.
"""

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import broker.connections
import broker.peer
from broker.config import BrokerConfig, ConfigError
from broker.partition import Partition
from broker.server import Server
from tests.kit.faulty_files import FaultyFileSystem
from tests.sim.history import Key
from tests.sim.keeper import ADDRESS, Keeper
from tests.sim.loop import Incarnation, SimClock, SimLoop
from tests.sim.network import Network

if TYPE_CHECKING:
    from tests.sim.clients import Client

SESSION_S = 4.0
PORT = 9092
STOP_S = 15.0
"""How long a controlled stop may take before the process is killed."""
RESTART_S = 1.0
"""After a start that failed, until the next try."""
SETTINGS: Mapping[str, str] = {
    "zookeeper.session.timeout.ms": str(int(SESSION_S * 1000)),
    "replica.lag.time.max.ms": "3000",
    "replica.fetch.wait.max.ms": "500",
    "replica.fetch.backoff.ms": "300",
    "replica.socket.timeout.ms": "3000",
    "controller.socket.timeout.ms": "3000",
    "request.timeout.ms": "3000",
    "replica.high.watermark.checkpoint.interval.ms": "1000",
    "controlled.shutdown.retry.backoff.ms": "300",
    "offsets.topic.num.partitions": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.num.partitions": "2",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "auto.leader.rebalance.enable": "true",
    "leader.imbalance.check.interval.seconds": "5",
    "log.cleaner.enable": "false",
    "log.segment.bytes": "16384",
}

log = logging.getLogger("odradek.sim")


class Violation(AssertionError):
    """An invariant does not hold; the text says which and where."""


class Node:
    """One machine of the cluster."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.id = number
        self.host = f"10.0.0.{number + 1}"
        self.disk = FaultyFileSystem()
        self.skew_ms = 0
        self.life: Incarnation | None = None
        self.lives = 0
        self.server: Server | None = None
        self.up = False
        """Whether its server has started."""
        self.stopping = False

    def __repr__(self) -> str:
        return f"node {self.id}"

    # --- lives

    def start(self) -> None:
        """A new process; it starts over until it gets through."""
        if self.life is not None:
            return
        life = self.life = Incarnation(self.host)
        self.lives += 1
        self.up = self.stopping = False
        self.disk.locked.clear()
        with life.running():
            self.world.loop.create_task(self._serve(life))

    async def _serve(self, life: Incarnation) -> None:
        world = self.world
        config = BrokerConfig(
            {
                "broker.id": str(self.id),
                "listeners": f"PLAINTEXT://{self.host}:{PORT}",
                **SETTINGS,
                **world.settings,
            }
        )
        clock = SimClock(world.loop, self.skew_ms)
        self.server = Server(config, memory=True, clock=clock, store=world.keeper.client())
        self.server._fs = self.disk
        try:
            await self.server.start([])
        except ConfigError as error:
            world.note(f"{self} does not start: {error}")
            self.crash()
            world.later(RESTART_S, self.start)
            return
        self.up = True
        world.note(f"{self} is up")

    def crash(self) -> None:
        """kill -9."""
        life, self.life = self.life, None
        if life is None:
            return
        life.dead, life.paused = True, False
        self.up = False
        self.world.network.kill(self.host)
        self.world.network.go_on(self.host)

    def cut_power(self) -> None:
        """The machine is off: of what was not flushed, any part may be gone."""
        self.crash()
        self.disk = self.disk.crash(self.world.chance.randrange)

    def stop(self) -> None:
        """A controlled stop, as by SIGTERM."""
        life, server = self.life, self.server
        if life is None or not self.up or self.stopping or server is None:
            return
        self.stopping = True

        async def end() -> None:
            try:
                async with asyncio.timeout(STOP_S):
                    await server.stop()
                self.world.note(f"{self} has stopped")
            except TimeoutError:
                self.world.note(f"{self} does not stop")
            if self.life is life:
                self.crash()

        with life.running():
            self.world.loop.create_task(end())

    def pause(self) -> None:
        """SIGSTOP, or a disk that hangs under a write."""
        if self.life is not None and not self.life.paused:
            self.life.paused = True
            self.world.network.pause(self.host)

    def go_on(self) -> None:
        """SIGCONT."""
        if self.life is not None and self.life.paused:
            self.world.network.go_on(self.host)
            self.life.go_on(self.world.loop)

    # --- looking

    @property
    def paused(self) -> bool:
        return self.life is not None and self.life.paused

    def partition(self, topic: str, index: int) -> Partition | None:
        """The replica of a node that is up."""
        if not self.up or self.server is None:
            return None
        return self.server.node.replicas.partition(topic, index)

    def content(self, key: Key) -> bytes:
        """All of a replica's segments, as they lie on the disk."""
        files = self.disk.files
        prefix = f"/memory/{key[0]}-{key[1]}/"
        names = sorted(n for n in files if n.startswith(prefix) and n.endswith(".log"))
        return b"".join(bytes(files[name].content) for name in names)


class World:
    """See the module. Used as a context: it stands in for sockets and randomness of the process
    meanwhile."""

    def __init__(
        self, seed: int, nodes: int = 3, settings: Mapping[str, str] | None = None
    ) -> None:
        self.seed = seed
        self.settings = settings or {}
        self.loop = SimLoop(seed)
        self.chance = self.loop.chance
        self.network = Network(self.loop)
        self.keeper = Keeper(self.loop, self.network, SESSION_S)
        self.nodes = [Node(self, number) for number in range(nodes)]
        self.mortals: list[Client] = []
        """Clients that may be killed and paused."""
        self.notes: list[str] = []
        self.problems: list[str] = []
        """What is wrong already, before anybody looked."""
        self.loop.set_exception_handler(self._unhandled)

    # --- running

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        """Sockets, ids and errors are this world's."""
        module = self.network.module()
        chance = self.chance
        handler = _Errors(self)
        loggers = [logging.getLogger(name) for name in ("odradek", "storage", "asyncio")]
        before = [(logger.level, logger.propagate) for logger in loggers]
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.DEBUG if handler.verbose else logging.ERROR)
            logger.propagate = False
        collecting = gc.isenabled()
        gc.disable()
        try:
            with (
                mock.patch.object(broker.connections, "socket", module),
                mock.patch.object(broker.peer, "socket", module),
                mock.patch.object(os, "urandom", chance.randbytes),
            ):
                yield
        finally:
            for logger, (level, propagate) in zip(loggers, before, strict=True):
                logger.removeHandler(handler)
                logger.setLevel(level)
                logger.propagate = propagate
            if collecting:
                gc.enable()

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run `main` to its end; then nothing of this world runs any more."""
        with self._in_place():
            try:
                return self.loop.run_until_complete(main)
            finally:
                for node in self.nodes:
                    if node.life is not None:
                        node.life.dead = True
                self.loop.end()

    def later(self, delay_s: float, act: Callable[[], Any]) -> None:
        """Do it later, on behalf of nobody."""
        self.network._world(delay_s, act)

    async def until(self, done: Callable[[], bool], limit_s: float, what: str) -> None:
        """Let time pass until `done()`; a Violation when that takes too long."""
        end = self.loop.time() + limit_s
        while not done():
            self.check()
            if self.loop.time() > end:
                raise Violation(f"not within {limit_s:g} s: {what}")
            await asyncio.sleep(0.05)

    # --- telling

    def note(self, text: str) -> None:
        """A line of the run's story."""
        self.notes.append(f"{self.loop.time():9.4f} {text}")

    def blame(self, text: str) -> None:
        """Something is wrong."""
        self.note(f"WRONG: {text}")
        self.problems.append(text)

    def check(self) -> None:
        """Raise the first problem found so far."""
        if self.problems:
            raise Violation(self.problems[0])

    @property
    def digest(self) -> str:
        """Of everything that went over the network, when and where."""
        return self.network.digest.hexdigest()

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.blame(f"unhandled: {context.get('message')} {context.get('exception')!r}")

    # --- cuts

    def cut(self, here: str, there: str, *, both: bool = True) -> None:
        """Cut hosts apart, in one direction or both."""
        self.network.cut(here, there)
        if both:
            self.network.cut(there, here)

    @property
    def keeper_host(self) -> str:
        return ADDRESS[0]


class _Errors(logging.Handler):
    """Unforeseen errors of the broker are problems of the run."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.DEBUG)
        self._world = world
        self.verbose = bool(os.environ.get("SIM_LOG"))

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.levelno >= logging.ERROR:
            error = record.exc_info[1]
            self._world.blame(f"{record.name}: {record.getMessage()}: {error!r}")
            if self.verbose:
                import traceback

                traceback.print_exception(error)
        elif self.verbose:
            from tests.sim.loop import CURRENT

            life = CURRENT.get()
            name = "-" if life is None else life.name
            self._world.note(f"[{name}] {record.name}: {record.getMessage()}")
