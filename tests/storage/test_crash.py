"""Ends without warning: a crash at every byte of an append, a fault at every operation.

What a producer was told is there must be there; what is served is whole batches.
"""

import errno
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from storage.errors import LogDirOffline
from storage.filesystem import MemoryFileSystem, RealFileSystem
from storage.log import Log
from tests.kit.faulty_files import FaultyFileSystem
from tests.storage.log_kit import (
    DIRECTORY,
    NOW,
    append,
    batch,
    config,
    each_batch,
    marker,
    open_log,
    placed,
    read_all,
    segment_bases,
)

SMALL = config(segment_bytes=400, index_interval_bytes=100)
LOG = f"{DIRECTORY}/{0:020d}.log"


def copy_of(fs: MemoryFileSystem) -> MemoryFileSystem:
    copy = MemoryFileSystem()
    for directory in fs.directories:
        copy.mkdir(directory)
    for path, data in fs.files.items():
        copy.open(path, create=True).append([bytes(data.content)])
    return copy


def three_batches() -> tuple[MemoryFileSystem, list[bytes]]:
    fs = MemoryFileSystem()
    log = open_log(fs)
    sent = [batch(2), batch(1, size=70), batch(3, producer_id=5, producer_epoch=0, base_sequence=0)]
    stored = []
    for data in sent:
        copy = memoryview(bytearray(data))
        stored.append(placed(copy, append(log, data, epoch=3), 3))
    return fs, stored


def test_cut_at_every_byte_of_the_last_append() -> None:
    fs, stored = three_batches()
    kept = b"".join(stored[:2])
    for size in range(len(stored[2]) + 1):
        copy = copy_of(fs)
        copy.open(LOG).truncate(len(kept) + size)
        log = open_log(copy)
        whole = size == len(stored[2])
        assert log.end_offset == (6 if whole else 3)
        assert read_all(log) == (kept + stored[2] if whole else kept)
        assert (log.producers.get(5) is not None) == whole
        assert len(copy.read_bytes(LOG)) == log.size
        # Life goes on where the torn batch was.
        assert append(log, batch(1)) == log.end_offset - 1
        list(each_batch(read_all(log)))


def test_garbage_at_every_byte_of_the_last_append() -> None:
    """A byte that did not reach the disk. What the CRC does not cover is left out."""
    fs, stored = three_batches()
    kept = b"".join(stored[:2])
    uncovered = {*range(8), *range(12, 16)}
    for at in range(len(stored[2])):
        if at in uncovered:
            continue
        copy = copy_of(fs)
        content = bytearray(copy.read_bytes(LOG))
        content[len(kept) + at] ^= 0x55
        copy.open(LOG).pwrite(content, 0)
        log = open_log(copy)
        assert (log.end_offset, read_all(log)) == (3, kept)


@pytest.mark.parametrize("size", [1, 11, 12, 60, 61, 4096, 100_000])
def test_zeros_after_the_last_append(size: int) -> None:
    """The file grew and its data did not come: what file systems leave after a power cut."""
    fs, stored = three_batches()
    fs.open(LOG).append([bytes(size)])
    log = open_log(fs)
    assert read_all(log) == b"".join(stored)
    assert len(fs.read_bytes(LOG)) == log.size == len(b"".join(stored))


# --- faults at every operation

Step = Callable[[Log], None]


