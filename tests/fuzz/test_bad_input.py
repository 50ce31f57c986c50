"""Bad input one kind at a time: Kafka's error or a closed connection, and nobody else notices."""

import itertools
import random
import resource
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from protocol.compression import GZIP, compress
from protocol.crc import crc32c
from protocol.messages.api_versions import ApiVersionsRequest
from protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.fuzz.probe import Probe
from tests.kit.server import Server
from tests.kit.wire import ConnectionClosed, Wire, batch, frame

LIMIT = 104_857_600
MIB = 1 << 20
IDLE = 5000
CORRUPT, TOO_LARGE, INVALID_TOPIC, INVALID_TIMESTAMP, INVALID_RECORD = 2, 10, 17, 32, 87
UNSUPPORTED_VERSION = 35

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def probe(bootstrap: str) -> Iterator[Probe]:
    """Another client, during every test here."""
    with Probe(bootstrap) as other:
        yield other


@pytest.fixture
def wire(bootstrap: str) -> Iterator[Wire]:
    with Wire(bootstrap) as connection:
        yield connection


@pytest.fixture
def topic(bootstrap: str) -> Iterator[str]:
    """A topic with limits on size and time."""
    name = f"bad-{time.time_ns()}-{next(_numbers)}"
    configs = {
        "max.message.bytes": "100000",
        "message.timestamp.before.max.ms": "3600000",
        "message.timestamp.after.max.ms": "3600000",
    }
    create(bootstrap, name, configs)
    yield name


def create(bootstrap: str, name: str, configs: dict[str, str]) -> None:
    entries = [CreatableTopicConfig(name=key, value=value) for key, value in configs.items()]
    new = CreatableTopic(name=name, num_partitions=1, replication_factor=1, configs=entries)
    with Wire(bootstrap) as connection:
        answer = connection.call(CreateTopicsRequest(topics=[new], timeout_ms=9000), 5)
    assert [t.error_code for t in answer.topics] == [0], answer


def now() -> int:
    return time.time_ns() // 1_000_000


def alive(wire: Wire) -> None:
    """The connection still serves."""
    assert wire.call(ApiVersionsRequest(), 0).error_code == 0


def produce(wire: Wire, topic: str, records: bytes, version: int = 8) -> Any:
    part = PartitionProduceData(index=0, records=memoryview(records))
    data = TopicProduceData(name=topic, partition_data=[part])
    answer = wire.call(ProduceRequest(acks=1, timeout_ms=5000, topic_data=[data]), version)
    return answer.responses[0].partition_responses[0]


def end_offset(wire: Wire, topic: str) -> int:
    asked = ListOffsetsTopic(
        name=topic, partitions=[ListOffsetsPartition(partition_index=0, timestamp=-1)]
    )
    (partition,) = wire.call(ListOffsetsRequest(topics=[asked]), 5).topics[0].partitions
    assert partition.error_code == 0, partition
    return int(partition.offset)


def header(key: int, version: int) -> bytes:
    return struct.pack(">hhih", key, version, 1, -1)


def framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


CLOSING = {
    "unknown api": framed(header(999, 0)),
    "negative api": framed(header(-7, 0)),
    "unknown version of Metadata": framed(header(3, 99) + bytes(20)),
    "negative version of Fetch": framed(header(1, -1) + bytes(20)),
    "negative length": struct.pack(">i", -1) + bytes(20),
    "lowest length": struct.pack(">i", -(1 << 31)),
    "length over the limit": struct.pack(">i", LIMIT + 1),
    "highest length": struct.pack(">i", 0x7FFFFFFF) + bytes(100),
    "empty frame": struct.pack(">i", 0),
    "half a header": framed(header(3, 1)[:5]),
    "client id beyond the frame": framed(struct.pack(">hhih", 3, 1, 1, 1000)),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls hello": bytes.fromhex("160301020001000001fc0303") + bytes(200),
    "body cut off": framed(header(0, 3) + struct.pack(">hh", -1, 1)),
    "array of 2 billion topics": framed(header(3, 1) + struct.pack(">i", 0x7FFFFFFF)),
    "compact array of 4 billion": framed(
        header(3, 9) + b"\x00" + b"\xff\xff\xff\xff\x0f" + b"\x00"
    ),
    "negative array in Produce": framed(header(0, 3) + struct.pack(">hhii", -1, 1, 9, -5)),
    "huge records length": framed(
        header(0, 3) + struct.pack(">hhiih1sii", -1, 1, 9, 1, 1, b"t", 1, 0) + b"\x7f\xff\xff\xff"
    ),
    "varint without end": framed(header(3, 9) + b"\x00" + b"\xff" * 12),
    "a million tagged fields": framed(header(3, 9) + b"\xc0\x84\x3d" + b"\x00\x00" * 40),
}


