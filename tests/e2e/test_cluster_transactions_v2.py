"""Transactions of version 2 (KIP-890) over three brokers, by requests that no stock client here
sends yet: partitions join by being written to, whoever leads them, and every end raises the epoch.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.cluster.view import TRANSACTIONS_TOPIC
from broker.config import TopicSpec
from broker.peer import Peer, PeerGone
from protocol.batch import TRANSACTIONAL, batches, end_txn_marker
from protocol.errors import ErrorCode
from protocol.messages.end_txn import EndTxnRequest
from protocol.messages.find_coordinator import FindCoordinatorRequest
from protocol.messages.init_producer_id import InitProducerIdRequest
from protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.kit.cluster import Cluster
from tests.kit.wire import batch

TOPIC = "spread"
PARTITIONS = 3
TID = "tid"
AGAIN = (
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.NOT_ENOUGH_REPLICAS,
)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path)
    await made.start([TopicSpec(TOPIC, PARTITIONS, {})])
    yield made
    await made.stop()


class Client:
    """A producer that asks whom it should, and asks again where it is told to."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.peers: dict[int, Peer] = {}
        self.producer = (-1, -1)
        self.sequences = dict.fromkeys(range(PARTITIONS), 0)

    def peer(self, broker_id: int) -> Peer:
        if broker_id not in self.peers:
            place = "127.0.0.1", self.cluster.ports[broker_id]
            self.peers[broker_id] = Peer(lambda: place, "client", timeout_s=10)
        return self.peers[broker_id]

    def close(self) -> None:
        for peer in self.peers.values():
            peer.close()

    async def call(self, broker_id: int, request: Any, version: int) -> Any:
        """The answer of a broker; None where it gives none."""
        if broker_id not in self.cluster.servers:
            return None
        try:
            return await self.peer(broker_id).call(request, version)
        except PeerGone:
            return None

    async def coordinator(self) -> int:
        """As FindCoordinator says; -1 where it does not."""
        some = next(iter(self.cluster.servers))
        request = FindCoordinatorRequest(key_type=1, coordinator_keys=[TID])
        answer = await self.call(some, request, 4)
        return -1 if answer is None else int(answer.coordinators[0].node_id)

    async def ask(self, request: Any, version: int) -> Any:
        """The coordinator's answer; asked again while it is another one's time."""
        async with asyncio.timeout(20):
            while True:
                answer = await self.call(await self.coordinator(), request, version)
                if answer is not None and answer.error_code not in AGAIN:
                    return answer
                await asyncio.sleep(0.02)

    async def begin(self) -> None:
        answer = await self.ask(InitProducerIdRequest(TID, 60_000), 5)
        assert answer.error_code == 0
        self.producer = answer.producer_id, answer.producer_epoch
        self.sequences = dict.fromkeys(range(PARTITIONS), 0)

    async def write(self, partition: int, value: bytes) -> int:
        """The code of a Produce that is not to be sent again."""
        async with asyncio.timeout(20):
            while True:
                some = next(iter(self.cluster.servers.values()))
                leader = some.node.metadata.view.leader(TOPIC, partition)
                records = batch(
                    [value],
                    timestamp=int(time.time() * 1000),
                    producer_id=self.producer[0],
                    producer_epoch=self.producer[1],
                    base_sequence=self.sequences[partition],
                    attributes=TRANSACTIONAL,
                )
                rows = [PartitionProduceData(partition, records)]
                request = ProduceRequest(
                    TID, -1, 5000, [TopicProduceData(TOPIC, partition_data=rows)]
                )
                answer = await self.call(leader, request, 12)
                if answer is not None:
                    (row,) = answer.responses[0].partition_responses
                    if row.error_code not in AGAIN:
                        self.sequences[partition] += not row.error_code
                        return int(row.error_code)
                await asyncio.sleep(0.02)

    async def end(self, committed: bool) -> None:
        """The producer goes on with the epoch that it is given."""
        answer = await self.ask(EndTxnRequest(TID, *self.producer, committed), 5)
        assert answer.error_code == 0
        assert answer.producer_epoch == self.producer[1] + 1
        self.producer = answer.producer_id, answer.producer_epoch
        self.sequences = dict.fromkeys(range(PARTITIONS), 0)


def told(cluster: Cluster, partition: int) -> list[tuple[int, str]]:
    """(producer epoch, "data", "commit" or "abort") of every batch of a partition."""
    log = cluster.replica(cluster.leader_of(TOPIC, partition), TOPIC, partition).log
    assert log is not None
    data = log.read(0, 1 << 20, log.end_offset).bytes()
    rows = []
    for at, header in batches(data):
        marker = end_txn_marker(data, at, header) if header.control else None
        what = "data" if marker is None else "commit" if marker[0] else "abort"
        rows.append((header.producer_epoch, what))
    return rows


def decided(cluster: Cluster, partition: int) -> bool:
    log = cluster.replica(cluster.leader_of(TOPIC, partition), TOPIC, partition).log
    return log is not None and log.last_stable_offset == log.end_offset


async def test_one_transaction_follows_the_other_at_once(cluster: Cluster) -> None:
    """Nothing waits between them but the coordinator, while markers are on their way."""
    assert {cluster.leader_of(TOPIC, index) for index in range(PARTITIONS)} == {0, 1, 2}
    client = Client(cluster)
    await client.begin()
    for turn in range(4):
        for partition in range(PARTITIONS):
            assert await client.write(partition, b"%d" % turn) == 0
        await client.end(turn % 2 == 0)
    await cluster.until(lambda: all(decided(cluster, index) for index in range(PARTITIONS)))
    for partition in range(PARTITIONS):
        assert told(cluster, partition) == [
            row
            for turn in range(4)
            for row in ((turn, "data"), (turn + 1, "abort" if turn % 2 else "commit"))
        ]
    client.close()


async def test_the_coordinator_dies_in_the_middle(cluster: Cluster) -> None:
    """Added partitions are on record: the next coordinator ends the transaction at all of them, and
    a zombie's batch is refused by leaders everywhere."""
    client = Client(cluster)
    await client.begin()
    assert await client.write(0, b"before") == 0
    index = cluster.controller.node.transactions.partition_for(TID)
    assert index is not None
    await cluster.crash(cluster.leader_of(TRANSACTIONS_TOPIC, index))
    assert await client.write(1, b"after") == 0
    assert await client.write(0, b"after") == 0
    zombie = Client(cluster)
    zombie.producer = client.producer
    await client.end(True)
    await cluster.until(lambda: all(decided(cluster, index) for index in (0, 1)))
    assert told(cluster, 0) == [(0, "data"), (0, "data"), (1, "commit")]
    assert told(cluster, 1) == [(0, "data"), (1, "commit")]
    assert told(cluster, 2) == []
    for partition in range(PARTITIONS):
        assert await zombie.write(partition, b"late") == ErrorCode.INVALID_PRODUCER_EPOCH
    zombie.close()
    client.close()
