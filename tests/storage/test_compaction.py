"""Compaction of whole logs: what is left, that every offset stays readable, whatever happens."""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocol import batch as batches
from protocol.compression import GZIP
from protocol.legacy import any_batches
from storage.cleaner import SyncJob
from storage.filesystem import MemoryFileSystem
from storage.log import Log
from storage.manager import LogManager
from tests.kit.strategies import profile
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
    settings,
)

PAD = "x" * 60


def fill(log: Log, count: int, keys: int = 4, start: int = 0, now_ms: int = NOW) -> None:
    """`count` batches of one record each."""
    for n in range(start, start + count):
        put(log, (f"k{n % keys}", f"{n} {PAD}"), now_ms=now_ms)


def keys_below(log: Log, offset: int) -> list[str | None]:
    return [key for at, key, _ in contents(log) if at < offset]


def every_offset_reads(log: Log) -> None:
    """Reading at any offset gives the first batch that ends at or after it."""
    data = all_bytes(log)
    lasts = [header.last_offset for _, header in any_batches(data)]
    for offset in range(log.log_start_offset, log.end_offset):
        found = log.read(offset, 1, log.end_offset).bytes()
        following = next(last for last in lasts if last >= offset)
        assert next(any_batches(found))[1].last_offset == following


@pytest.fixture
def logs() -> Iterator[LogManager]:
    made = manager(MemoryFileSystem())
    yield made
    assert not made.offline_dirs


def test_the_latest_record_of_each_key_is_left_of_what_may_be_compacted(logs: LogManager) -> None:
    log = facts(logs)
    fill(log, 40)
    active = log.segments[-1].base_offset
    before = contents(log)
    assert compact(logs) > 0
    latest = {key: offset for offset, key, _ in before if offset < active}
    expected = [entry for entry in before if entry[0] >= active or latest[entry[1]] == entry[0]]
    assert contents(log) == expected
    assert len(expected) < len(before) / 2
    assert log.log_start_offset == 0
    assert logs.cleaner_offset(KEY) == active
    every_offset_reads(log)


def test_a_second_round_has_nothing_to_do_and_new_records_bring_one(logs: LogManager) -> None:
    log = facts(logs)
    fill(log, 40)
    compact(logs)
    assert compact(logs) == 0
    fill(log, 20, start=40)
    segments = len(log.segments)
    assert compact(logs) > 0
    assert len(log.segments) < segments
    keys = keys_below(log, log.segments[-1].base_offset)
    assert sorted(str(key) for key in keys) == ["k0", "k1", "k2", "k3"]


def test_a_log_below_the_dirty_ratio_waits(logs: LogManager) -> None:
    log = facts(logs)
    log.config = settings(min_cleanable_dirty_ratio="0.9")
    fill(log, 40)
    compact(logs)
    fill(log, 8, start=40)
    before = contents(log)
    assert compact(logs) == 0
    assert contents(log) == before


def test_topics_without_compaction_are_left_alone(logs: LogManager) -> None:
    log = facts(logs)
    log.config = settings(cleanup_policy="delete")
    fill(log, 40)
    assert compact(logs) == 0
    assert len(contents(log)) == 40


def test_small_segments_grow_together(logs: LogManager) -> None:
    log = facts(logs)
    fill(log, 60)
    log.config = settings(segment_bytes=100_000)
    compact(logs)
    assert log.segments[0].base_offset == 0
    assert len(log.segments) == 2


def test_nothing_beyond_the_last_stable_offset_is_touched(logs: LogManager) -> None:
    log = facts(logs)
    fill(log, 10)
    opened = put(
        log, ("k0", PAD), transactional=True, producer_id=5, producer_epoch=0, base_sequence=0
    )
    fill(log, 30, start=11)
    before = contents(log)
    compact(logs)
    assert [entry for entry in contents(log) if entry[0] >= opened] == [
        entry for entry in before if entry[0] >= opened
    ]
    cleaned_to = logs.cleaner_offset(KEY)
    assert cleaned_to is not None
    assert cleaned_to <= opened


def test_aborted_data_goes_and_committed_data_stays(logs: LogManager) -> None:
    log = facts(logs)

    def transact(pid: int, key: str, committed: bool, sequence: int) -> None:
        put(
            log,
            (key, f"{pid} {PAD}"),
            transactional=True,
            producer_id=pid,
            producer_epoch=0,
            base_sequence=sequence,
        )
        append(
            log,
            batches.build_end_txn_marker(
                producer_id=pid, producer_epoch=0, committed=committed, timestamp=NOW
            ),
        )

    for n in range(6):
        transact(1, "a", False, n)
        transact(2, f"b{n % 2}", True, n)
    fill(log, 20)
    assert len(log.aborted_transactions(0, log.end_offset)) == 6
    for later in (0, 2000, 4000, 6000):
        compact(logs, NOW + later)
        every_offset_reads(log)
        fill(log, 4, now_ms=NOW + later)
    left = contents(log)
    assert not [entry for entry in left if entry[1] == "a"]
    assert [key for _, key, _ in left if key and key.startswith("b")] == ["b0", "b1"]
    # Markers are gone, but for those of data that is still there, be it an empty batch that holds
    # a producer's state.
    control = [header for _, header in any_batches(all_bytes(log)) if header.control]
    assert len(control) <= 3
    assert {entry.producer_id for entry in log.producers.entries()} == {1, 2}
    again = reopened(logs)
    assert {entry.producer_id for entry in facts(again).producers.entries()} == {1, 2}
    assert contents(facts(again)) == contents(log)


