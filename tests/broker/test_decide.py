"""Decisions of the controller, pure: transcripts, and invariants over random histories."""

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.cluster.layout import Assignment, Endpoint, Leadership, Registration, TopicNode
from broker.controller import decide
from broker.controller.requests import MAX_PARTITIONS, Writer
from broker.controller.state import Broker, State
from protocol.messages.leader_and_isr import LeaderAndIsrRequest
from protocol.messages.stop_replica import StopReplicaRequest
from protocol.messages.update_metadata import UpdateMetadataRequest

ID = b"t" * 16


def broker(broker_id: int, epoch: int = 1) -> Broker:
    endpoint = Endpoint("PLAINTEXT", f"h{broker_id}", 9000 + broker_id)
    return Broker(broker_id, epoch, Registration((endpoint,)))


def state(*brokers: int, **topics: list[tuple[int, ...]]) -> State:
    made = State(0, epoch=7, epoch_version=7)
    made.brokers = {i: broker(i) for i in brokers}
    for name, replicas in topics.items():
        assignments = {i: Assignment(r) for i, r in enumerate(replicas)}
        made.add_topic(name, TopicNode(name.encode().ljust(16), assignments))
    return made


def written(made: State, plan: decide.Plan) -> None:
    """As the shell does when the store has taken the changes."""
    for key, leadership in plan.changes.items():
        partition = made.partition(key)
        assert partition is not None
        partition.state = leadership
        partition.version += 1


def led(
    made: State, leadership: Leadership, key: tuple[str, int] = ("t", 0), written: int = 1
) -> State:
    partition = made.partition(key)
    assert partition is not None
    partition.state, partition.version, partition.written = leadership, 3, written
    return made


def test_a_new_partition_is_led_by_its_first_live_replica() -> None:
    made = state(1, 2, t=[(0, 1, 2), (0,)])
    plan = decide.new_partitions(made, made.all_keys())
    assert plan.changes == {("t", 0): Leadership(1, 0, (1, 2), 7)}
    assert plan.notices.leader_and_isr == {1: {("t", 0): True}, 2: {("t", 0): True}}


def test_a_follower_lost_costs_an_epoch_and_a_lone_isr_member_stays() -> None:
    made = led(state(0, t=[(0, 1)]), Leadership(0, 4, (0, 1), 6))
    assert decide.brokers_went(made, {1}).changes == {("t", 0): Leadership(0, 5, (0,), 7)}
    made = led(state(0, t=[(1,)]), Leadership(1, 4, (1,), 6))
    assert decide.brokers_went(made, {1}).changes == {("t", 0): Leadership(-1, 5, (1,), 7)}
    written(made, decide.brokers_went(made, {1}))
    assert decide.brokers_went(made, {1}).changes == {}


def test_a_leader_comes_from_the_isr_in_order_of_assignment() -> None:
    made = led(state(0, 1, 2, t=[(3, 2, 1, 0)]), Leadership(3, 0, (0, 1, 3), 6))
    assert decide.brokers_went(made, {3}).changes == {("t", 0): Leadership(1, 1, (0, 1), 7)}


def test_an_unclean_leader_only_where_it_is_allowed() -> None:
    made = led(state(0, t=[(1, 0)], u=[(1, 0)]), Leadership(1, 4, (1,), 6))
    led(made, Leadership(1, 4, (1,), 6), ("u", 0))
    plan = decide.brokers_went(made, {1}, lambda topic: topic == "u")
    assert plan.changes == {
        ("t", 0): Leadership(-1, 5, (1,), 7),
        ("u", 0): Leadership(0, 5, (0,), 7, recovering=True),
    }


def test_a_broker_shutting_down_does_not_lead() -> None:
    made = led(state(0, 1, t=[(0, 1)]), Leadership(0, 0, (0, 1), 6))
    made.shutting_down.add(0)
    assert decide.settle(made, [("t", 0)]).changes == {("t", 0): Leadership(1, 1, (1,), 7)}


def test_taking_over_a_healthy_cluster_changes_nothing_and_tells_everything() -> None:
    made = led(state(0, 1, t=[(0, 1)]), Leadership(1, 3, (1, 0), 6))
    plan = decide.take_over(made)
    assert plan.changes == {}
    assert plan.notices.leader_and_isr == {0: {("t", 0): False}, 1: {("t", 0): False}}
    assert plan.notices.everything == {0, 1}
    requests = list(Writer(made, plan.notices, "PLAINTEXT").requests())
    assert [(i, type(r)) for i, r in requests] == [
        (0, LeaderAndIsrRequest),
        (0, UpdateMetadataRequest),
        (1, LeaderAndIsrRequest),
        (1, UpdateMetadataRequest),
    ]
    told = requests[0][1]
    assert isinstance(told, LeaderAndIsrRequest)
    (partition,) = told.topic_states[0].partition_states
    assert (partition.leader, partition.leader_epoch, partition.partition_epoch) == (1, 3, 3)
    assert partition.controller_epoch == 6  # the one that wrote the state
    assert told.controller_epoch == 7
    assert [(b.broker_id, b.host_name) for b in told.live_leaders] == [(1, "h1")]


