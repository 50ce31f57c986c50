"""One run: a cluster, clients, faults, peace, one more fault that must not stop anybody, and then
the invariants.

While it runs: what is read at an offset never changes; one leader an epoch; high watermarks and
ends never go back. After it: replicas are byte-equal, every acknowledged record is there once and
in order.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

from broker.cluster.view import OFFSETS_TOPIC
from broker.config import TopicSpec
from storage.log import Log
from tests.sim.clients import Committed, Consumer, Producer
from tests.sim.faults import Faults
from tests.sim.history import History, Key
from tests.sim.loop import CURRENT, Deadlock
from tests.sim.members import Member, Worker
from tests.sim.operator import Operator
from tests.sim.world import Node, Violation, World

TOPIC, OUTPUT, GROUP = "t", "o", "g"
START_S = 30.0
PEACE_S = 60.0
"""Until all is well again after the last fault."""
PROGRESS_S = 20.0
"""How long one broken node may keep records from being acknowledged: a session's time-out, the
time after which a lagging follower is left out, clients' time-outs."""


class Outcome(NamedTuple):
    """Of a run."""

    seed: int
    digest: str
    failure: str | None
    notes: list[str]
    told: str
    """What was acknowledged, read, committed and put out."""


class Run:
    """See the module."""

    def __init__(self, seed: int) -> None:
        self.world = world = World(seed)
        chance = world.chance
        for node in world.nodes:
            node.skew_ms = chance.choice((0, 0, 0, 700, -5000))
        self.history = History(world.blame)
        self.keys: list[Key] = [(TOPIC, index) for index in range(chance.choice((1, 2, 3)))]
        self.output: list[Key] = []
        self.kind = chance.choice(("logs", "logs", "group", "transactions", "transactions"))
        self.length_s = chance.choice((8.0, 15.0, 25.0))
        rates = (1.0, 3.0, 8.0) if self.kind == "logs" else (1.0, 2.0)
        self.producers = [
            Producer(
                world,
                self.history,
                number,
                self.keys,
                rate=chance.choice(rates),
                window=chance.choice((1, 2, 5)),
            )
            for number in range(chance.choice((1, 2)))
        ]
        self.consumers = [Consumer(world, self.history, 10, self.keys)]
        self.members = self._members()
        self.operators = self._operators()
        world.mortals = [*self.consumers, *self.members]
        self.clients = [*self.producers, *self.consumers, *self.members, *self.operators]

    def _operators(self) -> list[Operator]:
        """In every third run, somebody has partitions moved."""
        world = self.world
        if world.seed % 3:
            return []
        keys = [*self.keys, *self.output]
        if self.members:
            keys += [(OFFSETS_TOPIC, 0), (OFFSETS_TOPIC, 1)]
        return [Operator(world, self.history, 30, keys, rate=world.chance.choice((0.3, 1.0)))]

    def _members(self) -> list[Member]:
        """Of the one group that there may be."""
        world, history, chance = self.world, self.history, self.world.chance
        if self.kind == "logs":
            return []
        count = chance.choice((1, 2, 3))
        if self.kind == "group":
            return [Member(world, history, 20 + n, GROUP, self.keys) for n in range(count)]
        self.output = [(OUTPUT, 0), (OUTPUT, 1)]
        self.consumers.append(Committed(world, history, 11, self.output))
        return [
            Worker(world, history, 20 + n, GROUP, self.keys, self.output, chance.choice((1, 2)))
            for n in range(count)
        ]

    def __call__(self) -> Outcome:
        world = self.world
        failure = None
        try:
            with self._watching():
                world.run(self._main())
        except (Violation, Deadlock) as violation:
            failure = str(violation)
            self._describe()
        return Outcome(world.seed, world.digest, failure, world.notes, self._told())

    def _told(self) -> str:
        history = self.history
        counts = {
            "acknowledged": sum(map(len, history.acked.values())),
            "read": len(history.read),
            "generations": len({generation for _, generation, _ in history.owners}),
            "committed": sum(history.commits.values()),
            "put out": len(history.output),
        }
        told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        return f"{self.kind}, {self.world.loop.time():.0f} virtual s: {told}"

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Every append of a leader is seen."""
        nodes = {node.host: node.id for node in self.world.nodes}
        history, stage = self.history, Log.stage

        def watched(log: Log, data: Any, leader_epoch: int, *rest: Any, **more: Any) -> Any:
            appended = stage(log, data, leader_epoch, *rest, **more)
            life = CURRENT.get()
            if life is not None:
                history.leads((log.topic, log.partition), leader_epoch, nodes[life.name])
            return appended

        with mock.patch.object(Log, "stage", watched):
            yield

    # --- the course of it

    async def _main(self) -> None:
        world = self.world
        await self._begin()
        for client in self.clients:
            client.start()
        faults = Faults(world)
        faults.begin()
        await self._pass(self.length_s)
        world.note("peace")
        faults.end()
        await self._settle()
        await self._probe()
        await self._settle()
        self._judge()
        world.check()

    async def _begin(self) -> None:
        world = self.world
        for node in world.nodes:
            world.later(world.chance.uniform(0, 0.5), node.start)
        await world.until(lambda: all(node.up for node in world.nodes), START_S, "a first start")
        first = world.nodes[0]
        assert first.life is not None and first.server is not None
        with first.life.running():
            topics = [TopicSpec(TOPIC, len(self.keys), {})]
            if self.output:
                topics.append(TopicSpec(OUTPUT, len(self.output), {}))
            await world.loop.create_task(first.server.declare(topics))

    async def _pass(self, seconds: float) -> None:
        end = self.world.loop.time() + seconds
        while self.world.loop.time() < end:
            self.world.check()
            await asyncio.sleep(0.1)

    async def _settle(self) -> None:
        """Everything sent is acknowledged and replicas are in sync."""
        world = self.world
        for one in (*self.producers, *self.operators):
            one.finish()
        await world.until(lambda: all(n.up for n in world.nodes), PEACE_S, "all nodes are up")
        await world.until(
            lambda: all(operator.idle for operator in self.operators),
            PEACE_S,
            "all replicas are back",
        )
        await world.until(
            lambda: all(producer.idle for producer in self.producers),
            PEACE_S,
            "every record is acknowledged",
        )
        await world.until(self._in_sync, PEACE_S, "all replicas are in sync")
        await world.until(
            lambda: self._in_sync() and self._all_read(), PEACE_S, "everything is read and put out"
        )
        world.note("settled")

    def _replicas(self, key: Key) -> list[Any]:
        return [node.partition(*key) for node in self.world.nodes]

    def _end(self, key: Key) -> int:
        (first, *_) = self._replicas(key)
        return -1 if first is None or first.log is None else int(first.log.end_offset)

    def _in_sync(self) -> bool:
        """Whether replicas are equal, and no transaction is open."""
        return all(self._is_in_sync(key) for key in self._all_keys())

    def _all_read(self) -> bool:
        """Whether consumers and the group's commits have come to the ends."""
        commits = self.history.commits
        return all(
            consumer.positions.get(key) == self._end(key)
            for consumer in self.consumers
            for key in consumer.keys
        ) and (
            not self.members
            or all(commits.get((GROUP, key), 0) == self._end(key) for key in self.keys)
        )

    def _all_keys(self) -> list[Key]:
        """Every partition, those of internal topics too."""
        keys: dict[Key, None] = {}
        for node in self.world.nodes:
            if node.up and node.server is not None:
                for name, partitions in node.server.node.replicas.topics.items():
                    keys |= dict.fromkeys((name, index) for index in partitions)
        return list(keys)

    def _describe(self) -> None:
        """How each node sees each partition, for the story of a run that failed."""
        for node in self.world.nodes:
            controller = self._is_controller(node)
            self.world.note(f"{node}: up {node.up}, controller {controller}")
            for key in self._all_keys():
                partition = node.partition(*key)
                if partition is None:
                    continue
                log = partition.log
                where = "no log" if log is None else f"{log.high_watermark}/{log.end_offset}"
                isr = f"isr {partition.isr} (asked for: {partition.pending})"
                self.world.note(f"  {partition!r} {isr} {where}")

    def _is_in_sync(self, key: Key) -> bool:
        replicas = self._replicas(key)
        if any(r is None or r.log is None for r in replicas):
            return False
        ends = {(r.log.end_offset, r.log.last_stable_offset) for r in replicas}
        leaders = [r for r in replicas if r.is_leader]
        return (
            len(ends) == 1
            and len({(r.leader, r.leader_epoch) for r in replicas}) == 1
            and len(leaders) == 1
            and len(leaders[0].isr) == len(self.world.nodes)
            and all(e == h for e, h in ends)
        )

    # --- one node is broken, and yet

    async def _probe(self) -> None:
        """All are in sync; then one node (or the way between two) breaks for long. Producers must
        get on all the same."""
        world = self.world
        undo = self._break_one()
        for producer in self.producers:
            producer.go_on()
        started = world.loop.time()
        await self._pass(3.0)
        for producer in self.producers:
            producer.finish()
        await world.until(
            lambda: all(producer.idle for producer in self.producers),
            PROGRESS_S,
            "records are acknowledged while one node is broken",
        )
        world.note(f"got on after {world.loop.time() - started:.1f} s")
        undo()

    def _break_one(self) -> Any:
        world = self.world
        node = world.chance.choice(world.nodes)
        kind = world.chance.choice(("crash", "power", "pause", "cut"))
        if kind == "crash":
            world.note(f"probe: {node} is killed")
            node.crash()
            return node.start
        if kind == "power":
            # Only here, where all others are in sync and stay up: a replica that has lost what it
            # had acknowledged must not be the last one.
            world.note(f"probe: the power of {node} is cut")
            node.cut_power()
            return node.start
        if kind == "pause":
            world.note(f"probe: {node} is paused")
            node.pause()
            return node.go_on
        # Both must be able to tell the controller.
        one, other = [n for n in world.nodes if not self._is_controller(n)][:2]
        world.note(f"probe: {one} and {other} are cut apart")
        world.cut(one.host, other.host)
        return world.network.heal

    @staticmethod
    def _is_controller(node: Node) -> bool:
        return node.up and node.server is not None and node.server.node.controller.active

    # --- the end

    def _judge(self) -> None:
        logs: dict[Key, bytes] = {}
        for key in self._all_keys():
            contents = [node.content(key) for node in self.world.nodes]
            if any(content != contents[0] for content in contents[1:]):
                self.world.blame(f"the replicas of {key} are not equal")
            logs[key] = contents[0]
        for key in self.keys:
            self.history.judge(key, logs[key])
        if self.output:
            self.history.judge_output(
                {key: logs[key] for key in self.keys}, {key: logs[key] for key in self.output}
            )


def run(seed: int) -> Outcome:
    """The run that the seed describes."""
    return Run(seed)()