def reopened(logs: LogManager, *, clean: bool = False, now_ms: int = NOW) -> LogManager:
    """The same files under a new manager, after a clean end or none."""
    if clean:
        logs.close(now_ms)
    return manager(logs.fs, logs.default_config, now_ms)


def test_duplicates_are_recognised_after_compaction_and_a_crash(logs: LogManager) -> None:
    log = facts(logs)
    sent = {"producer_id": 9, "producer_epoch": 0, "base_sequence": 0}
    first = put(log, ("k0", PAD), ("k0", PAD), **sent)
    fill(log, 40)
    compact(logs)
    assert first not in [offset for offset, _, _ in contents(log)]
    log = facts(reopened(logs))
    end = log.end_offset
    assert put(log, ("k0", PAD), ("k0", PAD), **sent) == first
    assert log.end_offset == end


def test_tombstones_stay_for_their_horizon(logs: LogManager) -> None:
    log = facts(logs)
    put(log, ("gone", "value"))
    put(log, ("gone", None))
    fill(log, 20)
    compact(logs, NOW)
    assert [entry for entry in contents(log) if entry[1] == "gone"] == [(1, "gone", None)]
    fill(log, 20)
    compact(logs, NOW + 999)
    assert [entry for entry in contents(log) if entry[1] == "gone"] == [(1, "gone", None)]
    fill(log, 20)
    compact(logs, NOW + 1000)
    assert not [entry for entry in contents(log) if entry[1] == "gone"]
    every_offset_reads(log)


def test_more_keys_than_memory_take_several_rounds() -> None:
    logs = manager(MemoryFileSystem(), dedupe_memory=190 * 5)
    log = facts(logs)
    fill(log, 60, keys=16)
    active = log.segments[-1].base_offset
    rounds = 0
    while logs.cleaner_offset(KEY) != active:
        compact(logs)
        rounds += 1
        every_offset_reads(log)
        assert rounds < 40
    assert rounds > 2
    found = keys_below(log, active)
    assert len(found) == len(set(found)) == 16


def test_old_record_batches_and_indexes_are_found_after_a_restart(logs: LogManager) -> None:
    log = facts(logs)
    fill(log, 60)
    compact(logs)
    for job in logs.delete_jobs(NOW):
        job()
    expected = contents(log)
    for clean in (True, False):
        logs = reopened(logs, clean=clean)
        log = facts(logs)
        assert not log.findings
        assert contents(log) == expected
        every_offset_reads(log)
        assert logs.cleaner_offset(KEY) is not None


def test_compressed_batches_stay_compressed(logs: LogManager) -> None:
    log = facts(logs)
    for n in range(30):
        put(log, (f"k{n % 3}", PAD), (f"unique {n}", PAD), codec=GZIP)
    compact(logs)
    headers = [header for _, header in any_batches(all_bytes(log))]
    assert {header.codec for header in headers if header.last_offset < 50} == {GZIP}
    every_offset_reads(log)


def test_a_damaged_batch_stops_compaction_of_its_log_only(
    logs: LogManager, caplog: pytest.LogCaptureFixture
) -> None:
    log = facts(logs)
    other = logs.get_or_create("other", 0, None, None, NOW)
    fill(log, 40)
    fill(other, 40)
    fs = logs.fs
    assert isinstance(fs, MemoryFileSystem)
    data = fs.files[f"/data/{KEY[0]}-0/{0:020d}.log"].content
    data[100] ^= 1
    before = bytes(data)
    assert compact(logs) > 0
    assert "facts-0 cannot be compacted any more" in caplog.text
    assert fs.read_bytes(f"/data/{KEY[0]}-0/{0:020d}.log") == before
    assert len(contents(other)) < 40
    assert compact(logs) == 0
    assert not [name for name in fs.listdir("/data/facts-0") if name.endswith(".cleaned")]


def test_a_log_deleted_or_truncated_meanwhile_is_left(logs: LogManager) -> None:
    log = facts(logs)
    fill(log, 60)
    round_ = logs.compact(NOW)
    next(round_)
    log.truncate_to(30)
    assert [job for job in round_ if job is not None] == []
    assert len(contents(log)) == 30
    assert logs.cleaner_offset(KEY) is None
    fill(log, 30, start=30)
    round_ = logs.compact(NOW)
    next(round_)
    logs.delete(*KEY, NOW)
    assert list(round_) == []
    assert logs.get(*KEY) is None


