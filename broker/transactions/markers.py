"""The end of a transaction at the partitions it has written to.

`write_markers` is the part of a partition's leader, for its own coordinator and for WriteTxnMarkers
alike. `MarkerSender` is the coordinator's: it takes a prepared transaction's markers to the leaders
and again, until each is written, then has the machine complete the transaction.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from broker.cluster.view import NO_LEADER, OFFSETS_TOPIC
from broker.errors import REFUSALS, code_of
from broker.partition import Partition
from broker.transactions.state import EndMarkers, TopicPartition
from protocol.batch import build_end_txn_marker
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.context import Node
    from storage.log import Log

log = logging.getLogger("odradek.transactions")

STRICT_EPOCHS = 2
"""Markers of transactions from this version on carry an epoch that no batch has yet (KIP-1228)."""
FIRST_RETRY_S = 0.05
LAST_RETRY_S = 1.0
"""Pauses before markers are sent again: from the first, doubled each time, up to the last."""
PATIENCE = 6
"""How often a coordinator that goes on after a restart looks for partitions that the cluster seems
not to have: it may not have been told of all topics yet, and a marker left out would leave its
partition's readers waiting for ever."""

Results = dict[TopicPartition, ErrorCode]
Done = Callable[[Results], None]


class Marker(NamedTuple):
    """What is written into every partition of a transaction that ends."""

    producer_id: int
    producer_epoch: int
    committed: bool
    coordinator_epoch: int
    transaction_version: int


# --- the leader's part


def write_markers(
    node: "Node", marker: Marker, partitions: Iterable[TopicPartition], done: Done
) -> None:
    """Append a marker to partitions that this broker leads; `done(codes)` once each is replicated,
    refused, or `request.timeout.ms` is over.

    Codes: UNKNOWN_TOPIC_OR_PARTITION (also of one hosted elsewhere), NOT_LEADER_OR_FOLLOWER,
    KAFKA_STORAGE_ERROR, NOT_ENOUGH_REPLICAS, REQUEST_TIMED_OUT, INVALID_PRODUCER_EPOCH,
    TRANSACTION_COORDINATOR_FENCED, UNKNOWN_SERVER_ERROR for what is no producer.
    """
    _Writing(node, marker, partitions, done).begin()


class _Writing:
    """Markers under way in this broker's partitions."""

    def __init__(
        self, node: "Node", marker: Marker, partitions: Iterable[TopicPartition], done: Done
    ) -> None:
        self._node = node
        self._marker = marker
        self._partitions = list(dict.fromkeys(partitions))
        self._done = done
        self._results: Results = {}
        self._waiting: list[_Replicating] = []
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        for key in self._partitions:
            self._write(key)
        if len(self._results) < len(self._partitions):
            seconds = self._node.config.request_timeout_ms / 1000
            self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)
        elif not self._partitions:
            self._done(self._results)

    def _write(self, key: TopicPartition) -> None:
        topic, index = key
        partition = self._node.replicas.partition(topic, index)
        code = self._refusal(partition)
        if code is not None:
            self.settle(key, code)
            return
        assert partition is not None
        if topic == OFFSETS_TOPIC:
            marker = self._marker
            self._node.groups.write_marker(
                index,
                marker.producer_id,
                marker.producer_epoch,
                marker.coordinator_epoch,
                committed=marker.committed,
                done=lambda code: self.settle(key, GROUP_CODES.get(code, code)),
            )
        else:
            self._append(key, partition)

    def _refusal(self, partition: Partition | None) -> ErrorCode | None:
        marker = self._marker
        if partition is None:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if marker.producer_id < 0 or marker.producer_epoch < 0:
            return ErrorCode.UNKNOWN_SERVER_ERROR
        if partition.log is None:
            return ErrorCode.KAFKA_STORAGE_ERROR
        if not partition.is_leader:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        if partition.under_min_isr:
            return ErrorCode.NOT_ENOUGH_REPLICAS
        if marker.transaction_version >= STRICT_EPOCHS and _is_late(partition.log, marker):
            return ErrorCode.INVALID_PRODUCER_EPOCH
        return None

    def _append(self, key: TopicPartition, partition: Partition) -> None:
        marker = self._marker
        now_ms = self._node.clock.now_ms()
        data = build_end_txn_marker(
            producer_id=marker.producer_id,
            producer_epoch=marker.producer_epoch,
            committed=marker.committed,
            timestamp=now_ms,
            coordinator_epoch=marker.coordinator_epoch,
        )
        try:
            appended = self._node.replicas.stage(partition, memoryview(bytearray(data)), now_ms)
        except REFUSALS as error:
            self.settle(key, code_of(error))
            return
        self._waiting.append(_Replicating(self, key, partition, appended.last_offset))

    def settle(self, key: TopicPartition, code: ErrorCode) -> None:
        """What became of one partition; the last one ends the whole."""
        if key in self._results:
            return
        self._results[key] = code
        if len(self._results) == len(self._partitions):
            if self._timer is not None:
                self._timer.cancel()
            self._done(self._results)

    def _expire(self) -> None:
        for waiting in self._waiting:
            waiting.partition.drop_waiter(waiting)
        for key in self._partitions:
            self.settle(key, ErrorCode.REQUEST_TIMED_OUT)


