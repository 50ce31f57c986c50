"""ConsumerGroupHeartbeat (KIP-848): joining, assignments, fencing, leaving."""

from typing import Any

from compat.corpus.consuming import API, Consumer, partitions, set_group, settle
from compat.script import Run, Topic, case
from compat.stored import OFFSETS, watch, written

TOPICS = {"t": Topic(partitions=4), "u": Topic(partitions=2)}


@case(API, topics=TOPICS)
def one_member(run: Run) -> None:
    watch(run, OFFSETS)
    one = Consumer(run, "one")
    one.join()
    one.own()
    one.beat(step="nothing new")
    one.describe()
    one.leave()
    one.describe()
    one.ask(step="after it left")
    one.join(step="joins anew")
    written(run, OFFSETS, one.group)


@case(API, topics=TOPICS)
def two_members(run: Run) -> None:
    "What the first one loses it gives up first; then the second one gets it."
    watch(run, OFFSETS)
    one, two = Consumer(run, "one"), Consumer(run, "two")
    one.join()
    one.own()
    two.join()
    two.own(step="two waits")
    one.own(step="one is told to give up")
    one.describe()
    two.own(step="two still waits")
    one.own(step="one gave up")
    two.own(step="two is assigned")
    two.own()
    one.own()
    one.describe()
    two.leave()
    one.own(step="one gets all")
    one.own()
    written(run, OFFSETS, one.group)


@case(API, topics=TOPICS)
def three_members_and_fewer(run: Run) -> None:
    members = [Consumer(run, name) for name in ("one", "two", "three")]
    for count, member in enumerate(members, 1):
        member.join()
        settle(*members[:count])
    members[0].describe()
    members[0].leave()
    settle(*members[1:])
    members[1].leave()
    settle(members[2])
    members[2].describe()


@case(API, topics=TOPICS)
def more_members_than_partitions(run: Run) -> None:
    members = [Consumer(run, name, subscribed_topic_names=[run.name("u")])
               for name in ("one", "two", "three")]  # fmt: skip
    for count, member in enumerate(members, 1):
        member.join()
        settle(*members[:count])
    members[0].describe()


@case(API, topics=TOPICS)
def refused(run: Run) -> None:
    one = Consumer(run, "one")
    joined = one.joined()
    one.ask(step="unknown group", member_epoch=1)
    one.ask(step="leaves an unknown group", member_epoch=-1)
    for step, change in (
        ("empty group id", {"group_id": ""}),
        ("no rebalance timeout", {"rebalance_timeout_ms": -1}),
        ("rebalance timeout 0", {"rebalance_timeout_ms": 0}),
        ("negative rebalance timeout", {"rebalance_timeout_ms": -5}),
        ("no subscription", {"subscribed_topic_names": None}),
        ("empty subscription", {"subscribed_topic_names": []}),
        ("no list of partitions", {"topic_partitions": None}),
        ("partitions at the start", {"topic_partitions": partitions(run, "t", 0)}),
        ("empty instance id", {"instance_id": ""}),
        ("unknown assignor", {"server_assignor": "nonsense"}),
        ("empty assignor", {"server_assignor": ""}),
        ("empty rack", {"rack_id": ""}),
        ("epoch -3", {"member_epoch": -3}),
        ("epoch -2 without instance id", {"member_epoch": -2}),
    ):
        one.ask(step=step, **{**joined, **change})
    one.describe()


