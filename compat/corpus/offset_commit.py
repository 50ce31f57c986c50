"""OffsetCommit: from members, from outside a group, and what lies in __consumer_offsets then."""

from typing import Any

from compat.corpus.classic import REBALANCING, Group, left_behind, own_range
from compat.script import Run, Topic, case, fitted
from compat.stored import OFFSETS, watch

API = "OffsetCommit"
TOPICS = {"t": Topic(partitions=3), "u": Topic()}


def _body(run: Run, alias: str, *partitions: dict[str, Any]) -> dict[str, Any]:
    try:
        named = {"name": run.name(alias), "topic_id": run.topic_id(alias)}
    except KeyError:
        named = {"name": alias, "topic_id": run.other_id()}
    return {**named, "partitions": list(partitions)}


def _commit(run: Run, group: Group, *topics: dict[str, Any], step: str, **more: Any) -> Any:
    fields = {
        "group_id": group.id,
        "generation_id_or_member_epoch": -1,
        "topics": list(topics),
        **more,
    }
    return run.call(step=step, **fitted(API, run.version, fields))


@case(API, topics=TOPICS)
def from_outside(run: Run) -> None:
    "Without members anybody may commit; the group is there from then on."
    watch(run, OFFSETS)
    group = Group(run)
    group.commit("t", 5, 6, 7)
    group.offsets("t", 3)
    group.describe()
    group.commit("t", 8, metadata="\u00fcber", step="again, with metadata")
    group.commit("t", 2, metadata=None, step="backwards, null metadata")
    group.offsets("t", 3)
    left_behind(run, group.id)


@case(API, topics=TOPICS)
def strange_offsets(run: Run) -> None:
    watch(run, OFFSETS)
    group = Group(run)
    for offset in (-1, -2, 2**63 - 1, -(2**63), 0):
        group.commit("t", offset, step=f"offset {offset}")
        group.offsets("t", 1)
    left_behind(run, group.id)


@case(API, topics=TOPICS)
def several(run: Run) -> None:
    "Each partition has its own result."
    watch(run, OFFSETS)
    group = Group(run)
    good = {"partition_index": 0, "committed_offset": 1, "committed_metadata": "m"}
    _commit(run, group, step="nothing")
    _commit(run, group, _body(run, "t"), step="a topic without partitions")
    _commit(run, group, _body(run, "t", good), _body(run, "u", good), step="two topics")
    missing = {**good, "partition_index": 9}
    negative = {**good, "partition_index": -1}
    _commit(run, group, _body(run, "t", good, missing, negative), step="partitions not there")
    _commit(run, group, _body(run, "no-such", good), step="unknown topic alone")
    _commit(
        run, group, _body(run, "no-such", good), _body(run, "t", good), step="unknown and known"
    )
    twice = {**good, "committed_offset": 2}
    _commit(run, group, _body(run, "t", good, twice), step="a partition twice")
    _commit(run, group, _body(run, "u", good), _body(run, "u", twice), step="a topic twice")
    group.offsets("t", 3)
    left_behind(run, group.id)


@case(API, topics=TOPICS)
def metadata_limit(run: Run) -> None:
    "4096 bytes."
    group = Group(run)
    group.commit("t", 1, metadata="x" * 4096, step="as long as allowed")
    group.commit("t", 2, metadata="x" * 4097, step="one byte more")
    group.commit("t", 3, metadata="\u00e4" * 2048, step="in bytes, as long as allowed")
    group.commit("t", 4, metadata="\u00e4" * 2049, step="in bytes, too long")
    good = {"partition_index": 1, "committed_offset": 1, "committed_metadata": "fine"}
    long = {"partition_index": 0, "committed_offset": 9, "committed_metadata": "x" * 5000}
    _commit(run, group, _body(run, "t", long, good), step="one of two")
    group.offsets("t", 2)


@case(API, (1, 10), topics=TOPICS)
def topics_named_twice(run: Run) -> None:
    group = Group(run)
    good = {"partition_index": 0, "committed_offset": 1, "committed_metadata": "m"}
    other, missing = {**good, "partition_index": 1}, {**good, "partition_index": 9}
    t, u, no = (lambda *p: _body(run, "t", *p)), _body(run, "u", good), _body(run, "no-such", good)
    _commit(run, group, t(good), u, t(other), step="all are there")
    _commit(run, group, t(good), t(missing), step="the second is not there")
    _commit(run, group, t(missing), t(good), step="the first is not there")
    _commit(run, group, t(missing), u, t(missing), step="twice what is not there")
    _commit(run, group, no, t(good), no, t(other), step="an unknown topic twice")
    _commit(run, group, no, t(good, good), t(good), step="a partition three times")
    _commit(run, group, t(), t(good), t(), step="without partitions")
    _commit(run, group, no, t(good), t(other), step="as somebody unknown", member_id="nobody",
            generation_id_or_member_epoch=4)  # fmt: skip
    group.offsets("t", 2)


@case(API, (1, 10), topics=TOPICS)
def refused_as_the_first(run: Run) -> None:
    "Offsets that are refused bring no group about."
    group = Group(run)
    group.commit("t", 1, metadata="x" * 4097, step="metadata too long")
    group.describe()
    group.delete()


@case(API, (0, 9), topics=TOPICS, alone=True)
def empty_group_id(run: Run) -> None:
    "A group like any other for who commits from outside; taken away for the cases after it."
    group = Group(run)
    group.id = ""
    group.commit("t", 1)
    if run.version >= 1:
        group.commit("t", 1, member="nobody", generation=1)
    group.describe()
    group.offsets("t", 1)
    run.ask("DeleteGroups", 1, groups_names=[""])


