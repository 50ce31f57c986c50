"""What opening a log finds, one name each, and that everything beside the log can be made anew."""

import logging
from collections.abc import Callable

import pytest

from protocol.batch import parse_header
from storage import checkpoint
from storage.config import LogConfig
from storage.filesystem import MemoryFile, MemoryFileSystem
from storage.findings import Kind
from storage.log import Log
from tests.storage.log_kit import (
    DIRECTORY,
    NOW,
    append,
    batch,
    config,
    files,
    marker,
    open_log,
    read_all,
    segment_bases,
)

SMALL = config(segment_bytes=600, index_interval_bytes=100)


def name(offset: int, ending: str) -> str:
    return f"{offset:020d}{ending}"


def path(offset: int, ending: str) -> str:
    return f"{DIRECTORY}/{name(offset, ending)}"


def fill(log: Log, rounds: int = 8) -> None:
    """Several segments with two epochs, a producer, one aborted and one open transaction."""
    for index in range(rounds):
        epoch = 2 + index // 4
        append(log, batch(2, size=20, timestamp=NOW + index * 10), epoch)
        sequence = {"producer_id": 7, "producer_epoch": 0, "base_sequence": index}
        append(log, batch(1, timestamp=NOW + index * 10 - 500, **sequence), epoch)
        fields = {"producer_id": 8, "producer_epoch": 1, "base_sequence": index}
        append(log, batch(1, transactional=True, **fields), epoch)
        if index % 3 == 1:
            log.stage(
                marker(8, committed=index % 2 == 0, epoch=1), epoch, NOW, origin="coordinator"
            )
            log.write_staged()
        log.advance_high_watermark(log.end_offset)


@pytest.fixture
def filled(fs: MemoryFileSystem) -> Log:
    """A log with at least four segments, not closed."""
    log = open_log(fs, settings=SMALL)
    fill(log)
    assert len(log.segments) >= 4
    return log


def kinds(log: Log) -> list[Kind]:
    return [finding.kind for finding in log.findings]


def reopen(fs: MemoryFileSystem, settings: LogConfig = SMALL, **more: object) -> Log:
    log = open_log(fs, settings=settings, **more)  # type: ignore[arg-type]
    log.advance_high_watermark(log.end_offset)
    return log


def state(log: Log) -> tuple[object, ...]:
    """All that a log tells."""
    return (
        log.log_start_offset,
        log.end_offset,
        read_all(log),
        log.epochs.entries(),
        sorted(
            (e.producer_id, e.epoch, e.last_sequence, e.last_offset, e.txn_first_offset)
            for e in log.producers.entries()
        ),
        log.last_stable_offset,
        log.aborted_transactions(log.log_start_offset, log.end_offset),
        log.max_timestamp(),
        [log.offset_for_timestamp(NOW + shift) for shift in range(-600, 100, 50)],
        [segment.base_offset for segment in log.segments],
    )


# --- clean


def test_a_clean_end_finds_nothing_and_reads_little(filled: Log, fs: MemoryFileSystem) -> None:
    wanted = state(filled)
    filled.close(True)
    log = reopen(fs, clean=True, recovery_point=filled.recovery_point)
    assert kinds(log) == []
    assert state(log) == wanted
    assert log.recovery_point == log.end_offset


def test_an_unclean_end_without_damage_finds_no_damage(filled: Log, fs: MemoryFileSystem) -> None:
    filled.flush()
    wanted = state(filled)
    log = reopen(fs, recovery_point=filled.recovery_point)
    assert kinds(log) == []
    assert state(log) == wanted


def test_an_unflushed_log_is_read_again(filled: Log, fs: MemoryFileSystem) -> None:
    wanted = state(filled)
    log = reopen(fs)
    assert set(kinds(log)) <= {Kind.MISSING_SNAPSHOT, Kind.MISSING_INDEX, Kind.MISSING_EPOCHS}
    assert state(log) == wanted


def test_an_empty_directory_stays_empty(fs: MemoryFileSystem) -> None:
    log = open_log(fs)
    assert (log.log_start_offset, log.end_offset, kinds(log)) == (0, 0, [])
    assert files(fs) == {}
    log.close(True)
    assert files(fs) == {}


