"""Compaction of single batches: records, tombstones and their horizon, markers, empty batches."""

from collections.abc import Generator
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import batch as batches
from protocol.batch import parse_header
from protocol.compression import GZIP, NONE, ZSTD
from protocol.legacy import any_batches, any_crc_ok, any_records, build_set
from protocol.record import Record, records_of
from storage.aborted import AbortedTxn
from storage.cleaning import BatchFilter, Kept, LastOfProducer, learn
from storage.compaction import OffsetMap

NOW = 1_000_000
RETENTION = 1000
FAR = 1 << 40

T = TypeVar("T")


def run(work: Generator[None, None, T]) -> T:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def records(*keyed: tuple[str | None, str | None], base: int = 0) -> list[Record]:
    return [
        Record(
            base + n,
            5000 + base + n,
            None if key is None else key.encode(),
            None if value is None else value.encode(),
            (("h", b"x"),),
        )
        for n, (key, value) in enumerate(keyed)
    ]


def offset_map(reached: int, **latest: int) -> OffsetMap:
    offsets = OffsetMap(1 << 20)
    for key, offset in latest.items():
        assert offsets.put(key.encode(), offset)
    offsets.reached(reached)
    return offsets


def batch_filter(
    offsets: OffsetMap,
    last: dict[int, LastOfProducer] | None = None,
    *,
    now: int = NOW,
    round_end: int = FAR,
) -> BatchFilter:
    return BatchFilter(
        offsets,
        last or {},
        now_ms=now,
        delete_retention_ms=RETENTION,
        round_end=round_end,
        limit=1 << 20,
    )


def apply(chosen: BatchFilter, data: bytes) -> Kept | None:
    return run(chosen.apply(parse_header(data), data))


def content(kept: Kept | None) -> list[Record]:
    assert kept is not None
    header = parse_header(kept.data)
    assert batches.crc_ok(kept.data, 0, header.size)
    assert header.size == len(kept.data)
    assert header.record_count == kept.records
    assert (header.last_offset, header.max_timestamp) == (kept.last_offset, kept.max_timestamp)
    return list(records_of(kept.data, 0, header, 1 << 20))


@pytest.mark.parametrize("codec", [NONE, ZSTD])
def test_only_the_latest_record_of_a_key_stays_and_the_frame_is_kept(codec: int) -> None:
    given_ = records(("a", "1"), ("b", "2"), ("c", "3"), ("b", "4"), base=10)
    data = batches.build(
        given_,
        base_offset=10,
        codec=codec,
        producer_id=5,
        producer_epoch=2,
        base_sequence=7,
        leader_epoch=3,
        transactional=True,
    )
    kept = apply(batch_filter(offset_map(20, a=19, b=13, c=12)), data)
    assert content(kept) == [given_[2], given_[3]]
    assert kept is not None
    header = parse_header(kept.data)
    assert header.base_offset == 10
    assert header.last_offset == 13
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (5, 2, 7)
    assert (header.leader_epoch, header.transactional, header.codec) == (3, True, codec)
    assert header.base_timestamp == given_[2].timestamp
    assert header.last_sequence == 10


def test_a_batch_that_keeps_all_is_not_touched() -> None:
    data = batches.build(records(("a", "1"), ("b", "2")))
    kept = apply(batch_filter(offset_map(20, a=0, b=1)), data)
    assert kept is not None
    assert bytes(kept.data) == data


def test_a_batch_that_loses_all_goes() -> None:
    data = batches.build(records(("a", "1"), (None, "no key")))
    assert apply(batch_filter(offset_map(20, a=5)), data) is None


def test_what_lies_beyond_the_map_stays() -> None:
    given_ = records(("a", "1"), ("a", "2"), (None, "3"), ("a", "4"))
    kept = apply(batch_filter(offset_map(0, a=0)), batches.build(given_))
    assert content(kept) == given_
    kept = apply(batch_filter(offset_map(1, a=1)), batches.build(given_))
    assert content(kept) == given_[1:]


def test_the_append_time_of_a_batch_survives() -> None:
    given_ = records(("a", "1"), ("b", "2"))
    data = bytearray(batches.build(given_))
    batches.set_append_time(data, 0, 7777)
    kept = apply(batch_filter(offset_map(9, a=8, b=1)), bytes(data))
    assert content(kept) == [replace(given_[1], timestamp=7777)]
    assert kept is not None
    assert parse_header(kept.data).append_time


# --- tombstones


def test_a_tombstone_gets_a_horizon_and_goes_once_it_has_passed() -> None:
    given_ = records(("a", None), ("b", "2"))
    offsets = offset_map(20, a=0, b=1)
    first = apply(batch_filter(offsets), batches.build(given_))
    assert content(first) == given_
    assert first is not None
    assert parse_header(first.data).delete_horizon == NOW + RETENTION
    data = bytes(first.data)
    # Another round before the horizon changes nothing, not even the horizon.
    second = apply(batch_filter(offsets, now=NOW + RETENTION - 1), data)
    assert second is not None
    assert bytes(second.data) == data
    third = apply(batch_filter(offsets, now=NOW + RETENTION), data)
    assert content(third) == given_[1:]
    assert third is not None
    assert parse_header(third.data).delete_horizon == NOW + RETENTION


