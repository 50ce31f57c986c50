"""Produce: requests as a whole, topics, partitions, acks."""

import struct

from compat.batches import batch
from compat.script import Run, Topic, case

API = "Produce"


def _topic(run: Run, alias: str, *partitions: tuple[int, bytes | None]) -> dict[str, object]:
    data = [{"index": index, "records": records} for index, records in partitions]
    return {"name": run.name(alias), "topic_id": run.topic_id(alias), "partition_data": data}


def _unknown(run: Run, records: bytes, index: int = 0) -> dict[str, object]:
    data = [{"index": index, "records": records}]
    return {"name": run.fresh("never"), "topic_id": run.other_id(), "partition_data": data}


@case(API, topics={"t": Topic(2)})
def accepted(run: Run) -> None:
    for acks in (1, -1):
        run.produce("t", batch(b"a", b"b"), acks=acks, step=f"acks {acks}")
    run.produce("t", batch(b"c"), partition=1, step="other partition")
    run.produce("t", batch(b"d"), acks=0, step="acks 0")
    run.everything("t")
    run.everything("t", 1)


@case(API, topics={"t": Topic(3)})
def several_partitions(run: Run) -> None:
    "Partitions fail one by one; the others are written."
    one, bad = batch(b"a"), bytearray(batch(b"b"))
    bad[-1] ^= 1
    call = {"acks": 1, "timeout_ms": 5000}
    topics = [_topic(run, "t", (0, one), (7, one), (1, bytes(bad)), (2, one)), _unknown(run, one)]
    run.call(**call, topic_data=topics, step="mixed")
    run.call(
        **call, topic_data=[_unknown(run, one), _topic(run, "t", (0, one))], step="other order"
    )
    for partition in range(3):
        run.everything("t", partition)


@case(API, (0, 6), topics={"t": Topic(2)})
def unreadable_beside_others(run: Run) -> None:
    "A batch whose header cannot be made sense of, and another partition."
    call = {"acks": 1, "timeout_ms": 5000}
    one, codec, short = batch(b"a"), batch(b"a", attributes=7), batch(b"a", length=32)
    bad = codec if run.version >= 3 else short
    run.call(**call, topic_data=[_topic(run, "t", (0, one), (1, bad))], step="the second")
    run.call(**call, topic_data=[_topic(run, "t", (0, bad), (1, one))], step="the first")
    run.call(**call, topic_data=[_topic(run, "t", (0, bad)), _unknown(run, one)], step="unknown")


@case(API, topics={"t": Topic(2)})
def the_same_twice(run: Run) -> None:
    one = batch(b"a")
    call = {"acks": 1, "timeout_ms": 5000}
    run.call(**call, topic_data=[_topic(run, "t", (0, one), (0, one))], step="partition twice")
    topics = [_topic(run, "t", (0, one)), _topic(run, "t", (1, one))]
    run.call(**call, topic_data=topics, step="topic twice")
    topics = [_topic(run, "t", (0, one)), _topic(run, "t", (0, batch(b"b")))]
    run.call(**call, topic_data=topics, step="topic and partition twice")
    for first, second in ((one, b""), (b"", one), (b"x" * 80, one), (batch(b"a", crc=1), one)):
        topics = [_topic(run, "t", (0, first), (0, second), (1, one))]
        run.call(**call, topic_data=topics, step=f"{len(first)} and {len(second)} bytes")
    run.everything("t")


@case(API, topics={"t": Topic()})
def nothing_in_it(run: Run) -> None:
    run.call(acks=1, timeout_ms=5000, topic_data=[], step="no topics")
    run.call(acks=1, timeout_ms=5000, topic_data=[_topic(run, "t")], step="no partitions")
    run.call(acks=0, timeout_ms=5000, topic_data=[], answered=False, step="no topics, acks 0")
    run.produce("t", b"", step="empty records")
    run.everything("t")


@case(API, topics={"t": Topic()})
def unknown_places(run: Run) -> None:
    call = {"acks": 1, "timeout_ms": 5000}
    run.call(**call, topic_data=[_unknown(run, batch(b"a"))], step="topic")
    run.produce("t", batch(b"a"), partition=1, step="partition")
    run.produce("t", batch(b"a"), partition=-1, step="partition -1")
    run.produce("t", batch(b"a"), partition=2**31 - 1, step="partition 2147483647")
    if run.version == 13:
        data = [{"index": 0, "records": batch(b"a")}]
        topic = {"topic_id": bytes(16), "partition_data": data}
        run.call(**call, topic_data=[topic], step="zero id")
    else:
        for number, name in enumerate(("", "a b", "..", "x" * 250)):
            data = [{"index": 0, "records": batch(b"a")}]
            topic = {"name": name, "partition_data": data}
            run.call(**call, topic_data=[topic], step=f"invalid name {number}")


