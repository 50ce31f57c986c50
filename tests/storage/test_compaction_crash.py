"""A crash or an IO error at every file operation of a compaction loses nothing."""

import pytest

from protocol import batch as batches
from protocol.legacy import any_batches
from storage.errors import LogDirOffline
from storage.log import Log
from storage.log_dir import HIGH_WATERMARKS, RECOVERY_POINTS
from tests.kit.faulty_files import FaultyFileSystem
from tests.storage.compaction_kit import (
    KEY,
    NOW,
    all_bytes,
    append,
    compact,
    contents,
    facts,
    manager,
    put,
)

PAD = "x" * 60
LATER = NOW + 5000


def prepared() -> FaultyFileSystem:
    """A directory of a log on disk with something of everything: values that were replaced, a
    tombstone, an aborted and a committed transaction, a silent producer."""
    fs = FaultyFileSystem()
    logs = manager(fs)
    log = facts(logs)
    put(log, ("gone", "value"), ("kept", "value"))
    put(log, ("gone", None))
    put(log, ("idle", "1"), producer_id=3, producer_epoch=0, base_sequence=0)
    put(log, ("idle", "2"))
    for pid, committed in ((1, False), (2, True)):
        sent = {"producer_id": pid, "producer_epoch": 0, "base_sequence": 0}
        put(log, (f"t{pid}", PAD), transactional=True, **sent)
        marker = batches.build_end_txn_marker(
            producer_id=pid, producer_epoch=0, committed=committed, timestamp=NOW
        )
        append(log, marker)
    for n in range(14):
        put(log, (f"k{n % 3}", f"{n} {PAD}"))
    log.flush()
    logs.write_checkpoints(RECOVERY_POINTS)
    logs.write_checkpoints(HIGH_WATERMARKS)
    return fs.kill()


def check(log: Log, before: list[tuple[int, str | None, str | None]]) -> None:
    """What every reader may rely on, compacted or not."""
    left = contents(log)
    assert set(left) <= set(before)
    latest = {key: entry for entry in before if (key := entry[1]) != "t1"}
    missing = [entry for entry in latest.values() if entry not in left]
    assert missing == []
    assert (log.log_start_offset, log.end_offset) == (0, before[-1][0] + 1)
    lasts = [header.last_offset for _, header in any_batches(all_bytes(log))]
    for offset in range(log.end_offset):
        found = log.read(offset, 1, log.end_offset).bytes()
        following = next(last for last in lasts if last >= offset)
        assert next(any_batches(found))[1].last_offset == following
    # Data of the aborted transaction is gone, or a read_committed reader is told to skip it.
    if any(key == "t1" for _, key, _ in left):
        assert [pid for pid, _ in log.aborted_transactions(0, log.end_offset)] == [1]
    assert {entry.producer_id for entry in log.producers.entries()} == {1, 2, 3}
    idle = log.producers.get(3)
    assert idle is not None
    assert idle.last_sequence == 0


def operations() -> int:
    fs = prepared()
    logs = manager(fs)
    before = fs.operations
    assert compact(logs) > 0
    return fs.operations - before


OPERATIONS = operations()


def interrupted(at: int, fs: FaultyFileSystem) -> None:
    """Opens the log and compacts it; the operation `at` and all that follow fail."""
    logs = manager(fs)
    log = facts(logs)
    log.advance_high_watermark(log.end_offset)
    first = fs.operations + at
    fs.fail_at(at, forever=True)
    compact(logs)
    if logs.offline_dirs:
        with pytest.raises(LogDirOffline):
            logs.get(*KEY)
    else:
        # Only the removal of an unfinished file may fail without harm: the next start removes it.
        assert all(line.startswith("remove ") for line in fs.trace[first:])


def test_there_is_something_to_interrupt() -> None:
    assert OPERATIONS > 40
    fs = prepared()
    logs = manager(fs)
    before = contents(facts(logs))
    compact(logs)
    check(facts(logs), before)
    assert len(contents(facts(logs))) < len(before)


@pytest.mark.parametrize("at", range(OPERATIONS))
def test_killed_at_every_operation(at: int) -> None:
    fs = prepared()
    before = contents(facts(manager(fs.kill())))
    fs = prepared()
    interrupted(at, fs)
    after = fs.kill()
    logs = manager(after)
    check(facts(logs), before)
    compact(logs)
    check(facts(logs), before)
    final = contents(facts(logs))
    assert len(final) < len(before)
    again = manager(after.kill())
    assert contents(facts(again)) == final
    names = again.fs.listdir("/data/facts-0")
    assert not [name for name in names if name.endswith((".cleaned", ".swap", ".deleted"))]


@pytest.mark.parametrize("at", range(OPERATIONS))
def test_power_lost_at_every_operation(at: int) -> None:
    before = contents(facts(manager(prepared())))
    for seed in range(2):
        fs = prepared()
        interrupted(at, fs)
        state = [seed * 7919 + at]

        def choose(count: int, state: list[int] = state) -> int:
            state[0] = (state[0] * 1103515245 + 12345) & 0x7FFFFFFF
            return (state[0] >> 8) % count

        logs = manager(fs.crash(choose))
        check(facts(logs), before)
        compact(logs)
        check(facts(logs), before)


@pytest.mark.parametrize("at", range(0, OPERATIONS, 3))
def test_one_error_takes_the_directory_offline_and_a_restart_goes_on(at: int) -> None:
    fs = prepared()
    logs = manager(fs)
    log = facts(logs)
    before = contents(log)
    fs.fail_at(at)
    compact(logs)
    if not logs.offline_dirs:
        check(log, before)
    logs = manager(fs.kill())
    check(facts(logs), before)
    compact(logs, LATER)
    every = contents(facts(logs))
    assert len(every) < len(before)
