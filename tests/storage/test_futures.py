"""A replica moves between log directories: copying, the swap, an end at every file operation."""

from collections.abc import Callable

import pytest

from protocol import batch as batches
from storage.errors import LogDirOffline
from storage.filesystem import FileSystem
from storage.futures import MOVED, align, copy, future_name, parse_future
from storage.log import Log
from storage.log_dir import HIGH_WATERMARKS, LOG_STARTS, RECOVERY_POINTS
from storage.manager import LogManager
from storage.metafiles import InconsistentLogDir
from tests.kit.faulty_files import FaultyFileSystem
from tests.storage.compaction_kit import KEY, NOW, all_bytes, append, compact, put, settings

TOPIC_ID = b"0123456789abcdef"
DIRS = ["/a", "/b"]
PLAIN = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


def manager(fs: FileSystem, policy: str = "delete") -> LogManager:
    """Of two directories, loaded; one that was there before ended without a word."""
    fs.locked.clear()
    config = settings(cleanup_policy=policy, retention_ms=-1, retention_bytes=-1)
    made = LogManager(fs, DIRS, config, broker_id=1, cluster_id="c")
    made.load({}, NOW)
    return made


def log_of(logs: LogManager) -> Log:
    return logs.get_or_create(*KEY, None, TOPIC_ID, NOW)


