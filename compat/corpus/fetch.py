"""Fetch: offsets, errors, waiting, isolation, followers, old formats."""

import struct
from typing import Any

from compat.batches import GZIP, LZ4, SNAPPY, START_MS, ZSTD, batch
from compat.corpus.fetching import API, fetch, wanted
from compat.script import Run, Topic, case

ALL = (0, 18)


@case(API)
def offsets(run: Run) -> None:
    "Nine records in three batches: a fetch begins with the batch that holds the offset."
    for offset in (0, 1, 2, 3, 5, 8, 9):
        fetch(run, wanted(run, "filled", offset=offset), step=f"offset {offset}")
    fetch(run, wanted(run, "filled", 1), step="empty partition")


@case(API)
def out_of_range(run: Run) -> None:
    for offset in (10, 100, -1, -2, 2**62, 2**63 - 1, -(2**63)):
        fetch(run, wanted(run, "filled", offset=offset), step=f"offset {offset}")
    fetch(run, wanted(run, "empty", offset=1), step="past an empty log")
    both = (wanted(run, "filled", offset=100), wanted(run, "codecs"))
    fetch(run, *both, max_wait_ms=5000, min_bytes=1 << 20, step="an error ends the wait")


@case(API, topics={"t": Topic(fill=[batch(b"a", b"b", b"c"), batch(b"d")])})
def below_the_start(run: Run) -> None:
    partition = {"partition_index": 0, "offset": 2}
    topic = {"name": run.name("t"), "partitions": [partition]}
    run.ask("DeleteRecords", 1, topics=[topic], timeout_ms=5000)
    for offset in (0, 1, 2, 3, 4):
        fetch(run, wanted(run, "t", offset=offset), step=f"offset {offset}")


@case(API)
def unknown_places(run: Run) -> None:
    fetch(run, wanted(run, "filled", 2), step="partition")
    fetch(run, wanted(run, "filled", -1), step="partition -1")
    entry = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}
    unknown = {"topic": run.fresh("never"), "topic_id": run.other_id(), "partitions": [entry]}
    fetch(run, unknown, step="topic")
    fetch(run, unknown, wanted(run, "filled"), step="unknown topic first")
    fetch(run, wanted(run, "filled"), unknown, step="unknown topic last")
    fetch(run, unknown, max_wait_ms=5000, min_bytes=1, step="an error ends the wait")
    zero = {"topic": "", "topic_id": bytes(16), "partitions": [entry]}
    fetch(run, zero, step="no name, zero id")
    if run.version <= 12:
        for number, name in enumerate(("a b", "..", "x" * 250)):
            fetch(run, {"topic": name, "partitions": [entry]}, step=f"invalid name {number}")


@case(API, (13, 18))
def zero_ids(run: Run) -> None:
    entries = [{"partition": p, "fetch_offset": 0, "partition_max_bytes": 1000} for p in (0, 1)]
    fetch(run, {"topic_id": bytes(16), "partitions": entries[:1]}, step="one")
    fetch(run, {"topic_id": bytes(16), "partitions": entries}, step="two")


@case(API)
def several(run: Run) -> None:
    topics = [wanted(run, a) for a in ("codecs", "filled", "empty", "headers", "nulls", "compact")]
    fetch(run, *topics, step="topics")
    fetch(run, wanted(run, "filled"), wanted(run, "filled", 1), step="topic twice")
    fetch(run, wanted(run, "filled"), wanted(run, "filled", offset=3), step="partition twice")
    fetch(run, step="nothing")
    fetch(run, max_wait_ms=300, min_bytes=1, step="nothing, with a wait")
    none = {"topic": run.name("filled"), "topic_id": run.topic_id("filled"), "partitions": []}
    fetch(run, none, step="no partitions")


