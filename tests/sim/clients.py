"""Clients of the simulated cluster, which behave as stock ones do: they learn where leaders are,
try again what may be tried again, keep the order of what they send, and fence what is outdated.

What they are told goes into the history.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from broker.peer import Peer, PeerGone
from protocol.errors import ErrorCode
from protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from protocol.messages.init_producer_id import InitProducerIdRequest
from protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.kit.wire import batch
from tests.sim.history import History, Key, LogRecord, Sent, records_in
from tests.sim.loop import Incarnation, SimClock

if TYPE_CHECKING:
    from tests.sim.world import World

TIMEOUT_S = 3.0
BACKOFF_S = 0.1
PRODUCE, FETCH, LIST_OFFSETS, METADATA, INIT_PRODUCER_ID = 9, 12, 6, 9, 4
"""Versions that are sent."""
WINDOW = 5
"""Batches of a partition that may be under way (max.in.flight.requests.per.connection)."""
LATEST = -1

E = ErrorCode
MOVED = frozenset(
    (
        E.NOT_LEADER_OR_FOLLOWER,
        E.FENCED_LEADER_EPOCH,
        E.UNKNOWN_LEADER_EPOCH,
        E.LEADER_NOT_AVAILABLE,
        E.UNKNOWN_TOPIC_OR_PARTITION,
        E.KAFKA_STORAGE_ERROR,
        E.REPLICA_NOT_AVAILABLE,
    )
)
"""Ask where the leader is."""
LATER = frozenset(
    (
        E.REQUEST_TIMED_OUT,
        E.NOT_ENOUGH_REPLICAS,
        E.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        E.OFFSET_NOT_AVAILABLE,
        E.COORDINATOR_LOAD_IN_PROGRESS,
    )
)
GONE = -1000
"""Stands where an error code would: no answer."""


class Client(ABC):
    """A process outside the cluster. `run` is what it does, until it is stopped."""

    def __init__(self, world: "World", history: History, number: int, name: str) -> None:
        self.world = world
        self.history = history
        self.name = name
        self.host = f"10.0.1.{number + 1}"
        self.life = Incarnation(self.host)
        self.started = False
        self.clock = SimClock(world.loop)
        self.leaders: dict[Key, tuple[int, int]] = {}
        """Leader and its epoch, as far as known."""
        self.partitions: dict[str, int] = {}
        self._peers: dict[tuple[int, str], Peer] = {}
        self._bootstrap = 0

    def start(self) -> None:
        """Begin, or begin again after a crash as a new process."""
        if self.started:
            if not self.life.dead:
                return
            self.life = Incarnation(self.host)
            self._peers.clear()
            self.leaders.clear()
        self.started = True
        with self.life.running():
            self.world.loop.create_task(self.run())

    def crash(self) -> None:
        """kill -9."""
        self.life.dead, self.life.paused = True, False
        self.world.network.kill(self.host)
        self.world.network.go_on(self.host)

    def pause_process(self) -> None:
        """SIGSTOP."""
        if not self.life.dead:
            self.life.paused = True
            self.world.network.pause(self.host)

    def go_on_process(self) -> None:
        """SIGCONT."""
        if self.life.paused:
            self.world.network.go_on(self.host)
            self.life.go_on(self.world.loop)

    @abstractmethod
    async def run(self) -> None:
        """Until the end of its life."""

    def blame(self, text: str) -> None:
        self.world.blame(f"{self.name}: {text}")

    # --- requests

    async def call(
        self, node: int, request: Any, version: int, *, lane: str = "", timeout_s: float = TIMEOUT_S
    ) -> Any:
        """The answer of a node, None when there is none. `lane`: a connection of its own."""
        peer = self._peer(node, lane)
        try:
            async with asyncio.timeout(timeout_s + 1):
                return await peer.call(request, version, timeout_s=timeout_s)
        except (PeerGone, TimeoutError):
            return None

    def _peer(self, node: int, lane: str) -> Peer:
        peer = self._peers.get((node, lane))
        if peer is None:
            address = self.world.nodes[node].host, 9092
            peer = Peer(lambda: address, self.name, timeout_s=TIMEOUT_S)
            self._peers[node, lane] = peer
        return peer

    async def line(self, node: int, lane: str = "") -> Any:
        """The open connection to a node, None when there is none: what is sent on one connection
        arrives in order or not at all."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._peer(node, lane)._open_line()
        except (PeerGone, TimeoutError):
            return None

    async def call_on(self, line: Any, request: Any, version: int) -> Any:
        """The answer on that very connection, None when there is none."""
        try:
            return await line.call(request, version, self.name, TIMEOUT_S)
        except PeerGone:
            return None

    async def pause(self, seconds: float = BACKOFF_S) -> None:
        await asyncio.sleep(seconds)

    async def refresh(self, topics: Sequence[str]) -> None:
        """Ask the next node where the leaders are; an older epoch than the known one is no news
        (KIP-320)."""
        self._bootstrap = (self._bootstrap + 1) % len(self.world.nodes)
        asked = [MetadataRequestTopic(name=topic) for topic in topics]
        request = MetadataRequest(asked, allow_auto_topic_creation=False)
        answer = await self.call(self._bootstrap, request, METADATA, lane="metadata")
        if answer is None:
            return
        for topic in answer.topics:
            if topic.error_code == E.NONE:
                self.partitions[topic.name] = len(topic.partitions)
            for row in topic.partitions:
                key = topic.name, row.partition_index
                if row.leader_epoch >= self.leaders.get(key, (-1, -1))[1]:
                    self.leaders[key] = row.leader_id, row.leader_epoch

    async def leader(self, key: Key) -> int:
        """The leader, -1 when it is not known after asking once more."""
        known = self.leaders.get(key, (-1, -1))[0]
        if known < 0:
            await self.refresh([key[0]])
            known = self.leaders.get(key, (-1, -1))[0]
        return known

    def lost_leader(self, key: Key) -> None:
        """The leader is somewhere else: ask before the next request."""
        _, epoch = self.leaders.get(key, (-1, -1))
        self.leaders[key] = -1, epoch

    async def fetch(
        self, key: Key, leader: int, epoch: int, offset: int, *, isolation: int = 0
    ) -> Any:
        """The leader's row of a partition, None without an answer. `isolation`: 1 for committed
        transactions only."""
        asked = FetchPartition(key[1], epoch, offset, partition_max_bytes=4096)
        request = FetchRequest(
            max_wait_ms=500,
            min_bytes=1,
            max_bytes=1 << 16,
            isolation_level=isolation,
            topics=[FetchTopic(key[0], partitions=[asked])],
        )
        answer = await self.call(leader, request, FETCH, lane=f"{key[0]}-{key[1]}")
        if answer is None or not answer.responses:
            return None
        return answer.responses[0].partitions[0]

    async def producer_id(self) -> tuple[int, int]:
        """A producer id and epoch for idempotence."""
        node = 0
        while True:
            answer = await self.call(node, InitProducerIdRequest(None, 60_000), INIT_PRODUCER_ID)
            if answer is not None and answer.error_code == E.NONE:
                return answer.producer_id, answer.producer_epoch
            node = (node + 1) % len(self.world.nodes)
            await self.pause()


