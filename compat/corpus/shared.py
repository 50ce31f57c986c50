"""Topics that every case may read and none may change."""

from compat.batches import GZIP, LZ4, SNAPPY, START_MS, ZSTD, Batch, Rec, batch
from compat.script import SHARED, Topic

SECOND = 1000

THREE_BATCHES = [
    batch(b"a0", b"a1", b"a2"),
    batch(b"b0", b"b1", b"b2", base_timestamp=START_MS + SECOND),
    batch(b"c0", b"c1", b"c2", base_timestamp=START_MS + 2 * SECOND),
]

UNSORTED = [
    Batch([Rec(b"x%d" % i, timestamp_delta=t) for i, t in enumerate((5, 900, 20))]).encode(),
    Batch([Rec(b"y%d" % i, timestamp_delta=t) for i, t in enumerate((-50, 10, 900))]).encode(),
]
"""The largest timestamp stands twice, and not at the end of its batch."""

SHARED.update(
    {
        "filled": Topic(partitions=2, fill=THREE_BATCHES),
        "empty": Topic(),
        "compact": Topic(configs={"cleanup.policy": "compact"}, fill=THREE_BATCHES),
        "append-time": Topic(
            configs={"message.timestamp.type": "LogAppendTime"}, fill=[batch(b"x", b"y")]
        ),
        "codecs": Topic(fill=[batch(b"v" * 100, b"w", codec=c) for c in (GZIP, SNAPPY, LZ4)]),
        "zstd": Topic(fill=[batch(b"z", b"z" * 100, codec=ZSTD)]),
        "headers": Topic(
            fill=[Batch([Rec(b"x", headers=[(b"h", b"1"), (b"", None), (b"h", b"")])]).encode()]
        ),
        "nulls": Topic(fill=[Batch([Rec(None, b"k"), Rec(b"v", None), Rec(None, None)]).encode()]),
        "unsorted": Topic(fill=UNSORTED),
        "one-large": Topic(fill=[batch(b"x" * 5000), batch(b"y" * 100), batch(b"z" * 100)]),
    }
)
