"""ShareGroupHeartbeat and ShareGroupDescribe (KIP-932)."""

from compat.corpus.classic import Group
from compat.corpus.consuming import Consumer, set_group
from compat.corpus.sharing import Sharer, undescribed
from compat.script import Run, Topic, case
from compat.stored import OFFSETS, watch, written

API, DESCRIBE = "ShareGroupHeartbeat", "ShareGroupDescribe"
TOPICS = {"t": Topic(partitions=4), "u": Topic(partitions=2)}


@case(API, topics=TOPICS)
def one_member(run: Run) -> None:
    watch(run, OFFSETS)
    one = Sharer(run, "one")
    one.ready()
    one.describe()
    one.beat(step="two topics", subscribed_topic_names=[run.name("t"), run.name("u")])
    one.beat_until(2)
    one.beat(step="one topic", subscribed_topic_names=[run.name("u")])
    one.leave()
    one.describe()
    one.ask(step="after it left")
    one.join(step="joins anew")
    written(run, OFFSETS, one.group)


@case(API, topics=TOPICS)
def several_members(run: Run) -> None:
    "Partitions are shared by members where there are more members than partitions."
    members = [Sharer(run, name, many=True) for name in ("one", "two", "three")]
    members[0].ready("u")
    for count, member in enumerate(members, 1):
        if count > 1:
            member.join("u")
        for each in members[:count]:
            each.beat()
        for each in members[:count]:
            each.beat()
    members[0].describe()
    members[1].leave()
    for each in (members[0], members[2]):
        each.beat()
        each.beat()
    members[0].describe()


@case(API, topics=TOPICS)
def refused(run: Run) -> None:
    one = Sharer(run, "one")
    first = {"member_epoch": 0, "subscribed_topic_names": [run.name("t")]}
    one.ask(step="unknown group", member_epoch=1)
    one.ask(step="leaves an unknown group", member_epoch=-1)
    for step, change in (
        ("empty group id", {"group_id": ""}),
        ("empty member id", {"member_id": ""}),
        ("a member id that is no UUID", {"member_id": "m"}),
        ("no subscription", {"subscribed_topic_names": None}),
        ("empty subscription", {"subscribed_topic_names": []}),
        ("empty rack", {"rack_id": ""}),
        ("epoch -2", {"member_epoch": -2}),
    ):
        one.ask(step=step, **{**first, "group_id": run.group(step), **change})
    one.ready()
    one.ask(step="epoch to come", member_epoch=one.epoch + 1)
    one.ask(step="old epoch", member_epoch=one.epoch - 1)
    one.ask(step="unknown member", member_id=Sharer(run, "nobody").id)
    one.ask(step="empty subscription later", subscribed_topic_names=[])
    one.ask(step="joins again", **first)
    one.beat(step="right")


@case(API, topics=TOPICS)
def too_many_members(run: Run) -> None:
    "group.share.max.size is 10 at all sides."
    members = [Sharer(run, f"m{n}", many=True) for n in range(11)]
    members[0].ready()
    for member in members[1:]:
        member.join()


@case(API, topics=TOPICS)
def session_that_ends(run: Run) -> None:
    watch(run, OFFSETS)
    one, two = Sharer(run, "one"), Sharer(run, "two")
    set_group(run, one.group, [("share.heartbeat.interval.ms", "100"),
                               ("share.session.timeout.ms", "2000")])  # fmt: skip
    one.ready()
    run.ask_until(lambda a: not a.groups[0].members, DESCRIBE, 1, group_ids=[one.group])
    one.ask(step="too late")
    two.join()
    written(run, OFFSETS, one.group)


@case(API, topics=TOPICS)
def groups_of_another_kind(run: Run) -> None:
    classic, consumer = Group(run, "classic"), Consumer(run, "c", run.group("consumer"))
    classic.alone()
    consumer.join()
    Sharer(run, "one", classic.id).join()
    Sharer(run, "two", consumer.group).join()
    sharer = Sharer(run, "three")
    sharer.join()
    Consumer(run, "c", sharer.group).join()
    into = Group(run)
    into.enter()
    into.commit("t", 1)
    into.offsets("t", 1)
    into.describe()
    sharer.leave()
    into.enter()
    Consumer(run, "c", sharer.group).join(step="when it is empty")


@case(API, topics=TOPICS)
def as_seen_by_others(run: Run) -> None:
    one = Sharer(run, "one")
    one.join()

    def keep(answer: object) -> None:
        answer.groups = [g for g in answer.groups if g.group_id == one.group]  # type: ignore

    run.ask("ListGroups", 5, keep=keep)
    for types in (["share"], ["classic", "consumer"]):
        run.ask("ListGroups", 5, keep=keep, types_filter=types, step=f"listed as {types}")
    run.ask("DescribeGroups", 6, groups=[one.group])
    run.ask("ConsumerGroupDescribe", 1, group_ids=[one.group])
    run.ask("DeleteGroups", 2, groups_names=[one.group], step="deleted with a member")
    one.leave()
    run.ask("ListGroups", 5, keep=keep, step="without members")
    run.ask("DeleteGroups", 2, groups_names=[one.group], step="deleted")
    one.describe()


@case(DESCRIBE, topics=TOPICS)
def described(run: Run) -> None:
    one, two = Sharer(run, "one", many=True), Sharer(run, "two", many=True)
    run.call(group_ids=[one.group], step="unknown")
    one.ready()
    run.call(group_ids=[one.group], step="one")
    two.join("t", rack_id="r")
    one.beat()
    run.call(group_ids=[one.group], step="two", keep=undescribed)
    run.call(group_ids=[one.group], include_authorized_operations=True, step="operations",
             keep=undescribed)  # fmt: skip
    run.call(group_ids=[], step="none")
    run.call(group_ids=[""], step="empty group id")
    run.call(group_ids=[one.group, one.group, "nobody"], step="three", keep=undescribed)
    one.leave()
    two.leave()
    run.call(group_ids=[one.group], step="empty")


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.coordinator(0)
    run.extra(b"x", group_id=run.group(), member_id="m", member_epoch=1)


def _malformed(run: Run) -> None:
    run.send_body(run.case.api, run.version, b"", step="no body", link="1")
    run.send_body(run.case.api, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(run.case.api, run.version, b"\xff" * 20, step="twenty bytes", link="3")


@case(API)
def malformed(run: Run) -> None:
    _malformed(run)


@case(DESCRIBE)
def malformed_describe(run: Run) -> None:
    _malformed(run)