class Batch:
    """Records on their way to a partition."""

    __slots__ = ("data", "records")

    def __init__(self, records: list[Sent], data: bytes) -> None:
        self.records = records
        self.data = data

    @property
    def number(self) -> int:
        """Of the first record."""
        return self.records[0].number


class Producer(Client):
    """Idempotent, acks=all, several batches under way. Sends until `finish`, then only what is
    left."""

    def __init__(
        self,
        world: "World",
        history: History,
        number: int,
        keys: Sequence[Key],
        rate: float,
        window: int = WINDOW,
    ) -> None:
        """`rate`: batches a second into each partition."""
        super().__init__(world, history, number, f"producer-{number}")
        self.keys = list(keys)
        self.rate = rate
        self.window = window
        self.finished = False
        self.stalled_since: dict[Key, float] = {}
        """Since when a batch waits that was not acknowledged."""
        self._queues: dict[Key, deque[Batch]] = {key: deque() for key in keys}
        self._next: dict[Key, int] = dict.fromkeys(keys, 0)
        self._sequences: dict[Key, int] = dict.fromkeys(keys, 0)
        self._epochs: dict[Key, int] = {}
        self.pid = -1

    @property
    def idle(self) -> bool:
        """Whether everything is acknowledged."""
        return self.pid >= 0 and not any(self._queues.values())

    def go_on(self) -> None:
        """Produce new records again."""
        self.finished = False

    def finish(self) -> None:
        """Produce no new records."""
        self.finished = True

    async def run(self) -> None:
        self.pid, epoch = await self.producer_id()
        self._epochs = dict.fromkeys(self.keys, epoch)
        for key in self.keys:
            self.world.loop.create_task(self._make(key))
            self.world.loop.create_task(self._send(key))

    async def _make(self, key: Key) -> None:
        """New batches, at most some that wait."""
        chance = self.world.chance
        queue = self._queues[key]
        while True:
            await asyncio.sleep(chance.expovariate(self.rate))
            if self.finished or len(queue) > 2 * self.window:
                continue
            first = self._next[key]
            records = [Sent(f"{self.name}", first + n) for n in range(chance.choice((1, 1, 2, 5)))]
            self._next[key] = first + len(records)
            queue.append(self._batch(key, records))

    def _batch(self, key: Key, records: list[Sent]) -> Batch:
        """The next of the partition."""
        data = batch(
            [record.value for record in records],
            timestamp=self.clock.now_ms(),
            producer_id=self.pid,
            producer_epoch=self._epochs[key],
            base_sequence=self._sequences[key],
        )
        self._sequences[key] += len(records)
        return Batch(records, data)

    async def _send(self, key: Key) -> None:
        """Send what is queued in order, up to `window` batches beyond the first unacknowledged."""
        queue = self._queues[key]
        flying: deque[tuple[Batch, asyncio.Task[Any]]] = deque()
        done: dict[int, None] = {}
        line: Any = None
        while True:
            if not queue:
                self.stalled_since.pop(key, None)
                await self.pause(0.02)
                continue
            self.stalled_since.setdefault(key, self.world.loop.time())
            if not flying:
                leader = await self.leader(key)
                line = await self.line(leader) if leader >= 0 else None
            if line is None:
                self.lost_leader(key)
                await self.pause()
                continue
            for one in list(queue)[len(flying) : self.window]:
                if one.number not in done:
                    call = self.call_on(line, self._request(key, one), PRODUCE)
                    flying.append((one, self.world.loop.create_task(call)))
            trouble = await self._settle(key, flying, done, queue)
            while queue and queue[0].number in done:
                del done[queue.popleft().number]
                self.stalled_since.pop(key, None)
            if trouble:
                await self.pause()

    async def _settle(
        self,
        key: Key,
        flying: deque[tuple[Batch, "asyncio.Task[Any]"]],
        done: dict[int, None],
        queue: deque[Batch],
    ) -> bool:
        """Take the first answer; after a refusal all of them, so that everything is sent again in
        order. Whether there was one."""
        trouble = forgotten = False
        while flying:
            one, task = flying.popleft()
            answer = await task
            code = GONE
            if answer is not None:
                row = answer.responses[0].partition_responses[0]
                code = row.error_code
            if code in (E.NONE, E.DUPLICATE_SEQUENCE_NUMBER):
                done[one.number] = None
                for number, record in enumerate(one.records):
                    known = code == E.NONE and row.base_offset >= 0
                    offset = row.base_offset + number if known else -1
                    self.history.acknowledged(key, record, offset)
                if not trouble:
                    return False
                continue
            trouble = True
            first = queue[0] is one
            if first and code == E.OUT_OF_ORDER_SEQUENCE_NUMBER and self._is_forgotten(key, one):
                forgotten = True
            else:
                self._refused(key, one, code, first=first)
        if forgotten:
            self._begin_anew(key, done, queue)
        return trouble

    def _is_forgotten(self, key: Key, one: Batch) -> bool:
        """Whether a batch is in a log, and not as the last of this producer's.

        A producer snapshot has a producer's last batch only. Who has loaded one no longer knows
        the others for duplicates when they are sent again, and answers OUT_OF_ORDER_SEQUENCE_NUMBER
        (seen on Apache Kafka 3.9.2 after a clean restart). A batch that is in no log is another
        matter: then something before it is lost.
        """
        for node in self.world.nodes:
            records = records_in(node.content(key))
            mine = [r.value for r in records if r.value.startswith(f"{self.name} ".encode())]
            values = [record.value for record in one.records]
            if mine[-len(values) :] != values and set(values) <= set(mine):
                return True
        return False

    def _begin_anew(self, key: Key, done: dict[int, None], queue: deque[Batch]) -> None:
        """Go on in the next epoch, from sequence 0, with all that is not acknowledged: what Apache
        Kafka's producer does then, although it may write records twice."""
        self._epochs[key] += 1
        self._sequences[key] = 0
        for place, one in enumerate(queue):
            if one.number not in done:
                self.history.sent_anew(key, one.records)
                queue[place] = self._batch(key, one.records)

    def _refused(self, key: Key, one: Batch, code: int, *, first: bool) -> None:
        if code == GONE or code in MOVED:
            self.lost_leader(key)
        elif code == E.OUT_OF_ORDER_SEQUENCE_NUMBER and not first:
            pass  # one before it was refused
        elif code not in LATER:
            self.blame(f"{one.records[0]} is refused by {key}: error {code}")

    def _request(self, key: Key, one: Batch) -> ProduceRequest:
        data = PartitionProduceData(key[1], one.data)
        return ProduceRequest(None, -1, 2000, [TopicProduceData(key[0], partition_data=[data])])


