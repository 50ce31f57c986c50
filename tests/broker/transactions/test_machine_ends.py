"""The transaction machine where epochs or time come to an end; see `script.py`."""

import pytest

from broker.transactions.machine import LAST_EPOCH
from tests.broker.transactions.script import DAY_MS, at_last_epoch, begun, told

# --- epochs come to an end


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
