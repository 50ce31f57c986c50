"""LeaveGroup; since version 3 several members at once (KIP-345)."""

from compat.corpus.classic import Group, left_behind
from compat.script import Run, case
from compat.stored import OFFSETS, watch

API = "LeaveGroup"


@case(API)
def the_last_one(run: Run) -> None:
    watch(run, OFFSETS)
    group = Group(run)
    one = group.alone()
    group.leave(one)
    group.leave(one, step="once more")
    group.describe()
    group.alone()
    left_behind(run, group.id)


@case(API)
def one_of_two(run: Run) -> None:
    for alias, which in (("leader", 0), ("follower", 1)):
        group = Group(run, alias)
        pair = group.pair()
        group.leave(pair[which], step=alias)
        group.beat(pair[0], pair[2])
        group.beat(pair[1], pair[2])
        group.describe()
        other = pair[1 - which]
        answer = group.join(other, step="the other one joins")
        group.sync(other, answer.generation_id, assignments=[(other, b"all")])


@case(API)
def refused(run: Run) -> None:
    group = Group(run)
    group.leave("nobody", step="no such group")
    group.alone()
    group.leave("nobody", step="unknown member")
    group.leave("", step="no member id")
    empty = Group(run, "empty")
    empty.id = ""
    empty.leave("nobody", step="empty group id")


@case(API, (3, 5))
def several(run: Run) -> None:
    group = Group(run)
    group.leave(step="nobody at all, no such group")
    one, two, generation = group.pair()
    group.leave(step="nobody at all")
    group.leave("nobody", two, "", two, step="two of them real")
    group.beat(one, generation)
    group.leave((one, "i9"), step="with an unknown instance id")
    group.leave(("", "i9"), step="unknown instance id alone")
    group.leave((one, ""), step="with an empty instance id")
    group.describe()


@case(API, (3, 5))
def static_members(run: Run) -> None:
    "By instance id alone, or with the id that belongs to it."
    watch(run, OFFSETS)
    group = Group(run)
    one = group.alone(instance="i1")
    group.leave((one, "i2"), step="another instance id")
    group.leave(("nobody", "i1"), step="another id")
    group.leave(one, step="by id alone")
    group.describe()
    group.alone(instance="i1")
    group.leave(("", "i1"), ("", "i1"), step="by instance id, twice")
    group.describe()
    left_behind(run, group.id)


@case(API)
def id_that_is_not_used_yet(run: Run) -> None:
    "A member that was given an id can leave before it joins (versions of JoinGroup from 4 on)."
    group = Group(run)
    answer = run.ask("JoinGroup", 4, **{
        k: v for k, v in group.joining().items() if k not in ("reason", "group_instance_id")
    })  # fmt: skip
    group.leave(answer.member_id)
    group.join(answer.member_id)


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.coordinator(0)
    members = {"members": [{"member_id": "m"}]} if run.version >= 3 else {"member_id": "m"}
    run.extra(b"x", group_id=run.group(), **members)


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(API, run.version, b"\xff" * 20, step="twenty bytes", link="3")