class Consumer(Client):
    """Reads everything from the beginning, and again from there after a crash."""

    ISOLATION = 0

    def __init__(self, world: "World", history: History, number: int, keys: Sequence[Key]) -> None:
        super().__init__(world, history, number, f"consumer-{number}")
        self.keys = list(keys)
        self.positions: dict[Key, int] = {}
        # By partition, leader, the leader's life and its epoch: a leader that is killed and comes
        # back before anybody noticed leads on, from the high watermark that it had noted last.
        self._marks: dict[tuple[Key, int, int, int], int] = {}

    async def run(self) -> None:
        self.positions = dict.fromkeys(self.keys, 0)
        self._marks.clear()
        loop = self.world.loop
        for key in self.keys:
            loop.create_task(self._follow(key))
        loop.create_task(self._ask_for_ends())

    async def _follow(self, key: Key) -> None:
        while True:
            leader = await self.leader(key)
            epoch = self.leaders.get(key, (-1, -1))[1]
            row = None
            if leader >= 0:
                position, isolation = self.positions[key], self.ISOLATION
                row = await self.fetch(key, leader, epoch, position, isolation=isolation)
            if row is None or row.error_code in MOVED or row.error_code in LATER:
                self.lost_leader(key)
                await self.pause()
            elif row.error_code != E.NONE:
                self.blame(f"{key} at {self.positions[key]}: error {row.error_code}")
                return
            else:
                self._took(key, leader, epoch, row)

    def _took(self, key: Key, leader: int, epoch: int, row: Any) -> None:
        place = key, leader, self.world.nodes[leader].lives, epoch
        before = self._marks.get(place, -1)
        if row.high_watermark < before:
            self.blame(f"the high watermark of {key} went from {before} to {row.high_watermark}")
        self._marks[place] = row.high_watermark
        records = records_in(bytes(row.records or b""))
        self._judge(key, row, [r for r in records if r.offset >= self.positions[key]])
        for record in records:
            if record.offset >= self.positions[key]:
                self._read(key, record, row.high_watermark)

    def _judge(self, key: Key, row: Any, records: Sequence[LogRecord]) -> None:
        """More that must be true of what was fetched."""

    def _read(self, key: Key, record: LogRecord, high_watermark: int) -> None:
        position = self.positions[key]
        if record.offset != position:
            self.blame(f"after {position} of {key} comes {record.offset}")
        if record.offset >= high_watermark:
            self.blame(f"{record.offset} of {key} is beyond the high watermark {high_watermark}")
        self.history.was_read(self.name, key, record.offset, record.value)
        self.positions[key] = record.offset + 1

    async def _ask_for_ends(self) -> None:
        """The end of a partition is never before what was read already (KIP-207)."""
        while True:
            await self.pause(1.5)
            key = self.world.chance.choice(self.keys)
            leader, epoch = self.leaders.get(key, (-1, -1))
            known = self.positions[key]
            if leader < 0:
                continue
            asked = ListOffsetsPartition(key[1], epoch, LATEST)
            request = ListOffsetsRequest(-1, 0, [ListOffsetsTopic(key[0], [asked])])
            answer = await self.call(leader, request, LIST_OFFSETS, lane="ends")
            row = answer.topics[0].partitions[0] if answer is not None else None
            if row is not None and row.error_code == E.NONE and row.offset < known:
                self.blame(f"{key} ends at {row.offset}, but {known} was read")


class Committed(Consumer):
    """Reads committed transactions: leaves out what the leader says was aborted."""

    ISOLATION = 1

    def _judge(self, key: Key, row: Any, records: Sequence[LogRecord]) -> None:
        aborted = {(a.producer_id, a.first_offset) for a in row.aborted_transactions or ()}
        left_out: set[int] = set()
        for record in records:
            if record.offset >= row.last_stable_offset:
                self.blame(f"{record.offset} of {key} is not stable yet")
            left_out |= {pid for pid, first in aborted if first <= record.offset}
            if record.committed is False:
                aborted = {a for a in aborted if a[0] != record.producer_id or a[1] > record.offset}
                left_out.discard(record.producer_id)
            elif record.value and record.producer_id not in left_out:
                self.history.put_out(key, record.offset, record.value)
