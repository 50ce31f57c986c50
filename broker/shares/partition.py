"""A share partition at its leader: which records of a topic's partition a share group has in
flight, at whom, until when (KIP-932). Pure: time is an argument, persisting is the caller's.

Records from `start_offset` to `end_offset` are known; those after it nobody was given yet. A member
acquires records for the time of a lock and acknowledges them: accepted, released, rejected, or the
lock is renewed (KIP-1222). Released ones, and those whose lock ends, can be acquired again until
they have been delivered as often as the limit says; then they are archived. The start offset moves
over what is acknowledged or archived.

What changes is returned as `Update`: its batches must be written to the share coordinator, then
`complete` is told how that went. A lock that ended is over whether or not that can be written.
"""

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from broker.shares.common import (
    ACKNOWLEDGED,
    ARCHIVED,
    AVAILABLE,
    NO_OFFSET,
    TERMINAL,
    Refused,
    ShareKey,
    StateBatch,
)
from broker.shares.inflight import NOBODY, Batch, InFlight, Run, Transition
from broker.shares.state import ShareState
from protocol.errors import ErrorCode

GAP, ACCEPT, RELEASE, REJECT, RENEW = range(5)
"""What a member can say of a record; a gap is an offset that it got no record for."""
STATE_FOR = {GAP: ARCHIVED, ACCEPT: ACKNOWLEDGED, RELEASE: AVAILABLE, REJECT: ARCHIVED}


class Limits(NamedTuple):
    """What the group's settings allow at present."""

    lock_ms: int
    max_deliveries: int
    max_in_flight: int
    renew: bool = True


class Acknowledgement(NamedTuple):
    """Records from `first` to `last` with one type for all of them or one for each."""

    first: int
    last: int
    types: Sequence[int]


class Update(NamedTuple):
    """Changes to be persisted; `transitions` end when that is done."""

    batches: tuple[StateBatch, ...] = ()
    transitions: tuple[Transition, ...] = ()


class BadState(Exception):
    """The share coordinator's state cannot be one."""


