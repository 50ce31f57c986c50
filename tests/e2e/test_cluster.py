"""Three whole brokers in one process: replication, failover and what clients see of it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from broker.cluster.view import OFFSETS_TOPIC
from broker.config import TopicSpec
from broker.controller.topics import Created, Defaults, PartitionsWish, TopicWish
from broker.peer import Peer
from protocol.errors import ErrorCode
from protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic, PartitionData
from protocol.messages.find_coordinator import FindCoordinatorRequest
from protocol.messages.init_producer_id import InitProducerIdRequest
from protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    TopicProduceData,
)
from tests.e2e.load import Load
from tests.kit.cluster import Cluster, ThreadedCluster
from tests.kit.wire import batch, decode_answer, frame

TOPIC = "replicated"
REQUEST_TIMED_OUT = 7
NOT_ENOUGH_REPLICAS = 19


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ThreadedCluster]:
    with ThreadedCluster(tmp_path, topics=[TopicSpec(TOPIC, 3, {})]) as running:
        yield running


@pytest.fixture
async def brokers(tmp_path: Path) -> AsyncIterator[Cluster]:
    """In the test's own loop: for scripts that look and ask, with clients that do not block."""
    made = Cluster(tmp_path)
    await made.start()
    yield made
    await made.stop()


def same_logs(cluster: Cluster, topic: str = TOPIC) -> bool:
    """Whether all replicas of the topic hold the same bytes, high watermarks included."""
    partitions = len(cluster.controller.node.metadata.view.topics[topic].partitions)
    for index in range(partitions):
        seen = set()
        for broker_id in cluster.servers:
            log = cluster.replica(broker_id, topic, index).log
            assert log is not None
            files = b"".join(segment.file().pread(segment.size, 0) for segment in log.segments)
            # A leader knows of an epoch in which it wrote nothing; its followers do not.
            epochs = [entry for entry in log.epochs.entries() if entry[1] < log.end_offset]
            seen.add((files, log.end_offset, log.high_watermark, tuple(epochs)))
        if len(seen) != 1:
            return False
    return True


async def replicated(cluster: Cluster) -> None:
    await cluster.until(lambda: same_logs(cluster))


def test_acknowledged_records_are_on_every_replica(cluster: ThreadedCluster) -> None:
    load = Load(cluster, TOPIC)
    load.go_on()
    load.stop()
    load.check()
    cluster.call(replicated)


def test_a_crash_of_the_leader_loses_nothing(cluster: ThreadedCluster) -> None:
    load = Load(cluster, TOPIC)
    load.go_on()
    for _ in range(3):
        gone = cluster.call(Cluster.leader_of, TOPIC)
        cluster.call(Cluster.crash, gone)
        load.go_on()
        cluster.call(Cluster.start_one, gone)
        cluster.call(Cluster.in_sync, TOPIC)
        load.go_on()
    load.stop()
    load.check()
    cluster.call(replicated)


def test_a_controlled_stop_is_hardly_noticed(cluster: ThreadedCluster) -> None:
    load = Load(cluster, TOPIC)
    load.go_on()
    for broker_id in (1, 2, 0):
        stopping = threading.Thread(target=cluster.call, args=(Cluster.stop_one, broker_id))
        stopping.start()
        load.go_on(20, timeout_s=5)
        stopping.join()
        load.go_on()
        cluster.call(Cluster.start_one, broker_id)
        cluster.call(Cluster.in_sync, TOPIC)
    load.stop()
    load.check()
    cluster.call(replicated)


def test_everybody_dies_and_comes_back(cluster: ThreadedCluster) -> None:
    load = Load(cluster, TOPIC)
    load.go_on()
    for broker_id in (2, 0, 1):
        cluster.call(Cluster.crash, broker_id)
    for broker_id in (0, 1, 2):
        cluster.call(Cluster.start_one, broker_id)
    load.go_on()
    load.stop()
    load.check()
    cluster.call(Cluster.in_sync, TOPIC)
    cluster.call(replicated)


# --- looked at from inside ------------------------------------------------------------------------


