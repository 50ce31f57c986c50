"""The transaction machine's decisions, as transcripts. `script.py` tells how to read them."""

from textwrap import dedent

import pytest

from broker.transactions.machine import LAST_EPOCH
from tests.broker.transactions.script import DAY_MS, Script


def told(script: Script, expected: str) -> None:
    assert script.text() == dedent(expected).strip("\n")


def begun(level: int = 2, *, timeout: int = 60_000, client: int = 0) -> Script:
    """t has begun a transaction at a-0, with producer 1 in epoch 0."""
    script = Script(level)
    script.init(timeout=timeout)
    script.add((1, 0), "a-0", client=client)
    script.text()
    return script


# --- one transaction after the other


def test_transactions_in_one_epoch() -> None:
    script = Script()
    script.init()
    script.add((1, 0), "a-0", "a-1")
    script.add((1, 0), "a-1")
    script.now = 5
    script.add((1, 0), "b-3")
    script.now = 9
    script.end((1, 0))
    script.add((1, 0), "a-0")
    script.init()
    script.end((1, 0))
    script.end((1, 0), False)
    script.now = 12
    script.written((1, 0), "a-0", "b-3")
    script.written((1, 0), "a-1")
    script.end((1, 0))
    script.end((1, 0), False)
    script.now = 20
    script.add((1, 0), "a-0")
    script.end((1, 0), False)
    script.written((1, 0), "a-0")
    told(
        script,
        """
        > init t
        t: Empty 1/0 at 0
        @ expiry t at 86400000
        = 1/0
        > add t 1/0 a-0 a-1
        t: Ongoing 1/0 a-0,a-1 since 0 at 0
        @ timeout t at 60000
        = NONE
        > add t 1/0 a-1
        = NONE later
        > add t 1/0 b-3
        t: Ongoing 1/0 a-0,a-1,b-3 since 0 at 5
        @ timeout t at 60000
        = NONE
        > commit t 1/0
        t: PrepareCommit 1/0 a-0,a-1,b-3 since 0 at 9
        = 1/0
        ! commit t 1/0 a-0,a-1,b-3
        > add t 1/0 a-0
        = CONCURRENT_TRANSACTIONS
        > init t
        = CONCURRENT_TRANSACTIONS
        > commit t 1/0
        = CONCURRENT_TRANSACTIONS
        > abort t 1/0
        = CONCURRENT_TRANSACTIONS
        > written t 1/0 a-0 b-3
        > written t 1/0 a-1
        t: CompleteCommit 1/0 since 0 at 12
        @ expiry t at 86400012
        > commit t 1/0
        = 1/0 later
        > abort t 1/0
        = INVALID_TXN_STATE
        > add t 1/0 a-0
        t: Ongoing 1/0 a-0 since 20 at 20
        @ timeout t at 60020
        = NONE
        > abort t 1/0
        t: PrepareAbort 1/0 a-0 since 20 at 20
        = 1/0
        ! abort t 1/0 a-0
        > written t 1/0 a-0
        t: CompleteAbort 1/0 since 20 at 20
        @ expiry t at 86400020
        """,
    )


def test_an_epoch_for_each_transaction() -> None:
    script = begun(client=2)
    script.now = 9
    script.end((1, 0), client=2)
    script.add((1, 1), "a-0", client=2)
    script.end((1, 0), client=2)
    script.written((1, 1), "a-0")
    script.end((1, 0), client=2)
    script.end((1, 0), False, client=2)
    script.end((1, 1), client=2)
    script.now = 20
    script.end((1, 1), False, client=2)
    script.written((1, 2))
    script.end((1, 1), False, client=2)
    told(
        script,
        """
        > commit t 1/0 v2
        t: PrepareCommit 1/1 a-0 since 0 at 9 v2
        = 1/1
        ! commit t 1/1 a-0 v2
        > add t 1/1 a-0 v2
        = CONCURRENT_TRANSACTIONS
        > commit t 1/0 v2
        = CONCURRENT_TRANSACTIONS
        > written t 1/1 a-0
        t: CompleteCommit 1/1 since 0 at 9 v2
        @ expiry t at 86400009
        > commit t 1/0 v2
        = 1/1 later
        > abort t 1/0 v2
        = INVALID_TXN_STATE
        > commit t 1/1 v2
        = INVALID_TXN_STATE
        > abort t 1/1 v2
        t: PrepareAbort 1/2 since 20 at 20 v2
        = 1/2
        ! abort t 1/2 nowhere v2
        > written t 1/2\x20
        t: CompleteAbort 1/2 since 20 at 20 v2
        @ expiry t at 86400020
        > abort t 1/1 v2
        = 1/2 later
        """,
    )


