"""A bounded run of the exactly-once test; `python -m tests.e2e.exactly_once` is the long one."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e import exactly_once, once_cluster
from tests.e2e.settings import arguments
from tests.kit.server import Server


def test_nothing_is_lost_or_doubled_by_kills(tmp_path: Path) -> None:
    with Server(tmp_path / "data", arguments=arguments()) as server:
        report = exactly_once.run(
            server,
            worker_kills=3,
            broker_kills=2,
            zombies=1,
            seed=20261128,
            clients=["confluent", "aiokafka"],
        )
    assert (report.worker_kills, report.broker_kills, report.zombies) == (3, 2, 1)
    assert report.records > 500 and report.aborted > 0


def test_nothing_is_lost_or_doubled_on_three_brokers(tmp_path: Path) -> None:
    """Whoever leads and coordinates dies: the others go on with groups and transactions."""
    with ExitStack() as stack:
        trio = once_cluster.start(stack, "process", tmp_path, seed=3)
        report = exactly_once.run(
            trio,
            worker_kills=1,
            broker_kills=3,
            zombies=0,
            seed=20261128,
            clients=["confluent-consumer"],
            patient=True,
            replicas=once_cluster.COUNT,
        )
    assert (report.worker_kills, report.broker_kills) == (1, 3)
    assert report.records > 100


def test_the_check_notices_loss_doubles_disorder_and_aborted_records() -> None:
    records = [(0, "a"), (1, "a"), (2, "c")]
    good = {partition: list(records) for partition in range(exactly_once.PARTITIONS)}
    log = {p: [(0, "a"), (1, "a"), (2, "b"), (2, "c")] for p in good}
    count = exactly_once.PARTITIONS
    flushed = [f"flushed b {count}"]
    exactly_once.check("x", 3, good, log, flushed)
    for bad in (
        [(0, "a"), (2, "c")],
        [(0, "a"), (1, "a"), (1, "a"), (2, "c")],
        [(0, "a"), (2, "c"), (1, "a")],
    ):
        with pytest.raises(exactly_once.Broken, match="records where 3 are due"):
            exactly_once.check("x", 3, {**good, 2: bad}, log, flushed)
    with pytest.raises(exactly_once.Broken, match="which was aborted"):
        exactly_once.check("x", 3, good, log, [f"flushed c {count}"])
    with pytest.raises(exactly_once.Broken, match="were written"):
        exactly_once.check("x", 3, good, log, [f"flushed b {count + 1}"])
    with pytest.raises(exactly_once.Broken, match="not there for everybody"):
        exactly_once.check("x", 3, good, {**log, 1: []}, [])