async def made(cluster: Cluster, name: str, *replicas: int, **configs: str) -> None:
    """A topic of one partition with these replicas, which are in sync."""
    settings: Mapping[str, str] = {k.replace("_", "."): v for k, v in configs.items()}
    wish = TopicWish(name, assignments=[(0, replicas)], configs=settings)
    (answer,) = await cluster.controller.node.controller.create_topics([wish], Defaults(1, 1))
    assert isinstance(answer, Created), answer
    await cluster.until(
        lambda: all(
            s.node.replicas.partition(name, 0) is not None
            for i, s in cluster.servers.items()
            if i in replicas
        )
    )


async def produce(
    cluster: Cluster,
    broker_id: int,
    topic: str,
    *values: bytes,
    acks: int = -1,
    timeout_ms: int = 10_000,
) -> PartitionProduceResponse:
    """One batch to a broker; its answer."""
    request = produce_request(topic, *values, acks=acks, timeout_ms=timeout_ms)
    response = await call(cluster, broker_id, request, 9)
    answer: PartitionProduceResponse = response.responses[0].partition_responses[0]
    return answer


def produce_request(
    topic: str, *values: bytes, acks: int = -1, timeout_ms: int = 10_000
) -> ProduceRequest:
    """One batch to partition 0."""
    data = batch(values, timestamp=1)
    return ProduceRequest(
        acks=acks,
        timeout_ms=timeout_ms,
        topic_data=[TopicProduceData(topic, partition_data=[PartitionProduceData(0, data)])],
    )


async def fetch(
    cluster: Cluster, broker_id: int, topic: str, offset: int = 0, rack: str = ""
) -> PartitionData:
    """What a consumer gets from a broker."""
    partition = FetchPartition(0, -1, offset, -1, -1, 1 << 20)
    request = FetchRequest(rack_id=rack, session_epoch=-1)
    request.topics = [FetchTopic(topic, partitions=[partition])]
    response = await call(cluster, broker_id, request, 12)
    answer: PartitionData = response.responses[0].partitions[0]
    return answer


async def call(cluster: Cluster, broker_id: int, request: Any, version: int) -> Any:
    peer = Peer(lambda: ("127.0.0.1", cluster.ports[broker_id]), "test", timeout_s=15)
    try:
        return await peer.call(request, version)
    finally:
        peer.close()


async def test_a_follower_that_hangs_leaves_the_isr_and_comes_back(brokers: Cluster) -> None:
    await made(brokers, "t", 0, 1, 2)
    assert (await produce(brokers, 0, "t", b"a")).error_code == 0
    await brokers.pause_fetching(2)
    began = time.monotonic()
    answer = await produce(brokers, 0, "t", b"b", timeout_ms=200)
    assert answer.error_code == REQUEST_TIMED_OUT, "not all in sync have it"
    assert (answer.base_offset, answer.log_start_offset) == (1, 0), "but here it is"
    assert (await fetch(brokers, 0, "t")).high_watermark == 1
    answer = await produce(brokers, 0, "t", b"c")
    assert answer.error_code == 0 and answer.base_offset == 2
    assert time.monotonic() - began > 1, "it is in the ISR until replica.lag.time.max.ms is over"
    assert brokers.isr_of("t") == {0, 1}
    await brokers.pause_fetching(1)
    # Written, but the ISR shrinks below min.insync.replicas while it waits.
    answer = await produce(brokers, 0, "t", b"d", timeout_ms=4000)
    assert answer.error_code == REQUEST_TIMED_OUT
    assert brokers.isr_of("t") == {0}
    assert (await produce(brokers, 0, "t", b"no")).error_code == NOT_ENOUGH_REPLICAS
    assert (await produce(brokers, 0, "t", b"e", acks=1)).error_code == 0
    assert (await fetch(brokers, 0, "t")).high_watermark == 3, "under min.insync.replicas"
    brokers.go_on_fetching()
    await brokers.in_sync("t")
    await brokers.until(lambda: same_logs(brokers, "t"))
    assert (await fetch(brokers, 0, "t")).high_watermark == 5
    assert (await produce(brokers, 0, "t", b"f")).base_offset == 5