CODES = {
    "FENCED": "PRODUCER_FENCED",
    "STATE": "INVALID_TXN_STATE",
    "OTHER": "INVALID_PRODUCER_ID_MAPPING",
}


@pytest.mark.parametrize(
    ("state", "epoch", "commit", "abort"),
    [
        # What 4.4.0 answers to EndTxn version 5; the present epoch is 5.
        ("Empty", 4, "FENCED", "FENCED"),
        ("Empty", 5, "STATE", "ends"),
        ("Empty", 6, "FENCED", "FENCED"),
        ("Ongoing", 4, "FENCED", "FENCED"),
        ("Ongoing", 5, "ends", "ends"),
        ("Ongoing", 6, "FENCED", "FENCED"),
        ("CompleteCommit", 3, "FENCED", "FENCED"),
        ("CompleteCommit", 4, "again", "STATE"),
        ("CompleteCommit", 5, "STATE", "ends"),
        ("CompleteCommit", 6, "FENCED", "FENCED"),
        ("CompleteAbort", 4, "STATE", "again"),
        ("CompleteAbort", 5, "STATE", "ends"),
        ("CompleteAbort", 6, "FENCED", "FENCED"),
    ],
)
def test_ends_by_epochs(state: str, epoch: int, commit: str, abort: str) -> None:
    for committed, expected in ((True, commit), (False, abort)):
        script = Script()
        for _ in range(6 if state in ("Empty", "Ongoing") else 5):
            script.init()
        if state.startswith("Complete"):
            script.add((1, 4), "a-0", client=2)
            script.end((1, 4), state == "CompleteCommit", client=2)
            script.written((1, 5), "a-0")
        elif state == "Ongoing":
            script.add((1, 5), "a-0", client=2)
        script.text()
        script.end((1, epoch), committed, client=2)
        answers = [line for line in script.text().splitlines() if line.startswith("=")]
        texts = {"ends": "= 1/6", "again": "= 1/5 later"}
        assert answers == [texts.get(expected) or f"= {CODES[expected]}"]
        script.end((2, epoch), committed, client=2)
        other = script.text().splitlines()[-1]
        ends = expected == "ends"
        assert other == ("= CONCURRENT_TRANSACTIONS" if ends else f"= {CODES['OTHER']}")


def test_who_is_not_the_owner() -> None:
    script = begun()
    for producer in ((2, 0), (1, 1), (1, -1)):
        script.add(producer, "a-0")
        script.verify(producer, "a-0")
        script.end(producer)
    script.add((1, 0), "a-0", tid="nobody")
    script.verify((1, 0), "a-0", "a-1", tid="nobody")
    script.end((1, 0), tid="nobody")
    script.end((1, 0), tid="nobody", client=2)
    answers = [line for line in script.text().splitlines() if line.startswith("=")]
    other, fenced = "= INVALID_PRODUCER_ID_MAPPING", "= PRODUCER_FENCED"
    assert answers[:9] == [other] * 3 + [fenced] * 6
    assert answers[9:] == [other, f"{other} {other[2:]}", other, other]


def test_verified_is_what_was_added() -> None:
    script = begun()
    script.verify((1, 0), "a-0", "a-1", "b-0")
    script.end((1, 0))
    script.verify((1, 0), "a-0")
    script.written((1, 0), "a-0")
    script.verify((1, 0), "a-0")
    answers = [line for line in script.text().splitlines() if line.startswith("=")]
    assert answers == [
        "= NONE TRANSACTION_ABORTABLE TRANSACTION_ABORTABLE",
        "= 1/0",
        "= CONCURRENT_TRANSACTIONS",
        "= TRANSACTION_ABORTABLE",
    ]


def test_a_transaction_without_partitions_is_one() -> None:
    script = Script()
    script.init()
    script.text()
    script.add((1, 0))
    script.end((1, 0))
    told(
        script,
        """
        > add t 1/0\x20
        t: Ongoing 1/0 since 0 at 0
        @ timeout t at 60000
        = NONE
        > commit t 1/0
        t: PrepareCommit 1/0 since 0 at 0
        = 1/0
        ! commit t 1/0 nowhere
        """,
    )


# --- who owns an id