@pytest.mark.parametrize("name", CLOSING)
def test_closes_the_connection(bootstrap: str, wire: Wire, name: str) -> None:
    try:
        wire.send_bytes(CLOSING[name])
    except ConnectionClosed:
        pass
    assert wire.wait_closed() == b""
    with Wire(bootstrap) as next_one:
        alive(next_one)


def test_whole_requests_before_a_bad_one_are_answered(wire: Wire) -> None:
    good = frame(ApiVersionsRequest(), 0, 5)
    try:
        wire.send_bytes(good + good + CLOSING["unknown api"])
    except ConnectionClosed:
        pass
    assert wire.receive_frame()[:4] == struct.pack(">i", 5)
    assert wire.receive_frame()[:4] == struct.pack(">i", 5)
    assert wire.wait_closed() == b""


@pytest.mark.parametrize("version", [6, 99, 32767, -1])
def test_api_versions_of_an_unknown_version(wire: Wire, version: int) -> None:
    wire.send_bytes(framed(header(18, version) + b"\x00anything"))
    answer = wire.receive_frame()
    assert len(answer) == 16
    assert struct.unpack_from(">ihihh", answer) == (1, UNSUPPORTED_VERSION, 1, 18, 0)
    alive(wire)


@pytest.mark.parametrize("version", [1, 4, 9, 12])
def test_bytes_after_the_body_are_ignored(wire: Wire, version: int) -> None:
    whole = frame(MetadataRequest(topics=[]), version, 7)
    wire.send_bytes(framed(whole[4:] + b"\x01\x02\x03"))
    assert wire.receive_frame()[:4] == struct.pack(">i", 7)
    alive(wire)


def test_invalid_utf_8(wire: Wire) -> None:
    """Refused as a topic name, or the connection closes; never created, never an odd answer."""
    wire.send_bytes(framed(header(3, 1) + struct.pack(">ih3s", 1, 3, b"\xff\xfe\x80")))
    try:
        answer = wire.receive_frame()
    except ConnectionClosed:
        return
    assert struct.pack(">h", INVALID_TOPIC) in answer
    alive(wire)


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "x" * 250, "é", "a\x00b"])
def test_invalid_topic_names(wire: Wire, name: str) -> None:
    new = CreatableTopic(name=name, num_partitions=1, replication_factor=1)
    created = wire.call(CreateTopicsRequest(topics=[new], timeout_ms=5000), 5).topics[0]
    assert created.error_code == INVALID_TOPIC
    asked = MetadataRequest(topics=[MetadataRequestTopic(name=name)])
    assert wire.call(asked, 9).topics[0].error_code == INVALID_TOPIC


def sealed(data: bytearray) -> bytes:
    """The batch with a checksum that fits again."""
    struct.pack_into(">I", data, 17, crc32c(memoryview(data)[21:]))
    return bytes(data)


def with_number(offset: int, kind: str, value: int) -> Callable[[bytearray], bytes]:
    def change(data: bytearray) -> bytes:
        struct.pack_into(kind, data, offset, value)
        return sealed(data)

    return change


def flipped(position: int) -> Callable[[bytearray], bytes]:
    def change(data: bytearray) -> bytes:
        data[position] ^= 0x40
        return bytes(data)

    return change


