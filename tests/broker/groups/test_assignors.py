"""The assignors of consumer groups: what holds for whatever input, and the very answers of Apache
Kafka's.

Recorded: tests/broker/captured/consumer-assignments.jsonl.gz, made by calling the assignors of
4.4.0; often a case goes on with what the one before gave.
"""

import gzip
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from broker.groups.assignors import ASSIGNORS, Assignment, Subscriber, enabled
from broker.groups.hash_order import members_ordered
from tests.kit.hosted import CAPTURED
from tests.kit.strategies import profile

TOPICS = [bytes([number]) * 16 for number in range(1, 6)]
NAMES = [f"m{number}" for number in range(12)]


class Case:
    """Members with a present assignment (that may be of topics and partitions that are gone), and
    what an assignor makes of them."""

    def __init__(
        self, members: Sequence[Subscriber], counts: Mapping[bytes, int], alike: bool, assignor: str
    ) -> None:
        self.members, self.counts, self.alike, self.assignor = members, counts, alike, assignor
        found = ASSIGNORS[assignor](members, counts, alike)
        self.found = {m.member_id: found.get(m.member_id, {}) for m in members}

    def again(self) -> "Case":
        """The same members with what they were given."""
        members = [m._replace(assigned=self.found[m.member_id]) for m in self.members]
        return Case(members, self.counts, self.alike, self.assignor)


def held(assignment: Assignment) -> set[tuple[bytes, int]]:
    return {(topic, partition) for topic, ps in assignment.items() for partition in ps}


@st.composite
def cases(draw: st.DrawFn, alike: st.SearchStrategy[bool], assignor: str) -> Case:
    """Each partition has at most one owner to begin with, as in a target."""
    same = draw(alike)
    counts = draw(st.dictionaries(st.sampled_from(TOPICS), st.integers(1, 12), min_size=1))
    names = members_ordered(draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True)))
    some = st.frozensets(st.sampled_from(sorted(counts)))
    owned: dict[str, dict[bytes, list[int]]] = {name: {} for name in names}
    for topic in TOPICS:  # of topics too that nobody reads any more
        for partition in range(draw(st.integers(0, 14))):
            owner = draw(st.sampled_from([*names, "gone"]))
            if owner in owned:
                owned[owner].setdefault(topic, []).append(partition)
    if same:
        # Partitions are never taken away from a topic, and the topics of a group that reads one
        # set alone are in its target.
        owned = {
            name: {
                topic: [p for p in ps if p < counts[topic]]
                for topic, ps in has.items()
                if topic in counts and any(p < counts[topic] for p in ps)
            }
            for name, has in owned.items()
        }
    members = [
        Subscriber(
            name,
            draw(st.sampled_from([None, f"i-{name}"])),
            frozenset(counts) if same else draw(some),
            {topic: tuple(ps) for topic, ps in owned[name].items()},
        )
        for name in names
    ]
    return Case(members, counts, same, assignor)


def check_valid(case: Case) -> None:
    """Every partition that somebody reads has one owner, who reads it."""
    wanted = {t for m in case.members for t in m.topics}
    times = Counter(place for has in case.found.values() for place in held(has))
    assert times == Counter((t, p) for t in wanted for p in range(case.counts[t]))
    for member in case.members:
        assert case.found[member.member_id].keys() <= member.topics
        assert all(case.found[member.member_id].values()), "topics without partitions are left out"


@profile(80)
@given(cases(st.booleans(), "uniform"))
def test_uniform_gives_every_partition_once(case: Case) -> None:
    check_valid(case)


@profile(80)
@given(cases(st.booleans(), "range"))
def test_range_gives_every_partition_once(case: Case) -> None:
    check_valid(case)


@profile(80)
@given(cases(st.just(True), "uniform"))
def test_uniform_is_even_and_moves_as_little_as_it_can(case: Case) -> None:
    sizes = [len(held(has)) for has in case.found.values()]
    assert max(sizes) - min(sizes) <= 1
    # Nobody loses what fits into its part; the odd ones stay with those that have more, so far as
    # there are odd ones.
    each, more = divmod(sum(case.counts.values()), len(case.members))
    before = {m.member_id: held(m.assigned) for m in case.members}
    kept = sum(len(before[name] & held(has)) for name, has in case.found.items())
    above = sum(len(has) > each for has in before.values())
    assert kept == sum(min(len(has), each) for has in before.values()) + min(above, more)
    again = case.again()
    assert again.found == case.found, "what is even stays as it is"


@profile(80)
@given(cases(st.just(False), "uniform"))
def test_uniform_is_even_where_members_could_swap(case: Case) -> None:
    """No partition could go to another subscriber that has two fewer."""
    sizes = {name: len(held(has)) for name, has in case.found.items()}
    for member in case.members:
        for topic in case.found[member.member_id]:
            for other in case.members:
                if topic in other.topics:
                    assert sizes[member.member_id] - sizes[other.member_id] <= 1
    again = case.again()
    assert again.found == case.found, "what is even stays as it is"


@profile(80)
@given(cases(st.booleans(), "range"))
def test_ranges_are_consecutive_and_even(case: Case) -> None:
    """Per topic: static members first, by instance id, then the others by member id."""
    ordered = sorted(
        case.members, key=lambda m: (m.instance_id is None, m.instance_id or m.member_id)
    )
    for topic, count in case.counts.items():
        parts = [case.found[m.member_id].get(topic, ()) for m in ordered if topic in m.topics]
        if parts:
            assert [p for part in parts for p in part] == list(range(count))
            sizes = [len(part) for part in parts]
            assert sizes == sorted(sizes, reverse=True)
            assert sizes[0] - sizes[-1] <= 1


def partitions(row: Mapping[str, Sequence[int]]) -> Assignment:
    return {bytes.fromhex(topic): tuple(ps) for topic, ps in row.items()}


def subscriber(row: Any) -> Subscriber:
    member_id, instance_id, topics, assigned = row
    ids = frozenset(bytes.fromhex(topic) for topic in topics)
    return Subscriber(member_id, instance_id, ids, partitions(assigned))


def test_answers_are_kafkas() -> None:
    """The order of partitions too, which decides who loses them next."""
    lines = gzip.decompress((CAPTURED / "consumer-assignments.jsonl.gz").read_bytes()).splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) > 300
    for row in rows:
        counts = {bytes.fromhex(topic): count for topic, count in row["topics"].items()}
        case = Case([*map(subscriber, row["members"])], counts, row["alike"], row["assignor"])
        found = {name: has for name, has in case.found.items() if has}
        expected = {name: partitions(has) for name, has in row["gives"].items()}
        if row["assignor"] == "range":
            assert found == expected, row
        else:
            assert {n: {t: list(p) for t, p in h.items()} for n, h in found.items()} == {
                n: {t: list(p) for t, p in h.items()} for n, h in expected.items()
            }, row


def test_the_setting_names_assignors_or_their_classes() -> None:
    prefix = "org.apache.kafka.coordinator.group.assignor."
    assert enabled(["range", f"{prefix}UniformAssignor", "com.example.Mine"]) == [
        "range",
        "uniform",
    ]
