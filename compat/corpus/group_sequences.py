"""Several members of classic groups: rebalances, who leads, who is too late, who replaces whom.

Played at every version of JoinGroup, with the other APIs at versions of the same time.
"""

from compat.corpus.classic import REBALANCING, Group, left_behind, own_range
from compat.script import Run, case
from compat.stored import OFFSETS, watch

API = "JoinGroup"
SHORT_MS = 400


@case(API)
def two_members(run: Run) -> None:
    "The second one makes the first one join again; the first one leads and assigns."
    watch(run, OFFSETS)
    group = Group(run)
    one, two, generation = group.pair()
    group.describe()
    group.beat(one, generation, step="leader")
    group.beat(two, generation, step="follower")
    group.beat(two, generation - 1, step="old generation")
    group.join(two, protocols=own_range("t", data=b"2"), link="two", step="follower as before")
    group.beat(one, generation, step="nothing happened")
    group.leave(two)
    group.beat(one, generation, step="after the leave")
    group.join(one, link="one", step="alone again")
    group.sync(one, generation + 1, link="one", assignments=[(one, b"all")])
    group.leave(one)
    group.describe()
    left_behind(run, group.id)


@case(API)
def leader_joins_again(run: Run) -> None:
    "Joining again the leader asks for a rebalance, unchanged or not."
    group = Group(run)
    one, two, generation = group.pair()
    leader = group.begin_join(one, link="one", step="leader")
    run.waits(leader)
    group.beat(two, generation)
    group.sync(two, generation, step="sync while members join")
    follower = group.begin_join(two, link="two", protocols=own_range("t", data=b"2"))
    run.finish(leader)
    run.finish(follower)
    group.beat(one, generation + 1, step="while the assignment is waited for")
    waiting = group.begin_sync(two, generation + 1, link="two", step="follower syncs")
    run.waits(waiting)
    group.sync(one, generation + 1, link="one", assignments=[(one, b"x"), (two, b"y")])
    run.finish(waiting)
    group.sync(two, generation + 1, link="two", step="once more")
    group.beat(one, generation + 1)


@case(API)
def follower_with_another_subscription(run: Run) -> None:
    group = Group(run)
    one, two, generation = group.pair()
    changed = group.begin_join(two, link="two", protocols=own_range("t", "u"), step="changed")
    run.waits(changed)
    group.beat_until(REBALANCING, one, generation)
    group.describe()
    again = group.begin_join(one, link="one")
    run.finish(again)
    run.finish(changed)
    group.sync(one, generation + 1, link="one", assignments=[(two, b"everything")])
    group.sync(two, generation + 1, link="two")
    group.sync(one, generation + 1, link="one", step="what was left out is empty")


@case(API)
def joins_again_while_the_assignment_is_made(run: Run) -> None:
    "Before the leader has assigned: who comes as before gets the same generation again."
    group = Group(run)
    one = group.alone("one")
    _, joining = group.begin_enter("two", protocols=own_range("t", data=b"2"))
    group.beat_until(REBALANCING, one, 1)
    again = group.begin_join(one, link="one")
    run.finish(again)
    two = run.finish(joining).member_id
    group.join(two, link="two", protocols=own_range("t", data=b"2"), step="follower as before")
    group.join(one, link="one", step="leader as before")
    waiting = group.begin_sync(two, 2, link="two", step="follower syncs")
    run.waits(waiting)
    changed = group.begin_join(one, link="one", protocols=own_range("v"), step="leader changed")
    run.finish(waiting)
    group.beat(two, 2)
    back = group.begin_join(two, link="two", protocols=own_range("t", data=b"2"))
    run.finish(changed)
    run.finish(back)