@case(API, topics=TOPICS)
def refused_later(run: Run) -> None:
    one = Consumer(run, "one")
    one.join()
    one.own()
    one.ask(step="epoch to come", member_epoch=one.epoch + 1)
    one.ask(step="old epoch", member_epoch=one.epoch - 1)
    one.ask(step="old epoch with partitions", member_epoch=one.epoch - 1,
            topic_partitions=partitions(run, "t", 0))  # fmt: skip
    one.ask(step="unknown member", member_id="nobody")
    one.ask(step="leaves as somebody else", member_id="nobody", member_epoch=-1)
    one.ask(step="partitions of others", topic_partitions=partitions(run, "u", 0))
    one.ask(step="partitions that are not there", topic_partitions=partitions(run, "t", 99))
    one.ask(step="an unknown topic", topic_partitions=partitions(run, "no-such", 0))
    one.ask(step="unknown assignor", server_assignor="nonsense")
    one.ask(step="instance id later", instance_id="i1")
    one.ask(step="epoch -2", member_epoch=-2)
    one.ask(step="no member id", member_id="")
    one.own(step="right")


@case(API, (0, 0), topics=TOPICS)
def member_id_of_the_server(run: Run) -> None:
    "In version 0 the broker may choose the id."
    one = Consumer(run, "one")
    one.id = ""
    one.join()
    one.own()
    one.leave()
    two = Consumer(run, "two")
    two.join()


@case(API, (1, 1), topics=TOPICS)
def member_id_of_the_client(run: Run) -> None:
    "From version 1 on the member chooses its id."
    one = Consumer(run, "one")
    one.ask(step="none", **one.joined(member_id=""))
    one.ask(step="a long one", **one.joined(member_id="x" * 300))
    one.ask(step="a strange one", **one.joined(member_id="a b/\u00fc"))


@case(API, topics=TOPICS)
def joins_again(run: Run) -> None:
    "Epoch 0 from a member that is there already."
    one, two = Consumer(run, "one"), Consumer(run, "two")
    one.join()
    settle(one)
    two.join()
    settle(one, two)
    one.join(step="one joins again")
    settle(one, two)
    one.ask(step="with epoch 0 but nothing else", member_epoch=0)
    one.ask(step="without partitions", **one.joined(topic_partitions=None))


@case(API, topics=TOPICS)
def other_subscriptions(run: Run) -> None:
    watch(run, OFFSETS)
    one = Consumer(run, "one")
    one.join()
    one.own()
    one.own(step="two topics", subscribed_topic_names=[run.name("t"), run.name("u")])
    one.own()
    one.own(step="the same in another order", subscribed_topic_names=[run.name("u"), run.name("t")])
    one.own(step="one of them", subscribed_topic_names=[run.name("u")])
    settle(one)
    one.own(step="none", subscribed_topic_names=[])
    settle(one)
    one.own(step="the same twice", subscribed_topic_names=[run.name("u"), run.name("u")])
    settle(one)
    one.own(step="one that is not there", subscribed_topic_names=["no-such", run.name("u")])
    settle(one)
    one.describe()
    written(run, OFFSETS, one.group)


@case(API, topics=TOPICS)
def topic_that_comes_later(run: Run) -> None:
    "A member is told when a topic it subscribes to appears, or grows."
    one = Consumer(run, "one")
    name = run.fresh("later")
    one.join(subscribed_topic_names=[name])
    settle(one)
    created = run.ask("CreateTopics", 4, timeout_ms=5000, topics=[
        {"name": name, "num_partitions": 2, "replication_factor": 1}
    ])  # fmt: skip
    run.settle(name)
    assert created.topics[0].error_code == 0
    one.own_until(lambda a: a.assignment is not None)
    settle(one)
    run.ask("CreatePartitions", 1, timeout_ms=5000, topics=[
        {"name": name, "count": 3, "assignments": None}
    ])  # fmt: skip
    one.own_until(lambda a: a.assignment is not None)
    settle(one)
    one.describe()


@case(API, topics=TOPICS)
def assignors(run: Run) -> None:
    "Of several topics the uniform one takes the ids into account, which differ: it gets one."
    watch(run, OFFSETS)
    for name, topics in (("range", ["t", "u"]), ("uniform", ["t"])):
        group = run.group(name)
        members = [
            Consumer(run, f"{name}-{n}", group, server_assignor=name,
                     subscribed_topic_names=[run.name(topic) for topic in topics])
            for n in range(3)
        ]  # fmt: skip
        for count, member in enumerate(members, 1):
            member.join()
            settle(*members[:count])
        members[0].describe()
    written(run, OFFSETS, run.group("range"))


