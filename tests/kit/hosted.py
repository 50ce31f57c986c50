"""The data half of a broker for handler tests: real logs (in memory unless a directory is given),
real partitions, a metadata cache; no sockets, no store, no controller.
"""

import gzip
import inspect
import json
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from broker.cluster.features import LATEST, FeatureCache, FinalizedFeatures
from broker.cluster.view import BrokerInfo, ClusterView, MetadataCache, PartitionInfo, TopicInfo
from broker.config import BrokerConfig
from broker.context import Context, Node
from broker.partition import Partition
from broker.replicas import ReplicaManager
from broker.waiting import settled
from protocol import batch
from protocol.apis import API_BY_KEY, request_class, response_class
from protocol.compiler import decoder, encoder
from protocol.errors import ErrorCode
from protocol.header import decode_request_header, response_header_version
from protocol.messages.leader_and_isr import (
    LeaderAndIsrPartitionState,
    LeaderAndIsrRequest,
    LeaderAndIsrTopicState,
)
from protocol.record import Record
from storage.config import LogConfig
from storage.filesystem import FileSystem, MemoryFileSystem
from storage.log import Log
from storage.manager import LogManager
from tests.kit.nodes import FakeClock

BROKER = 0
OTHER = 1
CAPTURED = Path(__file__).resolve().parents[1] / "broker" / "captured"


class HostedNode:
    """Broker 0 of a cluster of two; `node` is what handlers get."""

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        dirs: Iterable[str] = ("/data",),
        fs: FileSystem | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.fs: FileSystem = MemoryFileSystem() if fs is None else fs
        self.configs: dict[str, LogConfig] = {}
        self.metadata = MetadataCache("cluster")
        self.logs = LogManager(
            self.fs,
            list(dirs),
            LogConfig(),
            broker_id=BROKER,
            cluster_id="cluster",
            on_dir_failure=lambda path, error: self.replicas.log_dir_failed(),
        )
        self.logs.load({}, self.clock.now_ms())
        if not self.fs.shared:
            # Nobody else sees these files, and most tests just drop the node: the lock, known by
            # the file system's address, must not outlive it.
            self.logs._release()
        self.replicas = ReplicaManager(
            BROKER,
            self.logs,
            self.metadata,
            lambda topic: self.configs.get(topic, LogConfig()),
            self.clock,
        )
        node = self.node = Node()
        node.broker_id, node.cluster_id = BROKER, "cluster"
        node.config = BrokerConfig(settings)
        node.clock, node.metadata = self.clock, self.metadata
        node.logs, node.replicas = self.logs, self.replicas
        node.log_dir_moves = None
        self.replicas.go_on_moving = lambda partition: node.dir_moves.resume(partition)
        node.features = FeatureCache(FinalizedFeatures(LATEST, 0))

    def know(self, topic: str, partitions: int = 1, leader: int = BROKER) -> None:
        """The cluster has this topic; nothing of it is hosted here yet."""
        old = self.metadata.view
        infos = tuple(
            PartitionInfo(index, leader, 0, (leader,), (leader,)) for index in range(partitions)
        )
        topic_id = topic.encode().rjust(16, b".")[-16:]
        self.metadata.view = ClusterView(
            old.version + 1,
            "cluster",
            BROKER,
            {broker: BrokerInfo(broker, {"PLAINTEXT": ("h", 1)}) for broker in (BROKER, OTHER)},
            {**old.topics, topic: TopicInfo(topic, topic_id, infos)},
            {**old.names, topic_id: topic},
        )

    def host(
        self,
        topic: str,
        partitions: int = 1,
        *,
        leader: int = BROKER,
        leader_epoch: int = 0,
        isr: tuple[int, ...] = (BROKER,),
        replicas: tuple[int, ...] = (),
        **config: str,
    ) -> Log:
        """The topic is known, and every partition is hosted; the log of partition 0.

        `config` are topic settings with underscores in place of dots. Again for another epoch.
        """
        if topic not in self.metadata.view.topics:
            self.know(topic, partitions, leader)
        if config:
            self.configs[topic] = LogConfig.from_strings(
                {name.replace("_", "."): value for name, value in config.items()}
            )
        info = self.metadata.view.topics[topic]
        states = [
            LeaderAndIsrPartitionState(
                partition_index=index,
                leader=leader,
                leader_epoch=leader_epoch,
                isr=list(isr),
                replicas=list({BROKER, leader, *isr, *replicas}),
            )
            for index in range(len(info.partitions))
        ]
        request = LeaderAndIsrRequest(
            topic_states=[LeaderAndIsrTopicState(topic, info.topic_id, states)]
        )
        (answer,) = self.replicas.leader_and_isr(request).topics
        assert {p.error_code for p in answer.partition_errors} <= {ErrorCode.NONE}
        log = self.partition(topic).log
        assert log is not None
        return log

    def come_back(
        self, topic: str, *, leader_epoch: int = 2, replicas: tuple[int, ...] = ()
    ) -> Log:
        """Leadership of every partition goes to the other broker and back."""
        self.host(topic, leader=OTHER, leader_epoch=leader_epoch - 1, replicas=replicas)
        return self.host(topic, leader_epoch=leader_epoch, replicas=replicas)

    def partition(self, topic: str, index: int = 0) -> Partition:
        """A hosted partition."""
        partition = self.replicas.partition(topic, index)
        assert partition is not None
        return partition

    def append(self, topic: str, timestamps: Iterable[int], index: int = 0, **header: Any) -> None:
        """One batch with a record for each timestamp; `header` as for `protocol.batch.build`."""
        records = [
            Record(at, timestamp, b"k%d" % at, b"v", ()) for at, timestamp in enumerate(timestamps)
        ]
        self.append_batch(topic, batch.build(records, **header), index)

    def append_batch(self, topic: str, data: bytes, index: int = 0, origin: Any = "client") -> None:
        """Any batch, appended as its leader would and, when replicated, made visible."""
        partition = self.partition(topic, index)
        assert partition.log is not None
        partition.log.append(
            memoryview(bytearray(data)),
            partition.leader_epoch,
            self.clock.now_ms(),
            origin=origin,
        )
        partition.advance()

    async def ask(self, version: int, request: Any, client_id: str | None = None) -> Any:
        """The handler's answer as a client of that version sees it; the request too goes through
        its bytes."""
        key = type(request).API_KEY
        handler = import_module(f"broker.handlers.{API_BY_KEY[key].stem}")
        context = Context("c", "PLAINTEXT", "127.0.0.1")
        context.api_key, context.version, context.client_id = key, version, client_id
        answer = await settled(handler.handle(self.node, context, _through_bytes(request, version)))
        if inspect.isawaitable(answer):
            answer = await answer
        assert type(answer) is response_class(key)
        return _through_bytes(answer, version)


