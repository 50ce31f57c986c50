"""What compaction decides, without doing it: which logs are due, which segments go together, which
records stay. Pure; `cleaner.py` reads and writes files by it.

The rules are Apache Kafka's. A compacted log has a clean part (below the first dirty offset, every
key once) and a dirty part. A round reads the dirty part into an `OffsetMap` (key -> latest offset)
until the map is full, then rewrites every segment up to there and keeps of each record only what
is the latest for its key. Offsets never change; they get gaps. The active segment, what lies
beyond the last stable offset and what is younger than min.compaction.lag.ms are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Final, NamedTuple, Protocol

from storage.aborted import AbortedTxn
from storage.config import LogConfig

MAX_OFFSET_DELTA: Final = 0x7FFFFFFF  # an index counts offsets from the base in an int32

# Measured: a digest object, an offset object and their share of the dict come to about this.
BYTES_PER_KEY: Final = 190
_DIGEST_SIZE: Final = 16


class SegmentFacts(Protocol):
    """What planning asks of a segment; times are ms, sizes bytes."""

    @property
    def base_offset(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def largest_timestamp(self) -> int: ...
    @property
    def first_timestamp(self) -> int | None: ...


class CleaningPlan(NamedTuple):
    """What could be compacted in one log now."""

    first_dirty_offset: int
    first_uncleanable_offset: int
    clean_bytes: int
    cleanable_bytes: int
    overdue: bool  # a record waits for longer than max.compaction.lag.ms
    reset: bool  # the checkpoint was outside the log and starts over at the log start

    @property
    def ratio(self) -> float:
        """Share of the bytes up to the uncleanable offset that no round has looked at."""
        total = self.clean_bytes + self.cleanable_bytes
        return self.cleanable_bytes / total if total else 0.0

    def due(self, config: LogConfig) -> bool:
        """Whether the log should be compacted now."""
        if not self.cleanable_bytes:
            return False
        return self.overdue or self.ratio > config.min_cleanable_dirty_ratio


def plan_cleaning(
    segments: Sequence[SegmentFacts],
    config: LogConfig,
    *,
    checkpoint: int | None,
    log_start_offset: int,
    end_offset: int,
    last_stable_offset: int,
    now_ms: int,
) -> CleaningPlan:
    """`segments` in offset order, the last one active; `checkpoint` is the log's entry in
    cleaner-offset-checkpoint."""
    first_dirty = log_start_offset if checkpoint is None else checkpoint
    reset = not log_start_offset <= first_dirty <= end_offset
    if reset:
        first_dirty = log_start_offset
    active = segments[-1].base_offset
    dirty = [s for s in segments[:-1] if s.base_offset >= _floor(segments, first_dirty)]
    limits = [last_stable_offset, active]
    if config.min_compaction_lag_ms > 0:
        youngest = now_ms - config.min_compaction_lag_ms
        limits += [s.base_offset for s in dirty if s.largest_timestamp > youngest][:1]
    wanted = max(first_dirty, min(limits))
    # Whole segments only: the one that holds the first uncleanable offset stays as it is.
    uncleanable = min(_floor(segments, wanted), active)
    start = _floor(segments, min(first_dirty, uncleanable))
    # As in Kafka a segment that is dirty from its middle on counts on both sides.
    clean = sum(s.size for s in segments if s.base_offset < first_dirty)
    cleanable = sum(s.size for s in segments if start <= s.base_offset < uncleanable)
    return CleaningPlan(
        first_dirty, uncleanable, clean, cleanable, _overdue(dirty, config, now_ms), reset
    )


def _floor(segments: Sequence[SegmentFacts], offset: int) -> int:
    """Base offset of the segment that holds `offset`, or of the first one."""
    found = segments[0].base_offset
    for segment in segments:
        if segment.base_offset > offset:
            break
        found = segment.base_offset
    return found


def _overdue(dirty: Iterable[SegmentFacts], config: LogConfig, now_ms: int) -> bool:
    until = now_ms - config.max_compaction_lag_ms
    if until <= 0:
        return False
    firsts = (segment.first_timestamp for segment in dirty)
    return any(first is not None and 0 < first < until for first in firsts)


def group_segments(
    sizes: Sequence[tuple[int, int, int, int]], config: LogConfig, end_offset: int
) -> list[tuple[int, int]]:
    """Runs `(first, end)` of segments that become one segment each.

    `sizes`: (base offset, bytes, offset index bytes, time index bytes) of neighbouring segments;
    `end_offset` is where the last of them ends. A run keeps within segment.bytes,
    segment.index.bytes and the reach of an index entry's 32-bit offset.
    """
    groups = []
    first = 0
    while first < len(sizes):
        base, total, index, times = sizes[first]
        end = first + 1
        while end < len(sizes):
            _, size, more_index, more_times = sizes[end]
            following = sizes[end + 1][0] if end + 1 < len(sizes) else end_offset
            if (
                total + size > config.segment_bytes
                or index + more_index > config.segment_index_bytes
                or times + more_times > config.segment_index_bytes
                or (size and following - 1 - base > MAX_OFFSET_DELTA)
            ):
                break
            total += size
            index += more_index
            times += more_times
            end += 1
        groups.append((first, end))
        first = end
    return groups


class OffsetMap:
    """Latest offset of each key seen, within a bound on memory.

    Keys of up to 16 bytes are kept, longer ones stand for their 16-byte digest (with a mark of its
    own length, so that no short key can be taken for one).
    """

    __slots__ = ("_offsets", "latest_offset", "limit")

    def __init__(self, memory_bytes: int) -> None:
        self.limit = max(1, memory_bytes // BYTES_PER_KEY)
        self.latest_offset = -1
        self._offsets: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._offsets)

    def put(self, key: bytes | memoryview, offset: int) -> bool:
        """Notes `offset` as the key's latest. False, and nothing noted, when the map is full."""
        name = _name(key)
        offsets = self._offsets
        if len(offsets) >= self.limit and name not in offsets:
            return False
        offsets[name] = offset
        if offset > self.latest_offset:
            self.latest_offset = offset
        return True

    def get(self, key: bytes | memoryview) -> int:
        """The key's latest offset, -1 when it was not seen."""
        return self._offsets.get(_name(key), -1)

    def reached(self, offset: int) -> None:
        """Everything up to and with `offset` has been looked at."""
        self.latest_offset = max(self.latest_offset, offset)


