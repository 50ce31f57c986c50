"""A bounded run of the kill test; `python -m tests.e2e.kill --rounds 50` is the long one."""

from pathlib import Path

import pytest

from tests.e2e import kill
from tests.kit.server import Server


def test_nothing_acknowledged_is_lost_by_kills(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    server.start()
    try:
        report = kill.run(server, rounds=4, seed=20240611)
    finally:
        server.stop()
    assert report.rounds == 4 and report.records > 100
    assert max(report.start_seconds) < 5


def test_the_ledger_notices_loss_doubles_and_disorder() -> None:
    def ledger(gapless: bool, *numbers: int) -> kill.Ledger:
        made = kill.Ledger(0, gapless)
        for offset, number in enumerate(numbers):
            made.see(offset, number)
        return made

    ledger(True, 0, 1, 2).settle({})
    ledger(False, 0, 5, 9).settle({})
    for gapless, numbers in ((True, (0, 2)), (True, (0, 0)), (False, (3, 3)), (False, (4, 2))):
        with pytest.raises(kill.Lost):
            ledger(gapless, *numbers)
    short = ledger(True, 0, 1)
    for offset, number in ((2, 2), (1, 0)):
        short.promise(offset, number)
        with pytest.raises(kill.Lost):
            short.settle({offset: number})
