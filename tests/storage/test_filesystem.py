"""Files on disk, in memory and faulty ones behave the same, errors included."""

import errno
import gc
import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from storage import filesystem
from storage.filesystem import FileSystem, MemoryFileSystem, RealFile, RealFileSystem
from storage.open_files import OpenFiles
from tests.kit.faulty_files import FaultyFileSystem

Make = Callable[[], FileSystem]


@pytest.fixture(params=[RealFileSystem, MemoryFileSystem, FaultyFileSystem])
def fs(request: pytest.FixtureRequest) -> FileSystem:
    made: FileSystem = request.param()
    return made


@pytest.fixture
def top(fs: FileSystem, tmp_path: Any) -> str:
    """A directory that is there."""
    path = str(tmp_path)
    fs.mkdir(path)
    return path


def test_a_file_grows_at_its_end(fs: FileSystem, top: str) -> None:
    file = fs.open(f"{top}/a", create=True)
    assert file.append([b"one"]) == 3
    assert file.append([memoryview(b"two"), bytearray(b"three"), b""]) == 8
    assert file.size == 11
    assert file.pread(100, 3) == b"twothree"
    assert file.pread(3, 100) == b""
    assert fs.read_bytes(f"{top}/a") == b"onetwothree"
    again = fs.open(f"{top}/a")
    assert again.size == 11
    again.append([b"!"])
    assert file.pread(1, 11) == b"!"


def test_writing_in_the_middle_and_cutting(fs: FileSystem, top: str) -> None:
    file = fs.open(f"{top}/a", create=True)
    file.append([b"0123456789"])
    file.pwrite(b"ab", 3)
    assert (file.size, file.pread(10, 0)) == (10, b"012ab56789")
    file.pwrite(b"xy", 11)
    assert (file.size, file.pread(20, 8)) == (13, b"89\0xy")
    file.truncate(4)
    file.append([b"!"])
    assert fs.read_bytes(f"{top}/a") == b"012a!"
    file.truncate(8)
    assert fs.read_bytes(f"{top}/a") == b"012a!\0\0\0"
    file.sync()
    assert fs.open(f"{top}/a", truncate=True).size == 0


def test_a_closed_file_refuses(fs: FileSystem, top: str) -> None:
    file = fs.open(f"{top}/a", create=True)
    file.append([b"x"])
    file.close()
    with pytest.raises(OSError):
        file.pread(1, 0)
    file.close()


def test_directories(fs: FileSystem, top: str) -> None:
    fs.mkdir(f"{top}/d/e")
    fs.mkdir(f"{top}/d")
    fs.open(f"{top}/d/f", create=True).append([b"123"])
    assert fs.listdir(f"{top}/d") == ["e", "f"]
    ((name, size),) = [(entry.name, entry.size) for entry in fs.scan(f"{top}/d")]
    assert (name, size) == ("f", 3)
    assert fs.is_dir(f"{top}/d/e") and not fs.is_dir(f"{top}/d/f")
    assert fs.exists(f"{top}/d/f") and not fs.exists(f"{top}/d/g")
    fs.sync_dir(f"{top}/d")
    fs.rename(f"{top}/d", f"{top}/moved")
    assert fs.read_bytes(f"{top}/moved/f") == b"123"
    assert not fs.exists(f"{top}/d")
    fs.remove_tree(f"{top}/moved")
    fs.remove_tree(f"{top}/moved")
    assert not fs.exists(f"{top}/moved")
    with pytest.raises(OSError):
        fs.open(f"{top}/plain", create=True)
        fs.mkdir(f"{top}/plain")


def test_renaming_and_removing(fs: FileSystem, top: str) -> None:
    file = fs.open(f"{top}/a", create=True)
    file.append([b"a"])
    fs.open(f"{top}/b", create=True).append([b"b"])
    fs.rename(f"{top}/a", f"{top}/b")
    assert fs.listdir(top) == ["b"]
    assert fs.read_bytes(f"{top}/b") == b"a"
    fs.remove(f"{top}/b")
    assert fs.listdir(top) == []
    assert file.pread(1, 0) == b"a"  # who has it open keeps it


@pytest.mark.parametrize(
    "work",
    [
        lambda fs, top: fs.open(f"{top}/none"),
        lambda fs, top: fs.open(f"{top}/none/a", create=True),
        lambda fs, top: fs.read_bytes(f"{top}/none"),
        lambda fs, top: fs.remove(f"{top}/none"),
        lambda fs, top: fs.rename(f"{top}/none", f"{top}/b"),
        lambda fs, top: fs.listdir(f"{top}/none"),
        lambda fs, top: fs.scan(f"{top}/none"),
        lambda fs, top: fs.sync_dir(f"{top}/none"),
        lambda fs, top: fs.modified_ms(f"{top}/none"),
    ],
)
def test_what_is_not_there(
    fs: FileSystem, top: str, work: Callable[[FileSystem, str], object]
) -> None:
    with pytest.raises(FileNotFoundError):
        work(fs, top)


@pytest.mark.parametrize("sync", [True, False])
def test_small_files_are_replaced_as_a_whole(fs: FileSystem, top: str, sync: bool) -> None:
    fs.write_atomic(f"{top}/a", b"long content", sync=sync)
    fs.write_atomic(f"{top}/a", b"short", sync=sync)
    assert fs.read_bytes(f"{top}/a") == b"short"
    assert fs.listdir(top) == ["a"]


