"""DescribeGroups, ListGroups, DeleteGroups and OffsetDelete on classic groups."""

from collections.abc import Callable
from typing import Any

from compat.corpus.classic import REBALANCING, Group, left_behind, own_range, subscription
from compat.corpus.transacting import Producer
from compat.script import Run, Topic, case, fitted
from compat.stored import OFFSETS, watch

DESCRIBE, LIST = "DescribeGroups", "ListGroups"
DELETE, OFFSETS_OUT = "DeleteGroups", "OffsetDelete"
TOPICS = {"t": Topic(partitions=2), "u": Topic()}


def _describe(run: Run, *groups: str, step: str, **more: Any) -> Any:
    fields = fitted(DESCRIBE, run.version, {"groups": list(groups), **more})
    return run.call(step=step, **fields)


@case(DESCRIBE)
def described_by_state(run: Run) -> None:
    group = Group(run)
    _describe(run, group.id, step="unknown")
    one = group.enter("one").member_id
    _describe(run, group.id, step="before the assignment")
    group.sync(one, 1, assignments=[(one, b"all")])
    _describe(run, group.id, step="stable")
    _, joining = group.begin_enter("two", protocols=own_range("t", data=b"2"))
    group.beat_until(REBALANCING, one, 1)
    _describe(run, group.id, step="while members join")
    again = group.begin_join(one, link="one")
    run.finish(again)
    two = run.finish(joining).member_id
    _describe(run, group.id, step="before the second assignment")
    group.sync(one, 2, assignments=[(one, b"x"), (two, b"y")])
    _describe(run, group.id, step="stable again")
    group.leave(one)
    group.leave(two)
    _describe(run, group.id, step="empty")


@case(DESCRIBE)
def described_oddly(run: Run) -> None:
    group = Group(run)
    group.alone()
    _describe(run, step="none")
    _describe(run, run.group("no"), group.id, run.group("other"), step="three")
    _describe(run, group.id, group.id, step="the same twice")
    _describe(run, group.id, include_authorized_operations=True, step="operations")
    _describe(run, run.group("x"), include_authorized_operations=True, step="of an unknown one")
    _describe(run, "x" * 300, step="a long name")


@case(DESCRIBE)
def described_without_members(run: Run) -> None:
    "A group that only ever had commits, and one with static members."
    group = Group(run)
    group.commit("t", 1, version=2)
    _describe(run, group.id, step="commits only")
    static = Group(run, "static")
    answer = run.ask("JoinGroup", 5, **_old(static, instance="i1"))
    run.ask("SyncGroup", 3, group_id=static.id, generation_id=1, member_id=answer.member_id,
            group_instance_id="i1", assignments=[])  # fmt: skip
    _describe(run, static.id, step="static")


def _old(group: Group, **more: Any) -> dict[str, Any]:
    fields = group.joining(**more)
    fields.pop("reason", None)
    fields["group_instance_id"] = more.get("instance")
    fields["rebalance_timeout_ms"] = 10_000
    return fields


@case(DESCRIBE, (6, 6))
def described_unknown(run: Run) -> None:
    "Version 6 says that a group is not there (KIP-1043)."
    run.coordinator(0)
    _describe(run, run.group(), run.group("b"), step="two")


@case(LIST)
def listed(run: Run) -> None:
    group, empty, other = Group(run), Group(run, "empty"), Group(run, "other", kind="connect")
    run.call(keep=_only(group), step="before")
    group.alone()
    other.enter()
    empty.commit("t", 1, version=2)
    run.call(keep=_only(group, empty, other), step="three")
    one = empty.alone()
    empty.leave(one)
    run.call(keep=_only(group, empty, other), step="one left empty")


def _only(*groups: Group) -> Callable[[Any], None]:
    names = {g.id for g in groups}

    def keep(answer: Any) -> None:
        answer.groups = [g for g in answer.groups if g.group_id in names]

    return keep


