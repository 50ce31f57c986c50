"""DescribeProducers (KIP-664)."""

from compat.batches import batch
from compat.script import Run, Topic, case

API = "DescribeProducers"


@case(API, topics={"t": Topic(2)})
def accepted(run: Run) -> None:
    name = run.name("t")
    first = run.ask("InitProducerId", 1, transactional_id=None).producer_id
    second = run.ask("InitProducerId", 1, transactional_id=None).producer_id
    run.call(topics=[{"name": name, "partition_indexes": [0]}], step="nobody yet")
    for pid, sequence, values in ((first, 0, 1), (second, 5, 3), (first, 1, 2)):
        data = batch(*[b"a"] * values, producer_id=pid, producer_epoch=0, base_sequence=sequence)
        run.ask_produce("t", data)
    run.ask_produce("t", batch(b"no producer"))
    run.call(topics=[{"name": name, "partition_indexes": [0]}], step="two producers")
    run.call(topics=[{"name": name, "partition_indexes": [0, 1]}], step="both partitions")
    bumped = batch(b"a", producer_id=first, producer_epoch=4, base_sequence=0)
    run.ask_produce("t", bumped)
    run.call(topics=[{"name": name, "partition_indexes": [0]}], step="a newer epoch")


@case(API)
def unknown(run: Run) -> None:
    for partition in (9, -1):
        topic = {"name": run.name("filled"), "partition_indexes": [partition]}
        run.call(topics=[topic], step=f"partition {partition}")
    for number, name in enumerate((run.fresh("never"), "", "a b", "x" * 250)):
        run.call(topics=[{"name": name, "partition_indexes": [0]}], step=f"name {number}")
    run.call(topics=[], step="nothing")
    run.call(topics=[{"name": run.name("filled"), "partition_indexes": []}], step="no partitions")
    both = [
        {"name": run.name("filled"), "partition_indexes": [0, 9]},
        {"name": run.fresh("never"), "partition_indexes": [0, 1]},
    ]
    run.call(topics=both, step="mixed")
    run.call(topics=[both[0], both[0]], step="topic twice")
    twice = {"name": run.name("filled"), "partition_indexes": [0, 0]}
    run.call(topics=[twice], step="partition twice")


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(API, run.version, b"\0\0", step="null list", link="3")


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.extra(b"x", topics=[{"name": run.name("filled"), "partition_indexes": [0]}])
