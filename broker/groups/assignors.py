"""The assignors of consumer groups on the broker's side: `uniform` and `range` (KIP-848).

For the same members, subscriptions and present assignment they give what Apache Kafka 4.4.0's give.
Members come in the order of `hash_order.members_ordered`; topics in the order of their ids, where
Kafka has an order that differs from run to run.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeAlias

from broker.groups.hash_order import SMALLEST as SMALLEST_TABLE
from broker.groups.hash_order import copied_set, grown, partitions_ordered, places_for

Assignment: TypeAlias = dict[bytes, tuple[int, ...]]
"""Topic id -> partitions, in the order of Java's tables; none without partitions. Never changed
once made."""


class Subscriber(NamedTuple):
    """A member as assignors see it."""

    member_id: str
    instance_id: str | None
    topics: AbstractSet[bytes]
    """Ids of the topics that exist among those it subscribes to."""
    assigned: Assignment
    """What it should have by the present target."""


Assignor: TypeAlias = Callable[
    [Sequence[Subscriber], Mapping[bytes, int], bool], dict[str, Assignment]
]
"""(members, topic id -> count of partitions, whether all members subscribe alike) -> member id ->
assignment. A member that is left out gets nothing."""


def uniform(
    members: Sequence[Subscriber], counts: Mapping[bytes, int], alike: bool
) -> dict[str, Assignment]:
    """Every member the same number of partitions, give or take one, moving as few as possible.

    Where subscriptions differ the balance holds among a topic's subscribers, as far as 16 rounds
    over all topics get.
    """
    if not members:
        return {}
    if alike:
        return _uniform_alike(members, counts)
    return _Balance(members, counts).run()


def assign_range(
    members: Sequence[Subscriber], counts: Mapping[bytes, int], alike: bool
) -> dict[str, Assignment]:
    """Of each topic a consecutive range for each subscriber, static members first; the present
    assignment does not count.
    """
    subscribers = dict.fromkeys((t for m in members for t in m.topics), 0)
    for member in members:
        for topic in member.topics:
            subscribers[topic] += 1
    begun = dict.fromkeys(subscribers, 0)  # members that were given their range
    result: dict[str, Assignment] = {}
    for member in sorted(members, key=_range_order):
        assignment: Assignment = {}
        for topic in sorted(member.topics):
            number, begun[topic] = begun[topic], begun[topic] + 1
            each, more = divmod(counts[topic], subscribers[topic])
            start = number * each + min(number, more)
            end = start + each + (number < more)
            if start < end:
                assignment[topic] = tuple(range(start, end))
        result[member.member_id] = assignment
    return result


ASSIGNORS: dict[str, Assignor] = {"uniform": uniform, "range": assign_range}
"""The assignors by the name that a member asks for (ServerAssignor)."""
_CLASS_PREFIX = "org.apache.kafka.coordinator.group.assignor."
_CLASSES = {f"{_CLASS_PREFIX}{name.title()}Assignor": name for name in ASSIGNORS}


def enabled(setting: Iterable[str]) -> list[str]:
    """Names of the assignors that `group.consumer.assignors` lists, by name or by Java class; the
    first is the default. What is not built in is left out."""
    names = [_CLASSES.get(entry, entry) for entry in setting]
    return [name for name in names if name in ASSIGNORS]


def _range_order(member: Subscriber) -> tuple[int, str, str]:
    if member.instance_id is not None:
        return 0, member.instance_id, ""
    return 1, member.member_id, ""


# --- uniform, one subscription for all


def _uniform_alike(
    members: Sequence[Subscriber], counts: Mapping[bytes, int]
) -> dict[str, Assignment]:
    topics = sorted(members[0].topics)
    if not topics:
        return {}
    free = _free(members, topics, counts)
    each, more = divmod(sum(counts[topic] for topic in topics), len(members))
    # Who has more than its part already may keep one of the odd partitions; the last get the rest.
    result: dict[str, Assignment] = {}
    unfilled: list[tuple[str, int]] = []
    for member in members:
        has = {t: member.assigned[t] for t in topics if t in member.assigned}
        size = sum(map(len, has.values()))
        quota = each
        if size > each and more:
            quota, more = quota + 1, more - 1
        else:
            unfilled.append((member.member_id, each - min(size, each)))
        result[member.member_id] = has if size <= quota else _reduced(has, quota, free)
    at = 0
    for number, (member_id, wanted) in enumerate(unfilled):
        end = at + wanted + (len(unfilled) - number <= more)
        result[member_id] = _with(result[member_id], free[at:end])
        at = end
    return result


def _free(
    members: Sequence[Subscriber], topics: Sequence[bytes], counts: Mapping[bytes, int]
) -> list[tuple[bytes, int]]:
    """Partitions that nobody has."""
    taken: dict[bytes, set[int]] = {topic: set() for topic in topics}
    for member in members:
        for topic, partitions in member.assigned.items():
            if topic in taken:
                taken[topic].update(partitions)
    return [
        (topic, partition)
        for topic in topics
        for partition in range(counts[topic])
        if partition not in taken[topic]
    ]


def _reduced(has: Assignment, quota: int, free: list[tuple[bytes, int]]) -> Assignment:
    """The first `quota` partitions; the others become free."""
    kept: Assignment = {}
    for topic, partitions in has.items():
        if quota:
            kept[topic] = partitions_ordered(partitions[:quota], copied_set(len(partitions)))
        free += [(topic, partition) for partition in partitions[quota:]]
        quota = max(quota - len(partitions), 0)
    return kept


def _with(assignment: Assignment, added: Sequence[tuple[bytes, int]]) -> Assignment:
    if not added:
        return assignment
    more: dict[bytes, list[int]] = {}
    for topic, partition in added:
        more.setdefault(topic, []).append(partition)
    result = {
        topic: partitions_ordered(partitions, copied_set(len(partitions)))
        for topic, partitions in assignment.items()
    }
    for topic, partitions in more.items():
        had = assignment.get(topic, ())
        table = copied_set(len(had)) if had else SMALLEST_TABLE
        now = (*had, *partitions)
        result[topic] = partitions_ordered(now, grown(table, len(now)))
    return dict(sorted(result.items()))


# --- uniform, subscriptions that differ

MOST_ROUNDS = 16


class _Balance:
    """Hands free partitions to the least loaded subscribers, then moves partitions from the most
    to the least loaded ones, topic by topic. Members are numbers here.
    """

    def __init__(self, members: Sequence[Subscriber], counts: Mapping[bytes, int]) -> None:
        self.members = members
        self.load = [0] * len(members)
        self.subscribers: dict[bytes, list[int]] = {}
        for number, member in enumerate(members):
            for topic in member.topics:
                self.subscribers.setdefault(topic, []).append(number)
        self.owners: dict[bytes, list[int]] = {
            topic: [-1] * counts[topic] for topic in self.subscribers
        }
        self.changed: dict[tuple[bytes, int], _Partitions] = {}
        # Topics that leave the least choice come first.
        self.topics = sorted(
            self.subscribers,
            key=lambda topic: (
                -counts[topic] / len(self.subscribers[topic]),
                len(self.subscribers[topic]),
                _signed_halves(topic),
            ),
        )

    def run(self) -> dict[str, Assignment]:
        """The new assignment."""
        if not self.topics:
            return {}
        for number, member in enumerate(self.members):
            for topic, partitions in member.assigned.items():
                if topic not in member.topics:
                    continue
                owners = self.owners[topic]
                for partition in partitions:
                    if partition < len(owners):
                        owners[partition] = number
                        self.load[number] += 1
                    else:  # not known here yet
                        del self._partitions(topic, number).now[partition]
        for topic in self.topics:
            self._hand_out(topic)
        self._even_out()
        return self._result()

    def _hand_out(self, topic: bytes) -> None:
        owners = self.owners[topic]
        free = [partition for partition, owner in enumerate(owners) if owner < 0]
        if not free:
            return
        least = _Least(self._by_load(topic), self.load)
        for partition in free:
            owner = owners[partition] = least.take()
            self._partitions(topic, owner).add(partition)
            self.load[owner] += 1

    def _by_load(self, topic: bytes) -> list[int]:
        return sorted(self.subscribers[topic], key=lambda number: (self.load[number], number))

    def _even_out(self) -> None:
        """Until a whole round over the topics moved nothing."""
        topics = [topic for topic in self.topics if len(self.subscribers[topic]) > 1]
        last_moved = -1
        for _ in range(MOST_ROUNDS):
            for at, topic in enumerate(topics):
                if at == last_moved:
                    return
                if self._even_out_topic(topic) or last_moved < 0:
                    last_moved = at

    def _even_out_topic(self, topic: bytes) -> bool:
        """Whether a partition was moved."""
        ordered = self._by_load(topic)
        if self.load[ordered[-1]] - self.load[ordered[0]] <= 1:
            return False
        owners, load = self.owners[topic], self.load
        owned: dict[int, list[int]] = {}
        for partition, owner in enumerate(owners):
            owned.setdefault(owner, []).append(partition)
        least, most = _Least(list(ordered), load), _Most(ordered, load)
        moved = False
        while True:
            giver = most.take(owned)
            if giver < 0:
                return moved
            partition = owned[giver].pop()
            taker = least.take()
            if most.level - least.level <= 1:
                return moved
            owners[partition] = taker
            del self._partitions(topic, giver).now[partition]
            self._partitions(topic, taker).add(partition)
            load[giver] -= 1
            load[taker] += 1
            moved = True

    def _partitions(self, topic: bytes, number: int) -> "_Partitions":
        """What a member has of a topic, which is about to change."""
        found = self.changed.get((topic, number))
        if found is None:
            before = self.members[number].assigned.get(topic, ())
            share = -(-len(self.owners[topic]) // len(self.subscribers[topic]))
            found = self.changed[topic, number] = _Partitions(before, share)
        return found

    def _result(self) -> dict[str, Assignment]:
        found: list[Assignment] = [
            {t: ps for t, ps in member.assigned.items() if t in member.topics}
            for member in self.members
        ]
        for (topic, number), partitions in self.changed.items():
            found[number][topic] = partitions_ordered(partitions.now, partitions.table)
        return {
            member.member_id: {topic: mine[topic] for topic in sorted(mine) if mine[topic]}
            for member, mine in zip(self.members, found, strict=True)
        }


class _Partitions:
    """A set of partitions in the order in which they came, and the places of Java's table."""

    __slots__ = ("now", "table")

    def __init__(self, before: tuple[int, ...], share: int) -> None:
        self.now = dict.fromkeys(before)
        self.table = copied_set(len(before)) if before else places_for(int(share / 0.75) + 1)

    def add(self, partition: int) -> None:
        """One more; the table never gets smaller again."""
        self.now[partition] = None
        self.table = grown(self.table, len(self.now))


