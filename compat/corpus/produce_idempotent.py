"""Produce with a producer id: sequences, duplicates, epochs; transactional batches out of place."""

from compat.batches import CONTROL, GZIP, START_MS, TRANSACTIONAL, batch
from compat.script import Run, Topic, case

API = "Produce"
V2 = (3, 13)


def _producer(run: Run) -> int:
    answer = run.ask("InitProducerId", 1, transactional_id=None, step="producer id")
    return int(answer.producer_id)


@case(API, V2, topics={"t": Topic()})
def sequences(run: Run) -> None:
    pid = _producer(run)

    def send(step: str, sequence: int, *values: bytes, **more: int) -> None:
        data = batch(*values, producer_id=pid, producer_epoch=0, base_sequence=sequence, **more)
        run.produce("t", data, acks=-1, step=step)

    send("0, three records", 0, b"a", b"b", b"c")
    send("3", 3, b"d")
    send("3 again", 3, b"d")
    send("0 again", 0, b"a", b"b", b"c")
    send("0 with two records", 0, b"a", b"b")
    send("3 with other content", 3, b"other")
    send("gap", 6, b"g")
    send("4", 4, b"e")
    send("-1", -1, b"x")
    send("5 with timestamp 0", 5, b"f", base_timestamp=0)
    send("5 again with timestamp now", 5, b"f", base_timestamp=START_MS + 9)
    run.everything("t")
    wanted = [{"name": run.name("t"), "partition_indexes": [0]}]
    run.ask("DescribeProducers", 0, topics=wanted)


@case(API, V2, topics={"t": Topic()})
def duplicates_remembered(run: Run) -> None:
    "The last five batches of a producer are known again, older ones are out of order."
    pid = _producer(run)
    for sequence in (*range(7), *range(7)):
        data = batch(b"%d" % sequence, producer_id=pid, producer_epoch=0, base_sequence=sequence)
        run.produce("t", data, acks=-1)
    run.everything("t")


@case(API, V2, topics={"t": Topic(2)})
def first_sequence(run: Run) -> None:
    "A producer that is new to a partition may begin anywhere."
    pid = _producer(run)
    for partition, sequence in ((0, 7), (0, 8), (1, 2**31 - 1), (1, 0)):
        data = batch(b"a", producer_id=pid, producer_epoch=0, base_sequence=sequence)
        run.produce("t", data, partition=partition, step=f"{sequence} to {partition}")
    unheard = batch(b"a", producer_id=987654321, producer_epoch=0, base_sequence=0)
    run.produce("t", unheard, step="a producer id that nobody gave")


@case(API, V2, topics={"t": Topic(2)})
def sequence_wraps(run: Run) -> None:
    pid = _producer(run)
    last = 2**31 - 1
    for sequence, values in ((last - 1, 1), (last, 2), (1, 1), (last, 2)):
        data = batch(*[b"a"] * values, producer_id=pid, producer_epoch=0, base_sequence=sequence)
        run.produce("t", data, step=f"{values} from {sequence}")
    run.everything("t")


@case(API, V2, topics={"t": Topic()})
def epochs(run: Run) -> None:
    pid = _producer(run)
    for epoch, sequence in (
        (3, 0),
        (3, 1),
        (2, 2),
        (4, 5),
        (4, 0),
        (5, 0),
        (3, 2),
        (32767, 0),
        (-1, 0),
    ):
        data = batch(b"a", producer_id=pid, producer_epoch=epoch, base_sequence=sequence)
        run.produce("t", data, step=f"epoch {epoch}, sequence {sequence}")
    run.everything("t")


@case(API, V2, topics={"t": Topic()})
def half_a_producer(run: Run) -> None:
    pid = _producer(run)
    for name, fields in (
        ("no epoch", {"producer_id": pid, "base_sequence": 0}),
        ("no sequence", {"producer_id": pid, "producer_epoch": 0}),
        ("no id", {"producer_epoch": 0, "base_sequence": 0}),
        ("id -2", {"producer_id": -2, "producer_epoch": 0, "base_sequence": 0}),
        ("sequence -2", {"producer_id": pid, "producer_epoch": 0, "base_sequence": -2}),
    ):
        run.produce("t", batch(b"a", **fields), step=name)
    run.everything("t")


@case(API, V2, topics={"t": Topic()})
def with_compression(run: Run) -> None:
    pid = _producer(run)
    for sequence in (0, 2, 2, 4):
        fields = {"producer_id": pid, "producer_epoch": 0, "base_sequence": sequence}
        run.produce("t", batch(b"a" * 50, b"b", codec=GZIP, **fields), step=f"sequence {sequence}")
    run.everything("t")


@case(API, V2, topics={"t": Topic(), "gzip": Topic(configs={"compression.type": "gzip"})})
def without_an_epoch(run: Run) -> None:
    fields = {"producer_id": _producer(run), "producer_epoch": -1, "base_sequence": 0}
    run.produce("t", batch(b"a", **fields), step="as it is")
    run.produce("gzip", batch(b"a", **fields), step="compressed anew")


APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}


@case(API, V2, topics={"t": Topic(configs=APPEND_TIME)})
def duplicate_with_append_time(run: Run) -> None:
    pid = _producer(run)
    for step in ("first", "again"):
        data = batch(b"a", producer_id=pid, producer_epoch=0, base_sequence=0)
        run.produce("t", data, acks=-1, step=step)


@case(API, V2, topics={"t": Topic()})
def control_by_a_producer(run: Run) -> None:
    pid = _producer(run)
    fields = {"producer_id": pid, "producer_epoch": 0, "base_sequence": 0}
    run.produce("t", batch(b"a", attributes=CONTROL, **fields), step="control")
    bits = CONTROL | TRANSACTIONAL
    run.produce("t", batch(b"a", attributes=bits, **fields), step="control, transactional")
    run.everything("t")


@case(API, V2, topics={"t": Topic()})
def duplicate_after_deletion_of_records(run: Run) -> None:
    "A duplicate is known even when its records were deleted."
    pid = _producer(run)
    data = batch(b"a", producer_id=pid, producer_epoch=0, base_sequence=0)
    run.produce("t", data, acks=-1, step="first")
    partition = {"partition_index": 0, "offset": 1}
    topic = {"name": run.name("t"), "partitions": [partition]}
    run.ask("DeleteRecords", 1, topics=[topic], timeout_ms=5000)
    run.produce("t", data, acks=-1, step="again")
    run.everything("t")