async def test_a_frame_that_was_cut_by_a_wait_is_put_together(brokers: Cluster) -> None:
    """Its second part comes while the request before it waits for followers, and so does a third
    request after it."""
    await made(brokers, "t", 0, 1, 2)
    await brokers.pause_fetching(2)
    values = [b"a", b"b" * 3000, b"c"]
    sent = [frame(produce_request("t", value), 9, n) for n, value in enumerate(values)]
    reader, writer = await asyncio.open_connection("127.0.0.1", brokers.ports[0])
    leader = brokers.replica(0, "t")
    writer.write(sent[0] + sent[1][:2000])
    await brokers.until(lambda: leader.waiters is not None)
    writer.write(sent[1][2000:] + sent[2][:20])
    (connection,) = [
        c for c in brokers.servers[0]._connections._connections if c._calls and c._parked
    ]
    await brokers.until(lambda: bool(connection._pending))
    brokers.go_on_fetching()
    writer.write(sent[2][20:])
    async with asyncio.timeout(20):
        for number in range(3):
            answer = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
            correlation_id, body = decode_answer(ProduceRequest.API_KEY, 9, answer)
            (partition,) = body.responses[0].partition_responses
            assert (correlation_id, partition.error_code) == (number, 0)
            assert partition.base_offset == number
    writer.close()


async def test_replicas_agree_again_after_an_unclean_election(brokers: Cluster) -> None:
    """The leader wrote what nobody else has, died, and the other went on without it."""
    await made(
        brokers,
        "t",
        1,
        2,
        unclean_leader_election_enable="true",
        min_insync_replicas="1",
    )
    for value in (b"a", b"b"):
        assert (await produce(brokers, 1, "t", value)).error_code == 0
    await brokers.pause_fetching(2)
    for value in (b"lost 1", b"lost 2", b"lost 3"):
        assert (await produce(brokers, 1, "t", value, acks=1)).error_code == 0
    await brokers.until(lambda: brokers.isr_of("t") == {1})
    await brokers.crash(1)
    await brokers.until(lambda: brokers.leader_of("t") == 2)
    # More than was lost, so that offsets alone tell nothing.
    for number in range(5):
        await brokers.until(lambda: brokers.replica(2, "t").is_leader)
        assert (await produce(brokers, 2, "t", b"kept %d" % number)).error_code == 0
    await brokers.start_one(1)
    brokers.go_on_fetching()
    await brokers.until(lambda: brokers.isr_of("t") == {1, 2})
    logs = [brokers.replica(i, "t").log for i in (1, 2)]
    first, second = (
        b"".join(s.file().pread(s.size, 0) for s in log.segments) for log in logs if log
    )
    assert first == second and b"lost" not in first and b"kept 4" in first
    assert logs[0] and logs[1] and logs[0].epochs.entries() == logs[1].epochs.entries()
    state = brokers.controller.node.controller.state
    assert state is not None
    partition = state.partition(("t", 0))
    assert partition is not None and partition.state is not None
    assert not partition.state.recovering, "the mark is cleared with the first change of the ISR"


async def test_a_log_that_begins_after_the_replicas_end(brokers: Cluster) -> None:
    """Records were deleted while a follower was away: it starts over at the leader's start."""
    await made(brokers, "t", 1, 2, min_insync_replicas="1")
    await produce(brokers, 1, "t", b"a")
    await brokers.crash(2)
    await brokers.until(lambda: brokers.isr_of("t") == {1})
    for _ in range(5):
        assert (await produce(brokers, 1, "t", b"b")).error_code == 0
    log = brokers.replica(1, "t").log
    assert log is not None
    log.advance_log_start_offset(4)
    await brokers.start_one(2)
    await brokers.until(lambda: brokers.isr_of("t") == {1, 2})
    replica = brokers.replica(2, "t").log
    assert replica is not None
    assert (replica.log_start_offset, replica.end_offset) == (4, 6)


async def test_a_restart_knows_its_high_watermark(brokers: Cluster) -> None:
    await made(brokers, "t", 1, 2)
    await produce(brokers, 1, "t", b"a", b"b")
    await brokers.until(lambda: same_high_watermark(brokers, 2))
    await brokers.stop_one(2)
    await brokers.pause_fetching(1)
    server = await brokers.start_one(2)
    log = server.node.logs.get("t", 0)
    assert log is not None and log.high_watermark == 2
    brokers.go_on_fetching()


