"""The log's rules one by one: what it takes, where it rolls, what its files hold."""

from collections.abc import Callable
from typing import Any

import pytest

from protocol import batch as batches
from protocol.batch import parse_header
from protocol.compression import GZIP, ZSTD
from protocol.record import Record, records_of
from storage.errors import (
    CoordinatorFenced,
    CorruptRecord,
    InconsistentTopicId,
    InvalidProducerEpoch,
    InvalidRecord,
    InvalidTimestamp,
    InvalidTxnState,
    OffsetOutOfRange,
    OutOfOrderSequence,
    RecordBatchTooLarge,
    RecordTooLarge,
    StorageError,
)
from storage.filesystem import MemoryFileSystem, RealFileSystem
from tests.kit.faulty_files import FaultyFileSystem
from tests.storage.log_kit import (
    DAY,
    DIRECTORY,
    LIMIT,
    NOW,
    append,
    bases,
    batch,
    config,
    each_batch,
    files,
    flipped,
    idempotent,
    marker,
    open_log,
    placed,
    read_all,
    read_records,
    segment_bases,
)

# --- append


def test_a_batch_gets_its_offsets_in_place_and_is_seen_after_the_write(
    fs: MemoryFileSystem,
) -> None:
    log = open_log(fs)
    append(log, batch(3))
    data = batch(2, timestamp=NOW + 5)
    wanted = placed(memoryview(bytearray(data)), 3, 9)
    appended = log.stage(data, 9, NOW + 50)
    assert (appended.base_offset, appended.last_offset) == (3, 4)
    assert (appended.first_timestamp, appended.max_timestamp) == (NOW + 5, NOW + 6)
    assert (appended.log_append_time_ms, appended.log_start_offset) == (-1, 0)
    assert not appended.duplicate
    assert (log.end_offset, log.next_offset) == (3, 5)
    assert log.read(3, 1000, 3).length == 0
    with pytest.raises(OffsetOutOfRange):
        log.read(4, 1000, 10)
    log.write_staged()
    assert (log.end_offset, log.next_offset) == (5, 5)
    assert log.read(3, 1000, 5).bytes() == wanted == bytes(data)
    assert log.latest_epoch == 9


def test_what_is_staged_together_is_written_together() -> None:
    fs = FaultyFileSystem()
    log = open_log(fs)
    append(log, batch(1))
    fs.trace.clear()
    for _ in range(10):
        log.stage(batch(2), 0, NOW)
    log.write_staged()
    log.write_staged()
    assert fs.trace == [f"append {DIRECTORY}/{0:020d}.log"]
    assert log.end_offset == 21


def test_more_batches_than_one_writev_takes(tmp_path: Any) -> None:
    log = open_log(RealFileSystem(), directory=f"{tmp_path}/orders-0")
    sent = [batch(1, size=index % 50) for index in range(2500)]
    for data in sent:
        log.stage(data, 0, NOW)
    log.write_staged()
    assert read_all(log) == b"".join(map(bytes, sent))


def refused(data: memoryview, at: int, value: bytes) -> memoryview:
    """The batch with some bytes changed and the CRC made right."""
    data[at : at + len(value)] = value
    size = len(data)
    data[17:21] = batches.crc32c(data[21:size]).to_bytes(4, "big")
    return data


