"""ConsumerGroupDescribe, and groups that change between the two protocols (KIP-848)."""

import struct
from typing import Any

from compat.corpus.classic import REBALANCING, Group
from compat.corpus.consuming import Consumer, settle
from compat.script import Run, Topic, case
from compat.stored import OFFSETS, watch, written

API = "ConsumerGroupDescribe"
TOPICS = {"t": Topic(partitions=4)}


@case(API, topics=TOPICS)
def described(run: Run) -> None:
    one, two = Consumer(run, "one"), Consumer(run, "two", instance_id="i2", rack_id="r")
    run.call(group_ids=[one.group], step="unknown")
    one.join()
    run.call(group_ids=[one.group], step="one joined")
    two.join()
    run.call(group_ids=[one.group], step="two joined")
    one.own()
    run.call(group_ids=[one.group], step="reconciling")
    settle(one, two)
    run.call(group_ids=[one.group], step="stable")
    run.call(group_ids=[one.group], include_authorized_operations=True, step="operations")
    one.leave()
    two.leave()
    run.call(group_ids=[one.group], step="empty")


@case(API, topics=TOPICS)
def described_oddly(run: Run) -> None:
    one, classic = Consumer(run, "one"), Group(run, "classic")
    one.join()
    classic.alone()
    run.call(group_ids=[], step="none")
    run.call(group_ids=[""], step="empty group id")
    run.call(group_ids=[classic.id], step="a classic group")
    run.call(group_ids=[one.group, classic.id, "nobody", ""], step="four")
    run.call(group_ids=[one.group, one.group], step="the same twice")
    run.call(group_ids=["nobody"], include_authorized_operations=True, step="operations")


def _metadata(*topics: str, owned: tuple[str, list[int]] | None = None, generation: int = -1,
              version: int = 3) -> bytes:  # fmt: skip
    """A consumer's metadata with what it owns (version 1), its generation (2) and rack (3)."""
    out = struct.pack(">hi", version, len(topics))
    for topic in topics:
        out += struct.pack(">h", len(topic)) + topic.encode()
    out += struct.pack(">i", -1)
    if version >= 1:
        out += struct.pack(">i", 0 if owned is None else 1)
        if owned is not None:
            name, indexes = owned
            out += struct.pack(">h", len(name)) + name.encode()
            out += struct.pack(f">i{len(indexes)}i", len(indexes), *indexes)
    if version >= 2:
        out += struct.pack(">i", generation)
    return out + (struct.pack(">h", -1) if version >= 3 else b"")


def _assignment(topic: str, *indexes: int) -> bytes:
    out = struct.pack(">hih", 0, 1, len(topic)) + topic.encode()
    return out + struct.pack(f">i{len(indexes)}i", len(indexes), *indexes) + struct.pack(">i", -1)


def _classic(run: Run, protocol: str = "range") -> Group:
    group = Group(run)
    group.protocols = [(protocol, _metadata(run.name("t")))]
    return group


def _alone(run: Run, group: Group, link: str = "main", **more: Any) -> str:
    """A classic member with all four partitions."""
    answer = group.enter(link, **more)
    member = str(answer.member_id)
    group.sync(member, answer.generation_id, link=link, protocol_name=group.protocols[0][0],
               assignments=[(member, _assignment(run.name("t"), 0, 1, 2, 3))], **more)  # fmt: skip
    return member


