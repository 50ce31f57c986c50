"""DescribeShareGroupOffsets, AlterShareGroupOffsets, DeleteShareGroupOffsets (KIP-932)."""

from typing import Any

from compat.batches import batch
from compat.corpus.classic import Group
from compat.corpus.sharing import ACCEPT, RELEASE, Sharer, from_the_start
from compat.script import Run, Topic, case
from compat.stored import OFFSETS, SHARE_STATE, watch, written

DESCRIBE, ALTER = "DescribeShareGroupOffsets", "AlterShareGroupOffsets"
DELETE = "DeleteShareGroupOffsets"
T = ("t", 0)
TOPICS = {"t": Topic(partitions=2, fill=[batch(b"a", b"b", b"c")]), "u": Topic(fill=[batch(b"u")])}


def _named(run: Run, alias: str) -> str:
    try:
        return run.name(alias)
    except KeyError:
        return alias


def _describe(run: Run, group: str, *topics: tuple[str, list[int]], step: str) -> Any:
    """No topics at all means all of them."""
    wanted = [{"topic_name": _named(run, a), "partitions": p} for a, p in topics] or None
    version = run.version if run.case.api == DESCRIBE else 1
    return run.ask(DESCRIBE, version, groups=[{"group_id": group, "topics": wanted}], step=step)


def _alter(run: Run, group: str, *topics: tuple[str, list[tuple[int, int]]], step: str) -> Any:
    body = [
        {
            "topic_name": _named(run, alias),
            "partitions": [{"partition_index": p, "start_offset": o} for p, o in partitions],
        }
        for alias, partitions in topics
    ]
    return run.ask(ALTER, 0, group_id=group, topics=body, step=step)


def _delete(run: Run, group: str, *aliases: str, step: str) -> Any:
    body = [{"topic_name": _named(run, alias)} for alias in aliases]
    return run.ask(DELETE, 0, group_id=group, topics=body, step=step)


def _used(run: Run, *, leaves: bool = True) -> Sharer:
    """A group that has accepted two records of three."""
    run.coordinator(0)
    run.coordinator(2)
    from_the_start(run)
    one = Sharer(run, "one")
    one.ready("t", "u")
    one.fetch(T)
    one.fetch(("u", 0))
    one.acknowledge({T: [(0, 1, [ACCEPT]), (2, 2, [RELEASE])], ("u", 0): [(0, 0, [ACCEPT])]})
    one.settled("t", 1)
    one.settled("u", 0)
    if leaves:
        one.fetch(share_session_epoch=-1, max_wait_ms=0, step="closes its session")
        one.leave()
    return one


@case(DESCRIBE, topics=TOPICS)
def described(run: Run) -> None:
    one = _used(run, leaves=False)
    _describe(run, one.group, ("t", [0, 1]), ("u", [0]), step="by partition")
    _describe(run, one.group, step="all")
    _describe(run, one.group, ("t", []), step="no partitions")
    _describe(run, one.group, ("no-such", [0]), step="unknown topic")
    _describe(run, one.group, ("t", [0, 0]), step="the same twice")
    _describe(run, run.group("nobody"), ("t", [0]), step="unknown group")
    _describe(run, run.group("nobody"), step="all of an unknown group")
    _describe(run, "", ("t", [0]), step="empty group id")
    group = {"group_id": one.group, "topics": None}
    run.call(groups=[group, {"group_id": "nobody", "topics": None}], step="two")


@case(DESCRIBE, topics=TOPICS)
def described_oddly(run: Run) -> None:
    classic = Group(run, "classic")
    classic.alone()
    classic.commit("t", 1)
    _describe(run, classic.id, ("t", [0]), step="a classic group")
    _describe(run, classic.id, step="all of a classic group")
    one = _used(run, leaves=False)
    topics = [{"topic_name": run.name("t"), "partitions": [9]}]
    groups = [{"group_id": one.group, "topics": topics}]
    run.call(groups=groups, step="a partition that is not there", patience=1.0)
    run.call(groups=[], step="none", patience=1.0)


