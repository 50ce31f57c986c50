"""Records of __transaction_state against those that Apache Kafka wrote for the same requests.

captured/transaction-state.json.gz: for 3.9.2 and 4.4.0 each request, what was answered, and the
records that came of it. Here the machine decides the same requests at the same times.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from broker.coordinator import Outcome, StoredRecord, Waiting
from broker.transactions.machine import TransactionMachine
from broker.transactions.state import State, Transaction, decode, decode_id, encode
from protocol.errors import ErrorCode, Malformed
from protocol.stored import transaction_state

CAPTURED: dict[str, Any] = json.loads(
    gzip.decompress((Path(__file__).parents[1] / "captured/transaction-state.json.gz").read_bytes())
)
LEVELS = {"3.9.2": 0, "4.4.0": 2}


class NoTimers:
    def set(self, key: Any, at_ms: int) -> None:
        pass

    def cancel(self, key: Any) -> None:
        pass


class Replayed:
    """A machine that is told what a Kafka was told, with the ids that it gave."""

    def __init__(self, kafka: str) -> None:
        self.names = CAPTURED[kafka]["names"]
        self.ids: list[int] = []
        self.machine = TransactionMachine(
            0, NoTimers(), 1, lambda: LEVELS[kafka], lambda: self.ids.pop(0)
        )

    def records(self, row: Any) -> list[StoredRecord]:
        """What one request makes the machine write, up to the end of the transaction."""
        times = [_time(value) for _, value in row["records"]]
        answer = row["answer"]
        if row["do"][0] == "init" and answer[1] >= 0:
            self.ids = [answer[1]]
        written = []
        outcome = self._decide(row["tid"], row["do"], times[0] if times else 0)
        self._check(row, outcome)
        while outcome.records:
            times.pop(0)
            (record,) = outcome.records
            written.append(record)
            self.machine.replay(record.key, record.value, -1, -1, 0)
            if not outcome.work:
                break
            (work,) = outcome.work
            outcome = self.machine.markers_written(
                work.transactional_id,
                (work.producer_id, work.producer_epoch),
                work.partitions,
                times[0],
            )
        return written

    def _decide(self, tid: str, do: Any, now_ms: int) -> Outcome:
        who = Waiting(lambda code: code)
        tid = f"rec-{tid}" if not tid.startswith("rec-") else tid
        if do[0] == "init":
            expected = None if do[2] is None else tuple(do[2])
            return self.machine.init_producer_id(who, now_ms, tid, do[1], expected)
        if do[0] == "add":
            keys = [(self.names[name], index) for name, index in do[2]]
            return self.machine.add_partitions(who, now_ms, tid, tuple(do[1]), keys, do[3])
        return self.machine.end(who, now_ms, tid, tuple(do[1]), do[2], do[3])

    @staticmethod
    def _check(row: Any, outcome: Outcome) -> None:
        ((_, ours),) = outcome.replies
        theirs = row["answer"]
        if isinstance(ours, ErrorCode):
            assert ours == theirs, row
        elif theirs[1] >= 0:
            assert list(ours) == theirs, row
        else:
            assert ours.error == theirs[0], row  # a version that does not tell the producer


def _time(value: str) -> int:
    found = transaction_state.decode_value(0, bytes.fromhex(value))
    assert found is not None
    return int(found.transaction_last_update_timestamp_ms)


def _in_order(value: bytes) -> bytes:
    """With partitions in order: those of 3.9.2 are in that of Scala's sets."""
    found = transaction_state.decode_value(0, value)
    assert found is not None
    if found.transaction_partitions:
        found.transaction_partitions.sort(key=lambda row: row.topic)
        for row in found.transaction_partitions:
            row.partition_ids.sort()
    return transaction_state.encode_value(found, value[1])


@pytest.mark.parametrize("kafka", ["3.9.2", "4.4.0"])
def test_the_same_requests_write_the_same_records(kafka: str) -> None:
    replayed = Replayed(kafka)
    count = 0
    for row in CAPTURED[kafka]["rows"]:
        ours = replayed.records(row)
        theirs = [(bytes.fromhex(key), bytes.fromhex(value)) for key, value in row["records"]]
        assert [record.key for record in ours] == [key for key, _ in theirs], row
        for record, (_, value) in zip(ours, theirs, strict=True):
            assert record.value is not None
            if kafka == "3.9.2":
                assert _in_order(record.value) == _in_order(value), row
            else:
                assert record.value == value, row
            count += 1
    assert count >= 19


@pytest.mark.parametrize("kafka", ["3.9.2", "4.4.0"])
def test_what_kafka_wrote_is_understood(kafka: str) -> None:
    states = set()
    for row in CAPTURED[kafka]["rows"]:
        for key, value in row["records"]:
            tid = decode_id(bytes.fromhex(key))
            assert tid is not None
            found = decode(tid, bytes.fromhex(value))
            states.add(found.state)
            record = encode(found, bytes.fromhex(value)[1])
            assert record.key == bytes.fromhex(key)
            assert record.value is not None
            assert _in_order(record.value) == _in_order(bytes.fromhex(value))
    assert len(states) == 6


def test_states_are_spelled_as_kafka_does() -> None:
    assert [state.title for state in State] == [
        "Empty",
        "Ongoing",
        "PrepareCommit",
        "PrepareAbort",
        "CompleteCommit",
        "CompleteAbort",
        "Dead",
        "PrepareEpochFence",
    ]


def test_a_value_of_a_later_release_is_not_guessed_at() -> None:
    record = encode(Transaction("t", 1, 0, last_update_ms=1), 1)
    assert record.value is not None
    with pytest.raises(Malformed):
        decode("t", b"\x00\x02" + record.value[2:])


def test_a_key_of_a_later_release_is_left_alone() -> None:
    assert decode_id(b"\x00\x07rest") is None
    machine = TransactionMachine(0, NoTimers(), 1, lambda: 2, lambda: 1)
    machine.replay(b"\x00\x07rest", b"value", -1, -1, 0)
    assert machine.transactions == {}


def test_many_partitions_are_in_the_order_of_larger_tables() -> None:
    """As 4.4.0 wrote partitions 0 to 29 of a topic of this name."""
    partitions = frozenset(("wide", index) for index in range(30))
    record = encode(Transaction("x", 1, 0, state=State.ONGOING, partitions=partitions), 1)
    value = transaction_state.decode_value(0, record.value)
    assert value is not None
    (row,) = value.transaction_partitions
    # fmt: off
    assert row.partition_ids == [
        1, 3, 22, 24, 26, 28, 13, 15, 17, 19, 5, 7, 9, 11, 29,
        0, 2, 4, 21, 23, 25, 27, 14, 16, 18, 20, 6, 8, 10, 12,
    ]
    # fmt: on
