"""JoinGroup: who gets in, and what the answers say. Sequences of several are in
`group_sequences`."""

from compat.corpus.classic import RANGE, Group, left_behind, own_range, subscription
from compat.script import Run, Topic, case
from compat.stored import OFFSETS, watch

API = "JoinGroup"


@case(API)
def one_member(run: Run) -> None:
    "From version 4 on the first answer is an id to come back with (KIP-394)."
    watch(run, OFFSETS)
    group = Group(run)
    member = group.alone()
    group.describe()
    group.beat(member, 1)
    again = group.join(member, step="the same again")
    group.sync(member, again.generation_id, assignments=[(member, b"other")])
    group.join(member, protocols=own_range("other"), step="another subscription")
    group.describe()
    left_behind(run, group.id)


@case(API)
def refused(run: Run) -> None:
    group = Group(run)
    group.join(group_id="", step="empty group id")
    group.join(session=99, step="session timeout below the limit")
    group.join(session=1_800_001, step="session timeout above the limit")
    group.join(session=-1, step="negative session timeout")
    group.join(protocols=[], step="no protocols")
    group.join("nobody", step="member id in a group that does not exist")
    group.join("nobody", group_id="", step="empty group id and unknown member")
    group.join(protocol_type="", step="empty protocol type")
    group.describe()
    group.alone()
    group.join("nobody", step="unknown member")
    group.join(protocol_type="connect", step="another protocol type")
    group.join(protocols=[("roundrobin", b"")], step="no common protocol")
    group.join(protocols=[], step="no protocols in a group with members")
    group.join(protocol_type="", step="empty protocol type in a group with members")


@case(API, topics={"t": Topic()})
def refused_by_a_group_of_offsets(run: Run) -> None:
    group = Group(run)
    group.commit("t", 1)
    group.join("nobody", step="unknown member")
    group.join("nobody", protocols=[], step="unknown member, no protocols")
    group.join("nobody", protocol_type="", step="unknown member, empty protocol type")
    group.join(protocols=[], step="no protocols")
    group.join(protocol_type="", step="empty protocol type")


@case(API)
def odd_but_accepted(run: Run) -> None:
    for number, more in enumerate(
        (
            {"session": 100},
            {"session": 1_800_000},
            {"rebalance": 0},
            {"protocols": [("", b"")]},
            {"protocols": [("x" * 300, b"")]},
        )
    ):
        group = Group(run, f"group{number}")
        group.enter(**more)


@case(API)
def any_protocol_type(run: Run) -> None:
    watch(run, OFFSETS)
    group = Group(run, kind="connect")
    group.protocols = [("sessioned", b"\0\1\2"), ("eager", b"")]
    answer = group.enter()
    group.sync(
        answer.member_id, 1, protocol_name="sessioned", assignments=[(answer.member_id, b"\xff")]
    )
    group.describe()
    left_behind(run, group.id)


@case(API)
def metadata_that_cannot_be_read(run: Run) -> None:
    "Of a consumer's metadata the coordinator only wants the topics."
    for number, protocols in enumerate(
        ([("x", b"y" * 300)], [(RANGE, b"\0\0\0\0\0\x09")], [(RANGE, b""), (RANGE, b"twice")])
    ):
        group = Group(run, f"group{number}")
        member = ""
        if run.version >= 4:
            member = group.join(protocols=protocols).member_id
        group.join(member, protocols=protocols, patience=1.0)


@case(API)
def too_many_members(run: Run) -> None:
    "group.max.size is 5 at all sides."
    group = Group(run)
    one = group.alone("m1")
    waiting = [group.begin_enter(f"m{n}", protocols=own_range(f"m{n}"))[1] for n in range(2, 6)]
    if run.version < 4:
        run.ask_until(lambda a: len(a.groups[0].members) == 5, "DescribeGroups", 0,
                      groups=[group.id])  # fmt: skip
    waiting.insert(0, group.begin_join(one, link="m1"))
    answers = [run.finish(each) for each in waiting]
    for answer in answers:
        group.sync(answer.member_id, 2)
    refused = group.join(link="m6", step="the sixth")
    if refused is not None and refused.error_code == 79:
        group.join(refused.member_id, link="m6", step="the sixth with its id")
    group.beat(one, 2)


