"""Decisions about leaders and ISRs that somebody asked for; some against what the controller of
Apache Kafka 3.9.2 was recorded to decide.
"""

from typing import Any

import pytest

from broker.cluster.layout import Assignment, Leadership, Registration, TopicNode
from broker.controller import decide
from broker.controller.decide import Plan
from broker.controller.elect import (
    Election,
    Wish,
    elect,
    imbalanced,
    shut_down,
    still_led,
    wished_isr,
)
from broker.controller.state import Broker, Deletion, Key, State
from protocol.errors import ErrorCode
from tests.broker.test_control_recorded import RUNS, parse

KEY = ("t", 0)


def cluster(
    partitions: dict[Key, tuple[tuple[int, ...], int, tuple[int, ...]]], brokers: int = 3
) -> State:
    """Partitions as replicas, leader, ISR; leader epoch 4, partition epoch 9."""
    state = State(0, 7)
    for broker_id in range(brokers):
        state.brokers[broker_id] = Broker(broker_id, 100 + broker_id, Registration(()))
    for (name, index), (replicas, leader, isr) in partitions.items():
        node = TopicNode(name.encode().rjust(16), {index: Assignment(replicas)})
        partition = state.add_topic(name, node).partitions[index]
        partition.state = Leadership(leader, 4, isr, 6)
        partition.version = 9
    return state


def wish(isr: tuple[int, ...], **more: Any) -> Wish:
    given: dict[str, Any] = {"leader_epoch": 4, "partition_epoch": 9, **more}
    return Wish(KEY, isr=isr, **given)


# --- AlterPartition -------------------------------------------------------------------------------


def test_a_leader_changes_its_isr_and_not_its_epoch() -> None:
    state = cluster({KEY: ((0, 1, 2), 0, (0, 1))})
    assert wished_isr(state, 0, wish((0, 1, 2))) == Leadership(0, 4, (0, 1, 2), 7)
    assert wished_isr(state, 0, wish((0,))) == Leadership(0, 4, (0,), 7)


def test_what_is_so_already_is_fine_whatever_the_partition_epoch() -> None:
    """The first answer was lost."""
    state = cluster({KEY: ((0, 1, 2), 0, (0, 1))})
    assert wished_isr(state, 0, wish((0, 1))) is None
    assert wished_isr(state, 0, wish((0, 1), partition_epoch=8)) is None


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (wish((0,), partition_epoch=10), ErrorCode.NOT_CONTROLLER),
        (wish((0,), leader_epoch=5), ErrorCode.NOT_CONTROLLER),
        (wish((0,), leader_epoch=3), ErrorCode.FENCED_LEADER_EPOCH),
        (wish((0,), partition_epoch=8), ErrorCode.INVALID_UPDATE_VERSION),
        (wish((0,), recovering=True), ErrorCode.INVALID_REQUEST),
        (wish((0, 1, 5)), ErrorCode.INELIGIBLE_REPLICA),
        (wish((0, 2)), ErrorCode.INELIGIBLE_REPLICA),  # about to stop
        (wish((0,))._replace(key=("t", 1)), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (wish((0,))._replace(key=("u", 0)), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ],
)
def test_isrs_refused(given: Wish, code: ErrorCode) -> None:
    state = cluster({KEY: ((0, 1, 2), 0, (0, 1))})
    state.shutting_down.add(2)
    assert wished_isr(state, 0, given) == code


def test_the_mark_of_an_unclean_election_goes_with_the_first_change() -> None:
    state = cluster({KEY: ((0, 1), 1, (1,))})
    partition = state.partition(KEY)
    assert partition is not None
    partition.state = Leadership(1, 4, (1,), 6, recovering=True)
    assert wished_isr(state, 1, wish((1,), recovering=True)) is None
    assert wished_isr(state, 1, wish((1, 0), recovering=True)) == ErrorCode.INVALID_REQUEST
    assert wished_isr(state, 1, wish((1,))) == Leadership(1, 4, (1,), 7)


# --- controlled shutdown --------------------------------------------------------------------------


def test_leadership_moves_to_the_isr_and_followers_leave_it() -> None:
    state = cluster(
        {
            ("led", 0): ((1, 2, 0), 1, (1, 0)),
            ("followed", 0): ((0, 1), 0, (0, 1)),
            ("out", 0): ((0, 1), 0, (0,)),
            ("alone", 0): ((1,), 1, (1,)),
            ("last", 0): ((1, 2), 1, (1,)),
            ("elsewhere", 0): ((0, 2), 0, (0, 2)),
            ("going", 0): ((1, 2), 1, (1, 2)),
        }
    )
    state.deletions["going"] = Deletion()
    state.shutting_down.add(1)
    plan = shut_down(state, 1)
    assert plan.changes == {
        ("led", 0): Leadership(0, 5, (0,), 7),
        ("followed", 0): Leadership(0, 5, (0,), 7),
    }
    assert plan.notices.stop == {1: {("followed", 0): False, ("out", 0): False}}
    assert plan.notices.leader_and_isr == {
        0: {("led", 0): False, ("followed", 0): False},
        1: {("led", 0): False},
        2: {("led", 0): False},
    }
    assert still_led(state, 1) == [("led", 0), ("last", 0)]  # before the plan is applied


def test_two_that_stop_do_not_hand_over_to_each_other() -> None:
    state = cluster({KEY: ((0, 1, 2), 0, (0, 1))})
    state.shutting_down |= {0, 1}
    assert shut_down(state, 0).changes == {}
    assert still_led(state, 0) == [KEY]


# --- elections ------------------------------------------------------------------------------------


