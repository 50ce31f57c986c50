"""ListOffsets: special timestamps, by time, errors."""

import struct
from typing import Any

from compat.batches import START_MS, batch
from compat.script import Run, Topic, case

API = "ListOffsets"


def _ask(run: Run, *places: tuple[str, int, int], step: str | None = None, **more: Any) -> None:
    topics: dict[str, list[dict[str, int]]] = {}
    for alias, partition, timestamp in places:
        entry = {"partition_index": partition, "timestamp": timestamp}
        topics.setdefault(alias, []).append(entry)
    _named(run, {run.name(a): ps for a, ps in topics.items()}, step=step, **more)


def _named(run: Run, topics: dict[str, list[dict[str, int]]], **more: Any) -> None:
    many = more.pop("max_num_offsets", 1)
    asker = more.pop("replica_id", -1)
    for entries in topics.values() if run.version == 0 else ():
        for entry in entries:
            entry["max_num_offsets"] = many
    body = [{"name": name, "partitions": entries} for name, entries in topics.items()]
    run.call(replica_id=asker, topics=body, **more)


@case(API)
def special_timestamps(run: Run) -> None:
    for alias in ("filled", "empty", "unsorted", "compact", "codecs"):
        for timestamp in range(-1, -9, -1):
            _ask(run, (alias, 0, timestamp), step=f"{alias} {timestamp}")
    _ask(run, ("filled", 0, -(2**63)), step="least number")


@case(API)
def by_time(run: Run) -> None:
    "The first record at or after the time, inside of batches too."
    for delta in (-1000, -1, 0, 1, 2, 3, 999, 1000, 1001, 2001, 2002, 2003, 10**9):
        _ask(run, ("filled", 0, START_MS + delta), step=f"filled {delta}")
    for delta in (-51, -50, 0, 5, 6, 10, 11, 20, 21, 899, 900, 901):
        _ask(run, ("unsorted", 0, START_MS + delta), step=f"unsorted {delta}")
    for alias in ("filled", "empty", "codecs", "headers", "nulls"):
        for timestamp in (0, 1, START_MS, 2**63 - 1):
            _ask(run, (alias, 0, timestamp), step=f"{alias} at {timestamp}")


@case(API)
def append_times(run: Run) -> None:
    for timestamp in (0, START_MS, 2**62, -1, -2, -3):
        _ask(run, ("append-time", 0, timestamp), step=f"{timestamp}")


@case(API)
def unknown_places(run: Run) -> None:
    _ask(run, ("filled", 5, -1), step="partition")
    _ask(run, ("filled", -1, -1), step="partition -1")
    entry = {"partition_index": 0, "timestamp": -1}
    _named(run, {run.fresh("never"): [dict(entry)]}, step="topic")
    _named(
        run,
        {run.fresh("never"): [dict(entry)], run.name("filled"): [dict(entry)]},
        step="one of two",
    )
    for number, name in enumerate(("", "a b", "..", "x" * 250)):
        _named(run, {name: [dict(entry)]}, step=f"invalid name {number}")
    _named(run, {}, step="nothing")
    _named(run, {run.name("filled"): []}, step="no partitions")


@case(API)
def several(run: Run) -> None:
    _ask(run, ("filled", 0, -1), ("filled", 1, -1), ("empty", 0, -1), step="three")
    _ask(run, ("filled", 0, -1), ("filled", 0, -2), step="a partition twice")
    _ask(run, ("filled", 0, -1), ("filled", 0, -1), ("filled", 1, -1), step="twice, and another")
    _ask(run, ("filled", 0, -1), ("filled", 7, -1), ("filled", 0, -77), step="mixed")


@case(API, (2, 11))
def isolation(run: Run) -> None:
    for level in (0, 1, 2, -1):
        for timestamp in (-1, -2, -3, START_MS + 1, START_MS + 10**8):
            _ask(
                run, ("filled", 0, timestamp), isolation_level=level, step=f"{timestamp} at {level}"
            )


@case(API)
def as_replica(run: Run) -> None:
    for replica in (0, 1, 7, -2, -3):
        for timestamp in (-1, -2, START_MS):
            _ask(
                run, ("filled", 0, timestamp), replica_id=replica, step=f"{timestamp} as {replica}"
            )


@case(API, (4, 11))
def leader_epochs(run: Run) -> None:
    for epoch in (0, 1, 77, -1, -2):
        entry = {"partition_index": 0, "timestamp": -1, "current_leader_epoch": epoch}
        _named(run, {run.name("filled"): [entry]}, step=f"epoch {epoch}")
        entry = {"partition_index": 9, "timestamp": -1, "current_leader_epoch": epoch}
        _named(run, {run.name("filled"): [entry]}, step=f"epoch {epoch}, unknown partition")
        entry = {"partition_index": 0, "timestamp": -9, "current_leader_epoch": epoch}
        _named(run, {run.name("filled"): [entry]}, step=f"epoch {epoch}, unknown timestamp")


@case(API, (10, 11))
def timeouts(run: Run) -> None:
    for timeout in (0, -1, 1, 2**31 - 1):
        _ask(run, ("filled", 0, -1), timeout_ms=timeout, step=f"timeout {timeout}")


@case(API, (0, 0))
def number_of_offsets(run: Run) -> None:
    "Version 0 lists segment starts below the time."
    for many in (0, 1, 2, 5, -1):
        for timestamp in (-1, -2, 0, START_MS, 2**62):
            place = ("filled", 0, timestamp)
            _ask(run, place, max_num_offsets=many, step=f"{many} at {timestamp}")


@case(
    API,
    topics={"t": Topic(fill=[batch(b"a", b"b", b"c"), batch(b"d", base_timestamp=START_MS + 9)])},
)
def after_deletion_of_records(run: Run) -> None:
    partition = {"partition_index": 0, "offset": 2}
    topic = {"name": run.name("t"), "partitions": [partition]}
    run.ask("DeleteRecords", 1, topics=[topic], timeout_ms=5000)
    for timestamp in (-1, -2, -3, -4, 0, START_MS, START_MS + 2, START_MS + 9):
        _ask(run, ("t", 0, timestamp), step=f"{timestamp}")
    topic = {"name": run.name("t"), "partitions": [{"partition_index": 0, "offset": 4}]}
    run.ask("DeleteRecords", 1, topics=[topic], timeout_ms=5000)
    for timestamp in (-1, -2, -3, 0):
        _ask(run, ("t", 0, timestamp), step=f"{timestamp}, all deleted")


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\0\0", step="two bytes", link="2")
    head = struct.pack(">i", -1) + (b"\0" if run.version >= 2 else b"")
    none = b"\0" if run.version >= 6 else struct.pack(">i", -1)
    run.send_body(API, run.version, head + none, step="null topics", link="3")


@case(API)
def bytes_after_the_body(run: Run) -> None:
    entry = {"partition_index": 0, "timestamp": -1}
    topic = {"name": run.name("filled"), "partitions": [entry]}
    run.extra(b"x", replica_id=-1, topics=[topic])
