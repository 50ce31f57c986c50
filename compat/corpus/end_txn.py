"""EndTxn, and whole transactions: what is in the partitions then, for whom, and in
__transaction_state. Version 5 is that of transactions 2 (KIP-890): a new epoch after each."""

from typing import Any

from compat.batches import batch
from compat.corpus.classic import Group, left_behind
from compat.corpus.transacting import Producer, newest
from compat.offered import NEW
from compat.script import Run, Topic, case
from compat.stored import OFFSETS, TRANSACTIONS, watch, written

API = "EndTxn"
TOPICS = {"t": Topic(partitions=3), "u": Topic()}


def _join(run: Run, producer: Producer, *partitions: tuple[str, int]) -> None:
    """Makes partitions part of the transaction, where producing to them does not do that."""
    if not newest(run):
        producer.add(*partitions)


def _read(run: Run, alias: str, partition: int = 0, *, committed: bool, offset: int = 0) -> Any:
    wanted = {
        "partition": partition, "fetch_offset": offset, "partition_max_bytes": 1 << 20
    }  # fmt: skip
    return run.ask(
        "Fetch", 11, step=f"{'committed' if committed else 'all'} of {alias}-{partition}",
        max_wait_ms=0, min_bytes=0, max_bytes=1 << 20, isolation_level=int(committed),
        topics=[{"topic": run.name(alias), "partitions": [wanted]}],
    )  # fmt: skip


def _ended(producer: Producer, *, committed: bool, step: str | None = None) -> None:
    producer.end(committed=committed, step=step)
    producer.describe_until("CompleteCommit" if committed else "CompleteAbort")


def _whole(run: Run, *, committed: bool) -> None:
    watch(run, TRANSACTIONS)
    run.ask_produce("t", batch(b"before"))
    producer = Producer(run)
    producer.init()
    _join(run, producer, ("t", 0), ("t", 2), ("u", 0))
    producer.produce("t", b"a", b"b")
    producer.produce("t", b"c", partition=2)
    producer.produce("u", b"d")
    producer.describe()
    run.ask_produce("t", batch(b"between"))
    _read(run, "t", committed=True)
    _read(run, "t", committed=False)
    _offsets(run, "t", "while it is open")
    _ended(producer, committed=committed)
    run.ask_produce("t", batch(b"after"))
    for alias, partition in (("t", 0), ("t", 1), ("t", 2), ("u", 0)):
        _read(run, alias, partition, committed=True)
    _read(run, "t", committed=False)
    _read(run, "t", committed=True, offset=2)
    _offsets(run, "t", "ended")
    run.ask("DescribeProducers", 0,
            topics=[{"name": run.name("t"), "partition_indexes": [0, 1]}])  # fmt: skip
    written(run, TRANSACTIONS, producer.name,
            ready=lambda records: _is_complete(records[-1]))  # fmt: skip


def _is_complete(record: Any) -> bool:
    return bool(record["value"]["transaction_status"] in (4, 5))


def _offsets(run: Run, alias: str, step: str) -> None:
    for level in (0, 1):
        partition = {"partition_index": 0, "timestamp": -1}
        run.ask("ListOffsets", 4, replica_id=-1, isolation_level=level, step=f"end {level} {step}",
                topics=[{"name": run.name(alias), "partitions": [partition]}])  # fmt: skip


@case(API, topics=TOPICS)
def commit(run: Run) -> None:
    _whole(run, committed=True)


@case(API, topics=TOPICS)
def abort(run: Run) -> None:
    _whole(run, committed=False)


@case(API, (3, 4), topics=TOPICS, judge=NEW)
def commit_by_an_old_client(run: Run) -> None:
    "Transactions 1 against a broker at transactions 2."
    _whole(run, committed=True)


@case(API, (3, 4), topics=TOPICS, judge=NEW)
def abort_by_an_old_client(run: Run) -> None:
    _whole(run, committed=False)


@case(API, topics=TOPICS)
def several_in_a_row(run: Run) -> None:
    watch(run, TRANSACTIONS)
    producer = Producer(run)
    producer.init()
    for number, committed in enumerate((True, False, False, True)):
        _join(run, producer, ("t", 0))
        producer.produce("t", b"%d" % number)
        _ended(producer, committed=committed, step=f"end {number}")
    _read(run, "t", committed=True)
    _read(run, "t", committed=False)
    written(run, TRANSACTIONS, producer.name,
            ready=lambda records: _is_complete(records[-1]))  # fmt: skip


@case(API, topics=TOPICS)
def two_at_once(run: Run) -> None:
    "A reader of what is committed waits for the older one."
    one, two = Producer(run, "one"), Producer(run, "two")
    one.init()
    two.init()
    _join(run, one, ("t", 0))
    _join(run, two, ("t", 0))
    one.produce("t", b"1a")
    two.produce("t", b"2a")
    one.produce("t", b"1b")
    _ended(two, committed=True)
    _read(run, "t", committed=True)
    _offsets(run, "t", "one open")
    _ended(one, committed=False)
    _read(run, "t", committed=True)
    _read(run, "t", committed=True, offset=3)
    _offsets(run, "t", "none open")


