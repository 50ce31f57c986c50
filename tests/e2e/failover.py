"""`python -m tests.e2e.failover [--rounds N] [--kind K]...`: brokers are killed, paused, stopped
and cut off under load, on a real ZooKeeper; afterwards every acknowledged record is there, once, in
order.

Three broker processes, replication factor 3, min.insync.replicas 2, acks=all idempotent load of
confluent-kafka and of aiokafka. The rounds tell how long writes of each stood still.

    leader           SIGKILL of a partition's leader
    controller       SIGKILL of the controller
    pause            SIGSTOP of a leader until its session has ended, then SIGCONT
    stop             SIGTERM of a leader: a controlled stop
    zookeeper        SIGKILL of the leader of three ZooKeeper servers
    zookeeper-pause  SIGSTOP of the leader of three ZooKeeper servers, then SIGCONT
    cut              a leader is cut off from others both ways (`tests.e2e.cuts`); clients reach all
    one-way          packets of one direction are dropped
"""

import argparse
import functools
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.cuts import BOTH_WAYS, ONE_WAY, STORE, Cut, Place
from tests.e2e.load import REQUEST_TIMEOUT_MS, AiokafkaLoad, AnyLoad, Load
from tests.kit import netns, zookeeper
from tests.kit.netns import Network
from tests.kit.processes import SESSION_MS, ProcessCluster
from tests.kit.zookeeper import Ensemble

TOPICS: dict[str, type[AnyLoad]] = {"by-confluent": Load, "by-aiokafka": AiokafkaLoad}
PARTITIONS = 3
LAST_WORDS = 8000
"""Characters of each broker's log that are told where something does not hold."""
NETWORKED = ("cut", "one-way")
ON_ENSEMBLE = ("zookeeper", "zookeeper-pause")
KINDS = ("leader", "controller", "pause", "stop", *ON_ENSEMBLE, *NETWORKED)
AFTER_DEATH_S = 1.5 * SESSION_MS / 1000
"""Within this writes must go on after a broker has died."""
AFTER_STOP_S = 1.0
LONGER_S = 1.5 * SESSION_MS / 1000
"""Longer than it takes until a session is over or a follower is out of the ISR."""
PATIENCE_S = 60.0

Stood = dict[str, float]
"""Seconds that writes stood still, by client."""


class Run:
    """One cluster under load."""

    def __init__(
        self, cluster: ProcessCluster, ensemble: Ensemble | None, network: Network | None
    ) -> None:
        self.cluster = cluster
        self.ensemble = ensemble
        self.network = network
        self.told = ""
        """More about the last round."""
        for topic in TOPICS:
            cluster.create(topic, PARTITIONS)
        self.loads = [make(cluster, topic, PARTITIONS) for topic, make in TOPICS.items()]

    def leader(self) -> int:
        return self.cluster.partition(next(iter(TOPICS))).leader_id

    def play(self, kind: str, number: int) -> Stood:
        """One round; how long writes stood still, as far as they can go on meanwhile."""
        self._write()
        rounds: dict[str, Callable[[], Stood]] = {
            "leader": lambda: self._killed(self.leader()),
            "controller": lambda: self._killed(self.cluster.controller()),
            "pause": self._paused,
            "stop": self._stopped,
            "zookeeper": self._without_zookeeper,
            "zookeeper-pause": self._with_zookeeper_paused,
            "cut": lambda: self._cut(BOTH_WAYS[number % len(BOTH_WAYS)]),
            "one-way": lambda: self._cut(ONE_WAY[number % len(ONE_WAY)]),
        }
        spent = rounds[kind]()
        for topic in TOPICS:
            self.cluster.in_sync(topic, PARTITIONS)
        self._write()
        return spent

    def _write(self, records: int = 150) -> None:
        """Wait until so many more are acknowledged in every partition."""
        since = [(load, load.counts()) for load in self.loads]
        end = time.monotonic() + PATIENCE_S
        while not all(load.went_on(counts, records) for load, counts in since):
            assert time.monotonic() < end, "writes do not go on"
            time.sleep(0.005)

    def _watch(self, under_way: Callable[[], bool] = lambda: False) -> Stood:
        """Look on while something is under way, and until writes have gone on in every partition:
        the longest time that some partition stood still."""
        began = now = time.monotonic()
        longest = {load.client: 0.0 for load in self.loads}
        places = [(load, partition) for load in self.loads for partition in range(PARTITIONS)]
        seen = {place: (len(place[0].acknowledged[place[1]]), began) for place in places}
        waiting = set(places)
        while waiting or under_way():
            now = time.monotonic()
            for place in places:
                load, partition = place
                count, since = seen[place]
                written = len(load.acknowledged[partition])
                longest[load.client] = max(longest[load.client], now - since)
                assert not load.failed, load.failed[:3]
                assert now < since + PATIENCE_S, f"{load.client}: writes do not go on"
                if written > count:
                    seen[place] = written, now
                    waiting.discard(place)
            time.sleep(0.002)
        return longest

    def _killed(self, broker_id: int) -> Stood:
        broker = self.cluster.brokers[broker_id]
        broker.kill()
        spent = self._watch()
        broker.start()
        return spent

    def _paused(self) -> Stood:
        """It goes on as if it still led: nobody may believe it."""
        broker_id = self.leader()
        self.cluster.pause(broker_id)
        spent = self._watch(lambda: self._leads(broker_id))
        self._write()
        self.cluster.resume(broker_id)
        return spent

    def _leads(self, broker_id: int) -> bool:
        """Whether the others believe that it leads something."""
        return any(
            partition.leader_id == broker_id
            for topic in self.cluster.metadata(*TOPICS, but=broker_id).topics
            for partition in topic.partitions
        )

    def _stopped(self) -> Stood:
        """Writes that were acknowledged while it stopped count."""
        broker = self.cluster.brokers[self.leader()]
        process = broker.process
        assert process is not None
        process.terminate()
        spent = self._watch(lambda: process.poll() is None)
        broker.stop()
        broker.start()
        return spent

    def _without_zookeeper(self) -> Stood:
        assert self.ensemble is not None
        server = self.ensemble.leader()
        server.kill()
        spent = self._watch(lasting(LONGER_S))
        server.start()
        return spent

    def _with_zookeeper_paused(self) -> Stood:
        """Sessions must have gone to the other servers."""
        assert self.ensemble is not None
        server = self.ensemble.leader()
        server.pause()
        spent = self._watch(lasting(LONGER_S))
        server.resume()
        return spent

    def _cut(self, cut: Cut) -> Stood:
        assert self.network is not None
        leader, controller = self.leader(), self.cluster.controller()
        if cut.two_followers and leader == controller:
            leader = next(i for i in self.cluster.brokers if i != controller)
        others = sorted(self.cluster.brokers.keys() - {leader}, key=lambda i: i == controller)
        names = {broker_id: f"broker-{broker_id}" for broker_id in self.cluster.brokers}
        self.told = cut.name
        cut.make(self.network, Place(names[leader], [names[i] for i in others]))
        if cut.goes_on:
            spent = self._watch(lasting(LONGER_S))
            self._write()
            self.network.heal()
            return spent
        time.sleep(LONGER_S)
        self.network.heal()
        return self._watch()


