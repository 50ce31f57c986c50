"""The shell of every coordinator: machines on the partitions of an internal topic.

A coordinator (of groups, transactions, share states) is one machine for each partition of its
internal topic that this broker leads. The machine is a plain object: a request is decided from its
state and gives records and replies (`Outcome`); only replaying records changes its durable state,
and loading after a restart is the same replay. All that waits is here:

* becoming leader of a partition loads it: the log is read from its start and replayed, in slices;
  meanwhile requests are answered COORDINATOR_LOAD_IN_PROGRESS;
* an outcome's records become one batch, staged in the log in the same turn of the loop and replayed
  at once; replies leave when the high watermark has passed the batch (acks=all). Where that takes
  too long, or too few replicas are in sync, the answer is COORDINATOR_NOT_AVAILABLE, but what was
  appended counts as soon as it is replicated;
* losing the partition (or its log) drops the machine; whoever still waits is told NOT_COORDINATOR;
* the machine's timers are armed on the loop, and firing one is an input like any other.

Nothing awaits between a decision, its append and its replay, so no decision is ever rolled back: an
append that the log refuses leaves the machine as it was (`Outcome.refused` answers those who wait).
"""

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from broker import auto_topics
from broker.clock import Clock
from broker.cluster.view import NO_LEADER, MetadataCache
from broker.coordinator_slot import Slot
from broker.errors import code_of
from broker.partition import Partition
from broker.replicas import ReplicaManager
from broker.timers import Timers
from protocol.batch import (
    NO_EPOCH,
    NO_PRODUCER_ID,
    BatchHeader,
    batches,
    build,
    build_end_txn_marker,
    end_txn_marker,
)
from protocol.errors import ErrorCode
from protocol.record import Record, records_of
from storage.errors import StorageError

log = logging.getLogger("odradek.coordinator")

READ_BYTES = 1 << 20
"""Log read at a time while loading."""
SLICE_S = 0.005
"""How long loading keeps the loop before others get their turn."""
DECOMPRESSED_LIMIT = 1 << 28
DIVIDED = 1000
"""Records of a batch of an outcome that may be divided: tombstones, mostly."""

REPLICATION_MS = 5000
"""How long an answer waits for the replicas where nothing else is said."""

Reply = Callable[[Any], None]


class StoredRecord(NamedTuple):
    """A record of the internal topic, encoded; a value of None is a tombstone."""

    key: bytes
    value: bytes | None


@dataclass(slots=True)
class Outcome:
    """What a machine decided.

    `replies` are (who, response), sent when `records` are replicated, at once where there are none.
    `refused(code)` gives the replies for an append that did not happen; without it everybody in
    `replies` is refused with that code. `producer` makes the batch transactional: (id, epoch).
    `replay` is False where the machine holds the new state already and records only keep it.
    `work` goes to the coordinator's `work` function when `records` are replicated, for what happens
    outside of the machine. Without records, `behind` has the replies wait until all that was
    decided before is replicated: for those that tell of it. `divisible` records may be spread over
    several batches, so that there is no limit to how many they are.
    """

    records: Sequence[StoredRecord] = ()
    replies: "Sequence[tuple[Waiting, Any]]" = ()
    refused: "Callable[[ErrorCode], Sequence[tuple[Waiting, Any]]] | None" = None
    producer: tuple[int, int] | None = None
    replay: bool = True
    work: Sequence[Any] = ()
    behind: bool = False
    divisible: bool = False


NOTHING = Outcome()


class Machine(Protocol):
    """What a coordinator's machine must do for the shell."""

    def replay(
        self, key: bytes, value: bytes | None, producer_id: int, producer_epoch: int, offset: int
    ) -> None:
        """Take one record in; `producer_id` is -1 outside of transactions. Live or loading."""

    def replay_end(self, producer_id: int, producer_epoch: int, committed: bool) -> None:
        """A transaction's marker was appended to the partition."""

    def loaded(self, now_ms: int) -> Outcome:
        """Everything is replayed: arm timers, finish what was under way."""

    def expired(self, timer: Any, now_ms: int) -> Outcome:
        """A timer that the machine set has come up."""


M = TypeVar("M", bound=Machine)


