"""A producer with a transactional id, on a real socket, one request at a time."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from protocol.batch import batches
from protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
)
from protocol.messages.describe_transactions import DescribeTransactionsRequest
from protocol.messages.end_txn import EndTxnRequest
from protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from protocol.messages.find_coordinator import FindCoordinatorRequest
from protocol.messages.init_producer_id import InitProducerIdRequest
from protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from protocol.record import records_of
from tests.kit.wire import Wire, batch

NOW = 1_700_000_000_000
TRANSACTIONAL = 0x10
IDS_SINCE = 13
LIMIT = 1 << 20


class Row(NamedTuple):
    """A partition's part of a Produce answer."""

    error: int
    offset: int = -1
    log_start: int = -1
    message: str | None = None


class Producer:
    """Sequences are counted for each partition, and begin again with each epoch."""

    def __init__(self, bootstrap: str, tid: str, *, timeout: int = 60_000) -> None:
        self.wire = Wire(bootstrap)
        self.tid = tid
        self.timeout = timeout
        self.producer_id, self.epoch = -1, -1
        self.sequences: dict[tuple[str, int], int] = {}
        self._topic_ids: dict[str, bytes] = {}
        while self._find() != 0 or self._look() in (14, 16):
            pass

    def __enter__(self) -> "Producer":
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.close()

    def _find(self) -> int:
        request = FindCoordinatorRequest(key=self.tid, key_type=1)
        return int(self.wire.call(request, 1).error_code)

    def _look(self) -> int:
        """What the coordinator says: not yet that it is loading, or that it is none."""
        answer = self.wire.call(DescribeTransactionsRequest([self.tid]), 0)
        return int(answer.transaction_states[0].error_code)

    @property
    def me(self) -> tuple[int, int]:
        return self.producer_id, self.epoch

    def become(self, producer_id: int, epoch: int) -> None:
        """Go on with that id and epoch."""
        if (producer_id, epoch) != self.me:
            self.sequences.clear()
        self.producer_id, self.epoch = producer_id, epoch

    def init(self, version: int = 5, *, expected: tuple[int, int] = (-1, -1)) -> int:
        """InitProducerId; the code."""
        request = InitProducerIdRequest(self.tid, self.timeout)
        if version >= 3:
            request.producer_id, request.producer_epoch = expected
        answer = self.wire.call(request, version)
        if not answer.error_code:
            self.become(answer.producer_id, answer.producer_epoch)
        return int(answer.error_code)

    def begin(self) -> "Producer":
        """InitProducerId until the transaction of whoever was before has ended."""
        while (code := self.init()) == 51:
            pass
        assert code == 0
        return self

    def add(self, partitions: Mapping[str, Sequence[int]], version: int = 3) -> set[int]:
        """AddPartitionsToTxn; the codes."""
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self.tid,
            v3_and_below_producer_id=self.producer_id,
            v3_and_below_producer_epoch=self.epoch,
            v3_and_below_topics=[
                AddPartitionsToTxnTopic(name, list(rows)) for name, rows in partitions.items()
            ],
        )
        answer = self.wire.call(request, version)
        return {
            row.partition_error_code
            for topic in answer.results_by_topic_v3_and_below
            for row in topic.results_by_partition
        }

    def add_offsets(self, group: str) -> int:
        request = AddOffsetsToTxnRequest(self.tid, *self.me, group)
        return int(self.wire.call(request, 3).error_code)

    def end(self, committed: bool = True, version: int = 5) -> int:
        """EndTxn; the code. With version 5 the producer goes on with the epoch that it is told."""
        answer = self.wire.call(EndTxnRequest(self.tid, *self.me, committed), version)
        if version >= 5 and not answer.error_code:
            self.become(answer.producer_id, answer.producer_epoch)
        return int(answer.error_code)

    def settle(self) -> None:
        """Wait until the markers of the last transaction are written: until its end, asked for
        once more, is not answered with CONCURRENT_TRANSACTIONS."""
        while self.wire.call(EndTxnRequest(self.tid, *self.me, True), 4).error_code == 51:
            pass

    # --- records

    def request(
        self,
        rows: Mapping[tuple[str, int], Sequence[bytes]],
        version: int = 12,
        *,
        acks: int = -1,
        sequence: int | None = None,
        transactional: bool = True,
    ) -> ProduceRequest:
        """Produce of one batch for each (topic, partition)."""
        topics: dict[str, TopicProduceData] = {}
        for (name, index), values in rows.items():
            first = self.sequences.get((name, index), 0) if sequence is None else sequence
            self.sequences[name, index] = first + len(values)
            records = batch(
                values,
                timestamp=NOW,
                producer_id=self.producer_id,
                producer_epoch=self.epoch,
                base_sequence=first,
                attributes=TRANSACTIONAL if transactional else 0,
            )
            topic = topics.setdefault(name, TopicProduceData(name=name))
            if version >= IDS_SINCE:
                topic.topic_id = self._topic_id(name)
            topic.partition_data.append(PartitionProduceData(index, records))
        return ProduceRequest(self.tid, acks, 5000, list(topics.values()))

    def _topic_id(self, name: str) -> bytes:
        found = self._topic_ids.get(name)
        if found is None:
            answer = self.wire.call(MetadataRequest([MetadataRequestTopic(name=name)]), 12)
            found = self._topic_ids[name] = answer.topics[0].topic_id
        return found

    def send_all(
        self,
        rows: Mapping[tuple[str, int], Sequence[bytes]],
        version: int = 12,
        **more: Any,
    ) -> list[Row]:
        """Produce; a row for each partition, in the order of the answer."""
        request = self.request(rows, version, **more)
        return rows_of(self.wire.call(request, version))

    def send(
        self, topic: str, *values: bytes, index: int = 0, version: int = 12, **more: Any
    ) -> Row:
        """Produce to one partition."""
        (row,) = self.send_all({(topic, index): values}, version, **more)
        return row