def test_the_epoch_grows_with_each_producer() -> None:
    script = Script()
    script.init()
    script.init()
    script.init(expected=(1, 1))
    script.init(expected=(1, 1))
    script.init(expected=(1, 0))
    script.init(expected=(7, 2))
    script.init()
    script.init(expected=(1, 2))
    script.init("u", expected=(9, 4))
    told(
        script,
        """
        > init t
        t: Empty 1/0 at 0
        @ expiry t at 86400000
        = 1/0
        > init t
        t: Empty 1/1 at 0
        @ expiry t at 86400000
        = 1/1
        > init t as 1/1
        t: Empty 1/2 at 0
        @ expiry t at 86400000
        = 1/2
        > init t as 1/1
        t: Empty 1/2 at 0
        @ expiry t at 86400000
        = 1/2
        > init t as 1/0
        = PRODUCER_FENCED
        > init t as 7/2
        = PRODUCER_FENCED
        > init t
        t: Empty 1/3 at 0
        @ expiry t at 86400000
        = 1/3
        > init t as 1/2
        = PRODUCER_FENCED
        > init u as 9/4
        u: Empty 2/0 at 0
        @ expiry u at 86400000
        = 2/0
        """,
    )


def test_no_producer_id_at_hand() -> None:
    script = Script()
    script.ids = None
    script.init()
    told(script, "> init t\n= COORDINATOR_LOAD_IN_PROGRESS")
    assert script.machine.transactions == {}


@pytest.mark.parametrize("level", [0, 1])
def test_fenced_in_the_middle(level: int) -> None:
    script = begun(level)
    script.now = 7
    script.init()
    script.init()
    script.end((1, 0))
    script.written((1, 1), "a-0")
    script.end((1, 0), False)
    script.add((1, 0), "a-0")
    script.init(expected=(1, 0))
    script.init()
    told(
        script,
        """
        > init t
        t: PrepareAbort 1/1 a-0 since 0 at 7
        = CONCURRENT_TRANSACTIONS
        ! abort t 1/1 a-0
        > init t
        = CONCURRENT_TRANSACTIONS
        > commit t 1/0
        = PRODUCER_FENCED
        > written t 1/1 a-0
        t: CompleteAbort 1/1 since 0 at 7
        @ expiry t at 86400007
        > abort t 1/0
        = PRODUCER_FENCED
        > add t 1/0 a-0
        = PRODUCER_FENCED
        > init t as 1/0
        = PRODUCER_FENCED
        > init t
        t: Empty 1/2 at 7
        @ expiry t at 86400007
        = 1/2
        """,
    )


def test_fenced_in_the_middle_with_transactions_of_version_2() -> None:
    """The fence is an end like any other: who knows the epoch before it may go on."""
    script = begun()
    script.now = 7
    script.init()
    script.init()
    script.end((1, 0))
    script.written((1, 1), "a-0")
    script.end((1, 0), False)
    script.init(expected=(1, 0))
    script.init()
    told(
        script,
        """
        > init t
        t: PrepareAbort 1/1 a-0 since 0 at 7 v2
        = CONCURRENT_TRANSACTIONS
        ! abort t 1/1 a-0 v2
        > init t
        = CONCURRENT_TRANSACTIONS
        > commit t 1/0
        = PRODUCER_FENCED
        > written t 1/1 a-0
        t: CompleteAbort 1/1 since 0 at 7 v2
        @ expiry t at 86400007
        > abort t 1/0
        = PRODUCER_FENCED
        > init t as 1/0
        t: Empty 1/1 at 7 v2
        @ expiry t at 86400007
        = 1/1
        > init t
        t: Empty 1/2 at 7 v2
        @ expiry t at 86400007
        = 1/2
        """,
    )


@pytest.mark.parametrize("expected", [None, (1, 0), (5, 0)])
def test_nobody_gets_an_id_while_its_transaction_ends(expected: tuple[int, int] | None) -> None:
    script = begun()
    script.end((1, 0))
    script.text()
    script.init(expected=expected)
    assert script.text().splitlines()[1:] == ["= CONCURRENT_TRANSACTIONS"]


# --- epochs come to an end


def at_last_epoch(level: int) -> Script:
    """The producer of t has its id's last epoch."""
    script = Script(level)
    script.init()
    script.machine.transactions["t"].producer_epoch = LAST_EPOCH - 1
    script.init(expected=(1, LAST_EPOCH - 1))
    assert script.text().endswith(f"= 1/{LAST_EPOCH}")
    return script