@case(API)
def waiting(run: Run) -> None:
    "An empty answer after the wait; at once where there is enough."
    fetch(run, wanted(run, "empty"), max_wait_ms=60, min_bytes=1, step="nothing there")
    fetch(run, wanted(run, "filled", offset=9), max_wait_ms=60, min_bytes=1, step="at the end")
    fetch(run, wanted(run, "filled"), max_wait_ms=10_000, min_bytes=1, step="enough")
    fetch(run, wanted(run, "filled"), max_wait_ms=60, min_bytes=1 << 20, step="too little")
    fetch(run, wanted(run, "empty"), max_wait_ms=-1, min_bytes=1, step="negative wait")
    fetch(run, wanted(run, "empty"), max_wait_ms=0, min_bytes=-1, step="negative minimum")
    fetch(run, wanted(run, "empty"), max_wait_ms=60, min_bytes=0, step="minimum 0")


@case(API, (4, 18))
def isolation(run: Run) -> None:
    for level in (0, 1):
        for alias in ("filled", "empty", "compact"):
            fetch(run, wanted(run, alias), isolation_level=level, step=f"{alias} at {level}")
        fetch(run, wanted(run, "filled", offset=99), isolation_level=level, step=f"99 at {level}")
        fetch(run, wanted(run, "filled", 9), isolation_level=level, step=f"unknown at {level}")
    for level in (2, -1, 127):
        fetch(run, wanted(run, "filled"), isolation_level=level, step=f"level {level}")


@case(API)
def followers(run: Run) -> None:
    "Asked as a replica that is none of this partition."
    for replica in (7, 0, 1, -2, -3):
        who: dict[str, Any] = {"replica_state": {"replica_id": replica, "replica_epoch": -1}}
        if run.version <= 14:
            who = {"replica_id": replica}
        fetch(run, wanted(run, "filled"), **who, step=f"replica {replica}")
        fetch(run, wanted(run, "filled", 9), **who, step=f"replica {replica}, unknown partition")


@case(API, (9, 18))
def leader_epochs(run: Run) -> None:
    for epoch in (0, 1, 77, -1, -2, 2**31 - 1):
        fetch(run, wanted(run, "filled", current_leader_epoch=epoch), step=f"epoch {epoch}")
    both = wanted(run, "filled", offset=99, current_leader_epoch=5)
    fetch(run, both, step="epoch and offset wrong")
    fetch(run, wanted(run, "filled", 9, current_leader_epoch=5), step="partition unknown")


@case(API, (12, 18))
def diverging(run: Run) -> None:
    "The epoch of the last record that the asker has (KIP-595)."
    for epoch, offset in ((0, 9), (0, 0), (0, 10), (0, 500), (1, 9), (5, 3), (-1, 500), (-2, 3)):
        place = wanted(run, "filled", offset=offset, last_fetched_epoch=epoch)
        fetch(run, place, step=f"epoch {epoch} at {offset}")
    fetch(run, wanted(run, "empty", last_fetched_epoch=0), step="empty log")
    place = wanted(run, "filled", offset=500, last_fetched_epoch=0)
    fetch(run, place, max_wait_ms=5000, min_bytes=1, step="divergence ends the wait")


@case(API, (5, 18))
def log_start_told(run: Run) -> None:
    "A consumer's log start offset is of no interest."
    for start in (-1, 0, 5, 100):
        fetch(run, wanted(run, "filled", log_start_offset=start), step=f"start {start}")


@case(API, (11, 18))
def racks(run: Run) -> None:
    for rack in ("", "r1", "x" * 300):
        fetch(run, wanted(run, "filled"), rack_id=rack, step=f"rack of {len(rack)}")


@case(API, (12, 18))
def clusters(run: Run) -> None:
    for cluster in ("another", ""):
        fetch(run, wanted(run, "filled"), cluster_id=cluster, step=f"cluster {cluster!r}")


@case(API, (17, 18))
def later_tags(run: Run) -> None:
    fetch(run, wanted(run, "filled", replica_directory_id=run.other_id()), step="directory")
    if run.version >= 18:
        fetch(run, wanted(run, "filled", high_watermark=3), step="high watermark")