@case(API)
def the_most_wanted_protocol(run: Run) -> None:
    "Each member votes for the first of its protocols that all have."
    group = Group(run)
    first = [("a", b"1a"), ("b", b"1b"), ("c", b"1c")]
    one = group.enter("one", protocols=first)
    group.sync(one.member_id, 1, link="one", protocol_name="a")
    _, second = group.begin_enter("two", protocols=[("c", b"2c"), ("b", b"2b")])
    group.beat_until(27, one.member_id, 1)
    again = group.begin_join(one.member_id, link="one", protocols=first)
    first_answer, second_answer = run.finish(again), run.finish(second)
    chosen = "b"
    group.sync(one.member_id, 2, link="one", protocol_name=chosen,
               assignments=[(second_answer.member_id, b"x")])  # fmt: skip
    group.sync(second_answer.member_id, 2, link="two", protocol_name=chosen)
    group.describe()
    assert first_answer.generation_id == 2


@case(API, (4, 9))
def id_that_is_never_used(run: Run) -> None:
    "An id that was given and not used is forgotten after the session timeout."
    group = Group(run)
    answer = group.join(session=200, rebalance=200)
    group.describe()
    group.beat(answer.member_id, 0)
    run.pause(0.8)
    group.join(answer.member_id, step="too late")
    group.describe()


@case(API, (4, 9))
def id_of_another_group(run: Run) -> None:
    group, other = Group(run), Group(run, "other")
    answer = group.join()
    other.join(answer.member_id)
    group.join(answer.member_id, step="where it belongs")
    other.join(answer.member_id, step="once more")


@case(API, (5, 9))
def static_member(run: Run) -> None:
    "A static member needs no id, and comes back under its instance id (KIP-345)."
    watch(run, OFFSETS)
    group = Group(run)
    answer = group.join(instance="i1", step="first")
    one = answer.member_id
    group.sync(one, 1, instance="i1", assignments=[(one, b"all")])
    group.describe()
    group.beat(one, 1, instance="i1", step="beats")
    again = group.join(instance="i1", link="two", step="comes back")
    two = again.member_id
    group.describe()
    group.sync(two, again.generation_id, instance="i1", link="two", step="syncs",
               assignments=[(two, b"all")])  # fmt: skip
    group.beat(one, 1, instance="i1", step="the old one beats")
    group.beat(one, 1, step="the old one without its instance id")
    group.beat(two, 1, instance="i1", step="the new one beats")
    group.sync(one, 1, instance="i1", step="the old one syncs")
    group.join(one, instance="i1", step="the old one joins")
    group.join(one, step="the old one joins as another")
    group.join("nobody", instance="i1", step="another id")
    group.join(two, instance="i2", step="another instance id")
    group.commit("t", 1, member=one, generation=1, instance="i1", step="the old one commits")
    group.leave((one, "i1"), step="the old one leaves")
    group.leave(("", "i1"), step="leaves by instance id")
    group.describe()
    left_behind(run, group.id)


@case(API, (5, 9))
def static_member_with_another_subscription(run: Run) -> None:
    "What it had before stays while the protocol that is chosen stays; else the group rebalances."
    group = Group(run)
    one = group.join(instance="i1", protocols=own_range("t"))
    group.sync(one.member_id, 1, instance="i1", assignments=[(one.member_id, b"all")])
    again = group.join(instance="i1", protocols=own_range("u"), step="other topics")
    group.sync(again.member_id, again.generation_id, instance="i1",
               assignments=[(again.member_id, b"new")])  # fmt: skip
    more = group.join(
        instance="i1", protocols=[("sticky", b"s"), (RANGE, subscription("u"))], step="one more"
    )
    group.sync(more.member_id, more.generation_id, instance="i1", protocol_name=more.protocol_name,
               assignments=[(more.member_id, b"newer")])  # fmt: skip
    other = group.join(instance="i1", protocols=[("sticky", b"s")], step="another protocol only")
    group.sync(other.member_id, other.generation_id, instance="i1", protocol_name="sticky")
    group.describe()


@case(API)
def bytes_after_the_body(run: Run) -> None:
    group = Group(run)
    run.extra(b"x", **group.joining("nobody"))


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(API, run.version, b"\xff" * 20, step="twenty bytes", link="3")