@case(API, (1, 10), topics=TOPICS)
def from_members(run: Run) -> None:
    watch(run, OFFSETS)
    group = Group(run)
    group.commit("t", 1, member="nobody", generation=1, step="no such group")
    group.commit("t", 1, member="", generation=0, step="no such group, no member")
    one, two, generation = group.pair()
    group.commit("t", 5, 6, member=one, generation=generation, step="leader")
    group.commit("t", 7, member=two, generation=generation, step="follower")
    group.commit("t", 1, member=one, generation=generation - 1, step="old generation")
    group.commit("t", 1, member=one, generation=generation + 1, step="generation to come")
    group.commit("t", 1, member=one, generation=-1, step="no generation")
    group.commit("t", 1, member="nobody", generation=generation, step="unknown member")
    group.commit("t", 1, member="", generation=generation, step="no member id")
    group.commit("t", 1, step="from outside")
    group.offsets("t", 2)
    group.leave(two)
    group.commit("t", 8, member=one, generation=generation, step="while members join")
    group.commit("t", 9, member=two, generation=generation, step="after it left")
    answer = group.join(one, link="one")
    group.commit("t", 9, member=one, generation=answer.generation_id, step="before it syncs")
    group.commit("t", 9, member=one, generation=generation, step="old generation before it syncs")
    group.sync(one, answer.generation_id)
    group.leave(one)
    group.commit("t", 9, member=one, generation=answer.generation_id, step="to an empty group")
    group.commit("t", 10, step="from outside to an empty group")
    group.offsets("t", 2)
    left_behind(run, group.id)


@case(API, (7, 10), topics=TOPICS)
def from_static_members(run: Run) -> None:
    group = Group(run)
    one = group.alone(instance="i1")
    group.commit("t", 1, member=one, generation=1, instance="i1", step="right")
    group.commit("t", 2, member=one, generation=1, step="without its instance id")
    group.commit("t", 3, member="nobody", generation=1, instance="i1", step="another id")
    group.commit("t", 4, member=one, generation=1, instance="i2", step="another instance id")
    group.commit("t", 5, member=one, generation=7, instance="i1", step="wrong generation")
    group.commit("t", 6, instance="i1", step="without id and generation")
    group.commit("t", 6, instance="i9", step="unknown, without id and generation")
    again = group.join(instance="i1")
    group.commit("t", 7, member=one, generation=1, instance="i1", step="after it came back")
    group.commit("t", 8, member=again.member_id, generation=1, instance="i1", step="the new one")
    group.offsets("t", 1)


@case(API, (6, 10), topics=TOPICS)
def leader_epochs(run: Run) -> None:
    watch(run, OFFSETS)
    group = Group(run)
    for epoch in (0, 7, -1, -5, 2**31 - 1):
        partition = {
            "partition_index": 0,
            "committed_offset": 3,
            "committed_leader_epoch": epoch,
            "committed_metadata": "",
        }
        _commit(run, group, _body(run, "t", partition), step=f"epoch {epoch}")
        group.offsets("t", 1)
    left_behind(run, group.id)


@case(API, (1, 1), topics=TOPICS)
def commit_timestamps(run: Run) -> None:
    "Version 1 says when the commit was made."
    watch(run, OFFSETS)
    group = Group(run)
    for stamp in (-1, 0, 1_600_000_000_000):
        partition = {"partition_index": 0, "committed_offset": 3, "commit_timestamp": stamp}
        _commit(run, group, _body(run, "t", partition), step=f"at {stamp}")
    left_behind(run, group.id)


@case(API, (2, 4), topics=TOPICS)
def retention_times(run: Run) -> None:
    "Versions 2 to 4 say for how long the offset is kept."
    watch(run, OFFSETS)
    group = Group(run)
    partition = {"partition_index": 0, "committed_offset": 3}
    for retention in (-1, 0, 3_600_000, -5, 2**62):
        _commit(run, group, _body(run, "t", partition), step=f"for {retention} ms",
                retention_time_ms=retention)  # fmt: skip
        group.offsets("t", 1)
    left_behind(run, group.id)


@case(API, (1, 10), topics=TOPICS)
def to_a_group_of_another_kind(run: Run) -> None:
    "A group that is no consumer group takes commits like one."
    group = Group(run, kind="connect")
    one = group.alone()
    group.commit("t", 1, member=one, generation=1)
    group.commit("t", 1)
    group.offsets("t", 1)


@case(API, (1, 10), topics=TOPICS)
def during_a_rebalance(run: Run) -> None:
    group = Group(run)
    one = group.alone("one")
    _, joining = group.begin_enter("two", protocols=own_range("t", data=b"2"))
    group.beat_until(REBALANCING, one, 1)
    group.commit("t", 4, member=one, generation=1, step="while the other one joins")
    again = group.begin_join(one, link="one")
    run.finish(again)
    two = run.finish(joining).member_id
    group.commit("t", 5, member=one, generation=2, step="leader before the assignment")
    group.commit("t", 5, member=two, generation=2, step="follower before the assignment")
    group.commit("t", 5, member=one, generation=1, step="old generation")
    group.offsets("t", 1)


@case(API, topics=TOPICS)
def bytes_after_the_body(run: Run) -> None:
    run.coordinator(0)
    run.extra(b"x", group_id=run.group(), topics=[])


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(API, run.version, b"\xff" * 20, step="twenty bytes", link="3")
