"""The transaction machine over restarts. `script.py` tells how to read the transcripts."""

import pytest

from broker.transactions.machine import LAST_EPOCH
from tests.broker.transactions.script import DAY_MS, Script, at_last_epoch, begun, told


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_restart_in_every_state(level: int) -> None:
    script = Script(level)
    script.restart()
    script.init()
    script.now = 10
    script.restart()
    script.add((1, 0), "a-0", "b-1")
    script.now = 20
    script.restart()
    script.end((1, 0))
    script.written((1, 0), "a-0")
    script.now = 30
    script.restart()
    script.written((1, 0), "a-0")
    script.written((1, 0), "b-1")
    script.now = 40
    script.restart()
    script.add((1, 0), "c-0")
    script.end((1, 0), False)
    script.restart()
    script.written((1, 0), "c-0")
    script.restart()
    lines = script.text().splitlines()
    after = []
    for at, line in enumerate(lines):
        if line == "> restart":
            ends = (n for n, one in enumerate(lines) if n > at and one.startswith(">"))
            after.append(lines[at + 1 : next(ends, len(lines))])
    assert after == [
        [],
        ["@ expiry t at 86400000"],
        ["@ timeout t at 60010"],
        ["! commit t 1/0 a-0,b-1 resumed"],
        ["@ expiry t at 86400030"],
        ["! abort t 1/0 c-0 resumed"],
        ["@ expiry t at 86400040"],
    ]


def test_a_restart_between_two_epochs() -> None:
    script = begun(client=2)
    script.end((1, 0), client=2)
    script.text()
    script.restart()
    script.written((1, 1), "a-0")
    script.restart()
    script.end((1, 0), client=2)
    script.init(expected=(1, 0))
    script.init(expected=(1, 1))
    told(
        script,
        """
        > restart
        ! commit t 1/1 a-0 v2 resumed
        > written t 1/1 a-0
        t: CompleteCommit 1/1 since 0 at 0 v2
        @ expiry t at 86400000
        > restart
        @ expiry t at 86400000
        > commit t 1/0 v2
        = 1/1 later
        > init t as 1/0
        = PRODUCER_FENCED
        > init t as 1/1
        t: Empty 1/2 at 0 v2
        @ expiry t at 86400000
        = 1/2
        """,
    )


def test_a_restart_with_a_new_id_promised() -> None:
    script = at_last_epoch(2)
    script.add((1, LAST_EPOCH), "a-0", client=2)
    script.end((1, LAST_EPOCH), client=2)
    script.text()
    script.restart()
    script.written((1, LAST_EPOCH + 1), "a-0")
    script.restart()
    script.end((1, LAST_EPOCH), client=2)
    told(
        script,
        """
        > restart
        ! commit t 1/32767 a-0 v2 resumed
        > written t 1/32767 a-0
        t: CompleteCommit 2/0 since 0 at 0 before 1 v2
        @ expiry t at 86400000
        > restart
        @ expiry t at 86400000
        > commit t 1/32766 v2
        = 2/0 later
        """,
    )


def test_a_forgotten_id_stays_forgotten() -> None:
    script = Script()
    script.init()
    script.now = DAY_MS
    script.fire("expiry")
    script.text()
    script.restart()
    assert script.machine.transactions == {}
    assert script.text() == "@ timeout t off\n@ expiry t off\n> restart"


def test_what_a_timer_could_not_do_is_tried_again() -> None:
    script = begun(timeout=100)
    script.now = 100
    script.refusing = True
    script.fire("timeout")
    script.now = 1100
    script.refusing = False
    script.fire("timeout")
    script.refusing = True
    script.written((1, 1), "a-0")
    assert script.machine.awaits_completion("t", (1, 1))
    script.refusing = False
    script.written((1, 1))
    assert not script.machine.awaits_completion("t", (1, 1))
    told(
        script,
        """
        > timeout t at 100
        @ timeout t at 1100
        = refused
        > timeout t at 1100
        @ timeout t at 2100
        t: PrepareAbort 1/1 a-0 since 0 at 1100 v2
        ! abort t 1/1 a-0 v2
        > written t 1/1 a-0
        = refused
        > written t 1/1\x20
        t: CompleteAbort 1/1 since 0 at 1100 v2
        @ expiry t at 86401100
        """,
    )