def test_a_round_that_is_dropped_leaves_nothing_behind(logs: LogManager) -> None:
    log = facts(logs)
    fill(log, 60)
    before = contents(log)
    round_ = logs.compact(NOW)
    for job in round_:
        if job is not None:
            break
    del round_
    gc.collect()
    assert not [name for name in logs.fs.listdir("/data/facts-0") if name.endswith(".cleaned")]
    assert contents(log) == before
    compact(logs)
    assert len(contents(log)) < 40


def test_fsyncs_are_handed_out_and_run_when_nobody_did(logs: LogManager) -> None:
    fill(facts(logs), 40)
    jobs = [job for job in logs.compact(NOW) if job is not None]
    assert jobs
    assert all(isinstance(job, SyncJob) for job in jobs)
    assert len(contents(facts(logs))) < 40


def test_retention_and_compaction_together(logs: LogManager) -> None:
    log = facts(logs)
    log.config = settings(cleanup_policy="compact,delete", retention_ms=5000)
    fill(log, 40, keys=40, now_ms=NOW)
    fill(log, 40, start=40, now_ms=NOW + 4000)
    compact(logs, NOW + 4000)
    assert log.log_start_offset == 0
    logs.retain(NOW + 6000)
    assert log.log_start_offset > 0
    every_offset_reads(log)
    assert compact(logs, NOW + 6000) == 0


# --- against a model


class Compaction(RuleBasedStateMachine):
    """Random appends, rounds and restarts; whatever a reader may rely on holds after each step."""

    @initialize(ratio=st.sampled_from(["0", "0.5"]), memory=st.sampled_from([190 * 3, 1 << 20]))
    def begin(self, ratio: str, memory: int) -> None:
        self.config = settings(min_cleanable_dirty_ratio=ratio, segment_bytes=250)
        self.memory = memory
        self.fs = MemoryFileSystem()
        self.now = NOW
        self.written: list[tuple[str, str | None, int]] = []  # key, value, written at
        self.open()

    def open(self) -> None:
        self.logs = manager(self.fs, self.config, self.now, dedupe_memory=self.memory)
        self.log = facts(self.logs, self.now)

    @rule(
        keyed=st.lists(
            st.tuples(st.sampled_from("abcde"), st.sampled_from(["1", "2" * 40, None])),
            min_size=1,
            max_size=3,
        ),
        codec=st.sampled_from([0, 0, GZIP]),
    )
    def append(self, keyed: list[tuple[str, str | None]], codec: int) -> None:
        base = put(self.log, *keyed, now_ms=self.now, codec=codec)
        assert base == len(self.written)
        self.written += [(key, value, self.now) for key, value in keyed]

    @rule(key=st.sampled_from("abcde"))
    def append_many(self, key: str) -> None:
        for _ in range(6):
            self.append([(key, "3" * 30)], 0)

    @rule(slices=st.sampled_from([1, 5, 1000]))
    def compact(self, slices: int) -> None:
        for number, job in enumerate(self.logs.compact(self.now)):
            if job is not None and number % 2:
                job()
            if number >= slices:
                break
        gc.collect()

    @rule(ms=st.sampled_from([1, 600, 2000]))
    def wait(self, ms: int) -> None:
        self.now += ms

    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        if clean:
            self.logs.close(self.now)
        self.open()
        if not clean:
            self.log.advance_high_watermark(self.log.end_offset)

    @precondition(lambda self: len(self.written) > 3)
    @rule(back=st.integers(0, 3))
    def truncate_active(self, back: int) -> None:
        offset = max(len(self.written) - back, self.log.segments[-1].base_offset)
        self.log.truncate_to(offset)
        del self.written[self.log.end_offset :]
        self.log.advance_high_watermark(self.log.end_offset)

    @invariant()
    def holds(self) -> None:
        log = self.log
        assert log.end_offset == len(self.written)
        assert log.log_start_offset == 0
        left = {offset: (key, value) for offset, key, value in contents(log)}
        latest: dict[str, int] = {}
        for offset, (key, value, _) in enumerate(self.written):
            latest[key] = offset
            if offset in left:
                assert left[offset] == (key, value)
        for key, offset in latest.items():
            _, value, written_at = self.written[offset]
            if value is not None or self.now < written_at + 1000:
                assert offset in left, (key, offset)
        # A value that was deleted never comes back once its tombstone is gone.
        for offset, (key, _) in left.items():
            newer = latest[key]
            if offset < newer and newer not in left:
                raise AssertionError(f"{key} at {offset} has come back")
        every_offset_reads(log)


TestCompactionModel = Compaction.TestCase
TestCompactionModel.settings = hypothesis_settings(profile(40), stateful_step_count=20)
