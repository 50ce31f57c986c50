"""The log's rules one by one: what reads give, how ends move, followers, flushes, failures."""

import gc
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from storage import open_files
from storage.errors import (
    CorruptRecord,
    LogDirOffline,
    OffsetOutOfRange,
    StorageError,
)
from storage.filesystem import File, MemoryFile, MemoryFileSystem, RealFileSystem
from storage.log import Log
from tests.kit.faulty_files import FaultyFileSystem
from tests.storage.log_kit import (
    DAY,
    NOW,
    append,
    bases,
    batch,
    config,
    files,
    flipped,
    idempotent,
    open_log,
    placed,
    read_all,
    read_records,
    segment_bases,
)

# --- reading


def five(fs: MemoryFileSystem) -> tuple[Log, list[bytes]]:
    log = open_log(fs)
    sent = [batch(2, size=10 * index) for index in range(5)]
    for data in sent:
        append(log, data)
    return log, [bytes(data) for data in sent]


def test_reading_begins_with_the_batch_that_holds_the_offset(fs: MemoryFileSystem) -> None:
    log, stored = five(fs)
    for offset in range(10):
        piece = log.read(offset, 1 << 20, 10)
        assert piece.bytes() == b"".join(stored[offset // 2 :])
        assert piece.first_offset == offset // 2 * 2


def test_reading_stops_below_the_upper_offset(fs: MemoryFileSystem) -> None:
    log, stored = five(fs)
    assert log.read(2, 1 << 20, 6).bytes() == b"".join(stored[1:3])
    # Within a batch: that one does not come.
    assert log.read(2, 1 << 20, 7).bytes() == b"".join(stored[1:3])
    assert log.read(2, 1 << 20, 3).bytes() == b""
    assert log.read(6, 1 << 20, 6).bytes() == b""
    assert log.read(8, 1 << 20, 2).bytes() == b""


def test_reading_at_most_so_many_bytes(fs: MemoryFileSystem) -> None:
    log, stored = five(fs)
    whole = b"".join(stored[1:])
    size = len(stored[1])
    assert log.read(2, size + 5, 10).bytes() == whole[: size + 5]
    assert log.read(2, size, 10).bytes() == stored[1]
    assert log.read(2, 1, 10).bytes() == stored[1]
    assert log.read(2, 0, 10).bytes() == stored[1]
    assert log.read(2, size - 1, 10, min_one=False).length == 0
    assert log.read(2, size, 10, min_one=False).bytes() == stored[1]
    assert log.read(8, 1, 10).bytes() == stored[4]


def test_reading_outside(fs: MemoryFileSystem) -> None:
    log, _ = five(fs)
    log.advance_high_watermark(10)
    log.advance_log_start_offset(4)
    assert log.read(10, 100, 10).length == 0
    for offset in (-1, 0, 3, 11):
        with pytest.raises(OffsetOutOfRange):
            log.read(offset, 100, 10)


class Counting(MemoryFileSystem):
    """Counts reads of files."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def _file(self, path: str, data: Any) -> File:
        files = self

        class Counted(MemoryFile):
            __slots__ = ()

            def pread(self, count: int, position: int) -> bytes:
                files.reads += 1
                return super().pread(count, position)

        return Counted(data)


def test_the_newest_batches_are_found_without_reading() -> None:
    fs = Counting()
    log = open_log(fs)
    for _ in range(200):
        offset = append(log, batch(2))
        piece = log.read(offset, 1 << 20, log.end_offset)
        assert fs.reads == 0
        assert piece.bytes()
        fs.reads = 0
    for back in range(2, 20, 2):
        assert log.read(log.end_offset - back, 1 << 20, log.end_offset).length
    assert fs.reads == 0


def test_an_older_batch_costs_one_small_read() -> None:
    fs = Counting()
    log = open_log(fs)
    for _ in range(500):
        append(log, batch(1, size=100))
    for offset in range(0, 400, 7):
        fs.reads = 0
        log.read(offset, 1 << 20, log.end_offset)
        assert fs.reads <= 1


def test_a_slice_survives_what_happens_to_its_file(tmp_path: Any) -> None:
    """Removed, let go for others' sake: who sends a slice still can."""
    log = open_log(
        RealFileSystem(), directory=f"{tmp_path}/orders-0", settings=config(segment_bytes=300)
    )
    for _ in range(6):
        append(log, batch(1))
    log.advance_high_watermark(6)
    piece = log.read(0, 1 << 20, 6)
    wanted = piece.bytes()
    number = piece.file.fileno()
    assert number is not None
    log.delete_oldest(2, NOW)
    for job in log.delete_jobs(NOW + DAY):
        job()
    log.close(True)
    del log
    gc.collect()
    assert piece.bytes() == wanted
    assert os.pread(number, piece.length, piece.position) == wanted
    del piece
    gc.collect()
    with pytest.raises(OSError):
        os.fstat(number)


def test_open_files_are_bounded(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_files.OPEN_FILES, "limit", 10)
    fs = RealFileSystem()
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    logs = [
        open_log(fs, directory=f"{tmp_path}/t-{index}", settings=config(segment_bytes=300))
        for index in range(40)
    ]
    for round_ in range(4):
        for log in logs:
            assert append(log, batch(1)) == round_
        for log in logs:
            assert len(read_records(log)) == round_ + 1
    if before:
        assert len(os.listdir("/proc/self/fd")) - before < 30
    for log in logs:
        log.close(True)


# --- timestamps


def test_offsets_by_timestamp(fs: MemoryFileSystem) -> None:
    log = open_log(fs, settings=config(segment_bytes=600, index_interval_bytes=100))
    stamps = [100, 300, 200, 900, 400, 1000, 1000, 950, 1500, 200, 2000, 2100]
    for stamp in stamps:
        append(log, batch(2, timestamp=stamp), epoch=stamp // 1000)
    records = read_records(log)
    for wanted in range(0, 2200, 25):
        first = next((r for r in records if r.timestamp >= wanted), None)
        found = log.offset_for_timestamp(wanted)
        if first is None:
            assert found is None
        else:
            assert found is not None and found[:2] == (first.timestamp, first.offset)
            assert found[2] == log.epochs.epoch_of(first.offset)
    assert log.max_timestamp() == (2101, 23, 2)


def test_timestamps_below_the_log_start_do_not_count(fs: MemoryFileSystem) -> None:
    log = open_log(fs)
    for stamp in (500, 100, 300):
        append(log, batch(2, timestamp=stamp))
    log.advance_high_watermark(6)
    log.advance_log_start_offset(3)
    assert log.offset_for_timestamp(50) == (101, 3, 0)
    assert log.offset_for_timestamp(400) is None


# --- moving ends


def test_the_high_watermark_only_rises(fs: MemoryFileSystem) -> None:
    log, _ = five(fs)
    log.advance_high_watermark(4)
    log.advance_high_watermark(2)
    assert log.high_watermark == 4
    log.advance_high_watermark(99)
    assert log.high_watermark == 10
    with pytest.raises(OffsetOutOfRange):
        log.advance_log_start_offset(11)


def test_truncation_across_segments(fs: MemoryFileSystem) -> None:
    log = open_log(fs, settings=config(segment_bytes=300))
    for index in range(9):
        append(log, batch(1), epoch=index)
    log.flush()
    log.advance_high_watermark(9)
    wanted = read_all(log, upper=4)
    log.truncate_to(4)
    assert (log.end_offset, log.next_offset, log.high_watermark) == (4, 4, 4)
    assert log.recovery_point <= 4
    assert log.latest_epoch == 3
    assert read_all(log) == wanted
    assert bases(log)[-1] <= 4
    for job in log.delete_jobs(NOW):
        job()
    assert segment_bases(fs) == bases(log)
    assert max(int(n[:20]) for n in files(fs) if n.endswith(".snapshot")) <= 4
    assert append(log, batch(1), epoch=20) == 4
    again = open_log(fs, recovery_point=9, settings=log.config)  # a checkpoint from before
    assert read_all(again) == read_all(log)
    assert again.epochs.entries() == log.epochs.entries()


def test_truncation_keeps_nothing_staged(fs: MemoryFileSystem) -> None:
    log, _ = five(fs)
    log.stage(batch(1), 0, NOW)
    log.truncate_to(6)
    assert log.next_offset == 6
    log.write_staged()
    assert log.end_offset == 6


def test_truncation_beyond_the_end_is_nothing(fs: MemoryFileSystem) -> None:
    log, stored = five(fs)
    log.truncate_to(10)
    log.truncate_to(50)
    assert read_all(log) == b"".join(stored)


def test_starting_over_somewhere_else(fs: MemoryFileSystem) -> None:
    log, _ = five(fs)
    append(log, idempotent(0))
    log.flush()
    log.truncate_fully_and_start_at(100)
    assert (log.log_start_offset, log.end_offset, log.high_watermark) == (100, 100, 100)
    assert log.producers.get(4) is None
    assert log.epochs.entries() == []
    again = open_log(fs)
    assert (again.log_start_offset, again.end_offset) == (100, 100)
    assert append(log, batch(1)) == 100


def test_deleting_old_segments(fs: MemoryFileSystem) -> None:
    log = open_log(fs, settings=config(segment_bytes=300, file_delete_delay_ms=1000))
    for index in range(9):
        append(log, batch(1), epoch=index)
    log.advance_high_watermark(9)
    second = log.segments[2].base_offset
    log.delete_oldest(2, NOW)
    assert log.log_start_offset == log.segments[0].base_offset == second
    assert log.earliest_epoch == second
    assert log.pending_deletes
    assert log.delete_jobs(NOW + 999) == []
    assert [n for n in files(fs) if n.endswith(".deleted")]
    for job in log.delete_jobs(NOW + 1000):
        job()
    assert not [n for n in files(fs) if n.endswith(".deleted")]
    with pytest.raises(OffsetOutOfRange):
        log.read(0, 100, 9)
    assert open_log(fs, settings=log.config).log_start_offset == second


def test_the_active_segment_is_not_deleted(fs: MemoryFileSystem) -> None:
    log, _ = five(fs)
    log.advance_high_watermark(10)
    log.delete_oldest(1, NOW)
    assert log.log_start_offset == 0
    log.roll(NOW)
    log.delete_oldest(1, NOW)
    assert (log.log_start_offset, log.end_offset) == (10, 10)


# --- followers


def test_a_follower_keeps_offsets_and_epochs(fs: MemoryFileSystem) -> None:
    log = open_log(fs)
    data = placed(batch(2), 10, 3) + placed(batch(1), 15, 3) + placed(batch(2), 16, 5)
    log.append_as_follower(memoryview(bytearray(data + bytes(batch(1))[:40])))
    assert (log.log_start_offset, log.end_offset) == (0, 18)
    assert read_all(log) == data
    assert log.epochs.entries() == [(3, 10), (5, 16)]
    assert log.end_offset_for_epoch(3) == (3, 16)
    assert log.end_offset_for_epoch(4) == (3, 16)
    assert log.end_offset_for_epoch(5) == (5, 18)
    assert log.end_offset_for_epoch(6) == (-1, -1)
    assert log.read(12, 1 << 20, 18).first_offset == 15


def test_a_follower_refuses_what_cannot_follow(fs: MemoryFileSystem) -> None:
    log = open_log(fs)
    good = placed(batch(2), 0)
    log.append_as_follower(memoryview(bytearray(good)))
    with pytest.raises(StorageError):
        log.append_as_follower(memoryview(bytearray(placed(batch(2), 1))))
    with pytest.raises(CorruptRecord):
        log.append_as_follower(flipped(memoryview(bytearray(placed(batch(2), 2)))))
    with pytest.raises(CorruptRecord):
        log.append_as_follower(memoryview(bytearray(b"\xff" * 100)))
    assert read_all(log) == good


def test_a_follower_takes_what_the_leader_took(fs: MemoryFileSystem) -> None:
    """Limits and sequences were the leader's matter; its compaction may have left gaps."""
    log = open_log(fs, settings=config(max_message_bytes=10))
    pieces = [
        placed(batch(1, size=100), 0),
        placed(batch(2, producer_id=1, producer_epoch=0, base_sequence=7), 1),
        placed(batch(2, producer_id=1, producer_epoch=0, base_sequence=20), 5),
    ]
    log.append_as_follower(memoryview(bytearray(b"".join(pieces))))
    entry = log.producers.get(1)
    assert entry is not None and entry.last_sequence == 21


# --- flushing


def test_flush_every_so_many_messages() -> None:
    fs = FaultyFileSystem()
    log = open_log(fs, settings=config(flush_messages=3))
    synced = []
    for _ in range(6):
        fs.trace.clear()
        append(log, batch(1))
        synced.append(any(entry.startswith("sync ") for entry in fs.trace))
    assert synced == [False, False, True, False, False, True]


def test_flush_moves_the_recovery_point() -> None:
    fs = FaultyFileSystem()
    log = open_log(fs)
    append(log, batch(3))
    assert (log.recovery_point, log.unflushed_bytes) == (0, log.size)
    log.flush()
    assert (log.recovery_point, log.unflushed_bytes) == (3, 0)
    fs.trace.clear()
    log.flush()
    assert fs.trace == []
    log.flush(2)
    assert fs.trace == []


def test_flush_is_due_by_time_size_and_roll(
    fs: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(fs, settings=config(flush_ms=500))
    assert not log.flush_due(NOW)
    append(log, batch(1))
    assert not log.flush_due(NOW)
    assert not log.flush_due(NOW + 499)
    assert log.flush_due(NOW + 500)
    log.flush()
    assert not log.flush_due(NOW + 5000)

    log = open_log(fs, directory="/data/b-0")
    append(log, batch(1))
    assert not log.flush_due(NOW + DAY)
    log.roll(NOW)
    assert log.flush_due(NOW)
    log.flush()
    monkeypatch.setattr("storage.log.FLUSH_BYTES", 1000)
    append(log, batch(1, size=900))
    assert not log.flush_due(NOW)
    append(log, batch(1, size=900))
    assert log.flush_due(NOW)


def test_a_flush_job_runs_while_the_log_goes_on(tmp_path: Any) -> None:
    """In a thread, with appends, rolls and truncations meanwhile; then the power goes."""
    fs = RealFileSystem()
    directory = f"{tmp_path}/orders-0"
    settings = config(segment_bytes=3000, index_interval_bytes=100)
    log = open_log(fs, directory=directory, settings=settings)
    errors: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except OSError as error:
            errors.append(error)

    sequence = 0
    for round_ in range(30):
        thread = threading.Thread(target=run, args=(log.flush_job(),))
        thread.start()
        for _ in range(10):
            append(log, idempotent(sequence))
            sequence += 1
        if round_ % 5 == 4:
            log.truncate_to(log.end_offset - 7)
            sequence -= 7
        thread.join()
        assert log.recovery_point <= log.end_offset
    assert not errors
    again = open_log(fs, directory=directory, settings=settings, recovery_point=log.recovery_point)
    assert again.findings == ()
    assert read_all(again) == read_all(log)
    entry = again.producers.get(4)
    assert entry is not None and entry.next_sequence == sequence


def test_a_flush_that_comes_too_late_does_nothing(fs: MemoryFileSystem) -> None:
    log = open_log(fs)
    for _ in range(5):
        append(log, batch(1))
    job = log.flush_job()
    log.truncate_to(2)
    append(log, batch(1, size=77))
    job()
    assert log.recovery_point <= 2
    assert read_all(open_log(fs, recovery_point=log.recovery_point)) == read_all(log)


# --- failures


@pytest.mark.parametrize(
    "work",
    [
        lambda log: append(log, batch(1)),
        lambda log: log.roll(NOW),
        lambda log: log.flush(),
        lambda log: log.truncate_to(1),
        lambda log: log.truncate_fully_and_start_at(7),
        lambda log: log.delete_oldest(1, NOW),
        lambda log: log.close(True),
        lambda log: log.append_as_follower(memoryview(bytearray(placed(batch(1), 90)))),
    ],
)
def test_an_error_of_the_disk_takes_the_log_offline(work: Callable[[Log], object]) -> None:
    fs = FaultyFileSystem()
    told: list[BaseException] = []
    log = open_log(fs, settings=config(segment_bytes=300), on_failure=told.append)
    for _ in range(5):
        append(log, batch(1))
    log.advance_high_watermark(3)
    before = read_all(log)
    fs.fail_at(0, forever=True)
    with pytest.raises(LogDirOffline):
        work(log)
    assert len(told) == 1
    assert isinstance(told[0], OSError)
    with pytest.raises(LogDirOffline):
        append(log, batch(1))
    assert len(told) == 1
    reopened = open_log(fs.kill(), settings=log.config)
    assert read_all(reopened).startswith(before[: len(read_all(reopened))])


def test_the_directory_s_failure_reaches_its_other_logs(fs: MemoryFileSystem) -> None:
    told: list[BaseException] = []
    log = open_log(fs, on_failure=told.append)
    append(log, batch(1))
    log.stage(batch(1), 0, NOW)
    error = OSError(5, "the disk is gone")
    log.fail(error)
    log.fail(error)
    assert told == [error]
    assert log.next_offset == 1
    with pytest.raises(LogDirOffline):
        log.stage(batch(1), 0, NOW)
    assert len(read_records(log)) == 1
