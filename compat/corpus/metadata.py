"""Metadata: by name, by id, all, none; creation on the way; what is asked along with it."""

import struct
from collections.abc import Mapping

from compat.script import Run, Topic, case

API = "Metadata"


def _ask(run: Run, *topics: Mapping[str, object], step: str | None = None, **more: object) -> None:
    if run.version >= 4:
        more.setdefault("allow_auto_topic_creation", False)
    run.call(topics=list(topics), step=step, **more)


@case(API, topics={"t": Topic(3), "u": Topic()})
def by_name(run: Run) -> None:
    _ask(run, {"name": run.name("t")}, step="one")
    _ask(run, {"name": run.name("u")}, {"name": run.name("t")}, step="two")
    _ask(run, {"name": run.name("t")}, {"name": run.name("t")}, step="the same twice")


@case(API, alone=True)
def all_topics(run: Run) -> None:
    "Version 0 says it with an empty list, later ones with null."
    run.call(topics=[] if run.version == 0 else None)


@case(API, (1, 13))
def no_topics(run: Run) -> None:
    _ask(run)


@case(API)
def invalid_names(run: Run) -> None:
    longest = run.fresh("n").ljust(249, "x")
    for number, name in enumerate(
        ("", ".", "..", "a b", "a/b", "\u00e4", "x" * 250, "a\0", longest)
    ):
        _ask(run, {"name": name}, step=f"name {number}")
        if run.version >= 4 and name != longest:
            run.call(topics=[{"name": name}], step=f"name {number}, creating")


@case(API, (4, 13))
def unknown_without_creation(run: Run) -> None:
    _ask(run, {"name": run.fresh("never")}, step="unknown")
    _ask(run, {"name": run.fresh("never")}, {"name": run.name("empty")}, step="one of two")


@case(API)
def created_by_the_question(run: Run) -> None:
    name = run.fresh("made")
    run.call(topics=[{"name": name}], step="first question")
    run.settle(name)
    run.call(topics=[{"name": name}], step="when it is there")


@case(API, (8, 13))
def authorized_operations(run: Run) -> None:
    topic = {"name": run.name("empty")}
    if run.version <= 10:
        _ask(run, topic, include_cluster_authorized_operations=True, step="cluster")
        _ask(run, include_cluster_authorized_operations=True, step="cluster without topics")
    _ask(run, topic, include_topic_authorized_operations=True, step="topics")
    unknown = {"name": run.fresh("never")}
    _ask(run, unknown, include_topic_authorized_operations=True, step="unknown topic")


@case(API, (10, 13), topics={"t": Topic(2), "u": Topic()})
def by_id(run: Run) -> None:
    "Versions 10 and 11 have the field but refuse every question by id."
    known = run.topic_id("t")
    name = None if run.version >= 10 else ""
    _ask(run, {"topic_id": known, "name": name}, step="known")
    _ask(run, {"topic_id": run.other_id(), "name": name}, step="unknown")
    _ask(run, {"topic_id": known, "name": run.name("u")}, step="id and another name")
    _ask(run, {"topic_id": run.other_id(), "name": run.name("u")}, step="unknown id and a name")
    _ask(run, {"name": None}, step="neither")
    _ask(run, {"name": None}, {"name": run.name("u")}, step="neither, and a name")
    _ask(run, {"topic_id": known, "name": None}, {"name": run.name("u")}, step="id, and a name")
    _ask(run, {"topic_id": known, "name": None}, {"topic_id": known, "name": None}, step="id twice")
    _ask(
        run,
        {"topic_id": known, "name": None},
        {"topic_id": run.other_id(), "name": None},
        step="known and unknown id",
    )
    run.call(topics=[{"topic_id": known, "name": None}], step="known, creation allowed")


@case(API)
def malformed(run: Run) -> None:
    flexible = run.version >= 9
    run.send_body(API, run.version, b"", step="no body", link="1")
    one = b"\x02" if flexible else struct.pack(">i", 1)
    run.send_body(API, run.version, one, step="a count and nothing", link="2")
    if 1 <= run.version < 9:
        body = struct.pack(">ih", 1, -1) + b"\0" * 3
        run.send_body(API, run.version, body, step="null name", link="3")
    if run.version == 0:
        run.send_body(API, 0, struct.pack(">i", -1), step="null list", link="4")
    if run.version == 9:
        run.send_body(API, 9, b"\x02\x00\x00\x00\x00\x00\x00", step="null name", link="5")


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.extra(b"\0\0\0", topics=[{"name": run.name("empty")}])


@case(API, (1, 13), topics={"t": Topic()})
def after_deletion(run: Run) -> None:
    "A deleted topic is unknown by name and by id."
    run.ask("DeleteTopics", 3, topic_names=[run.name("t")], timeout_ms=10_000)
    if run.version >= 4:
        run.gone("t")
        _ask(run, {"name": run.name("t")}, step="by name")
    if run.version >= 12:
        _ask(run, {"topic_id": run.topic_id("t"), "name": None}, step="by id")


@case(API, (1, 13))
def internal_topic_names(run: Run) -> None:
    "Names of internal topics that do not exist here are ordinary unknown names."
    _ask(run, {"name": "__share_group_state"}) if run.version >= 4 else None
    _ask(run, {"name": "__cluster_metadata"}) if run.version >= 4 else None