def test_an_empty_log_that_begins_later(fs: MemoryFileSystem) -> None:
    log = open_log(fs)
    log.truncate_fully_and_start_at(40)
    for clean in (False, True):
        log.close(True)
        log = open_log(fs, clean=clean)
        assert (log.log_start_offset, log.end_offset) == (40, 40)
        assert kinds(log) == []


# --- the log itself is damaged


def test_torn_tail(filled: Log, fs: MemoryFileSystem, caplog: pytest.LogCaptureFixture) -> None:
    base = filled.segments[-1].base_offset
    before = read_all(filled)
    fs.open(path(base, ".log")).append([bytes(batch(5))[:70]])
    with caplog.at_level(logging.WARNING, "storage"):
        log = reopen(fs)
    assert Kind.TORN_TAIL in kinds(log)
    assert any("torn tail" in record.getMessage() for record in caplog.records)
    assert read_all(log) == before
    assert fs.read_bytes(path(base, ".log")) == before[-log.segments[-1].size :]


def test_torn_tail_despite_the_clean_marker(filled: Log, fs: MemoryFileSystem) -> None:
    before = state(filled)
    filled.close(True)
    base = filled.segments[-1].base_offset
    fs.open(path(base, ".log")).append([bytes(100)])
    log = reopen(fs, clean=True, recovery_point=filled.recovery_point)
    assert Kind.TORN_TAIL in kinds(log)
    assert state(log) == before


def test_bad_crc_cuts_there_and_drops_what_follows(filled: Log, fs: MemoryFileSystem) -> None:
    second = filled.segments[1]
    data = bytearray(fs.read_bytes(path(second.base_offset, ".log")))
    header = parse_header(data, parse_header(data).size)
    data[parse_header(data).size + 64] ^= 1
    fs.open(path(second.base_offset, ".log")).pwrite(data, 0)
    log = reopen(fs)
    assert Kind.BAD_CRC in kinds(log) and Kind.CUT_SEGMENT in kinds(log)
    assert log.end_offset == header.base_offset
    assert segment_bases(fs) == [0, second.base_offset]
    assert all(entry[1] < log.end_offset for entry in log.epochs.entries())
    again = reopen(fs, recovery_point=log.recovery_point)
    assert Kind.BAD_CRC not in kinds(again)
    assert state(again) == state(log)


def test_a_header_that_is_none(filled: Log, fs: MemoryFileSystem) -> None:
    last = filled.segments[-1].base_offset
    before = read_all(filled)
    fs.open(path(last, ".log")).append([b"\xff" * 200])
    log = reopen(fs)
    assert Kind.BAD_BATCH in kinds(log)
    assert read_all(log) == before


def test_offsets_that_go_back(filled: Log, fs: MemoryFileSystem) -> None:
    """A batch that a crash put there twice."""
    last = filled.segments[-1].base_offset
    before = read_all(filled)
    whole = fs.read_bytes(path(last, ".log"))
    fs.open(path(last, ".log")).append([whole[: parse_header(whole).size]])
    log = reopen(fs)
    assert Kind.BAD_BATCH in kinds(log)
    assert read_all(log) == before


def test_nothing_below_the_recovery_point_is_read_again(fs: MemoryFileSystem) -> None:
    """That bounds the time of a restart; bytes down there are believed as they were synced."""
    log = open_log(fs, settings=SMALL)
    fill(log)
    log.flush()
    flushed = log.end_offset
    append(log, batch(3))
    first = bytearray(fs.read_bytes(path(0, ".log")))
    first[-1] ^= 1
    fs.open(path(0, ".log")).pwrite(first, 0)
    again = reopen(fs, recovery_point=flushed)
    assert again.end_offset == flushed + 3
    assert Kind.BAD_CRC not in kinds(again)
    thorough = reopen(fs, recovery_point=0)
    assert Kind.BAD_CRC in kinds(thorough)
    assert thorough.end_offset < flushed


def test_recovery_reads_no_more_than_was_written_after_the_flush() -> None:
    class Counting(MemoryFileSystem):
        read = 0

        def _file(self, path: str, data: object) -> MemoryFile:
            fs = self

            class File(MemoryFile):
                __slots__ = ()

                def pread(self, count: int, position: int) -> bytes:
                    found = super().pread(count, position)
                    fs.read += len(found)
                    return found

            return File(data)  # type: ignore[arg-type]

    fs = Counting()
    log = open_log(fs)
    for _ in range(2000):
        append(log, batch(1, size=500))
    log.flush()
    for _ in range(20):
        append(log, batch(1, size=500))
    fs.read = 0
    again = open_log(fs, recovery_point=log.recovery_point)
    assert again.end_offset == 2020
    assert fs.read < 100_000


