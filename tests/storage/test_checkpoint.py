"""Text checkpoints: Kafka's bytes, and what is not believed."""

import pytest

from storage import checkpoint
from storage.checkpoint import MalformedCheckpoint
from storage.filesystem import MemoryFileSystem

PATH = "/d/checkpoint"


@pytest.fixture
def fs() -> MemoryFileSystem:
    fs = MemoryFileSystem()
    fs.mkdir("/d")
    return fs


def put(fs: MemoryFileSystem, content: bytes) -> None:
    fs.open(PATH, create=True, truncate=True).append([content])


def test_offsets(fs: MemoryFileSystem) -> None:
    offsets = {("orders", 0): 1207, ("a-b.c", 11): 0, ("orders", 3): 1 << 40}
    checkpoint.write_offsets(fs, PATH, offsets)
    content = fs.read_bytes(PATH)
    assert content == b"0\n3\norders 0 1207\na-b.c 11 0\norders 3 1099511627776\n"
    assert checkpoint.read_offsets(fs, PATH) == offsets
    assert fs.listdir("/d") == ["checkpoint"]


def test_epochs(fs: MemoryFileSystem) -> None:
    checkpoint.write_epochs(fs, PATH, [(0, 0), (3, 5010)])
    assert fs.read_bytes(PATH) == b"0\n2\n0 0\n3 5010\n"
    assert checkpoint.read_epochs(fs, PATH) == [(0, 0), (3, 5010)]


def test_nothing(fs: MemoryFileSystem) -> None:
    assert checkpoint.read_offsets(fs, PATH) == {}
    assert checkpoint.read_epochs(fs, PATH) == []
    put(fs, b"")
    assert checkpoint.read_offsets(fs, PATH) == {}
    checkpoint.write_offsets(fs, PATH, {})
    assert fs.read_bytes(PATH) == b"0\n0\n"
    assert checkpoint.read_offsets(fs, PATH) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"1\n0\n",
        b"x\n0\n",
        b"0\n",
        b"0\n2\na 0 1\n",
        b"0\n1\na 0 1\nb 0 2\n",
        b"0\n1\na 0\n",
        b"0\n1\na 0 1 2\n",
        b"0\n1\na zero 1\n",
        b"0\n1\na 0 one\n",
        b"0\n-\na 0 1\n",
        b"\xff\xfe\n",
        b"\0\0\0\0",
    ],
)
def test_malformed(fs: MemoryFileSystem, content: bytes) -> None:
    put(fs, content)
    with pytest.raises(MalformedCheckpoint):
        checkpoint.read_offsets(fs, PATH)