def _through_bytes(message: Any, version: int) -> Any:
    out = bytearray()
    encoder(type(message), version)(message, out)
    seen, end = decoder(type(message), version)(bytes(out), 0)
    assert end == len(out)
    return seen


class Exchange:
    """A recorded request with the answer that Apache Kafka gave."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.kafka: str = row["kafka"]
        self.key: int = row["api"]
        self.version: int = row["version"]
        self.case: str = row["case"]
        request, response = bytes.fromhex(row["request"]), bytes.fromhex(row["response"])
        _, at = decode_request_header(request, 0)
        self.request, _ = decoder(request_class(self.key), self.version)(request, at)
        at = 4 if response_header_version(self.key, self.version) == 0 else 5
        self.answer, end = decoder(response_class(self.key), self.version)(response, at)
        assert end == len(response)

    def __repr__(self) -> str:
        return f"{self.kafka} {API_BY_KEY[self.key].name} v{self.version} {self.case}"


def recorded(name: str, key: int, kafka: str | None = None) -> list[Exchange]:
    """Exchanges of one API from tests/broker/captured, in the order in which they happened."""
    lines = gzip.decompress((CAPTURED / name).read_bytes()).splitlines()
    rows = [json.loads(line) for line in lines]
    chosen = [r for r in rows if r["api"] == key and kafka in (None, r["kafka"])]
    assert chosen, f"{name} has nothing of API {key}"
    return [Exchange(row) for row in chosen]
