"""The requests that the load generator sends, built once."""

import struct
import time
from typing import Any

from protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.kit.wire import batch, frame

PRODUCE_VERSION = 9
FETCH_VERSION = 12
POLL_VERSION = 11
MIB = 1 << 20
RECORD = b"x" * 100


def now_ms() -> int:
    """The wall clock for record timestamps."""
    return time.time_ns() // 1_000_000


def _produce(topic: str, records: bytes, partitions: int = 1) -> bytes:
    view = memoryview(records)
    parts = [PartitionProduceData(index=index, records=view) for index in range(partitions)]
    data = TopicProduceData(name=topic, partition_data=parts)
    return frame(ProduceRequest(acks=1, timeout_ms=10_000, topic_data=[data]), PRODUCE_VERSION)


def tiny_produce(topic: str, partitions: int = 1) -> bytes:
    """One record of 100 bytes to each of the first partitions."""
    return _produce(topic, batch([RECORD], timestamp=now_ms()), partitions)


def large_batch(size: int, record: int = 1000) -> bytes:
    """A batch of at most `size` bytes made of records of `record` bytes."""
    values = [b"v" * record] * ((size - 61) // (record + 10))
    return batch(values, timestamp=now_ms())


def large_produce(job: dict[str, Any]) -> list[bytes]:
    """One request with a batch of 1 MiB."""
    return [_produce(job["topic"], large_batch(MIB))]


def batch_size(request: bytes) -> int:
    """Bytes of records in a request made by `large_produce`: all but some 60 of framing."""
    return len(request) - 60


def fetches(job: dict[str, Any]) -> list[bytes]:
    """Fetches of about 1 MiB each that walk over the topic."""
    return [
        frame(
            FetchRequest(
                max_wait_ms=0,
                min_bytes=1,
                max_bytes=64 * MIB,
                session_epoch=-1,
                topics=[
                    FetchTopic(
                        topic=job["topic"],
                        partitions=[
                            FetchPartition(
                                partition=0,
                                fetch_offset=offset,
                                partition_max_bytes=job["bytes_each"],
                            )
                        ],
                    )
                ],
            ),
            FETCH_VERSION,
        )
        for offset in job["offsets"]
    ]


class Poll:
    """A consumer's long poll in Fetch 11, whose answer has its records at a fixed place."""

    def __init__(self, topic: str, offset: int) -> None:
        self.topic = topic
        self.offset = offset
        # length 4, correlation 4, throttle 4, error 2, session 4, topics 4, name 2 + n,
        # partitions 4, index 4, error 2, high watermark 8, last stable 8, log start 8
        self.aborted = 4 + 14 + 4 + 2 + len(topic.encode()) + 4 + 4 + 2 + 24
        self.template = frame(self._fetch(), POLL_VERSION)
        marker = struct.pack(">q", offset)
        self.place = self.template.rindex(marker + struct.pack(">q", -1))

    def _fetch(self) -> FetchRequest:
        partition = FetchPartition(partition=0, fetch_offset=self.offset, partition_max_bytes=MIB)
        return FetchRequest(
            max_wait_ms=500,
            min_bytes=1,
            max_bytes=MIB,
            session_epoch=-1,
            topics=[FetchTopic(topic=self.topic, partitions=[partition])],
        )

    def request(self) -> bytes:
        """The next request."""
        offset = struct.pack(">q", self.offset)
        return self.template[: self.place] + offset + self.template[self.place + 8 :]

    def whole(self, data: bytearray) -> bool:
        """Whether an answer is complete."""
        return len(data) >= 4 and len(data) >= 4 + struct.unpack_from(">i", data)[0]

    def take(self, data: bytearray) -> int:
        """Empty `data` of one answer; the offset after its last record."""
        (error,) = struct.unpack_from(">h", data, self.aborted - 26)
        if error:
            raise ConnectionError(f"Fetch is refused with error {error}")
        (aborted,) = struct.unpack_from(">i", data, self.aborted)
        pos = self.aborted + 4 + 16 * max(0, aborted) + 4
        (size,) = struct.unpack_from(">i", data, pos)
        pos += 4
        end = pos + max(0, size)
        while pos + 61 <= end:
            base, length = struct.unpack_from(">qi", data, pos)
            (delta,) = struct.unpack_from(">i", data, pos + 23)
            self.offset = base + delta + 1
            pos += 12 + length
        del data[: 4 + struct.unpack_from(">i", data)[0]]
        return self.offset