@case(API, topics=TOPICS)
def upgraded_while_it_lives(run: Run) -> None:
    "A member of the new protocol turns a classic group into a consumer group."
    watch(run, OFFSETS)
    group = _classic(run)
    old = _alone(run, group)
    group.commit("t", 7, member=old, generation=1)
    new = Consumer(run, "new")
    new.join()
    run.call(group_ids=[group.id], step="with one of each")
    group.describe(step="as a classic group")
    new.own()
    group.beat_until(REBALANCING, old, 1)
    answer = group.join(old, protocols=[("range", _metadata(
        run.name("t"), owned=(run.name("t"), [0, 1, 2, 3]), generation=1))])  # fmt: skip
    group.sync(old, answer.generation_id)
    group.beat(old, answer.generation_id)
    settle(new)
    group.beat(old, answer.generation_id, step="told to join again, or not")
    again = group.join(
        old,
        protocols=[
            (
                "range",
                _metadata(
                    run.name("t"), owned=(run.name("t"), [0, 1]), generation=answer.generation_id
                ),
            )
        ],
    )
    group.sync(old, again.generation_id)
    settle(new)
    group.commit("t", 8, member=old, generation=again.generation_id, step="commit by the old one")
    run.call(group_ids=[group.id], step="settled")
    group.leave(old)
    settle(new)
    run.call(group_ids=[group.id], step="the new one alone")
    group.offsets("t", 1)
    written(run, OFFSETS, group.id)


@case(API, topics=TOPICS)
def downgraded_while_it_lives(run: Run) -> None:
    "When the last member of the new protocol leaves, the group is classic again."
    watch(run, OFFSETS)
    group = _classic(run)
    new = Consumer(run, "new")
    new.join()
    new.own()
    answer = group.enter()
    old = answer.member_id
    group.sync(old, answer.generation_id)
    run.call(group_ids=[group.id], step="with one of each")
    settle(new)
    new.leave()
    group.describe(step="classic again")
    run.call(group_ids=[group.id], step="as a consumer group")
    group.beat(old, answer.generation_id)
    again = group.join(old)
    group.sync(old, again.generation_id,
               assignments=[(old, _assignment(run.name("t"), 0, 1, 2, 3))])  # fmt: skip
    group.describe()
    written(run, OFFSETS, group.id)


@case(API, topics=TOPICS)
def empty_groups_change(run: Run) -> None:
    "Without members either protocol may begin; offsets stay."
    watch(run, OFFSETS)
    group = _classic(run)
    group.commit("t", 3)
    new = Consumer(run, "new")
    new.join()
    group.offsets("t", 1)
    new.leave()
    old = _alone(run, group)
    group.describe()
    run.call(group_ids=[group.id], step="a classic group now")
    group.leave(old)
    new.epoch = 0
    new.join(step="new again")
    group.offsets("t", 1)
    written(run, OFFSETS, group.id)


@case(API, topics=TOPICS)
def members_that_cannot_be_upgraded(run: Run) -> None:
    "A classic group whose members' metadata says nothing, or of another kind."
    strange = Group(run, "strange")
    strange.protocols = [("range", b"?")]
    strange.alone()
    Consumer(run, "a", strange.id).join()
    connect = Group(run, "connect", kind="connect")
    connect.alone()
    Consumer(run, "b", connect.id).join()
    joining = Group(run, "joining")
    joining.enter()
    Consumer(run, "c", joining.id).join()
    for group in (strange, connect, joining):
        group.describe()


def _without_assignments(answer: Any) -> None:
    """Who gets what is decided by ids, and those of classic members are random."""
    for group in answer.groups:
        for member in group.members:
            member.assignment.topic_partitions = member.target_assignment.topic_partitions = []


@case(API, topics=TOPICS)
def classic_members_that_do_not_fit(run: Run) -> None:
    "What a member of the classic protocol must bring to get into a consumer group."
    new = Consumer(run, "new")
    new.join()
    new.own()
    group = Group(run)
    group.protocols = [("range", _metadata(run.name("t")))]
    group.enter("a", protocols=[("range", b"?")])
    group.enter("b", protocol_type="connect")
    group.enter("c", protocols=[])
    for version in range(4):
        group.enter(f"v{version}", protocols=[("range", _metadata(run.name("t"), version=version))])
        group.enter(
            f"n{version}", protocols=[("nobody", _metadata(run.name("t"), version=version))]
        )
    run.call(group_ids=[group.id], keep=_without_assignments)
    group.join("nobody", step="an unknown id")
    group.beat("new", new.epoch, step="a heartbeat of the other protocol")
    group.leave("new", step="a leave of the other protocol")


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.coordinator(0)
    run.extra(b"x", group_ids=[run.group()])


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(API, run.version, b"\xff" * 20, step="twenty bytes", link="3")