def test_a_batch_of_tombstones_alone_goes_after_the_horizon() -> None:
    offsets = offset_map(20, a=0)
    first = apply(batch_filter(offsets), batches.build(records(("a", None))))
    assert first is not None
    assert apply(batch_filter(offsets, now=NOW + RETENTION), bytes(first.data)) is None


def test_a_replaced_tombstone_goes_at_once() -> None:
    assert apply(batch_filter(offset_map(20, a=9)), batches.build(records(("a", None)))) is None


def test_a_batch_without_tombstones_gets_no_horizon() -> None:
    kept = apply(
        batch_filter(offset_map(9, a=0, b=5)), batches.build(records(("a", "1"), ("b", "")))
    )
    assert kept is not None
    assert parse_header(kept.data).delete_horizon is None


# --- state that a header holds


def test_the_last_batch_of_a_producer_stays_as_a_header() -> None:
    data = batches.build(
        records(("a", "1"), ("a", "2")), producer_id=5, producer_epoch=1, base_sequence=3
    )
    offsets = offset_map(20, a=9)
    assert apply(batch_filter(offsets, {5: LastOfProducer(4, 1)}), data) is None
    kept = apply(batch_filter(offsets, {5: LastOfProducer(1, 1)}), data)
    assert content(kept) == []
    assert kept is not None
    header = parse_header(kept.data)
    assert (header.last_sequence, header.last_offset, header.size) == (4, 1, 61)
    assert (header.base_timestamp, header.max_timestamp) == (-1, 5001)
    # And again: an empty batch passes as it is, and goes when it is no longer the last one.
    again = apply(batch_filter(offsets, {5: LastOfProducer(1, 1)}), bytes(kept.data))
    assert again is not None
    assert again.data == kept.data
    assert apply(batch_filter(offsets, {5: LastOfProducer(9, 1)}), bytes(kept.data)) is None


def test_a_compressed_batch_becomes_a_plain_header() -> None:
    data = batches.build(records(("a", "1")), producer_id=5, base_sequence=0, codec=ZSTD)
    kept = apply(batch_filter(offset_map(20, a=9), {5: LastOfProducer(0, -1)}), data)
    assert content(kept) == []
    assert kept is not None
    assert parse_header(kept.data).codec == NONE


def test_the_last_batch_of_the_round_stays_as_a_header() -> None:
    data = batches.build(records(("a", "1"), ("a", "2")))
    offsets = offset_map(20, a=9)
    assert content(apply(batch_filter(offsets, round_end=2), data)) == []
    assert apply(batch_filter(offsets, round_end=3), data) is None


# --- transactions


def marker(offset: int, *, committed: bool, pid: int = 5, epoch: int = 0) -> bytes:
    return batches.build_end_txn_marker(
        producer_id=pid,
        producer_epoch=epoch,
        committed=committed,
        timestamp=6000,
        coordinator_epoch=3,
        base_offset=offset,
    )


def transactional(offset: int, key: str = "a", pid: int = 5) -> bytes:
    return batches.build(
        records((key, "1"), base=offset),
        base_offset=offset,
        producer_id=pid,
        producer_epoch=0,
        base_sequence=0,
        transactional=True,
    )


def test_aborted_data_goes_and_its_marker_stays_for_a_round_and_a_horizon() -> None:
    offsets = offset_map(20, a=0)
    aborted = AbortedTxn(5, 0, 1, 2)
    first = batch_filter(offsets)
    first.transactions.add_aborted([aborted])
    assert apply(first, transactional(0)) is None
    end = marker(1, committed=False)
    kept = apply(first, end)
    assert kept is not None
    assert bytes(kept.data) == end
    assert first.aborted_kept == [aborted]
    # Next round: no data any more, so the marker gets its horizon; its index entry goes.
    second = batch_filter(offsets)
    second.transactions.add_aborted([aborted])
    kept = apply(second, end)
    assert second.aborted_kept == []
    assert kept is not None
    header = parse_header(kept.data)
    assert header.delete_horizon == NOW + RETENTION
    assert (header.control, header.transactional, header.last_offset) == (True, True, 1)
    assert batches.end_txn_marker(kept.data, 0, header) == (False, 3)
    assert content(kept)[0].timestamp == 6000
    data = bytes(kept.data)
    third = batch_filter(offsets, now=NOW + RETENTION - 1)
    kept = apply(third, data)
    assert kept is not None
    assert bytes(kept.data) == data
    assert apply(batch_filter(offsets, now=NOW + RETENTION), data) is None


def test_a_commit_marker_stays_while_data_of_its_transaction_does() -> None:
    chosen = batch_filter(offset_map(20, a=0), now=FAR)
    assert apply(chosen, transactional(0)) is not None
    end = marker(1, committed=True)
    kept = apply(chosen, end)
    assert kept is not None
    assert bytes(kept.data) == end