def test_who_takes_over_raises_the_epoch_once_for_each_that_is_away_and_once_for_a_leader() -> None:
    """Seen on Apache Kafka: its replica state machine starts before that of the partitions."""
    made = state(2, a=[(0, 2)], b=[(0, 1, 2)], c=[(1,)], d=[(2, 0)], e=[(2,)], f=[(1,)])
    for name, (leader, isr) in {
        "a": (0, (0, 2)),
        "b": (0, (0, 1, 2)),
        "c": (-1, (1,)),
        "d": (2, (2, 0)),
        "e": (2, (2,)),
        "f": (1, (1,)),
    }.items():
        led(made, Leadership(leader, 5, isr, 6), (name, 0))
    assert decide.take_over(made).changes == {
        ("a", 0): Leadership(2, 7, (2,), 7),
        ("b", 0): Leadership(2, 8, (2,), 7),
        ("c", 0): Leadership(-1, 6, (1,), 7),
        ("d", 0): Leadership(2, 6, (2,), 7),
        ("f", 0): Leadership(-1, 6, (1,), 7),
    }


def test_who_takes_over_leaves_out_those_that_came_back_unseen() -> None:
    """Their registrations are younger than the leadership and the last takeover. Where that is true
    of everybody, or of nobody, all stays as it was."""
    made = state(
        0, 1, 2, leader=[(1, 0, 2)], follower=[(0, 1)], alone=[(1,)], others=[(0, 2)], new=[(1, 0)]
    )
    made.brokers = {0: broker(0, 10), 1: broker(1, 30), 2: broker(2, 12)}
    for name, (isr, zxid) in {
        "leader": ((1, 0, 2), 20),
        "follower": ((0, 1), 20),
        "alone": ((1,), 20),
        "others": ((0, 2), 20),
        "new": ((1, 0), 31),
    }.items():
        led(made, Leadership(isr[0], 5, isr, 6), (name, 0), written=zxid)
    plan = decide.take_over(made)
    assert plan.changes == {
        ("leader", 0): Leadership(0, 7, (0, 2), 7),
        ("follower", 0): Leadership(0, 6, (0,), 7),
    }
    assert all(("leader", 0) in plan.notices.leader_and_isr[b] for b in (0, 1, 2))
    made.brokers = {0: broker(0, 40), 1: broker(1, 42), 2: broker(2, 41)}
    assert decide.take_over(made).changes == {}
    # The controller before this one began when all but one of them were there.
    made.last_takeover = 41
    assert {key: new.leader for key, new in decide.take_over(made).changes.items()} == {
        ("leader", 0): 0,
        ("follower", 0): 0,
        ("new", 0): 0,
    }


def test_large_notices_are_cut() -> None:
    made = state(0, t=[(0,)] * (MAX_PARTITIONS * 2 + 1))
    plan = decide.take_over(made)
    written(made, plan)
    requests = [r for _, r in Writer(made, plan.notices, "PLAINTEXT").requests()]
    assert [type(r).__name__[:3] for r in requests] == ["Lea"] * 3 + ["Upd"] * 3
    seen = [
        p.partition_index
        for r in requests
        if isinstance(r, UpdateMetadataRequest)
        for t in r.topic_states
        for p in t.partition_states
    ]
    assert seen == list(range(MAX_PARTITIONS * 2 + 1))


