"""What a socket shows of connections: order, parking, half frames, slow readers, the end."""

import logging
import socket
import struct
from collections.abc import Iterator

import pytest

from protocol.messages.api_versions import ApiVersionsRequest
from protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)
from tests.kit.threaded import ThreadedBroker
from tests.kit.wire import ConnectionClosed, Wire, batch, frame

NOW = 1_700_000_000_000
ASK = ApiVersionsRequest(client_software_name="test", client_software_version="1")


@pytest.fixture(scope="module")
def broker() -> Iterator[ThreadedBroker]:
    with ThreadedBroker({"t": 2, "slow": 1, "big": 1}) as running:
        yield running


@pytest.fixture
def wire(broker: ThreadedBroker) -> Iterator[Wire]:
    with Wire(broker.bootstrap) as client:
        yield client


def produce(topic: str, *values: bytes, partition: int = 0, acks: int = 1) -> ProduceRequest:
    records = batch(values, timestamp=NOW)
    data = PartitionProduceData(index=partition, records=records)
    return ProduceRequest(
        acks=acks,
        timeout_ms=5000,
        topic_data=[TopicProduceData(name=topic, partition_data=[data])],
    )


def fetch(topic: str, offset: int, *, wait_ms: int = 0, min_bytes: int = 1) -> FetchRequest:
    part = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
    return FetchRequest(
        max_wait_ms=wait_ms,
        min_bytes=min_bytes,
        max_bytes=1 << 24,
        topics=[FetchTopic(topic=topic, partitions=[part])],
    )


def end_of(wire: Wire, topic: str) -> int:
    answer = wire.call(fetch(topic, 0), 12)
    watermark: int = answer.responses[0].partitions[0].high_watermark
    return watermark


def test_a_frame_may_come_byte_by_byte(wire: Wire) -> None:
    for byte in frame(ASK, 3, 77):
        wire.send_bytes(bytes([byte]))
    assert wire.receive_frame()[:4] == b"\0\0\0\x4d"


def test_requests_sent_at_once_are_answered_in_order(wire: Wire) -> None:
    start = end_of(wire, "t")
    for number in range(5):
        wire.send(produce("t", b"%d" % number), 9)
    wire.send(ASK, 3)
    wire.send(fetch("t", start), 12)
    wire.send(produce("t", b"last"), 7)
    offsets = [wire.receive().responses[0].partition_responses[0].base_offset for _ in range(5)]
    assert offsets == list(range(start, start + 5))
    assert wire.receive().error_code == 0
    assert wire.receive().responses[0].partitions[0].high_watermark == start + 5
    assert wire.receive().responses[0].partition_responses[0].base_offset == start + 5


def test_an_answer_waits_for_the_long_poll_before_it(broker: ThreadedBroker, wire: Wire) -> None:
    start = end_of(wire, "t")
    wire.send(fetch("t", start, wait_ms=20_000), 12)
    wire.send(ASK, 3)
    wire.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        wire.socket.recv(1)
    wire.socket.settimeout(10)
    with Wire(broker.bootstrap) as other:
        other.call(produce("t", b"wake"), 9)
    records = wire.receive().responses[0].partitions[0].records
    assert b"wake" in bytes(records)
    assert wire.receive().error_code == 0


def test_a_long_poll_ends_by_itself(wire: Wire) -> None:
    start = end_of(wire, "t")
    answer = wire.call(fetch("t", start, wait_ms=50), 12)
    assert bytes(answer.responses[0].partitions[0].records) == b""


def test_a_client_that_goes_while_it_waits_is_forgotten(broker: ThreadedBroker) -> None:
    with Wire(broker.bootstrap) as client:
        client.send(fetch("t", end_of(client, "t"), wait_ms=60_000), 12)
    with Wire(broker.bootstrap) as other:
        while True:  # each answer is a turn of the loop, in which the end of the other is noticed
            other.call(ASK, 3)
            partition = broker.server.node.replicas.partition("t", 0)
            assert partition is not None
            if partition.waiters is None:
                break


def test_large_frames(wire: Wire) -> None:
    value = bytes(range(256)) * 3600  # 900 KiB, below message.max.bytes
    for _ in range(3):
        wire.send(produce("big", value), 9)
    for number in range(3):
        result = wire.receive().responses[0].partition_responses[0]
        assert (result.error_code, result.base_offset) == (0, number)
    records = wire.call(fetch("big", 1), 12).responses[0].partitions[0].records
    assert value in bytes(records)


def test_two_frames_in_one_segment_and_half_a_third(wire: Wire) -> None:
    start = end_of(wire, "t")
    one = frame(produce("t", b"x"), 9, 1)
    wire.send_bytes(one * 2 + one[:20])
    assert len(wire.receive_frame()) and len(wire.receive_frame())
    wire.send_bytes(one[20:])
    assert wire.receive_frame()[:4] == b"\0\0\0\x01"
    assert end_of(wire, "t") == start + 3


@pytest.mark.parametrize(
    "bad",
    [
        struct.pack(">i", -1),
        struct.pack(">i", 0),
        struct.pack(">i", 104857601),
        struct.pack(">ihhih", 10, 9999, 0, 1, -1),
        struct.pack(">ihhih", 10, 3, 99, 1, -1),
        struct.pack(">ihhih", 10, 0, 99, 1, -1),
        struct.pack(">ihh", 4, 3, 0),
        frame(produce("t", b"x"), 9)[:4] + bytes(200),
    ],
    ids=["negative", "empty", "too large", "api", "version", "produce", "short", "zeros"],
)
def test_bad_bytes_close_with_one_line_after_what_came_before(
    wire: Wire, bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    wire.send_bytes(frame(produce("t", b"x"), 9, 5) + bad)
    assert wire.receive_frame()[:4] == b"\0\0\0\x05"
    assert wire.wait_closed() == b""
    lines = [r for r in caplog.records if "closed" in r.getMessage()]
    assert len(lines) == 1 and lines[0].exc_info is None


def test_acks_0_has_no_answer_but_a_refusal_closes(wire: Wire) -> None:
    start = end_of(wire, "t")
    wire.send_bytes(frame(produce("t", b"x", acks=0), 9))
    assert end_of(wire, "t") == start + 1
    wire.send_bytes(frame(produce("nowhere", b"x", acks=0), 9))
    with pytest.raises(ConnectionClosed):
        wire.receive_frame()


def test_a_client_that_does_not_read_holds_up_nobody(broker: ThreadedBroker, wire: Wire) -> None:
    for _ in range(8):
        wire.call(produce("slow", bytes(900_000)), 9)
    request = frame(fetch("slow", 0), 12, 3)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, _, port = broker.bootstrap.rpartition(":")
    slow.connect((host, int(port)))
    with slow:
        slow.settimeout(10)
        slow.sendall(request * 20)
        for _ in range(10):
            assert wire.call(ASK, 3).error_code == 0
        got = 0
        while got < 20 * 900_000:
            part = slow.recv(1 << 20)
            assert part
            got += len(part)


def test_an_unknown_version_of_api_versions_is_answered_and_the_connection_stays(
    wire: Wire,
) -> None:
    wire.send_bytes(struct.pack(">ihhihb", 11, 18, 99, 42, -1, 0))
    assert wire.receive_frame() == struct.pack(">ihihhh", 42, 35, 1, 18, 0, 5)
    assert wire.call(ASK, 3).error_code == 0
