"""Three brokers for the exactly-once test: each kill is of another one, by chance, and the killed
one comes back and catches up before the next kill."""

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from protocol.messages.metadata import MetadataRequest, MetadataResponse
from protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from tests.e2e.settings import QUICK
from tests.kit import zookeeper
from tests.kit.cluster import Cluster, ThreadedCluster
from tests.kit.processes import ProcessCluster
from tests.kit.wire import Wire

COUNT = 3
SECONDS = 60.0
LEVELS = {"group.version": 1, "transaction.version": 2}
"""Features that a cluster on ZooKeeper has only when somebody asks for them."""


class Trio:
    """A `tests.e2e.exactly_once.Broker` that is three. `end(broker id)` and `begin(broker id)` kill
    and start one of them."""

    def __init__(
        self,
        bootstrap: str,
        end: Callable[[int], None],
        begin: Callable[[int], None],
        seed: int,
    ) -> None:
        self.bootstrap = bootstrap
        self._end = end
        self._begin = begin
        self._chance = random.Random(seed)
        self._down = -1

    def kill(self) -> None:
        """One of them dies."""
        self._down = self._chance.randrange(COUNT)
        self._end(self._down)

    def start(self, timeout: float = SECONDS) -> float:
        """The dead one comes back; seconds until every replica of everything is in sync."""
        began = time.monotonic()
        self._begin(self._down)
        while lagging := self._lagging():
            assert time.monotonic() < began + timeout, f"out of sync: {lagging}"
            time.sleep(0.05)
        return time.monotonic() - began

    def _lagging(self) -> list[str]:
        """Partitions that have not all of their replicas in sync."""
        with Wire(self.bootstrap.split(",")[self._down]) as wire:
            found: MetadataResponse = wire.call(MetadataRequest(None), 9)
        if not found.topics:
            return ["nothing is known yet"]
        return [
            f"{topic.name}-{partition.partition_index}: leader {partition.leader_id}, "
            f"{partition.isr_nodes} of {partition.replica_nodes}"
            for topic in found.topics
            for partition in topic.partitions
            if len(partition.isr_nodes) < len(partition.replica_nodes)
        ]


def start(stack: ExitStack, kind: str, path: Path, seed: int) -> Trio:
    """Brokers that run until the stack is closed; `kind` is one of `exactly_once.CLUSTERS`."""
    return (_in_process if kind == "process" else _on_zookeeper)(stack, path, seed)


def _in_process(stack: ExitStack, path: Path, seed: int) -> Trio:
    running = stack.enter_context(ThreadedCluster(path, settings=QUICK))

    def end(broker_id: int) -> None:
        running.call(Cluster.crash, broker_id)

    def begin(broker_id: int) -> None:
        running.call(Cluster.start_one, broker_id)

    return Trio(running.bootstrap, end, begin, seed)


def _on_zookeeper(stack: ExitStack, path: Path, seed: int) -> Trio:
    connect = zookeeper.standalone().address + zookeeper.chroot()
    cluster = ProcessCluster(path, connect, settings=QUICK)
    stack.callback(cluster.end)
    cluster.start()
    raise_features(cluster)

    def end(broker_id: int) -> None:
        cluster.brokers[broker_id].kill()

    def begin(broker_id: int) -> None:
        cluster.brokers[broker_id].start(SECONDS)

    return Trio(cluster.bootstrap, end, begin, seed)


def raise_features(cluster: ProcessCluster) -> None:
    """Have the controller finalize what the clients want."""
    updates = [FeatureUpdateKey(name, level) for name, level in LEVELS.items()]
    with Wire(cluster.brokers[cluster.controller()].bootstrap, timeout=30) as wire:
        answer = wire.call(UpdateFeaturesRequest(20_000, updates), 1)
    assert answer.error_code == 0 and not any(row.error_code for row in answer.results), answer
