"""DescribeTopicPartitions (KIP-966): pages of partitions."""

from typing import Any

from compat.script import Run, Topic, case

API = "DescribeTopicPartitions"


def _go(run: Run, *names: str, **more: Any) -> Any:
    fields: dict[str, Any] = {"response_partition_limit": 2000, **more}
    return run.call(topics=[{"name": n} for n in names], **fields)


@case(API, topics={"a": Topic(3), "b": Topic(), "c": Topic(2)})
def accepted(run: Run) -> None:
    a, b, c = (run.name(n) for n in "abc")
    _go(run, a, step="one")
    _go(run, c, a, b, step="three, out of order")
    _go(run, a, a, step="the same twice")


@case(API, topics={"a": Topic(3), "b": Topic(), "c": Topic(2)})
def pages(run: Run) -> None:
    names = [run.name(n) for n in "abc"]
    for limit in (0, 1, 2, 3, 4, 5, 6, 7, -1, 2**31 - 1):
        _go(run, *names, response_partition_limit=limit, step=f"limit {limit}")
    for alias, index in (("a", 1), ("a", 2), ("a", 3), ("a", 9), ("b", 0), ("c", 1), ("c", 2)):
        cursor = {"topic_name": run.name(alias), "partition_index": index}
        _go(run, *names, cursor=cursor, response_partition_limit=2, step=f"from {alias} {index}")


@case(API, topics={"a": Topic(2), "b": Topic()})
def odd_cursors(run: Run) -> None:
    names = [run.name(n) for n in "ab"]
    for number, (name, index) in enumerate(
        ((run.name("a"), -1), (run.fresh("never"), 0), ("", 0), ("zzzz", 0), (run.name("b"), 7))
    ):
        cursor = {"topic_name": name, "partition_index": index}
        _go(run, *names, cursor=cursor, step=f"cursor {number}")
        _go(run, run.name("a"), cursor=cursor, step=f"cursor {number}, one topic")


@case(API)
def unknown(run: Run) -> None:
    for number, name in enumerate((run.fresh("never"), "", "a b", ".", "x" * 250)):
        _go(run, name, step=f"name {number}")
    _go(run, run.fresh("never"), run.name("filled"), step="one of two")
    _go(run, run.fresh("never"), run.name("filled"), response_partition_limit=1, step="limit 1")


@case(API, alone=True)
def everything(run: Run) -> None:
    "No names: all topics."
    _go(run, step="all")
    _go(run, response_partition_limit=3, step="limit 3")


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(API, run.version, b"\0\0\0\x07\xd0\xff\0", step="null list", link="3")


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.extra(b"x", topics=[{"name": run.name("filled")}])
