"""Three broker processes, one cluster on a real ZooKeeper: started, killed, paused and stopped one
by one, and looked at through the protocol.
"""

import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from broker.cluster.features import LATEST
from compat.member import Member
from protocol.messages.api_versions import ApiVersionsRequest
from protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponsePartition,
)
from protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from tests.kit.cluster import QUICK
from tests.kit.netns import Network
from tests.kit.server import LOCALHOST, Server
from tests.kit.signals import pause
from tests.kit.wire import ConnectionClosed, NoAnswer, Wire

SESSION_MS = 4000


class ProcessCluster:
    """Brokers 0 to `count`-1 below `path`, on the ZooKeeper at `connect`; on a `network` they are
    its nodes broker-0, ...
    """

    def __init__(
        self,
        path: Path,
        connect: str,
        count: int = 3,
        settings: Mapping[str, str] | None = None,
        network: Network | None = None,
    ) -> None:
        self.connect = connect
        self.brokers: dict[int, Server | Member] = {}
        for broker_id in range(count):
            given = {
                "broker.id": str(broker_id),
                "zookeeper.connect": connect,
                "zookeeper.session.timeout.ms": str(SESSION_MS),
                **QUICK,
                **(settings or {}),
            }
            arguments = [word for item in given.items() for word in ("--set", "=".join(item))]
            name = f"broker-{broker_id}"
            self.brokers[broker_id] = Server(
                path / name,
                arguments=arguments,
                host=LOCALHOST if network is None else network.address(name),
                before=() if network is None else network.at(name),
            )

    def start(self) -> None:
        """All of them, known to each other."""
        for broker in self.brokers.values():
            broker.start()
        self.until("all are there", lambda: len(self.metadata().brokers) == len(self.brokers))

    def end(self) -> None:
        """Kill what runs."""
        for broker in self.brokers.values():
            if broker.running:
                broker.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
            broker.kill()

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.bootstrap for broker in self.brokers.values())

    def pause(self, broker_id: int) -> None:
        """SIGSTOP: it hangs."""
        process = self.brokers[broker_id].process
        assert process is not None
        pause(process)

    def resume(self, broker_id: int) -> None:
        """SIGCONT."""
        self.brokers[broker_id].process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]

    # --- looking

    def metadata(self, *topics: str, but: int = -1) -> MetadataResponse:
        """What a broker that runs (and is not `but`) knows."""
        wanted = [MetadataRequestTopic(name=name) for name in topics]
        for broker_id, broker in self.brokers.items():
            if broker.running and broker_id != but:
                try:
                    with Wire(broker.bootstrap, timeout=2) as wire:
                        answer: MetadataResponse = wire.call(
                            MetadataRequest(wanted, allow_auto_topic_creation=False), 9
                        )
                        return answer
                except (OSError, ConnectionClosed, NoAnswer):
                    continue
        raise AssertionError("no broker answers")

    def metadata_of(self, broker_id: int, *topics: str) -> MetadataResponse:
        """What one broker knows."""
        wanted = [MetadataRequestTopic(name=name) for name in topics]
        with Wire(self.brokers[broker_id].bootstrap, timeout=10) as wire:
            answer: MetadataResponse = wire.call(MetadataRequest(wanted, False), 9)
            return answer

    def partition(self, topic: str, index: int = 0, but: int = -1) -> MetadataResponsePartition:
        """A partition as a broker that is not `but` knows it."""
        for partition in self.metadata(topic, but=but).topics[0].partitions:
            if partition.partition_index == index:
                return partition
        raise AssertionError(f"{topic}-{index} is not known")

    def controller(self) -> int:
        """Id of the controller."""
        return self.metadata().controller_id

    def in_sync(self, topic: str, partitions: int) -> None:
        """Wait until all replicas are in sync, as every broker knows: one that was cut off believes
        for a while what was so before."""
        count = len(self.brokers)

        def agreed() -> bool:
            views = set()
            for broker_id in self.brokers:
                try:
                    (view,) = self.metadata_of(broker_id, topic).topics
                except (OSError, ConnectionClosed, NoAnswer):
                    return False
                views.add(
                    tuple(
                        sorted(
                            (p.partition_index, p.leader_id, p.leader_epoch, len(p.isr_nodes))
                            for p in view.partitions
                        )
                    )
                )
            return len(views) == 1 and [row[3] for row in views.pop()] == [count] * partitions

        self.until(f"all replicas of {topic} are in sync", agreed)

    def create(self, topic: str, partitions: int, configs: Mapping[str, str] | None = None) -> None:
        """A topic with a replica on each broker."""
        settings = [CreatableTopicConfig(*item) for item in (configs or {}).items()]
        wanted = CreatableTopic(topic, partitions, len(self.brokers), configs=settings)
        with Wire(self.brokers[self.controller()].bootstrap, timeout=20) as wire:
            answer = wire.call(CreateTopicsRequest([wanted], 15_000), 5)
        assert answer.topics[0].error_code == 0, answer
        self.in_sync(topic, partitions)

    def finalize_features(self) -> None:
        """Raise all features to the newest levels, as an operator does after an upgrade: a cluster
        on ZooKeeper begins without any.
        """
        wanted = [FeatureUpdateKey(name, level) for name, level in LATEST.items()]
        with Wire(self.brokers[self.controller()].bootstrap, timeout=20) as wire:
            answer = wire.call(UpdateFeaturesRequest(feature_updates=wanted))
        assert answer.error_code == 0, answer
        for broker in self.brokers.values():
            self.until("features are known", partial(self._works_at_latest, broker))

    @staticmethod
    def _works_at_latest(broker: Server | Member) -> bool:
        with Wire(broker.bootstrap, timeout=5) as wire:
            answer = wire.call(ApiVersionsRequest("tests", "1"))
        levels = {feature.name: feature.max_version_level for feature in answer.finalized_features}
        return levels == LATEST

    @staticmethod
    def until(what: str, done: Callable[[], bool], seconds: float = 30.0) -> None:
        """Wait for something; an AssertionError when it takes too long."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"not in {seconds} s: {what}"
            time.sleep(0.05)
