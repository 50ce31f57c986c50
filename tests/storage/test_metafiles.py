"""meta.properties, the lock of a log directory."""

import subprocess
import sys
from pathlib import Path

import pytest

from storage.filesystem import MemoryFileSystem, RealFileSystem
from storage.metafiles import (
    DirLock,
    InconsistentLogDir,
    LogDirInUse,
    check_meta_properties,
    format_properties,
    parse_properties,
    read_meta_properties,
    write_meta_properties,
)


def test_what_is_written_is_what_kafka_writes_but_for_its_date(tmp_path: Path) -> None:
    fs = RealFileSystem()
    assert read_meta_properties(fs, str(tmp_path)) is None
    write_meta_properties(fs, str(tmp_path), 7, "YD73-EkwSa2FzhGljTNqAA")
    text = (tmp_path / "meta.properties").read_text()
    assert text == "#\nversion=0\nbroker.id=7\ncluster.id=YD73-EkwSa2FzhGljTNqAA\n"
    assert [path.name for path in tmp_path.iterdir()] == ["meta.properties"]
    assert read_meta_properties(fs, str(tmp_path)) == {
        "version": "0",
        "broker.id": "7",
        "cluster.id": "YD73-EkwSa2FzhGljTNqAA",
    }


def test_java_properties() -> None:
    text = "# a\n! b\n\n a = b \nc:d=e\nf\n \tg\\==h\\:i\\\\\\n.\n"
    assert parse_properties(text) == {"a": "b", "c": "d=e", "f": "", "g=": "h:i\\\n."}
    tricky = {"a": "b=c:d\\e"}
    assert parse_properties(format_properties(tricky)) == tricky


@pytest.mark.parametrize(
    ("properties", "sentence"),
    [
        ({"version": "1", "node.id": "1"}, "KRaft"),
        ({"version": "2"}, "version 2, which is not known"),
        ({"broker.id": "2", "cluster.id": "c"}, "broker.id=2"),
        ({"version": "0", "broker.id": "1", "cluster.id": "other"}, "cluster.id=other"),
    ],
)
def test_what_belongs_to_something_else_is_refused(
    properties: dict[str, str], sentence: str
) -> None:
    with pytest.raises(InconsistentLogDir, match=sentence) as caught:
        check_meta_properties("/d", properties, 1, "c")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "properties",
    [
        {"version": "0", "broker.id": "1", "cluster.id": "c"},
        {"broker.id": "1", "cluster.id": "c"},
        {"version": "0", "broker.id": "1"},
        {"version": "0", "broker.id": "1", "cluster.id": "c", "directory.id": "x"},
    ],
)
def test_what_is_ours_is_taken(properties: dict[str, str]) -> None:
    check_meta_properties("/d", properties, 1, "c")


def test_one_lock_a_directory_in_this_process(tmp_path: Path) -> None:
    fs = RealFileSystem()
    lock = DirLock(fs, str(tmp_path))
    with pytest.raises(LogDirInUse, match="of this process"):
        DirLock(RealFileSystem(), str(tmp_path))
    lock.release()
    lock.release()
    DirLock(fs, str(tmp_path)).release()
    assert (tmp_path / ".lock").exists()


def test_a_lock_that_nobody_holds_any_more_is_free(tmp_path: Path) -> None:
    lock = DirLock(RealFileSystem(), str(tmp_path))
    del lock
    DirLock(RealFileSystem(), str(tmp_path)).release()


def test_directories_in_memory_are_those_of_their_file_system() -> None:
    fs, other = MemoryFileSystem(), MemoryFileSystem()
    for one in (fs, other):
        one.mkdir("/data")
    lock = DirLock(fs, "/data")
    with pytest.raises(LogDirInUse, match="of this process"):
        DirLock(fs, "/data")
    elsewhere = DirLock(other, "/data")
    lock.release()
    DirLock(fs, "/data").release()
    with pytest.raises(LogDirInUse):
        DirLock(other, "/data")
    elsewhere.release()


HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_another_process_keeps_us_out(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="POSIX record locks")
    path = tmp_path / ".lock"
    path.touch()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LogDirInUse, match="another process holds"):
            DirLock(RealFileSystem(), str(tmp_path))
        holder.stdin.close()
    DirLock(RealFileSystem(), str(tmp_path)).release()