def test_the_marker_that_holds_a_producers_epoch_stays() -> None:
    offsets = offset_map(20)
    first = apply(batch_filter(offsets), marker(1, committed=True, epoch=4))
    assert first is not None
    data = bytes(first.data)
    late = NOW + RETENTION
    assert apply(batch_filter(offsets, {5: LastOfProducer(-1, 3)}, now=late), data) is None
    kept = apply(batch_filter(offsets, {5: LastOfProducer(-1, 4)}, now=late), data)
    assert content(kept) == []
    assert kept is not None
    header = parse_header(kept.data)
    assert (header.control, header.producer_epoch) == (True, 4)
    assert apply(batch_filter(offsets, now=late), bytes(kept.data)) is None


def test_other_control_batches_are_left_alone() -> None:
    data = batches.build(
        [Record(0, 0, b"\0\0\0\2", b"leader change")], control=True, producer_id=-1
    )
    kept = apply(batch_filter(offset_map(20), now=FAR), data)
    assert kept is not None
    assert bytes(kept.data) == data


# --- learning keys


def test_keys_are_learned_from_committed_data_at_or_above_the_start() -> None:
    offsets = OffsetMap(1 << 20)
    chosen = batch_filter(offsets)
    chosen.transactions.add_aborted([AbortedTxn(5, 4, 5, 6)])
    stream = [
        batches.build(records(("a", "1"), ("b", "2"), (None, "3"))),
        batches.build(records(("c", None), base=3), base_offset=3),
        transactional(4, "d"),
        marker(5, committed=False),
        transactional(6, "e", pid=9),
    ]
    for data in stream:
        work = learn(
            offsets, chosen.transactions, parse_header(data), data, 0, start=1, limit=1 << 20
        )
        assert run(work)
    found = {key: offsets.get(key.encode()) for key in "abcde"}
    assert found == {"a": -1, "b": 1, "c": 3, "d": -1, "e": 6}
    assert offsets.latest_offset == 6


def test_learning_stops_when_the_map_is_full() -> None:
    offsets = OffsetMap(2 * 190)
    data = batches.build(records(("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("d", "5")))
    chosen = batch_filter(offsets)
    work = learn(offsets, chosen.transactions, parse_header(data), data, 0, start=0, limit=1 << 20)
    assert run(work) is False
    assert offsets.latest_offset == 2
    kept = apply(batch_filter(offsets), data)
    assert [record.offset for record in content(kept)] == [1, 2, 3, 4]


def test_large_batches_are_worked_on_in_slices() -> None:
    data = batches.build([Record(n, 0, b"%d" % n, b"v") for n in range(2000)])
    offsets = OffsetMap(1 << 20)
    chosen = batch_filter(offsets)
    work = learn(offsets, chosen.transactions, parse_header(data), data, 0, start=0, limit=1 << 20)
    assert sum(1 for _ in work) >= 7
    assert offsets.put(b"0", 5000)
    assert sum(1 for _ in chosen.apply(parse_header(data), data)) >= 7


keyed = st.tuples(st.sampled_from("abcd"), st.sampled_from(["1", "2", None]))


@given(st.lists(st.lists(keyed, min_size=1, max_size=4), min_size=1, max_size=8))
def test_any_batches_keep_the_latest_of_every_key(
    shape: list[list[tuple[str, str | None]]],
) -> None:
    stream: list[bytes] = []
    latest: dict[bytes, Record] = {}
    offset = 0
    for keys in shape:
        made = records(*keys, base=offset)
        stream.append(batches.build(made, base_offset=offset))
        latest |= {bytes(record.key or b""): record for record in made}
        offset += len(made)
    offsets = OffsetMap(1 << 20)
    chosen = batch_filter(offsets)
    for data in stream:
        assert run(
            learn(offsets, chosen.transactions, parse_header(data), data, 0, start=0, limit=1 << 20)
        )
    out = [kept for data in stream if (kept := apply(chosen, data)) is not None]
    left = [record for kept in out for record in content(kept)]
    assert left == sorted(latest.values(), key=lambda record: record.offset)


# --- message formats 0 and 1


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [NONE, GZIP])
def test_old_messages_keep_their_format(magic: int, codec: int) -> None:
    given_ = [
        replace(record, headers=(), timestamp=record.timestamp if magic else -1)
        for record in records(("a", "1"), ("b", None), ("c", "3"), ("c", "4"), base=10)
    ]
    data = build_set(given_, magic, codec=codec)
    for deletes_stay, left in ((True, [1, 3]), (False, [3])):
        chosen = batch_filter(offset_map(99, a=50, b=11, c=13), round_end=14)
        chosen.legacy_deletes_stay = deletes_stay
        out = b""
        for pos, header in any_batches(data):
            kept = run(chosen.apply(header, data, pos))
            out += b"" if kept is None else bytes(kept.data)
        found = [
            record
            for pos, header in any_batches(out)
            for record in any_records(out, pos, header, 1 << 20)
        ]
        assert found == [given_[index] for index in left]
        assert all(header.magic == magic for _, header in any_batches(out))
        assert all(header.codec == codec for _, header in any_batches(out))
        assert all(any_crc_ok(out, pos, header) for pos, header in any_batches(out))