def rows_of(answer: Any) -> list[Row]:
    return [
        Row(one.error_code, one.base_offset, one.log_start_offset, one.error_message)
        for topic in answer.responses
        for one in topic.partition_responses
    ]


def fetch_request(
    topic: str, offset: int = 0, *, index: int = 0, committed: bool = True, wait_ms: int = 0
) -> FetchRequest:
    part = FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=LIMIT)
    return FetchRequest(
        max_wait_ms=wait_ms,
        min_bytes=1 if wait_ms else 0,
        max_bytes=1 << 24,
        isolation_level=int(committed),
        topics=[FetchTopic(topic=topic, partitions=[part])],
    )


def values_of(*answers: Any) -> list[bytes]:
    """What a reader makes of Fetch answers: with read_committed without the aborted records."""
    values: list[bytes] = []
    leaving: set[int] = set()
    for answer in answers:
        (part,) = answer.responses[0].partitions
        assert part.error_code == 0
        aborted = sorted(
            (one.first_offset, one.producer_id) for one in part.aborted_transactions or ()
        )
        data = bytes(part.records or b"")
        for at, header in batches(data):
            while aborted and aborted[0][0] <= header.last_offset:
                leaving.add(aborted.pop(0)[1])
            if header.control:
                leaving.discard(header.producer_id)
            elif not (header.transactional and header.producer_id in leaving):
                values += [bytes(r.value or b"") for r in records_of(data, at, header, LIMIT)]
    return values


def read(wire: Wire, topic: str, *, index: int = 0, committed: bool = True) -> list[bytes]:
    """All values of a partition that a reader may see."""
    answers = []
    offset = 0
    while True:
        request = fetch_request(topic, offset, index=index, committed=committed)
        answers.append(wire.call(request, 11))
        data = bytes(answers[-1].responses[0].partitions[0].records or b"")
        if not data:
            return values_of(*answers)
        offset = max(header.next_offset for _, header in batches(data))