def same_high_watermark(cluster: Cluster, expected: int) -> bool:
    logs = [cluster.replica(i, "t").log for i in (1, 2)]
    return all(log is not None and log.high_watermark == expected for log in logs)


async def test_producers_are_told_who_leads(brokers: Cluster) -> None:
    await made(brokers, "t", 1, 2)
    data = [PartitionProduceData(0, batch([b"a"], timestamp=1))]
    request = ProduceRequest(acks=1, topic_data=[TopicProduceData("t", partition_data=data)])
    where = [(1, "127.0.0.1", brokers.ports[1], None)]
    for broker_id in (2, 0):
        for version in (9, 10):
            response = await call(brokers, broker_id, request, version)
            (answer,) = response.responses[0].partition_responses
            assert answer.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
            leader = (answer.current_leader.leader_id, answer.current_leader.leader_epoch)
            told = [(n.node_id, n.host, n.port, n.rack) for n in response.node_endpoints]
            assert (leader, told) == (((1, 0), where) if version == 10 else ((-1, -1), []))


# --- closest replica ------------------------------------------------------------------------------

RACKED: Callable[[Path], ThreadedCluster] = lambda path: ThreadedCluster(  # noqa: E731
    path,
    settings={"replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector"},
    own={i: {"broker.rack": f"rack-{i}"} for i in range(3)},
    topics=[TopicSpec(TOPIC, 3, {})],
)


def test_consumers_read_from_the_replica_in_their_rack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from broker.handlers.fetch import FetchCall

    served: dict[int, int] = {0: 0, 1: 0, 2: 0}
    real = FetchCall._fill

    def fill(self: Any, answer: Any, *rest: Any, **more: Any) -> None:
        real(self, answer, *rest, **more)
        if type(self) is FetchCall:
            served[self._node.broker_id] += len(answer)

    monkeypatch.setattr(FetchCall, "_fill", fill)
    with RACKED(tmp_path) as cluster:
        load = Load(cluster, TOPIC)
        load.go_on()
        load.stop()
        consumer = Consumer(
            {"bootstrap.servers": cluster.bootstrap, "group.id": "g", "client.rack": "rack-2"}
        )
        consumer.assign([TopicPartition(TOPIC, p, 0) for p in range(3)])
        seen = 0
        deadline = time.monotonic() + 30
        while seen < load.count():
            assert time.monotonic() < deadline, f"{seen} of {load.count()}, {served}"
            seen += sum(1 for m in consumer.consume(500, 0.5) if m.error() is None)
        consumer.close()
    assert served[0] == served[1] == 0 and served[2] > 0


async def test_where_the_leader_sends_a_consumer(tmp_path: Path) -> None:
    cluster = Cluster(
        tmp_path,
        settings={"replica.selector.class": "any"},
        own={i: {"broker.rack": f"rack-{i % 2}"} for i in range(3)},
    )
    await cluster.start()
    await made(cluster, "t", 1, 0, 2)
    await produce(cluster, 1, "t", b"a")
    answer = await fetch(cluster, 1, "t", rack="rack-0")
    assert (answer.preferred_read_replica, answer.high_watermark) == (2, 1)
    assert not answer.records
    for rack in ("rack-1", "nowhere", ""):
        answer = await fetch(cluster, 1, "t", rack=rack)
        assert answer.preferred_read_replica == -1 and answer.records
    await cluster.until(lambda: (log := cluster.replica(2, "t").log) and log.high_watermark == 1)
    answer = await fetch(cluster, 2, "t", rack="rack-0")
    assert (answer.error_code, answer.high_watermark) == (0, 1) and answer.records
    await cluster.stop()


# --- topics ---------------------------------------------------------------------------------------


def hosts(cluster: Cluster, topic: str) -> set[int]:
    """Brokers that have the log of partition 0."""
    return {i for i, s in cluster.servers.items() if (topic, 0) in s.node.logs.logs}


