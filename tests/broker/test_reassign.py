"""What follows from a wish for other replicas (KIP-455): assignments, refusals, leaderships."""

import pytest

from broker.cluster.layout import Assignment, Leadership, TopicNode
from broker.controller import reassign
from broker.controller.reassign import Rules, Target, plan, toward
from broker.controller.state import Deletion, State
from protocol.errors import ErrorCode
from tests.broker.test_elect import KEY, cluster


@pytest.mark.parametrize(
    ("before", "replicas", "after"),
    [
        (Assignment((0, 1)), (2, 1), Assignment((2, 1, 0), (2,), (0,))),
        (Assignment((0, 1)), (1, 0), Assignment((1, 0))),
        (Assignment((0,)), (0, 2), Assignment((0, 2), (2,))),
        (Assignment((0, 2)), (0,), Assignment((0, 2), (), (2,))),
        # Another target while it moves: from the same origin.
        (Assignment((2, 1, 0), (2,), (0,)), (3, 1), Assignment((3, 1, 0), (3,), (0,))),
        (Assignment((2, 1, 0), (2,), (0,)), (1, 0), Assignment((1, 0))),
    ],
)
def test_from_origin_to_target(
    before: Assignment, replicas: tuple[int, ...], after: Assignment
) -> None:
    assert toward(before, replicas) == after
    assert set(reassign.origin(after)) == set(reassign.origin(before))
    assert reassign.target(after) == replicas


def moving() -> State:
    """Four brokers; t-0 moves from 0, 1 to 2, 1."""
    state = cluster({KEY: ((0, 1), 0, (0, 1)), ("u", 0): ((0,), 0, (0,))}, brokers=4)
    partition = state.partition(KEY)
    assert partition is not None
    partition.assignment = Assignment((2, 1, 0), (2,), (0,))
    return state


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (Target(KEY, ()), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (Target(KEY, (1, 1)), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (Target(KEY, (1, -1)), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (Target(KEY, (1, 7)), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (Target(("u", 0), None), ErrorCode.NO_REASSIGNMENT_IN_PROGRESS),
        (Target(("u", 1), None), ErrorCode.NO_REASSIGNMENT_IN_PROGRESS),
        (Target(("u", 1), (7,)), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (Target(("u", 1), (0,)), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (Target(("v", 0), (0,)), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (Target(("going", 0), (0,)), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ],
)
def test_refusals(target: Target, code: ErrorCode) -> None:
    state = moving()
    state.topics["going"] = state.topics["u"]
    state.deletions["going"] = Deletion()
    state.add_topic("w", TopicNode(b"w".rjust(16), {0: Assignment((0,))}))
    planned, refused = plan(state, [target, Target(("w", 0), (0, 1))])
    assert refused.keys() == {target.key} and refused[target.key].code == code
    assert planned == {("w", 0): Assignment((0, 1), (1,))}


def test_who_is_there_already_need_not_be_alive() -> None:
    state = moving()
    del state.brokers[1]
    planned, refused = plan(state, [Target(KEY, (3, 1))])
    assert planned and not refused
    # Nor while the topic waits for it in order to be deleted.
    state.deletions["t"] = Deletion()
    planned, refused = plan(state, [Target(KEY, (3, 1))])
    assert not planned and refused[KEY].code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_newer_rules() -> None:
    state = moving()
    unknown = [Target(("u", 1), None), Target(("v", 0), (7,))]
    _, refused = plan(state, unknown, Rules(known_first=True))
    assert {r.code for r in refused.values()} == {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
    fixed = Rules(fixed_count=True)
    _, refused = plan(state, [Target(("u", 0), (0, 1)), Target(KEY, (3, 2, 1))], fixed)
    assert {r.code for r in refused.values()} == {ErrorCode.INVALID_REPLICATION_FACTOR}
    planned, refused = plan(state, [Target(("u", 0), (1,)), Target(KEY, (3, 2))], fixed)
    assert len(planned) == 2 and not refused
    # The old znode's targets are not held against who is alive.
    planned, refused = plan(state, [Target(("u", 0), (7,))], reassign.BY_ZNODE)
    assert planned == {("u", 0): Assignment((7, 0), (7,), (0,))} and not refused


def test_a_target_is_reached_when_all_of_it_is_in_sync_and_one_can_lead() -> None:
    state = moving()
    partition = state.partition(KEY)
    assert partition is not None
    isrs: list[tuple[tuple[int, ...], bool]] = [((0, 1), False), ((0, 1, 2), True), ((2, 1), True)]
    for isr, done in isrs:
        partition.state = Leadership(0, 4, isr, 6)
        assert reassign.reached(state, KEY, partition) is done
    state.shutting_down |= {1, 2}
    assert not reassign.reached(state, KEY, partition)


def test_leaderships_on_the_way() -> None:
    state = moving()
    partition = state.partition(KEY)
    assert partition is not None
    assert reassign.announced(state, KEY) == Leadership(0, 5, (0, 1), 7)
    partition.state = Leadership(0, 5, (0, 1, 2), 7)
    partition.assignment = Assignment((2, 1))
    # The old leader is not of the target; of those who are, the first in the ISR leads.
    assert reassign.led_by_target(state, KEY) == Leadership(2, 6, (0, 1, 2), 7)
    state.shutting_down.add(2)
    assert reassign.led_by_target(state, KEY) == Leadership(1, 6, (0, 1, 2), 7)
    partition.state = Leadership(1, 5, (0, 1, 2), 7)
    assert reassign.led_by_target(state, KEY) == Leadership(1, 6, (0, 1, 2), 7)
    assert reassign.without(state, KEY, (0,)) == Leadership(1, 6, (1, 2), 7)
    assert reassign.without(state, KEY, (3,)) is None
    # Called off while one of the new replicas leads.
    assert reassign.without(state, KEY, (0, 1)) == Leadership(-1, 7, (2,), 7)
    state.shutting_down.clear()
    assert reassign.without(state, KEY, (0, 1)) == Leadership(2, 7, (2,), 7)


def test_the_last_in_sync_is_not_given_up() -> None:
    """As by calling a move off when only a new replica is in sync any more."""
    state = moving()
    partition = state.partition(KEY)
    assert partition is not None
    partition.state = Leadership(2, 5, (2,), 7)
    for target in (None, (3, 1), (0, 1)):
        _, refused = plan(state, [Target(KEY, target)])
        assert refused[KEY].code == ErrorCode.INVALID_REPLICA_ASSIGNMENT
    planned, _ = plan(state, [Target(KEY, (2,))])
    assert planned == {KEY: Assignment((2, 1, 0), (2,), (1, 0))}


def test_a_topic_in_deletion_moves_no_more() -> None:
    state = moving()
    assert reassign.running(state, [KEY, ("u", 0), ("v", 3)]) == {
        KEY: Assignment((2, 1, 0), (2,), (0,))
    }
    state.deletions["t"] = Deletion()
    assert reassign.running(state, [KEY]) == {}
