"""`python -m tests.e2e.failover [--rounds N] [--kind K]...`: brokers are killed, paused and stopped
under load, on a real ZooKeeper, and afterwards every acknowledged record is there, once, in order.

Three broker processes, replication factor 3, min.insync.replicas 2, acks=all idempotent load.

    leader       SIGKILL of a partition's leader
    controller   SIGKILL of the controller
    pause        SIGSTOP of a leader until its session has ended, then SIGCONT
    stop         SIGTERM of a leader: a controlled stop
    zookeeper    SIGKILL of the leader of three ZooKeeper servers
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.load import Load
from tests.kit import zookeeper
from tests.kit.processes import SESSION_MS, ProcessCluster
from tests.kit.zookeeper import Ensemble

TOPIC = "failover"
PARTITIONS = 3
KINDS = ("leader", "controller", "pause", "stop", "zookeeper")
AFTER_DEATH_S = 1.5 * SESSION_MS / 1000
"""Within this writes must go on after a broker has died (and a little for the machine)."""
AFTER_STOP_S = 1.0
SLACK_S = 2.0
"""Tests share their machine."""


class Run:
    """One cluster under load."""

    def __init__(self, cluster: ProcessCluster, ensemble: Ensemble | None) -> None:
        self.cluster = cluster
        self.ensemble = ensemble
        self.load = Load(cluster, TOPIC, PARTITIONS)

    def leader(self) -> int:
        return self.cluster.partition(TOPIC).leader_id

    def play(self, kind: str) -> float:
        """One round; how long writes stood still, in seconds."""
        self.load.go_on()
        rounds: dict[str, Callable[[], float]] = {
            "leader": lambda: self._killed(self.leader()),
            "controller": lambda: self._killed(self.cluster.controller()),
            "pause": self._paused,
            "stop": self._stopped,
            "zookeeper": self._without_zookeeper,
        }
        spent = rounds[kind]()
        self.cluster.in_sync(TOPIC, PARTITIONS)
        self.load.go_on()
        return spent

    def _killed(self, broker_id: int) -> float:
        broker = self.cluster.brokers[broker_id]
        broker.kill()
        spent = self.load.go_on(1)
        broker.start()
        return spent

    def _paused(self) -> float:
        """It goes on as if it still led: nobody may believe it."""
        broker_id = self.leader()
        self.cluster.pause(broker_id)
        spent = self.load.go_on(1)
        self.cluster.until(
            "somebody else leads",
            lambda: self.cluster.partition(TOPIC, but=broker_id).leader_id != broker_id,
        )
        self.load.go_on()
        self.cluster.resume(broker_id)
        return spent

    def _stopped(self) -> float:
        """Writes that were acknowledged while it stopped count."""
        broker = self.cluster.brokers[self.leader()]
        assert broker.process is not None
        broker.process.terminate()
        longest = self.load.longest_pause(broker.process)
        broker.stop()
        self.load.go_on(1)
        broker.start()
        return longest

    def _without_zookeeper(self) -> float:
        assert self.ensemble is not None
        server = self.ensemble.leader()
        server.kill()
        spent = self.load.go_on(1)
        self.load.go_on()
        server.start()
        return spent


def allowed(kind: str) -> float:
    """Seconds that writes may stand still."""
    if kind == "stop":
        return AFTER_STOP_S + SLACK_S
    return AFTER_DEATH_S + SLACK_S


def run(path: Path, kinds: list[str], rounds: int, tell: Callable[[str], None] = print) -> None:
    """Play the rounds; an AssertionError where something does not hold."""
    with ExitStack() as stack:
        ensemble = None
        if "zookeeper" in kinds:
            ensemble = Ensemble(path / "zookeeper")
            stack.callback(ensemble.kill)
            ensemble.start()
            address = ensemble.address
        else:
            address = zookeeper.standalone().address
        cluster = ProcessCluster(path, address + zookeeper.chroot())
        stack.callback(cluster.end)
        cluster.start()
        cluster.create(TOPIC, PARTITIONS)
        game = Run(cluster, ensemble)
        try:
            for kind in kinds:
                for number in range(rounds):
                    spent = game.play(kind)
                    tell(f"{kind} {number + 1}: {spent:.2f} s, {game.load.count()} records")
                    assert spent < allowed(kind), f"{kind}: writes stood still for {spent:.2f} s"
        finally:
            game.load.stop()
        game.load.check()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.failover")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kind", action="append", choices=KINDS, default=[])
    options = parser.parse_args()
    for kind in options.kind or KINDS:
        with tempfile.TemporaryDirectory() as directory:
            run(Path(directory), [kind], options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