def test_a_log_shorter_than_its_recovery_point(filled: Log, fs: MemoryFileSystem) -> None:
    """Somebody restored an older copy of a file: what is there counts."""
    filled.flush()
    point = filled.recovery_point
    last = filled.segments[-1]
    assert last.size
    fs.open(path(last.base_offset, ".log")).truncate(0)
    log = reopen(fs, recovery_point=point)
    assert log.end_offset == last.base_offset
    assert append(log, batch(1)) == last.base_offset
    assert len(read_all(log)) == log.size


def test_the_log_start_beyond_the_end_empties_it(filled: Log, fs: MemoryFileSystem) -> None:
    beyond = filled.end_offset + 10
    log = open_log(fs, settings=SMALL, log_start_offset=beyond)
    assert Kind.START_BEYOND_END in kinds(log)
    assert (log.log_start_offset, log.end_offset, log.size) == (beyond, beyond, 0)
    assert segment_bases(fs) == [beyond]
    assert append(log, batch(1)) == beyond


# --- what lies beside the log is damaged, missing or too much


def damaged(filled: Log, fs: MemoryFileSystem, damage: Callable[[], None], clean: bool) -> Log:
    """Ends the log, damages, opens again: all must be as before."""
    wanted = state(filled)
    if clean:
        filled.close(True)
    else:
        filled.flush()
    damage()
    log = reopen(fs, clean=clean, recovery_point=filled.recovery_point)
    assert state(log) == wanted
    return log


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("ending", [".index", ".timeindex"])
@pytest.mark.parametrize("which", [0, 1, -1])
def test_missing_index(
    filled: Log, fs: MemoryFileSystem, clean: bool, ending: str, which: int
) -> None:
    base = filled.segments[which].base_offset
    filled.flush()
    log = damaged(filled, fs, lambda: fs.remove(path(base, ending)), clean)
    assert Kind.MISSING_INDEX in kinds(log)
    log.close(True)
    assert name(base, ending) in files(fs)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("ending", [".index", ".timeindex"])
def test_index_of_a_wrong_size(filled: Log, fs: MemoryFileSystem, clean: bool, ending: str) -> None:
    base = filled.segments[1].base_offset
    log = damaged(filled, fs, lambda: fs.open(path(base, ending)).append([b"xyz"]) and None, clean)
    assert Kind.CORRUPT_INDEX in kinds(log)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("ending", [".index", ".timeindex"])
@pytest.mark.parametrize("which", [1, -2])
@pytest.mark.parametrize("junk", [b"\0", b"\xff", b"\x01"])
def test_index_full_of_junk(
    filled: Log, fs: MemoryFileSystem, clean: bool, ending: str, which: int, junk: bytes
) -> None:
    """Wherever it shows, at once or at the first use, reads are right."""
    base = filled.segments[which].base_offset
    filled.flush()
    size = len(fs.read_bytes(path(base, ending)))
    assert size
    damaged(filled, fs, lambda: fs.open(path(base, ending)).pwrite(junk * size, 0), clean)


def test_zeros_after_the_entries_as_kafka_leaves_them(filled: Log, fs: MemoryFileSystem) -> None:
    """Apache Kafka reserves index files while it runs; killed, it leaves them so."""
    base = filled.segments[-1].base_offset

    def damage() -> None:
        for ending, entry in ((".index", 8), (".timeindex", 12)):
            fs.open(path(base, ending)).append([bytes(entry * 100)])

    log = damaged(filled, fs, damage, clean=False)
    append(log, batch(1))
    log.close(True)
    for ending, entry in ((".index", 8), (".timeindex", 12)):
        assert fs.read_bytes(path(base, ending))[-entry:] != bytes(entry)


@pytest.mark.parametrize("ending", [".index", ".timeindex", ".txnindex"])
@pytest.mark.parametrize("clean", [True, False])
def test_orphan_index(filled: Log, fs: MemoryFileSystem, ending: str, clean: bool) -> None:
    def damage() -> None:
        fs.open(path(999, ending), create=True).append([bytes(24)])

    log = damaged(filled, fs, damage, clean)
    assert Kind.ORPHAN_INDEX in kinds(log)
    assert name(999, ending) not in files(fs)


