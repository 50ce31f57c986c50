"""DeleteRecords."""

import struct
from typing import Any

from compat.batches import batch
from compat.script import Run, Topic, case

API = "DeleteRecords"
FIVE = [batch(b"a", b"b", b"c"), batch(b"d", b"e")]


def _delete(run: Run, name: str, *places: tuple[int, int], **more: Any) -> Any:
    entries = [{"partition_index": p, "offset": o} for p, o in places]
    topic = {"name": name, "partitions": entries}
    return run.call(**{"topics": [topic], "timeout_ms": 10_000, **more})


@case(API, topics={"t": Topic(fill=FIVE)})
def offsets(run: Run) -> None:
    "Inside a batch, below the start, at the end, past it."
    for offset in (0, 2, 1, 0, 3, 6, 100, -2, -5, 2**62, 5, 5, -1, 4):
        _delete(run, run.name("t"), (0, offset), step=f"offset {offset}")
    run.everything("t")
    for timestamp in (-1, -2):
        entry = {"partition_index": 0, "timestamp": timestamp}
        topic = {"name": run.name("t"), "partitions": [entry]}
        run.ask("ListOffsets", 7, replica_id=-1, topics=[topic], step=f"offset {timestamp}")


@case(API, topics={"t": Topic(2, fill=FIVE)})
def high_watermark(run: Run) -> None:
    _delete(run, run.name("t"), (0, -1), step="all")
    _delete(run, run.name("t"), (1, -1), step="all of an empty partition")
    _delete(run, run.name("t"), (1, 0), step="nothing of an empty partition")
    _delete(run, run.name("t"), (1, 1), step="too much of an empty partition")
    run.ask_produce("t", batch(b"f"))
    run.ask_until(lambda a: True, "Metadata", 4, topics=[], allow_auto_topic_creation=False)
    at = {"partition": 0, "fetch_offset": 5, "partition_max_bytes": 1 << 20}
    topic = {"topic": run.name("t"), "partitions": [at]}
    run.ask("Fetch", 11, max_wait_ms=0, min_bytes=0, topics=[topic], step="what came later")


POLICIES = {"compact": "compact", "both": "compact,delete", "delete": "delete"}


@case(API, topics={a: Topic(configs={"cleanup.policy": p}, fill=FIVE) for a, p in POLICIES.items()})
def policies(run: Run) -> None:
    for alias in POLICIES:
        _delete(run, run.name(alias), (0, 2), step=alias)
        _delete(run, run.name(alias), (0, 200), step=f"{alias}, out of range")


@case(API)
def unknown_places(run: Run) -> None:
    for partition in (7, -1):
        _delete(run, run.name("filled"), (partition, 0), step=f"partition {partition}")
    for number, name in enumerate((run.fresh("never"), "", "a b", "x" * 250)):
        _delete(run, name, (0, 0), step=f"name {number}")
    run.call(topics=[], timeout_ms=1000, step="nothing")
    _delete(run, run.name("filled"), step="no partitions")


@case(API, topics={"t": Topic(3, fill=FIVE)})
def several(run: Run) -> None:
    _delete(run, run.name("t"), (0, 2), (1, 0), (2, 4), (9, 0), step="mixed")
    _delete(run, run.name("t"), (0, 3), (0, 4), step="partition twice")
    topics = [
        {"name": run.name("t"), "partitions": [{"partition_index": 0, "offset": o}]} for o in (4, 5)
    ]
    run.call(topics=topics, timeout_ms=10_000, step="topic twice")
    unknown = {"name": run.fresh("never"), "partitions": [{"partition_index": 0, "offset": 0}]}
    run.call(topics=[unknown, topics[0]], timeout_ms=10_000, step="unknown and known")


@case(API, topics={"t": Topic(fill=FIVE)})
def timeouts(run: Run) -> None:
    for timeout in (0, -1):
        _delete(run, run.name("t"), (0, 2), timeout_ms=timeout, step=f"timeout {timeout}")


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    none = b"\0" if run.version >= 2 else struct.pack(">i", -1)
    run.send_body(API, run.version, none + struct.pack(">ib", 1000, 0), step="null list", link="3")


@case(API, topics={"t": Topic(fill=FIVE)})
def bytes_after_the_body(run: Run) -> None:
    topic = {"name": run.name("t"), "partitions": [{"partition_index": 0, "offset": 1}]}
    run.extra(b"x", topics=[topic], timeout_ms=10_000)
