"""What a partition log knows about its idempotent and transactional producers.

Pure: no files, no clock. The log feeds it every batch that carries a producer id (while staging,
replicating or recovering) and asks it three things: is this batch a duplicate or out of order
(KIP-98, KIP-360), where does the oldest transaction that a read_committed reader may not pass
begin, and which bytes does a producer snapshot hold. It also remembers the producers whose first
batch of a transaction waits for the transaction coordinator (KIP-890).

A producer's entry keeps its last five batches, because a client may have five requests in flight
and any of them may be sent again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final, Literal, NamedTuple

from protocol.batch import BatchHeader
from protocol.crc import crc32c
from storage.errors import (
    CoordinatorFenced,
    InvalidProducerEpoch,
    InvalidTxnState,
    OutOfOrderSequence,
    StorageError,
)

Origin = Literal["client", "coordinator", "replication"]

NO_OFFSET: Final = -1
NO_SEQUENCE: Final = -1
MAX_SEQUENCE: Final = 0x7FFFFFFF
BATCHES_KEPT: Final = 5
DEFAULT_EXPIRATION_MS: Final = 86_400_000

SNAPSHOT_VERSION: Final = 1
_SNAPSHOT_HEAD = Struct(">hIi")  # version, CRC-32C of everything after it, entry count
_SNAPSHOT_ENTRY = Struct(">qhiqiqiq")
_CRC_END: Final = 6

_TRANSACTIONAL: Final = 0x10

_new = tuple.__new__


class CorruptSnapshot(StorageError):
    """A producer snapshot whose version, length or CRC is wrong. It is thrown away and rebuilt."""


class KeptBatch(NamedTuple):
    """One of a producer's last batches, enough to recognise it when it is sent again."""

    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp: int

    @property
    def first_sequence(self) -> int:
        """Sequence of the first record; sequences wrap from 2^31-1 to 0."""
        return (self.last_sequence - self.offset_delta) & MAX_SEQUENCE

    @property
    def base_offset(self) -> int:
        """Offset the first record got."""
        return self.last_offset - self.offset_delta


class CompletedTxn(NamedTuple):
    """A transaction that a marker just ended, with what the transaction index needs of it."""

    producer_id: int
    first_offset: int
    last_offset: int  # of the marker
    aborted: bool
    last_stable_offset: int  # last stable offset once this transaction is through


class ProducerEntry:
    """State of one producer id in one partition."""

    __slots__ = (
        "batches",
        "coordinator_epoch",
        "epoch",
        "last_timestamp",
        "next_sequence",
        "producer_id",
        "txn_first_offset",
    )

    def __init__(self, producer_id: int, epoch: int) -> None:
        self.producer_id = producer_id
        self.epoch = epoch
        self.coordinator_epoch = -1
        self.last_timestamp = -1
        self.txn_first_offset = NO_OFFSET  # of the transaction in progress
        self.next_sequence = 0
        self.batches: list[KeptBatch] = []  # oldest first, at most BATCHES_KEPT

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record appended in this epoch, -1 if none."""
        return self.batches[-1].last_sequence if self.batches else NO_SEQUENCE

    @property
    def last_offset(self) -> int:
        """Offset of the last data record known, -1 if none."""
        return self.batches[-1].last_offset if self.batches else NO_OFFSET

    def duplicate_of(self, epoch: int, first_sequence: int, last_sequence: int) -> KeptBatch | None:
        """The kept batch that covers exactly these sequences in this epoch."""
        if epoch != self.epoch:
            return None
        for batch in self.batches:
            if batch.last_sequence == last_sequence and batch.first_sequence == first_sequence:
                return batch
        return None

    def move_to_epoch(self, epoch: int) -> None:
        """A new epoch starts its sequences over; batches of the old one are no duplicates."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.batches = []
            self.next_sequence = 0


