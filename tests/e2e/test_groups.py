"""Consumer groups with every stock client: rebalances, commits, static members, cooperation."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.clients.kcat import Kcat
from tests.e2e.clients.python_confluent import Confluent
from tests.e2e.corpus import Item, base_timestamp
from tests.e2e.members import KINDS, Member, Place, Watch
from tests.e2e.members.python_confluent import ConfluentMember

NewName = Callable[[], str]
PARTITIONS = 6
COOPERATIVE = ["confluent-cooperative", "confluent-consumer", "kafka-python-cooperative"]


@dataclass
class Group:
    """A topic and a group of its own for one test, with clients of one kind."""

    bootstrap: str
    kind: str
    topic: str
    watch: Watch
    written: int = 0

    @property
    def name(self) -> str:
        return f"group-of-{self.topic}"

    @property
    def places(self) -> list[Place]:
        return [(self.topic, partition) for partition in range(PARTITIONS)]

    def member(self, name: str, **more: object) -> Member:
        """A member that has not begun."""
        make, way = KINDS[self.kind]
        topics = more.pop("topics", [self.topic])
        watch = more.pop("watch", self.watch)
        return make(self.bootstrap, self.name, topics, watch, name, way=way, **more)  # type: ignore[arg-type]

    def fill(self, count: int, topic: str | None = None) -> None:
        """`count` more records to every partition; record n of a partition is b"n"."""
        base = base_timestamp()
        items = [
            Item(partition, base, None, b"%d" % number)
            for number in range(self.written, self.written + count)
            for partition in range(PARTITIONS)
        ]
        Confluent(self.bootstrap).produce(topic or self.topic, items)
        if topic is None:
            self.written += count

    def until_shared(self, *members: Member) -> None:
        """Every partition has an owner, and every member has some."""
        self.watch.until(self.watch.shared(members, self.places), "all partitions are shared")

    def until_read(self, each: int) -> None:
        """Every partition was read up to and including record `each` - 1, all in order, once."""
        expected = [(number, b"%d" % number) for number in range(each)]
        self.watch.until(
            lambda: all(len(self.watch.reads.get(p, ())) >= each for p in self.places),
            f"{each} records of every partition",
        )
        for place in self.places:
            assert self.watch.reads[place] == expected


@pytest.fixture
def group(request: pytest.FixtureRequest, bootstrap: str, new_name: NewName) -> Iterator[Group]:
    kind = request.param
    topic = new_name()
    Confluent(bootstrap).create_topic(topic, PARTITIONS)
    yield Group(bootstrap, kind, topic, Watch())


every_kind = pytest.mark.parametrize("group", KINDS, indirect=True)
every_protocol = pytest.mark.parametrize(
    "group", ["confluent", "confluent-consumer", "aiokafka", "kafka-python"], indirect=True
)
"""For what does not depend on the assignor."""


@every_kind
def test_members_share_read_and_commit(group: Group) -> None:
    group.fill(20)
    first = group.member("first", commits="each")
    second = group.member("second", commits="each")
    with first:
        group.until_shared(first)
        group.until_read(20)
        with second:
            group.until_shared(first, second)
            sizes = {len(group.watch.share_of(first)), len(group.watch.share_of(second))}
            assert sizes == {PARTITIONS // 2}
            group.fill(20)
            group.until_read(40)
        group.until_shared(first)
        group.fill(5)
        group.until_read(45)
        group.watch.until(
            lambda: group.watch.committed == dict.fromkeys(group.places, 45), "the last commits"
        )
        assert first.committed(group.places) == dict.fromkeys(group.places, 45)


@every_protocol
def test_a_new_member_begins_at_the_commit(group: Group) -> None:
    """Synchronous and asynchronous commits of offsets of one's own choice."""
    group.fill(20)
    wanted = {place: 3 * number for number, place in enumerate(group.places)}
    with group.member("before") as before:
        group.until_read(20)
        assert before.committed(group.places) == dict.fromkeys(group.places)
        before.commit_async(dict.fromkeys(group.places, 19))
        assert before.committed(group.places) == dict.fromkeys(group.places, 19)
        before.commit(wanted)
    watch = Watch()
    watch.was_committed(wanted)
    with group.member("after", watch=watch):
        watch.until(lambda: watch.count() >= sum(20 - o for o in wanted.values()), "the rest")
        for place, offset in wanted.items():
            assert [read[0] for read in watch.reads.get(place, ())] == list(range(offset, 20))


