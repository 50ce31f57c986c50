"""The machine on one partition of __transaction_state: which producer owns a transactional id, and
where its transaction stands (KIP-98, KIP-360, KIP-890).

    Empty, Complete* --add partitions--> Ongoing --end, time-out, fence--> Prepare* --all markers
    written--> Complete*

Each arrow is one record. With transactions of version 2 every end raises the producer's epoch, and
an id without epochs left is replaced; a transaction that ends without partitions is one too. A
producer that is fenced (a second InitProducerId, a time-out) has its transaction aborted under a
raised epoch. Time-outs come when they are due: the intervals at which Apache Kafka looks for them
are not used.
"""

from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import replace
from typing import Any, Final, NamedTuple, Protocol

from broker.coordinator import NOTHING, Outcome, StoredRecord, Waiting
from broker.transactions.state import (
    COMPLETE,
    IDLE,
    LAST_EPOCH,
    NO_EPOCH,
    NO_PRODUCER_ID,
    NO_TIME,
    PREPARING,
    State,
    TopicPartition,
    Transaction,
    decode,
    decode_id,
    encode,
    tombstone,
)
from protocol.errors import ErrorCode

EPOCH_BUMP: Final = 2
"""Transactions from this version on have an epoch each (KIP-890)."""
TIMEOUT, EXPIRY = "timeout", "expiry"
"""Purposes of timers; their keys are (purpose, transactional id)."""
RETRY_MS: Final = 1000
"""Before what a timer was to bring about is tried again, should it have failed: no producer id was
at hand, or the record was not taken."""


class Answer(NamedTuple):
    """To InitProducerId and EndTxn."""

    error: ErrorCode
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_EPOCH


class Timers(Protocol):
    """The shell's (`broker.timers.Timers`), or a test's."""

    def set(self, key: Hashable, at_ms: int) -> None: ...

    def cancel(self, key: Hashable) -> None: ...