class Verification:
    """A producer's first batch of a transaction here, while the coordinator is asked whether the
    partition belongs to it (KIP-890).

    Holds as long as it is the one that `ProducerStates` has: an append that begins the transaction
    ends it, and so does a marker, so that no answer from before a marker opens a transaction after
    it. One that failed stays: sequences above its lowest must not come first.
    """

    __slots__ = ("began_ms", "epoch", "from_zero", "lowest_sequence")

    def __init__(self, epoch: int, sequence: int, now_ms: int, *, from_zero: bool) -> None:
        self.epoch = epoch
        self.lowest_sequence = sequence
        self.began_ms = now_ms
        self.from_zero = from_zero  # transactions of version 2: a new producer begins with 0


class ProducerStates:
    """All producers of one partition log (Kafka's ProducerStateManager, without its files).

    Appends must come in offset order. `map_end_offset` is the offset after the last batch seen
    (also batches without a producer id, when the log tells by setting it); a snapshot taken now
    is named after it. `first_unstable_offset` is None when no transaction holds readers back.
    """

    __slots__ = (
        "_entries",
        "_ongoing",
        "_unreplicated",
        "_verifying",
        "expiration_ms",
        "first_unstable_offset",
        "map_end_offset",
    )

    def __init__(self, expiration_ms: int = DEFAULT_EXPIRATION_MS) -> None:
        self.expiration_ms = expiration_ms
        self._entries: dict[int, ProducerEntry] = {}
        # First offset -> producer id. Transactions begin at the log end, so insertion order is
        # offset order and the first key is the smallest.
        self._ongoing: dict[int, int] = {}
        # Ended by a marker that is not yet below the high watermark: first offset -> marker offset.
        self._unreplicated: dict[int, int] = {}
        self._verifying: dict[int, Verification] = {}
        self.first_unstable_offset: int | None = None
        self.map_end_offset = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, producer_id: int) -> bool:
        return producer_id in self._entries

    def entries(self) -> Iterator[ProducerEntry]:
        """Every producer known, oldest first (DescribeProducers)."""
        return iter(self._entries.values())

    def get(self, producer_id: int) -> ProducerEntry | None:
        """The entry of one producer id."""
        return self._entries.get(producer_id)

    def has_ongoing_transaction(self, producer_id: int, epoch: int) -> bool:
        """Whether this producer, in this epoch, has a transaction open here (KIP-890)."""
        entry = self._entries.get(producer_id)
        return entry is not None and entry.txn_first_offset >= 0 and entry.epoch == epoch

    def begin_verification(
        self, producer_id: int, epoch: int, sequence: int, now_ms: int, *, from_zero: bool
    ) -> Verification:
        """What a batch that begins a transaction must hold when it is appended (`is_verified`).

        `sequence` is the batch's first. `from_zero`: the producer may not begin with another.
        """
        found = self._verifying.get(producer_id)
        if found is None:
            found = Verification(epoch, sequence, now_ms, from_zero=from_zero)
            self._verifying[producer_id] = found
        elif epoch > found.epoch:
            found.epoch = epoch
            found.lowest_sequence = sequence
        elif epoch == found.epoch:
            found.lowest_sequence = min(found.lowest_sequence, sequence)
        return found

    def go_on_verifying(self, before: ProducerStates) -> None:
        """This log takes the place of another with the same records: what was being verified
        there is so here."""
        self._verifying = before._verifying

    def is_verified(self, producer_id: int, verification: Verification | None) -> bool:
        """Whether nothing has ended this verification since it was begun."""
        return verification is not None and self._verifying.get(producer_id) is verification

    @property
    def first_undecided_offset(self) -> int | None:
        """First offset of the oldest transaction without a marker; compaction stops there."""
        for offset in self._ongoing:
            return offset
        return None

    def check_and_append(
        self, header: BatchHeader, base_offset: int, origin: Origin = "client"
    ) -> KeptBatch | None:
        """Checks one data batch of a producer id and remembers it as appended at `base_offset`.

        Returns None when it is new, the earlier batch when it is a duplicate (then nothing
        changed; answer with its `base_offset`, and its `timestamp` as append time as Kafka does).
        Only batches from a client are looked at for duplicates and sequence gaps.

        Raises InvalidProducerEpoch (47), OutOfOrderSequence (45) or InvalidTxnState (48), and
        then nothing changed. From "replication" nothing but InvalidTxnState is refused: what the
        leader took is taken.
        """
        producer_id = header.producer_id
        sequence = header.base_sequence
        epoch = header.producer_epoch
        transactional = header.attributes & _TRANSACTIONAL
        entry = self._entries.get(producer_id)
        if entry is None:
            # A new (or forgotten) producer id may start anywhere, KIP-360.
            if origin == "client" and producer_id in self._verifying:
                self._check_first(producer_id, sequence, base_offset)
            entry = self._entries[producer_id] = ProducerEntry(producer_id, epoch)
        elif (
            sequence != entry.next_sequence
            or epoch != entry.epoch
            or (entry.txn_first_offset >= 0 and not transactional)
        ):
            duplicate = self._check(entry, header, base_offset, origin)
            if duplicate is not None:
                return duplicate
            entry.move_to_epoch(epoch)
        delta = header.last_offset_delta
        last_offset = base_offset + delta
        last_sequence = sequence + delta if sequence >= 0 else NO_SEQUENCE
        if last_sequence >= MAX_SEQUENCE:
            if last_sequence > MAX_SEQUENCE:
                last_sequence -= MAX_SEQUENCE + 1
                entry.next_sequence = last_sequence + 1
            else:
                entry.next_sequence = 0
        else:
            entry.next_sequence = last_sequence + 1
        timestamp = entry.last_timestamp = header.max_timestamp
        batches = entry.batches
        if len(batches) == BATCHES_KEPT:
            del batches[0]
        batches.append(_new(KeptBatch, (last_sequence, last_offset, delta, timestamp)))
        if transactional and entry.txn_first_offset < 0:
            self._begin(entry, base_offset)
        self.map_end_offset = last_offset + 1
        return None

    def _check(
        self, entry: ProducerEntry, header: BatchHeader, base_offset: int, origin: Origin
    ) -> KeptBatch | None:
        """Everything that is not simply the next batch of the same epoch."""
        sequence = header.base_sequence
        epoch = header.producer_epoch
        if origin == "client":
            last = (sequence + header.last_offset_delta) & MAX_SEQUENCE
            duplicate = entry.duplicate_of(epoch, sequence, last)
            if duplicate is not None:
                return duplicate
        self._check_epoch(entry, epoch, base_offset, origin)
        if origin == "client":
            _check_sequence(entry, epoch, sequence, base_offset)
        if entry.txn_first_offset >= 0 and not header.attributes & _TRANSACTIONAL:
            raise InvalidTxnState(
                f"Producer {entry.producer_id} has a transaction open since offset "
                f"{entry.txn_first_offset} and sent a batch outside of it."
            )
        return None

    def _check_first(self, producer_id: int, sequence: int, offset: int) -> None:
        """But not behind a batch that was sent before it and was not taken (KIP-890)."""
        verification = self._verifying[producer_id]
        due = 0 if verification.from_zero else verification.lowest_sequence
        if sequence > due:
            raise OutOfOrderSequence(
                f"Producer {producer_id} begins at offset {offset} with sequence {sequence}, "
                f"{due} was due."
            )

    def _check_epoch(self, entry: ProducerEntry, epoch: int, offset: int, origin: Origin) -> None:
        if epoch < entry.epoch and origin != "replication":
            raise InvalidProducerEpoch(
                f"Epoch {epoch} of producer {entry.producer_id} at offset {offset} is smaller "
                f"than the last one seen, {entry.epoch}."
            )

    def append_marker(
        self,
        producer_id: int,
        producer_epoch: int,
        offset: int,
        *,
        committed: bool,
        coordinator_epoch: int,
        timestamp: int,
        origin: Origin = "coordinator",
    ) -> CompletedTxn | None:
        """Ends the producer's transaction with the commit or abort marker at `offset`.

        None when no transaction was open here (an empty one needs no transaction index entry).
        Raises InvalidProducerEpoch (47) or CoordinatorFenced (52) for a marker written by an older
        producer epoch or an older coordinator, except for replication; then nothing changed.
        """
        entry = self._entries.get(producer_id)
        if entry is None:
            entry = self._entries[producer_id] = ProducerEntry(producer_id, producer_epoch)
        else:
            self._check_epoch(entry, producer_epoch, offset, origin)
            if coordinator_epoch < entry.coordinator_epoch and origin != "replication":
                raise CoordinatorFenced(
                    f"Coordinator epoch {coordinator_epoch} of the marker for producer "
                    f"{producer_id} is smaller than the last one seen, {entry.coordinator_epoch}."
                )
        self._verifying.pop(producer_id, None)
        entry.move_to_epoch(producer_epoch)
        entry.coordinator_epoch = coordinator_epoch
        entry.last_timestamp = timestamp
        self.map_end_offset = offset + 1
        first_offset = entry.txn_first_offset
        if first_offset < 0:
            return None
        entry.txn_first_offset = NO_OFFSET
        self._ongoing.pop(first_offset, None)
        self._unreplicated[first_offset] = offset
        self._find_first_unstable()
        undecided = self.first_undecided_offset
        stable = offset + 1 if undecided is None else undecided
        return CompletedTxn(producer_id, first_offset, offset, not committed, stable)

    def _begin(self, entry: ProducerEntry, offset: int) -> None:
        self._verifying.pop(entry.producer_id, None)
        entry.txn_first_offset = offset
        self._ongoing[offset] = entry.producer_id
        if self.first_unstable_offset is None:
            self.first_unstable_offset = offset

    def _find_first_unstable(self) -> None:
        first = self.first_undecided_offset
        if self._unreplicated:
            replicating = min(self._unreplicated)
            first = replicating if first is None else min(first, replicating)
        self.first_unstable_offset = first

    def on_high_watermark(self, offset: int) -> None:
        """Ended transactions whose marker is below `offset` no longer hold readers back."""
        if not self._unreplicated:
            return
        through = [first for first, last in self._unreplicated.items() if last < offset]
        for first in through:
            del self._unreplicated[first]
        if through:
            self._find_first_unstable()

    def on_log_start_offset(self, offset: int) -> None:
        """The log now begins at `offset`; producers stay known until they expire."""
        self.on_high_watermark(offset)
        self.map_end_offset = max(self.map_end_offset, offset)

    def expire(self, now_ms: int) -> int:
        """Forgets producers silent for `expiration_ms` with no transaction open; how many."""
        gone = [entry.producer_id for entry in self._entries.values() if self._stale(entry, now_ms)]
        for producer_id in gone:
            del self._entries[producer_id]
        for producer_id, verification in list(self._verifying.items()):
            if now_ms - verification.began_ms >= self.expiration_ms:
                del self._verifying[producer_id]
        return len(gone)

    def _stale(self, entry: ProducerEntry, now_ms: int) -> bool:
        return entry.txn_first_offset < 0 and now_ms - entry.last_timestamp >= self.expiration_ms

    def clear(self, offset: int = 0) -> None:
        """Forgets everything; the state is now that of a log read up to `offset`.

        Truncation is this, then `load` of the newest snapshot at or below the new end, then every
        batch from that snapshot's offset to the end.
        """
        self._entries.clear()
        self._ongoing.clear()
        self._unreplicated.clear()
        self._verifying.clear()
        self.first_unstable_offset = None
        self.map_end_offset = offset

    def load(self, snapshot: bytes, offset: int, now_ms: int) -> None:
        """Replaces the state by a snapshot file's content, `offset` being the one in its name.

        Producers expired by `now_ms` are left out. Raises CorruptSnapshot, and then nothing
        changed.
        """
        entries = decode_snapshot(snapshot)
        self.clear(offset)
        for entry in entries:
            if not self._stale(entry, now_ms):
                self._entries[entry.producer_id] = entry
        begun = (e for e in self._entries.values() if e.txn_first_offset >= 0)
        for entry in sorted(begun, key=lambda e: e.txn_first_offset):
            self._ongoing[entry.txn_first_offset] = entry.producer_id
        self._find_first_unstable()

    def encode(self) -> bytes:
        """The content of a `.snapshot` file of this state."""
        return encode_snapshot(self._entries.values())


