"""TxnOffsetCommit: offsets as part of a transaction (KIP-98, KIP-447); version 5 joins the
transaction by itself (KIP-890)."""

from typing import Any

from compat.corpus.classic import REBALANCING, Group, left_behind, own_range
from compat.corpus.transacting import Producer, newest
from compat.script import Run, Topic, case
from compat.stored import OFFSETS, watch

API = "TxnOffsetCommit"
TOPICS = {"t": Topic(partitions=3), "u": Topic()}


def _begun(run: Run, group: Group) -> Producer:
    """A producer whose transaction covers the group's offsets, as its version does that."""
    producer = Producer(run)
    producer.init()
    if not newest(run):
        producer.add_offsets(group.id)
    return producer


@case(API, topics=TOPICS)
def committed(run: Run) -> None:
    watch(run, OFFSETS)
    group = Group(run)
    producer = _begun(run, group)
    producer.commit_offsets(group.id, "t", 5, 6)
    group.offsets("t", 3, step="while it is open")
    producer.commit_offsets(group.id, "t", 7, step="again")
    group.describe()
    producer.end(committed=True)
    group.settled("t", 7, at=0)
    group.offsets("t", 3, step="committed")
    left_behind(run, group.id, ready=lambda records: "marker" in records[-1])


@case(API, topics=TOPICS)
def aborted(run: Run) -> None:
    watch(run, OFFSETS)
    group = Group(run)
    group.commit("t", 1)
    producer = _begun(run, group)
    producer.commit_offsets(group.id, "t", 5, 6)
    producer.end(committed=False)
    group.settled("t", 1, at=0)
    group.settled("t", -1, at=1)
    group.offsets("t", 3, step="aborted")
    left_behind(run, group.id, ready=lambda records: "marker" in records[-1])


@case(API, topics=TOPICS)
def overtaken_by_a_plain_commit(run: Run) -> None:
    "Of a plain commit and a transaction's, the record that was written later counts."
    group = Group(run)
    producer = _begun(run, group)
    producer.commit_offsets(group.id, "t", 5)
    group.commit("t", 9, step="a plain commit after it")
    group.offsets("t", 1)
    producer.end(committed=True)
    producer.describe_until("CompleteCommit")
    group.offsets("t", 1)
    group.commit("t", 2, step="a plain commit after the end")
    group.offsets("t", 1)


@case(API, topics=TOPICS)
def refused(run: Run) -> None:
    group = Group(run)
    producer = Producer(run)
    producer.init()
    if not newest(run):
        producer.add_offsets(group.id)
    producer.commit_offsets(group.id, "t", 1, step="right")
    producer.commit_offsets("", "t", 1, step="empty group id")
    producer.commit_offsets(group.id, "no-such", 1, step="unknown topic")
    producer.commit_offsets(group.id, "t", 1, 2, 3, 4, step="a partition that is not there")
    producer.commit_offsets(group.id, "t", 1, producer_id=producer.id + 77, step="another id")
    producer.commit_offsets(group.id, "t", 1, transactional_id="nobody", step="another name")
    producer.commit_offsets(group.id, "t", 1, transactional_id="", step="no name")
    producer.commit_offsets(group.id, "t", -1, step="offset -1")
    producer.commit_offsets(group.id, "t", step="nothing")
    producer.end(committed=True)
    group.settled("t", -1, at=0)


@case(API, (0, 4), topics=TOPICS, alone=True)
def nothing_begun(run: Run) -> None:
    group = Group(run)
    producer = Producer(run)
    producer.init()
    producer.commit_offsets(group.id, "t", 1)
    producer.add(("t", 0))
    producer.commit_offsets(group.id, "t", 1, step="something else begun")


@case(API, topics=TOPICS)
def epochs_that_were_never_given(run: Run) -> None:
    group = Group(run)
    producer = _begun(run, group)
    producer.commit_offsets(group.id, "t", 1, step="right")
    producer.commit_offsets(group.id, "t", 1, producer_epoch=-1, step="no epoch")
    producer.commit_offsets(group.id, "t", 1, producer_epoch=producer.epoch + 1, step="new epoch")
    producer.end(committed=False)


@case(API, topics=TOPICS)
def metadata_limit(run: Run) -> None:
    group = Group(run)
    producer = _begun(run, group)

    def commit(step: str, metadata: str | None) -> None:
        partition: dict[str, Any] = {
            "partition_index": 0, "committed_offset": 1, "committed_metadata": metadata
        }  # fmt: skip
        known = {"name": run.name("t"), "topic_id": run.topic_id("t"), "partitions": [partition]}
        producer.commit_offsets(group.id, "t", 1, topics=[known], step=step)

    commit("as long as allowed", "x" * 4096)
    commit("too long", "x" * 4097)
    commit("none", None)