def test_a_new_id_when_the_epochs_are_used_up() -> None:
    script = at_last_epoch(0)
    script.init(expected=(1, LAST_EPOCH - 1))
    script.init(expected=(1, LAST_EPOCH))
    script.init(expected=(1, LAST_EPOCH))
    script.init(expected=(1, LAST_EPOCH - 1))
    script.init()
    told(
        script,
        """
        > init t as 1/32765
        t: Empty 1/32766 at 0
        @ expiry t at 86400000
        = 1/32766
        > init t as 1/32766
        t: Empty 2/0 at 0
        @ expiry t at 86400000
        = 2/0
        > init t as 1/32766
        t: Empty 2/0 at 0
        @ expiry t at 86400000
        = 2/0
        > init t as 1/32765
        = PRODUCER_FENCED
        > init t
        t: Empty 2/1 at 0
        @ expiry t at 86400000
        = 2/1
        """,
    )


def test_an_end_uses_up_the_last_epoch() -> None:
    script = at_last_epoch(2)
    script.add((1, LAST_EPOCH), "a-0", client=2)
    script.ids = None
    script.end((1, LAST_EPOCH), client=2)
    script.ids = 7
    script.end((1, LAST_EPOCH), client=2)
    script.end((1, LAST_EPOCH), client=2)
    script.written((1, LAST_EPOCH + 1), "a-0")
    script.end((1, LAST_EPOCH), client=2)
    script.end((1, LAST_EPOCH), False, client=2)
    script.end((7, 0), False, client=2)
    told(
        script,
        """
        > add t 1/32766 a-0 v2
        t: Ongoing 1/32766 a-0 since 0 at 0 v2
        @ timeout t at 60000
        = NONE
        > commit t 1/32766 v2
        = COORDINATOR_LOAD_IN_PROGRESS
        > commit t 1/32766 v2
        t: PrepareCommit 1/32767 a-0 since 0 at 0 then 7 v2
        = 7/0
        ! commit t 1/32767 a-0 v2
        > commit t 1/32766 v2
        = CONCURRENT_TRANSACTIONS
        > written t 1/32767 a-0
        t: CompleteCommit 7/0 since 0 at 0 before 1 v2
        @ expiry t at 86400000
        > commit t 1/32766 v2
        = 7/0 later
        > abort t 1/32766 v2
        = INVALID_TXN_STATE
        > abort t 7/0 v2
        t: PrepareAbort 7/1 since 0 at 0 v2
        = 7/1
        ! abort t 7/1 nowhere v2
        """,
    )


def test_a_fence_uses_up_the_last_epoch() -> None:
    script = at_last_epoch(2)
    script.add((1, LAST_EPOCH), "a-0")
    script.text()
    script.ids = None
    script.init()
    script.now = 60_000
    script.fire("timeout")
    script.ids = 7
    script.fire("timeout")
    script.written((1, LAST_EPOCH + 1), "a-0")
    script.init()
    told(
        script,
        """
        > init t
        = COORDINATOR_LOAD_IN_PROGRESS
        > timeout t at 60000
        @ timeout t at 61000
        > timeout t at 60000
        @ timeout t at 61000
        t: PrepareAbort 1/32767 a-0 since 0 at 60000 then 7 v2
        ! abort t 1/32767 a-0 v2
        > written t 1/32767 a-0
        t: CompleteAbort 7/0 since 0 at 60000 before 1 v2
        @ expiry t at 86460000
        > init t
        t: Empty 7/1 at 60000 v2
        @ expiry t at 86460000
        = 7/1
        """,
    )


def test_a_fence_after_the_last_epoch_of_transactions_of_version_0() -> None:
    script = at_last_epoch(0)
    script.add((1, LAST_EPOCH), "a-0")
    script.init()
    script.written((1, LAST_EPOCH + 1), "a-0")
    script.text()
    script.init()
    told(
        script,
        """
        > init t
        t: Empty 2/0 at 0
        @ expiry t at 86400000
        = 2/0
        """,
    )


# --- time-outs


@pytest.mark.parametrize("level", [0, 2])
def test_an_end_before_the_time_out(level: int) -> None:
    script = begun(level, timeout=100)
    script.now = 99
    script.end((1, 0))
    script.now = 100
    script.fire("timeout")
    script.written((1, 0), "a-0")
    script.fire("timeout")
    told(
        script,
        """
        > commit t 1/0
        t: PrepareCommit 1/0 a-0 since 0 at 99
        = 1/0
        ! commit t 1/0 a-0
        > timeout t at 100
        > written t 1/0 a-0
        t: CompleteCommit 1/0 since 0 at 100
        @ expiry t at 86400100
        > timeout t at 100
        """,
    )