def _check_sequence(entry: ProducerEntry, epoch: int, sequence: int, offset: int) -> None:
    if epoch != entry.epoch:
        if sequence != 0:
            raise OutOfOrderSequence(
                f"Producer {entry.producer_id} begins epoch {epoch} at offset {offset} with "
                f"sequence {sequence} instead of 0 (epoch so far: {entry.epoch})."
            )
    elif sequence != entry.next_sequence:
        raise OutOfOrderSequence(
            f"Out of order sequence of producer {entry.producer_id} at offset {offset}: "
            f"{sequence} came, {entry.next_sequence} was due."
        )


def encode_snapshot(entries: Iterable[ProducerEntry]) -> bytes:
    """A producer snapshot, version 1: head, then 46 bytes for each producer."""
    out = bytearray(_SNAPSHOT_HEAD.size)
    count = 0
    for entry in entries:
        last = entry.batches[-1] if entry.batches else KeptBatch(NO_SEQUENCE, NO_OFFSET, 0, -1)
        out += _SNAPSHOT_ENTRY.pack(
            entry.producer_id,
            entry.epoch,
            last.last_sequence,
            last.last_offset,
            last.offset_delta,
            entry.last_timestamp,
            entry.coordinator_epoch,
            entry.txn_first_offset,
        )
        count += 1
    _SNAPSHOT_HEAD.pack_into(out, 0, SNAPSHOT_VERSION, 0, count)
    crc = crc32c(memoryview(out)[_CRC_END:])
    _SNAPSHOT_HEAD.pack_into(out, 0, SNAPSHOT_VERSION, crc, count)
    return bytes(out)