@case(API, topics=TOPICS)
def topics_named_twice(run: Run) -> None:
    group = Group(run)
    producer = _begun(run, group)
    good = {"partition_index": 0, "committed_offset": 1, "committed_metadata": "m"}
    other, missing = {**good, "partition_index": 1}, {**good, "partition_index": 9}

    def body(alias: str, *partitions: dict[str, Any]) -> dict[str, Any]:
        known = {"name": run.name(alias), "topic_id": run.topic_id(alias)}
        return {**known, "partitions": list(partitions)}

    def commit(step: str, *topics: dict[str, Any], **more: Any) -> None:
        producer.commit_offsets(group.id, "t", topics=list(topics), step=step, **more)

    u = body("u", good)
    no = {"name": "no-such", "topic_id": run.other_id(), "partitions": [good]}
    commit("all are there", body("t", good), u, body("t", other))
    commit("the second is not there", body("t", good), body("t", missing))
    commit("the first is not there", body("t", missing), body("t", good))
    commit("twice what is not there", body("t", missing), u, body("t", missing))
    commit("an unknown topic twice", no, body("t", good), no, body("t", other))
    commit("a partition three times", no, body("t", good, good), body("t", good))
    commit("as somebody else", body("t", good), body("t", other), producer_id=producer.id + 77)
    producer.end(committed=False)


@case(API, (3, 6), topics=TOPICS)
def from_members(run: Run) -> None:
    "Since version 3 a member of the group can say that it is one (KIP-447)."
    group = Group(run)
    producer = _begun(run, group)

    def commit(step: str, **who: Any) -> None:
        producer.commit_offsets(group.id, "t", 5, step=step, **who)

    commit("no such group", member_id="nobody", generation_id_or_member_epoch=1)
    one, two, generation = group.pair()
    right = {"member_id": one, "generation_id_or_member_epoch": generation}
    commit("right", **right)
    commit("the other one", **{**right, "member_id": two})
    commit("old generation", **{**right, "generation_id_or_member_epoch": generation - 1})
    commit("generation to come", **{**right, "generation_id_or_member_epoch": generation + 1})
    commit("no generation", member_id=one)
    commit("unknown member", **{**right, "member_id": "nobody"})
    commit("no member", generation_id_or_member_epoch=generation)
    commit("from outside")
    commit("unknown instance id", group_instance_id="i9", **right)
    group.leave(two)
    commit("while members join", **right)
    answer = group.join(one, link="one")
    commit("before the assignment", member_id=one,
           generation_id_or_member_epoch=answer.generation_id)  # fmt: skip


@case(API, (3, 6), topics=TOPICS)
def from_static_members(run: Run) -> None:
    group = Group(run)
    producer = _begun(run, group)
    one = group.alone(instance="i1")
    for step, member, instance, generation in (
        ("right", one, "i1", 1),
        ("without instance id", one, None, 1),
        ("another id", "nobody", "i1", 1),
        ("another instance id", one, "i2", 1),
        ("old generation", one, "i1", 0),
    ):
        producer.commit_offsets(group.id, "t", 1, step=step, member_id=member,
                                group_instance_id=instance,
                                generation_id_or_member_epoch=generation)  # fmt: skip


@case(API, topics=TOPICS)
def during_a_rebalance(run: Run) -> None:
    group = Group(run)
    producer = _begun(run, group)
    one = group.alone("one")
    _, joining = group.begin_enter("two", protocols=own_range("t", data=b"2"))
    group.beat_until(REBALANCING, one, 1)
    producer.commit_offsets(group.id, "t", 1)
    again = group.begin_join(one, link="one")
    run.finish(again)
    run.finish(joining)
    producer.commit_offsets(group.id, "t", 2)


@case(API, (5, 6), topics=TOPICS)
def in_transactions_2(run: Run) -> None:
    "Without AddOffsetsToTxn: the group's partition becomes part of the transaction."
    watch(run, OFFSETS)
    group = Group(run)
    producer = Producer(run)
    producer.init()
    producer.commit_offsets(group.id, "t", 1)
    producer.describe()
    producer.commit_offsets(group.id, "t", 2, step="with the epoch before",
                            producer_epoch=producer.epoch - 1)  # fmt: skip
    before = producer.epoch
    producer.end(committed=True)
    producer.describe_until("CompleteCommit")
    producer.commit_offsets(group.id, "t", 3, producer_epoch=before, step="old epoch")
    producer.commit_offsets(group.id, "t", 4, step="next transaction")
    producer.describe()
    producer.end(committed=False)
    producer.describe_until("CompleteAbort")
    group.offsets("t", 1)
    left_behind(run, group.id, ready=lambda records: "marker" in records[-1])


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.coordinator(0)
    run.extra(b"x", transactional_id=run.transactional_id(), group_id=run.group(), topics=[])


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(API, run.version, b"\xff" * 20, step="twenty bytes", link="3")