@case(API, topics=TOPICS)
def most_wanted_assignor(run: Run) -> None:
    one = Consumer(run, "one", server_assignor="range")
    two = Consumer(run, "two", server_assignor="uniform")
    three = Consumer(run, "three", server_assignor="range")
    for member in (one, two, three):
        member.join()
    settle(one, two, three)
    one.describe()
    one.own(step="changes", server_assignor="uniform")
    settle(one, two, three)
    one.describe()


@case(API, topics=TOPICS)
def different_subscriptions(run: Run) -> None:
    topics = ([run.name("t")], [run.name("u")], [run.name("t"), run.name("u")])
    members = [
        Consumer(run, f"m{n}", server_assignor="range", subscribed_topic_names=names)
        for n, names in enumerate(topics)
    ]
    for count, member in enumerate(members, 1):
        member.join()
        settle(*members[:count])
    members[0].describe()


@case(API, topics=TOPICS)
def too_many_members(run: Run) -> None:
    "group.consumer.max.size is 5 at all sides."
    members = [Consumer(run, f"m{n}") for n in range(6)]
    for member in members:
        member.join()
    members[0].describe()


@case(API, topics=TOPICS)
def answer_that_got_lost(run: Run) -> None:
    "A member that did not hear of its new epoch goes on with the one before."
    one, two = Consumer(run, "one"), Consumer(run, "two")
    one.join()
    one.own()
    two.join()
    one.own()
    before, owned = one.epoch, one.owned
    one.own(step="one moves to the new epoch")
    one.ask(step="the epoch before, the same partitions", member_epoch=before,
            topic_partitions=owned)  # fmt: skip
    one.ask(step="the epoch before, fewer partitions", member_epoch=before,
            topic_partitions=partitions(run, "t", owned[0]["partitions"][0]))  # fmt: skip
    one.ask(step="the epoch before, other partitions", member_epoch=before,
            topic_partitions=partitions(run, "t", 0, 1, 2, 3))  # fmt: skip
    one.ask(step="the epoch before, none named", member_epoch=before)
    one.own()


@case(API, topics=TOPICS)
def never_gives_up(run: Run) -> None:
    "Who does not revoke within its rebalance timeout is taken out."
    one = Consumer(run, "one", rebalance_timeout_ms=400)
    two = Consumer(run, "two")
    one.join()
    one.own()
    two.join()
    one.beat(step="one is told")
    before = one.epoch
    two.own_until(lambda a: a.assignment is not None and a.assignment.topic_partitions)
    settle(two)
    two.describe()
    one.ask(step="one beats", member_epoch=before)


@case(API, topics=TOPICS)
def session_that_ends(run: Run) -> None:
    watch(run, OFFSETS)
    one, two = Consumer(run, "one"), Consumer(run, "two")
    set_group(run, one.group, [("consumer.heartbeat.interval.ms", "100"),
                               ("consumer.session.timeout.ms", "800")])  # fmt: skip
    two.join()
    one.join()
    settle(two, one)
    two.own_until(lambda a: a.assignment is not None)
    one.ask(step="one is gone")
    two.own()
    two.describe()
    written(run, OFFSETS, one.group)


@case(API, topics=TOPICS)
def group_settings(run: Run) -> None:
    "The heartbeat interval is a setting of the group."
    one = Consumer(run, "one")
    set_group(run, one.group, [("consumer.heartbeat.interval.ms", "1234")])
    one.join()
    set_group(run, one.group, [("consumer.heartbeat.interval.ms", "49")])
    set_group(run, one.group, [("consumer.session.timeout.ms", "99")])
    set_group(run, one.group, [("consumer.session.timeout.ms", "1000")])
    set_group(run, one.group, [("no.such.setting", "1")])
    set_group(run, "", [("consumer.heartbeat.interval.ms", "1234")])
    one.own()


