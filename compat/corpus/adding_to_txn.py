"""AddPartitionsToTxn and AddOffsetsToTxn."""

from typing import Any

from compat.corpus.transacting import Producer
from compat.script import Run, Topic, case, fitted
from compat.stored import TRANSACTIONS, watch, written

PARTITIONS, GROUP = "AddPartitionsToTxn", "AddOffsetsToTxn"
TOPICS = {"t": Topic(partitions=3), "u": Topic()}


@case(PARTITIONS, topics=TOPICS)
def added(run: Run) -> None:
    watch(run, TRANSACTIONS)
    producer = Producer(run)
    producer.init()
    producer.add(("t", 0))
    producer.describe()
    producer.add(("t", 2), ("u", 0), ("t", 0), step="more, one again")
    producer.add(("t", 0), step="nothing new")
    producer.add(("t", 1), ("t", 1), step="the same twice")
    producer.add(step="nothing")
    producer.describe()
    producer.end(committed=False)
    producer.describe_until("CompleteAbort")
    producer.describe()
    written(run, TRANSACTIONS, producer.name,
            ready=lambda r: r[-1]["value"]["transaction_status"] == 5)  # fmt: skip


@case(PARTITIONS, topics=TOPICS)
def not_added(run: Run) -> None:
    producer = Producer(run)
    producer.add(("t", 0), producer_id=1, producer_epoch=0, step="unknown name")
    producer.add(("t", 0), transactional_id="", step="empty name")
    producer.init()
    producer.add(("no-such", 0), step="unknown topic")
    producer.add(("t", 0), ("no-such", 0), step="one of two is unknown")
    producer.add(("t", 0), ("t", 3), ("t", -1), step="partitions that are not there")
    producer.describe()
    producer.add(("t", 0), producer_id=producer.id + 77, step="another id")
    producer.add(("t", 0), producer_epoch=producer.epoch + 1, step="epoch to come")
    producer.add(("t", 0), producer_epoch=-1, step="no epoch")
    old = producer.epoch
    producer.init()
    producer.add(("t", 0), producer_epoch=old, step="old epoch")
    producer.add(("t", 0), step="right")


@case(PARTITIONS, topics=TOPICS)
def topics_named_twice(run: Run) -> None:
    "One error for all: rows as the request names them. One for each: a row a topic."
    producer = Producer(run)
    producer.init()
    again = (("t", [1, 0, 1]), ("u", [0]), ("t", [0]))
    _add_rows(run, producer, *again, step="another id", producer_id=producer.id + 77)
    _add_rows(run, producer, *again, step="added")
    _add_rows(run, producer, *again, ("t", [9]), step="one is not there")
    _add_rows(run, producer, ("t", []), ("u", [0]), ("u", []), step="without partitions")
    _add_rows(run, producer, ("t", []), step="nothing at all")
    if run.version >= 4:
        _add_rows(run, producer, *again, step="verified", verify_only=True)
    producer.end(committed=False)


def _add_rows(
    run: Run, producer: Producer, *topics: tuple[str, list[int]], step: str, **more: Any
) -> None:
    """Topics as they are named, several times too."""
    own = {"transactional_id": producer.name, "producer_id": producer.id,
           "producer_epoch": producer.epoch, **more}  # fmt: skip
    own["topics"] = [{"name": run.name(alias), "partitions": some} for alias, some in topics]
    fields = {f"v3_and_below_{key}": value for key, value in own.items() if key != "verify_only"}
    fields["transactions"] = [own]
    run.call(step=step, **fitted(PARTITIONS, run.version, fields))


@case(PARTITIONS, topics=TOPICS)
def internal_topics(run: Run) -> None:
    run.coordinator(0)
    producer = Producer(run)
    producer.init()
    for name in ("__consumer_offsets", "__transaction_state"):
        producer.add((name, 0), step=name)
    producer.end(committed=False)


def _many(run: Run, *transactions: dict[str, Any], step: str) -> None:
    run.call(transactions=list(transactions), step=step)