@case(API, topics={"t": Topic()})
def other_acks(run: Run) -> None:
    for acks in (2, 5, -2, 32767, -32768):
        run.produce("t", batch(b"a"), acks=acks, step=f"acks {acks}")
    topics = [_unknown(run, batch(b"a"))]
    run.call(acks=5, timeout_ms=1000, topic_data=topics, step="acks 5, unknown topic")
    topics = [_topic(run, "t", (0, batch(b"a")), (9, batch(b"a")))]
    run.call(acks=5, timeout_ms=1000, topic_data=topics, step="acks 5, unknown partition")
    run.produce("t", b"nonsense", acks=5, step="acks 5, bad records")
    run.everything("t")


@case(API, topics={"t": Topic()})
def acks_0_refused(run: Run) -> None:
    "Nobody waits for an answer: the connection is closed instead."
    call = {"acks": 0, "timeout_ms": 5000, "answered": False}
    run.call(**call, topic_data=[_unknown(run, batch(b"a"))], step="unknown topic")
    run.produce("t", batch(b"a", crc=1), acks=0, step="bad crc")
    run.produce("t", batch(b"a"), partition=5, acks=0, step="unknown partition")
    both = [_topic(run, "t", (0, batch(b"a")), (4, batch(b"b")))]
    run.call(**call, topic_data=both, step="one of two")
    run.produce("t", batch(b"c"), acks=0, step="right")
    run.everything("t")


@case(API, topics={"t": Topic()})
def timeouts(run: Run) -> None:
    for timeout in (0, -1, 1, 2**31 - 1):
        topics = [_topic(run, "t", (0, batch(b"a")))]
        run.call(acks=-1, timeout_ms=timeout, topic_data=topics, step=f"timeout {timeout}")


@case(API, topics={"t": Topic(configs={"min.insync.replicas": "2"})})
def fewer_replicas_than_wanted(run: Run) -> None:
    "min.insync.replicas is capped by the number of replicas."
    run.produce("t", batch(b"a"), acks=-1, step="acks all")
    run.produce("t", batch(b"a"), acks=1, step="acks 1")


@case(API, topics={"t": Topic(configs={"max.message.bytes": "200"})})
def too_large(run: Run) -> None:
    run.produce("t", batch(b"x" * 100), step="fits")
    size = len(batch(b"x" * 100))
    for extra in (200 - size - 1, 200 - size, 200 - size + 1, 5000):
        run.produce("t", batch(b"x" * (100 + extra)), step=f"{size + extra} bytes or so")
    run.everything("t")


@case(API, (3, 13), topics={"t": Topic()})
def transactional_id(run: Run) -> None:
    "A transactional id alone changes nothing for a batch that is none."
    run.produce("t", batch(b"a"), transactional_id="compat-tx", acks=-1, step="with an id")
    run.produce("t", batch(b"a"), transactional_id="", acks=-1, step="with an empty id")
    run.produce("t", batch(b"a"), transactional_id="compat-tx", acks=1, step="acks 1")


@case(API, (9, 13), topics={"t": Topic()})
def null_records(run: Run) -> None:
    topics = [_topic(run, "t", (0, None))]
    run.call(acks=1, timeout_ms=1000, topic_data=topics, patience=1.0, step="null")


@case(API, (3, 13), topics={"t": Topic()})
def transactional_without_producer(run: Run) -> None:
    data = batch(b"a", attributes=0x10)
    run.produce("t", data, transactional_id="compat-tx", acks=-1, step="with an id")
    run.produce("t", data, acks=-1, step="without")
    run.everything("t")


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\0\1", step="two bytes", link="2")
    head = b"" if run.version < 3 else b"\0" if run.version >= 9 else struct.pack(">h", -1)
    head += struct.pack(">hi", 1, 1000)
    one = b"\x02" if run.version >= 9 else struct.pack(">i", 1)
    run.send_body(API, run.version, head + one, step="one topic and nothing", link="3")
    many = b"\xff\xff\xff\x7f" if run.version >= 9 else struct.pack(">i", 1 << 28)
    run.send_body(API, run.version, head + many, step="many topics and nothing", link="4")


@case(API, topics={"t": Topic()})
def bytes_after_the_body(run: Run) -> None:
    run.extra(b"1234", acks=1, timeout_ms=1000, topic_data=[_topic(run, "t", (0, batch(b"a")))])


@case(API, topics={"t": Topic()})
def after_deletion(run: Run) -> None:
    run.produce("t", batch(b"a"), step="before")
    run.ask("DeleteTopics", 3, topic_names=[run.name("t")], timeout_ms=10_000)
    run.gone("t")
    run.produce("t", batch(b"a"), step="after")