def test_a_time_out_before_the_end() -> None:
    script = begun(0, timeout=100)
    script.now = 100
    script.fire("timeout")
    script.end((1, 0))
    script.end((1, 0), False)
    script.written((1, 1), "a-0")
    script.end((1, 0))
    script.end((1, 0), False)
    script.add((1, 0), "a-0")
    told(
        script,
        """
        > timeout t at 100
        @ timeout t at 1100
        t: PrepareAbort 1/1 a-0 since 0 at 100
        ! abort t 1/1 a-0
        > commit t 1/0
        = PRODUCER_FENCED
        > abort t 1/0
        = PRODUCER_FENCED
        > written t 1/1 a-0
        t: CompleteAbort 1/1 since 0 at 100
        @ expiry t at 86400100
        > commit t 1/0
        = PRODUCER_FENCED
        > abort t 1/0
        = PRODUCER_FENCED
        > add t 1/0 a-0
        = PRODUCER_FENCED
        """,
    )


def test_a_time_out_before_the_end_with_transactions_of_version_2() -> None:
    """The producer's abort is taken for one sent again: it learns the epoch to go on with."""
    script = begun(timeout=100, client=2)
    script.now = 100
    script.fire("timeout")
    script.end((1, 0), client=2)
    script.written((1, 1), "a-0")
    script.end((1, 0), client=2)
    script.end((1, 0), False, client=2)
    script.add((1, 1), "a-0", client=2)
    told(
        script,
        """
        > timeout t at 100
        @ timeout t at 1100
        t: PrepareAbort 1/1 a-0 since 0 at 100 v2
        ! abort t 1/1 a-0 v2
        > commit t 1/0 v2
        = CONCURRENT_TRANSACTIONS
        > written t 1/1 a-0
        t: CompleteAbort 1/1 since 0 at 100 v2
        @ expiry t at 86400100
        > commit t 1/0 v2
        = INVALID_TXN_STATE
        > abort t 1/0 v2
        = 1/1 later
        > add t 1/1 a-0 v2
        t: Ongoing 1/1 a-0 since 100 at 100 v2
        @ timeout t at 200
        = NONE
        """,
    )


def test_idle_ids_are_forgotten() -> None:
    script = begun()
    script.now = DAY_MS
    script.fire("expiry")  # one is under way: its end sets the timer again
    script.end((1, 0))
    script.fire("expiry")
    script.written((1, 0), "a-0")
    script.now = 2 * DAY_MS
    script.fire("expiry")
    script.fire("expiry")
    script.fire("timeout")
    script.end((1, 0))
    script.init()
    told(
        script,
        """
        > expiry t at 86400000
        > commit t 1/0
        t: PrepareCommit 1/0 a-0 since 0 at 86400000
        = 1/0
        ! commit t 1/0 a-0
        > expiry t at 86400000
        > written t 1/0 a-0
        t: CompleteCommit 1/0 since 0 at 86400000
        @ expiry t at 172800000
        > expiry t at 172800000
        @ expiry t at 172801000
        t: forgotten
        @ timeout t off
        @ expiry t off
        > expiry t at 172800000
        > timeout t at 172800000
        > commit t 1/0
        = INVALID_PRODUCER_ID_MAPPING
        > init t
        t: Empty 2/0 at 172800000
        @ expiry t at 259200000
        = 2/0
        """,
    )


# --- what fails


def test_a_record_that_is_not_taken_changes_nothing() -> None:
    script = begun()
    script.refusing = True
    script.add((1, 0), "a-1")
    script.end((1, 0))
    script.init()
    script.fire("timeout")
    script.init("u")
    assert script.text().count("= refused") == 5
    script.refusing = False
    script.verify((1, 0), "a-0", "a-1")
    script.init()
    told(
        script,
        """
        > verify t 1/0 a-0 a-1
        = NONE TRANSACTION_ABORTABLE
        > init t
        t: PrepareAbort 1/1 a-0 since 0 at 0 v2
        = CONCURRENT_TRANSACTIONS
        ! abort t 1/1 a-0 v2
        """,
    )


def test_markers_of_an_earlier_end_are_not_those_of_this_one() -> None:
    script = begun(client=2)
    script.end((1, 0), client=2)
    script.text()
    script.written((1, 0), "a-0")
    script.written((2, 1), "a-0")
    script.written((1, 1), "a-0", tid="u")
    assert not any(line.startswith("t:") for line in script.text().splitlines())
    script.written((1, 1), "a-0")
    script.written((1, 1), "a-0")
    told(
        script,
        """
        > written t 1/1 a-0
        t: CompleteCommit 1/1 since 0 at 0 v2
        @ expiry t at 86400000
        > written t 1/1 a-0
        """,
    )


# --- restarts


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