@case(PARTITIONS, (4, 5), topics=TOPICS)
def several_transactions(run: Run) -> None:
    "Version 4 is for brokers: several at once, or only to be verified (KIP-890)."
    one, two = Producer(run, "one"), Producer(run, "two")
    one.init()
    two.init()
    t0 = [{"name": run.name("t"), "partitions": [0]}]
    both = [
        {"name": run.name("t"), "partitions": [0, 1]},
        {"name": run.name("u"), "partitions": [0]},
    ]

    def of(producer: Producer, topics: Any, **more: Any) -> dict[str, Any]:
        return {
            "transactional_id": producer.name, "producer_id": producer.id,
            "producer_epoch": producer.epoch, "topics": topics, **more,
        }  # fmt: skip

    _many(run, of(one, t0, verify_only=True), step="verified before it is added")
    _many(run, of(one, t0), of(two, both), step="two")
    _many(run, of(one, t0, verify_only=True), of(two, both, verify_only=True), step="verified")
    _many(run, of(one, both, verify_only=True), step="one of three verified")
    _many(run, of(one, t0, verify_only=True, producer_epoch=7), step="epoch to come")
    _many(run, of(one, t0, verify_only=True, producer_epoch=-1), step="no epoch")
    _many(run, of(one, t0, verify_only=True, producer_id=one.id + 77), step="another id")
    _many(run, of(one, t0, verify_only=True, transactional_id="nobody"), step="unknown name")
    _many(run, of(one, t0, transactional_id="nobody"), of(two, t0), step="one unknown")
    _many(run, of(one, t0, verify_only=True), of(one, t0), step="one twice")
    one.end(committed=True)
    one.describe_until("CompleteCommit")
    _many(run, of(one, t0, verify_only=True), step="verified after the end")


@case(PARTITIONS, (4, 5))
def no_transactions(run: Run) -> None:
    run.coordinator(1)
    run.call(transactions=[], patience=0.5)


@case(GROUP)
def offsets_added(run: Run) -> None:
    watch(run, TRANSACTIONS)
    run.coordinator(0)
    producer = Producer(run)
    producer.init()
    producer.add_offsets(run.group())
    producer.describe()
    producer.add_offsets(run.group(), step="again")
    producer.add_offsets(run.group("other"), step="another group")
    producer.end(committed=True)
    producer.describe_until("CompleteCommit")
    written(run, TRANSACTIONS, producer.name,
            ready=lambda r: r[-1]["value"]["transaction_status"] == 4)  # fmt: skip


@case(GROUP)
def offsets_not_added(run: Run) -> None:
    run.coordinator(0)
    producer = Producer(run)
    group = run.group()
    producer.add_offsets(group, producer_id=1, producer_epoch=0, step="unknown name")
    producer.add_offsets(group, transactional_id="", step="empty name")
    producer.init()
    producer.add_offsets("", step="empty group id")
    producer.add_offsets(group, producer_id=producer.id + 77, step="another id")
    producer.add_offsets(group, producer_epoch=producer.epoch + 1, step="epoch to come")
    producer.add_offsets(group, producer_epoch=-1, step="no epoch")
    old = producer.epoch
    producer.init()
    producer.add_offsets(group, producer_epoch=old, step="old epoch")
    producer.describe()


@case(PARTITIONS)
def bytes_after_the_body(run: Run) -> None:
    run.coordinator(1)
    if run.version >= 4:
        run.extra(b"x", transactions=[{"transactional_id": run.transactional_id()}])
    else:
        run.extra(b"x", v3_and_below_transactional_id=run.transactional_id())


@case(GROUP)
def bytes_after_the_body_of_offsets(run: Run) -> None:
    run.coordinator(1)
    run.extra(b"x", transactional_id=run.transactional_id(), group_id="g")


def _malformed(run: Run) -> None:
    run.send_body(run.case.api, run.version, b"", step="no body", link="1")
    run.send_body(run.case.api, run.version, b"\x7f\xff", step="two bytes", link="2")
    run.send_body(run.case.api, run.version, b"\xff" * 20, step="twenty bytes", link="3")


@case(PARTITIONS)
def malformed(run: Run) -> None:
    _malformed(run)


@case(GROUP)
def malformed_offsets(run: Run) -> None:
    _malformed(run)
