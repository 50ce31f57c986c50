"""OffsetForLeaderEpoch: where an epoch ends."""

from typing import Any

from compat.batches import batch
from compat.script import Run, Topic, case

API = "OffsetForLeaderEpoch"


def _ask(run: Run, name: str, *entries: dict[str, int], **more: Any) -> None:
    if run.version >= 3:
        more.setdefault("replica_id", -1)
    run.call(topics=[{"topic": name, "partitions": list(entries)}], **more)


@case(API)
def epochs(run: Run) -> None:
    for alias in ("filled", "empty", "compact"):
        for epoch in (0, 1, 5, -1, -2, 2**31 - 1, -(2**31)):
            entry = {"partition": 0, "leader_epoch": epoch}
            _ask(run, run.name(alias), entry, step=f"{alias} {epoch}")


@case(API, (2, 4))
def current_epochs(run: Run) -> None:
    for current in (0, 1, 99, -1, -2):
        for epoch in (0, 3):
            entry = {"partition": 0, "leader_epoch": epoch, "current_leader_epoch": current}
            _ask(run, run.name("filled"), entry, step=f"epoch {epoch}, current {current}")
        entry = {"partition": 9, "leader_epoch": 0, "current_leader_epoch": current}
        _ask(run, run.name("filled"), entry, step=f"unknown partition, current {current}")


@case(API)
def unknown_places(run: Run) -> None:
    for partition in (2, -1, 2**31 - 1):
        entry = {"partition": partition, "leader_epoch": 0}
        _ask(run, run.name("filled"), entry, step=f"partition {partition}")
    zero = {"partition": 0, "leader_epoch": 0}
    for number, name in enumerate((run.fresh("never"), "", "a b", "x" * 250)):
        _ask(run, name, zero, step=f"name {number}")


@case(API)
def several(run: Run) -> None:
    entries = [{"partition": p, "leader_epoch": 0} for p in (0, 1, 7)]
    _ask(run, run.name("filled"), *entries, step="partitions")
    _ask(run, run.name("filled"), entries[0], entries[0], step="the same twice")
    who = {"replica_id": -1} if run.version >= 3 else {}
    topics = [{"topic": run.name(a), "partitions": [entries[0]]} for a in ("filled", "empty")]
    run.call(topics=topics, **who, step="topics")
    run.call(topics=[topics[0], topics[0]], **who, step="topic twice")
    run.call(topics=[], **who, step="nothing")
    _ask(run, run.name("filled"), step="no partitions")


@case(API, (3, 4))
def as_replica(run: Run) -> None:
    for replica in (0, 1, 7, -2, -3):
        entry = {"partition": 0, "leader_epoch": 0}
        _ask(run, run.name("filled"), entry, replica_id=replica, step=f"replica {replica}")


@case(API, topics={"t": Topic(fill=[batch(b"a", b"b"), batch(b"c")])})
def after_deletion_of_records(run: Run) -> None:
    partition = {"partition_index": 0, "offset": 3}
    topic = {"name": run.name("t"), "partitions": [partition]}
    run.ask("DeleteRecords", 1, topics=[topic], timeout_ms=5000)
    for epoch in (0, 1, -1):
        _ask(run, run.name("t"), {"partition": 0, "leader_epoch": epoch}, step=f"epoch {epoch}")


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\0\0\0\0\0\0", step="six bytes", link="2")
    run.send_body(API, run.version, b"\xff" * 12, step="twelve bytes", link="3")