def test_preferred_leaders() -> None:
    state = cluster(
        {
            ("needed", 0): ((1, 0), 0, (0, 1)),
            ("needless", 0): ((0, 1), 0, (0, 1)),
            ("lagging", 0): ((1, 0), 0, (0,)),
            ("stopping", 0): ((2, 0), 0, (0, 2)),
            ("going", 0): ((1, 0), 0, (0, 1)),
        }
    )
    state.deletions["going"] = Deletion()
    state.shutting_down.add(2)
    plan, refused = elect(state, [*state.all_keys(), ("none", 0)], Election.PREFERRED)
    assert plan.changes == {("needed", 0): Leadership(1, 5, (0, 1), 7)}
    assert refused == {
        ("needless", 0): ErrorCode.ELECTION_NOT_NEEDED,
        ("lagging", 0): ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
        ("stopping", 0): ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
        ("going", 0): ErrorCode.INVALID_TOPIC_EXCEPTION,
        ("none", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }


def test_unclean_leaders() -> None:
    state = cluster(
        {
            ("led", 0): ((1, 0), 0, (0,)),
            ("clean", 0): ((5, 1, 0), -1, (5, 0)),
            ("unclean", 0): ((5, 1, 0), -1, (5,)),
            ("dead", 0): ((5, 6), -1, (5,)),
        }
    )
    plan, refused = elect(state, state.all_keys(), Election.UNCLEAN)
    assert plan.changes == {
        ("clean", 0): Leadership(0, 5, (0,), 7),
        ("unclean", 0): Leadership(1, 5, (1,), 7, recovering=True),
    }
    assert refused == {
        ("led", 0): ErrorCode.ELECTION_NOT_NEEDED,
        ("dead", 0): ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE,
    }


def test_balance_is_looked_at_broker_by_broker() -> None:
    partitions: dict[Key, Any] = {("a", i): ((0, 1), 0, (0, 1)) for i in range(9)}
    partitions["a", 9] = (0, 1), 1, (0, 1)
    partitions |= {("b", i): ((1, 0), 0, (1, 0)) for i in range(2)}
    partitions |= {("c", i): ((2, 0), 0, (0,)) for i in range(2)}
    state = cluster(partitions)
    # One of ten is led elsewhere: no more than 10 %. All of broker 1's are; broker 2 is behind.
    assert imbalanced(state, 10) == [("b", 0), ("b", 1)]
    assert imbalanced(state, 9) == [("a", 9), ("b", 0), ("b", 1)]
    del state.brokers[1]
    assert imbalanced(state, 10) == []


def test_a_partition_on_its_way_is_given_to_the_first_of_its_target() -> None:
    state = cluster({KEY: ((1, 0, 2), 0, (0, 1))})
    partition = state.partition(KEY)
    assert partition is not None
    partition.assignment = Assignment((1, 0, 2), adding=(2,))
    assert imbalanced(state, 10) == [KEY]
    partition.assignment = Assignment((2, 0, 1), adding=(2,), removing=(1,))
    assert imbalanced(state, 10) == [], "not in sync yet"


# --- as recorded ----------------------------------------------------------------------------------


class Recorded:
    """The cluster of a recorded run, as broker 0 was told of it before a step."""

    def __init__(self, step: str) -> None:
        self.told: dict[Key, Any] = {}
        self.after: dict[Key, Any] = {}
        for row in RUNS:
            if row["ibp"] != "3.9" or row["step"] > step:
                continue
            now = row["step"] == step
            if row["api"] == 6 and row["to"] == 0:
                for topic in parse(row)[0].topic_states:
                    for p in topic.partition_states:
                        key = topic.topic_name, p.partition_index
                        # Later updates of the same step may repeat it.
                        (self.after if now else self.told)[key] = p

    def state(self) -> State:
        state = State(0, 1)
        for broker_id in range(3):
            state.brokers[broker_id] = Broker(broker_id, 100, Registration(()))
        for (name, index), p in self.told.items():
            if p.leader == -2:
                continue
            node = TopicNode(name.encode().rjust(16), {index: Assignment(tuple(p.replicas))})
            partition = state.add_topic(name, node).partitions[index]
            partition.state = Leadership(p.leader, p.leader_epoch, tuple(p.isr), 1)
            partition.version = p.zk_version
        return state

    def check(self, state: State, plan: Plan) -> None:
        """The plan changes what the recorded controller changed, to the same."""
        expected = {
            key: (p.leader, p.leader_epoch, tuple(p.isr))
            for key, p in self.after.items()
            if p.zk_version != self.told[key].zk_version
        }
        assert {key: new[:3] for key, new in plan.changes.items()} == expected
        assert len(expected) > 0
        assert {key: state.partition(key).version + 1 for key in expected} == {  # type: ignore[union-attr]
            key: self.after[key].zk_version for key in expected
        }


def test_a_controlled_shutdown_as_recorded() -> None:
    recorded = Recorded("33-controlled-shutdown")
    state = recorded.state()
    state.shutting_down.add(1)
    plan = shut_down(state, 1)
    # Then its session ended.
    plan.changes |= decide.settle(_without(recorded.state(), 1), [("auto", 0)]).changes
    recorded.check(state, plan)


def test_a_dead_leader_as_recorded() -> None:
    recorded = Recorded("42-leader-killed")
    state = recorded.state()
    del state.brokers[1]
    recorded.check(state, decide.brokers_went(state, {1}))


def test_a_preferred_election_as_recorded() -> None:
    recorded = Recorded("35-preferred-election-api")
    state = recorded.state()
    plan, _ = elect(state, [("rep", i) for i in range(3)], Election.PREFERRED)
    recorded.check(state, plan)


def _without(state: State, broker_id: int) -> State:
    del state.brokers[broker_id]
    return state