def test_deletion_asks_the_live_waits_for_the_dead_and_remembers() -> None:
    made = state(0, 1, t=[(0, 1), (1, 2)])
    written(made, decide.take_over(made))
    notices = decide.delete_topics(made, ["t", "none"])
    assert notices.stop == {0: {("t", 0): True}, 1: {("t", 0): True, ("t", 1): True}}
    assert decide.delete_topics(made, ["t"]).stop == {}
    requests = [r for i, r in Writer(made, notices, "PLAINTEXT").requests() if i == 1]
    shown, stop = requests
    assert isinstance(shown, UpdateMetadataRequest)
    assert {p.leader for p in shown.topic_states[0].partition_states} == {-2}
    assert isinstance(stop, StopReplicaRequest)
    # In deletion a topic takes part in nothing.
    assert decide.brokers_went(made, {0}).changes == {}
    assert decide.replicas_deleted(made, 1, [("t", 0), ("t", 1)], ok=True) == set()
    assert not decide.deletion_stalled(made, "t")
    assert decide.replicas_deleted(made, 0, [("t", 0)], ok=True) == set()
    assert decide.deletion_stalled(made, "t")
    made.brokers[2] = broker(2)
    assert decide.resume_deletions(made, ()).stop == {2: {("t", 1): True}}
    assert not decide.deletion_stalled(made, "t")
    assert decide.replicas_deleted(made, 2, [("t", 1)], ok=False) == set()
    assert decide.deletion_stalled(made, "t")
    assert decide.resume_deletions(made, ()).stop == {2: {("t", 1): True}}
    # What it was asked went away with its connection.
    assert decide.resume_deletions(made, ()).stop == {}
    assert decide.resume_deletions(made, {2}).stop == {2: {("t", 1): True}}
    assert decide.replicas_deleted(made, 2, [("t", 1)], ok=True) == {"t"}


HISTORY = st.lists(
    st.one_of(
        st.tuples(st.just("went"), st.sets(st.integers(0, 3), min_size=1)),
        st.tuples(st.just("came"), st.sets(st.integers(0, 3), min_size=1)),
        st.tuples(st.just("shrink"), st.sets(st.integers(0, 3))),
        st.tuples(st.just("take over"), st.just(set[int]())),
    ),
    max_size=25,
)
ASSIGNMENTS = st.lists(
    st.lists(st.integers(0, 3), unique=True, min_size=1).map(tuple), min_size=1, max_size=4
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(ASSIGNMENTS, HISTORY, st.booleans())
def test_leaders_and_isrs_keep_their_promises(
    assignments: list[tuple[int, ...]], history: list[tuple[str, set[int]]], unclean: bool
) -> None:
    """A leader is a live member of the last committed ISR (but for unclean elections) or -1; the
    ISR is never empty and within the assignment; each change costs one leader epoch; every live
    replica of a changed partition is told."""
    made = state(0, 1, 2, 3, t=assignments)
    written(made, decide.take_over(made))

    def allowed(_: str) -> bool:
        return unclean

    for what, ids in history:
        before = {key: leadership(made, key) for key in made.all_keys()}
        plan = step(made, what, ids, allowed)
        check_changes(made, plan, before, what)
        written(made, plan)
        check_state(made)


def leadership(made: State, key: tuple[str, int]) -> Leadership | None:
    partition = made.partition(key)
    assert partition is not None
    return partition.state


def step(made: State, what: str, ids: set[int], allowed: decide.Unclean) -> decide.Plan:
    if what == "went":
        went = ids & made.brokers.keys()
        for i in went:
            del made.brokers[i]
        return decide.brokers_went(made, went, allowed)
    if what == "came":
        came = ids - made.brokers.keys()
        made.brokers |= {i: broker(i, 2) for i in came}
        return decide.brokers_came(made, came, allowed)
    if what == "take over":
        return decide.take_over(made, allowed)
    for key in made.all_keys():  # leaders ask for smaller ISRs (AlterPartition)
        now = leadership(made, key)
        if now is not None and now.leader != -1:
            isr = tuple(i for i in now.isr if i == now.leader or i in ids)
            led(made, now._replace(isr=isr), key)
    return decide.Plan()


def check_changes(
    made: State, plan: decide.Plan, before: dict[tuple[str, int], Leadership | None], what: str
) -> None:
    for key, new in plan.changes.items():
        old, partition = before[key], made.partition(key)
        assert partition is not None
        told = {i for i, keys in plan.notices.leader_and_isr.items() if key in keys}
        assert told == {i for i in partition.replicas if i in made.brokers}
        assert set(new.isr) <= set(partition.replicas)
        raised = 1
        if old is not None and what == "take over":
            away = sum(i not in made.brokers for i in old.isr)
            raised = away + (new.leader not in (old.leader, -1))
        assert new.leader_epoch == (0 if old is None else old.leader_epoch + raised)
        assert old is None or new.recovering or set(new.isr) <= set(old.isr)


def check_state(made: State) -> None:
    for key in made.all_keys():
        now = leadership(made, key)
        if now is None:
            continue
        assert now.isr
        if now.leader == -1:
            assert not set(now.isr) & made.brokers.keys()
        else:
            assert now.leader in now.isr
            assert set(now.isr) <= made.brokers.keys()
