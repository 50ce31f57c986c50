"""`python -m tests.e2e.clusters [--kind K]...`: the client tests on every kind of cluster.

    single       one broker
    three        three brokers in one process over an embedded store
    zookeeper    three processes on a real ZooKeeper (needs Java)

On the clusters topics have three replicas, of which two must be in sync.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.settings import QUICK, arguments
from tests.kit import zookeeper
from tests.kit.processes import ProcessCluster
from tests.kit.server import REPOSITORY, Server

SINGLE, THREE, ZOOKEEPER = KINDS = ("single", "three", "zookeeper")
FILES = (
    "test_clients.py",
    "test_groups.py",
    "test_group_admin.py",
    "test_transactions.py",
    "test_share_groups.py",
    "test_scale.py",
    "test_pinned_clients.py",
)
"""Those whose tests take the brokers that they are given."""
REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
}


@contextmanager
def cluster(kind: str, path: Path) -> Iterator[str]:
    """A cluster with its data below `path`; its bootstrap address. All brokers must live on."""
    if kind == ZOOKEEPER:
        address = zookeeper.standalone().address + zookeeper.chroot()
        brokers = ProcessCluster(path, address, settings={**QUICK, **REPLICATED})
        try:
            brokers.start()
            brokers.finalize_features()
            yield brokers.bootstrap
            for broker_id, broker in brokers.brokers.items():
                assert broker.running, f"broker {broker_id} died:\n{broker.log_text()[-4000:]}"
        finally:
            brokers.end()
        return
    given = ["--brokers", "3", *arguments(**REPLICATED)] if kind == THREE else arguments()
    with Server(path / "data", arguments=given) as server:
        yield server.bootstrap
        assert server.running, f"the broker died during the tests:\n{server.log_text()[-4000:]}"
        server.stop(60)


def run(kind: str, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run client tests (names as pytest takes them, relative to this directory) on a cluster."""
    here = Path(__file__).parent
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", *(str(here / test) for test in tests)],
        cwd=REPOSITORY,
        env={**os.environ, "ODRADEK_CLUSTER": kind},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def main() -> int:
    """Exit status 1 when a test fails on some kind."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.clusters")
    parser.add_argument("--kind", action="append", choices=KINDS, default=[])
    options = parser.parse_args()
    failed = False
    for kind in options.kind or KINDS:
        done = run(kind, FILES)
        print(f"--- {kind}\n{done.stdout}", flush=True)
        failed = failed or done.returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
