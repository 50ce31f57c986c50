"""A hosted node with a transaction coordinator: handlers, real logs in memory, real markers."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from broker.cluster.features import FeatureCache, FinalizedFeatures
from broker.cluster.view import OFFSETS_TOPIC, TRANSACTIONS_TOPIC
from broker.context import Context
from broker.coordinator import Coordinator
from broker.groups.machine import GroupMachine
from broker.handlers.produce import begin
from broker.producer_ids import ProducerIds
from broker.transactions.machine import TransactionMachine
from broker.transactions.markers import MarkerSender
from broker.transactions.state import State
from broker.waiting import settled
from protocol.batch import TRANSACTIONAL, BatchHeader, batches, end_txn_marker
from protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from protocol.messages.end_txn import EndTxnRequest
from protocol.messages.init_producer_id import InitProducerIdRequest
from protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from storage.filesystem import FileSystem
from tests.broker.transactions.script import DAY_MS
from tests.kit.hosted import HostedNode
from tests.kit.wire import batch, decode_answer, frame

TID = "t"
Partitions = Mapping[str, Sequence[int]]


class Part(HostedNode):
    """`level` is that of transaction.version; ids begin with 1."""

    def __init__(
        self,
        level: int = 2,
        settings: Mapping[str, str] | None = None,
        fs: FileSystem | None = None,
    ) -> None:
        super().__init__(settings, fs=fs)
        node = self.node
        node.features = FeatureCache(FinalizedFeatures({"transaction.version": level}, 0))
        self.next_id = 1
        node.producer_ids = ProducerIds(self._allocate, self.clock)
        node.groups = Coordinator(
            OFFSETS_TOPIC,
            self.replicas,
            self.metadata,
            self.clock,
            lambda index, timers: GroupMachine(
                index, timers, node.config, lambda: self.metadata.view, lambda: "id"
            ),
        )
        node.transactions = Coordinator(
            TRANSACTIONS_TOPIC,
            self.replicas,
            self.metadata,
            self.clock,
            lambda index, timers: TransactionMachine(
                index,
                timers,
                DAY_MS,
                lambda: node.features.level("transaction.version"),
                node.producer_ids.take,
            ),
            work=lambda index, what: self.sender.send(index, what),
        )
        self.sender = MarkerSender(node)

    async def _allocate(self) -> tuple[int, int]:
        first, self.next_id = self.next_id, self.next_id + 1000
        return first, 1000

    async def start(self, *topics: str, partitions: int = 3) -> "Part":
        """The coordinator has its partition, and there are topics."""
        self.host(TRANSACTIONS_TOPIC)
        for topic in topics:
            self.host(topic, partitions)
        await self.node.producer_ids.start()
        await self.quiet()
        return self

    async def stop(self) -> None:
        self.sender.close()
        await self.node.transactions.close()
        await self.node.groups.close()
        await self.node.producer_ids.stop()

    async def quiet(self) -> None:
        """Until nothing is on its way any more, markers that are sent again apart."""
        while self.node.transactions.loading or self.node.groups.loading:
            await asyncio.sleep(0)
        for _ in range(12):
            await asyncio.sleep(0)

    # --- requests: error codes, and what is told with NONE

    async def init(
        self,
        version: int = 5,
        tid: str = TID,
        *,
        timeout: int = 60_000,
        expected: tuple[int, int] = (-1, -1),
    ) -> tuple[int, int, int]:
        request = InitProducerIdRequest(tid, timeout)
        if version >= 3:
            request.producer_id, request.producer_epoch = expected
        answer = await self.ask(version, request)
        return answer.error_code, answer.producer_id, answer.producer_epoch

    async def begin(self, tid: str = TID, **more: Any) -> tuple[int, int]:
        """A producer: (id, epoch)."""
        code, producer_id, epoch = await self.init(tid=tid, **more)
        assert code == 0
        return producer_id, epoch

    async def add(
        self,
        producer: tuple[int, int],
        partitions: Partitions,
        version: int = 3,
        *,
        tid: str = TID,
        verify: bool = False,
    ) -> dict[tuple[str, int], int]:
        """Codes by partition."""
        topics = [AddPartitionsToTxnTopic(name, list(rows)) for name, rows in partitions.items()]
        if version >= 4:
            one = AddPartitionsToTxnTransaction(tid, *producer, verify, topics)
            answer = await self.ask(version, AddPartitionsToTxnRequest([one]))
            assert answer.error_code == 0
            (result,) = answer.results_by_transaction
            assert result.transactional_id == tid
            rows = result.topic_results
        else:
            request = AddPartitionsToTxnRequest(
                v3_and_below_transactional_id=tid,
                v3_and_below_producer_id=producer[0],
                v3_and_below_producer_epoch=producer[1],
                v3_and_below_topics=topics,
            )
            rows = (await self.ask(version, request)).results_by_topic_v3_and_below
        return {
            (row.name, one.partition_index): one.partition_error_code
            for row in rows
            for one in row.results_by_partition
        }

    async def add_offsets(
        self, producer: tuple[int, int], group: str = "g", version: int = 4, *, tid: str = TID
    ) -> int:
        answer = await self.ask(version, AddOffsetsToTxnRequest(tid, *producer, group))
        return int(answer.error_code)

    async def end(
        self,
        producer: tuple[int, int],
        committed: bool = True,
        version: int = 4,
        *,
        tid: str = TID,
    ) -> tuple[int, int, int]:
        answer = await self.ask(version, EndTxnRequest(tid, *producer, committed))
        return answer.error_code, answer.producer_id, answer.producer_epoch

    # --- Produce, without a connection

    def call(
        self,
        producer: tuple[int, int],
        sequences: Mapping[tuple[str, int], int],
        version: int = 12,
        *,
        tid: str = TID,
        value: bytes = b"value",
    ) -> Any:
        """A Produce of one batch for each partition (`broker.handlers.produce.Call`)."""
        topics: dict[str, TopicProduceData] = {}
        for (topic, index), sequence in sequences.items():
            records = batch(
                [value],
                timestamp=self.clock.now_ms(),
                producer_id=producer[0],
                producer_epoch=producer[1],
                base_sequence=sequence,
                attributes=TRANSACTIONAL,
            )
            row = topics.setdefault(topic, TopicProduceData(topic))
            row.partition_data.append(PartitionProduceData(index, records))
        request = ProduceRequest(tid, 1, 1000, list(topics.values()))
        data = memoryview(bytearray(frame(request, version)[4:]))
        return begin(self.node, Context("c", "PLAINTEXT", "h"), data, version)

    def answer(self, call: Any) -> dict[tuple[str, int], int]:
        """Write what is staged: codes by partition."""
        self.replicas.write_staged()
        version = getattr(call, "version", 12)  # answers of 9 to 12 are the same
        _, decoded = decode_answer(0, version, call.answer()[4:])
        return {
            (topic.name, row.index): row.error_code
            for topic in decoded.responses
            for row in topic.partition_responses
        }

    async def produce(self, *args: Any, **more: Any) -> dict[tuple[str, int], int]:
        """`call`, the coordinator asked where need be, and the answer."""
        call = self.call(*args, **more)
        if call.unverified:
            waiting = call.ask()
            if waiting is not None:
                call.verified(await settled(waiting))
        return self.answer(call)

    # --- what has come of it

    def state(self, tid: str = TID) -> State:
        """Of a transactional id that is known."""
        machine = self.node.transactions.find(tid)
        assert isinstance(machine, TransactionMachine)
        return machine.transactions[tid].state

    def log(self, topic: str, index: int = 0) -> list[tuple[int, Any]]:
        """(producer epoch, marker or record count) of every batch: ("commit", coordinator epoch)
        for markers."""
        source = self.partition(topic, index).log
        assert source is not None
        rows: list[tuple[int, Any]] = []
        offset = 0
        while offset < source.end_offset:
            data = source.read(offset, 1 << 20, source.end_offset).bytes()
            for at, header in batches(data):
                rows.append(_told(data, at, header))
                offset = header.next_offset
        return rows


def _told(data: bytes, at: int, header: BatchHeader) -> tuple[int, Any]:
    if not header.control:
        return header.producer_epoch, header.record_count
    marker = end_txn_marker(data, at, header)
    assert marker is not None
    return header.producer_epoch, ("commit" if marker[0] else "abort", marker[1])