def test_lost_transaction_indexes(filled: Log, fs: MemoryFileSystem) -> None:
    wanted = state(filled)
    filled.flush()
    gone = [file for file in files(fs) if file.endswith(".txnindex")]
    assert gone
    for file in [*gone, *(f for f in files(fs) if f.endswith(".snapshot"))]:
        fs.remove(f"{DIRECTORY}/{file}")
    assert state(reopen(fs)) == wanted


@pytest.mark.parametrize("clean", [True, False])
def test_missing_snapshot(filled: Log, fs: MemoryFileSystem, clean: bool) -> None:
    def damage() -> None:
        for file in files(fs):
            if file.endswith(".snapshot"):
                fs.remove(f"{DIRECTORY}/{file}")

    log = damaged(filled, fs, damage, clean)
    assert Kind.MISSING_SNAPSHOT in kinds(log)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("content", [b"", b"\0\1", b"\xff" * 60, None])
def test_corrupt_snapshot(
    filled: Log, fs: MemoryFileSystem, clean: bool, content: bytes | None
) -> None:
    def damage() -> None:
        newest = max(file for file in files(fs) if file.endswith(".snapshot"))
        data = bytearray(fs.read_bytes(f"{DIRECTORY}/{newest}"))
        data[-1] ^= 1
        fs.write_atomic(f"{DIRECTORY}/{newest}", bytes(data) if content is None else content)

    log = damaged(filled, fs, damage, clean)
    assert Kind.CORRUPT_SNAPSHOT in kinds(log)


def test_snapshots_beyond_the_end(filled: Log, fs: MemoryFileSystem) -> None:
    """They tell of batches that are gone."""
    filled.flush()
    last = filled.segments[-1]
    fs.open(path(last.base_offset, ".log")).truncate(0)
    log = reopen(fs, recovery_point=0)
    assert log.end_offset == last.base_offset
    assert Kind.STRAY_SNAPSHOT in kinds(log)
    snapshots = [int(file[:20]) for file in files(fs) if file.endswith(".snapshot")]
    assert max(snapshots, default=0) <= log.end_offset
    known = {entry.producer_id: entry.last_offset for entry in log.producers.entries()}
    assert max(known.values()) < log.end_offset


@pytest.mark.parametrize("clean", [True, False])
def test_missing_leader_epochs(filled: Log, fs: MemoryFileSystem, clean: bool) -> None:
    log = damaged(filled, fs, lambda: fs.remove(f"{DIRECTORY}/leader-epoch-checkpoint"), clean)
    assert Kind.MISSING_EPOCHS in kinds(log)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("content", [b"1\n0\n", b"0\n2\n1 0\n", b"0\n1\nx y\n", b"\xff\xfe"])
def test_malformed_leader_epochs(
    filled: Log, fs: MemoryFileSystem, clean: bool, content: bytes
) -> None:
    where = f"{DIRECTORY}/leader-epoch-checkpoint"
    log = damaged(filled, fs, lambda: fs.write_atomic(where, content), clean)
    assert Kind.BAD_EPOCHS in kinds(log)
    log.close(True)
    assert checkpoint.read_epochs(fs, where) == log.epochs.entries()


@pytest.mark.parametrize("clean", [True, False])
def test_leftovers_go(filled: Log, fs: MemoryFileSystem, clean: bool) -> None:
    def damage() -> None:
        for file in (
            name(0, ".log.deleted"),
            name(3, ".index.deleted"),
            name(5, ".snapshot.deleted"),
            name(0, ".log.cleaned"),
            name(0, ".timeindex.cleaned"),
        ):
            fs.open(f"{DIRECTORY}/{file}", create=True).append([b"whatever"])

    log = damaged(filled, fs, damage, clean)
    assert Kind.LEFTOVER in kinds(log)
    assert not [file for file in files(fs) if file.endswith((".deleted", ".cleaned"))]


def test_files_of_nobody_stay(filled: Log, fs: MemoryFileSystem) -> None:
    filled.close(True)
    for file in ("README", "notes.log.txt"):
        fs.open(f"{DIRECTORY}/{file}", create=True).append([b"mine"])
    reopen(fs, clean=True, recovery_point=filled.recovery_point)
    assert {"README", "notes.log.txt"} <= set(files(fs))


