"""Whether a partition may take a batch of a transaction (KIP-890).

The partition's leader asks the coordinator before the first batch of a transaction: with older
clients whether the partition was added, with transactions of version 2 to add it now. What follows
is taken as long as the log knows of the open transaction.
"""

import asyncio
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Any

from broker.cluster.view import INTERNAL_TOPICS, NO_LEADER
from broker.transactions.state import TopicPartition
from broker.waiting import then
from protocol.batch import HEADER_SIZE, TRANSACTIONAL
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.context import Node
    from broker.partition import Partition
    from protocol.produce_wire import PartitionResult
    from storage.log import Log
    from storage.producers import ProducerEntry, Verification

ADDED_BY_CLIENT, ADDED_HERE = 0, 2
"""Versions of transactions: whether the client names its partitions to the coordinator."""


def ask_coordinator(
    node: "Node",
    transactional_id: str,
    producer: tuple[int, int],
    partitions: list[TopicPartition],
    *,
    add: bool,
    again: Callable[[], None] | None = None,
) -> Any:
    """An `ErrorCode` for each partition: NONE where it belongs to the transaction of `producer`
    (id, epoch). The list, or a `broker.dispatch.Parked` that will have it. The coordinator may be
    on another broker: NETWORK_EXCEPTION where that one does not answer.

    With `add` partitions that do not belong to it join it; and while the transaction before is
    ending, the coordinator is asked again for add.partitions.to.txn.retry.backoff.max.ms, `again()`
    being called before: markers have ended the verifications that were begun. Otherwise
    TRANSACTION_ABORTABLE is the answer for those.
    """
    if not transactional_id:
        return [ErrorCode.INVALID_REQUEST] * len(partitions)

    def ask() -> Any:
        broker_id = node.transactions.broker_of(transactional_id)
        if broker_id == NO_LEADER:
            return [ErrorCode.COORDINATOR_NOT_AVAILABLE] * len(partitions)
        if broker_id != node.broker_id:
            link = node.transaction_link
            return link.ask(broker_id, transactional_id, producer, partitions, add=add)
        if not add:
            return node.transactions.read(
                transactional_id,
                lambda machine: machine.verify(transactional_id, producer, partitions),
                lambda code: [code] * len(partitions),
            )
        result = node.transactions.write(
            transactional_id,
            lambda machine, who, now_ms: machine.add_partitions(
                who, now_ms, transactional_id, producer, partitions, ADDED_HERE
            ),
            lambda code: code,
        )
        return then(result, lambda code: [code] * len(partitions))

    def ask_again() -> Any:
        if again is not None:
            again()
        return ask()

    if not add:
        return ask()
    config = node.config
    pause_s = config.add_partitions_to_txn_retry_backoff_ms / 1000
    most_s = min(config.add_partitions_to_txn_retry_backoff_max_ms, config.request_timeout_ms)
    result = ask()
    if _must_wait(result) and most_s > 0:
        return _Asking(ask_again, result, pause_s, most_s / 1000)
    return result


def _must_wait(result: Any) -> bool:
    return not isinstance(result, list) or ErrorCode.CONCURRENT_TRANSACTIONS in result


FIRST_PAUSE_S = 0.001
"""Most transactions end within a few turns of the loop."""


class _Asking:
    """A `broker.dispatch.Parked` that asks again while the transaction before is ending: soon at
    first, then every `pause_s` seconds."""

    def __init__(self, ask: Callable[[], Any], result: Any, pause_s: float, most_s: float) -> None:
        self._ask = ask
        self._result = result
        self._pause_s = min(FIRST_PAUSE_S, pause_s)
        self._longest_s = pause_s
        self._until = asyncio.get_running_loop().time() + most_s
        self._timer: asyncio.TimerHandle | None = None
        self._resume: Callable[[Any], None] | None = None

    def start(self, resume: Callable[[Any], None]) -> None:
        self._resume = resume
        self._look(self._result)

    def _look(self, result: Any) -> None:
        """Take an answer, or wait for it."""
        if not isinstance(result, list):
            self._result = result
            result.start(self._look)
            return
        loop = asyncio.get_running_loop()
        if ErrorCode.CONCURRENT_TRANSACTIONS in result and loop.time() < self._until:
            self._timer = loop.call_later(self._pause_s, self._again)
            self._pause_s = min(2 * self._pause_s, self._longest_s)
        elif self._resume is not None:
            self._resume(result)

    def _again(self) -> None:
        self._timer = None
        self._look(self._ask())

    def cancel(self) -> None:
        """The client is gone."""
        self._resume = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not isinstance(self._result, list):
            self._result.cancel()


# --- the batches of a Produce request

_PRODUCER = Struct(">qhi")
_PRODUCER_AT = 43
_ATTRIBUTES_AT = 22  # the low byte

ADDED_HERE_SINCE = 12
"""Produce versions from here on add their partitions."""
ABORTABLE_SINCE = 11
"""Produce versions from here on know TRANSACTION_ABORTABLE."""

COME_AGAIN = (
    ErrorCode.NETWORK_EXCEPTION,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
)
"""What the coordinator could not say: told as NOT_ENOUGH_REPLICAS, with which every producer sends
its batch again without looking for other leaders."""
NOT_ADDED = "Partition was not added to the transaction"
NOT_VERIFIED = (
    "Unable to verify the partition has been added to the transaction. Underlying error: {}"
)
TWO_PRODUCERS = "Transactional records contained more than one producer ID"