def lasting(seconds: float) -> Callable[[], bool]:
    """Whether so many seconds are not over yet."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


def allowed(kind: str) -> float:
    """Seconds that writes may stand still."""
    if kind == "stop":
        return AFTER_STOP_S
    if kind == "pause":
        # A leader that hangs keeps clients waiting until their requests time out.
        return AFTER_DEATH_S + 2 * REQUEST_TIMEOUT_MS / 1000
    if kind in NETWORKED:
        # One that is cut off does that too, and answers those who ask who leads: some ask it
        # several times.
        return AFTER_DEATH_S + 4 * REQUEST_TIMEOUT_MS / 1000
    return AFTER_DEATH_S


def run(
    path: Path,
    kinds: list[str],
    rounds: int,
    slack_s: float,
    tell: Callable[[str], None] = print,
) -> None:
    """Play the rounds; an AssertionError where something does not hold. Writes may stand still
    `slack_s` longer on a machine that is shared. Kinds that need a network (`NETWORKED`) are played
    in what `netns.call` runs."""
    with ExitStack() as stack:
        network = ensemble = None
        if set(kinds) & set(NETWORKED):
            network = Network([STORE, "broker-0", "broker-1", "broker-2"])
        if network is not None or set(kinds) & set(ON_ENSEMBLE):
            ensemble = Ensemble(path / "zookeeper", 3 if network is None else 1, network)
            stack.callback(ensemble.kill)
            ensemble.start()
            address = ensemble.address
        else:
            address = zookeeper.standalone().address
        # An election of the preferred leader that begins as the way to that broker is cut leaves
        # the partition with a leader that does not know it, as with Apache Kafka.
        settings = {"auto.leader.rebalance.enable": "false"}
        cluster = ProcessCluster(path, address + zookeeper.chroot(), 3, settings, network)
        stack.callback(cluster.end)
        cluster.start()
        game = Run(cluster, ensemble, network)
        try:
            for kind in kinds:
                _play(game, kind, rounds, slack_s, tell)
        except AssertionError:
            for broker_id, broker in cluster.brokers.items():
                tell(f"broker {broker_id} said last:\n{broker.log_text()[-LAST_WORDS:]}")
            raise
        finally:
            for load in game.loads:
                load.stop()
        for load in game.loads:
            load.check()


def _play(game: Run, kind: str, rounds: int, slack_s: float, tell: Callable[[str], None]) -> None:
    worst: Stood = {}
    for number in range(rounds):
        spent = game.play(kind, number)
        written = sum(load.count() for load in game.loads)
        seconds = ", ".join(f"{name} {s:.2f} s" for name, s in spent.items())
        tell(f"{kind} {number + 1}: {seconds}, {written} records {game.told}")
        for name, s in spent.items():
            assert s < allowed(kind) + slack_s, f"{kind}: {name} stood still for {s:.2f} s"
            worst[name] = max(s, worst.get(name, 0.0))
    tell(f"{kind}, longest: {worst}")


def main() -> int:
    """Exit status 1 when something does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.failover")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kind", action="append", choices=KINDS, default=[])
    parser.add_argument("--slack", type=float, default=0.0, help="seconds for a machine in use")
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells of every attempt
    for kind in options.kind or KINDS:
        if kind in NETWORKED and not netns.inside():
            again = ["--kind", kind, "--rounds", str(options.rounds)]
            again += ["--slack", str(options.slack)]
            status = netns.call("tests.e2e.failover", again)
            if status:
                return status
            continue
        with tempfile.TemporaryDirectory() as directory:
            tell = functools.partial(print, flush=True)
            run(Path(directory), [kind], options.rounds, options.slack, tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