class _Replicating:
    """A `broker.partition.Waiter` for one marker."""

    __slots__ = ("_key", "_offset", "_writing", "partition")

    def __init__(
        self, writing: _Writing, key: TopicPartition, partition: Partition, offset: int
    ) -> None:
        self._writing = writing
        self._key = key
        self._offset = offset
        self.partition = partition
        partition.add_waiter(self)

    def wake(self) -> None:
        partition = self.partition
        source = partition.log
        if source is None or source.failure is not None:
            self._writing.settle(self._key, ErrorCode.KAFKA_STORAGE_ERROR)
        elif source.high_watermark > self._offset:
            self._writing.settle(self._key, ErrorCode.NONE)
        elif not partition.is_leader:
            self._writing.settle(self._key, ErrorCode.NOT_LEADER_OR_FOLLOWER)
        else:
            partition.add_waiter(self)


def _is_late(source: "Log", marker: Marker) -> bool:
    """Whether the marker's epoch has been used by batches: it ends another transaction then. The
    same marker once more is fine."""
    entry = source.producers.get(marker.producer_id)
    if entry is None or marker.producer_epoch > entry.epoch:
        return False
    return marker.producer_epoch < entry.epoch or entry.txn_first_offset >= 0


GROUP_CODES = {
    ErrorCode.NOT_COORDINATOR: ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS: ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.COORDINATOR_NOT_AVAILABLE: ErrorCode.NOT_LEADER_OR_FOLLOWER,
}
"""What the group coordinator says of a marker -> what a transaction coordinator understands."""


# --- the coordinator's part


class Leaders(Protocol):
    """The way to the brokers that lead a transaction's partitions
    (`broker.transactions.network.Brokers`)."""

    def send_markers(
        self,
        broker_id: int,
        marker: Marker,
        partitions: list[TopicPartition],
        done: Done,
        is_over: Callable[[], bool],
    ) -> None:
        """Have a broker write markers; `done(codes)` once, NETWORK_EXCEPTION where it did not
        answer. They may wait for their turn, and are not sent if the transaction `is_over` then."""

    def close(self) -> None:
        """Nothing more is sent."""


FENCED = (ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.TRANSACTION_COORDINATOR_FENCED)
"""Somebody newer owns the transaction: this coordinator leaves it alone."""
NEEDLESS = (ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT, ErrorCode.UNSUPPORTED_VERSION)
"""A partition that cannot have a marker cannot have taken the transaction's batches either."""