class Waiting:
    """A request that waits for a coordinator: a `broker.dispatch.Parked`, without a task.

    `refuse(code)` makes this API's answer to a refusal.
    """

    __slots__ = ("_resume", "cancelled", "done", "refuse", "response")

    def __init__(self, refuse: Callable[[ErrorCode], Any]) -> None:
        self.refuse = refuse
        self.done = False
        self.cancelled = False
        self.response: Any = None
        self._resume: Reply | None = None

    def start(self, resume: Reply) -> None:
        """Call `resume(response)` once it is there (never before this returns)."""
        self._resume = resume
        if self.done:  # started in a later turn than it was made
            asyncio.get_running_loop().call_soon(self._resume_now)

    def cancel(self) -> None:
        """The client is gone; the answer will not be sent."""
        self._resume = None
        self.cancelled = True

    def answer(self, response: Any) -> None:
        """The answer; a second one is ignored."""
        if self.done:
            return
        self.done = True
        self.response = response
        self._resume_now()

    def _resume_now(self) -> None:
        resume, self._resume = self._resume, None
        if resume is not None:
            resume(self.response)


class Coordinator(Generic[M]):
    """The machines of one internal topic on this broker.

    `make(partition index, timers)` gives an empty machine; `codec` compresses what it writes;
    `work(partition index, what)` does what outcomes have to be done. `patience_ms` is how long an
    answer waits for the replicas.
    """

    def __init__(
        self,
        topic: str,
        replicas: ReplicaManager,
        metadata: MetadataCache,
        clock: Clock,
        make: "Callable[[int, Timers], M]",
        *,
        codec: int = 0,
        work: Callable[[int, Any], None] | None = None,
        patience_ms: int = REPLICATION_MS,
    ) -> None:
        self.topic = topic
        self._replicas = replicas
        self._metadata = metadata
        self._clock = clock
        self._make = make
        self._codec = codec
        self._work = work
        self._patience_s = patience_ms / 1000
        self._slots: dict[int, Slot[M]] = {}
        replicas.watch_roles(topic, self._became_leader, self._resigned)

    # --- which machine

    def partition_for(self, key: str) -> int | None:
        """The partition that coordinates a key; None while the internal topic is not there."""
        info = self._metadata.view.topics.get(self.topic)
        if info is None:
            return None
        return auto_topics.coordinator_partition(key, len(info.partitions))

    def broker_of(self, key: str) -> int:
        """Id of the broker that coordinates a key, as the cluster's metadata says; -1 while nobody
        who is alive does."""
        index = self.partition_for(key)
        return NO_LEADER if index is None else self._metadata.view.leader(self.topic, index)

    def find(self, key: str) -> M | ErrorCode:
        """The machine of a key, or why there is none here. For requests that write nothing."""
        return self.find_at(self.partition_for(key))

    def find_at(self, index: int | None) -> M | ErrorCode:
        """The machine of a partition of the internal topic, or why there is none here."""
        slot = self._slot(index)
        return slot if isinstance(slot, ErrorCode) else slot.machine

    def machines(self) -> Iterator[M]:
        """Every machine that is loaded."""
        for slot in self._slots.values():
            if slot.active:
                yield slot.machine

    @property
    def loading(self) -> bool:
        """Whether a partition is being loaded."""
        return any(slot.loading is not None for slot in self._slots.values())

    def leader_epoch(self, index: int) -> int:
        """Of a partition of the internal topic: the coordinator epoch of markers. -1 if it has no
        machine here.

        By partition and not by key: a broker is told to lead before it is told of the topics.
        """
        slot = self._slot(index)
        return -1 if isinstance(slot, ErrorCode) else slot.leader_epoch

    def _slot(self, index: int | None) -> "Slot[M] | ErrorCode":
        slot = None if index is None else self._slots.get(index)
        if slot is None:
            return ErrorCode.NOT_COORDINATOR
        if not slot.active:
            loading = slot.loading is not None
            return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS if loading else ErrorCode.NOT_COORDINATOR
        return slot

    # --- requests

    def write(
        self,
        key: str,
        decide: Callable[[M, Waiting, int], Outcome],
        refuse: Callable[[ErrorCode], Any],
    ) -> Any:
        """Have the machine of `key` decide a request: `decide(machine, who, now_ms)`.

        The response, or a `Waiting` that will have it.
        """
        return self.write_at(self.partition_for(key), decide, refuse)

    def write_at(
        self,
        index: int | None,
        decide: Callable[[M, Waiting, int], Outcome],
        refuse: Callable[[ErrorCode], Any],
    ) -> Any:
        """`write` to the machine of a partition."""
        slot = self._slot(index)
        if isinstance(slot, ErrorCode):
            return refuse(slot)
        waiting = Waiting(refuse)
        slot.open[waiting] = None
        try:
            outcome = decide(slot.machine, waiting, self._clock.now_ms())
        except BaseException:
            slot.open.pop(waiting, None)
            raise
        self._carry_out(slot, outcome)
        return waiting.response if waiting.done else waiting

    def read(self, key: str, look: Callable[[M], Any], refuse: Callable[[ErrorCode], Any]) -> Any:
        """An answer made from the machine's state, sent once all it rests on is replicated."""
        slot = self._slot(self.partition_for(key))
        if isinstance(slot, ErrorCode):
            return refuse(slot)
        response = look(slot.machine)
        if not slot.queue:
            return response
        waiting = Waiting(refuse)
        slot.open[waiting] = None
        slot.when_replicated(slot.queue[-1].offset, ((waiting, response),))
        return waiting

    def feed(self, index: int, decide: Callable[[M, int], Outcome]) -> None:
        """An input from inside the broker (a marker was written, a topic is gone)."""
        slot = self._slot(index)
        if not isinstance(slot, ErrorCode):
            self._carry_out(slot, decide(slot.machine, self._clock.now_ms()))

    def feed_all(self, decide: Callable[[M, int], Outcome]) -> None:
        """`feed` to every machine that is loaded."""
        for index in list(self._slots):
            self.feed(index, decide)

    # --- carrying out

    def _carry_out(self, slot: "Slot[M]", outcome: Outcome) -> None:
        if not outcome.records:
            if outcome.behind or outcome.work:
                slot.after_all(outcome.replies, lambda: self._do(slot, outcome.work))
            else:
                slot.reply(outcome.replies)
            return
        try:
            offset = self._append(slot, outcome)
        except _Refused as refused:
            if outcome.refused is not None:
                slot.reply(outcome.refused(refused.code))
            else:
                slot.refuse([who for who, _ in outcome.replies], refused.code)
            return
        if outcome.replay:
            producer_id, epoch = outcome.producer or (NO_PRODUCER_ID, NO_EPOCH)
            machine = slot.machine
            first = offset - len(outcome.records) + 1
            for at, record in enumerate(outcome.records, first):
                machine.replay(record.key, record.value, producer_id, epoch, at)
        act = (lambda: self._do(slot, outcome.work)) if outcome.work else None
        slot.when_replicated(offset, outcome.replies, act)

    def _do(self, slot: "Slot[M]", work: Sequence[Any]) -> None:
        for what in work:
            assert self._work is not None
            self._work(slot.partition.index, what)

    def _append(self, slot: "Slot[M]", outcome: Outcome) -> int:
        """Stage one batch (several, if it may); the offset of the last record. Raises _Refused."""
        now_ms = self._clock.now_ms()
        producer_id, epoch = outcome.producer or (NO_PRODUCER_ID, NO_EPOCH)
        last = -1
        for records in _parts(outcome):
            data = build(
                [Record(at, now_ms, r.key, r.value) for at, r in enumerate(records)],
                codec=self._codec,
                producer_id=producer_id,
                producer_epoch=epoch,
                transactional=outcome.producer is not None,
            )
            last = self._stage(slot, data, now_ms)
        return last

    def _stage(self, slot: "Slot[M]", data: bytes, now_ms: int) -> int:
        partition = slot.partition
        if partition.log is None or not partition.is_leader:
            raise _Refused(ErrorCode.NOT_COORDINATOR)
        if partition.under_min_isr:
            raise _Refused(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        try:
            appended = self._replicas.stage(partition, memoryview(bytearray(data)), now_ms)
        except StorageError as error:
            code = code_of(error)
            log.warning("%s-%d refused an append: %s", self.topic, partition.index, error)
            raise _Refused(APPEND_CODES.get(code, code)) from error
        return appended.last_offset

    def write_marker(
        self,
        index: int,
        producer_id: int,
        producer_epoch: int,
        coordinator_epoch: int,
        *,
        committed: bool,
        done: Callable[[ErrorCode], None],
    ) -> None:
        """Append a transaction's marker to a partition of the internal topic and replay it;
        `done(code)` once it is replicated (or refused)."""
        slot = self._slot(index)
        if isinstance(slot, ErrorCode):
            done(slot)
            return
        now_ms = self._clock.now_ms()
        data = build_end_txn_marker(
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            committed=committed,
            timestamp=now_ms,
            coordinator_epoch=coordinator_epoch,
        )
        try:
            offset = self._stage(slot, data, now_ms)
        except _Refused as refused:
            done(refused.code)
            return
        slot.machine.replay_end(producer_id, producer_epoch, committed)
        waiting = Waiting(lambda code: code)
        waiting.start(done)
        slot.open[waiting] = None
        slot.when_replicated(offset, ((waiting, ErrorCode.NONE),))

    # --- roles

    def _became_leader(self, partition: Partition) -> None:
        """Load a partition, also one that was led before under an earlier epoch."""
        self._drop(partition.index)
        slot: Slot[M] = Slot(partition, self._patience_s)
        self._slots[partition.index] = slot

        def fire(timer: Hashable) -> None:
            if slot.active:
                self._carry_out(slot, slot.machine.expired(timer, self._clock.now_ms()))

        slot.timers = Timers(self._clock, fire)
        slot.machine = self._make(partition.index, slot.timers)
        assert partition.log is not None
        if partition.log.end_offset == partition.log.log_start_offset:
            self._activate(slot)  # nothing to read: a new topic serves at once
        else:
            slot.loading = asyncio.get_running_loop().create_task(self._load(slot))

    def _resigned(self, partition: Partition) -> None:
        self._drop(partition.index)

    def _drop(self, index: int) -> None:
        slot = self._slots.pop(index, None)
        if slot is not None:
            slot.close()

    async def _load(self, slot: "Slot[M]") -> None:
        partition = slot.partition
        began = self._clock.monotonic()
        try:
            count = await self._replay_log(slot)
        except Exception:
            # The partition has a leader but no coordinator; a restart or a new leader loads again.
            log.exception("%s-%d cannot be loaded", self.topic, partition.index)
            slot.loading = None
            return
        self._activate(slot)
        spent = (self._clock.monotonic() - began) * 1000
        log.info("%s-%d: %d records loaded in %.0f ms", self.topic, partition.index, count, spent)

    def _activate(self, slot: "Slot[M]") -> None:
        slot.loading = None
        slot.active = True
        source = slot.partition.log
        if source is not None and source.high_watermark < source.end_offset:
            # A new leader's log may end above what is known to be replicated: what rests on it
            # waits, as behind a write of its own.
            slot.when_replicated(source.end_offset - 1)
        self._carry_out(slot, slot.machine.loaded(self._clock.now_ms()))

    async def _replay_log(self, slot: "Slot[M]") -> int:
        """Everything in the log, up to its end at the moment of the last look; how many records."""
        source = slot.partition.log
        assert source is not None
        count = 0
        offset = source.log_start_offset
        due = self._clock.monotonic() + SLICE_S
        while offset < source.end_offset:
            # The replica may have moved to another directory meanwhile.
            source = slot.partition.log or source
            data = source.read(offset, READ_BYTES, source.end_offset).bytes()
            if not data:
                break
            for position, header in batches(data):
                if header.next_offset <= offset:
                    continue
                count += self._replay_batch(slot.machine, data, position, header)
                offset = header.next_offset
                if self._clock.monotonic() >= due:
                    await asyncio.sleep(0)
                    due = self._clock.monotonic() + SLICE_S
        return count

    @staticmethod
    def _replay_batch(machine: M, data: bytes, position: int, header: BatchHeader) -> int:
        if header.control:
            marker = end_txn_marker(data, position, header)
            if marker is not None:
                machine.replay_end(header.producer_id, header.producer_epoch, marker[0])
            return 0
        producer_id, epoch = NO_PRODUCER_ID, NO_EPOCH
        if header.transactional:
            producer_id, epoch = header.producer_id, header.producer_epoch
        count = 0
        for record in records_of(data, position, header, DECOMPRESSED_LIMIT):
            if record.key is not None:
                value = record.value
                machine.replay(
                    bytes(record.key),
                    None if value is None else bytes(value),
                    producer_id,
                    epoch,
                    record.offset,
                )
                count += 1
        return count

    async def close(self) -> None:
        """End of the broker: whoever waits is told to look for the coordinator elsewhere."""
        for index in list(self._slots):
            self._drop(index)


def _parts(outcome: Outcome) -> Iterator[Sequence[StoredRecord]]:
    """The records of each batch."""
    size = DIVIDED if outcome.divisible else len(outcome.records)
    for at in range(0, len(outcome.records), size):
        yield outcome.records[at : at + size]


class _Refused(Exception):
    """An append that did not happen, and what a client is told of it."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code)
        self.code = code


APPEND_CODES: dict[ErrorCode, ErrorCode] = {
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
    ErrorCode.MESSAGE_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.RECORD_LIST_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
}
"""What a log refuses an append with -> what a coordinator's client is told."""
