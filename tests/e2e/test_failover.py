"""Two rounds of each kind of `tests.e2e.failover`."""

from pathlib import Path

import pytest

from tests.e2e import failover
from tests.kit import netns, zookeeper


@pytest.mark.java
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "kinds", [["stop", "leader"], ["controller", "pause"], ["zookeeper", "zookeeper-pause"]]
)
def test_nothing_is_lost(kinds: list[str], tmp_path: Path) -> None:
    if sentence := zookeeper.lacking():
        pytest.skip(sentence)
    failover.run(tmp_path, kinds, rounds=2)


@pytest.mark.java
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", failover.NETWORKED)
def test_nothing_is_lost_in_a_network_that_is_cut(kind: str) -> None:
    if sentence := zookeeper.lacking() or netns.lacking():
        pytest.skip(sentence)
    assert netns.call("tests.e2e.failover", ["--kind", kind, "--rounds", "2"]) == 0