def decode_snapshot(data: bytes) -> list[ProducerEntry]:
    """The producers in a `.snapshot` file's bytes. Raises CorruptSnapshot."""
    if len(data) < _SNAPSHOT_HEAD.size:
        raise CorruptSnapshot(f"A producer snapshot of {len(data)} bytes is too short.")
    version, crc, count = _SNAPSHOT_HEAD.unpack_from(data)
    if version != SNAPSHOT_VERSION:
        raise CorruptSnapshot(f"Producer snapshot version {version} is not known.")
    if count < 0 or len(data) != _SNAPSHOT_HEAD.size + count * _SNAPSHOT_ENTRY.size:
        raise CorruptSnapshot(f"A producer snapshot of {len(data)} bytes tells {count} entries.")
    if crc32c(memoryview(data)[_CRC_END:]) != crc:
        raise CorruptSnapshot("The CRC of the producer snapshot is wrong.")
    entries = []
    for position in range(_SNAPSHOT_HEAD.size, len(data), _SNAPSHOT_ENTRY.size):
        fields = _SNAPSHOT_ENTRY.unpack_from(data, position)
        entries.append(_entry_of(*fields))
    return entries


def _entry_of(
    producer_id: int,
    epoch: int,
    last_sequence: int,
    last_offset: int,
    offset_delta: int,
    timestamp: int,
    coordinator_epoch: int,
    txn_first_offset: int,
) -> ProducerEntry:
    entry = ProducerEntry(producer_id, epoch)
    entry.last_timestamp = timestamp
    entry.coordinator_epoch = coordinator_epoch
    entry.txn_first_offset = txn_first_offset
    if last_offset >= 0:
        entry.batches.append(KeptBatch(last_sequence, last_offset, offset_delta, timestamp))
        entry.next_sequence = 0 if last_sequence == MAX_SEQUENCE else last_sequence + 1
    return entry
