"""A short run of tests.e2e.store_chaos."""

from pathlib import Path

from broker.cluster.store import SessionEvent
from tests.e2e import store_chaos
from tests.kit import zookeeper


async def test_faults_of_an_ensemble(tmp_path: Path) -> None:
    zookeeper.class_path()
    chaos = await store_chaos.run(tmp_path, 15, 1)
    assert chaos.mistakes == [], chaos.report()
    assert chaos.counts["done"] > 500
    assert chaos.counts["ConnectionLoss"] > 0
    assert chaos.events[SessionEvent.RECONNECTED] > 0
    assert chaos.worst_lag < 0.5, chaos.report()
