"""Acquiring records of a share partition for a member: those that are available again first, then
new ones (KIP-932, KIP-1206).

A member asks for at most so many records; new ones are taken in whole record batches, so that it
may get more, unless it wants the number kept (`record_limit`). Records that were delivered often
are handed out in small portions, those that are out for the last time alone, so that one that
cannot be processed does not take its neighbours along.
"""

from collections.abc import Sequence
from typing import NamedTuple

from broker.shares.common import ACQUIRED, AVAILABLE
from broker.shares.inflight import Batch, Run
from broker.shares.partition import Limits, SharePartition

MIN_CAREFUL = 2
"""Deliveries from which records may be handed out in small portions; a limit of so many deliveries
is too low for it."""

Span = tuple[int, int]
"""First and last offset of a record batch."""


class Acquired(NamedTuple):
    """Records that a member has now; offsets."""

    first: int
    last: int
    deliveries: int

    @property
    def size(self) -> int:
        return self.last - self.first + 1


class Wish(NamedTuple):
    """Who acquires, and how much."""

    member: str
    max_records: int
    batch_size: int
    """New records are acquired (and later acknowledged) in portions of about so many."""
    record_limit: bool = False


def acquire(
    partition: SharePartition,
    wish: Wish,
    fetch_offset: int,
    spans: Sequence[Span],
    aborted: Sequence[Span],
    limits: Limits,
    now_ms: int,
) -> list[Acquired]:
    """Acquire from the record batches `spans`, which were read from `fetch_offset` on.

    `aborted` are those among them that belong to transactions which were given up, where the group
    must not see such records: they are archived.
    """
    if wish.max_records <= 0 or not spans or spans[-1][1] < partition.start_offset:
        return []
    call = _Acquisition(partition, wish, fetch_offset, spans, limits, now_ms)
    if call.room <= 0:
        return []
    acquired = call.run()
    for first, last in aborted:
        partition.archive(first, last, ACQUIRED, counted=True)
    return without(acquired, aborted)


def without(acquired: Sequence[Acquired], spans: Sequence[Span]) -> list[Acquired]:
    """What is left of acquired records if these offsets are taken out."""
    left = list(acquired)
    for first, last in spans:
        kept: list[Acquired] = []
        for one in left:
            if last < one.first or one.last < first:
                kept.append(one)
                continue
            if one.first < first:
                kept.append(one._replace(last=first - 1))
            if one.last > last:
                kept.append(one._replace(first=last + 1))
        left = kept
    return left