@every_protocol
def test_automatic_commits(group: Group) -> None:
    """Positions are committed now and then, and when a member leaves."""
    group.fill(20)
    with group.member("before", commits="auto") as before:
        group.until_read(20)
        end = time.monotonic() + 20
        while before.committed(group.places) != dict.fromkeys(group.places, 20):
            assert time.monotonic() < end, before.committed(group.places)
    group.fill(5)
    watch = Watch()
    watch.was_committed(dict.fromkeys(group.places, 20))
    with group.member("after", commits="auto", watch=watch):
        watch.until(lambda: watch.count() >= 5 * PARTITIONS, "what was written meanwhile")
    group.fill(3)
    watch = Watch()
    watch.was_committed(dict.fromkeys(group.places, 25))
    with group.member("last", watch=watch):
        watch.until(lambda: watch.count() >= 3 * PARTITIONS, "what the leaving member left")


@every_protocol
def test_seek_inside_a_group(group: Group) -> None:
    group.watch.exact = False
    group.fill(20)
    place = group.places[2]
    with group.member("alone") as alone:
        group.until_read(20)
        assert alone.position(place) == 20
        alone.seek(place, 7)
        again = [(n, b"%d" % n) for n in range(7, 20)]
        group.watch.until(lambda: group.watch.reads[place][20:] == again, "read again from 7")
        alone.seek(place, 19)
        group.watch.until(lambda: group.watch.reads[place][33:] == again[12:], "and from 19")
        assert alone.position(place) == 20
        assert sum(len(group.watch.reads[p]) for p in group.places) == 20 * PARTITIONS + 14


@every_kind
def test_static_member_comes_back_without_a_rebalance(group: Group) -> None:
    group.fill(5)
    stays = group.member("stays", instance="one", commits="each")
    with stays:
        group.until_shared(stays)
        with group.member("goes", instance="two", commits="each") as goes:
            group.until_shared(stays, goes)
            had = group.watch.share_of(goes)
            group.until_read(5)
        seen = [move for move in group.watch.moves if move.member == "stays"]
        with group.member("comes", instance="two", commits="each") as comes:
            group.until_shared(stays, comes)
            assert group.watch.share_of(comes) == had
            group.fill(5)
            group.until_read(10)
        assert [move for move in group.watch.moves if move.member == "stays"] == seen


@every_kind
def test_regular_expression(group: Group, bootstrap: str) -> None:
    """Two topics that match, and one more that is made later.

    A broker looks for new topics of a regular expression of its own (KIP-848) every 10 s at most,
    too long to wait for here.
    """
    admin = Confluent(bootstrap)
    both = {*group.places, (f"{group.topic}-other", 0), (f"{group.topic}-other", 1)}
    admin.create_topic(f"{group.topic}-other", 2)
    admin.create_topic(f"not-{group.topic}", 1)
    with group.member("alone", topics=f"{re.escape(group.topic)}.*") as alone:
        group.watch.until(group.watch.shared([alone], both), "both topics are owned")
        if group.kind != "confluent-consumer":
            admin.create_topic(f"{group.topic}-third", 1)
            three = {*both, (f"{group.topic}-third", 0)}
            group.watch.until(group.watch.shared([alone], three), "the new topic is found")


