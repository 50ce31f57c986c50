"""Names, replica assignment and growth of topics: pure checks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.auto_topics import coordinator_partition, java_hash
from broker.cluster.layout import Assignment
from broker.controller.topics import (
    BrokerSite,
    Defaults,
    PartitionsWish,
    Refusal,
    Refused,
    TopicWish,
    assign_replicas,
    collisions,
    name_error,
    plan_partitions,
    plan_topic,
)
from protocol.errors import ErrorCode

SITES = [BrokerSite(i) for i in range(5)]
DEFAULTS = Defaults(3, 2)


def zero(_: int) -> int:
    return 0


@pytest.mark.parametrize(
    ("name", "fine"),
    [
        ("a", True),
        ("A.b_c-9", True),
        ("a" * 249, True),
        ("...", True),
        ("a" * 250, False),
        ("", False),
        (".", False),
        ("..", False),
        ("a b", False),
        ("a/b", False),
        ("\u00e9", False),
        ("a\n", False),
    ],
)
def test_names(name: str, fine: bool) -> None:
    assert (name_error(name) is None) is fine


def test_collisions() -> None:
    assert collisions("a.b", ["a_b", "a.b", "a.c", "ab"]) == ["a_b"]
    assert collisions("ab", ["a_b"]) == []


def test_assignment_is_the_round_robin_of_the_documentation() -> None:
    """The example of Kafka's own rule: 5 brokers, 10 partitions, 3 replicas, start at 0."""
    chosen = assign_replicas(SITES, 10, 3, zero)
    assert [a.replicas for a in chosen.values()] == [
        (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 0), (4, 0, 1),
        (0, 2, 3), (1, 3, 4), (2, 4, 0), (3, 0, 1), (4, 1, 2),
    ]  # fmt: skip


@given(
    st.integers(1, 8), st.integers(1, 30), st.integers(1, 8), st.integers(0, 100), st.integers(0, 9)
)
def test_assignments_are_spread(
    brokers: int, partitions: int, replication: int, seed: int, start: int
) -> None:
    sites = [BrokerSite(i * 3) for i in range(brokers)]
    replication = min(replication, brokers)
    chosen = assign_replicas(
        sites, partitions, replication, lambda n: seed % n, start_partition=start
    )
    assert list(chosen) == list(range(start, start + partitions))
    leads: dict[int, int] = dict.fromkeys((s.id for s in sites), 0)
    for assignment in chosen.values():
        assert len(set(assignment.replicas)) == replication
        assert set(assignment.replicas) <= leads.keys()
        leads[assignment.replicas[0]] += 1
    assert max(leads.values()) - min(leads.values()) <= 1


def refusal(wish: TopicWish, existing: tuple[str, ...] = ()) -> ErrorCode:
    with pytest.raises(Refused) as caught:
        plan_topic(wish, existing, SITES, DEFAULTS, zero)
    assert caught.value.refusal.message
    return caught.value.refusal.code


def test_settings_are_looked_at_before_brokers_that_are_not_there() -> None:
    wrong = Refusal(ErrorCode.INVALID_CONFIG, "bad")
    elsewhere = [(0, (0, 99))]
    wish = TopicWish("t", assignments=elsewhere, config_refusal=wrong)
    assert refusal(wish) == ErrorCode.INVALID_CONFIG
    assert refusal(TopicWish("t", assignments=elsewhere)) == ErrorCode.INVALID_REPLICA_ASSIGNMENT
    twice = TopicWish("t", assignments=[(0, (0, 0))], config_refusal=wrong)
    assert refusal(twice) == ErrorCode.INVALID_REPLICA_ASSIGNMENT


def test_counts_and_defaults() -> None:
    plan = plan_topic(TopicWish("t"), (), SITES, DEFAULTS, zero)
    assert (len(plan.assignments), plan.replication) == (3, 2)
    plan = plan_topic(TopicWish("t", 1, 1, configs={"a": "1"}), (), SITES, DEFAULTS, zero)
    assert plan.assignments == {0: Assignment((0,))}
    assert plan.configs == {"a": "1"}


def test_the_first_thing_wrong_is_told() -> None:
    """In the order in which Apache Kafka 3.9 looks (asked of a real one)."""
    bad = TopicWish("bad!", 0, -2, configs={"x": None})
    assert refusal(bad, ("bad!",)) == ErrorCode.TOPIC_ALREADY_EXISTS
    assert refusal(bad) == ErrorCode.INVALID_CONFIG
    both = TopicWish("bad!", 0, -1, [(0, (0,))])
    assert refusal(both) == ErrorCode.INVALID_REQUEST
    assert refusal(TopicWish("bad!", 0, 1)) == ErrorCode.INVALID_PARTITIONS
    assert refusal(TopicWish("bad!", 1, 9)) == ErrorCode.INVALID_REPLICATION_FACTOR
    assert refusal(TopicWish("bad!", 1, 1)) == ErrorCode.INVALID_TOPIC_EXCEPTION
    collides = TopicWish("a.b", assignments=[(1, (0,))])
    assert refusal(collides, ("a_b",)) == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert refusal(collides) == ErrorCode.INVALID_REPLICA_ASSIGNMENT