@case(API)
def contents(run: Run) -> None:
    for alias in ("codecs", "headers", "nulls", "unsorted", "append-time", "compact"):
        fetch(run, wanted(run, alias), step=alias)


@case(API)
def zstd(run: Run) -> None:
    "Not for versions before 10, unless it can be passed on as it is."
    fetch(run, wanted(run, "zstd"), step="zstd alone")
    fetch(run, wanted(run, "filled"), wanted(run, "zstd"), step="zstd second")


@case(
    API,
    (0, 3),
    topics={"t": Topic(fill=[*(batch(v) for v in (b"a", b"b", b"c")), batch(b"d", codec=ZSTD)])},
)
def zstd_behind_others(run: Run) -> None:
    for offset in range(4):
        fetch(run, wanted(run, "t", offset=offset), step=f"offset {offset}")


@case(API, topics={"t": Topic(configs={"compression.type": "zstd"})})
def zstd_topic(run: Run) -> None:
    "A topic that compresses with zstd itself refuses versions that cannot know it."
    data = {"index": 0, "records": batch(b"a" * 50)}
    topic = {"name": run.name("t"), "partition_data": [data]}
    run.ask("Produce", 9, acks=1, timeout_ms=5000, topic_data=[topic])
    fetch(run, wanted(run, "t"), step="from the start")
    fetch(run, wanted(run, "t", offset=1), step="at the end")
    fetch(run, wanted(run, "t", offset=7), step="out of range")
    fetch(run, wanted(run, "t"), wanted(run, "filled"), step="with another")


@case(
    API,
    (0, 3),
    topics={
        "t": Topic(
            fill=[
                batch(*[b"%d" % i for i in range(20)]),
                batch(b"a" * 100, b"b", codec=GZIP),
                batch(b"a" * 100, b"b", codec=SNAPPY),
                batch(b"a" * 100, b"b", codec=LZ4),
                batch(b"later", base_timestamp=START_MS + 5),
            ]
        )
    },
)
def down_conversion(run: Run) -> None:
    "Versions 0 and 1 get format 0, 2 and 3 format 1."
    for offset in (0, 1, 19, 20, 21, 22, 26, 27):
        fetch(run, wanted(run, "t", offset=offset), step=f"offset {offset}")
    for limit in (10, 100, 300, 1000):
        fetch(run, wanted(run, "t", limit=limit), step=f"limit {limit}")


@case(API, (0, 17), topics={"t": Topic(configs={"message.downconversion.enable": "false"})})
def no_down_conversion(run: Run) -> None:
    data = {"index": 0, "records": batch(b"a")}
    topic = {"name": run.name("t"), "partition_data": [data]}
    run.ask("Produce", 9, acks=1, timeout_ms=5000, topic_data=[topic])
    fetch(run, wanted(run, "t"), step="data")
    fetch(run, wanted(run, "t", offset=1), step="at the end")
    fetch(run, wanted(run, "t"), wanted(run, "filled"), step="with another")


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\0" * 5, step="five bytes", link="2")
    head = struct.pack(">iii", -1, 0, 0) if run.version < 15 else struct.pack(">ii", 0, 0)
    if run.version >= 3:
        head += struct.pack(">i", 1000)
    if run.version >= 4:
        head += b"\0"
    if run.version >= 7:
        head += struct.pack(">ii", 0, -1)
    one = b"\x02" if run.version >= 12 else struct.pack(">i", 1)
    run.send_body(API, run.version, head + one, step="one topic and nothing", link="3")
    none = b"\x00" if run.version >= 12 else struct.pack(">i", -1)
    run.send_body(API, run.version, head + none + none + b"\0\0", step="null topics", link="4")


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.extra(b"12345", max_wait_ms=0, min_bytes=0, topics=[wanted(run, "filled")])


@case(API, topics={"t": Topic(fill=[batch(b"a")])})
def after_deletion(run: Run) -> None:
    run.ask("DeleteTopics", 3, topic_names=[run.name("t")], timeout_ms=10_000)
    run.gone("t")
    fetch(run, wanted(run, "t"))