def appends(log: Log) -> None:
    """Fills some segments: plain, idempotent and transactional batches, two epochs."""
    for index in range(3):
        append(log, batch(2, size=30), epoch=index // 2)
        sequence = index
        fields = {"producer_id": 9, "producer_epoch": 0, "base_sequence": sequence}
        append(log, batch(1, transactional=True, **fields), epoch=index // 2)
        log.advance_high_watermark(log.end_offset)


def aborts(log: Log) -> None:
    log.stage(marker(9, committed=False), 1, NOW, origin="coordinator")
    log.write_staged()


def several(log: Log) -> None:
    for _ in range(4):
        log.stage(batch(1, size=40), 2, NOW)
    log.write_staged()


def flushes(log: Log) -> None:
    log.flush()


def rolls(log: Log) -> None:
    log.roll(NOW)


SCRIPT: tuple[Step, ...] = (appends, flushes, aborts, several, rolls, several, flushes, several)


class Run:
    """The script on faulty files, with what was acknowledged so far."""

    def __init__(self, fault: int | None, *, torn: int = 500, number: int = errno.EIO) -> None:
        self.fs = FaultyFileSystem()
        self.fs.mkdir("/data")
        self.failed: list[BaseException] = []
        self.fs.operations = 0
        self.reached = 0  # acknowledged end
        self.durable = 0  # what flush has promised
        self.content = b""
        self.log: Log | None = None
        if fault is not None:
            self.fs.fail_at(fault, torn=torn, number=number, forever=True)
        try:
            self.log = open_log(self.fs, settings=SMALL, on_failure=self.failed.append)
            for step in SCRIPT:
                self.run(step)
            self.completed = True
        except (LogDirOffline, OSError):
            self.completed = False

    def run(self, step: Step) -> None:
        assert self.log is not None
        try:
            step(self.log)
        finally:
            self.reached = self.log.end_offset
            self.durable = self.log.recovery_point
            self.content = read_all(self.log, upper=self.reached)


def test_the_script_rolls_and_flushes() -> None:
    run = Run(None)
    assert run.completed
    assert len(segment_bases(run.fs)) >= 4
    assert run.durable > 0 and run.reached > run.durable


OPERATIONS = Run(None).fs.operations


@pytest.mark.parametrize("torn", [0, 300, 999])
def test_fault_at_every_operation_and_a_new_process(torn: int) -> None:
    """The disk goes bad for good; later the process is started on what was written."""
    for fault in range(OPERATIONS):
        run = Run(fault, torn=torn, number=errno.ENOSPC if fault % 2 else errno.EIO)
        assert not run.completed, f"operation {fault} failed and nobody noticed"
        if run.log is None:
            continue
        assert len(run.failed) <= 1
        list(each_batch(run.content))
        log = open_log(run.fs.kill(), settings=SMALL, recovery_point=run.durable)
        assert log.end_offset >= run.reached, f"after operation {fault}"
        everything = read_all(log)
        assert everything.startswith(run.content)
        list(each_batch(everything))
        append(log, batch(1), epoch=7)
        list(each_batch(read_all(log)))


def test_after_a_fault_nothing_is_taken() -> None:
    run = Run(None)
    log = run.log
    assert log is not None
    log.roll(NOW)
    append(log, batch(1))
    end, before = log.end_offset, read_all(log)
    run.fs.fail_at(0, torn=900)
    staged = log.stage(batch(1, size=50), 2, NOW)
    with pytest.raises(LogDirOffline):
        log.write_staged()
    assert staged.last_offset >= log.end_offset == end
    assert len(run.failed) == 1
    # The disk would work again, the log does not: it waits for a restart.
    with pytest.raises(LogDirOffline):
        log.stage(batch(1), 2, NOW)
        log.write_staged()
    assert log.end_offset == log.next_offset == end
    # The part that got through was cut off again.
    active = log.segments[-1]
    assert (
        run.fs.files[f"{DIRECTORY}/{active.base_offset:020d}.log"].content == before[-active.size :]
    )
    log.close(clean=False)
    reopened = open_log(run.fs.kill(), settings=SMALL, recovery_point=log.recovery_point)
    assert read_all(reopened) == before


def test_machine_crash_at_every_operation_keeps_what_was_flushed() -> None:
    """Power goes; whatever was not synced may be gone, torn, or zeros."""
    for fault in range(OPERATIONS + 1):
        for seed in range(4):
            run = Run(fault if fault < OPERATIONS else None)
            if run.log is None:
                continue
            choose = random.Random(fault * 10 + seed).randrange
            fs = run.fs.crash(choose)
            log = open_log(fs, settings=SMALL, recovery_point=run.durable)
            where = f"operation {fault}, seed {seed}"
            assert log.end_offset >= run.durable, where
            everything = read_all(log)
            list(each_batch(everything))
            promised = read_all(log, upper=run.durable)
            assert run.content.startswith(promised), where
            if log.end_offset <= run.reached:
                assert run.content.startswith(everything), where
            append(log, batch(1), epoch=7)
            log.flush()
            list(each_batch(read_all(log)))


def test_crash_between_crashes() -> None:
    """Recovery itself is cut short at every operation, and run again."""
    for seed in range(3):
        first = Run(None)
        choose = random.Random(seed).randrange
        crashed = first.fs.crash(choose)
        files = {path: bytes(data.content) for path, data in crashed.files.items()}

        def again(files: dict[str, bytes] = files) -> FaultyFileSystem:
            fs = FaultyFileSystem()
            for path, content in files.items():
                fs.put(path, content)
            return fs

        whole = again()
        wanted = read_all(open_log(whole, settings=SMALL, recovery_point=first.durable))
        for fault in range(whole.operations):
            fs = again()
            fs.fail_at(fault, forever=True)
            try:
                open_log(fs, settings=SMALL, recovery_point=first.durable)
            except (OSError, LogDirOffline):
                pass
            log = open_log(fs.kill(), settings=SMALL, recovery_point=first.durable)
            assert read_all(log) == wanted


REMOVALS: dict[str, Step] = {
    "delete_oldest": lambda log: log.delete_oldest(3, NOW),
    "truncate_to": lambda log: log.truncate_to(4),
    "start_over": lambda log: log.truncate_fully_and_start_at(50),
}


@pytest.mark.parametrize("name", REMOVALS)
@pytest.mark.parametrize("power", [False, True])
def test_a_removal_that_is_cut_short_leaves_no_hole(name: str, power: bool) -> None:
    """Whatever of the log is there afterwards, it is in one piece."""
    outcomes = set()
    for fault in range(40):
        for seed in range(5 if power else 1):
            fs = FaultyFileSystem()
            log = open_log(fs, settings=config(segment_bytes=150))
            for _ in range(8):
                append(log, batch(1))
            log.advance_high_watermark(8)
            log.flush()
            fs.fail_at(fault, forever=True)
            try:
                REMOVALS[name](log)
                done = True
            except LogDirOffline:
                done = False
            after = fs.crash(random.Random(seed).randrange) if power else fs.kill()
            again = open_log(after, settings=log.config, recovery_point=8)
            offsets = [header.base_offset for _, header in each_batch(read_all(again))]
            first = again.segments[0].base_offset
            assert offsets == list(range(first, again.end_offset)), f"operation {fault}"
            outcomes.add((first, again.end_offset))
            assert append(again, batch(1), epoch=5) == again.end_offset - 1
        if done and not power:
            break
    assert len(outcomes) > 1


# --- a real process, really killed

CHILD = """
import sys
from storage.filesystem import RealFileSystem
from tests.storage.log_kit import append, batch, config, open_log

log = open_log(
    RealFileSystem(),
    directory=sys.argv[1],
    settings=config(segment_bytes=20000, flush_messages=700),
)
while True:
    append(log, batch(2, size=100, producer_id=1, producer_epoch=0,
                      base_sequence=log.next_offset))
    sys.stdout.write(f"{log.end_offset}\\n")
    sys.stdout.flush()
"""


def test_killed_process(tmp_path: object) -> None:
    directory = f"{tmp_path}/orders-0"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, directory],
        stdout=subprocess.PIPE,
        cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
    )
    assert child.stdout is not None
    reached = 0
    while reached < 2000:
        line = child.stdout.readline()
        assert line, "the child ended by itself"
        reached = int(line)
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read().splitlines()
    child.stdout.close()
    child.wait()
    if len(rest) > 1:
        reached = int(rest[-2])  # the last line may be cut off
    log = open_log(RealFileSystem(), directory=directory)
    assert log.end_offset >= reached
    data = read_all(log)
    *_, (_, last) = each_batch(data)
    assert last.next_offset == log.end_offset
    entry = log.producers.get(1)
    assert entry is not None and entry.last_sequence == log.end_offset - 1