@case(API)
def newcomer_while_the_assignment_is_made(run: Run) -> None:
    group = Group(run)
    answer = group.enter("one")
    one = answer.member_id
    _, joining = group.begin_enter("two", protocols=own_range("t", data=b"2"))
    run.waits(joining)
    group.sync(one, 1, link="one", step="too late", assignments=[(one, b"all")])
    group.beat(one, 1)
    again = group.begin_join(one, link="one")
    run.finish(again)
    run.finish(joining)


@case(API)
def too_late_for_the_rebalance(run: Run) -> None:
    "Who does not come back within the rebalance timeout is no member any more."
    watch(run, OFFSETS)
    group = Group(run)
    limits = {"session": SHORT_MS, "rebalance": SHORT_MS}
    one = group.alone("one", **limits)
    _, joining = group.begin_enter("two", protocols=own_range("t", data=b"2"), **limits)
    answer = run.finish(joining)
    two = answer.member_id
    group.sync(two, answer.generation_id, link="two", assignments=[(two, b"mine")])
    group.beat(one, 1, step="the late one beats")
    group.join(one, link="one", step="the late one joins", **limits)
    group.sync(one, 1, link="one", step="the late one syncs")
    group.commit("t", 1, member=one, generation=1, step="the late one commits")
    group.describe()
    left_behind(run, group.id)


@case(API)
def session_that_ends(run: Run) -> None:
    "The member is taken out; the other one learns it by its heartbeat."
    group = Group(run)
    one = group.alone("one")
    _, joining = group.begin_enter(
        "two", protocols=own_range("t", data=b"2"), session=SHORT_MS, rebalance=5000
    )
    group.beat_until(REBALANCING, one, 1)
    again = group.begin_join(one, link="one")
    run.finish(again)
    two = run.finish(joining).member_id
    group.sync(one, 2, link="one", assignments=[(one, b"x"), (two, b"y")])
    group.sync(two, 2, link="two")
    group.beat_until(REBALANCING, one, 2)
    group.beat(two, 2, step="it is too late")
    group.join(one, link="one", step="alone again")
    group.describe()


@case(API)
def last_session_that_ends(run: Run) -> None:
    watch(run, OFFSETS)
    group = Group(run)
    member = group.alone(session=SHORT_MS, rebalance=SHORT_MS)
    group.describe_until("Empty")
    group.beat(member, 1)
    group.join(member, step="too late")
    group.enter(protocols=own_range("u"))
    left_behind(run, group.id, ready=lambda records: len(records) > 1)


@case(API)
def leader_that_never_assigns(run: Run) -> None:
    "Who does not sync within the rebalance timeout is taken out, and the others join again."
    group = Group(run)
    one = group.alone("one", rebalance=SHORT_MS, session=SHORT_MS)
    limits = {"rebalance": SHORT_MS, "session": 5000}
    _, joining = group.begin_enter("two", protocols=own_range("t", data=b"2"), **limits)
    group.beat_until(REBALANCING, one, 1)
    again = group.begin_join(one, link="one", rebalance=SHORT_MS, session=SHORT_MS)
    run.finish(again)
    two = run.finish(joining).member_id
    waiting = group.begin_sync(two, 2, link="two", step="follower syncs")
    run.finish(waiting)
    group.beat(one, 2, step="the silent leader")
    answer = group.join(two, link="two", protocols=own_range("t", data=b"2"), **limits)
    group.sync(two, answer.generation_id, link="two", assignments=[(two, b"all")])


@case(API)
def leaves_while_the_others_wait(run: Run) -> None:
    group = Group(run)
    one, two, generation = group.pair()
    leader = group.begin_join(one, link="one", step="leader")
    run.waits(leader)
    group.leave(two)
    run.finish(leader)
    group.sync(one, generation + 1, link="one", assignments=[(one, b"all")])
    group.describe()


@case(API)
def leaves_while_it_joins(run: Run) -> None:
    "The join of a member that left is answered as unknown."
    group = Group(run)
    one, _, _ = group.pair()
    leader = group.begin_join(one, link="one", step="leader")
    run.waits(leader)
    group.leave(one)
    run.finish(leader)
    group.describe()


