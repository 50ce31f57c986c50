"""`python -m tests.e2e.rolling [--rounds N] [--kill]`: three brokers of Apache Kafka are replaced
by Odradek one by one, same id, port and data directory, same ZooKeeper, and back again, under
acks=all load; afterwards every acknowledged record is there, once, in order.

With `--kill` each broker is ended by SIGKILL instead of a controlled shutdown.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.load import Load
from tests.kit import zookeeper
from tests.kit.mixed import KAFKA, ODRADEK, MixedCluster

TOPIC = "rolling"
PARTITIONS = 3
KINDS = {0: KAFKA, 1: KAFKA, 2: KAFKA}


def replace(cluster: MixedCluster, load: Load, broker_id: int, kind: str, kill: bool) -> float:
    """One broker goes, one of another kind comes in its place.

    How long writes to a partition stood still, in seconds.
    """
    broker = cluster.brokers[broker_id]
    if kill:
        broker.kill()
        spent = load.go_on(1)
    else:
        assert broker.process is not None
        broker.process.terminate()
        spent = load.longest_pause(broker.process)
        broker.stop()
    cluster.restart(broker_id, kind)
    cluster.in_sync(TOPIC, PARTITIONS)
    load.go_on(20)
    cluster.elect(TOPIC)
    load.go_on(20)
    return spent


def run(
    path: Path,
    rounds: int = 1,
    *,
    kill: bool = False,
    kinds: Mapping[int, str] = KINDS,
    tell: Callable[[str], None] = print,
) -> None:
    """Each broker of Apache Kafka there and back so many times; an AssertionError where something
    does not hold. `kinds`: what the brokers are at the beginning.
    """
    with ExitStack() as stack:
        connect = zookeeper.standalone().address + zookeeper.chroot()
        cluster = MixedCluster(path, connect, kinds)
        stack.callback(cluster.end)
        cluster.start()
        cluster.create(TOPIC, PARTITIONS)
        load = Load(cluster, TOPIC, PARTITIONS)
        try:
            load.go_on(20)
            for _ in range(rounds):
                for kind in (ODRADEK, KAFKA):
                    for broker_id in (i for i, first in kinds.items() if first == KAFKA):
                        spent = replace(cluster, load, broker_id, kind, kill)
                        tell(f"{broker_id} is {kind}: {spent:.2f} s, {load.count()} records")
        finally:
            load.stop()
        load.check()
        tell(f"byte-equal: {cluster.replicas_equal(TOPIC, PARTITIONS)} bytes a replica")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.rolling")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--kill", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        run(Path(directory), options.rounds, kill=options.kill)
    return 0


if __name__ == "__main__":
    sys.exit(main())