@pytest.mark.parametrize(
    "assignments",
    [
        [(0, (0, 0))],
        [(0, (0,)), (1, (0, 1))],
        [(0, (0,)), (2, (0,))],
        [(-1, (0,)), (0, (0,))],
    ],
)
def test_bad_assignments(assignments: list[tuple[int, tuple[int, ...]]]) -> None:
    wish = TopicWish("t", assignments=assignments)
    assert refusal(wish) == ErrorCode.INVALID_REPLICA_ASSIGNMENT


@pytest.mark.parametrize("replicas", [(99,), (0, 99), ()])
def test_a_topic_that_nobody_could_host_is_refused(replicas: tuple[int, ...]) -> None:
    wish = TopicWish("t", assignments=[(0, replicas)])
    with pytest.raises(Refused) as refused:
        plan_topic(wish, (), SITES, DEFAULTS, zero)
    assert refused.value.refusal.code == ErrorCode.INVALID_REPLICA_ASSIGNMENT


def grow(
    total: int, given: list[tuple[int, ...]] | None, present: dict[int, Assignment]
) -> dict[int, Assignment]:
    return plan_partitions(PartitionsWish("t", total, given), present, SITES, zero)


PRESENT = {0: Assignment((2, 3)), 1: Assignment((3, 4))}


def test_growth_goes_on_behind_the_first_partition() -> None:
    assert grow(4, None, PRESENT) == {2: Assignment((4, 2)), 3: Assignment((0, 3))}
    assert grow(3, [(0, 1)], PRESENT) == {2: Assignment((0, 1))}


def test_growth_as_apache_kafka_did_it() -> None:
    """Seen on three brokers: [0,1,2], [1,2,0] grew by [2,0,1]."""
    present = {0: Assignment((0, 1, 2)), 1: Assignment((1, 2, 0))}
    added = plan_partitions(PartitionsWish("rep", 3), present, SITES[:3], zero)
    assert added == {2: Assignment((2, 0, 1))}


@pytest.mark.parametrize(
    ("total", "given", "code"),
    [
        (2, None, ErrorCode.INVALID_PARTITIONS),
        (1, None, ErrorCode.INVALID_PARTITIONS),
        (0, [(99,)], ErrorCode.INVALID_PARTITIONS),
        (3, [(99, 1)], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (4, [(0, 1)], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (3, [()], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (3, [(0, 0)], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (3, [(0,)], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (3, [], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    ],
)
def test_refused_growth(total: int, given: list[tuple[int, ...]] | None, code: ErrorCode) -> None:
    with pytest.raises(Refused) as caught:
        grow(total, given, PRESENT)
    assert caught.value.refusal.code == code


@pytest.mark.parametrize(
    ("total", "given", "sentence"),
    [
        (1, None, "Topic currently has 2 partitions, which is higher than the requested 1."),
        (2, None, "Topic already has 2 partitions."),
        (3, [(99, 1), (0, 1)], "Unknown broker(s) in replica assignment: 99."),
        (5, [(0, 1)], "Increasing the number of partitions by 3 but 1 assignments provided."),
        (3, [()], "Cannot have replication factor of 0 for partition id 2."),
        (3, [(3, 2, 3)], "Duplicate brokers not allowed in replica assignment: 2, 3, 3 for "
         "partition id 2."),
        (4, [(0, 1), (2,)], "Inconsistent replication factor between partitions, partition 0 has 2 "
         "while partitions [3] have replication factors [1], respectively."),
    ],
)  # fmt: skip
def test_growth_is_refused_with_apache_kafkas_sentences(
    total: int, given: list[tuple[int, ...]] | None, sentence: str
) -> None:
    with pytest.raises(Refused) as caught:
        grow(total, given, PRESENT)
    assert caught.value.refusal.message == sentence


def test_growth_waits_for_a_reassignment() -> None:
    moving = {0: Assignment((0, 1), (1,), ())}
    with pytest.raises(Refused) as caught:
        grow(3, None, moving)
    assert caught.value.refusal.code == ErrorCode.REASSIGNMENT_IN_PROGRESS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", 0),
        ("a", 97),
        ("g1", 3242),
        ("hello world", 1794106052),
        ("polygenelubricants", -(1 << 31)),
        ("\u00e9", 233),
        ("\U0001f600", 1772899),
    ],
)
def test_java_hash(text: str, value: int) -> None:
    assert java_hash(text) == value


def test_coordinator_partitions() -> None:
    assert coordinator_partition("polygenelubricants", 50) == 0
    assert coordinator_partition("g1", 50) == 42
    assert java_hash("group-with-negative-hash!") != 0
    assert all(0 <= coordinator_partition(f"g{i}", 7) < 7 for i in range(1000))