@case(API)
def connection_that_breaks(run: Run) -> None:
    "A member is a member with or without a connection."
    group = Group(run)
    one, two, generation = group.pair()
    run.link("two").close()
    group.beat(two, generation, link="three")
    group.beat(one, generation)


@case(API, (5, 9))
def static_member_comes_back_in_a_rebalance(run: Run) -> None:
    "The old incarnation's waiting join is answered as fenced."
    group = Group(run)
    one = group.alone("one")
    first = group.begin_join(link="two", instance="i2", protocols=own_range("t", data=b"2"),
                             step="first incarnation")  # fmt: skip
    group.beat_until(REBALANCING, one, 1)
    second = group.begin_join(link="three", instance="i2", protocols=own_range("t", data=b"2"),
                              step="second incarnation")  # fmt: skip
    run.finish(first)
    again = group.begin_join(one, link="one")
    run.finish(again)
    answer = run.finish(second)
    group.sync(one, 2, link="one", assignments=[(answer.member_id, b"mine")])
    group.sync(answer.member_id, 2, link="three", instance="i2")
    group.describe()


@case(API, (5, 9))
def static_member_comes_back_while_it_syncs(run: Run) -> None:
    group = Group(run)
    one = group.alone("one")
    first = group.begin_join(link="two", instance="i2", protocols=own_range("t", data=b"2"))
    group.beat_until(REBALANCING, one, 1)
    again = group.begin_join(one, link="one")
    run.finish(again)
    two = run.finish(first).member_id
    waiting = group.begin_sync(two, 2, link="two", instance="i2", step="first incarnation syncs")
    run.waits(waiting)
    second = group.begin_join(link="three", instance="i2", protocols=own_range("t", data=b"2"),
                              step="second incarnation")  # fmt: skip
    run.finish(waiting)
    group.beat_until(REBALANCING, one, 2)
    back = group.begin_join(one, link="one")
    run.finish(back)
    run.finish(second)


@case(API, (5, 9))
def static_follower_comes_back(run: Run) -> None:
    "A follower that comes back to a stable group changes nothing for the others."
    watch(run, OFFSETS)
    group = Group(run)
    one = group.join(instance="i1", link="one").member_id
    group.sync(one, 1, link="one", instance="i1", assignments=[(one, b"all")])
    joining = group.begin_join(link="two", instance="i2", protocols=own_range("t", data=b"2"))
    group.beat_until(REBALANCING, one, 1, instance="i1")
    again = group.begin_join(one, link="one", instance="i1")
    run.finish(again)
    two = run.finish(joining).member_id
    group.sync(one, 2, link="one", instance="i1", assignments=[(one, b"x"), (two, b"y")])
    group.sync(two, 2, link="two", instance="i2")
    back = group.join(link="three", instance="i2", protocols=own_range("t", data=b"2"))
    group.sync(back.member_id, back.generation_id, link="three", instance="i2")
    group.beat(one, 2, instance="i1")
    group.beat(two, 2, instance="i2", step="the old one")
    leader = group.join(link="four", instance="i1", step="the leader comes back")
    group.sync(leader.member_id, leader.generation_id, link="four", instance="i1")
    group.beat(back.member_id, 2, instance="i2")
    group.describe()
    left_behind(run, group.id)


@case(API, (5, 9))
def static_session_that_ends(run: Run) -> None:
    group = Group(run)
    answer = group.join(instance="i1", session=SHORT_MS, rebalance=SHORT_MS)
    group.sync(answer.member_id, 1, instance="i1", assignments=[(answer.member_id, b"all")])
    group.describe_until("Empty")
    group.beat(answer.member_id, 1, instance="i1")
    group.join(answer.member_id, instance="i1", step="with the old id")
    again = group.join(instance="i1", step="anew")
    group.sync(again.member_id, again.generation_id, instance="i1")