@every_protocol
def test_more_partitions(group: Group, bootstrap: str) -> None:
    group.fill(3)
    member = group.member("alone", commits="each")
    with member:
        group.until_read(3)
        Confluent(bootstrap).add_partitions(group.topic, PARTITIONS + 4)
        wanted = [(group.topic, partition) for partition in range(PARTITIONS + 4)]
        group.watch.until(group.watch.shared([member], wanted), "the new partitions are owned")
        Confluent(bootstrap).produce(group.topic, [Item(9, base_timestamp(), None, b"late")])
        group.watch.until(
            lambda: group.watch.reads.get((group.topic, 9)) == [(0, b"late")], "and read"
        )


@pytest.mark.parametrize("group", COOPERATIVE, indirect=True)
def test_cooperation_moves_only_what_must_move(group: Group) -> None:
    """6 partitions: 6, then 3 + 3, then 2 + 2 + 2, then 3 + 3; whoever keeps, reads on."""
    watch = group.watch
    members = [group.member(name, commits="each") for name in ("a", "b", "c")]
    with members[0]:
        group.until_shared(members[0])
        assert len(watch.given_up()) == 0
        with members[1]:
            group.until_shared(*members[:2])
            assert len(watch.given_up()) == 3
            with members[2]:
                group.until_shared(*members)
                assert len(watch.given_up()) == 5
                before = dict(watch.owners)
                gone = len(watch.moves)
            group.until_shared(*members[:2])
        kept = [m for m in watch.moves[gone:] if not m.gained and m.member != "c" and m.places]
        assert all(m.member == "b" for m in kept), "only b, which left after c, gave up anything"
        assert {p for p, owner in before.items() if owner == "a"} <= watch.share_of(members[0])


@pytest.mark.parametrize("group", ["confluent"], indirect=True)
def test_a_second_static_member_fences_the_first(group: Group) -> None:
    first = group.member("first", instance="same")
    first.tolerant = True
    with first:
        group.until_shared(first)
        watch = Watch()
        with group.member("second", instance="same", watch=watch) as second:
            watch.until(watch.shared([second], group.places), "the second has taken over")
            group.watch.until(lambda: first.fatal is not None, "the first is fenced")
            assert "fenced by other consumer" in str(first.fatal)


@pytest.mark.parametrize("group", ["confluent"], indirect=True)
def test_groups_of_both_protocols_become_each_other(group: Group, bootstrap: str) -> None:
    """A live group goes from the classic protocol to the consumer protocol and back (KIP-848)."""
    group.fill(10)

    def of(way: str, name: str) -> Member:
        return ConfluentMember(
            bootstrap, group.name, [group.topic], group.watch, name, way=way, commits="each"
        )

    classic, new = of("cooperative-sticky", "classic"), of("consumer", "new")
    with classic:
        group.until_read(10)
        with new:
            group.until_shared(classic, new)
            group.fill(10)
            group.until_read(20)
            classic.leave()
            group.until_shared(new)
            group.fill(5)
            group.until_read(25)
            with of("cooperative-sticky", "back") as back:
                group.until_shared(new, back)
                new.leave()
                group.until_shared(back)
                group.fill(5)
                group.until_read(30)


def test_kcat_group(bootstrap: str, new_name: NewName) -> None:
    """`kcat -G`: reads what there is, commits, and goes on from there."""
    if not Kcat.available():
        pytest.skip("kcat is not installed (Debian package kcat)")
    topic = new_name()
    Confluent(bootstrap).create_topic(topic, PARTITIONS)
    client = Kcat(bootstrap)
    group = Group(bootstrap, "confluent", topic, Watch())
    options = ["-q", "-e", "-X", "auto.offset.reset=earliest", topic]
    group.fill(4)
    assert len(client.run("-G", group.name, *options).split()) == 4 * PARTITIONS
    group.fill(2)
    assert sorted(client.run("-G", group.name, *options).split()) == [b"4"] * 6 + [b"5"] * 6