@case(API, topics=TOPICS)
def static_member(run: Run) -> None:
    "Leaving with epoch -2 it keeps its assignment for its next incarnation."
    watch(run, OFFSETS)
    one = Consumer(run, "one", instance_id="i1")
    one.join()
    one.own()
    other = Consumer(run, "other", instance_id="i1")
    other.join(step="another member with its instance id")
    other.ask(step="another member beats", member_epoch=one.epoch, member_id="nobody")
    one.ask(step="without its instance id", instance_id=None)
    one.ask(step="with another instance id", instance_id="i2")
    one.leave(epoch=-2)
    one.describe()
    one.ask(step="beats after it left")
    other.join(step="the next incarnation")
    other.own()
    one.ask(step="the old one beats")
    one.leave(step="the old one leaves")
    other.describe()
    other.leave()
    other.describe()
    written(run, OFFSETS, one.group)


@case(API, topics=TOPICS)
def static_members_among_others(run: Run) -> None:
    one, two = Consumer(run, "one", instance_id="i1"), Consumer(run, "two")
    one.join()
    settle(one)
    two.join()
    settle(one, two)
    one.leave(epoch=-2)
    two.own()
    two.describe()
    again = Consumer(run, "again", instance_id="i1")
    again.join()
    settle(again, two)
    again.leave(epoch=-1, step="leaves for good")
    settle(two)


@case(API, (1, 1), topics={**TOPICS, "u2": Topic()})
def regular_expressions(run: Run) -> None:
    watch(run, OFFSETS)
    one = Consumer(run, "one")
    prefix = run.name("u")
    one.join(subscribed_topic_names=None, subscribed_topic_regex=f"{prefix}.*")
    one.own_until(lambda a: a.assignment is not None)
    settle(one)
    one.describe()
    one.own(step="another", subscribed_topic_regex=f"{prefix}2")
    one.own_until(lambda a: a.member_epoch > 2)
    settle(one)
    one.own(step="names too", subscribed_topic_names=[run.name("t")])
    settle(one)
    one.describe()
    one.own(step="none any more", subscribed_topic_regex="")
    settle(one)
    one.describe()
    written(run, OFFSETS, one.group)


@case(API, (1, 1), topics=TOPICS)
def wrong_expressions(run: Run) -> None:
    one = Consumer(run, "one")
    for expression in ("(", "[a", "*", "(?=a)b", "a{2,1}", "\\", "(?<n>a)", "a++"):
        step = f"joins with {expression}"
        fields = one.joined(subscribed_topic_names=None, subscribed_topic_regex=expression)
        one.ask(step=step, **fields)
    one.ask(step="neither", **one.joined(subscribed_topic_names=None))
    one.ask(step="empty", **one.joined(subscribed_topic_names=None, subscribed_topic_regex=""))
    one.join(step="right")
    one.ask(step="later", subscribed_topic_regex="(")


@case(API, topics=TOPICS)
def racks(run: Run) -> None:
    one = Consumer(run, "one", rack_id="r1")
    two = Consumer(run, "two", rack_id="r2")
    one.join()
    two.join()
    settle(one, two)
    one.own(step="moves", rack_id="r3")
    one.describe()


@case(API, topics=TOPICS)
def all_fields_every_time(run: Run) -> None:
    "A full heartbeat is answered with the assignment each time (as a client does after an error)."
    one = Consumer(run, "one")
    one.join()
    full = {k: v for k, v in one.joined().items() if k != "member_epoch"}
    one.ask(step="full, nothing owned", **full)
    one.ask(step="full", **{**full, "topic_partitions": one.owned})
    one.ask(step="partitions only", topic_partitions=one.owned)
    one.ask(step="subscription only", subscribed_topic_names=full["subscribed_topic_names"])
    one.ask(step="timeout only", rebalance_timeout_ms=9000)


