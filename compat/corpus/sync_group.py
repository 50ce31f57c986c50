"""SyncGroup: the leader's assignments, and who gets which."""

from compat.corpus.classic import REBALANCING, Group, left_behind, own_range
from compat.script import Run, case
from compat.stored import OFFSETS, watch

API = "SyncGroup"


@case(API)
def accepted(run: Run) -> None:
    watch(run, OFFSETS)
    group = Group(run)
    one, two, generation = group.pair()
    group.sync(one, generation, step="leader again")
    group.sync(two, generation, step="follower again")
    group.sync(two, generation, step="follower with assignments", assignments=[(two, b"stolen")])
    group.sync(one, generation, step="leader with others", assignments=[(one, b"late")])
    left_behind(run, group.id)


@case(API)
def refused(run: Run) -> None:
    group = Group(run)
    group.sync("nobody", 1, group_id="", step="empty group id")
    group.sync("nobody", 1, step="no such group")
    group.sync("", 1, step="no such group, no member")
    one = group.enter().member_id
    group.sync("nobody", 1, step="unknown member")
    group.sync("", 1, step="no member id")
    group.sync(one, 0, step="old generation")
    group.sync(one, 2, step="generation to come")
    group.sync(one, -1, step="no generation")
    if run.version >= 5:
        group.sync(one, 1, protocol_type="connect", step="another type")
        group.sync(one, 1, protocol_name="sticky", step="another protocol")
        group.sync(one, 1, protocol_type="connect", protocol_name="sticky", step="both")
        group.sync(one, 1, protocol_type="", protocol_name="", step="both empty")
        group.sync("nobody", 1, protocol_type="connect", step="unknown member, another type")
        group.sync(one, 7, protocol_type="connect", step="wrong generation, another type")
    if run.version >= 3:
        group.sync(one, 1, instance="i9", step="unknown instance id")
    group.sync(one, 1, assignments=[(one, b"all")], step="right")
    if run.version >= 5:
        group.sync(one, 1, protocol_type="connect", step="another type in a stable group")
    group.leave(one)
    group.sync(one, 1, step="after it left")


@case(API, (5, 5))
def without_type_and_name(run: Run) -> None:
    group = Group(run)
    one = group.enter().member_id
    group.sync(one, 1, protocol_type=None, protocol_name=None, assignments=[(one, b"all")])
    group.sync(one, 1, protocol_type=None, step="without type")
    group.sync(one, 1, protocol_name=None, step="without name")
    group.beat(one, 1)


@case(API)
def odd_assignments(run: Run) -> None:
    "Unknown members are passed over, of two the later counts, who is left out gets nothing."
    watch(run, OFFSETS)
    group = Group(run)
    one = group.alone("one")
    _, joining = group.begin_enter("two", protocols=own_range("t", data=b"2"))
    group.beat_until(REBALANCING, one, 1)
    again = group.begin_join(one, link="one")
    run.finish(again)
    two = run.finish(joining).member_id
    group.sync(one, 2, assignments=[("nobody", b"?"), (one, b"first"), (one, b"second")])
    group.sync(two, 2)
    group.describe()
    left_behind(run, group.id)


@case(API)
def a_large_assignment(run: Run) -> None:
    group = Group(run)
    one = group.enter().member_id
    group.sync(one, 1, assignments=[(one, b"x" * 70_000)])
    group.sync(one, 1)


@case(API)
def an_assignment_too_large_to_be_written(run: Run) -> None:
    "The group's record would be above message.max.bytes."
    watch(run, OFFSETS)
    group = Group(run)
    one = group.enter().member_id
    group.sync(one, 1, assignments=[(one, b"x" * 1_100_000)])
    group.describe()
    group.beat(one, 1)
    again = group.join(one)
    group.sync(one, again.generation_id, assignments=[(one, b"small")])
    left_behind(run, group.id)


@case(API, (3, 5))
def static_member(run: Run) -> None:
    group = Group(run)
    one = group.join(instance="i1").member_id
    group.sync("nobody", 1, instance="i1", step="another id")
    group.sync(one, 1, instance="i2", step="another instance id")
    group.sync(one, 1, step="without its instance id")
    group.sync(one, 1, instance="i1", assignments=[(one, b"all")])
    group.sync("", 1, instance="i1", step="no id")
    group.sync(one, 0, instance="i1", step="old generation")


@case(API)
def bytes_after_the_body(run: Run) -> None:
    group = Group(run)
    run.extra(b"x", **group.syncing("nobody", 1))


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(API, run.version, b"\xff" * 20, step="twenty bytes", link="3")
