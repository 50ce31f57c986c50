"""A cluster on a real ZooKeeper whose brokers are Odradek's or Apache Kafka's, each id either kind:
replaced one by the other on the same data, and looked at through the protocol.
"""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from compat.member import Member, run_tool
from compat.reference import missing
from protocol.errors import ErrorCode
from protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from tests.kit import zookeeper
from tests.kit.cluster import QUICK
from tests.kit.processes import SESSION_MS, ProcessCluster
from tests.kit.server import Server
from tests.kit.wire import Wire

T = TypeVar("T")
KAFKA = "kafka"
ODRADEK = "odradek"
VERSION = "3.9.2"
LIGHT: Mapping[str, str] = {
    "num.io.threads": "4",
    "num.network.threads": "2",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "log.index.size.max.bytes": "1048576",
    "auto.leader.rebalance.enable": "false",
    "controlled.shutdown.retry.backoff.ms": "500",
    "broker.id.generation.enable": "false",
}
"""Little memory, a quick start, and leaders that stay where they are put."""


class MixedCluster(ProcessCluster):
    """Brokers below `path`, of the kind `kinds` gives each id."""

    def __init__(
        self,
        path: Path,
        connect: str,
        kinds: Mapping[int, str],
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(path, connect, 0)
        self.path = path
        self.kinds = dict(kinds)
        self._connect = connect
        self._settings = {**QUICK, **LIGHT, **(settings or {})}
        for broker_id in kinds:
            self.brokers[broker_id] = self._broker(broker_id, 0)
        host, _, root = connect.partition("/")
        self.zookeeper = KazooClient(host)
        self.zookeeper.start()
        self.zookeeper.ensure_path(f"/{root}")
        self.zookeeper.chroot = f"/{root}"

    def _broker(self, broker_id: int, port: int) -> Server | Member:
        data_dir = self.data_dir(broker_id)
        given = {
            "broker.id": str(broker_id),
            "zookeeper.connect": self._connect,
            "zookeeper.session.timeout.ms": str(SESSION_MS),
            **self._settings,
        }
        if self.kinds[broker_id] == KAFKA:
            return Member(VERSION, data_dir, given, port=port)
        arguments = [word for item in given.items() for word in ("--set", "=".join(item))]
        return Server(data_dir, arguments=arguments, port=port)

    def data_dir(self, broker_id: int) -> Path:
        """Where a broker keeps its logs, whatever its kind."""
        return self.path / f"broker-{broker_id}"

    def start(self) -> None:
        """All of them at once, known to each other."""
        for broker in self.brokers.values():
            if isinstance(broker, Member):
                broker.launch()
        for broker in self.brokers.values():
            if isinstance(broker, Member):
                broker.wait()
            else:
                broker.start()
        self.until("all are there", self.all_known)

    def all_known(self) -> bool:
        """Whether each broker knows each."""
        return all(
            len(self.metadata_of(broker_id).brokers) == len(self.brokers)
            for broker_id in self.brokers
        )

    def end(self) -> None:
        """Kill what runs."""
        super().end()
        self.zookeeper.stop()
        self.zookeeper.close()

    def unregistered(self, broker_id: int) -> None:
        """Wait until a broker that was killed is no longer registered."""
        path = f"/brokers/ids/{broker_id}"
        self.until(f"{path} is gone", lambda: self.zookeeper.exists(path) is None)

    def restart(self, broker_id: int, kind: str | None = None) -> None:
        """Start a broker that was stopped or killed, as another kind where one is given."""
        self.unregistered(broker_id)
        if kind is not None and kind != self.kinds[broker_id]:
            self.kinds[broker_id] = kind
            self.brokers[broker_id] = self._broker(broker_id, self.brokers[broker_id].port)
        self.brokers[broker_id].start()

    def in_sync(self, topic: str, partitions: int) -> None:
        """Wait until all replicas are in sync, and every broker knows it."""

        def known(broker_id: int) -> bool:
            found = self.metadata_of(broker_id, topic).topics[0].partitions
            full = [
                p for p in found if len(p.isr_nodes) == len(p.replica_nodes) and not p.error_code
            ]
            return len(full) == partitions

        self.until(
            f"all replicas of {topic} are in sync", lambda: all(map(known, self.brokers)), 60
        )

    def alike(self, what: str, view: Callable[[int], T], seconds: float = 30) -> T:
        """Wait until all brokers show the same; an AssertionError with what each one shows."""
        end = time.monotonic() + seconds
        while True:
            shown = {broker_id: view(broker_id) for broker_id in sorted(self.brokers)}
            first, *others = shown.values()
            if all(other == first for other in others):
                return first
            if time.monotonic() > end:
                told = "\n".join(f"{number}: {found}" for number, found in shown.items())
                raise AssertionError(f"{what} differ:\n{told}")
            time.sleep(0.1)

    # --- asking and moving

    def call(self, broker_id: int, request: Any, version: int) -> Any:
        """One broker's answer."""
        with Wire(self.brokers[broker_id].bootstrap, timeout=30) as wire:
            return wire.call(request, version)

    def of_kind(self, kind: str) -> list[int]:
        """Ids of the brokers of a kind."""
        return [broker_id for broker_id, known in self.kinds.items() if known == kind]

    def control(self, wanted: Collection[int], seconds: float = 60) -> int:
        """Have the controller deposed until it is one of these; which one.

        Returns when every broker that runs knows it.
        """
        end = time.monotonic() + seconds
        while (found := self._settled_controller(end)) not in wanted:
            assert time.monotonic() < end, f"{found} is the controller, not one of {wanted}"
            try:
                self.zookeeper.delete("/controller")
            except NoNodeError:
                continue
        return found

    def _settled_controller(self, end: float) -> int:
        """Who is the controller, when that is in ZooKeeper and all brokers have heard it."""
        while True:
            running = [i for i, broker in self.brokers.items() if broker.running]
            told = {self.metadata_of(broker_id).controller_id for broker_id in running}
            try:
                node, _ = self.zookeeper.get("/controller")
                if told == {found := int(json.loads(node)["brokerid"])}:
                    return found
            except NoNodeError:
                pass
            assert time.monotonic() < end, f"they do not agree on the controller: {told}"
            time.sleep(0.05)

    def leaders(self, topic: str) -> dict[int, int]:
        """Partition -> leader, as the controller knows."""
        partitions = self.metadata_of(self.controller(), topic).topics[0].partitions
        return {p.partition_index: p.leader_id for p in partitions}

    def elect(self, topic: str) -> None:
        """The preferred leaders take over."""
        partitions = list(self.leaders(topic))
        request = ElectLeadersRequest(0, [TopicPartitions(topic, partitions)], 20_000)
        answer = self.call(self.controller(), request, 2)
        assert answer.error_code == ErrorCode.NONE, answer
        for result in answer.replica_election_results[0].partition_result:
            allowed = (ErrorCode.NONE, ErrorCode.ELECTION_NOT_NEEDED)
            assert result.error_code in allowed, answer

    def reassign(self, topic: str, replicas: Mapping[int, Sequence[int]]) -> None:
        """Give partitions other replicas, or the same ones in another order."""
        wanted = [ReassignablePartition(index, list(ids)) for index, ids in replicas.items()]
        request = AlterPartitionReassignmentsRequest(
            60_000, topics=[ReassignableTopic(topic, wanted)]
        )
        answer = self.call(self.controller(), request, 0)
        assert answer.error_code == ErrorCode.NONE, answer
        assert not any(p.error_code for p in answer.responses[0].partitions), answer

    def create_led(
        self,
        topic: str,
        configs: Mapping[str, str] | None = None,
        replicas: Sequence[Sequence[int]] = ((0, 1, 2), (1, 2, 0), (2, 0, 1)),
    ) -> None:
        """A topic whose partition 0 prefers broker 0 as its leader, 1 broker 1, 2 broker 2."""
        assigned = [CreatableReplicaAssignment(i, list(ids)) for i, ids in enumerate(replicas)]
        settings = [CreatableTopicConfig(*item) for item in (configs or {}).items()]
        wanted = [CreatableTopic(topic, -1, -1, assigned, settings)]
        answer = self.call(self.controller(), CreateTopicsRequest(wanted, 30_000), 5)
        assert answer.topics[0].error_code == ErrorCode.NONE, answer
        self.in_sync(topic, len(replicas))

    def lead(self, topic: str, leader: int) -> None:
        """Make a broker the leader of all partitions of a topic with a replica on every one."""
        order = [leader, *(broker_id for broker_id in self.brokers if broker_id != leader)]
        self.reassign(topic, dict.fromkeys(self.leaders(topic), order))
        self.elect(topic)
        self.until(f"{leader} leads {topic}", lambda: set(self.leaders(topic).values()) == {leader})

    # --- the logs

    def log_bytes(self, broker_id: int, topic: str, partition: int) -> bytes:
        """Batches of a replica's log as they lie on the disk, segment after segment."""
        folder = self.data_dir(broker_id) / f"{topic}-{partition}"
        return b"".join(path.read_bytes() for path in sorted(folder.glob("*.log")))

    def replicas_equal(self, topic: str, partitions: int) -> int:
        """Wait until all replicas have the same bytes, and some; how many a replica."""
        total = 0
        for partition in range(partitions):

            def equal(index: int = partition) -> bool:
                logs = {self.log_bytes(broker_id, topic, index) for broker_id in self.brokers}
                return len(logs) == 1 and logs != {b""}

            self.until(f"replicas of {topic}-{partition} are byte-equal", equal)
            total += len(self.log_bytes(min(self.brokers), topic, partition))
        return total

    def run(self, main: str, *arguments: str) -> str:
        """What one of Apache Kafka's own programs prints."""
        return run_tool(VERSION, self.path / "tools", main, *arguments)

    def tool(self, main: str, *arguments: str, at: int | None = None) -> str:
        """The same of a tool that is told a broker to begin with: any, or the one given."""
        where = self.bootstrap if at is None else self.brokers[at].bootstrap
        given = ("--bootstrap-server", where, *arguments)
        return self.run(main, *given)


def lacking() -> str | None:
    """One sentence on what this machine lacks to run a mixed cluster, or None."""
    return zookeeper.lacking() or missing(VERSION)
