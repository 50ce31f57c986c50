"""The transaction machine's decisions, as transcripts. `script.py` tells how to read them."""

import pytest

from tests.broker.transactions.script import Script, begun, told

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