@case(LIST, (4, 5))
def listed_by_state(run: Run) -> None:
    group, empty, joining = Group(run), Group(run, "empty"), Group(run, "joining")
    group.alone()
    joining.enter()
    empty.leave(empty.alone())
    for states in (
        ["Stable"],
        ["stable"],
        ["EMPTY"],
        ["CompletingRebalance"],
        ["Stable", "Empty"],
        ["PreparingRebalance"],
        ["Dead"],
        ["Assigning", "Reconciling"],
        ["nonsense"],
        ["nonsense", "Stable"],
        [""],
    ):
        run.call(keep=_only(group, empty, joining), states_filter=states, step=str(states))


@case(LIST, (5, 5))
def listed_by_type(run: Run) -> None:
    group = Group(run)
    group.alone()
    for types in (["classic"], ["Classic"], ["consumer"], ["consumer", "classic"], ["nonsense"],
                  ["share"], ["unknown"], ["simple"], [""]):  # fmt: skip
        run.call(keep=_only(group), types_filter=types, step=str(types))
    run.call(keep=_only(group), types_filter=["classic"], states_filter=["Empty"], step="both")


@case(DELETE, topics=TOPICS)
def deleted(run: Run) -> None:
    watch(run, OFFSETS)
    group = Group(run)
    group.commit("t", 1, 2, version=2)
    group.commit("u", 3, version=2)
    run.call(groups_names=[group.id], step="commits only")
    group.offsets("t", 2, version=2)
    group.describe()
    run.call(groups_names=[group.id], step="once more")
    group.leave(group.alone())
    group.commit("t", 1, version=2)
    run.call(groups_names=[group.id], step="after its members left")
    group.describe()
    group.alone()
    left_behind(run, group.id)


@case(DELETE, alone=True)  # the group without a name is everybody's
def not_deleted(run: Run) -> None:
    group, joining = Group(run), Group(run, "joining")
    run.call(groups_names=[], step="none")
    run.call(groups_names=[""], step="empty group id")
    run.call(groups_names=[group.id], step="unknown")
    group.alone()
    joining.enter()
    run.call(groups_names=[group.id], step="with a member")
    run.call(groups_names=[joining.id], step="with a member that joins")
    run.call(groups_names=[group.id, joining.id, "", run.group("no")], step="four")
    run.call(groups_names=[group.id, group.id], step="the same twice")
    group.describe()


@case(DELETE, topics=TOPICS)
def deleted_twice_in_one_request(run: Run) -> None:
    group, other = Group(run), Group(run, "other")
    group.commit("t", 1, version=2)
    other.commit("t", 1, version=2)
    run.call(groups_names=[group.id, other.id, group.id])


@case(DELETE, topics=TOPICS)
def deleted_with_an_open_transaction(run: Run) -> None:
    watch(run, OFFSETS)
    group = Group(run)
    group.commit("t", 1, version=2)
    producer = Producer(run)
    producer.init()
    producer.add_offsets(group.id)
    producer.commit_offsets(group.id, "t", 7)
    run.call(groups_names=[group.id], step="while it is open")
    producer.end(committed=True)
    producer.describe_until("CompleteCommit")
    group.offsets("t", 1, version=2)
    left_behind(run, group.id, ready=lambda records: "marker" in records[-1])


def _delete(run: Run, group: Group, *topics: tuple[str, list[int]], step: str) -> Any:
    body = []
    for alias, partitions in topics:
        try:
            name = run.name(alias)
        except KeyError:
            name = alias
        body.append({"name": name, "partitions": [{"partition_index": p} for p in partitions]})
    return run.call(group_id=group.id, topics=body, step=step)


