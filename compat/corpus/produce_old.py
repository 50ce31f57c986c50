"""Produce versions 0 to 2, and message formats 0 and 1 anywhere."""

from compat.batches import GZIP, LZ4, SNAPPY, START_MS, ZSTD, batch, message, wrapped
from compat.script import Run, Topic, case

API = "Produce"
OLD = (0, 2)


@case(API, topics={"t": Topic()})
def old_formats(run: Run) -> None:
    "Accepted up to version 2 and converted; refused from version 3."
    for magic in (0, 1):
        run.produce("t", message(b"a", magic=magic), step=f"magic {magic}")
        two = message(b"a", magic=magic) + message(b"b", magic=magic, offset=1)
        run.produce("t", two, step=f"two of magic {magic}")
    run.everything("t")


@case(API, OLD, topics={"t": Topic()})
def old_compressed(run: Run) -> None:
    for magic in (0, 1):
        inner = [message(b"v%d" % i, magic=magic, offset=i) for i in range(3)]
        for name, codec in (("gzip", GZIP), ("snappy", SNAPPY)):
            run.produce("t", wrapped(*inner, codec=codec, magic=magic), step=f"{name} {magic}")
    inner = [message(b"v%d" % i, offset=i) for i in range(3)]
    run.produce("t", wrapped(*inner, codec=LZ4), step="lz4 1")
    run.produce("t", wrapped(*inner, codec=ZSTD), step="zstd 1")
    run.everything("t")


@case(API, OLD, topics={"t": Topic()})
def old_wrong(run: Run) -> None:
    run.produce("t", message(b"a", crc=7), step="bad crc")
    run.produce("t", message(b"a", magic=1)[:-1], step="one byte short")
    run.produce("t", message(b"a", magic=1)[:20], step="20 bytes")
    run.produce("t", message(b"a") + message(b"b", crc=1), step="second has a bad crc")
    run.produce("t", message(b"a", offset=5), step="offset 5")
    run.produce("t", message(b"a", attributes=8), step="append time bit")
    run.produce("t", message(b"a", attributes=5), step="codec 5")
    run.produce("t", message(b"not gzip", None, attributes=1), step="gzip in name only")
    run.produce("t", message(None, None, attributes=1), step="gzip, null value")
    run.produce("t", message(b"", None, attributes=1), step="gzip, empty value")
    run.produce("t", wrapped(), step="gzip of nothing")
    mixed = [message(b"a", magic=0), message(b"b", magic=1)]
    run.produce("t", wrapped(*mixed), step="magic 0 inside of 1")
    run.produce("t", b"".join(mixed), step="magic 0 then 1")
    nested = wrapped(wrapped(message(b"a")))
    run.produce("t", nested, step="compressed twice")
    run.everything("t")


@case(API, OLD, topics={"t": Topic()})
def old_contents(run: Run) -> None:
    run.produce("t", message(None, b"k"), step="null value")
    run.produce("t", message(b"v", None), step="null key")
    run.produce("t", message(None, None), step="both null")
    run.produce("t", message(b"", b""), step="both empty")
    run.produce("t", message(b"a", timestamp=-1), step="no timestamp")
    run.produce("t", message(b"a", timestamp=-5), step="timestamp -5")
    run.produce("t", message(b"a", timestamp=START_MS + 5), step="timestamp")
    run.everything("t")


@case(API, OLD, topics={"t": Topic()})
def new_format_in_old_request(run: Run) -> None:
    "Versions 0 to 2 take format 2 as well."
    run.produce("t", batch(b"a", b"b"), step="one batch")
    run.produce("t", batch(b"a") + batch(b"b"), step="two batches")
    run.produce("t", batch(b"a", codec=GZIP), step="gzip")
    run.produce("t", batch(b"a", length=32), step="shorter than its header")
    run.produce("t", batch(b"a", codec=ZSTD), step="zstd")
    run.produce("t", batch(b"a") + message(b"b"), step="format 2 then 1")
    run.produce("t", message(b"b") + batch(b"a"), step="format 1 then 2")
    run.everything("t")


COMPACT = {"cleanup.policy": "compact"}


@case(API, OLD, topics={"t": Topic(configs=COMPACT)})
def old_compacted(run: Run) -> None:
    for magic in (0, 1):
        run.produce("t", message(b"a", None, magic=magic), step=f"no key, magic {magic}")
        run.produce("t", message(b"a", b"k", magic=magic), step=f"key, magic {magic}")
        inner = [message(b"a", None, magic=magic)]
        run.produce("t", wrapped(*inner, magic=magic), step=f"no key inside gzip, magic {magic}")
    run.everything("t")


TIMES = {"message.timestamp.before.max.ms": "60000", "message.timestamp.after.max.ms": "60000"}


@case(API, OLD, topics={"t": Topic(configs=TIMES)})
def old_timestamp_limits(run: Run) -> None:
    "Format 0 has no timestamp and passes."
    run.produce("t", message(b"a", magic=0), step="magic 0")
    run.produce("t", message(b"a", magic=1), step="magic 1, 2023")
    run.produce("t", wrapped(message(b"a", magic=1)), step="magic 1, 2023, gzip")
    run.produce("t", message(b"a", magic=1, timestamp=2**61), step="magic 1, future")
    run.everything("t")


@case(API, OLD, topics={"t": Topic(configs={"message.timestamp.type": "LogAppendTime"})})
def old_append_time(run: Run) -> None:
    run.produce("t", message(b"a", magic=0), step="magic 0")
    run.produce("t", message(b"a", magic=1), step="magic 1")
    run.produce("t", wrapped(message(b"a", magic=1)), step="gzip")
    run.everything("t")


@case(API, OLD, topics={"t": Topic(configs={"compression.type": "gzip"})})
def old_recompressed(run: Run) -> None:
    run.produce("t", message(b"a", magic=0), step="magic 0")
    run.produce("t", wrapped(message(b"a"), codec=SNAPPY), step="snappy")
    run.everything("t")


@case(API, OLD, topics={"t": Topic(configs={"max.message.bytes": "150"})})
def old_too_large(run: Run) -> None:
    "The limit holds for what is stored, after conversion."
    for size in (20, 50, 70, 80, 100, 120, 300):
        run.produce("t", message(b"x" * size), step=f"{size} bytes")
    run.everything("t")