class MarkerSender:
    """Carries out the `EndMarkers` that the transaction machines ask for."""

    def __init__(self, node: "Node", leaders: Leaders | None = None) -> None:
        if leaders is None:
            from broker.transactions.network import Brokers

            leaders = Brokers(node)
        self._node = node
        self._leaders: Leaders = leaders
        self._retries: set[asyncio.TimerHandle] = set()

    def send(self, index: int, work: EndMarkers) -> None:
        """Write a transaction's markers; `index` is its partition of __transaction_state."""
        epoch = self._node.transactions.leader_epoch(index)
        if epoch >= 0:
            _Ending(self, index, work, epoch).attempt(list(work.partitions))

    def close(self) -> None:
        """Nothing is sent again; the next start goes on from the records."""
        for retry in self._retries:
            retry.cancel()
        self._retries.clear()
        self._leaders.close()

    @property
    def node(self) -> "Node":
        return self._node

    @property
    def leaders(self) -> Leaders:
        return self._leaders

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """`act()` after a pause, unless this is closed."""

        def now() -> None:
            self._retries.discard(handle)
            act()

        handle = asyncio.get_running_loop().call_later(seconds, now)
        self._retries.add(handle)


class _Ending:
    """One transaction's markers on their way."""

    def __init__(self, sender: MarkerSender, index: int, work: EndMarkers, epoch: int) -> None:
        self._sender = sender
        self._index = index
        self._work = work
        self._pause = FIRST_RETRY_S
        self._looks = 0
        self._fenced = False
        self._marker = Marker(
            work.producer_id, work.producer_epoch, work.committed, epoch, work.transaction_version
        )

    def _is_over(self) -> bool:
        """Whether the coordinator is another one by now: it sends its own markers, and these may
        hit the producer's next transaction."""
        epoch = self._sender.node.transactions.leader_epoch(self._index)
        return self._fenced or epoch != self._marker.coordinator_epoch

    def attempt(self, partitions: list[TopicPartition]) -> None:
        """Send to the present leaders; partitions that are gone from the cluster need no marker."""
        if self._is_over():
            return
        node = self._sender.node
        view = node.metadata.view
        # A broker that has just begun leads before it hears of any topic, its coordinator's too.
        told = node.transactions.topic in view.topics
        self._looks += told
        certain = told and (not self._work.resumed or self._looks >= PATIENCE)
        leaders: dict[int, list[TopicPartition]] = {}
        gone: list[TopicPartition] = []
        for key in partitions:
            info = view.partition(*key)
            if info is None:
                gone.append(key)
            else:
                leaders.setdefault(info.leader, []).append(key)
        if gone and not certain:
            self._again(gone)
        elif gone or not partitions:
            self._written(gone)
        for broker_id, keys in sorted(leaders.items()):
            if broker_id == NO_LEADER:
                self._again(keys)
            else:
                self._sender.leaders.send_markers(
                    broker_id, self._marker, keys, self._answered, self._is_over
                )

    def _answered(self, results: Results) -> None:
        if self._is_over():
            return
        written = [key for key, code in results.items() if not code or code in NEEDLESS]
        if written:
            self._written(written)
        for (topic, partition), code in results.items():
            if code in FENCED:
                self._fenced = True
                log.warning(
                    "%s: the end of its transaction is left to whoever fenced it at %s-%d (%s)",
                    self._work.transactional_id,
                    topic,
                    partition,
                    code.name,
                )
                return
        again = [key for key in results if key not in written]
        if again:
            self._again(again)

    def _again(self, partitions: list[TopicPartition]) -> None:
        log.info(
            "%s: markers for %d partitions are sent again in %d ms",
            self._work.transactional_id,
            len(partitions),
            self._pause * 1000,
        )
        self._sender.later(self._pause, lambda: self.attempt(partitions))
        self._pause = min(2 * self._pause, LAST_RETRY_S)

    def _written(self, partitions: list[TopicPartition]) -> None:
        work = self._work
        producer = (work.producer_id, work.producer_epoch)
        coordinator = self._sender.node.transactions
        coordinator.feed(
            self._index,
            lambda machine, now_ms: machine.markers_written(
                work.transactional_id, producer, partitions, now_ms
            ),
        )
        machine = coordinator.find_at(self._index)
        if not isinstance(machine, ErrorCode) and machine.awaits_completion(
            work.transactional_id, producer
        ):
            self._again([])  # the record was not taken