async def test_a_topic_is_deleted_everywhere_and_made_anew(brokers: Cluster) -> None:
    await made(brokers, "t", 1, 2)
    await produce(brokers, 1, "t", b"old", b"old")
    first = brokers.servers[1].node.metadata.view.topics["t"].topic_id
    controller = brokers.controller.node.controller
    await controller.delete_topics(["t"])
    await controller.deleted("t")
    await brokers.until(lambda: hosts(brokers, "t") == set())
    for server in brokers.servers.values():
        assert "t" not in server.node.metadata.view.topics
    await made(brokers, "t", 2, 0)
    await brokers.until(lambda: hosts(brokers, "t") == {0, 2})
    answer = await produce(brokers, 2, "t", b"new")
    assert (answer.error_code, answer.base_offset) == (0, 0)
    await brokers.until(lambda: same_logs_on(brokers, "t", {0, 2}))
    assert brokers.servers[0].node.metadata.view.topics["t"].topic_id != first


async def test_a_topic_deleted_while_a_replica_was_away(brokers: Cluster) -> None:
    await made(brokers, "t", 1, 2)
    await produce(brokers, 1, "t", b"old")
    await brokers.crash(2)
    await brokers.until(lambda: brokers.isr_of("t") == {1})
    controller = brokers.controller.node.controller
    await controller.delete_topics(["t"])
    await controller.deleted("t")
    await brokers.until(lambda: hosts(brokers, "t") == set())
    assert controller.state is not None and "t" in controller.state.deletions
    await brokers.start_one(2)
    await brokers.until(lambda: hosts(brokers, "t") == set() and not controller.state.deletions)
    await made(brokers, "t", 2)
    assert (await produce(brokers, 2, "t", b"new")).base_offset == 0


async def test_any_broker_creates_a_topic_that_is_asked_for(brokers: Cluster) -> None:
    request = MetadataRequest([MetadataRequestTopic(name="by.itself")])
    for _ in range(2):
        answer = await call(brokers, 2, request, 9)
        assert answer.topics[0].error_code in (0, 5)
    await brokers.until(lambda: "by.itself" in brokers.servers[2].node.metadata.view.topics)
    info = brokers.servers[2].node.metadata.view.topics["by.itself"]
    assert [len(p.replicas) for p in info.partitions] == [3]
    answer = await call(brokers, 1, FindCoordinatorRequest("g"), 3)
    assert answer.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    await brokers.until(lambda: OFFSETS_TOPIC in brokers.servers[1].node.metadata.view.topics)
    answer = await call(brokers, 1, FindCoordinatorRequest("g"), 3)
    assert answer.error_code == 0 and answer.node_id in (0, 1, 2)


def same_logs_on(cluster: Cluster, topic: str, replicas: set[int]) -> bool:
    logs = [cluster.replica(i, topic).log for i in replicas]
    return len({(log.end_offset, log.high_watermark) for log in logs if log}) == 1


async def test_growth_reaches_all_replicas(brokers: Cluster) -> None:
    await made(brokers, "t", 1, 2)
    wish = PartitionsWish("t", 2, [(2, 0)])
    assert await brokers.controller.node.controller.create_partitions([wish]) == [None]
    await brokers.until(lambda: brokers.servers[0].node.replicas.partition("t", 1) is not None)
    assert brokers.leader_of("t", 1) == 2


async def test_records_are_deleted_on_all_replicas(brokers: Cluster) -> None:
    await made(brokers, "t", 1, 2)
    await produce(brokers, 1, "t", b"a", b"b", b"c")
    wanted = DeleteRecordsTopic("t", [DeleteRecordsPartition(0, 2)])
    answer = await call(brokers, 1, DeleteRecordsRequest([wanted], 10_000), 2)
    (found,) = answer.topics[0].partitions
    assert (found.error_code, found.low_watermark) == (0, 2)
    log = brokers.replica(2, "t").log
    assert log is not None and log.log_start_offset == 2


async def test_every_broker_has_producer_ids(brokers: Cluster) -> None:
    seen = set()
    for broker_id in range(3):
        request = InitProducerIdRequest(None, 1000)
        for _ in range(50):
            answer = await call(brokers, broker_id, request, 2)
            if answer.error_code != ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
                break
        assert answer.error_code == 0
        seen.add(answer.producer_id // 1000)
    assert len(seen) == 3, "each has a block of its own"
