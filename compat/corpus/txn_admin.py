"""WriteTxnMarkers, DescribeTransactions, ListTransactions; hanging transactions (KIP-664)."""

from collections.abc import Callable
from typing import Any

from compat.batches import TRANSACTIONAL, Batch, Rec
from compat.corpus.transacting import Producer
from compat.script import Run, Topic, case, fitted

MARKERS, DESCRIBE, LIST = "WriteTxnMarkers", "DescribeTransactions", "ListTransactions"
TOPICS = {"t": Topic(partitions=2), "u": Topic()}


def _mark(
    run: Run, producer: int, epoch: int, *topics: tuple[str, list[int]], step: str,
    committed: bool = False, coordinator: int = 0, **more: Any,
) -> Any:  # fmt: skip
    marker = {
        "producer_id": producer,
        "producer_epoch": epoch,
        "transaction_result": committed,
        "coordinator_epoch": coordinator,
        "topics": [{"name": name, "partition_indexes": indexes} for name, indexes in topics],
        **more,
    }
    return run.call(step=step, **fitted(MARKERS, run.version, {"markers": [marker]}))


@case(MARKERS, topics=TOPICS)
def hanging_transaction(run: Run) -> None:
    "As kafka-transactions.sh aborts one: the partition is open, the coordinator knows of nothing."
    producer = Producer(run)
    producer.init()
    producer.add(("t", 0))
    producer.produce("t", b"a", version=9)
    name = run.name("t")
    _describe_producers(run, "open")
    _mark(run, producer.id, producer.epoch, (name, [0]), step="aborted by hand")
    _describe_producers(run, "aborted")
    run.everything("t")
    _mark(run, producer.id, producer.epoch, (name, [0]), step="once more")
    run.everything("t")
    producer.end(committed=True)
    producer.describe_until("CompleteCommit")
    run.everything("t")


def _describe_producers(run: Run, step: str) -> None:
    topics = [{"name": run.name("t"), "partition_indexes": [0]}]
    run.ask("DescribeProducers", 0, topics=topics, step=f"producers {step}")


@case(MARKERS, topics=TOPICS)
def markers_without_a_transaction(run: Run) -> None:
    producer = Producer(run)
    producer.init()
    t, u = run.name("t"), run.name("u")
    _mark(run, producer.id, producer.epoch, (t, [0]), step="abort", coordinator=3)
    _mark(run, producer.id, producer.epoch, (t, [0]), step="commit", committed=True, coordinator=3)
    _mark(run, producer.id, producer.epoch, (t, [0]), step="older coordinator", coordinator=2)
    _mark(run, producer.id, producer.epoch, (t, [0]), step="no coordinator", coordinator=-1)
    _mark(run, producer.id, producer.epoch, (t, [0]), step="newer coordinator", coordinator=4)
    _mark(run, producer.id, producer.epoch + 2, (t, [0]), step="newer epoch", coordinator=4)
    _mark(run, producer.id, producer.epoch, (t, [0]), step="older epoch", coordinator=4)
    _mark(run, producer.id, -1, (t, [1]), step="no epoch")
    _mark(run, producer.id, producer.epoch, (t, [0, 1]), (u, [0]), step="three", coordinator=4)
    for alias, partition in (("t", 0), ("t", 1), ("u", 0)):
        run.everything(alias, partition)


@case(MARKERS, topics=TOPICS)
def markers_refused(run: Run) -> None:
    producer = Producer(run)
    producer.init()
    t = run.name("t")
    _mark(run, producer.id, 0, ("no-such", [0]), step="unknown topic")
    _mark(run, producer.id, 0, (t, [9, 0, -1]), step="partitions that are not there")
    _mark(run, producer.id, 0, ("", [0]), step="empty name")
    _mark(run, producer.id, 0, (t, []), step="no partitions")
    _mark(run, producer.id, 0, step="no topics")
    run.call(markers=[], step="no markers")
    run.everything("t")


@case(MARKERS, topics=TOPICS)
def several_markers(run: Run) -> None:
    one, two = Producer(run, "one"), Producer(run, "two")
    for producer in (one, two):
        producer.init()
        producer.add(("t", 0), ("t", 1))
        producer.produce("t", b"x", version=9)
        producer.produce("t", b"y", partition=1, version=9)
    body = [
        {
            "producer_id": producer.id,
            "producer_epoch": producer.epoch,
            "transaction_result": committed,
            "topics": [{"name": run.name("t"), "partition_indexes": [0, 1]}],
        }
        for producer, committed in ((one, True), (two, False))
    ]
    run.call(markers=body, step="two")
    run.everything("t")
    run.call(markers=[body[0], body[0]], step="the same twice")
    run.everything("t", 1)


@case(MARKERS, (2, 2), topics=TOPICS)
def markers_of_transactions_2(run: Run) -> None:
    "Version 2 says how the transaction was made; at 2 the marker's epoch is one above it."
    name = run.name("t")
    for number, (version, ahead) in enumerate(((2, 1), (2, 0), (1, 0), (1, 1), (0, 1), (3, 2))):
        producer = Producer(run, f"tx{number}")
        producer.init()
        producer.add(("t", 0))
        producer.produce("t", b"%d" % number, version=9)
        _mark(run, producer.id, producer.epoch + ahead, (name, [0]), committed=True,
              transaction_version=version, step=f"version {version}, {ahead} ahead")  # fmt: skip
        _describe_producers(run, f"after {number}")
        producer.produce("t", b"%d+" % number, version=9, step="same epoch goes on")
        _describe_producers(run, f"after {number} went on")
    run.everything("t")


