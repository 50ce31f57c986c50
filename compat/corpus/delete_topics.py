"""DeleteTopics: by name, by id, refusals."""

import struct
from typing import Any

from compat.batches import batch
from compat.script import Run, Topic, case

API = "DeleteTopics"


def _delete(run: Run, *names: str, **more: Any) -> Any:
    fields: dict[str, Any] = {"timeout_ms": 15_000, **more}
    if run.version >= 6:
        return run.call(topics=[{"name": n} for n in names], **fields)
    return run.call(topic_names=list(names), **fields)


@case(API, topics={"t": Topic(2, fill=[batch(b"a")]), "u": Topic(), "v": Topic()})
def accepted(run: Run) -> None:
    _delete(run, run.name("t"), step="one")
    run.gone("t")
    _delete(run, run.name("t"), step="again")
    _delete(run, run.name("u"), run.fresh("never"), run.name("v"), step="two and an unknown one")
    run.gone("u")
    run.gone("v")
    topics = [{"name": run.name(a)} for a in ("t", "u", "v")]
    run.ask("Metadata", 8, topics=topics, allow_auto_topic_creation=False)


@case(API)
def unknown(run: Run) -> None:
    for number, name in enumerate((run.fresh("never"), "", "a b", "..", "x" * 250)):
        _delete(run, name, step=f"name {number}")
    _delete(run, step="nothing")


@case(API, topics={"t": Topic()})
def the_same_twice(run: Run) -> None:
    _delete(run, run.name("t"), run.name("t"), step="known")
    _delete(run, run.fresh("never"), run.fresh("never"), step="unknown")


@case(API, (6, 6), topics={n: Topic() for n in "tuvw"})
def by_id(run: Run) -> None:
    def go(step: str, *topics: dict[str, Any]) -> None:
        run.call(topics=list(topics), timeout_ms=15_000, step=step)

    known = {"topic_id": run.topic_id("t")}
    go("known", known)
    run.gone("t")
    go("again", known)
    go("unknown", {"topic_id": run.other_id()})
    go("name and id", {"topic_id": run.topic_id("u"), "name": run.name("u")})
    go("neither", {})
    go("neither, and one that is there", {}, {"name": run.name("v")})
    go("id twice", {"topic_id": run.topic_id("u")}, {"topic_id": run.topic_id("u")})
    go("unknown id twice", {"topic_id": run.other_id()}, {"topic_id": run.other_id()})
    go("once by name, once by id", {"name": run.name("w")}, {"topic_id": run.topic_id("w")})


@case(API, topics={"t": Topic()})
def timeouts(run: Run) -> None:
    for timeout in (0, -1):
        _delete(run, run.fresh("never"), timeout_ms=timeout, step=f"unknown, timeout {timeout}")


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff\xff\xff", step="four bytes", link="2")
    none = b"\0" if run.version >= 4 else struct.pack(">i", -1)
    run.send_body(API, run.version, none + struct.pack(">ib", 1000, 0), step="null list", link="3")
    if run.version < 6:
        null = b"\x02\0" if run.version >= 4 else struct.pack(">ih", 1, -1)
        body = null + struct.pack(">ib", 1000, 0)
        run.send_body(API, run.version, body, step="null name", link="4")


@case(API, topics={"t": Topic()})
def bytes_after_the_body(run: Run) -> None:
    which = (
        {"topics": [{"name": run.name("t")}]}
        if run.version >= 6
        else {"topic_names": [run.name("t")]}
    )
    run.extra(b"tail", timeout_ms=15_000, **which)