def test_disk_usage(fs: FileSystem, top: str) -> None:
    total, usable = fs.disk_usage(top)
    assert total >= usable >= -1


def test_preallocation_leaves_the_size(fs: FileSystem, top: str) -> None:
    file = fs.open(f"{top}/a", create=True)
    fs.preallocate(file, 1 << 20)
    file.append([b"abc"])
    assert fs.read_bytes(f"{top}/a") == b"abc"


# --- real ones only


def test_a_write_that_takes_only_a_part_goes_on(tmp_path: Any, monkeypatch: Any) -> None:
    calls = []

    def some(fd: int, buffers: Any, position: int) -> int:
        data = b"".join(buffers)[: random.Random(len(calls)).randint(1, 9)]
        calls.append(len(data))
        return os.pwrite(fd, data, position)

    monkeypatch.setattr(filesystem, "_pwritev", some)
    monkeypatch.setattr(filesystem, "_pwrite", lambda fd, data, at: some(fd, [data], at))
    file = RealFileSystem().open(f"{tmp_path}/a", create=True)
    pieces = [bytes([65 + index]) * (index % 7) for index in range(40)]
    file.append(pieces)
    file.append([b"the end of it"])
    file.pwrite(b"THE END", len(b"".join(pieces)))
    assert file.pread(1000, 0) == b"".join(pieces) + b"THE END of it"
    assert len(calls) > 10


def test_systems_without_positional_calls(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(filesystem, "_pwrite", filesystem._pwrite_seeking)
    monkeypatch.setattr(filesystem, "_pwritev", filesystem._pwritev_seeking)
    monkeypatch.setattr(filesystem, "_pread", filesystem._pread_seeking)
    file = RealFileSystem().open(f"{tmp_path}/a", create=True)
    file.append([b"ab", b"cd"])
    file.append([b"ef"])
    file.pwrite(b"X", 1)
    assert file.pread(10, 0) == b"aXcdef"


def test_the_descriptor_goes_with_the_last_reference(tmp_path: Any) -> None:
    file = RealFileSystem().open(f"{tmp_path}/a", create=True)
    assert isinstance(file, RealFile)
    number = file.fileno()
    assert number is not None
    del file
    gc.collect()
    with pytest.raises(OSError):
        os.fstat(number)


def test_reserved_space_is_really_reserved(tmp_path: Any) -> None:
    fs = RealFileSystem()
    file = fs.open(f"{tmp_path}/a", create=True)
    fs.preallocate(file, 1 << 20)
    blocks = os.stat(f"{tmp_path}/a").st_blocks * 512
    assert blocks in (0, *range(1 << 20, 1 << 22))  # 0 where the system cannot


# --- the faulty one


def test_faults_come_where_they_are_told() -> None:
    fs = FaultyFileSystem()
    fs.mkdir("/d")
    file = fs.open("/d/a", create=True)
    file.append([b"12345678"])
    fs.fail_at(1, torn=500, number=errno.ENOSPC)
    file.append([b"ok"])
    with pytest.raises(OSError) as caught:
        file.append([b"abcdefgh"])
    assert caught.value.errno == errno.ENOSPC
    assert file.size == 10
    assert fs.read_bytes("/d/a") == b"12345678okabcd"
    file.append([b"once"])
    assert fs.read_bytes("/d/a") == b"12345678okonce"
    fs.fail_at(0, forever=True)
    for _ in range(2):
        with pytest.raises(OSError):
            file.sync()


def test_what_a_crash_may_leave() -> None:
    """Every outcome that the model allows comes up, and no other."""
    seen = set()
    for seed in range(200):
        fs = FaultyFileSystem()
        fs.mkdir("/d")
        file = fs.open("/d/a", create=True)
        file.append([b"12"])
        file.sync()
        fs.sync_dir("/d")
        file.append([b"34"])
        fs.open("/d/b", create=True)
        after = fs.crash(random.Random(seed).randrange)
        seen.add((after.read_bytes("/d/a"), tuple(after.listdir("/d"))))
        with pytest.raises(OSError):
            file.append([b"x"])
    assert {content for content, _ in seen} == {b"12", b"123", b"1234", b"123\0", b"12\0\0"}
    assert {names for _, names in seen} == {("a",), ("a", "b")}
    assert FaultyFileSystem().kill().files == {}


# --- who may keep a file open


class Holder:
    def __init__(self) -> None:
        self.recently_used = False
        self.released = 0

    def release(self) -> None:
        self.released += 1


def test_the_idle_lose_their_files_first() -> None:
    files = OpenFiles(3)
    holders = [Holder() for _ in range(5)]
    for holder in holders[:3]:
        files.opened(holder)
    for holder in holders[:3]:
        holder.recently_used = False
    holders[0].recently_used = True
    files.opened(holders[3])
    assert [holder.released for holder in holders] == [0, 1, 0, 0, 0]
    files.closed(holders[2])
    files.opened(holders[4])
    assert [holder.released for holder in holders] == [0, 1, 0, 0, 0]
    assert len(files) == 3


def test_when_all_are_busy_one_loses_all_the_same() -> None:
    files = OpenFiles(2)
    holders = [Holder() for _ in range(3)]
    for holder in holders:
        files.opened(holder)
        holder.recently_used = True
    assert sum(holder.released for holder in holders) == 1
    assert len(files) == 2
