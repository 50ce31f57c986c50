"""InitProducerId with a transactional id: epochs, fencing, coming back (KIP-360)."""

from compat.corpus.transacting import Producer
from compat.offered import NEW
from compat.script import Run, Topic, case
from compat.stored import TRANSACTIONS, watch, written

API = "InitProducerId"
TOPICS = {"t": Topic()}


@case(API)
def transactional(run: Run) -> None:
    "Each time the epoch is one higher."
    watch(run, TRANSACTIONS)
    producer = Producer(run)
    producer.init()
    producer.init(step="again")
    producer.init(timeout=30_000, step="with another timeout")
    producer.describe()
    other = Producer(run, "other")
    other.init(step="another name")
    written(run, TRANSACTIONS, producer.name)


@case(API)
def transactional_refused(run: Run) -> None:
    producer = Producer(run)
    for timeout in (0, -1, 900_001, -(2**31), 2**31 - 1):
        producer.init(timeout=timeout, step=f"timeout {timeout}")
    producer.init(timeout=900_000, step="the longest timeout")
    producer.init(timeout=1, step="the shortest timeout")
    run.call(transactional_id="", transaction_timeout_ms=60_000, step="empty name")
    run.call(transactional_id="", transaction_timeout_ms=0, step="empty name, no timeout")
    run.call(transactional_id="x" * 300, transaction_timeout_ms=0, step="long name, no timeout")


@case(API, topics=TOPICS, alone=True)
def with_an_open_transaction(run: Run) -> None:
    "The open transaction is aborted first; its producer is fenced from then on."
    watch(run, TRANSACTIONS)
    producer = Producer(run)
    producer.init()
    producer.add(("t", 0))
    producer.produce("t", b"a")
    old_id, old_epoch = producer.id, producer.epoch
    producer.init(step="comes back")
    producer.add(("t", 0), producer_id=old_id, producer_epoch=old_epoch, step="the old one adds")
    producer.end(committed=True, producer_epoch=old_epoch, step="the old one commits")
    producer.produce("t", b"b", step="not added")
    producer.add(("t", 0), step="adds")
    producer.produce("t", b"c", base_sequence=0, step="goes on")
    producer.end(committed=True)
    producer.describe_until("CompleteCommit")
    run.everything("t")
    written(run, TRANSACTIONS, producer.name)


@case(API, (3, 5))
def coming_back_with_an_epoch(run: Run) -> None:
    "A producer that knows its id and epoch gets the next epoch, one that lost the answer too."
    watch(run, TRANSACTIONS)
    producer = Producer(run)
    producer.init()
    first_id, first = producer.id, producer.epoch
    producer.init(producer_id=first_id, producer_epoch=first, step="with its own")
    producer.init(producer_id=first_id, producer_epoch=first, step="with the one before")
    producer.init(producer_id=first_id, producer_epoch=producer.epoch, step="with its own again")
    producer.init(producer_id=first_id, producer_epoch=first, step="with an old one")
    producer.init(producer_id=first_id, producer_epoch=producer.epoch + 1, step="one to come")
    producer.init(producer_id=first_id + 7_777, producer_epoch=0, step="another id")
    producer.init(producer_id=first_id, producer_epoch=-1, step="id alone")
    producer.init(producer_id=-1, producer_epoch=0, step="epoch alone")
    producer.init(producer_id=-2, producer_epoch=-2, step="negative both")
    producer.init(step="without")
    producer.describe()
    written(run, TRANSACTIONS, producer.name)


@case(API, (3, 5))
def unknown_name_with_an_epoch(run: Run) -> None:
    producer = Producer(run)
    producer.init(producer_id=5_555, producer_epoch=3)
    producer.init(producer_id=5_555, producer_epoch=32_766, step="near the end of the epochs")


@case(API, (3, 5), topics=TOPICS)
def epochs_that_run_out(run: Run) -> None:
    "After 32766 comes a new id."
    producer = Producer(run)
    producer.init()
    producer.init(producer_id=producer.id, producer_epoch=32_766, step="not yet known")
    other = Producer(run, "other")
    other.init(producer_id=4_444, producer_epoch=32_765, step="the last but one")
    other.init(producer_id=other.id, producer_epoch=other.epoch, step="the next")


@case(API, topics=TOPICS)
def transaction_that_times_out(run: Run) -> None:
    "It is aborted and its producer fenced; a new one goes on."
    watch(run, TRANSACTIONS)
    producer = Producer(run)
    producer.init(timeout=300)
    producer.add(("t", 0))
    producer.produce("t", b"late")
    producer.describe_until("CompleteAbort")
    producer.end(committed=True, step="commits too late")
    producer.add(("t", 0), step="adds too late")
    producer.produce("t", b"later", step="produces too late")
    producer.init(step="comes back")
    producer.add(("t", 0), step="adds")
    producer.produce("t", b"in time", base_sequence=0, step="produces")
    producer.end(committed=True, step="commits")
    producer.describe_until("CompleteCommit")
    run.everything("t")
    written(run, TRANSACTIONS, producer.name)


@case(API, (3, 5), topics=TOPICS, judge=NEW, alone=True)
def with_an_open_transaction_at_2(run: Run) -> None:
    "As above, where transactions 2 are finalized."
    with_an_open_transaction(run)


@case(API, (3, 5), judge=NEW)
def coming_back_with_an_epoch_at_2(run: Run) -> None:
    coming_back_with_an_epoch(run)


@case(API, (3, 5), topics=TOPICS, judge=NEW)
def transaction_that_times_out_at_2(run: Run) -> None:
    transaction_that_times_out(run)


@case(API, (3, 5), topics=TOPICS, judge=NEW)
def coming_back_after_a_time_out_at_2(run: Run) -> None:
    coming_back_after_a_time_out(run)


@case(API, (3, 5), topics=TOPICS)
def coming_back_after_a_time_out(run: Run) -> None:
    "Whoever was fenced by a time-out comes back without its epoch only."
    producer = Producer(run)
    producer.init(timeout=300)
    producer.add(("t", 0))
    producer.describe_until("CompleteAbort")
    producer.init(producer_id=producer.id, producer_epoch=producer.epoch, step="with its own")
    producer.add(("t", 0), step="adds")
    producer.end(committed=True)
