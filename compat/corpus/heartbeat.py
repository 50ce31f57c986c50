"""Heartbeat of classic groups."""

from compat.corpus.classic import REBALANCING, Group, own_range
from compat.script import Run, Topic, case

API = "Heartbeat"


@case(API)
def by_state(run: Run) -> None:
    group = Group(run)
    one = group.enter("one").member_id
    group.beat(one, 1, step="while the assignment is made")
    group.sync(one, 1, assignments=[(one, b"all")])
    group.beat(one, 1, step="stable")
    _, joining = group.begin_enter("two", protocols=own_range("t", data=b"2"))
    group.beat_until(REBALANCING, one, 1)
    group.leave(one)
    group.beat(one, 1, step="after it left")
    two = run.finish(joining)
    group.beat(two.member_id, two.generation_id, step="the other one")
    group.leave(two.member_id)
    group.beat(two.member_id, two.generation_id, step="empty group")


@case(API)
def refused(run: Run) -> None:
    group = Group(run)
    run.call(group_id="", generation_id=1, member_id="nobody", step="empty group id")
    group.beat("nobody", 1, step="no such group")
    group.beat("", -1, step="no such group, no member")
    one = group.alone()
    group.beat("nobody", 1, step="unknown member")
    group.beat("", 1, step="no member id")
    for generation in (0, 2, -1, 2**31 - 1):
        group.beat(one, generation, step=f"generation {generation}")
    if run.version >= 3:
        group.beat(one, 1, instance="i9", step="unknown instance id")
        group.beat("nobody", 1, instance="i9", step="unknown both")


@case(API, topics={"t": Topic()})
def keeps_the_session(run: Run) -> None:
    "The session ends when none came for its time; other requests count too."
    group = Group(run)
    member = group.alone(session=2000, rebalance=2000)  # a busy machine is late at times
    for number in range(3):
        run.pause(0.8)
        group.beat(member, 1, step=f"beat {number}")
    run.pause(0.8)
    group.sync(member, 1)
    run.pause(0.8)
    group.commit("t", 1, member=member, generation=1, version=max(2, min(run.version, 9)))
    run.pause(0.8)
    group.beat(member, 1, step="still there")
    group.describe_until("Empty")
    group.beat(member, 1, step="gone")


@case(API, (3, 4))
def static_member(run: Run) -> None:
    group = Group(run)
    one = group.alone(instance="i1")
    group.beat(one, 1, instance="i1")
    group.beat(one, 1, step="without its instance id")
    group.beat("nobody", 1, instance="i1", step="another id")
    group.beat("", 1, instance="i1", step="no id")
    group.beat(one, 0, instance="i1", step="old generation")
    group.beat("nobody", 0, instance="i1", step="another id and old generation")
    group.leave((one, "i1"))
    group.beat(one, 1, instance="i1", step="after it left")


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.coordinator(0)
    run.extra(b"x", group_id=run.group(), generation_id=1, member_id="nobody")


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(API, run.version, b"\xff" * 20, step="twenty bytes", link="3")
