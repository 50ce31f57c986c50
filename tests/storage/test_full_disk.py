"""A disk that fills up, a real one: what was acknowledged stays, nothing half written is shown."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.config import LogConfig
from storage.errors import LogDirOffline
from storage.filesystem import RealFileSystem
from storage.log import Log
from storage.manager import LogManager
from tests.storage.log_kit import NOW, append, batch, placed

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, timeout=10)
    except FileNotFoundError:
        pytest.skip("there is no mount command to make a small file system with")
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=10)


class Broker:
    """A manager over the small disk and a directory beside it."""

    def __init__(self, disk: Path, beside: Path) -> None:
        self.failed: list[tuple[str, BaseException]] = []
        self.logs = LogManager(
            RealFileSystem(),
            [str(disk), str(beside)],
            LogConfig(),
            broker_id=1,
            cluster_id="c",
            on_dir_failure=lambda path, error: self.failed.append((path, error)),
        )
        self.logs.load({}, NOW)

    def log_in(self, folder: Path) -> Log:
        """The one log there, made if need be (each directory gets one in turn)."""
        for number in range(2):
            log = self.logs.get_or_create("orders", number, None, None, NOW)
            if Path(log.directory).parent == folder:
                return log
        raise AssertionError(f"no log in {folder}")

    def die(self) -> None:
        """As if killed: nothing is written any more."""
        for log in self.logs.logs.values():
            log.close(clean=False)
        self.logs._release()


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    return tmp_path / "beside"


def fill(log: Log, size: int, several: int) -> bytes:
    """Appends until there is no space; the bytes that were acknowledged."""
    stored = []
    with pytest.raises(LogDirOffline, match="No space left"):
        while True:
            waiting = []
            for _ in range(several):
                data = batch(1, size=size)
                copy = memoryview(bytearray(data))
                done = log.stage(data, 0, NOW)
                waiting.append(placed(copy, done.base_offset))
            log.write_staged()
            stored += waiting
    return b"".join(stored)


@pytest.mark.parametrize(("size", "several"), [(70_000, 1), (700, 50), (3 * MIB, 3)])
def test_what_was_acknowledged_is_there_after_the_disk_was_full(
    disk: Path, beside: Path, size: int, several: int
) -> None:
    settings = LogConfig.from_strings({"max.message.bytes": str(4 * MIB)})
    broker = Broker(disk, beside)
    log, other = broker.log_in(disk), broker.log_in(beside)
    log.config = settings
    stored = fill(log, size, several)
    assert len(stored) > 8 * MIB
    # Nothing of the write that failed is left, and nobody is told of it.
    assert (disk / "orders-0" / f"{0:020d}.log").stat().st_size == len(stored)
    assert [path for path, _ in broker.failed] == [str(disk)]
    assert broker.logs.offline_dirs == {str(disk)}
    with pytest.raises(LogDirOffline):
        append(log, batch(1))
    with pytest.raises(LogDirOffline):
        broker.logs.get("orders", log.partition)
    # The other directory goes on, and takes what is new.
    assert append(other, batch(1)) == 0
    assert Path(broker.logs.get_or_create("new", 0, None, None, NOW).directory).parent == beside
    broker.logs.close(NOW)
    assert not (disk / ".kafka_cleanshutdown").exists()
    assert (beside / ".kafka_cleanshutdown").exists()

    # The disk is still full when the broker is started again: all of it is served.
    again = Broker(disk, beside)
    assert again.failed == []
    log = again.log_in(disk)
    assert log.end_offset == stored_end(stored)
    assert log.read(0, 16 * MIB, log.end_offset).bytes() == stored
    again.die()


def stored_end(stored: bytes) -> int:
    """One record in each batch of the same size."""
    return len(stored) // (12 + int.from_bytes(stored[8:12], "big"))


def test_a_flush_without_space_takes_the_directory_offline(disk: Path, beside: Path) -> None:
    """Data fit, the files beside them do not."""
    broker = Broker(disk, beside)
    log = broker.log_in(disk)
    assert append(log, batch(1, size=1000)) == 0
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    log.roll(NOW)  # an empty file needs no space
    jobs = broker.logs.flush_jobs(NOW)
    assert jobs
    for job in jobs:
        job()
    assert [path for path, _ in broker.failed] == [str(disk)]
    assert log.recovery_point == 0
    with pytest.raises(LogDirOffline):
        broker.logs.get("orders", log.partition)
    with pytest.raises(LogDirOffline):
        append(log, batch(1))
    broker.logs.close(NOW)

    ballast.unlink()
    again = Broker(disk, beside)
    log = again.log_in(disk)
    assert (log.end_offset, again.failed) == (1, [])
    assert append(log, batch(1)) == 1
    log.flush()
    assert log.recovery_point == 2
    again.die()