class TransactionMachine:
    """A `broker.coordinator.Machine`.

    `level()` is the finalized level of transaction.version; `new_id()` a producer id that nobody
    has, or None while none is at hand; `expiration_ms` how long an idle id is remembered.
    """

    def __init__(
        self,
        index: int,
        timers: Timers,
        expiration_ms: int,
        level: Callable[[], int],
        new_id: Callable[[], int | None],
    ) -> None:
        self.index = index
        self.transactions: dict[str, Transaction] = {}
        self._timers = timers
        self._expiration_ms = expiration_ms
        self._level = level
        self._new_id = new_id
        self._live = False
        # What the record just decided stands for, so that its replay need not read it.
        self._decided: tuple[StoredRecord, Transaction] | None = None

    # --- records

    def replay(
        self, key: bytes, value: bytes | None, producer_id: int, producer_epoch: int, offset: int
    ) -> None:
        """One record: the whole state of a transactional id."""
        decided, self._decided = self._decided, None
        if decided is not None and decided[0].value is value:
            self._take(decided[1])
            return
        transactional_id = decode_id(key)
        if transactional_id is None:
            return
        if value is None:
            self.transactions.pop(transactional_id, None)
            for purpose in (TIMEOUT, EXPIRY):
                self._timers.cancel((purpose, transactional_id))
        else:
            self._take(decode(transactional_id, value))

    def _take(self, transaction: Transaction) -> None:
        self.transactions[transaction.transactional_id] = transaction
        if self._live:
            self._watch(transaction)

    def replay_end(self, producer_id: int, producer_epoch: int, committed: bool) -> None:
        """Nothing here is written in transactions."""

    def loaded(self, now_ms: int) -> Outcome:
        """Arm the timers, and go on with the ends that are under way."""
        self._live = True
        work = []
        for _, transaction in sorted(self.transactions.items()):
            self._watch(transaction)
            if transaction.state in PREPARING:
                work.append(transaction.markers(resumed=True))
        return Outcome(work=work)

    def _watch(self, transaction: Transaction) -> None:
        """Timers are left behind rather than cancelled: most transactions end before theirs, and
        the next one only pushes it back."""
        if transaction.state == State.ONGOING:
            at_ms = transaction.start_ms + transaction.timeout_ms
            self._timers.set((TIMEOUT, transaction.transactional_id), at_ms)
        elif transaction.state in IDLE:
            at_ms = transaction.last_update_ms + self._expiration_ms
            self._timers.set((EXPIRY, transaction.transactional_id), at_ms)

    def _write(
        self, transaction: Transaction, replies: Iterable[tuple[Waiting, Any]] = ()
    ) -> Outcome:
        record = encode(transaction, min(self._level(), 1))
        self._decided = (record, transaction)
        work = (transaction.markers(),) if transaction.state in PREPARING else ()
        return Outcome((record,), tuple(replies), work=work)

    # --- InitProducerId

    def init_producer_id(
        self,
        who: Waiting,
        now_ms: int,
        transactional_id: str,
        timeout_ms: int,
        expected: tuple[int, int] | None,
    ) -> Outcome:
        """The id and epoch of a producer that begins (`Answer`).

        `expected` is the (id, epoch) of one that goes on after an error (KIP-360). An ongoing
        transaction is aborted first, and the producer has to ask again.
        """
        found = self.transactions.get(transactional_id)
        if found is None:
            producer_id = self._new_id()
            if producer_id is None:
                return _refuse(who, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
            found = Transaction(transactional_id, producer_id)
        elif found.state in PREPARING:
            return _refuse(who, ErrorCode.CONCURRENT_TRANSACTIONS)
        elif expected is not None and not _belongs(found, expected):
            return _refuse(who, ErrorCode.PRODUCER_FENCED)
        if found.state == State.ONGOING:
            return self._fence(found, now_ms, who)
        known = None if expected is None or found.producer_epoch == NO_EPOCH else expected[1]
        following = self._following_epoch(found, known)
        if isinstance(following, ErrorCode):
            return _refuse(who, following)
        granted = replace(
            following,
            timeout_ms=timeout_ms,
            state=State.EMPTY,
            partitions=frozenset(),
            start_ms=NO_TIME,
            last_update_ms=now_ms,
            previous_producer_id=found.producer_id,
        )
        return self._write(granted, ((who, Answer(ErrorCode.NONE, *granted.granted)),))

    def _following_epoch(self, found: Transaction, known: int | None) -> Transaction | ErrorCode:
        """With the epoch that a producer gets which knows of epoch `known` (None: of none)."""
        if known is not None and known not in (found.producer_epoch, found.last_producer_epoch):
            return ErrorCode.PRODUCER_FENCED
        if known is not None and known != found.producer_epoch:
            return found  # sent again: what it asked for has happened
        last = NO_EPOCH if known is None else known
        if not found.exhausted:
            epoch = found.producer_epoch + 1
            return replace(found, producer_epoch=epoch, last_producer_epoch=last)
        producer_id = self._new_id()
        if producer_id is None:
            return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        return replace(found, producer_id=producer_id, producer_epoch=0, last_producer_epoch=last)

    # --- partitions

    def add_partitions(
        self,
        who: Waiting,
        now_ms: int,
        transactional_id: str,
        producer: tuple[int, int],
        partitions: Collection[TopicPartition],
        client_version: int,
    ) -> Outcome:
        """Partitions join the transaction of `producer` (id, epoch), and begin it if there is none
        (`ErrorCode`)."""
        ending = self.transactions.get(transactional_id)
        if client_version >= EPOCH_BUMP and ending is not None and ending.state in PREPARING:
            # Whoever asks: the owner may have been told of its next epoch already, or not yet.
            return Outcome(replies=((who, ErrorCode.CONCURRENT_TRANSACTIONS),))
        found = self._owned(transactional_id, producer)
        if isinstance(found, ErrorCode):
            return Outcome(replies=((who, found),))
        ongoing = found.state == State.ONGOING
        if ongoing and found.partitions.issuperset(partitions):
            return Outcome(replies=((who, ErrorCode.NONE),), behind=True)
        joined = replace(
            found,
            state=State.ONGOING,
            partitions=found.partitions.union(partitions),
            start_ms=found.start_ms if ongoing else now_ms,
            last_update_ms=now_ms,
            previous_producer_id=found.producer_id,
            client_version=client_version if self._level() else 0,
        )
        return self._write(joined, ((who, ErrorCode.NONE),))

    def verify(
        self,
        transactional_id: str,
        producer: tuple[int, int],
        partitions: Collection[TopicPartition],
    ) -> list[ErrorCode]:
        """Whether each partition is in the transaction of `producer` (KIP-890)."""
        found = self._owned(transactional_id, producer)
        if isinstance(found, ErrorCode):
            return [found] * len(partitions)
        return [
            ErrorCode.NONE if one in found.partitions else ErrorCode.TRANSACTION_ABORTABLE
            for one in partitions
        ]

    def _owned(self, transactional_id: str, producer: tuple[int, int]) -> Transaction | ErrorCode:
        """The transaction, if it is this producer's and not about to end."""
        found = self.transactions.get(transactional_id)
        if found is None or found.producer_id != producer[0]:
            return ErrorCode.INVALID_PRODUCER_ID_MAPPING
        if found.producer_epoch != producer[1]:
            return ErrorCode.PRODUCER_FENCED
        if found.state in PREPARING:
            return ErrorCode.CONCURRENT_TRANSACTIONS
        return found

    # --- the end

    def end(
        self,
        who: Waiting,
        now_ms: int,
        transactional_id: str,
        producer: tuple[int, int],
        committed: bool,
        client_version: int,
    ) -> Outcome:
        """Commit or abort the transaction of `producer` (`Answer`)."""
        found = self.transactions.get(transactional_id)
        if found is None:
            return _refuse(who, ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        look = _end_by_epochs if client_version >= EPOCH_BUMP else _end_in_one_epoch
        code = look(found, producer, committed)
        if code is None:
            return self._prepare(found, now_ms, committed, client_version, who)
        if code == ErrorCode.NONE:
            return Outcome(replies=((who, Answer(code, *found.granted)),), behind=True)
        return _refuse(who, code)

    def _prepare(
        self,
        found: Transaction,
        now_ms: int,
        committed: bool,
        client_version: int,
        who: Waiting,
    ) -> Outcome:
        ended = self._ended(found, now_ms, committed, client_version)
        if ended is None:
            return _refuse(who, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        return self._write(ended, ((who, Answer(ErrorCode.NONE, *ended.granted)),))

    def _ended(
        self, found: Transaction, now_ms: int, committed: bool, client_version: int
    ) -> Transaction | None:
        """Prepared to end; None while the new producer id that this takes is not at hand."""
        epoch, last = found.producer_epoch, found.last_producer_epoch
        next_id = NO_PRODUCER_ID
        if client_version >= EPOCH_BUMP:
            if found.exhausted:
                taken = self._new_id()
                if taken is None:
                    return None
                next_id = taken
            epoch, last = epoch + 1, epoch
        return replace(
            found,
            state=State.PREPARE_COMMIT if committed else State.PREPARE_ABORT,
            producer_epoch=epoch,
            last_producer_epoch=last,
            start_ms=found.start_ms if found.state == State.ONGOING else now_ms,
            last_update_ms=now_ms,
            previous_producer_id=found.producer_id,
            next_producer_id=next_id,
            client_version=client_version if self._level() else 0,
        )

    def _fence(self, found: Transaction, now_ms: int, who: Waiting | None = None) -> Outcome:
        """Abort an ongoing transaction under a raised epoch, which nobody is told."""
        level = self._level()
        if level >= EPOCH_BUMP:
            fenced = self._ended(found, now_ms, False, level)
        else:
            epoch = found.producer_epoch + 1
            raised = replace(found, producer_epoch=epoch, last_producer_epoch=NO_EPOCH)
            fenced = self._ended(raised, now_ms, False, 0)
        if fenced is None:
            load = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
            return NOTHING if who is None else _refuse(who, load)
        again = Answer(ErrorCode.CONCURRENT_TRANSACTIONS)
        return self._write(fenced, () if who is None else ((who, again),))

    def markers_written(
        self,
        transactional_id: str,
        producer: tuple[int, int],
        partitions: Iterable[TopicPartition],
        now_ms: int,
    ) -> Outcome:
        """These partitions of an ending transaction have their marker, or need none; after the last
        one the transaction is complete."""
        found = self.transactions.get(transactional_id)
        if (
            found is None
            or found.state not in PREPARING
            or (found.producer_id, found.producer_epoch) != producer
        ):
            return NOTHING
        found.partitions = found.partitions.difference(partitions)
        if found.partitions:
            return NOTHING
        producer_id, epoch = found.granted
        done = State.COMPLETE_COMMIT if found.committed else State.COMPLETE_ABORT
        return self._write(
            replace(
                found,
                state=done,
                producer_id=producer_id,
                producer_epoch=epoch,
                previous_producer_id=found.producer_id,
                next_producer_id=NO_PRODUCER_ID,
                last_update_ms=now_ms,
            )
        )

    def awaits_completion(self, transactional_id: str, producer: tuple[int, int]) -> bool:
        """Whether all markers are written but the record that says so is not: `markers_written`
        has to be told again."""
        found = self.transactions.get(transactional_id)
        return (
            found is not None
            and found.state in PREPARING
            and (found.producer_id, found.producer_epoch) == producer
            and not found.partitions
        )

    # --- timers

    def expired(self, timer: Any, now_ms: int) -> Outcome:
        """A transaction's time is over, or an idle id's."""
        purpose, transactional_id = timer
        found = self.transactions.get(transactional_id)
        due = (State.ONGOING,) if purpose == TIMEOUT else IDLE
        if found is None or found.state not in due:
            return NOTHING
        self._timers.set(timer, now_ms + RETRY_MS)
        if purpose == TIMEOUT:
            return self._fence(found, now_ms)
        return Outcome((tombstone(transactional_id),))


def _refuse(who: Waiting, code: ErrorCode) -> Outcome:
    return Outcome(replies=((who, Answer(code)),))


def _belongs(found: Transaction, expected: tuple[int, int]) -> bool:
    """Whether a producer that knows this (id, epoch) may be the owner. A former id is when it came
    to its end: the answer with the new one was lost."""
    producer_id, epoch = expected
    return producer_id == found.producer_id or (
        producer_id == found.previous_producer_id and epoch >= LAST_EPOCH
    )


def _same_end(found: Transaction, committed: bool) -> ErrorCode:
    """For a transaction that has ended already."""
    same = found.committed == committed
    return ErrorCode.NONE if same else ErrorCode.INVALID_TXN_STATE


def _end_in_one_epoch(
    found: Transaction, producer: tuple[int, int], committed: bool
) -> ErrorCode | None:
    """Whether a producer without transactions of version 2 may end its transaction now; None if it
    may."""
    if producer[0] != found.producer_id:
        return ErrorCode.INVALID_PRODUCER_ID_MAPPING
    if producer[1] != found.producer_epoch:
        return ErrorCode.PRODUCER_FENCED
    if found.state in PREPARING:
        return ErrorCode.CONCURRENT_TRANSACTIONS
    if found.state in COMPLETE:
        return _same_end(found, committed)
    return ErrorCode.INVALID_TXN_STATE if found.state == State.EMPTY else None


def _end_by_epochs(
    found: Transaction, producer: tuple[int, int], committed: bool
) -> ErrorCode | None:
    """The same with transactions of version 2: the epoch before the present one tells that the
    request is sent again, the present one that it is new."""
    if found.state in PREPARING:
        return ErrorCode.CONCURRENT_TRANSACTIONS
    producer_id, epoch = producer
    if producer_id == found.producer_id:
        again = epoch + 1 == found.producer_epoch
    elif producer == (found.previous_producer_id, LAST_EPOCH) and found.producer_epoch == 0:
        again = True  # its last epoch: the present id is that of the lost answer
    else:
        return ErrorCode.INVALID_PRODUCER_ID_MAPPING
    if again and found.state in COMPLETE:
        return _same_end(found, committed)
    if again or epoch != found.producer_epoch:
        return ErrorCode.PRODUCER_FENCED
    if committed and found.state != State.ONGOING:
        return ErrorCode.INVALID_TXN_STATE
    return None