def _offset_step(run: Run, one: Consumer, epoch: int, member: str | None = None) -> Any:
    who = one.id if member is None else member
    partition = {"partition_index": 0, "committed_offset": 5, "committed_metadata": "m"}
    return run.ask("OffsetCommit", 9, group_id=one.group, member_id=who, step=f"commit {epoch}",
                   generation_id_or_member_epoch=epoch,
                   topics=[{"name": run.name("t"), "partitions": [partition]}])  # fmt: skip


@case(API, topics=TOPICS)
def offsets_of_members(run: Run) -> None:
    watch(run, OFFSETS)
    one = Consumer(run, "one")
    one.join()
    one.own()
    for step, who, epoch in (
        ("right", None, one.epoch), ("old epoch", None, one.epoch - 1),
        ("epoch to come", None, one.epoch + 1), ("no epoch", None, -1),
        ("unknown member", "nobody", one.epoch), ("no member", "", one.epoch),
        ("from outside", "", -1),
    ):  # fmt: skip
        answer = _offset_step(run, one, epoch, who)
        assert answer is not None, step
        topics = [{"name": run.name("t"), "partition_indexes": [0]}]
        member = one.id if who is None else who
        group = {"group_id": one.group, "member_id": member, "member_epoch": epoch,
                 "topics": topics}  # fmt: skip
        run.ask("OffsetFetch", 9, groups=[group], step=f"fetch {step}")
    run.ask("OffsetCommit", 8, group_id=one.group, member_id=one.id, step="by an old version",
            generation_id_or_member_epoch=one.epoch - 1,
            topics=[{"name": run.name("t"), "partitions": [{"committed_offset": 1}]}])  # fmt: skip
    group = {"group_id": one.group, "topics": None}
    run.ask("OffsetFetch", 8, groups=[group], step="fetch all by an old version")
    one.leave()
    _offset_step(run, one, one.epoch)
    written(run, OFFSETS, one.group)


@case(API, topics=TOPICS)
def as_seen_by_others(run: Run) -> None:
    "DescribeGroups, ListGroups, DeleteGroups and OffsetDelete on a consumer group."
    one = Consumer(run, "one")
    one.join()
    one.own()
    for version in (5, 6):
        run.ask("DescribeGroups", version, groups=[one.group])

    def keep(answer: Any) -> None:
        answer.groups = [g for g in answer.groups if g.group_id == one.group]

    run.ask("ListGroups", 5, keep=keep, step="listed")
    for types in (["consumer"], ["classic"]):
        run.ask("ListGroups", 5, keep=keep, types_filter=types, step=f"listed as {types}")
    for states in (["Stable"], ["stable"], ["Empty"], ["Assigning", "Reconciling"]):
        run.ask("ListGroups", 5, keep=keep, states_filter=states, step=f"listed if {states}")
    _offset_step(run, one, one.epoch)
    topics = [{"name": run.name("t"), "partitions": [{"partition_index": 0}]},
              {"name": run.name("u"), "partitions": [{"partition_index": 0}]}]  # fmt: skip
    run.ask("OffsetDelete", 0, group_id=one.group, topics=topics, step="offsets with a member")
    run.ask("DeleteGroups", 2, groups_names=[one.group], step="deleted with a member")
    one.leave()
    run.ask("ListGroups", 5, keep=keep, step="listed without members")
    run.ask("OffsetDelete", 0, group_id=one.group, topics=topics, step="offsets without members")
    run.ask("DeleteGroups", 2, groups_names=[one.group], step="deleted")
    one.describe()


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.coordinator(0)
    run.extra(b"x", group_id=run.group(), member_id="m", member_epoch=1)


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(API, run.version, b"\xff" * 20, step="twenty bytes", link="3")