# offsets in a batch: length 8, magic 16, crc 17, attributes 21, last offset delta 23, base
# timestamp
# 27, maximum 35, count 57
DAMAGE: dict[str, tuple[Callable[[bytearray], bytes], set[int]]] = {
    "a flipped bit in the records": (flipped(-3), {CORRUPT}),
    "a flipped bit in the header": (flipped(30), {CORRUPT}),
    "a flipped bit in the checksum": (flipped(18), {CORRUPT}),
    "last offset delta too high": (with_number(23, ">i", 7), {INVALID_RECORD}),
    "last offset delta too low": (with_number(23, ">i", 0), {INVALID_RECORD}),
    "last offset delta negative": (with_number(23, ">i", -1), {INVALID_RECORD}),
    "count too high": (with_number(57, ">i", 1_000_000), {INVALID_RECORD}),
    "count zero": (with_number(57, ">i", 0), {INVALID_RECORD}),
    "count negative": (with_number(57, ">i", -2), {INVALID_RECORD}),
    "base offset not zero": (with_number(0, ">q", 9), {INVALID_RECORD}),
    "magic 9": (with_number(16, ">b", 9), {CORRUPT}),
    "length too low": (with_number(8, ">i", 3), {CORRUPT}),
    "length negative": (with_number(8, ">i", -5), {CORRUPT}),
    "length beyond the records": (with_number(8, ">i", 5000), {INVALID_RECORD}),
    "control batch": (with_number(21, ">h", 0x20), {INVALID_RECORD}),
    "unknown codec": (with_number(21, ">h", 7), {-1}),
    "cut off in the middle": (lambda data: bytes(data[:70]), {INVALID_RECORD}),
    "only a few bytes": (lambda data: bytes(data[:9]), {INVALID_RECORD}),
    "no records": (lambda data: b"", {INVALID_RECORD}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_batches(wire: Wire, topic: str, name: str) -> None:
    change, allowed = DAMAGE[name]
    good = batch([b"one", b"two", b"three"], timestamp=now())
    assert produce(wire, topic, good).error_code == 0
    refused = produce(wire, topic, change(bytearray(good)))
    assert refused.error_code in allowed, refused
    assert end_offset(wire, topic) == 3
    after = produce(wire, topic, good)
    assert (after.error_code, after.base_offset) == (0, 3)


@pytest.mark.parametrize("codec", ["none", "gzip"])
@pytest.mark.parametrize("wrong", ["delta", "length", "missing", "rubbish"])
def test_damaged_records(wire: Wire, topic: str, codec: str, wrong: str) -> None:
    """A batch whose header and checksum are right around wrong records.

    Kafka looks at every record and refuses; a broker that passes uncompressed records on unread
    (their batch being sound) may take it, and must then serve exactly these bytes.
    """
    good = batch([b"one", b"two", b"three"], timestamp=now())
    body = bytearray(good[61:])
    if wrong == "delta":
        body[3] = 40
    elif wrong == "length":
        body[0] = 0x7E
    elif wrong == "missing":
        del body[-9:]
    else:
        body[:] = random.Random(4).randbytes(len(body))
    packed = compress(GZIP, bytes(body)) if codec == "gzip" else bytes(body)
    data = bytearray(good[:61] + packed)
    struct.pack_into(">h", data, 21, 1 if codec == "gzip" else 0)
    struct.pack_into(">i", data, 8, len(data) - 12)
    answer = produce(wire, topic, sealed(data))
    assert answer.error_code in {-1, 0, CORRUPT, INVALID_RECORD}, answer
    assert end_offset(wire, topic) == (3 if answer.error_code == 0 else 0)
    alive(wire)


def test_oversize_records(wire: Wire, topic: str) -> None:
    large = batch([bytes(200_000)], timestamp=now())
    assert produce(wire, topic, large).error_code == TOO_LARGE
    packed = compress(GZIP, large[61:])
    small = bytearray(large[:61] + packed)
    struct.pack_into(">h", small, 21, 1)
    struct.pack_into(">i", small, 8, len(small) - 12)
    assert produce(wire, topic, sealed(small)).error_code == 0
    assert end_offset(wire, topic) == 1


@pytest.mark.parametrize("distance", [-7_200_000, 7_200_000, -(10**15), 10**15])
def test_timestamps_out_of_range(wire: Wire, topic: str, distance: int) -> None:
    answer = produce(wire, topic, batch([b"v"], timestamp=now() + distance))
    assert answer.error_code == INVALID_TIMESTAMP
    assert end_offset(wire, topic) == 0


def test_frames_byte_by_byte(wire: Wire) -> None:
    for byte in frame(MetadataRequest(topics=[]), 9, 3):
        wire.send_bytes(bytes([byte]))
    assert wire.receive_frame()[:4] == struct.pack(">i", 3)


def test_half_sent_frames_are_held_open(bootstrap: str, server: Server | None) -> None:
    """Each announces 100 MB and sends little of it: no memory is set aside for the rest."""
    before = server.rss_bytes() if server else 0
    held = [Wire(bootstrap) for _ in range(60)]
    try:
        for number, connection in enumerate(held):
            connection.send_bytes(struct.pack(">i", LIMIT) + bytes(number * 40))
        with Wire(bootstrap) as other:
            for _ in range(50):
                alive(other)
        if server:
            assert server.rss_bytes() - before < 250e6
    finally:
        for connection in held:
            connection.close()


def test_a_client_that_stops_reading(
    bootstrap: str, server: Server | None, wire: Wire, topic: str
) -> None:
    """Five connections ask for 2 GB in all and read nothing; closing them is the end of it."""
    name = f"{topic}-large"
    create(bootstrap, name, {"max.message.bytes": "2000000"})
    for _ in range(8):
        large = batch([bytes(MIB)], timestamp=now())
        assert produce(wire, name, large).error_code == 0
    part = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=50 * MIB)
    fetch = FetchRequest(
        max_wait_ms=0,
        min_bytes=1,
        max_bytes=50 * MIB,
        session_epoch=-1,
        topics=[FetchTopic(topic=name, partitions=[part])],
    )
    before = server.rss_bytes() if server else 0
    stalled = [Wire(bootstrap) for _ in range(5)]
    try:
        for connection in stalled:
            connection.send_bytes(frame(fetch, 11) * 50)
        for _ in range(100):
            alive(wire)
        assert produce(wire, topic, batch([b"v"], timestamp=now())).error_code == 0
        if server:
            assert server.rss_bytes() - before < 100e6
        # what it does read is right
        answer = stalled[0].receive_frame()
        assert len(answer) > 8 * MIB
    finally:
        for connection in stalled:
            connection.close()
    alive(wire)


def test_small_answers_that_nobody_reads(bootstrap: str, server: Server | None) -> None:
    """A client that only ever sends is not read from without end."""
    before = server.rss_bytes() if server else 0
    request = frame(MetadataRequest(topics=None), 9) * 500
    with Wire(bootstrap, timeout=0.5) as connection:
        sent = 0
        try:
            while sent < 60_000_000:
                sent += connection.socket.send(request)
        except TimeoutError:
            pass
        if server:
            assert server.rss_bytes() - before < 100e6
        with Wire(bootstrap) as other:
            alive(other)


def test_5000_idle_connections(bootstrap: str, server: Server | None) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < IDLE + 200:
        pytest.skip(f"only {hard} open files are allowed here, {IDLE + 200} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + 200), hard))
    before = server.rss_bytes() if server else 0
    idle: list[Wire] = []
    try:
        idle.extend(Wire(bootstrap) for _ in range(IDLE))
        for connection in idle[::97]:
            alive(connection)
        if server:
            assert server.rss_bytes() - before < 100e6
        with Wire(bootstrap) as other:
            for _ in range(100):
                alive(other)
        for connection in idle[1::97]:
            alive(connection)
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with Wire(bootstrap) as other:
        alive(other)


def test_connections_that_come_and_go(bootstrap: str, server: Server | None) -> None:
    before = server.rss_bytes() if server else 0
    for number in range(2000):
        connection = Wire(bootstrap)
        if number % 3 == 0:
            connection.send_bytes(b"\x00\x00")
        elif number % 3 == 1:
            connection.send_bytes(frame(ApiVersionsRequest(), 0))
        connection.close()
    with Wire(bootstrap) as other:
        alive(other)
    if server:
        assert server.rss_bytes() - before < 20e6
