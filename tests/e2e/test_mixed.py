"""A little of `tests.e2e.mixed`, `tests.e2e.rolling` and `tests.e2e.handover`."""

from pathlib import Path

import pytest

from tests.e2e import handover, mixed, rolling
from tests.kit.mixed import KAFKA, ODRADEK, lacking

pytestmark = [pytest.mark.java, pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def _java() -> None:
    if sentence := lacking():
        pytest.skip(sentence)


def test_two_kinds_of_brokers_share_a_cluster(tmp_path: Path) -> None:
    mixed.run(tmp_path, ["leadership", "agreement"])


def test_a_broker_is_replaced_by_one_of_the_other_kind_and_back(tmp_path: Path) -> None:
    rolling.run(tmp_path, kinds={0: ODRADEK, 1: KAFKA, 2: ODRADEK})


@pytest.mark.parametrize(("kind", "way"), [(KAFKA, handover.KILL), (ODRADEK, handover.STOP)])
def test_a_data_directory_changes_hands(kind: str, way: str, tmp_path: Path) -> None:
    handover.hand_over(tmp_path, kind, way)
