"""What tests tell a member of a group, and the watch over a whole group."""

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
Place = tuple[str, int]
"""Topic and partition."""

DEADLINE = 30.0
"""Seconds that anything a test waits for may take."""
POLL_SECONDS = 0.05
"""One poll waits no longer, so that a member hears soon what it is told."""


class Broken(AssertionError):
    """A promise of the group was broken; the text says which."""


@dataclass(frozen=True, slots=True)
class Move:
    """A member got partitions or gave them up, as its client told it."""

    member: str
    gained: bool
    places: frozenset[Place]


class Watch:
    """What the members of one group do, in the order in which it happens.

    Always checked: a partition has one owner at a time, is read by its owner only, and nothing is
    read again that was committed. With `exact`, an owner also begins at the committed offset
    (0 where nothing was committed) and leaves out nothing; for logs without gaps.
    """

    def __init__(self, *, exact: bool = True) -> None:
        self.changed = threading.Condition()
        self.exact = exact
        self.owners: dict[Place, str] = {}
        self.reads: dict[Place, list[tuple[int, bytes | None]]] = {}
        self.committed: dict[Place, int] = {}
        self.moves: list[Move] = []
        self.failure: BaseException | None = None
        self._next: dict[Place, int] = {}

    def until(self, reached: Callable[[], Any], what: str, seconds: float = DEADLINE) -> None:
        """Wait until `reached()` is true; raises when a member failed or time is over."""
        end = time.monotonic() + seconds
        with self.changed:
            while self.failure is None and not reached():
                left = end - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"not within {seconds} s: {what}; {self.told()}")
                self.changed.wait(left)
            if self.failure is not None:
                raise self.failure

    def told(self) -> str:
        """The state in a few words, for messages."""
        counts = {place: len(reads) for place, reads in self.reads.items()}
        return f"owners {self.owners}, reads {counts}, last moves {self.moves[-6:]}"

    def shared(self, members: "Iterable[Member]", places: Iterable[Place]) -> Callable[[], bool]:
        """A condition for `until`: every place has an owner and every member its equal share."""
        names, wanted = {member.name for member in members}, set(places)

        def reached() -> bool:
            shares = Counter(self.owners.values())
            owned = set(self.owners) == wanted and set(shares) == names
            return owned and max(shares.values()) - min(shares.values()) <= 1

        return reached

    def share_of(self, member: "Member") -> set[Place]:
        """What a member owns now."""
        with self.changed:
            return {place for place, owner in self.owners.items() if owner == member.name}

    def count(self) -> int:
        """Records read so far; inside `until`."""
        return sum(len(reads) for reads in self.reads.values())

    def given_up(self, since: int = 0) -> list[Place]:
        """The partitions that an owner gave up, once for each time, from a move on. A call-back
        that comes twice counts once."""
        owners: dict[Place, str] = {}
        lost = []
        for number, move in enumerate(self.moves):
            for place in move.places:
                if move.gained:
                    owners[place] = move.member
                elif owners.get(place) == move.member:
                    del owners[place]
                    if number >= since:
                        lost.append(place)
        return lost

    # --- told by members

    def gained(self, member: str, places: Iterable[Place]) -> None:
        """The client of a member says that these are its own now."""
        gained = frozenset(places)
        with self.changed:
            self.moves.append(Move(member, True, gained))
            for place in gained:
                owner = self.owners.get(place)
                if owner not in (None, member):
                    self.fail(Broken(f"{place} went to {member} while {owner} owned it"))
                self.owners[place] = member
                self._next[place] = self.committed.get(place, 0)
            self.changed.notify_all()

    def gave_up(self, member: str, places: Iterable[Place]) -> None:
        """A member stopped working on these; before it says so to the broker."""
        lost = frozenset(places)
        with self.changed:
            self.moves.append(Move(member, False, lost))
            for place in lost:
                if self.owners.get(place) == member:
                    del self.owners[place]
            self.changed.notify_all()

    def gave_up_all(self, member: str) -> None:
        """A member leaves."""
        with self.changed:
            places = [place for place, owner in self.owners.items() if owner == member]
        if places:
            self.gave_up(member, places)

    def read(self, member: str, place: Place, offset: int, value: bytes | None) -> None:
        """A member got a record."""
        with self.changed:
            owner = self.owners.get(place)
            if owner != member:
                self.fail(Broken(f"{member} reads {place}, which {owner} owns"))
            if self.exact:
                if offset < self.committed.get(place, 0):
                    self.fail(Broken(f"{member} reads {place} {offset}, which was committed"))
                if offset != self._next.get(place, 0):
                    self.fail(Broken(f"{place}: {offset} where {self._next.get(place, 0)} is due"))
            self._next[place] = offset + 1
            self.reads.setdefault(place, []).append((offset, value))
            self.changed.notify_all()

    def was_committed(self, offsets: Mapping[Place, int]) -> None:
        """A commit of a member succeeded."""
        with self.changed:
            self.committed.update(offsets)
            self.changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Keep the first failure; whoever waits gets it."""
        with self.changed:
            self.failure = self.failure or error
            self.changed.notify_all()


class Member(threading.Thread, ABC):
    """One client in a thread of its own. Leaving the `with` block ends it.

    `commits` says what is committed without being told: "each" (what a poll gave, at once and
    before partitions are given up), "auto" (the client by itself) or "none".
    """

    def __init__(
        self,
        bootstrap: str,
        group: str,
        topics: Iterable[str] | str,
        watch: Watch,
        name: str,
        *,
        way: str = "range",
        commits: str = "none",
        instance: str | None = None,
        session_ms: int = 6000,
    ) -> None:
        """`topics` is a list, or a regular expression as text; `instance` makes the member static
        (KIP-345)."""
        super().__init__(name=name, daemon=True)
        self.bootstrap = bootstrap
        self.group = group
        self.topics = topics
        self.watch = watch
        self.way = way
        self.commits = commits
        self.instance = instance
        self.session_ms = session_ms
        self.ending = threading.Event()
        self.closing = False
        """Set when the client is about to be closed: it owns nothing from here on."""
        self.owes_commit = False
        """A commit was refused because of a rebalance: to be tried again."""
        self.fatal: BaseException | None = None
        """What ended the client's membership for good, when `tolerant`."""
        self.tolerant = False
        self._told: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()

    def __enter__(self) -> "Member":
        self.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.leave()

    # --- for tests

    def leave(self) -> None:
        """Close the client (a dynamic member leaves its group) and end the thread."""
        self.ending.set()
        self.join(DEADLINE)
        assert not self.is_alive(), f"{self.name} does not end"

    def do(self, action: Callable[[], T]) -> T:
        """Have the thread do something between two polls; its result or its exception."""
        future: Future[T] = Future()
        self._told.put((future, action))
        return future.result(DEADLINE)

    def commit(self, offsets: Mapping[Place, int] | None = None) -> None:
        """Commit, synchronously: offsets, or the positions of everything assigned."""
        self.do(lambda: self._commit(offsets))

    def commit_async(self, offsets: Mapping[Place, int]) -> None:
        """Commit without waiting, then wait for the call-back."""
        self.do(lambda: self._commit_async(offsets))

    def committed(self, places: Iterable[Place]) -> dict[Place, int | None]:
        """What is committed; None where nothing is."""
        return self.do(lambda: self._committed(list(places)))

    def seek(self, place: Place, offset: int) -> None:
        """Go on reading elsewhere."""
        self.do(lambda: self._seek(place, offset))

    def position(self, place: Place) -> int:
        """The next offset the client will give."""
        return self.do(lambda: self._position(place))

    # --- the thread

    def run(self) -> None:
        try:
            self._open()
            try:
                self._work()
            finally:
                self.closing = True
                self.watch.gave_up_all(self.name)
                self._close()
        except BaseException as error:  # noqa: BLE001 - raised again by Watch.until
            self.fatal = error
            if self.tolerant:
                self.watch.gave_up_all(self.name)
            else:
                self.watch.fail(error)
        with self.watch.changed:
            self.watch.changed.notify_all()

    def _work(self) -> None:
        while not self.ending.is_set():
            while not self._told.empty():
                future, action = self._told.get()
                try:
                    future.set_result(action())
                except BaseException as error:  # noqa: BLE001 - for whoever told
                    future.set_exception(error)
            self._poll()
        if self.commits == "each":
            self._commit(None)

    @abstractmethod
    def _open(self) -> None:
        """Make the client and subscribe."""

    @abstractmethod
    def _poll(self) -> None:
        """One poll of at most POLL_SECONDS; tell the watch what came, commit if so told."""

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _commit(self, offsets: Mapping[Place, int] | None) -> None: ...

    @abstractmethod
    def _commit_async(self, offsets: Mapping[Place, int]) -> None: ...

    @abstractmethod
    def _committed(self, places: list[Place]) -> dict[Place, int | None]: ...

    @abstractmethod
    def _seek(self, place: Place, offset: int) -> None: ...

    @abstractmethod
    def _position(self, place: Place) -> int: ...
