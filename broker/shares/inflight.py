"""Records in flight of one share partition: batches in order of offsets, each of one or more runs.

A batch is what was acquired (or read back) together; it is what acknowledgements are checked
against and what is acquired again as a whole. As long as its records share one fate it has one run.
Once they do not, it is `split`: from then on its records are looked at one by one (as Apache
Kafka's offset states are), although those that are alike still are one run here.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from operator import attrgetter

from broker.shares.common import ACQUIRED, ARCHIVED, AVAILABLE, TERMINAL

NOBODY = ""


class Transition:
    """A change of state that is being persisted; the runs that take part in it refer to it."""

    __slots__ = ("first", "last", "to")

    def __init__(self, first: int, last: int, to: int) -> None:
        self.first = first
        self.last = last
        self.to = to


class Run:
    """Neighbouring records that are in the same state.

    `deadline` is the time (ms) at which their acquisition lock ends, None where they have none.
    While a transition is being persisted `pending` is set, and `was` is the member that had them.
    """

    __slots__ = ("deadline", "deliveries", "first", "last", "member", "pending", "state", "was")

    def __init__(
        self,
        first: int,
        last: int,
        state: int,
        deliveries: int,
        member: str = NOBODY,
        deadline: int | None = None,
    ) -> None:
        self.first = first
        self.last = last
        self.state = state
        self.deliveries = deliveries
        self.member = member
        self.deadline = deadline
        self.pending: Transition | None = None
        self.was = NOBODY

    def __repr__(self) -> str:
        state = "available", "acquired", "acknowledged", "archiving", "archived"
        text = f"{self.first}-{self.last} {state[self.state]} {self.deliveries}"
        if self.member:
            text += f" {self.member}"
        if self.deadline is not None:
            text += f" until {self.deadline}"
        return f"{text} pending" if self.pending else text

    def __len__(self) -> int:
        return self.last - self.first + 1

    def count_from(self, offset: int) -> int:
        """How many of the records are at that offset or after it."""
        return max(0, self.last - max(self.first, offset) + 1)

    @property
    def acquirable(self) -> bool:
        return self.state == AVAILABLE and self.pending is None

    @property
    def done(self) -> bool:
        """Acknowledged or archived, and that is durable."""
        return self.state in TERMINAL and self.pending is None

    def acquire(self, member: str, deadline: int) -> None:
        """Hand the records out once more."""
        self.state, self.member, self.deadline = ACQUIRED, member, deadline
        self.deliveries += 1

    def give_up(self, to: int) -> None:
        """The member has them no more; at once."""
        self.state, self.member, self.deadline = to, NOBODY, None

    def begin(self, transition: Transition) -> None:
        """The member gives them up; until that is durable, nobody else gets them."""
        self.pending, self.was = transition, self.member
        self.state, self.member = transition.to, NOBODY

    def commit(self) -> None:
        """The transition is durable."""
        self.pending, self.deadline = None, None

    def roll_back(self, without_lock: int, now_ms: int) -> None:
        """The transition did not happen; `without_lock` is the state if the lock has ended
        meanwhile."""
        self.pending = None
        if self.deadline is None:  # archived while the transition was under way
            return
        if self.deadline <= now_ms:
            self.give_up(without_lock)
        else:
            self.state, self.member = ACQUIRED, self.was

    def archive(self) -> None:
        """Nobody will get the records (again)."""
        self.give_up(ARCHIVED)

    def copy(self, first: int, last: int) -> "Run":
        """The same state for a part of the records."""
        part = Run(first, last, self.state, self.deliveries, self.member, self.deadline)
        part.pending, part.was = self.pending, self.was
        return part


_FIRST = attrgetter("first")


class Batch:
    """See the module."""

    __slots__ = ("first", "last", "runs", "split")

    def __init__(self, first: int, last: int, runs: list[Run], *, split: bool = False) -> None:
        self.first = first
        self.last = last
        self.runs = runs
        self.split = split

    def __len__(self) -> int:
        return self.last - self.first + 1

    @property
    def whole(self) -> Run:
        """The one run of a batch that is not split."""
        assert not self.split
        return self.runs[0]

    def cut(self, first: int, last: int) -> Iterator[Run]:
        """The runs of exactly these records, as far as they are in the batch; it is split for it.

        The state of a run may be changed before the next one is taken, its bounds may not.
        """
        self.split = True
        runs = self.runs
        at = self._index(first)
        while first <= min(last, self.last) and at < len(runs) and runs[at].first <= last:
            run = runs[at]
            if run.first < first:
                runs.insert(at, run.copy(run.first, first - 1))
                run.first = first
                at += 1
            if run.last > last:
                runs.insert(at + 1, run.copy(last + 1, run.last))
                run.last = last
            yield run
            at += 1

    def overlapping(self, first: int, last: int) -> list[Run]:
        """The runs that have some of these records."""
        if first > min(last, self.last):
            return []
        return self.runs[self._index(first) : bisect_right(self.runs, last, key=_FIRST)]

    def _index(self, offset: int) -> int:
        """The run of a record, or the first run."""
        return max(0, bisect_right(self.runs, offset, key=_FIRST) - 1)

    def straddles(self, offset: int) -> bool:
        """Whether some records are below that offset and others not."""
        return self.first < offset <= self.last

    def join(self) -> None:
        """Make one run of neighbours that have become alike."""
        runs = self.runs
        kept = runs[:1]
        for run in runs[1:]:
            before = kept[-1]
            if run.pending is None and before.pending is None and _alike(before, run):
                before.last = run.last
            else:
                kept.append(run)
        self.runs = kept


def _alike(one: Run, other: Run) -> bool:
    return (one.state, one.deliveries, one.member, one.deadline) == (
        other.state,
        other.deliveries,
        other.member,
        other.deadline,
    )


class InFlight:
    """The batches of a share partition by first offset."""

    __slots__ = ("_batches", "_firsts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._batches: dict[int, Batch] = {}

    def __len__(self) -> int:
        return len(self._firsts)

    def __iter__(self) -> Iterator[Batch]:
        return (self._batches[first] for first in self._firsts)

    @property
    def first(self) -> Batch:
        return self._batches[self._firsts[0]]

    @property
    def last(self) -> Batch:
        return self._batches[self._firsts[-1]]

    def add(self, batch: Batch) -> None:
        """A new batch."""
        if batch.first not in self._batches:
            insort(self._firsts, batch.first)
        self._batches[batch.first] = batch

    def floor(self, offset: int) -> Batch | None:
        """The last batch that begins at the offset or before it."""
        at = bisect_right(self._firsts, offset)
        return self._batches[self._firsts[at - 1]] if at else None

    def after(self, offset: int) -> Batch | None:
        """The first batch that begins after the offset."""
        at = bisect_right(self._firsts, offset)
        return self._batches[self._firsts[at]] if at < len(self._firsts) else None

    def between(self, first: int, last: int) -> list[Batch]:
        """The batches that begin between two offsets, both included."""
        low, high = bisect_left(self._firsts, first), bisect_right(self._firsts, last)
        return [self._batches[at] for at in self._firsts[low:high]]

    def overlapping(self, first: int, last: int) -> list[Batch]:
        """The batches that have records between two offsets, both included."""
        floor = self.floor(first)
        if floor is not None and floor.last >= first:
            first = floor.first
        return self.between(first, last)

    def drop_until(self, first: int) -> None:
        """Forget the batches that begin at that offset or before it."""
        at = bisect_right(self._firsts, first)
        for known in self._firsts[:at]:
            del self._batches[known]
        del self._firsts[:at]

    def clear(self) -> None:
        self._firsts.clear()
        self._batches.clear()
