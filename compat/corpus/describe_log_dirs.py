"""DescribeLogDirs."""

import struct

from compat.batches import batch
from compat.script import Run, Topic, case

API = "DescribeLogDirs"


@case(API, topics={"t": Topic(2, fill=[batch(b"a"), batch(b"b", b"c")]), "u": Topic()})
def accepted(run: Run) -> None:
    def go(step: str, *wanted: tuple[str, list[int]]) -> None:
        run.call(topics=[{"topic": t, "partitions": p} for t, p in wanted], step=step)

    go("one", (run.name("t"), [0]))
    go("both partitions", (run.name("t"), [1, 0]))
    go("two topics", (run.name("u"), [0]), (run.name("t"), [0]))
    go("unknown partition", (run.name("t"), [5]))
    go("unknown and known partition", (run.name("t"), [5, 0, -1]))
    go("unknown topic", (run.fresh("never"), [0]))
    go("empty name", ("", [0]))
    go("no partitions", (run.name("t"), []))
    go("no topics")
    go("partition twice", (run.name("t"), [0, 0]))


@case(API, alone=True)
def everything(run: Run) -> None:
    run.call(topics=None)


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    one = b"\x02" if run.version >= 2 else struct.pack(">i", 1)
    run.send_body(API, run.version, one, step="a count and nothing", link="3")


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.extra(b"x", topics=[{"topic": run.name("filled"), "partitions": [0]}])
