"""Any course of events: a transaction is committed everywhere or nowhere, and none stays open.

Producers, elections of the coordinator and of partitions, time-outs and fences come in the order
of a seed. Each value names its transaction; at the end everything is settled, and the logs are read
as a read_committed reader reads them.
"""

import asyncio
from collections import Counter, defaultdict
from random import Random

import pytest

from broker.cluster.view import TRANSACTIONS_TOPIC
from broker.transactions import markers
from protocol.batch import batches, end_txn_marker
from protocol.record import records_of
from tests.broker.transactions.part import Part
from tests.kit.hosted import OTHER

TOPICS = ("a", "b")
PARTITIONS = [(topic, index) for topic in TOPICS for index in range(2)]
TIMEOUT_MS = 1000
STEPS = 100


class Client:
    """One transactional id's producer, and what it was told of its transactions."""

    def __init__(self, course: "Course", place: int) -> None:
        self.course = course
        self.part = course.part
        self.place = place
        self.tid = f"t{place}"
        self.me: tuple[int, int] | None = None
        self.number = 0
        self.sequences: dict[tuple[str, int], int] = defaultdict(int)
        self.open = False

    @property
    def name(self) -> str:
        """Of the present transaction."""
        return f"{self.tid}:{self.number}"

    def _next(self, outcome: str | None = None) -> None:
        """The transaction is over; `outcome` is None where nobody said how."""
        if self.open and outcome is not None:
            self.course.told[self.name] = outcome
        self.open = False
        self.number += 1

    def _lost(self) -> None:
        """Something went wrong: begin again as a new producer."""
        self._next()
        self.me = None

    async def init(self) -> None:
        self._next()
        code, producer_id, epoch = await self.part.init(tid=self.tid, timeout=TIMEOUT_MS)
        self.me = (producer_id, epoch) if not code else None
        self.sequences.clear()

    async def send(self, version: int) -> None:
        assert self.me is not None
        chance = self.course.chance
        keys = chance.sample(PARTITIONS, chance.randrange(1, 3))
        if version < 12:
            rows: dict[str, list[int]] = defaultdict(list)
            for topic, index in keys:
                rows[topic].append(index)
            if set((await self.part.add(self.me, rows, tid=self.tid)).values()) != {0}:
                self._lost()
                return
        self.open = True
        sequences = {key: self.sequences[key] for key in keys}
        value = self.name.encode()
        codes = await self.part.produce(self.me, sequences, version, tid=self.tid, value=value)
        for key, code in codes.items():
            if code == 0:
                self.course.acknowledged[self.name].add(key)
                self.sequences[key] += 1
        if any(codes.values()):
            self._lost()

    async def end(self, version: int) -> None:
        assert self.me is not None
        commit = self.course.chance.random() < 0.6
        code, producer_id, epoch = await self.part.end(self.me, commit, version, tid=self.tid)
        if code:
            self._lost()
            return
        self._next("commit" if commit else "abort")
        if version >= 5:
            self.me = producer_id, epoch
            self.sequences.clear()


class Course:
    """What happens, and what is known of it."""

    def __init__(self, seed: int, level: int) -> None:
        self.chance = Random(seed)
        self.level = level
        at_once = {"add.partitions.to.txn.retry.backoff.max.ms": "0"}
        self.part = Part(level, at_once)
        self.told: dict[str, str] = {}
        self.acknowledged: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self.epochs: dict[str, int] = defaultdict(int)

    async def run(self) -> None:
        await self.part.start(*TOPICS, partitions=2)
        clients = [Client(self, number) for number in range(3)]
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(self._go_on(client))
            tasks.create_task(self._disturb())
        for topic in (TRANSACTIONS_TOPIC, *TOPICS):
            self._elect(topic)
        await self.part.quiet()
        for client in clients:
            client.me = None
            while client.me is None:
                await client.init()
                await self.part.quiet()
        await self.part.quiet()

    async def _go_on(self, client: Client) -> None:
        for _ in range(STEPS):
            for _ in range(self.chance.randrange(6)):
                await asyncio.sleep(0)
            # Some go by the old protocol, and now and then they change.
            old = self.level < 2 or (client.number // 4 + client.place) % 2
            what = self.chance.random()
            if client.me is None or what < 0.04:
                await client.init()
            elif what < 0.6 or not client.open:
                await client.send(9 if old else 12)
            else:
                await client.end(4 if old else 5)

    async def _disturb(self) -> None:
        for _ in range(STEPS // 3):
            for _ in range(self.chance.randrange(30)):
                await asyncio.sleep(0)
            what = self.chance.random()
            topic = self.chance.choice(TOPICS)
            if what < 0.3:
                self._elect(TRANSACTIONS_TOPIC)
            elif what < 0.4:
                self._elect(topic, leader=OTHER)
            elif what < 0.9:
                self._elect(topic)
            else:
                self.part.clock.ms += TIMEOUT_MS

    def _elect(self, topic: str, leader: int = 0) -> None:
        self.epochs[topic] += 1
        self.part.host(topic, leader=leader, leader_epoch=self.epochs[topic], isr=(leader,))

    def seen(self, topic: str, index: int) -> set[str]:
        """The transactions that a read_committed reader gets values of."""
        log = self.part.partition(topic, index).log
        assert log is not None and log.first_unstable_offset is None
        assert log.last_stable_offset == log.end_offset
        pending: dict[int, list[str]] = defaultdict(list)
        found: list[str] = []
        offset = 0
        while offset < log.end_offset:
            data = log.read(offset, 1 << 20, log.end_offset).bytes()
            for at, header in batches(data):
                offset = header.next_offset
                marker = end_txn_marker(data, at, header) if header.control else None
                if marker is None:
                    values = [bytes(r.value or b"") for r in records_of(data, at, header, 1 << 20)]
                    pending[header.producer_id] += [value.decode() for value in values]
                elif marker[0]:
                    found += pending.pop(header.producer_id, [])
                else:
                    pending.pop(header.producer_id, None)
        assert not any(pending.values())
        return set(found)


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("seed", range(12))
async def test_all_or_nothing(seed: int, level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markers, "FIRST_RETRY_S", 0)
    monkeypatch.setattr(markers, "LAST_RETRY_S", 0)
    course = Course(seed, level)
    await course.run()
    seen = {key: course.seen(*key) for key in PARTITIONS}
    counts: Counter[str] = Counter()
    for name, keys in course.acknowledged.items():
        visible = {name in seen[key] for key in keys}
        assert len(visible) == 1, f"{name} is torn"
        told = course.told.get(name)
        counts[told or "unknown"] += 1
        if told is not None:
            assert visible == {told == "commit"}, name
    assert counts["commit"] + counts["abort"] > 5, counts
    await course.part.stop()