class HeldBatch:
    """One partition's records of a transactional request, not appended yet."""

    __slots__ = ("index", "partition", "producer", "records", "result", "topic", "verification")

    def __init__(
        self,
        topic: str,
        index: int,
        partition: "Partition | None",
        records: memoryview,
        result: "PartitionResult",
    ) -> None:
        self.topic = topic
        self.index = index
        self.partition = partition
        self.records = records
        self.result = result
        self.verification: Verification | None = None
        # (id, epoch, first sequence) if the batch belongs to a transaction.
        self.producer: tuple[int, int, int] | None = None
        if len(records) >= HEADER_SIZE and records[_ATTRIBUTES_AT] & TRANSACTIONAL:
            producer = _PRODUCER.unpack_from(records, _PRODUCER_AT)
            if producer[0] >= 0:
                self.producer = producer

    @property
    def log(self) -> "Log | None":
        """Where it would go, if this broker leads the partition."""
        partition = self.partition
        return None if partition is None or not partition.is_leader else partition.log


class ProduceVerification:
    """What one transactional Produce request has to ask before its batches are appended."""

    def __init__(self, node: "Node", transactional_id: str, version: int) -> None:
        self._node = node
        self._transactional_id = transactional_id
        self._version = version
        self._adds = version >= ADDED_HERE_SINCE
        self._checks = self._adds or node.config.transaction_partition_verification_enable
        self.held: list[HeldBatch] = []
        self.unverified: list[HeldBatch] = []

    def hold(
        self,
        topic: str,
        index: int,
        partition: "Partition | None",
        records: memoryview,
        result: "PartitionResult",
    ) -> None:
        """Keep records that are well formed; `partition` is None where it is not hosted here."""
        self.held.append(HeldBatch(topic, index, partition, records, result))

    def begin(self) -> None:
        """All batches are held: `unverified` are those that the coordinator must be asked about.

        Batches of several producers in one request are refused, INVALID_PRODUCER_ID_MAPPING.
        """
        producers = {held.producer[:2] for held in self.held if held.producer is not None}
        if len(producers) > 1:
            for held in self.held:
                held.result.error_code = int(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
                held.result.error_message = TWO_PRODUCERS
            self.held.clear()
        elif self._checks and producers:
            self.unverified = [held for held in self.held if self._needs_asking(held)]
            self._begin()

    def _needs_asking(self, held: HeldBatch) -> bool:
        log = held.log
        if held.producer is None or log is None:
            return False
        producer_id, epoch, _ = held.producer
        states = log.producers
        if states.has_ongoing_transaction(producer_id, epoch):
            return False
        if self._adds:
            # Clients do not write to the broker's own topics, and these join no transaction.
            return held.topic not in INTERNAL_TOPICS
        return not _is_fenced(states.get(producer_id), epoch)

    def _begin(self) -> None:
        """Before each question: see `storage.producers.Verification`."""
        now_ms = self._node.clock.now_ms()
        for held in self.unverified:
            log = held.log
            if log is not None and held.producer is not None:
                producer_id, epoch, sequence = held.producer
                held.verification = log.producers.begin_verification(
                    producer_id, epoch, sequence, now_ms, from_zero=self._adds
                )

    def ask(self) -> Any:
        """None when the answer is here and taken; else the `Parked` whose answer goes to `take`.

        The records of one that waits are copies: the frame may go.
        """
        first = self.unverified[0].producer
        assert first is not None
        result = ask_coordinator(
            self._node,
            self._transactional_id,
            first[:2],
            [(held.topic, held.index) for held in self.unverified],
            add=self._adds,
            again=self._begin,
        )
        if isinstance(result, list):
            self.take(result)
            return None
        for held in self.held:
            held.records = memoryview(bytearray(held.records))
        return result

    def take(self, codes: list[ErrorCode]) -> None:
        """The coordinator's answer: batches that it does not vouch for are refused."""
        for held, code in zip(self.unverified, codes, strict=True):
            if code != ErrorCode.NONE:
                self._refuse(held.result, code)
        self.unverified = []

    def _refuse(self, result: "PartitionResult", code: ErrorCode) -> None:
        if code in COME_AGAIN or (code == ErrorCode.CONCURRENT_TRANSACTIONS and not self._adds):
            result.error_message = NOT_VERIFIED.format(code.name)
            code = ErrorCode.NOT_ENOUGH_REPLICAS
        elif code == ErrorCode.PRODUCER_FENCED:
            code = ErrorCode.INVALID_PRODUCER_EPOCH
        elif code == ErrorCode.TRANSACTION_ABORTABLE and self._version < ABORTABLE_SINCE:
            result.error_message = NOT_ADDED
            code = ErrorCode.INVALID_TXN_STATE
        result.error_code = int(code)

    def vouched(self, held: HeldBatch) -> bool:
        """Whether the batch may be appended now: its transaction is open in the log, or the
        coordinator has vouched for it and no marker has come since."""
        log = held.log
        if held.producer is None or log is None or not self._checks:
            return True
        producer_id, epoch, _ = held.producer
        states = log.producers
        if states.has_ongoing_transaction(producer_id, epoch):
            return True
        if held.verification is None:
            return _is_fenced(states.get(producer_id), epoch)
        return states.is_verified(producer_id, held.verification)


def _is_fenced(entry: "ProducerEntry | None", epoch: int) -> bool:
    """Whether the log itself refuses the batch: the transaction there is of a later epoch."""
    return entry is not None and entry.txn_first_offset >= 0 and epoch < entry.epoch
