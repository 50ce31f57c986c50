"""Two rounds of each kind of `tests.e2e.failover`."""

from pathlib import Path

import pytest

from tests.e2e import failover
from tests.kit import zookeeper


@pytest.mark.java
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kinds", [["stop", "leader"], ["controller", "pause"], ["zookeeper"]])
def test_nothing_is_lost(kinds: list[str], tmp_path: Path) -> None:
    if sentence := zookeeper.lacking():
        pytest.skip(sentence)
    failover.run(tmp_path, kinds, rounds=2)