class _Least:
    """Members in turn, those with the lowest load first; each one taken is one partition up.

    `level` is the load of the members in turn before they get their next one. Loads of members
    not yet reached are read when they are: the caller keeps `load` up to date.
    """

    def __init__(self, ordered: list[int], load: list[int]) -> None:
        self._ordered, self._load = ordered, load
        self.level = load[ordered[0]] - 1
        self._end = self._next = 0

    def take(self) -> int:
        ordered, load = self._ordered, self._load
        if self._next >= self._end:
            self.level += 1
            while self._end < len(ordered) and load[ordered[self._end]] == self.level:
                self._end += 1
            self._next = 0
        self._next += 1
        return ordered[self._next - 1]


class _Most:
    """Members in turn, those with the highest load first; each one taken is one partition down.

    The members in turn are ordered[start:end]; members without a partition to give are put behind.
    """

    def __init__(self, ordered: list[int], load: list[int]) -> None:
        self._ordered, self._load = ordered, load
        self.level = load[ordered[-1]] + 1
        self._start = self._end = len(ordered)
        self._next = self._end - 1

    def take(self, owned: Mapping[int, list[int]]) -> int:
        """A member that owns a partition; -1 when there is none."""
        while True:
            if self._next < self._start:
                self._widen()
            if self._next < 0:
                return -1
            member = self._ordered[self._next]
            self._next -= 1
            if owned.get(member):
                return member
            self._exclude()

    def _widen(self) -> None:
        ordered, load = self._ordered, self._load
        if self._end <= self._start and self._start > 0:
            self.level = load[ordered[self._start - 1]]
        else:
            self.level -= 1
        while self._start > 0 and load[ordered[self._start - 1]] == self.level:
            self._start -= 1
        self._next = self._end - 1

    def _exclude(self) -> None:
        at, last = self._next + 1, self._end - 1
        self._ordered[at], self._ordered[last] = self._ordered[last], self._ordered[at]
        self._end = last


def _signed_halves(topic_id: bytes) -> tuple[int, int]:
    """Java's order of UUIDs: by two signed numbers."""
    return (
        int.from_bytes(topic_id[:8], "big", signed=True),
        int.from_bytes(topic_id[8:], "big", signed=True),
    )
