"""Produce: what a record batch may be, and the settings that look into it."""

import time
from collections.abc import Mapping
from typing import Any

from compat.batches import (
    APPEND_TIME,
    CONTROL,
    GZIP,
    LZ4,
    NONE,
    SNAPPY,
    START_MS,
    TRANSACTIONAL,
    ZSTD,
    Batch,
    Rec,
    batch,
)
from compat.script import Run, Topic, case
from protocol.compression import compress

API = "Produce"
V2 = (3, 13)
CODECS = {"none": NONE, "gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}


@case(API, topics={"t": Topic()})
def codecs(run: Run) -> None:
    for name, codec in CODECS.items():
        run.produce("t", batch(b"a" * 200, b"b", codec=codec), step=name)
    for number in (5, 6, 7):
        run.produce("t", batch(b"a", attributes=number), step=f"codec {number}")
    run.everything("t")


@case(
    API,
    V2,
    topics={
        f"t{n}": Topic(configs={"compression.type": n})
        for n in ("uncompressed", "gzip", "snappy", "lz4", "zstd")
    },
)
def recompressed(run: Run) -> None:
    "The topic's own codec wins over the producer's."
    for alias in ("uncompressed", "gzip", "snappy", "lz4", "zstd"):
        for name, codec in CODECS.items():
            data = batch(b"a" * 200, b"b", codec=codec)
            run.produce(f"t{alias}", data, step=f"{name} to {alias}")
        run.everything(f"t{alias}")


@case(API, V2, topics={"t": Topic()})
def bad_bytes(run: Run) -> None:
    good = batch(b"a", b"b")
    flipped = bytearray(good)
    flipped[-1] ^= 0xFF
    run.produce("t", bytes(flipped), step="last byte flipped")
    run.produce("t", batch(b"a", crc=0), step="crc 0")
    run.produce("t", good[:-1], step="one byte short")
    run.produce("t", good[:61], step="header only")
    run.produce("t", good[:60], step="part of the header")
    run.produce("t", good[:17], step="17 bytes")
    run.produce("t", good[:12], step="12 bytes")
    run.produce("t", good[:5], step="5 bytes")
    run.produce("t", good + b"\0" * 5, step="5 bytes more")
    run.produce("t", good + good[:30], step="and part of another")
    run.produce("t", b"x" * 100, step="nonsense")
    run.produce("t", b"\0" * 100, step="zeros")
    run.everything("t")


@case(API, V2, topics={"t": Topic()})
def wrong_header_fields(run: Run) -> None:
    two = [Rec(b"a"), Rec(b"b")]
    for magic in (-1, 0, 1, 3, 127):
        run.produce("t", batch(b"a", magic=magic), step=f"magic {magic}")
    for length in (-1, 0, 13, 48, 49, 50, 10_000, 2**31 - 1):
        run.produce("t", batch(b"a", length=length), step=f"length {length}")
    short = batch(b"a", length=16)
    run.produce("t", short, step="what follows has no such magic")
    run.produce("t", short, acks=7, step="what follows has no such magic, acks 7")
    for base in (1, -1, 2**62):
        run.produce("t", batch(b"a", base_offset=base), step=f"base offset {base}")
    for last in (-1, 0, 2, 2**31 - 1):
        data = Batch(two, last_offset_delta=last).encode()
        run.produce("t", data, step=f"last offset delta {last} of 2")
    for count in (-1, 0, 1, 3, 2**31 - 1):
        run.produce("t", Batch(two, count=count).encode(), step=f"count {count} of 2")
    run.produce("t", batch(b"a", leader_epoch=77), step="leader epoch 77")
    run.produce("t", Batch([]).encode(), step="no records")
    run.produce("t", Batch([], last_offset_delta=0).encode(), step="no records, last delta 0")
    run.everything("t")


UNREAD = Topic(24)
"""One partition for each wrong thing: a broker that takes it goes on as one that does not."""


def _each_apart(run: Run, wrong: Mapping[str, bytes]) -> None:
    for partition, (step, data) in enumerate(wrong.items()):
        run.produce("t", data, partition=partition, step=step)
        run.everything("t", partition)


@case(API, V2, topics={"t": UNREAD})
def wrong_inside_compressed(run: Run) -> None:
    two = [Rec(b"a"), Rec(b"b")]
    wrong = {}
    for count in (0, 1, 3):
        wrong[f"count {count} of 2"] = Batch(two, GZIP, count=count).encode()
    for last in (0, 2):
        data = Batch(two, GZIP, last_offset_delta=last).encode()
        wrong[f"last offset delta {last} of 2"] = data
    data = Batch(two, GZIP, last_offset_delta=2, count=3).encode()
    wrong["3 records told, 2 inside"] = data
    for name, codec in CODECS.items():
        if codec:
            wrong[f"{name} in name only"] = batch(b"a", codec=codec, body=b"not compressed")
            wrong[f"{name}, no body"] = batch(b"a", codec=codec, body=b"")
    _each_apart(run, wrong)


WRONG_RECORDS: dict[str, tuple[list[Rec], dict[str, Any]]] = {
    "deltas from 1": ([Rec(b"a", offset_delta=1), Rec(b"b", offset_delta=2)], {}),
    "delta twice": ([Rec(b"a", offset_delta=0), Rec(b"b", offset_delta=0)], {}),
    "delta left out": ([Rec(b"a", offset_delta=0), Rec(b"b", offset_delta=2)], {}),
    "falling deltas": ([Rec(b"a", offset_delta=1), Rec(b"b", offset_delta=0)], {}),
    "negative delta": ([Rec(b"a", offset_delta=-1), Rec(b"b", offset_delta=1)], {}),
    "bytes after the records": ([Rec(b"a")], {"extra": b"xyz"}),
    "record attributes": ([Rec(b"a", attributes=1)], {}),
    "header key of length -1": ([Rec(b"a")], {"body": bytes.fromhex("10000000026b02610201")}),
    "fewer records than told": ([Rec(b"a")], {"count": 2, "last_offset_delta": 1}),
    "body of ff": ([Rec(b"a")], {"body": b"\xff" * 20}),
    "no body": ([Rec(b"a")], {"body": b""}),
}


@case(API, V2, topics={"t": UNREAD})
def wrong_inside(run: Run) -> None:
    wrong = {s: Batch(records, **more).encode() for s, (records, more) in WRONG_RECORDS.items()}
    _each_apart(run, wrong)


@case(API, V2, topics={"t": UNREAD})
def wrong_inside_gzip(run: Run) -> None:
    wrong = {}
    for step, (records, more) in WRONG_RECORDS.items():
        if "body" in more:
            more = {"body": compress(GZIP, more["body"])}
        wrong[step] = Batch(records, GZIP, **more).encode()
    _each_apart(run, wrong)


@case(API, V2, topics={"t": Topic()})
def attributes(run: Run) -> None:
    for name, bits in (
        ("append time", APPEND_TIME),
        ("control", CONTROL),
        ("transactional without a producer", TRANSACTIONAL),
        ("control and transactional", CONTROL | TRANSACTIONAL),
        ("delete horizon", 0x40),
        ("unused bit 7", 0x80),
        ("unused bit 14", 0x4000),
    ):
        run.produce("t", batch(b"a", attributes=bits), step=name)
    run.everything("t")


@case(API, V2, topics={"t": Topic()})
def several_batches(run: Run) -> None:
    run.produce("t", batch(b"a") + batch(b"b"), step="two")
    run.produce("t", batch(b"a") + batch(b"b", base_offset=1), step="two, offsets in a row")
    run.produce("t", batch(b"a") + b"\0" * 61, step="one and zeros")
    run.everything("t")


@case(API, V2, topics={"t": Topic(configs={"cleanup.policy": "compact"})})
def compacted(run: Run) -> None:
    "Every record of a compacted topic needs a key."
    run.produce("t", Batch([Rec(b"a", b"k")]).encode(), step="with keys")
    run.produce("t", Batch([Rec(None, b"k")]).encode(), step="tombstone")
    run.produce("t", Batch([Rec(b"a", b"")]).encode(), step="empty key")
    run.produce("t", Batch([Rec(b"a", None)]).encode(), step="no key")
    mixed = [Rec(b"a", None), Rec(b"a", b"k"), Rec(b"a", None)]
    run.produce("t", Batch(mixed).encode(), step="no key in 0 and 2")
    run.produce("t", Batch(mixed, GZIP).encode(), step="no key in 0 and 2, gzip")
    run.produce("t", Batch([Rec(b"a", None)], crc=3).encode(), step="no key, bad crc")
    run.everything("t")


@case(API, V2, topics={"t": Topic(configs={"cleanup.policy": "compact,delete"})})
def compacted_and_deleted(run: Run) -> None:
    run.produce("t", Batch([Rec(b"a", None)]).encode(), step="no key")


@case(API, V2, topics={"t": Topic(configs={"message.timestamp.type": "LogAppendTime"})})
def append_time(run: Run) -> None:
    for codec in (NONE, GZIP):
        run.produce("t", batch(b"a", b"b", codec=codec), step=f"codec {codec}")
    run.produce("t", batch(b"a", attributes=APPEND_TIME), step="bit set")
    run.produce("t", batch(b"a", base_timestamp=-1), step="no timestamp")
    run.produce("t", batch(b"a", base_timestamp=2**62), step="far in the future")
    run.everything("t")


LIMITS = {"message.timestamp.before.max.ms": "60000", "message.timestamp.after.max.ms": "60000"}


@case(API, V2, topics={"t": Topic(configs=LIMITS)})
def timestamp_limits(run: Run) -> None:
    now = int(time.time() * 1000)
    run.produce("t", batch(b"a", base_timestamp=now), step="now")
    run.produce("t", batch(b"a", base_timestamp=now - 3_600_000), step="an hour ago")
    run.produce("t", batch(b"a", base_timestamp=now + 3_600_000), step="in an hour")
    run.produce("t", batch(b"a", base_timestamp=-1), step="no timestamp")
    run.produce("t", batch(b"a", base_timestamp=START_MS, codec=GZIP), step="2023, gzip")
    records = [
        Rec(b"a"),
        Rec(b"b", timestamp_delta=-9_000_000),
        Rec(b"c", timestamp_delta=9_000_000),
    ]
    run.produce("t", Batch(records, base_timestamp=now).encode(), step="second and third outside")
    data = Batch(records, GZIP, base_timestamp=now).encode()
    run.produce("t", data, step="second and third outside, gzip")
    lying = Batch([Rec(b"a")], base_timestamp=now, max_timestamp=now + 9_000_000).encode()
    run.produce("t", lying, step="largest timestamp too large in the header only")


@case(API, V2, topics={"t": Topic()})
def timestamps_without_limits(run: Run) -> None:
    "4.4 refuses what is more than an hour ahead by default; at these versions 3.9 decides."
    for timestamp in (-1, 0, 1, START_MS):
        run.produce("t", batch(b"a", base_timestamp=timestamp), step=f"timestamp {timestamp}")
    run.everything("t")


@case(API, V2, topics={"t": UNREAD})
def largest_timestamp_wrong(run: Run) -> None:
    "The header tells another largest timestamp than the records have."
    one, two = [Rec(b"a")], [Rec(b"a"), Rec(b"b")]
    told = {
        "below the record's": Batch(one, max_timestamp=START_MS - 5),
        "-1": Batch(one, max_timestamp=-1),
        "above the records'": Batch(two, max_timestamp=START_MS + 100),
        "above, gzip": Batch(two, GZIP, max_timestamp=START_MS + 100),
        "a timestamp of -5": Batch(one, base_timestamp=-5),
    }
    _each_apart(run, {step: made.encode() for step, made in told.items()})
    for partition, step in enumerate(told):
        for timestamp in (START_MS, -3):
            at = {"partition_index": partition, "timestamp": timestamp}
            topic = {"name": run.name("t"), "partitions": [at]}
            label = f"{timestamp}, {step}"
            run.ask("ListOffsets", 7, replica_id=-1, topics=[topic], step=label)


@case(API, (3, 11), topics={"t": Topic()})
def far_future_timestamps(run: Run) -> None:
    for timestamp in (2**62, 2**63 - 1, 4_000_000_000_000):
        run.produce("t", batch(b"a", base_timestamp=timestamp), step=f"timestamp {timestamp}")
    run.everything("t")


@case(API, V2, topics={"t": Topic()})
def contents(run: Run) -> None:
    "Null and empty keys and values, headers, a large record."
    odd = [Rec(None, None), Rec(b"", b""), Rec(None, b"k"), Rec(b"v", None)]
    run.produce("t", Batch(odd).encode(), step="nulls and empties")
    headers = [(b"h", b"1"), (b"h", None), (b"", b""), (b"\xff", b"x")]
    run.produce("t", Batch([Rec(b"a", headers=headers)]).encode(), step="headers")
    run.produce("t", batch(b"x" * 300_000), step="large")
    run.produce("t", batch(*[b"%d" % i for i in range(500)]), step="many")
    run.produce("t", batch(*[b"%d" % i for i in range(500)], codec=LZ4), step="many, lz4")
    run.everything("t")