@case(API, topics=TOPICS)
def ended_again(run: Run) -> None:
    "The same end again is no error, the other one is."
    producer = Producer(run)
    producer.init()
    old = producer.epoch
    _join(run, producer, ("t", 0))
    producer.produce("t", b"a")
    _ended(producer, committed=True)
    producer.end(committed=True, producer_epoch=old, step="commit again, same epoch")
    producer.end(committed=False, producer_epoch=old, step="abort after it, same epoch")
    producer.end(committed=True, step="commit again")
    producer.describe_until("CompleteCommit")
    producer.end(committed=False, step="abort after it")
    producer.describe_until("CompleteCommit", "CompleteAbort")
    producer.describe()
    _join(run, producer, ("t", 0))
    producer.produce("t", b"b", step="next")
    old = producer.epoch
    _ended(producer, committed=False)
    producer.end(committed=False, producer_epoch=old, step="second abort, same epoch")
    producer.end(committed=True, producer_epoch=old, step="commit after it, same epoch")


@case(API, topics=TOPICS)
def nothing_begun(run: Run) -> None:
    watch(run, TRANSACTIONS)
    producer = Producer(run)
    producer.init()
    producer.end(committed=True, step="commit")
    producer.describe_until("Empty", "CompleteCommit", "CompleteAbort")
    producer.end(committed=False, step="abort")
    producer.describe_until("Empty", "CompleteCommit", "CompleteAbort")
    producer.describe()
    written(run, TRANSACTIONS, producer.name)


@case(API, topics=TOPICS)
def refused(run: Run) -> None:
    producer = Producer(run)
    run.call(transactional_id=producer.name, producer_id=1, producer_epoch=0, committed=True,
             step="unknown name")  # fmt: skip
    run.call(transactional_id="", producer_id=1, producer_epoch=0, committed=True,
             step="empty name")  # fmt: skip
    producer.init()
    _join(run, producer, ("t", 0))
    producer.produce("t", b"a")
    producer.end(committed=True, producer_id=producer.id + 77, step="another id")
    producer.end(committed=True, producer_epoch=producer.epoch + 1, step="epoch to come")
    producer.end(committed=True, producer_epoch=-1, step="no epoch")
    old = producer.epoch
    producer.init(step="comes back")
    producer.end(committed=True, producer_epoch=old, step="old epoch")
    producer.end(committed=False, producer_epoch=old, step="old epoch aborts")


@case(API, topics=TOPICS, alone=True)
def produced_without_being_added(run: Run) -> None:
    """A partition that the coordinator does not know to be part of it is refused.

    Alone, as whatever is refused so: brokers verify several requests together, and the code (48 or
    120) is the one that the last of them understands.
    """
    producer = Producer(run)
    producer.init()
    producer.produce("t", b"a", step="nothing begun", version=11)
    producer.add(("t", 1), step="another partition")
    producer.produce("t", b"a", base_sequence=0, step="not added", version=11)
    producer.produce("t", b"a", partition=1, step="added", version=11)
    producer.produce("t", b"a", partition=1, step="old epoch", version=11,
                     producer_epoch=producer.epoch - 1)  # fmt: skip
    producer.produce("t", b"a", partition=1, step="epoch to come", version=11,
                     producer_epoch=producer.epoch + 1, base_sequence=0)  # fmt: skip
    producer.end(committed=False)


@case(API, topics=TOPICS)
def offsets_in_it(run: Run) -> None:
    "Consume, transform, produce: the offsets go with the records."
    watch(run, TRANSACTIONS)
    watch(run, OFFSETS)
    group = Group(run)
    producer = Producer(run)
    producer.init()
    for number, committed in ((1, True), (2, False), (3, True)):
        _join(run, producer, ("u", 0))
        producer.produce("u", b"out")
        if not newest(run):
            producer.add_offsets(group.id)
        producer.commit_offsets(group.id, "t", number)
        _ended(producer, committed=committed, step=f"end {number}")
    group.settled("t", 3, at=0)
    written(run, TRANSACTIONS, producer.name,
            ready=lambda records: _is_complete(records[-1]))  # fmt: skip
    left_behind(run, group.id, ready=lambda records: "marker" in records[-1])


@case(API, (5, 5), topics=TOPICS)
def a_new_epoch_after_each(run: Run) -> None:
    "In transactions 2 what comes with the epoch before the end is refused."
    watch(run, TRANSACTIONS)
    producer = Producer(run)
    producer.init()
    producer.produce("t", b"a")
    old = producer.epoch
    _ended(producer, committed=True)
    producer.produce("t", b"late", producer_epoch=old, base_sequence=1, step="old epoch produces")
    producer.produce("t", b"b", base_sequence=1, step="wrong first sequence")
    producer.produce("t", b"b", base_sequence=0, step="right")
    producer.describe()
    producer.end(committed=True, producer_epoch=old, step="old epoch commits")
    _ended(producer, committed=False)
    producer.describe()
    written(run, TRANSACTIONS, producer.name,
            ready=lambda records: _is_complete(records[-1]))  # fmt: skip


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.coordinator(1)
    run.extra(b"x", transactional_id=run.transactional_id(), producer_id=1, producer_epoch=0)


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(API, run.version, b"\xff" * 20, step="twenty bytes", link="3")
