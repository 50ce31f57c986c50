"""Every rule of ProducerStates, and its snapshot bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.batch import BatchHeader
from storage.errors import (
    CoordinatorFenced,
    InvalidProducerEpoch,
    InvalidTxnState,
    OutOfOrderSequence,
)
from storage.producers import (
    MAX_SEQUENCE,
    CompletedTxn,
    CorruptSnapshot,
    KeptBatch,
    ProducerStates,
    decode_snapshot,
)


def batch(
    sequence: int,
    count: int = 1,
    *,
    pid: int = 7,
    epoch: int = 0,
    txn: bool = False,
    timestamp: int = 1000,
) -> BatchHeader:
    return BatchHeader(
        base_offset=0,
        length=100,
        leader_epoch=0,
        magic=2,
        crc=0,
        attributes=0x10 if txn else 0,
        last_offset_delta=count - 1,
        base_timestamp=timestamp,
        max_timestamp=timestamp,
        producer_id=pid,
        producer_epoch=epoch,
        base_sequence=sequence,
        record_count=count,
    )


def marker(
    states: ProducerStates,
    offset: int,
    *,
    pid: int = 7,
    epoch: int = 0,
    committed: bool = True,
    coordinator_epoch: int = 0,
    origin: str = "coordinator",
) -> CompletedTxn | None:
    return states.append_marker(
        pid,
        epoch,
        offset,
        committed=committed,
        coordinator_epoch=coordinator_epoch,
        timestamp=2000,
        origin=origin,  # type: ignore[arg-type]
    )


def picture(states: ProducerStates) -> list[tuple[object, ...]]:
    """Everything a refusal must leave alone."""
    return [
        (
            e.producer_id,
            e.epoch,
            e.coordinator_epoch,
            e.last_timestamp,
            e.next_sequence,
            e.txn_first_offset,
            tuple(e.batches),
        )
        for e in states.entries()
    ] + [(states.first_unstable_offset, states.first_undecided_offset, states.map_end_offset)]


# --- sequences and duplicates


def test_a_new_producer_may_start_at_any_sequence_and_then_counts_on() -> None:
    states = ProducerStates()
    assert states.check_and_append(batch(41, 3), 10) is None
    assert states.check_and_append(batch(44), 13) is None
    entry = states.get(7)
    assert entry is not None
    assert (entry.last_sequence, entry.last_offset, entry.epoch) == (44, 13, 0)
    assert states.map_end_offset == 14


@pytest.mark.parametrize("sequence", [0, 1, 3, 5, 6, 100])
def test_a_gap_or_a_step_back_is_out_of_order_and_changes_nothing(sequence: int) -> None:
    states = ProducerStates()
    states.check_and_append(batch(2, 2), 0)
    before = picture(states)
    with pytest.raises(OutOfOrderSequence):
        states.check_and_append(batch(sequence), 2)
    assert picture(states) == before


def test_each_of_the_last_five_batches_is_recognised_as_duplicate() -> None:
    states = ProducerStates()
    for n in range(7):
        states.check_and_append(batch(n * 2, 2, timestamp=1000 + n), 100 + n * 2)
    before = picture(states)
    for n in range(2, 7):
        found = states.check_and_append(batch(n * 2, 2), 999)
        assert found == KeptBatch(n * 2 + 1, 101 + n * 2, 1, 1000 + n)
        assert found.base_offset == 100 + n * 2
        assert found.first_sequence == n * 2
    for n in range(2):
        with pytest.raises(OutOfOrderSequence):
            states.check_and_append(batch(n * 2, 2), 999)
    assert picture(states) == before


def test_a_batch_that_only_overlaps_an_earlier_one_is_out_of_order() -> None:
    states = ProducerStates()
    states.check_and_append(batch(0, 4), 0)
    for sequence, count in ((0, 3), (1, 3), (0, 5), (2, 4)):
        with pytest.raises(OutOfOrderSequence):
            states.check_and_append(batch(sequence, count), 4)


def test_duplicates_are_looked_for_among_client_batches_only() -> None:
    states = ProducerStates()
    states.check_and_append(batch(0), 0)
    assert states.check_and_append(batch(0), 1, "replication") is None
    assert states.check_and_append(batch(0), 2, "coordinator") is None
    entry = states.get(7)
    assert entry is not None
    assert [kept.last_offset for kept in entry.batches] == [0, 1, 2]


def test_replication_and_coordinator_may_skip_sequences() -> None:
    states = ProducerStates()
    states.check_and_append(batch(0), 0)
    assert states.check_and_append(batch(9), 1, "replication") is None
    assert states.check_and_append(batch(-1, 2), 2, "coordinator") is None
    entry = states.get(7)
    assert entry is not None
    assert entry.last_sequence == -1


@pytest.mark.parametrize(
    ("first", "count", "due"),
    [
        (MAX_SEQUENCE, 1, 0),
        (MAX_SEQUENCE - 1, 1, MAX_SEQUENCE),
        (MAX_SEQUENCE - 2, 3, 0),
        (MAX_SEQUENCE - 1, 4, 2),
        (MAX_SEQUENCE, 2, 1),
    ],
)
def test_sequences_wrap_to_zero(first: int, count: int, due: int) -> None:
    states = ProducerStates()
    states.check_and_append(batch(first, count), 0)
    with pytest.raises(OutOfOrderSequence):
        states.check_and_append(batch(due + 1), count)
    assert states.check_and_append(batch(due), count) is None
    duplicate = states.check_and_append(batch(first, count), 50)
    assert duplicate is not None
    assert duplicate.base_offset == 0


@given(
    start=st.one_of(st.integers(0, 50), st.integers(MAX_SEQUENCE - 50, MAX_SEQUENCE)),
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=12),
)
def test_any_run_of_batches_resent_gives_the_first_offsets(start: int, counts: list[int]) -> None:
    states = ProducerStates()
    sequence, offset, sent = start, 0, []
    for count in counts:
        assert states.check_and_append(batch(sequence, count), offset) is None
        sent.append((sequence, count, offset))
        sequence = (sequence + count) % (MAX_SEQUENCE + 1)
        offset += count
    for sequence, count, base in sent[-5:]:
        duplicate = states.check_and_append(batch(sequence, count), offset)
        assert duplicate is not None
        assert duplicate.base_offset == base


# --- epochs


def test_a_new_epoch_starts_at_sequence_zero() -> None:
    states = ProducerStates()
    states.check_and_append(batch(0, 5), 0)
    before = picture(states)
    with pytest.raises(OutOfOrderSequence):
        states.check_and_append(batch(5, epoch=1), 5)
    assert picture(states) == before
    assert states.check_and_append(batch(0, epoch=1), 5) is None
    entry = states.get(7)
    assert entry is not None
    assert (entry.epoch, len(entry.batches)) == (1, 1)


def test_the_batches_of_an_older_epoch_are_fenced_even_when_resent() -> None:
    states = ProducerStates()
    states.check_and_append(batch(0), 0)
    states.check_and_append(batch(0, epoch=1), 1)
    before = picture(states)
    for origin in ("client", "coordinator"):
        with pytest.raises(InvalidProducerEpoch):
            states.check_and_append(batch(0, epoch=0), 2, origin)  # type: ignore[arg-type]
    assert picture(states) == before


def test_an_older_epoch_from_the_leader_is_taken() -> None:
    states = ProducerStates()
    states.check_and_append(batch(0, epoch=3), 0)
    assert states.check_and_append(batch(0, epoch=2), 1, "replication") is None
    entry = states.get(7)
    assert entry is not None
    assert entry.epoch == 2


def test_after_a_marker_with_a_bumped_epoch_sequences_start_at_zero() -> None:
    states = ProducerStates()
    states.check_and_append(batch(0, 3, txn=True), 0)
    marker(states, 3, epoch=1)
    with pytest.raises(OutOfOrderSequence):
        states.check_and_append(batch(3, epoch=1, txn=True), 4)
    with pytest.raises(InvalidProducerEpoch):
        states.check_and_append(batch(3, epoch=0, txn=True), 4)
    assert states.check_and_append(batch(0, epoch=1, txn=True), 4) is None


def test_a_marker_with_the_same_epoch_keeps_sequences_and_duplicates() -> None:
    states = ProducerStates()
    states.check_and_append(batch(0, 3, txn=True), 0)
    marker(states, 3)
    duplicate = states.check_and_append(batch(0, 3, txn=True), 4)
    assert duplicate is not None
    assert duplicate.base_offset == 0
    assert states.check_and_append(batch(3, txn=True), 4) is None


# --- transactions


def test_a_transaction_is_unstable_until_its_marker_is_replicated() -> None:
    states = ProducerStates()
    states.check_and_append(batch(0), 4)
    assert states.first_unstable_offset is None
    states.check_and_append(batch(1, 2, txn=True), 5)
    assert states.first_unstable_offset == states.first_undecided_offset == 5
    assert states.has_ongoing_transaction(7, 0)
    assert not states.has_ongoing_transaction(7, 1)
    assert not states.has_ongoing_transaction(8, 0)
    assert marker(states, 7, committed=False) == CompletedTxn(7, 5, 7, True, 8)
    assert states.first_undecided_offset is None
    assert not states.has_ongoing_transaction(7, 0)
    states.on_high_watermark(7)
    assert states.first_unstable_offset == 5
    states.on_high_watermark(8)
    assert states.first_unstable_offset is None
    assert states.map_end_offset == 8


def test_interleaved_transactions_and_the_last_stable_offset_of_each() -> None:
    states = ProducerStates()
    for offset, pid in enumerate((1, 2, 3)):
        states.check_and_append(batch(0, pid=pid, txn=True), offset)
    assert marker(states, 3, pid=2, committed=False) == CompletedTxn(2, 1, 3, True, 0)
    assert marker(states, 4, pid=1) == CompletedTxn(1, 0, 4, False, 2)
    assert states.first_undecided_offset == 2
    states.on_high_watermark(4)  # the marker at 3 is through, the one at 4 is not
    assert states.first_unstable_offset == 0
    states.on_high_watermark(5)
    assert states.first_unstable_offset == 2
    assert marker(states, 5, pid=3) == CompletedTxn(3, 2, 5, False, 6)
    states.on_high_watermark(6)
    assert states.first_unstable_offset is None


def test_a_marker_without_a_transaction_completes_nothing() -> None:
    states = ProducerStates()
    assert marker(states, 0, pid=9, epoch=4, coordinator_epoch=2) is None
    entry = states.get(9)
    assert entry is not None
    assert (entry.epoch, entry.coordinator_epoch, entry.last_timestamp) == (4, 2, 2000)
    assert states.first_unstable_offset is None


def test_a_plain_batch_inside_an_open_transaction_is_refused() -> None:
    states = ProducerStates()
    states.check_and_append(batch(0, txn=True), 0)
    before = picture(states)
    for origin in ("client", "coordinator", "replication"):
        with pytest.raises(InvalidTxnState):
            states.check_and_append(batch(1), 1, origin)  # type: ignore[arg-type]
    assert picture(states) == before


def test_old_coordinators_and_old_producers_cannot_write_markers() -> None:
    states = ProducerStates()
    states.check_and_append(batch(0, epoch=5, txn=True), 0)
    marker(states, 1, epoch=5, coordinator_epoch=3)
    before = picture(states)
    with pytest.raises(CoordinatorFenced):
        marker(states, 2, epoch=5, coordinator_epoch=2)
    with pytest.raises(InvalidProducerEpoch):
        marker(states, 2, epoch=4, coordinator_epoch=3)
    assert picture(states) == before
    assert marker(states, 2, epoch=5, coordinator_epoch=2, origin="replication") is None
    assert marker(states, 3, epoch=4, coordinator_epoch=2, origin="replication") is None


# --- forgetting


def test_producers_expire_by_their_last_timestamp_but_not_inside_a_transaction() -> None:
    states = ProducerStates(expiration_ms=100)
    states.check_and_append(batch(0, pid=1, timestamp=1000), 0)
    states.check_and_append(batch(0, pid=2, timestamp=1050), 1)
    states.check_and_append(batch(0, pid=3, timestamp=1000, txn=True), 2)
    assert states.expire(1099) == 0
    assert states.expire(1100) == 1
    assert [e.producer_id for e in states.entries()] == [2, 3]
    assert states.expire(10_000) == 1
    assert 3 in states
    assert len(states) == 1
    assert states.check_and_append(batch(77, pid=1), 3) is None


def test_the_log_start_passes_ended_transactions_only() -> None:
    states = ProducerStates()
    states.check_and_append(batch(0, pid=1, txn=True), 0)
    marker(states, 1, pid=1)
    states.check_and_append(batch(0, pid=2, txn=True), 2)
    states.on_log_start_offset(2)
    assert states.first_unstable_offset == 2
    states.on_log_start_offset(30)
    assert states.first_unstable_offset == 2
    assert states.map_end_offset == 30
    assert 1 in states


def test_clear_forgets_all() -> None:
    states = ProducerStates()
    states.check_and_append(batch(0, txn=True), 0)
    states.clear(12)
    assert (len(states), states.first_unstable_offset, states.map_end_offset) == (0, None, 12)


# --- snapshots


def test_an_empty_snapshot_is_ten_bytes() -> None:
    data = ProducerStates().encode()
    assert data.hex() == "0001" + "48674bc7" + "00000000"
    assert decode_snapshot(data) == []


KAFKA_SNAPSHOTS: list[tuple[str, list[tuple[int, ...]]]] = [
    (
        "0001b42a70870000000100000000000000000000000000090000000000000009000000000000018bcfe56809"
        "ffffffffffffffffffffffff",
        [(0, 0, 9, 9, 1700000000009, -1, -1)],
    ),
    (
        "0001a4e4fc5a000000020000000000000001000000000005000000000000000a00000000000001a20907aa8c"
        "00000000ffffffffffffffff"
        "0000000000000002000100000000000000000000000e00000000000001a20907b4ba"
        "00000000ffffffffffffffff",
        [(1, 0, 5, 10, 1795447827084, 0, -1), (2, 1, 0, 14, 1795447829690, 0, -1)],
    ),
]


def test_snapshot_bytes_of_apache_kafka_are_understood_and_written_alike() -> None:
    # idem-0 and tx-1 of a log directory that Apache Kafka 3.9.2 wrote.
    for text, expected in KAFKA_SNAPSHOTS:
        data = bytes.fromhex(text)
        states = ProducerStates(expiration_ms=1 << 62)
        states.load(data, 16, 0)
        assert states.encode() == data
        assert [
            (
                e.producer_id,
                e.epoch,
                e.last_sequence,
                e.last_offset,
                e.last_timestamp,
                e.coordinator_epoch,
                e.txn_first_offset,
            )
            for e in states.entries()
        ] == expected


def test_a_snapshot_carries_the_last_batch_and_the_open_transaction() -> None:
    states = ProducerStates()
    states.check_and_append(batch(0, 3, pid=1, timestamp=1000), 0)
    states.check_and_append(batch(3, 2, pid=1, timestamp=1001), 3)
    states.check_and_append(batch(0, 2, pid=2, txn=True), 5)
    states.check_and_append(batch(0, pid=3, txn=True), 7)
    marker(states, 8, pid=2, epoch=1, coordinator_epoch=4)
    again = ProducerStates()
    again.load(states.encode(), 9, 2000)
    assert again.map_end_offset == 9
    assert again.first_unstable_offset == again.first_undecided_offset == 7
    duplicate = again.check_and_append(batch(3, 2, pid=1), 9)
    assert duplicate is not None
    assert (duplicate.base_offset, duplicate.timestamp) == (3, 1001)
    with pytest.raises(OutOfOrderSequence):  # only the last batch survives a snapshot
        again.check_and_append(batch(0, 3, pid=1), 9)
    with pytest.raises(OutOfOrderSequence):  # the marker moved producer 2 to epoch 1
        again.check_and_append(batch(2, pid=2, epoch=1, txn=True), 9)
    with pytest.raises(CoordinatorFenced):
        marker(again, 9, pid=2, epoch=1, coordinator_epoch=3)
    assert again.encode() == states.encode()


def test_loading_leaves_out_the_expired_and_sorts_transactions() -> None:
    states = ProducerStates()
    states.check_and_append(batch(0, pid=1, timestamp=0), 0)
    states.check_and_append(batch(0, pid=2, timestamp=0), 1)
    states.check_and_append(batch(0, pid=3, timestamp=0, txn=True), 2)
    states.check_and_append(batch(1, pid=2, timestamp=900, txn=True), 3)
    again = ProducerStates(expiration_ms=1000)
    again.load(states.encode(), 4, 1000)
    assert sorted(e.producer_id for e in again.entries()) == [2, 3]
    assert again.first_unstable_offset == 2
    assert marker(again, 4, pid=3) == CompletedTxn(3, 2, 4, False, 3)


def test_a_damaged_snapshot_is_refused_and_leaves_the_state() -> None:
    states = ProducerStates()
    states.check_and_append(batch(0), 0)
    good = states.encode()
    damaged = [good[:-1], good + b"\0", good[:9], b"", b"\0\2" + good[2:]]
    damaged += [good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :] for i in range(len(good))]
    before = picture(states)
    for data in damaged:
        with pytest.raises(CorruptSnapshot):
            states.load(data, 5, 0)
    assert picture(states) == before


# --- verification (KIP-890)


def test_a_verification_holds_until_the_transaction_begins() -> None:
    states = ProducerStates()
    assert not states.is_verified(7, None)
    held = states.begin_verification(7, 0, 0, 100, from_zero=False)
    assert states.begin_verification(7, 0, 1, 101, from_zero=False) is held
    assert states.is_verified(7, held) and not states.is_verified(8, held)
    states.check_and_append(batch(0, txn=True), 0)
    assert not states.is_verified(7, held)


def test_a_marker_ends_a_verification() -> None:
    states = ProducerStates()
    for epoch in (0, 1):
        held = states.begin_verification(7, 0, 0, 100, from_zero=False)
        marker(states, epoch, epoch=epoch)
        assert not states.is_verified(7, held)
    held = states.begin_verification(7, 1, 0, 100, from_zero=False)
    states.clear()
    assert not states.is_verified(7, held)


def test_a_batch_behind_one_that_was_not_taken_does_not_come_first() -> None:
    states = ProducerStates()
    states.begin_verification(7, 0, 4, 100, from_zero=False)
    states.begin_verification(7, 0, 6, 100, from_zero=False)
    for sequence in (5, 6):
        with pytest.raises(OutOfOrderSequence):
            states.check_and_append(batch(sequence, txn=True), 0)
    assert states.get(7) is None
    states.begin_verification(7, 0, 3, 100, from_zero=False)
    with pytest.raises(OutOfOrderSequence):
        states.check_and_append(batch(4, txn=True), 0)
    assert states.check_and_append(batch(4, txn=True), 0, "replication") is None
    states.clear()
    states.begin_verification(7, 0, 3, 100, from_zero=False)
    states.begin_verification(7, 1, 5, 100, from_zero=False)
    assert states.check_and_append(batch(5, epoch=1, txn=True), 0) is None


def test_a_new_producer_begins_with_zero_in_transactions_of_version_2() -> None:
    states = ProducerStates()
    states.begin_verification(7, 0, 3, 100, from_zero=True)
    with pytest.raises(OutOfOrderSequence):
        states.check_and_append(batch(3, txn=True), 0)
    assert states.check_and_append(batch(0, txn=True), 0) is None


def test_verifications_are_forgotten_like_producers() -> None:
    states = ProducerStates(expiration_ms=50)
    held = states.begin_verification(7, 0, 0, 100, from_zero=False)
    states.expire(149)
    assert states.is_verified(7, held)
    states.expire(150)
    assert not states.is_verified(7, held)