def _name(key: bytes | memoryview) -> bytes:
    if len(key) <= _DIGEST_SIZE:
        return bytes(key)
    return blake2b(key, digest_size=_DIGEST_SIZE).digest() + b"+"


class TransactionsSeen:
    """Follows transactions while batches pass in offset order, to tell aborted data and markers
    that are needed no more.

    A marker is needed while data of its transaction is in the log. The data of aborted
    transactions goes at once; the marker of the transaction then loses its use in the next round,
    when none of its data passes any more.
    """

    __slots__ = ("_aborted", "_committing", "_observed", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[tuple[int, AbortedTxn]] = []  # heap by first offset
        self._aborted: dict[int, AbortedTxn] = {}  # producer id -> the one it is inside of
        self._observed: set[int] = set()  # producer ids whose aborted transaction showed data
        self._committing: set[int] = set()  # producer ids with data of a transaction not aborted

    def add_aborted(self, transactions: Iterable[AbortedTxn]) -> None:
        """Tells transaction index entries of what passes next; known ones do no harm."""
        waiting = self._waiting
        known = {(txn.producer_id, txn.first_offset) for _, txn in waiting}
        known |= {(txn.producer_id, txn.first_offset) for txn in self._aborted.values()}
        for txn in transactions:
            if (txn.producer_id, txn.first_offset) not in known:
                known.add((txn.producer_id, txn.first_offset))
                heappush(waiting, (txn.first_offset, txn))

    def _begin_up_to(self, offset: int) -> None:
        waiting = self._waiting
        while waiting and waiting[0][0] <= offset:
            txn = heappop(waiting)[1]
            self._aborted.setdefault(txn.producer_id, txn)

    def on_data(self, producer_id: int, last_offset: int, transactional: bool) -> bool:
        """True when this data batch belongs to an aborted transaction."""
        if self._waiting:
            self._begin_up_to(last_offset)
        if not transactional:
            return False
        if producer_id in self._aborted:
            self._observed.add(producer_id)
            return True
        self._committing.add(producer_id)
        return False

    def on_marker(
        self, producer_id: int, last_offset: int, committed: bool | None
    ) -> tuple[bool, AbortedTxn | None]:
        """Whether this marker is needed no more, and the index entry to keep with it if it is.

        `committed` is None for a control batch whose record has gone already.
        """
        if self._waiting:
            self._begin_up_to(last_offset)
        if committed is None:
            return True, None
        if committed:
            useless = producer_id not in self._committing
            self._committing.discard(producer_id)
            return useless, None
        txn = self._aborted.pop(producer_id, None)
        observed = producer_id in self._observed
        self._observed.discard(producer_id)
        if txn is not None and observed:
            return False, txn
        return True, None