@case(OFFSETS_OUT, topics=TOPICS)
def offsets_deleted(run: Run) -> None:
    watch(run, OFFSETS)
    group = Group(run)
    group.commit("t", 1, 2)
    group.commit("u", 3)
    _delete(run, group, step="nothing")
    _delete(run, group, ("t", []), step="a topic without partitions")
    _delete(run, group, ("t", [0]), step="one")
    group.offsets("t", 2)
    _delete(run, group, ("t", [0]), step="once more")
    _delete(run, group, ("t", [1, 9]), ("no-such", [0]), step="partitions that are not there")
    _delete(run, group, ("u", [0, 0]), step="the same twice")
    group.describe()
    left_behind(run, group.id)


@case(OFFSETS_OUT, topics=TOPICS)
def offsets_not_deleted(run: Run) -> None:
    group = Group(run)
    _delete(run, group, ("t", [0]), step="unknown group")
    _delete(run, group, ("no-such", [0]), step="unknown group and topic")
    nameless = Group(run, "nameless")
    nameless.id = ""
    _delete(run, nameless, ("t", [0]), step="empty group id")


@case(OFFSETS_OUT, topics=TOPICS)
def offsets_deleted_while_somebody_joins(run: Run) -> None:
    "A member that has its id and has not yet come back with it."
    group = Group(run)
    group.join()
    _delete(run, group, ("t", [0]), step="before it comes back")
    group.delete()


@case(OFFSETS_OUT, topics=TOPICS)
def offsets_of_a_group_with_members(run: Run) -> None:
    "Only those of topics that nobody is subscribed to; none where that is not known."
    watch(run, OFFSETS)
    group = Group(run)
    protocols = [("range", subscription(run.name("t")))]
    one = group.enter(protocols=protocols).member_id
    group.commit("t", 1)
    _delete(run, group, ("t", [0]), ("u", [0]), step="before the assignment")
    group.sync(one, 1, assignments=[(one, b"all")])
    group.commit("t", 1, 1, member=one, generation=1)
    group.commit("u", 2, member=one, generation=1)
    _delete(run, group, ("t", [0]), step="subscribed")
    _delete(run, group, ("u", [0]), step="not subscribed")
    _delete(run, group, ("u", [0]), ("t", [0, 1]), step="both")
    group.offsets("t", 2)
    group.leave(one)
    _delete(run, group, ("t", [0, 1]), step="after the member left")
    group.offsets("t", 2)
    connect = Group(run, "connect", kind="connect")
    two = connect.alone()
    connect.commit("t", 1, member=two, generation=1)
    _delete(run, connect, ("t", [0]), ("u", [0]), step="a group of another kind")
    left_behind(run, group.id)


def _malformed(run: Run) -> None:
    run.send_body(run.case.api, run.version, b"", step="no body", link="1")
    run.send_body(run.case.api, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(run.case.api, run.version, b"\xff" * 20, step="twenty bytes", link="3")


@case(DESCRIBE)
def malformed_describe(run: Run) -> None:
    _malformed(run)


@case(LIST)
def malformed_list(run: Run) -> None:
    run.coordinator(0)
    empty = Group(run)
    if run.version >= 3:
        run.send_body(LIST, run.version, b"", step="no body", link="1")
        run.send_body(LIST, run.version, b"\x7f\xff", step="two bytes", link="2")
    else:
        run.ask(LIST, run.version, keep=_only(empty))


@case(DELETE)
def malformed_delete(run: Run) -> None:
    _malformed(run)


@case(OFFSETS_OUT)
def malformed_offset_delete(run: Run) -> None:
    _malformed(run)


@case(DESCRIBE)
def bytes_after_a_describe(run: Run) -> None:
    run.coordinator(0)
    run.extra(b"x", groups=[run.group()])


@case(DELETE)
def bytes_after_a_delete(run: Run) -> None:
    run.coordinator(0)
    run.extra(b"x", groups_names=[run.group()])


@case(OFFSETS_OUT)
def bytes_after_an_offset_delete(run: Run) -> None:
    run.coordinator(0)
    run.extra(b"x", group_id=run.group(), topics=[])