REFUSALS: dict[str, tuple[Callable[[], memoryview], type[Exception], dict[str, Any]]] = {
    "crc": (lambda: batch(1, size=5)[:-1] and flipped(batch(1)), CorruptRecord, {}),
    "cut": (lambda: batch(3)[:-1], CorruptRecord, {}),
    "short": (lambda: batch(1)[:60], CorruptRecord, {}),
    "too long": (lambda: memoryview(bytearray(bytes(batch(1)) + b"x")), CorruptRecord, {}),
    "base offset": (lambda: memoryview(bytearray(placed(batch(1), 5))), InvalidRecord, {}),
    "count": (lambda: refused(batch(3), 57, (4).to_bytes(4, "big")), InvalidRecord, {}),
    "delta": (lambda: refused(batch(3), 23, (1).to_bytes(4, "big")), InvalidRecord, {}),
    "no record": (
        lambda: refused(batch(1), 57, (0).to_bytes(4, "big")), InvalidRecord, {},
    ),
    "negative delta": (
        lambda: refused(batch(1), 23, (-1).to_bytes(4, "big", signed=True)), InvalidRecord, {},
    ),
    "control": (lambda: marker(1, committed=True), InvalidRecord, {}),
    "sequence": (
        lambda: batch(1, producer_id=3, producer_epoch=0, base_sequence=-1), InvalidRecord, {},
    ),
    "codec": (lambda: refused(batch(1), 21, b"\0\7"), CorruptRecord, {}),
    "message size": (lambda: batch(1, size=500), RecordTooLarge, {"max_message_bytes": 400}),
    "segment size": (lambda: batch(1, size=500), RecordBatchTooLarge, {"segment_bytes": 400}),
    "key": (lambda: batch(2, key=None), InvalidRecord, {"cleanup_policy": "compact"}),
    "old": (
        lambda: batch(1, timestamp=NOW - DAY), InvalidTimestamp,
        {"message_timestamp_before_max_ms": DAY - 1},
    ),
    "early": (
        lambda: batch(1, timestamp=NOW + DAY), InvalidTimestamp,
        {"message_timestamp_after_max_ms": DAY - 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_leave_no_trace(fs: MemoryFileSystem, name: str) -> None:
    make, error, settings = REFUSALS[name]
    log = open_log(fs, settings=config(**settings))
    append(log, batch(2))
    log.stage(batch(1), 0, NOW)
    with pytest.raises(error) as caught:
        log.stage(make(), 0, NOW)
    if issubclass(error, StorageError):
        assert isinstance(caught.value, StorageError)
    assert log.next_offset == 3
    log.write_staged()
    assert append(log, batch(1)) == 3
    assert [record.offset for record in read_records(log)] == [0, 1, 2, 3]


def test_refused_records_are_named(fs: MemoryFileSystem) -> None:
    log = open_log(fs, settings=config(cleanup_policy="compact"))
    built = batches.build([Record(0, NOW, b"k", b"v"), Record(1, NOW, None, b"v")])
    with pytest.raises(InvalidRecord) as caught:
        log.stage(memoryview(bytearray(built)), 0, NOW)
    assert [index for index, _ in caught.value.record_errors] == [1]


def test_magic_1_is_not_for_here(fs: MemoryFileSystem) -> None:
    data = batch(1)
    data[16] = 1
    with pytest.raises((InvalidRecord, CorruptRecord)):
        open_log(fs).stage(data, 0, NOW)


def test_append_time(fs: MemoryFileSystem) -> None:
    log = open_log(fs, settings=config(message_timestamp_type="LogAppendTime"))
    appended = log.append(batch(3, timestamp=5), 0, NOW + 7)
    assert appended.log_append_time_ms == NOW + 7
    assert appended.max_timestamp == NOW + 7
    assert [record.timestamp for record in read_records(log)] == [NOW + 7] * 3
    list(each_batch(read_all(log)))
    assert log.max_timestamp() == (NOW + 7, 0, 0)


def test_append_time_told_by_the_client_is_not_believed(fs: MemoryFileSystem) -> None:
    log = open_log(fs)
    append(log, batch(2, timestamp=5, append_time=True))
    ((_, header),) = each_batch(read_all(log))
    assert not header.append_time
    assert [record.timestamp for record in read_records(log)] == [5, 6]


@pytest.mark.parametrize("codec", [0, GZIP, ZSTD])
@pytest.mark.parametrize("wanted", ["uncompressed", "gzip", "zstd", "producer"])
def test_topics_with_a_codec_of_their_own(fs: MemoryFileSystem, codec: int, wanted: str) -> None:
    log = open_log(fs, settings=config(compression_type=wanted))
    sent = batch(20, size=100, codec=codec)
    expected = list(records_of(bytes(sent), 0, parse_header(sent), LIMIT))
    append(log, sent)
    ((_, header),) = each_batch(read_all(log))
    assert header.codec == {"uncompressed": 0, "gzip": GZIP, "zstd": ZSTD}.get(wanted, codec)
    assert read_records(log) == expected


def test_settings_may_change_at_any_time(fs: MemoryFileSystem) -> None:
    log = open_log(fs)
    append(log, batch(1, size=300))
    log.config = config(max_message_bytes=200, segment_bytes=500)
    with pytest.raises(RecordTooLarge):
        log.stage(batch(1, size=300), 0, NOW)
    append(log, batch(1, size=100))
    append(log, batch(1, size=100))
    assert [segment.base_offset for segment in log.segments] == [0, 1]


# --- producers


def test_duplicates_are_answered_not_appended(fs: MemoryFileSystem) -> None:
    log = open_log(fs)
    append(log, batch(7))
    for sequence in range(0, 12, 2):
        append(log, idempotent(sequence, 2))
    size = log.size
    again = log.append(idempotent(6, 2), 0, NOW)
    assert again.duplicate
    assert (again.base_offset, again.last_offset) == (13, 14)
    assert (log.size, log.end_offset) == (size, 19)
    with pytest.raises(OutOfOrderSequence):
        log.stage(idempotent(13), 0, NOW)
    with pytest.raises(OutOfOrderSequence):
        log.stage(idempotent(0, 2), 0, NOW)  # six batches ago: forgotten
    append(log, idempotent(0, epoch=1))
    with pytest.raises(InvalidProducerEpoch):
        log.stage(idempotent(12), 0, NOW)


def test_a_duplicate_of_what_is_only_staged(fs: MemoryFileSystem) -> None:
    log = open_log(fs)
    first = log.stage(idempotent(0), 0, NOW)
    second = log.stage(idempotent(0), 0, NOW)
    assert second.duplicate and second.base_offset == first.base_offset
    log.write_staged()
    assert log.end_offset == 1


def test_transactions_hold_the_stable_offset_until_replicated(fs: MemoryFileSystem) -> None:
    log = open_log(fs)
    append(log, batch(2))
    append(log, idempotent(0, txn=True))
    append(log, batch(2))
    log.advance_high_watermark(5)
    assert (log.first_unstable_offset, log.last_stable_offset) == (2, 2)
    with pytest.raises(InvalidTxnState):
        log.stage(idempotent(1), 0, NOW)
    log.append(marker(4, committed=False, coordinator=3), 0, NOW, origin="coordinator")
    assert log.last_stable_offset == 2
    log.advance_high_watermark(6)
    assert log.last_stable_offset == 6
    assert log.aborted_transactions(0, 6) == [(4, 2)]
    assert log.aborted_transactions(0, 2) == []
    with pytest.raises(CoordinatorFenced):
        log.stage(marker(4, committed=True, coordinator=2), 0, NOW, origin="coordinator")


def test_a_reader_is_told_of_aborted_transactions_in_what_it_gets(fs: MemoryFileSystem) -> None:
    log = open_log(fs, settings=config(segment_bytes=1000, index_interval_bytes=150))
    for epoch in range(40):
        append(log, idempotent(0, txn=True, epoch=epoch))
        log.append(marker(4, committed=False, epoch=epoch), 0, NOW, origin="coordinator")
    log.advance_high_watermark(80)
    aborted = [2 * epoch for epoch in range(40)]
    assert len(log.segments) > 3
    most = 0
    for offset in range(0, 80, 3):
        for max_bytes in (150, 400, 5000):
            found = log.read(offset, max_bytes, 80)
            bound = log.bound_of(found)
            end = max(h.next_offset for _, h in batches.batches(found.bytes()))
            told = [first for _, first in log.aborted_transactions(offset, bound)]
            assert end <= bound
            assert set(told) >= {first for first in aborted if offset // 2 * 2 <= first < end}
            assert told == [f for f in aborted if f + 1 >= offset and f < bound]
            most = max(most, len(told))
    assert most < 12


def test_a_segment_that_begins_with_a_batch_does_not_know_it(fs: MemoryFileSystem) -> None:
    """Rolled for a producer's batch, the snapshot at that offset must not have it."""
    log = open_log(fs, settings=config(segment_bytes=300))
    for sequence in range(8):
        append(log, idempotent(sequence, txn=True))
    assert len(log.segments) > 2
    log.flush()
    border = log.segments[-1].base_offset
    log.truncate_to(border)
    entry = log.producers.get(4)
    assert entry is not None and entry.last_sequence == border - 1
    append(log, idempotent(border, txn=True))


# --- rolling


def test_rolling_by_size(fs: MemoryFileSystem) -> None:
    size = len(batch(1))
    log = open_log(fs, settings=config(segment_bytes=3 * size))
    for _ in range(7):
        append(log, batch(1))
    assert bases(log) == [0, 3, 6]
    assert segment_bases(fs) == [0, 3, 6]
    tight = open_log(fs, settings=config(segment_bytes=3 * size - 1), directory="/data/b-0")
    for _ in range(5):
        append(tight, batch(1))
    assert bases(tight) == [0, 2, 4]


def test_rolling_within_what_is_staged(fs: MemoryFileSystem) -> None:
    log = open_log(fs, settings=config(segment_bytes=300))
    sent = [batch(1, size=40) for _ in range(9)]
    for data in sent:
        log.stage(data, 0, NOW)
    log.write_staged()
    assert len(log.segments) > 2
    assert read_all(log) == b"".join(map(bytes, sent))


def test_rolling_by_record_time(fs: MemoryFileSystem) -> None:
    """Measured by the records' timestamps from the first batch's on; the clock does not matter."""
    log = open_log(fs, settings=config(segment_ms=1000))
    append(log, batch(1, timestamp=NOW))
    append(log, batch(1, timestamp=NOW + 1000), now_ms=NOW + 50_000)
    append(log, batch(1, timestamp=NOW - 5000))
    assert bases(log) == [0]
    append(log, batch(1, timestamp=NOW + 1001))
    assert bases(log) == [0, 3]
    append(log, batch(1, timestamp=NOW + 2001))
    assert bases(log) == [0, 3]
    append(log, batch(1, timestamp=NOW + 2002))
    assert bases(log) == [0, 3, 5]


def test_rolling_by_record_time_after_a_restart(fs: MemoryFileSystem) -> None:
    settings = config(segment_ms=1000)
    log = open_log(fs, settings=settings)
    append(log, batch(1, timestamp=NOW))
    log.close(True)
    log = open_log(fs, settings=settings, clean=True, recovery_point=1)
    append(log, batch(1, timestamp=NOW + 1000))
    assert bases(log) == [0]
    append(log, batch(1, timestamp=NOW + 1001))
    assert bases(log) == [0, 2]


def test_rolling_by_the_clock_without_timestamps(fs: MemoryFileSystem) -> None:
    log = open_log(fs, settings=config(segment_ms=1000))
    built = batches.build([Record(0, -1, b"k", b"v")])
    for now, count in ((0, 1), (1000, 1), (1001, 2), (2001, 2), (2002, 3)):
        append(log, memoryview(bytearray(built)), now_ms=NOW + now)
        assert len(log.segments) == count, now


def test_rolling_with_jitter_is_earlier_but_not_by_more(fs: MemoryFileSystem) -> None:
    log = open_log(fs, settings=config(segment_ms=1000, segment_jitter_ms=400))
    append(log, batch(1, timestamp=NOW))
    append(log, batch(1, timestamp=NOW + 600))
    assert bases(log) == [0]
    append(log, batch(1, timestamp=NOW + 1001))
    assert bases(log) == [0, 2]


def test_rolling_when_an_index_is_full(fs: MemoryFileSystem) -> None:
    log = open_log(fs, settings=config(segment_index_bytes=36, index_interval_bytes=0))
    for _ in range(12):
        append(log, batch(1))
    assert len(log.segments) > 3
    log.close(True)
    for name, content in files(fs).items():
        if name.endswith((".index", ".timeindex")):
            assert len(content) <= 36


def test_rolling_when_offsets_no_longer_fit(fs: MemoryFileSystem) -> None:
    log = open_log(fs)
    far = (1 << 31) - 1
    log.append_as_follower(memoryview(bytearray(placed(batch(1), 0))))
    log.append_as_follower(memoryview(bytearray(placed(batch(1), far))))
    assert bases(log) == [0]
    append(log, batch(1))
    assert bases(log) == [0, far + 1]
    assert len(read_all(log)) == log.size


def test_an_empty_segment_is_not_rolled(fs: MemoryFileSystem) -> None:
    log = open_log(fs)
    log.roll(NOW)
    assert bases(log) == [0]
    append(log, batch(2))
    log.roll(NOW)
    log.roll(NOW)
    assert bases(log) == [0, 2]


# --- files on disk


def expected_indexes(data: bytes, base: int, interval: int) -> tuple[bytes, bytes]:
    """Apache Kafka's rule, written down once more: an entry when more than `interval` bytes came
    since the last, the time index last on closing."""
    index, times = b"", b""
    since, newest, newest_at, last_time = 0, -1, 0, -1
    for position, header in each_batch(data):
        if header.max_timestamp > newest:
            newest, newest_at = header.max_timestamp, header.last_offset - base
        if since > interval:
            index += (header.last_offset - base).to_bytes(4, "big") + position.to_bytes(4, "big")
            if newest > last_time:
                times += newest.to_bytes(8, "big") + newest_at.to_bytes(4, "big")
                last_time = newest
            since = 0
        since += header.size
    if newest > last_time:
        times += newest.to_bytes(8, "big") + newest_at.to_bytes(4, "big")
    return index, times


@pytest.mark.parametrize("flush_every", [1, 7, 100])
@pytest.mark.parametrize("interval", [0, 100, 5000])
def test_index_files(fs: MemoryFileSystem, interval: int, flush_every: int) -> None:
    log = open_log(fs, settings=config(index_interval_bytes=interval, segment_bytes=2000))
    for index in range(40):
        append(log, batch(1 + index % 3, size=index * 7 % 60, timestamp=NOW + index * 37 % 101))
        if index % flush_every == flush_every - 1:
            log.flush()  # what is sealed later is not forgotten
    log.close(True)
    for base in segment_bases(fs):
        stem = f"{DIRECTORY}/{base:020d}"
        index, times = expected_indexes(fs.read_bytes(stem + ".log"), base, interval)
        assert fs.read_bytes(stem + ".index") == index
        assert fs.read_bytes(stem + ".timeindex") == times


def test_a_closed_log_has_what_kafka_wants(fs: MemoryFileSystem) -> None:
    log = open_log(fs, settings=config(segment_bytes=300), topic_id=bytes(range(16)))
    for index in range(5):
        append(log, batch(1), epoch=3 + index // 3)
    log.close(True)
    found = files(fs)
    for base in segment_bases(fs):
        assert f"{base:020d}.index" in found and f"{base:020d}.timeindex" in found
        if base:
            assert f"{base:020d}.snapshot" in found
    assert f"{5:020d}.snapshot" in found
    assert found["leader-epoch-checkpoint"] == b"0\n2\n3 0\n4 3\n"
    assert found["partition.metadata"] == b"version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw"
    assert not [name for name in found if name.endswith((".tmp", ".deleted"))]


def test_a_log_never_used_costs_a_directory(fs: MemoryFileSystem) -> None:
    log = open_log(fs)
    assert log.read(0, 100, 0).length == 0
    assert log.max_timestamp() is None
    log.flush()
    log.close(True)
    assert files(fs) == {}


def test_topic_ids(fs: MemoryFileSystem) -> None:
    first, other = bytes(range(16)), bytes(range(1, 17))
    log = open_log(fs)
    assert log.topic_id == bytes(16)
    log.assign_topic_id(first)
    log.assign_topic_id(first)
    with pytest.raises(InconsistentTopicId):
        log.assign_topic_id(other)
    assert open_log(fs).topic_id == first
    with pytest.raises(InconsistentTopicId):
        open_log(fs, topic_id=other)


def test_old_snapshots_go(fs: MemoryFileSystem) -> None:
    """Those that segments begin with stay, and the newest."""
    log = open_log(fs, settings=config(segment_bytes=400))
    for sequence in range(12):
        append(log, idempotent(sequence))
        log.flush()
    kept = {int(name[:20]) for name in files(fs) if name.endswith(".snapshot")}
    assert kept - set(bases(log)) <= {12, 11}
    assert max(kept) == 12
    assert set(bases(log)) - {0} <= kept
