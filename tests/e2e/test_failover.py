"""Two rounds of each kind of `tests.e2e.failover`."""

from pathlib import Path

import pytest

from tests.e2e import failover
from tests.kit import netns, zookeeper

SLACK_S = 4.0
"""Tests share their machine; the command that plays more rounds does not."""


@pytest.mark.java
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "kinds", [["stop", "leader"], ["controller", "pause"], ["zookeeper", "zookeeper-pause"]]
)
def test_nothing_is_lost(kinds: list[str], tmp_path: Path) -> None:
    if sentence := zookeeper.lacking():
        pytest.skip(sentence)
    failover.run(tmp_path, kinds, 2, SLACK_S)


@pytest.mark.java
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", failover.NETWORKED)
def test_nothing_is_lost_in_a_network_that_is_cut(kind: str) -> None:
    if sentence := zookeeper.lacking() or netns.lacking():
        pytest.skip(sentence)
    arguments = ["--kind", kind, "--rounds", "2", "--slack", str(SLACK_S)]
    assert netns.call("tests.e2e.failover", arguments) == 0