class SharePartition:
    """See the module. Made of what the share coordinator keeps."""

    __slots__ = (
        "_locks",
        "complete_count",
        "end_offset",
        "gap",
        "in_flight",
        "key",
        "leader_epoch",
        "search",
        "start_offset",
        "state_epoch",
    )

    def __init__(
        self, key: ShareKey, leader_epoch: int, state: ShareState, start_offset: int
    ) -> None:
        """`start_offset` is the state's, or the one that was chosen where it has none.

        Raises BadState.
        """
        self.key = key
        self.leader_epoch = leader_epoch
        self.state_epoch = state.state_epoch
        self.start_offset = self.end_offset = start_offset
        self.complete_count = 0
        """Records from the start offset on that are acknowledged or archived."""
        self.in_flight = InFlight()
        self.search = False
        """Whether records that are known may be available (again)."""
        self.gap: tuple[int, int] | None = None
        """(first offset that the state says nothing of though it knows later ones, the end offset
        as long as that may matter): such records are available."""
        self._locks: list[tuple[int, int, int]] = []
        """Heap of (deadline, first, last); may be out of date."""
        self._take_over(state)

    def _take_over(self, state: ShareState) -> None:
        gap_at = NO_OFFSET
        known = self.start_offset - 1
        for first, last, delivery_state, deliveries in state.batches:
            if first < self.start_offset or last < first:
                raise BadState(f"{self.key}: {first} to {last}, start {self.start_offset}")
            if gap_at == NO_OFFSET and first > known + 1:
                gap_at = known + 1
            known = last
            if delivery_state not in (AVAILABLE, *TERMINAL):
                # On the way to a dead letter queue, which there is none of here.
                delivery_state = ARCHIVED
            run = Run(first, last, delivery_state, deliveries)
            self.in_flight.add(Batch(first, last, [run]))
            if delivery_state in TERMINAL:
                self.complete_count += len(run)
        if self.in_flight:
            self.search = True
            self.end_offset = known
            if gap_at != NO_OFFSET:
                self.gap = (gap_at, known)
            self.advance()

    # --- where to read

    @property
    def gap_at(self) -> int | None:
        """First offset of the gap, as long as the end has not moved."""
        if self.gap is None or self.gap[1] != self.end_offset:
            return None
        return self.gap[0]

    def acquired_until(self, offset: int) -> None:
        """Records before `offset` were handed out: a gap begins there, or is closed."""
        if self.gap is not None:
            _, end = self.gap
            self.gap = (offset, end) if end == self.end_offset and offset <= end else None

    def nothing_until(self, offset: int) -> None:
        """There are no records from where the gap begins to `offset`. (Apache Kafka waits for them
        for ever.)"""
        gap_at = self.gap_at
        if gap_at is None or offset <= gap_at:
            return
        self.acquired_until(offset)
        if self.in_flight.floor(self.start_offset) is None:
            self.start_offset = max(self.start_offset, min(offset, self.in_flight.first.first))
            self.advance()

    @property
    def next_fetch_offset(self) -> int:
        """From where the next records to be acquired are read."""
        in_flight = self.in_flight
        if not in_flight or self.start_offset > in_flight.last.last:
            self.search = False
            return self.end_offset
        if self.search:
            found = self._first_available()
            if found is not None:
                return found
            self.search = False
        return self.end_offset + 1

    def _first_available(self) -> int | None:
        gap_at = self.gap_at
        for batch in self.in_flight:
            if gap_at is not None:
                if batch.first > gap_at:
                    return gap_at
                gap_at = max(gap_at, batch.last + 1)
            for run in batch.runs:
                if run.acquirable:
                    return run.first
        return None

    @property
    def in_flight_count(self) -> int:
        """Records between start and end."""
        return self.end_offset - self.start_offset + 1 if self.in_flight else 0

    def can_acquire(self, limits: Limits) -> bool:
        """Whether there may be records to acquire, as far as the limit on those in flight goes."""
        if self.next_fetch_offset != self.end_offset + 1:
            return True
        # What was given up unasked has not moved the start; it must not stand in the way for ever.
        return self.in_flight_count < limits.max_in_flight or (
            self.advance() and self.in_flight_count < limits.max_in_flight
        )

    # --- locks

    def lock(self, first: int, last: int, deadline: int) -> int:
        """A lock on records that were just acquired, or renewed; its deadline."""
        heappush(self._locks, (deadline, first, last))
        return deadline

    @property
    def next_deadline(self) -> int | None:
        """When to call `expire` (ms); there may be nothing to do then."""
        return self._locks[0][0] if self._locks else None

    def expire(self, max_deliveries: int, now_ms: int) -> Update:
        """Take back the records whose locks have ended."""
        changed: list[StateBatch] = []
        locks = self._locks
        while locks and locks[0][0] <= now_ms:
            _, first, last = heappop(locks)
            for batch in self.in_flight.overlapping(first, last):
                for run in self._runs_of(batch, first, last):
                    if run.deadline is not None and run.deadline <= now_ms and not run.pending:
                        self._take_back(run, max_deliveries)
                        changed.append(_state_of(run))
        return Update(tuple(changed))

    def _take_back(self, run: Run, max_deliveries: int) -> None:
        state = self._state_without_owner(run, max_deliveries)
        run.give_up(state)
        if state == AVAILABLE:
            self.search = True
        else:
            self.complete_count += run.count_from(self.start_offset)

    def _state_without_owner(self, run: Run, max_deliveries: int) -> int:
        if run.last < self.start_offset or run.deliveries >= max_deliveries:
            return ARCHIVED
        return AVAILABLE

    def _runs_of(self, batch: Batch, first: int, last: int) -> Iterator[Run]:
        """The runs of these records, those before the start offset apart from those after it."""
        inside = first <= batch.first and batch.last <= last and not batch.split
        if inside and not batch.straddles(self.start_offset):
            yield batch.whole
            return
        yield from batch.cut(first, min(last, self.start_offset - 1))
        yield from batch.cut(max(first, self.start_offset), last)

    # --- acknowledgements

    def acknowledge(
        self,
        member: str,
        acknowledgements: Sequence[Acknowledgement],
        limits: Limits,
        now_ms: int,
    ) -> Update:
        """What a member says became of its records. Raises Refused: nothing of it has happened
        then, but renewals before."""
        done: list[tuple[Run, Transition]] = []
        try:
            for one in acknowledgements:
                if one.last >= self.start_offset:
                    for batch in self._acknowledged_batches(one):
                        self._acknowledge(member, batch, one, limits, now_ms, done)
        except Refused:
            self.complete(
                [transition for _, transition in done],
                limits.max_deliveries,
                now_ms,
                persisted=False,
            )
            raise
        return _update_of(done)

    def _acknowledged_batches(self, one: Acknowledgement) -> list[Batch]:
        floor = self.in_flight.floor(one.first)
        if floor is None:
            if one.first < self.start_offset <= one.last:
                floor = self.in_flight.floor(self.start_offset)
            if floor is None:
                raise Refused(INVALID_STATE, "These records are not in flight.")
        batches = self.in_flight.between(floor.first, one.last)
        if not one.first <= batches[-1].last >= one.last:
            raise Refused(ErrorCode.INVALID_REQUEST, "Nobody was given records that late.")
        return [batch for batch in batches if batch.last >= self.start_offset]

    def _acknowledge(
        self,
        member: str,
        batch: Batch,
        one: Acknowledgement,
        limits: Limits,
        now_ms: int,
        done: list[tuple[Run, Transition]],
    ) -> None:
        if not batch.split:
            # Looked at as a whole even where only a part of it is acknowledged.
            _check_owner(batch.whole, member)
        whole = one.first <= batch.first and batch.last <= one.last and len(one.types) == 1
        if whole and not batch.split and not batch.straddles(self.start_offset):
            self._apply(batch.whole, one.types[0], limits, now_ms, done)
            return
        for first, last, kind in _by_type(one):
            for run in batch.cut(max(first, self.start_offset), last):
                _check_owner(run, member)
                self._apply(run, kind, limits, now_ms, done)

    def _apply(
        self,
        run: Run,
        kind: int,
        limits: Limits,
        now_ms: int,
        done: list[tuple[Run, Transition]],
    ) -> None:
        if kind == RENEW:
            if not limits.renew:
                raise Refused(INVALID_STATE, "Locks of this group are not renewed.")
            run.deadline = self.lock(run.first, run.last, now_ms + limits.lock_ms)
            return
        state = STATE_FOR[kind]
        if state == AVAILABLE and run.deliveries >= limits.max_deliveries:
            state = ARCHIVED
        done.append((run, self._begin(run, state)))

    def _begin(self, run: Run, state: int) -> Transition:
        transition = Transition(run.first, run.last, state)
        run.begin(transition)
        if state in TERMINAL:
            self.complete_count += run.count_from(self.start_offset)
        return transition

    def release(self, member: str, max_deliveries: int) -> Update:
        """A member is gone: what it has can be acquired by others."""
        done: list[tuple[Run, Transition]] = []
        for batch in self.in_flight:
            if any(run.member == member for run in batch.runs):
                for run in self._runs_of(batch, batch.first, batch.last):
                    if run.member == member:
                        state = self._state_without_owner(run, max_deliveries)
                        done.append((run, self._begin(run, state)))
        return _update_of(done)

    def complete(
        self,
        transitions: Sequence[Transition],
        max_deliveries: int,
        now_ms: int,
        *,
        persisted: bool,
    ) -> bool:
        """Transitions are durable, or they did not happen. Whether others may find records now."""
        available = False
        touched: dict[int, Batch] = {}
        for transition in transitions:
            first, last = transition.first, transition.last
            for batch in self.in_flight.overlapping(first, last):
                touched[batch.first] = batch
                for run in (
                    batch.overlapping(first, last)
                    if persisted
                    else self._runs_of(batch, first, last)
                ):
                    if run.pending is transition:
                        self._end(run, max_deliveries, now_ms, persisted=persisted)
                        available = available or run.state == AVAILABLE
        for batch in touched.values():
            batch.join()
        if available:
            self.search = True
        return (persisted and self.advance()) or available

    def _end(self, run: Run, max_deliveries: int, now_ms: int, *, persisted: bool) -> None:
        if persisted:
            run.commit()
            return
        counted = run.state in TERMINAL
        run.roll_back(self._state_without_owner(run, max_deliveries), now_ms)
        if counted != (run.state in TERMINAL):
            count = run.count_from(self.start_offset)
            self.complete_count += -count if counted else count

    # --- the start offset

    def advance(self) -> bool:
        """Move the start offset over what is done with; whether it moved."""
        if not self._start_is_done():
            return False
        until, count = self._done_until()
        if until == NO_OFFSET:
            return False
        in_flight = self.in_flight
        if until == in_flight.last.last:
            self.start_offset = self.end_offset = until + 1
            self.complete_count = 0
            in_flight.clear()
            return True
        gap_at = self.gap_at
        if gap_at is not None and until >= gap_at:
            self.acquired_until(until + 1)
        floor = in_flight.floor(until)
        assert floor is not None
        if until == floor.last:
            after = in_flight.after(until)
            assert after is not None
            start = max(self.start_offset, after.first)
            gap_at = self.gap_at
            self.start_offset = start if gap_at is None else min(gap_at, start)
            in_flight.drop_until(floor.first)
        else:
            self.start_offset = max(self.start_offset, until + 1)
            in_flight.drop_until(floor.first - 1)
        self.complete_count -= count
        return True

    def _start_is_done(self) -> bool:
        floor = self.in_flight.floor(self.start_offset) if self.in_flight else None
        if floor is None:
            return False
        at = min(self.start_offset, floor.last)
        return next(run for run in floor.runs if run.last >= at).done

    def _done_until(self) -> tuple[int, int]:
        """The last offset up to which all records are done with (-1: not even the first), and how
        many of those are at the start offset or after it."""
        until, count = NO_OFFSET, 0
        gap_at = self.gap_at
        for batch in self.in_flight:
            if gap_at is not None:
                if batch.first > gap_at:  # (Apache Kafka stops at the one before, too)
                    break
                gap_at = max(gap_at, batch.last + 1)
            for run in batch.runs:
                if not run.done:
                    return until, count
                until = run.last
                count += run.count_from(self.start_offset)
        return until, count

    def log_start_moved(self, offset: int) -> None:
        """The log begins at `offset` now, after our start: what was available before it is gone.

        Records that members have stay with them; they are archived when they come back.
        """
        if offset <= self.start_offset:
            return
        if not self.in_flight:
            self.start_offset = self.end_offset = offset
            self.complete_count = 0
            return
        done = sum(
            run.count_from(self.start_offset) - run.count_from(offset)
            for batch in self.in_flight
            for run in batch.runs
            if run.state in TERMINAL
        )
        if self.archive(self.start_offset, offset - 1, AVAILABLE, counted=False):
            self.search = True
        gap_at = self.gap_at
        if gap_at is not None and gap_at < offset:
            self.acquired_until(offset)
        self.start_offset = offset
        self.complete_count -= done
        self.end_offset = max(self.end_offset, offset)

    def archive(self, first: int, last: int, state: int, *, counted: bool) -> bool:
        """Give up what is in that state between two offsets; whether anything was. Not persisted:
        who reads the state again comes to the same end.
        """
        found = False
        for batch in self.in_flight.between(0, last):
            if batch.last < first or all(run.state != state for run in batch.runs):
                continue
            inside = first <= batch.first and batch.last <= last and not batch.split
            for run in [batch.whole] if inside else batch.cut(first, last):
                if run.state == state:
                    run.archive()
                    found = True
                    if counted:
                        self.complete_count += len(run)
        return found


INVALID_STATE = ErrorCode.INVALID_RECORD_STATE


def _check_owner(run: Run, member: str) -> None:
    if run.member == NOBODY:
        raise Refused(INVALID_STATE, "The records are not acquired.")
    if run.member != member:
        raise Refused(INVALID_STATE, "Another member has the records.")


def _by_type(one: Acknowledgement) -> Iterator[tuple[int, int, int]]:
    """(first, last, type) of neighbours with the same type."""
    types = one.types
    if len(types) == 1:
        yield one.first, one.last, types[0]
        return
    begin = 0
    for at in range(1, len(types) + 1):
        if at == len(types) or types[at] != types[begin]:
            yield one.first + begin, one.first + at - 1, types[begin]
            begin = at


def _state_of(run: Run) -> StateBatch:
    return StateBatch(run.first, run.last, run.state, run.deliveries)


def _update_of(done: Sequence[tuple[Run, Transition]]) -> Update:
    return Update(
        tuple(_state_of(run) for run, _ in done), tuple(transition for _, transition in done)
    )