class _Acquisition:
    """One call of `acquire`."""

    def __init__(
        self,
        partition: SharePartition,
        wish: Wish,
        fetch_offset: int,
        spans: Sequence[Span],
        limits: Limits,
        now_ms: int,
    ) -> None:
        self._partition = partition
        self._wish = wish
        self._fetch_offset = fetch_offset
        self._spans = spans
        self._limits = limits
        self._deadline = now_ms + limits.lock_ms
        self._careful_from = max(MIN_CAREFUL, (limits.max_deliveries + 1) // 2)
        self._acquired: list[Acquired] = []
        self._last = spans[-1][1]
        self.room = min(wish.max_records, limits.max_in_flight - partition.in_flight_count)
        if self.room <= 0 and fetch_offset <= partition.end_offset:
            # No more may be in flight, but some that are may be available.
            self.room = min(wish.max_records, partition.end_offset - fetch_offset + 1)
            self._last = min(self._last, partition.end_offset)

    @property
    def _left(self) -> int:
        return self.room - sum(one.size for one in self._acquired)

    def run(self) -> list[Acquired]:
        partition, first = self._partition, self._spans[0][0]
        self._archive_missing(first)
        if self._last < partition.start_offset:  # which that may have moved
            return []
        base = first
        floor = partition.in_flight.floor(first)
        if floor is not None and floor.last >= base:
            base = floor.first
        else:  # (Apache Kafka hands out what is before the start where something else is there)
            base = max(base, partition.start_offset)
        known = partition.in_flight.between(min(first, base), self._last)
        if not known:
            self._acquire_new(base, self._last)
            return self._acquired
        if self._acquire_known(known, first, base) and known[-1].last < self._last:
            self._acquire_new(known[-1].last + 1, self._last)
        if self._acquired:
            partition.acquired_until(self._acquired[-1].last + 1)
        return self._acquired

    def _archive_missing(self, base: int) -> None:
        """Records between the fetch offset and what was found there are gone: compaction."""
        if self._fetch_offset < base:
            partition = self._partition
            if partition.archive(self._fetch_offset, base - 1, AVAILABLE, counted=True):
                partition.search = True
            partition.nothing_until(base)

    # --- records that are known

    def _acquire_known(self, known: Sequence[Batch], first: int, base: int) -> bool:
        """Acquire what is available; whether there is room for more after it."""
        partition = self._partition
        gap = base
        for batch in known:
            if self._left <= 0:
                return False
            if partition.gap_at is not None:
                if gap < batch.first:
                    self._acquire_new(gap, batch.first - 1)
                gap = batch.last + 1
                if self._left <= 0:
                    return False
            careful = self._needs_care(batch, first)
            if careful and self._acquired:
                return False
            if self._acquire_batch(batch, first, careful=careful) and careful:
                return False
        return self._left > 0

    def _needs_care(self, batch: Batch, first: int) -> bool:
        """Whether the batch has available records that were delivered often."""
        runs = batch.runs if not batch.split else batch.overlapping(first, self._last)
        return any(run.acquirable and run.deliveries >= self._careful_from for run in runs)

    def _acquire_batch(self, batch: Batch, first: int, *, careful: bool) -> bool:
        """Acquire what is available of a batch; whether that was anything."""
        wish = self._wish
        too_many = wish.record_limit and len(batch) > self._left
        inside = first <= batch.first and batch.last <= self._last
        if not batch.split:
            if not batch.whole.acquirable:
                return False
            if inside and not too_many and not careful:
                self._acquired.append(self._take(batch.whole))
                return True
        portions = self._portions(batch, first)
        self._acquired += portions
        return bool(portions)

    def _portions(self, batch: Batch, first: int) -> list[Acquired]:
        """Acquire some of a batch's records; neighbours come back together."""
        taken: list[Acquired] = []
        count = 0
        most = self._left if self._wish.record_limit else len(batch)
        careful = False
        for run in batch.overlapping(first, self._last):
            start = max(run.first, first)
            if run.last < start or not run.acquirable:
                continue
            alone = self._is_last_delivery(run)
            if alone and count:
                break
            if run.deliveries >= self._careful_from and not careful:
                careful = True
                portion = max(1, len(batch) >> (run.deliveries - self._careful_from + 1))
                if count < portion:  # as in Apache Kafka, no limit to who has more already
                    most = min(most, portion)
            end = min(run.last, self._last, start + (0 if alone else most - count - 1))
            for part in batch.cut(start, end):
                _append(taken, self._take(part))
            count += end - start + 1
            if alone or count >= most:
                break
        return taken

    def _is_last_delivery(self, run: Run) -> bool:
        limit = self._limits.max_deliveries
        return limit > MIN_CAREFUL and run.deliveries == limit - 1

    def _take(self, run: Run) -> Acquired:
        run.acquire(self._wish.member, self._deadline)
        self._partition.lock(run.first, run.last, self._deadline)
        return Acquired(run.first, run.last, run.deliveries)

    # --- records that nobody was given yet

    def _acquire_new(self, first: int, last: int) -> None:
        partition, wish, room = self._partition, self._wish, self._left
        first = max(first, partition.start_offset if partition.in_flight else partition.end_offset)
        if first > last:
            return
        until = last
        if room < last - first + 1:
            until = self._end_of_batch(first + room - 1)
            if partition.gap_at is not None:
                until = min(until, last)
        acquired = self._add(first, until, room)
        if partition.in_flight.first.first == first:
            partition.start_offset = first
        partition.end_offset = max(partition.end_offset, until)
        self._acquired += acquired
        partition.acquired_until((acquired[0].last if wish.record_limit else until) + 1)

    def _end_of_batch(self, offset: int) -> int:
        """The end of the record batch that has the offset; the offset if none has it."""
        for first, last in self._spans:
            if first <= offset <= last:
                return last
        return offset

    def _add(self, first: int, last: int, room: int) -> list[Acquired]:
        """New batches in flight."""
        wish, partition = self._wish, self._partition
        if wish.record_limit and last - first + 1 > room:
            # The rest of the record batch is there for the next who asks.
            end = first + room - 1
            taken, rest = Run(first, end, AVAILABLE, 0), Run(end + 1, last, AVAILABLE, 0)
            partition.in_flight.add(Batch(first, last, [taken, rest], split=True))
            partition.search = True
            return [self._take(taken)]
        acquired: list[Acquired] = []
        for begin, end in self._sized(first, last):
            run = Run(begin, end, AVAILABLE, 0)
            partition.in_flight.add(Batch(begin, end, [run]))
            acquired.append(self._take(run))
        return acquired

    def _sized(self, first: int, last: int) -> list[Span]:
        """The records in portions that end where record batches do."""
        portions: list[Span] = []
        size = self._wish.batch_size
        if not self._wish.record_limit and last - first + 1 > size:
            for base, _ in self._spans:
                if base > last:
                    break
                if base - first >= size:
                    portions.append((first, base - 1))
                    first = base
        return [*portions, (first, last)]


def _append(taken: list[Acquired], one: Acquired) -> None:
    """Neighbours that were delivered equally often are told as one."""
    if taken and taken[-1].last + 1 == one.first and taken[-1].deliveries == one.deliveries:
        taken[-1] = taken[-1]._replace(last=one.last)
    else:
        taken.append(one)
