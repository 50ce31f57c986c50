"""OffsetFetch: of one group, since version 8 of several (KIP-709)."""

from typing import Any

from compat.corpus.classic import Group
from compat.corpus.transacting import Producer
from compat.script import Run, Topic, case, fitted

API = "OffsetFetch"
TOPICS = {"t": Topic(partitions=3), "u": Topic(partitions=2)}


def _topic(run: Run, alias: str, *partitions: int) -> dict[str, Any]:
    try:
        named = {"name": run.name(alias), "topic_id": run.topic_id(alias)}
    except KeyError:
        named = {"name": alias, "topic_id": run.other_id()}
    return {**named, "partition_indexes": list(partitions)}


def _fetch(run: Run, group: str, *topics: dict[str, Any], step: str, **more: Any) -> Any:
    """One group's offsets; no topics at all means all of them, where the version can say so."""
    wanted: Any = list(topics) or (None if run.version >= 2 else [])
    body = {"group_id": group, "topics": wanted, **more.pop("member", {})}
    fields = {**body, "groups": [body], **more}
    return run.call(step=step, **fitted(API, run.version, fields))


def _filled(run: Run) -> Group:
    group = Group(run)
    group.commit("t", 5, 6, metadata="m", version=min(run.version, 9))
    group.commit("u", 7, metadata=None, version=min(run.version, 9))
    return group


@case(API, topics=TOPICS)
def of_one_group(run: Run) -> None:
    group = _filled(run)
    _fetch(run, group.id, _topic(run, "t", 0, 1), step="both")
    _fetch(run, group.id, _topic(run, "t", 2), step="nothing committed")
    _fetch(run, group.id, _topic(run, "t", 0, 9, -1), step="partitions that are not there")
    _fetch(run, group.id, _topic(run, "no-such", 0), step="unknown topic")
    _fetch(run, group.id, _topic(run, "u", 0), _topic(run, "t", 0), step="two topics")
    _fetch(run, group.id, _topic(run, "t"), step="no partitions")
    _fetch(run, group.id, _topic(run, "t", 0, 0), step="the same twice")
    _fetch(run, group.id, _topic(run, "t", 0), _topic(run, "t", 1), step="a topic twice")
    _fetch(run, group.id, step="all")
    if run.version >= 8:
        run.call(groups=[{"group_id": group.id, "topics": []}], step="an empty list")
    else:
        run.call(group_id=group.id, topics=[], step="an empty list")


@case(API, topics=TOPICS)
def unknown_groups(run: Run) -> None:
    run.coordinator(0)
    group = run.group()
    _fetch(run, group, _topic(run, "t", 0, 1), step="partitions")
    _fetch(run, group, step="all")
    _fetch(run, "", _topic(run, "t", 0), step="empty group id")
    _fetch(run, "x" * 300, _topic(run, "t", 0), step="a long name")


@case(API, (8, 10), topics=TOPICS)
def of_several_groups(run: Run) -> None:
    group = _filled(run)
    one = {"group_id": group.id, "topics": [_topic(run, "t", 0)]}
    all_of_it = {"group_id": group.id, "topics": None}
    other = {"group_id": run.group("other"), "topics": [_topic(run, "t", 0)]}
    for step, groups in (
        ("two", [one, other]),
        ("all and some", [other, all_of_it]),
        ("the same twice", [one, one]),
        ("the same differently", [one, all_of_it]),
        ("unknown all", [{"group_id": run.group("other"), "topics": None}]),
    ):
        run.call(step=step, **fitted(API, run.version, {"groups": groups}))


@case(API, (9, 10), topics=TOPICS)
def as_a_member(run: Run) -> None:
    "Version 9 may say which member of a consumer group asks; a classic group does not care."
    group = Group(run)
    one = group.alone()
    group.commit("t", 5, member=one, generation=1, version=9)
    for member, epoch in ((one, 1), (one, 7), ("nobody", 1), ("", -1), (None, -1), (None, 3)):
        who = {"member_id": member, "member_epoch": epoch}
        _fetch(run, group.id, _topic(run, "t", 0), member=who, step=f"{member and 'm'} {epoch}")
    who = {"member_id": "nobody", "member_epoch": 1}
    _fetch(run, run.group("none"), _topic(run, "t", 0), member=who, step="no such group")


@case(API, (1, 10), topics=TOPICS, alone=True)
def after_the_topic_is_gone(run: Run) -> None:
    "Alone, because with a topic 3.9.2 takes away every group that is empty and has no offsets."
    group = _filled(run)
    run.ask("DeleteTopics", 4, topic_names=[run.name("u")], timeout_ms=10_000)
    run.gone("u")
    run.ask_until(lambda a: _gone(a, run.name("u")), API, 7, group_id=group.id, topics=None)
    _fetch(run, group.id, _topic(run, "u", 0), step="of the topic")
    _fetch(run, group.id, step="all")


def _gone(answer: Any, name: str) -> bool:
    return all(topic.name != name for topic in answer.topics)


@case(API, topics=TOPICS)
def of_an_open_transaction(run: Run) -> None:
    "Offsets of a transaction are unstable (88) for who wants stable ones (KIP-447)."
    group = Group(run)
    group.commit("t", 1, version=min(run.version, 9))
    producer = Producer(run)
    producer.init()
    producer.add_offsets(group.id)
    producer.commit_offsets(group.id, "t", 5, 6)
    stable = {"require_stable": True} if run.version >= 7 else {}
    _fetch(run, group.id, _topic(run, "t", 0, 1, 2), step="open")
    _fetch(run, group.id, _topic(run, "t", 0, 1, 2), step="open, stable", **stable)
    _fetch(run, group.id, step="open, all, stable", **stable)
    _fetch(run, group.id, step="open, all")
    producer.end(committed=True)
    group.settled("t", 6, at=1)
    _fetch(run, group.id, _topic(run, "t", 0, 1, 2), step="committed", **stable)
    producer.add_offsets(group.id)
    producer.commit_offsets(group.id, "t", 9)
    producer.end(committed=False)
    group.settled("t", 5, at=0)
    _fetch(run, group.id, _topic(run, "t", 0, 1), step="aborted", **stable)
    _fetch(run, group.id, step="all", **stable)


@case(API, (8, 10))
def no_groups(run: Run) -> None:
    run.coordinator(0)
    run.call(groups=[], patience=0.5)


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.coordinator(0)
    group = {"group_id": run.group(), "topics": []}
    run.extra(b"x", **({"groups": [group]} if run.version >= 8 else group))


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(API, run.version, b"\xff" * 20, step="twenty bytes", link="3")