@case(MARKERS, topics=TOPICS)
def markers_for_an_unknown_producer(run: Run) -> None:
    "And a batch of that producer afterwards."
    run.coordinator(1)
    producer = Producer(run)
    producer.init()
    _mark(run, producer.id, 5, (run.name("t"), [0]), step="unknown", committed=True)
    _describe_producers(run, "after it")
    batch = Batch([Rec(b"a")], attributes=TRANSACTIONAL, producer_id=producer.id,
                  producer_epoch=4, base_sequence=0)  # fmt: skip
    run.ask("Produce", 9, acks=-1, timeout_ms=5000, transactional_id=producer.name,
            topic_data=[{"name": run.name("t"),
                         "partition_data": [{"index": 0, "records": batch.encode()}]}])  # fmt: skip
    run.everything("t")


@case(DESCRIBE, topics=TOPICS)
def described(run: Run) -> None:
    producer, other = Producer(run), Producer(run, "other")
    run.call(transactional_ids=[producer.name], step="unknown")
    producer.init(timeout=30_000)
    run.call(transactional_ids=[producer.name], step="nothing begun")
    producer.add(("t", 1), ("t", 0), ("u", 0))
    run.call(transactional_ids=[producer.name], step="open")
    other.init()
    run.call(transactional_ids=[producer.name, other.name], step="two")
    run.call(transactional_ids=[producer.name, producer.name], step="the same twice")
    run.call(transactional_ids=[], step="none")
    run.call(transactional_ids=[""], step="empty name")
    run.call(transactional_ids=["", producer.name, "nobody"], step="three")
    producer.end(committed=True)
    producer.describe_until("CompleteCommit")
    run.call(transactional_ids=[producer.name], step="complete")


def _only(*producers: Producer) -> Callable[[Any], None]:
    names = {p.name for p in producers}

    def keep(answer: Any) -> None:
        answer.transaction_states = [
            s for s in answer.transaction_states if s.transactional_id in names
        ]

    return keep


@case(LIST, topics=TOPICS)
def listed(run: Run) -> None:
    idle, opened, done = (Producer(run, alias) for alias in ("idle", "open", "done"))
    keep = _only(idle, opened, done)
    run.call(keep=keep, step="before")
    for producer in (idle, opened, done):
        producer.init()
    opened.add(("t", 0))
    done.add(("t", 1))
    done.end(committed=True)
    done.describe_until("CompleteCommit")
    run.call(keep=keep, step="three")
    for states in (["Ongoing"], ["Empty"], ["CompleteCommit"], ["Ongoing", "Empty"],
                   ["CompleteAbort"], ["ongoing"], ["nonsense"], ["nonsense", "Ongoing"],
                   ["PrepareEpochFence"], ["Dead"], [""]):  # fmt: skip
        run.call(keep=keep, state_filters=states, step=f"states {states}")
    for step, ids in (("one", [opened.id]), ("two", [opened.id, idle.id]), ("unknown", [987_654]),
                      ("negative", [-1])):  # fmt: skip
        run.call(keep=keep, producer_id_filters=ids, step=f"by id, {step}")
    run.call(keep=keep, producer_id_filters=[idle.id], state_filters=["Ongoing"], step="both")


@case(LIST, (1, 2), topics=TOPICS)
def listed_by_duration(run: Run) -> None:
    "Version 1 knows how long a transaction is open at least (KIP-994)."
    opened, idle = Producer(run, "open"), Producer(run, "idle")
    opened.init()
    idle.init()
    opened.add(("t", 0))
    run.pause(0.05)
    for duration in (-1, 0, 1, 3_600_000, -2, 2**62):
        run.call(keep=_only(opened, idle), duration_filter=duration, step=f"{duration} ms")


@case(LIST, (2, 2), topics=TOPICS)
def listed_by_pattern(run: Run) -> None:
    "Version 2 knows a pattern for names (KIP-1152)."
    one, two = Producer(run, "one"), Producer(run, "two")
    one.init()
    two.init()
    keep = _only(one, two)
    for pattern in (None, "", one.name, ".*-one", ".*-(one|two)", "one", "(", "[a", "\\d+", ".*",
                    "(?i).*-ONE", "*"):  # fmt: skip
        run.call(keep=keep, transactional_id_pattern=pattern, step=f"pattern {pattern}")
    run.call(keep=keep, transactional_id_pattern=".*-one", state_filters=["Ongoing"], step="both")


def _malformed(run: Run) -> None:
    run.send_body(run.case.api, run.version, b"", step="no body", link="1")
    run.send_body(run.case.api, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(run.case.api, run.version, b"\xff" * 20, step="twenty bytes", link="3")


@case(MARKERS)
def malformed_markers(run: Run) -> None:
    _malformed(run)


@case(DESCRIBE)
def malformed_describe(run: Run) -> None:
    _malformed(run)


@case(LIST)
def malformed_list(run: Run) -> None:
    _malformed(run)


@case(DESCRIBE)
def bytes_after_a_describe(run: Run) -> None:
    run.coordinator(1)
    run.extra(b"x", transactional_ids=["nobody"])