def prepared(policy: str = "delete") -> FaultyFileSystem:
    """A log of several segments in /a: a transaction, epochs, a log start within a batch."""
    fs = FaultyFileSystem()
    logs = manager(fs, policy)
    log = log_of(logs)
    assert logs.home_of(KEY).path == "/a"
    for n in range(8):
        put(log, (f"k{n % 3}", f"{n} {'x' * 60}"), (f"l{n}", "v"), epoch=n // 3)
    sent = {"producer_id": 7, "producer_epoch": 0, "base_sequence": 0}
    put(log, ("t", "aborted"), transactional=True, epoch=3, **sent)
    marker = batches.build_end_txn_marker(
        producer_id=7, producer_epoch=0, committed=False, timestamp=NOW
    )
    append(log, marker, epoch=3)
    put(log, ("last", "one"), epoch=3)
    log.advance_log_start_offset(5)
    log.flush()
    logs.write_checkpoints(RECOVERY_POINTS)
    logs.write_checkpoints(HIGH_WATERMARKS)
    logs.write_checkpoints(LOG_STARTS)
    return fs.kill()


def facts(log: Log) -> tuple[object, ...]:
    """What readers and other replicas see."""
    return (
        all_bytes(log),
        log.log_start_offset,
        log.end_offset,
        log.high_watermark,
        [e for e in log.epochs.entries() if e[1] < log.end_offset],
        log.aborted_transactions(log.log_start_offset, log.end_offset),
        [(p.producer_id, p.last_sequence) for p in log.producers.entries()],
        log.topic_id,
    )


def copied(logs: LogManager) -> None:
    """As the broker does it, in small pieces."""
    current, future = logs.logs[KEY], logs.futures.logs[KEY]
    align(current, future, NOW)
    while copy(current, future, 300, NOW):
        pass


def moved(logs: LogManager, to: str) -> Log:
    """From the beginning or wherever it was left, to the end."""
    log = log_of(logs)
    if logs.home_of(KEY).path != to:
        if KEY not in logs.futures.logs:
            logs.futures.create(KEY, to, NOW)
        copied(logs)
        log = logs.futures.swap(KEY, NOW)
    for job in logs.delete_jobs(NOW + 60_000):
        job()
    return log


def places(logs: LogManager) -> list[str]:
    """Everything that is named after the partition."""
    return [f"{path}/{name}" for path in DIRS for name in logs.fs.listdir(path) if KEY[0] in name]


def test_names() -> None:
    unique = "0123456789abcdef" * 2
    assert future_name(("a-b", 12), unique) == f"a-b-12.{unique}-future"
    assert parse_future(f"a-b-12.{unique}-future") == ("a-b", 12)
    for other in (
        "a-1-future",
        f"a.{unique}-future",
        f"a-1.{unique}-delete",
        f"a-1.{unique[1:]}-future",
    ):
        assert parse_future(other) is None


def test_a_replica_moves_and_stays_what_it_was() -> None:
    logs = manager(prepared())
    before = facts(log_of(logs))
    log = moved(logs, "/b")
    assert logs.get(*KEY) is log and logs.home_of(KEY).path == "/b"
    assert facts(log) == before
    assert places(logs) == ["/b/facts-0"] and MOVED not in logs.fs.listdir("/b/facts-0")
    assert logs.dir_sizes()[0].partitions == []
    # It is a log like any other, also after a restart, clean or not, and on the way back.
    put(log, ("more", "of it"), epoch=4)
    logs.write_checkpoints(HIGH_WATERMARKS)
    before = facts(log)
    assert isinstance(logs.fs, FaultyFileSystem)
    assert facts(log_of(manager(logs.fs.kill()))) == before
    again = manager(logs.fs.kill())
    again.close(NOW)
    again = manager(again.fs)
    assert facts(log_of(again)) == before
    assert facts(moved(again, "/a")) == before
    assert places(again) == ["/a/facts-0"]


def test_what_was_being_verified_is_so_afterwards_and_the_old_log_is_harmless() -> None:
    logs = manager(prepared())
    old = log_of(logs)
    begun = old.producers.begin_verification(9, 0, 0, NOW, from_zero=False)
    log = moved(logs, "/b")
    assert log.producers.is_verified(9, begun)
    with pytest.raises((LogDirOffline, OSError)):
        old.read(old.log_start_offset, 100, old.end_offset).bytes()
    assert not logs.offline_dirs


def test_the_future_replica_is_shown_and_survives_a_restart() -> None:
    fs = prepared()
    logs = manager(fs)
    future = logs.futures.create(KEY, "/b", NOW)
    align(logs.logs[KEY], future, NOW)
    copy(logs.logs[KEY], future, 300, NOW)
    end = future.end_offset
    assert 0 < end < logs.logs[KEY].end_offset
    assert logs.dir_sizes()[1].partitions == [(*KEY, future.size, True)]
    logs.close(NOW)
    again = manager(fs)
    assert again.futures.logs[KEY].end_offset == end
    before = facts(log_of(again))
    assert facts(moved(again, "/b")) == before


def test_it_is_given_up_and_goes_with_the_partition() -> None:
    logs = manager(prepared())
    logs.futures.create(KEY, "/b", NOW)
    logs.futures.drop(KEY, NOW)
    logs.futures.drop(KEY, NOW)
    assert KEY not in logs.futures.logs and logs.directory("/b").logs == 0
    logs.futures.create(KEY, "/b", NOW)
    logs.delete(*KEY, NOW)
    assert all(place.endswith("-delete") for place in places(logs))
    for job in logs.delete_jobs(NOW + 60_000):
        job()
    assert places(logs) == []
    assert [logs.directory(path).logs for path in DIRS] == [0, 0]


@pytest.mark.parametrize("cut", [0, 7, 14, 17, 18])
def test_the_present_replica_is_truncated_meanwhile(cut: int) -> None:
    logs = manager(prepared())
    log = log_of(logs)
    future = logs.futures.create(KEY, "/b", NOW)
    copied(logs)
    assert future.end_offset == log.end_offset
    log.truncate_to(cut)
    for n in range(6):
        put(log, ("other", f"{n}"), epoch=9)
    copied(logs)
    before = facts(log)
    assert facts(logs.futures.swap(KEY, NOW)) == before


def test_the_present_replica_starts_over_meanwhile() -> None:
    for start in (3, 100):
        logs = manager(prepared())
        log = log_of(logs)
        logs.futures.create(KEY, "/b", NOW)
        copied(logs)
        log.truncate_fully_and_start_at(start, NOW)
        put(log, ("new", "beginning"), epoch=9)
        copied(logs)
        before = facts(log)
        assert facts(logs.futures.swap(KEY, NOW)) == before


def test_a_log_on_its_way_is_not_compacted() -> None:
    logs = manager(prepared("compact"), "compact")
    log = log_of(logs)
    logs.futures.create(KEY, "/b", NOW)
    size = log.size
    assert compact(logs) == 0 and log.size == size
    copied(logs)
    logs.futures.swap(KEY, NOW)
    assert compact(logs) > 0


def test_two_directories_of_one_name_that_nobody_moved() -> None:
    fs = prepared()
    fs.mkdir("/b/facts-0")
    with pytest.raises(InconsistentLogDir):
        manager(fs)


def test_where_a_replica_shall_be_made() -> None:
    fs = FaultyFileSystem()
    logs = manager(fs)
    logs.futures.prefer(("t", 0), "/b")
    logs.get_or_create("t", 0, None, None, NOW)
    assert logs.home_of(("t", 0)).path == "/b"
    logs.get_or_create("t", 1, None, None, NOW)
    assert logs.home_of(("t", 1)).path == "/a"


# --- ends and errors at every operation -----------------------------------------------------------


def course(logs: LogManager) -> None:
    moved(logs, "/b")
    logs.write_checkpoints(RECOVERY_POINTS)
    logs.write_checkpoints(HIGH_WATERMARKS)


def operations(run: Callable[[LogManager], None]) -> int:
    fs = prepared()
    logs = manager(fs)
    before = fs.operations
    run(logs)
    return fs.operations - before


OPERATIONS = operations(course)


def test_there_is_something_to_interrupt() -> None:
    assert OPERATIONS > 40


@pytest.mark.parametrize("at", range(OPERATIONS))
def test_killed_at_every_operation(at: int) -> None:
    fs = prepared()
    before = facts(log_of(manager(fs.kill())))
    fs = prepared()
    logs = manager(fs)
    fs.fail_at(at, forever=True)
    try:
        course(logs)
    except LogDirOffline:
        pass
    logs = manager(fs.kill())
    assert facts(log_of(logs)) == before
    assert facts(moved(logs, "/b")) == before
    assert places(logs) == ["/b/facts-0"]
    assert isinstance(logs.fs, FaultyFileSystem)
    assert facts(log_of(manager(logs.fs.kill()))) == before


@pytest.mark.parametrize("at", range(0, OPERATIONS, 2))
def test_one_error_takes_a_directory_offline_and_nothing_is_lost(at: int) -> None:
    """What is written after the error, where the log is still there, is there after a restart."""
    fs = prepared()
    logs = manager(fs)
    fs.fail_at(at)
    try:
        course(logs)
    except LogDirOffline:
        pass
    try:
        log = logs.get(*KEY)
    except LogDirOffline:
        log = None
    if log is not None:
        put(log, ("after", "the error"), epoch=5)
    logs = manager(fs.kill())
    after = log_of(logs)
    assert after.end_offset == (19 if log is None else 20)
    before = facts(after)
    assert facts(moved(logs, "/b")) == before
    assert facts(moved(logs, "/a")) == before
    assert places(logs) == ["/a/facts-0"]
