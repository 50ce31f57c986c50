"""CreatePartitions."""

import struct
from typing import Any

from compat.script import Run, Topic, case

API = "CreatePartitions"


def _grow(run: Run, *topics: tuple[str, int, list[list[int]] | None], **more: Any) -> Any:
    body = [
        {
            "name": name,
            "count": count,
            "assignments": None if ids is None else [{"broker_ids": i} for i in ids],
        }
        for name, count, ids in topics
    ]
    return run.call(**{"topics": body, "timeout_ms": 15_000, "validate_only": False, **more})


def _partitions(run: Run, alias: str, count: int) -> None:
    run.ask_until(
        lambda a: len(a.topics[0].partitions) >= count,
        "Metadata",
        8,
        topics=[{"name": run.name(alias)}],
        allow_auto_topic_creation=False,
    )


@case(API, topics={"t": Topic()})
def accepted(run: Run) -> None:
    name = run.name("t")
    _grow(run, (name, 3, None), step="3")
    _partitions(run, "t", 3)
    _grow(run, (name, 5, [[1], [1]]), step="5, assigned")
    _partitions(run, "t", 5)


@case(API, topics={"t": Topic(3)})
def counts(run: Run) -> None:
    for count in (3, 2, 1, 0, -1, -100):
        _grow(run, (run.name("t"), count, None), step=f"{count} of 3")
    _grow(run, (run.name("t"), 2, [[1]]), step="fewer, assigned")


@case(API, topics={"t": Topic()})
def assignments(run: Run) -> None:
    name = run.name("t")
    wrong: dict[str, list[list[int]]] = {
        "too few": [[1]],
        "too many": [[1], [1], [1]],
        "none": [],
        "empty": [[], []],
        "unknown broker": [[1], [9]],
        "broker -1": [[-1], [1]],
        "broker twice": [[1, 1], [1, 1]],
        "more replicas than the topic has": [[1, 2], [1, 2]],
        "unequal": [[1], []],
    }
    for step, ids in wrong.items():
        _grow(run, (name, 3, ids), step=step)
    run.ask("Metadata", 8, topics=[{"name": name}], allow_auto_topic_creation=False)


@case(API)
def unknown(run: Run) -> None:
    for number, name in enumerate((run.fresh("never"), "", "a b", "x" * 250, ".", "..")):
        _grow(run, (name, 3, None), step=f"name {number}")
    _grow(run, step="nothing")


@case(API, topics={"t": Topic(), "u": Topic()})
def several(run: Run) -> None:
    both = ((run.name("t"), 2, None), (run.fresh("never"), 2, None), (run.name("u"), 1, None))
    _grow(run, *both, step="one of three")
    _partitions(run, "t", 2)
    _grow(run, (run.name("u"), 2, None), (run.name("u"), 3, None), step="topic twice")
    _grow(run, (run.name("u"), 0, None), (run.name("u"), 3, None), step="topic twice, one wrong")


@case(API, topics={"t": Topic()})
def half_done(run: Run) -> None:
    "A name that cannot be part of a path, after one that can."
    _grow(run, (run.name("t"), 2, None), (".", 2, None), step="both")
    _grow(run, (run.name("t"), 2, None), step="the right one")


@case(API, topics={"t": Topic()})
def validation_only(run: Run) -> None:
    name = run.name("t")
    _grow(run, (name, 4, None), validate_only=True, step="right")
    _grow(run, (name, 1, None), validate_only=True, step="wrong")
    _grow(run, (name, 3, [[7], [7]]), validate_only=True, step="unknown broker")
    run.ask("Metadata", 8, topics=[{"name": name}], allow_auto_topic_creation=False)


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    none = b"\0" if run.version >= 2 else struct.pack(">i", -1)
    body = none + struct.pack(">ibb", 1000, 0, 0)
    run.send_body(API, run.version, body, step="null list", link="3")


@case(API, topics={"t": Topic()})
def bytes_after_the_body(run: Run) -> None:
    topic = {"name": run.name("t"), "count": 2, "assignments": None}
    run.extra(b"x", topics=[topic], timeout_ms=15_000, validate_only=False)