def as_swap(fs: MemoryFileSystem, first: int) -> bytes:
    """The first segment's files, as a compaction that kept all would have put them in place."""
    whole = fs.read_bytes(path(first, ".log"))
    for ending in (".log", ".index", ".timeindex", ".txnindex"):
        if fs.exists(path(first, ending)):
            data = fs.read_bytes(path(first, ending))
            fs.open(path(first, ending) + ".swap", create=True).append([data])
    return whole


def test_a_swap_that_began_is_finished(filled: Log, fs: MemoryFileSystem) -> None:
    wanted = state(filled)
    filled.flush()
    first = filled.segments[0].base_offset
    as_swap(fs, first)
    for ending in (".log", ".index"):
        fs.remove(path(first, ending))  # the old ones went already
    log = reopen(fs, recovery_point=filled.recovery_point)
    assert Kind.FINISHED_SWAP in kinds(log)
    assert state(log) == wanted
    assert not [file for file in files(fs) if file.endswith(".swap")]


def test_a_swap_replaces_all_segments_it_covers(filled: Log, fs: MemoryFileSystem) -> None:
    """Two segments became one: after the crash the second must not come back."""
    wanted = read_all(filled)
    filled.flush()
    first, second = filled.segments[:2]
    data = fs.read_bytes(path(first.base_offset, ".log"))
    data += fs.read_bytes(path(second.base_offset, ".log"))
    fs.open(path(first.base_offset, ".log.swap"), create=True).append([data])
    log = reopen(fs, recovery_point=filled.recovery_point)
    assert read_all(log) == wanted
    assert [segment.base_offset for segment in log.segments] == [
        segment.base_offset for segment in filled.segments if segment is not second
    ]


def test_a_swap_beside_unfinished_cleaning_is_dropped(filled: Log, fs: MemoryFileSystem) -> None:
    """Kafka's rule: with a `.cleaned` file at or below its offset a `.swap` was not complete."""
    wanted = state(filled)
    filled.flush()
    second = filled.segments[1].base_offset
    as_swap(fs, second)
    data = fs.read_bytes(path(second, ".log.swap"))
    fs.open(path(second, ".log.swap")).truncate(len(data) // 2)
    fs.open(path(second, ".log.cleaned"), create=True).append([b"half"])
    log = reopen(fs, recovery_point=filled.recovery_point)
    assert state(log) == wanted
    assert not [file for file in files(fs) if file.endswith((".swap", ".cleaned"))]


@pytest.mark.parametrize("content", [b"", b"version: 0\ntopic_id: x", b"version: 9\n", b"\xff"])
def test_bad_partition_metadata(fs: MemoryFileSystem, content: bytes) -> None:
    topic = bytes(range(16))
    log = open_log(fs, topic_id=topic)
    append(log, batch(1))
    log.close(True)
    fs.write_atomic(f"{DIRECTORY}/partition.metadata", content)
    log = open_log(fs, clean=True, recovery_point=1, topic_id=topic)
    assert Kind.BAD_METADATA in kinds(log)
    assert log.topic_id == topic
    log = open_log(fs)
    assert log.topic_id == topic
    assert Kind.BAD_METADATA not in kinds(log)


# --- everything at once


@pytest.mark.parametrize("clean", [True, False])
def test_all_but_the_log_is_made_anew_equal(filled: Log, fs: MemoryFileSystem, clean: bool) -> None:
    """Delete every index, snapshot and checkpoint: the new ones hold the same bytes."""
    wanted = state(filled)
    filled.close(True)
    before = files(fs)
    for file in before:
        if not file.endswith(".log"):
            fs.remove(f"{DIRECTORY}/{file}")
    log = reopen(fs, clean=clean, recovery_point=filled.recovery_point if clean else 0)
    assert state(log) == wanted
    log.close(True)
    after = files(fs)
    for file, content in before.items():
        if not file.endswith(".snapshot"):
            assert after[file] == content, file
    newest = max(file for file in before if file.endswith(".snapshot"))
    assert len(after[newest]) == len(before[newest])


def test_opening_twice_changes_nothing(filled: Log, fs: MemoryFileSystem) -> None:
    filled.close(True)
    before = files(fs)
    for clean in (True, False, True):
        log = reopen(fs, clean=clean, recovery_point=filled.recovery_point)
        assert kinds(log) == []
        log.close(True)
        assert files(fs) == before