@case(ALTER, topics=TOPICS)
def altered(run: Run) -> None:
    watch(run, SHARE_STATE)
    one = _used(run)
    _alter(run, one.group, ("t", [(0, 1)]), step="back")
    _describe(run, one.group, step="all")
    _alter(run, one.group, ("t", [(0, 3), (1, 0)]), ("u", [(0, 0)]), step="three")
    _describe(run, one.group, step="all again")
    _alter(run, one.group, ("t", [(0, 99)]), step="beyond the end")
    _describe(run, one.group, ("t", [0]), step="beyond the end")
    two = Sharer(run, "two")
    two.ready("t", "u")
    two.fetch(T, step="reads from there")
    two.fetch(("u", 0), step="and from there")
    written(run, SHARE_STATE, one.group)


@case(ALTER, topics=TOPICS)
def not_altered(run: Run) -> None:
    _alter(run, run.group("nobody"), ("t", [(0, 1)]), step="unknown group")
    _alter(run, "", ("t", [(0, 1)]), step="empty group id")
    one = _used(run, leaves=False)
    _alter(run, one.group, ("t", [(0, 1)]), step="with a member")
    one.fetch(share_session_epoch=-1, max_wait_ms=0, step="closes its session")
    one.leave()
    _alter(run, one.group, ("no-such", [(0, 1)]), step="unknown topic")
    _alter(run, one.group, ("no-such", [(0, 1)]), ("t", [(0, 1)]), step="one of two unknown")
    _alter(run, one.group, ("t", [(9, 1), (0, 0)]), step="a partition that is not there")
    _alter(run, one.group, ("t", [(0, -1)]), step="a negative offset")
    _alter(run, one.group, ("t", []), step="no partitions")
    _alter(run, one.group, step="nothing")
    _alter(run, one.group, ("t", [(0, 1), (0, 2)]), step="the same twice")
    _describe(run, one.group, step="all")
    classic = Group(run, "classic")
    classic.commit("t", 1)
    _alter(run, classic.id, ("t", [(0, 1)]), step="a classic group")


@case(DELETE, topics=TOPICS)
def deleted(run: Run) -> None:
    watch(run, SHARE_STATE)
    watch(run, OFFSETS)
    one = _used(run)
    _delete(run, one.group, "t", step="one topic")
    _describe(run, one.group, step="all")
    _delete(run, one.group, "t", step="once more")
    _delete(run, one.group, "u", "no-such", step="two")
    _describe(run, one.group, step="all again")
    written(run, SHARE_STATE, one.group)
    written(run, OFFSETS, one.group)


@case(DELETE, topics=TOPICS)
def not_deleted(run: Run) -> None:
    _delete(run, run.group("nobody"), "t", step="unknown group")
    _delete(run, "", "t", step="empty group id")
    one = _used(run, leaves=False)
    _delete(run, one.group, "t", step="with a member")
    one.fetch(share_session_epoch=-1, max_wait_ms=0, step="closes its session")
    one.leave()
    _delete(run, one.group, "no-such", step="unknown topic")
    _delete(run, one.group, "t", "t", step="the same twice")
    _delete(run, one.group, step="nothing")
    classic = Group(run, "classic")
    classic.commit("t", 1)
    _delete(run, classic.id, "t", step="a classic group")


@case(DELETE, topics=TOPICS, alone=True)
def with_the_whole_group(run: Run) -> None:
    "DeleteGroups on a share group that has offsets."
    watch(run, SHARE_STATE)
    watch(run, OFFSETS)
    one = _used(run)
    run.ask("DeleteGroups", 2, groups_names=[one.group])
    _describe(run, one.group, step="all")
    one.describe()
    written(run, SHARE_STATE, one.group)
    written(run, OFFSETS, one.group)


def _malformed(run: Run) -> None:
    run.send_body(run.case.api, run.version, b"", step="no body", link="1")
    run.send_body(run.case.api, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(run.case.api, run.version, b"\xff" * 20, step="twenty bytes", link="3")


@case(DESCRIBE)
def malformed(run: Run) -> None:
    _malformed(run)


@case(ALTER)
def malformed_alteration(run: Run) -> None:
    _malformed(run)


@case(DELETE)
def malformed_deletion(run: Run) -> None:
    _malformed(run)
