"""Text checkpoints: a version line, a count line, then one entry a line.

    0                      version
    2                      number of entries
    orders 0 1207          topic, partition, offset       (the files at the top of a log directory)
    3 5010                 epoch, start offset            (leader-epoch-checkpoint of a partition)

A file with another version, a wrong count or a malformed line is not believed in any part; an
empty file has no entries. Files are replaced by write, fsync, rename.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from storage.errors import StorageError
from storage.filesystem import FileSystem

VERSION: Final = 0


class MalformedCheckpoint(StorageError):
    """A checkpoint file that is not to be believed; the message says why."""


def format_lines(entries: Iterable[str]) -> bytes:
    """The content of a checkpoint with these entry lines."""
    lines = [str(VERSION), "", *entries]
    lines[1] = str(len(lines) - 2)
    return ("\n".join(lines) + "\n").encode()


def parse_lines(data: bytes) -> list[list[str]]:
    """The words of each entry. Raises MalformedCheckpoint."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise MalformedCheckpoint("it is not text") from None
    if not text:
        return []
    lines = text.splitlines()
    if _integer(lines[0]) != VERSION:
        raise MalformedCheckpoint(f"its version is {lines[0]!r}, {VERSION} is known")
    if len(lines) < 2:
        raise MalformedCheckpoint("it ends after its version")
    count = _integer(lines[1])
    entries = [line.split() for line in lines[2:] if line]
    if count != len(entries):
        raise MalformedCheckpoint(f"it has {len(entries)} entries and tells {count}")
    return entries


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise MalformedCheckpoint(f"{text!r} is no number") from None


def format_offsets(offsets: Mapping[tuple[str, int], int]) -> bytes:
    """A checkpoint of offsets by (topic, partition)."""
    return format_lines(f"{topic} {index} {offset}" for (topic, index), offset in offsets.items())


def parse_offsets(data: bytes) -> dict[tuple[str, int], int]:
    """Offsets by (topic, partition). Raises MalformedCheckpoint."""
    offsets = {}
    for words in parse_lines(data):
        if len(words) != 3:
            raise MalformedCheckpoint(f"the line {' '.join(words)!r} has not three words")
        offsets[words[0], _integer(words[1])] = _integer(words[2])
    return offsets


def read_offsets(fs: FileSystem, path: str) -> dict[tuple[str, int], int]:
    """The offsets in a checkpoint file; none when it is missing.

    Raises MalformedCheckpoint, OSError.
    """
    try:
        data = fs.read_bytes(path)
    except FileNotFoundError:
        return {}
    return parse_offsets(data)


def write_offsets(fs: FileSystem, path: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Replaces a checkpoint file. Raises OSError."""
    fs.write_atomic(path, format_offsets(offsets))


def format_epochs(entries: Iterable[tuple[int, int]]) -> bytes:
    """A leader-epoch-checkpoint of (epoch, start offset)."""
    return format_lines(f"{epoch} {start}" for epoch, start in entries)


def parse_epochs(data: bytes) -> list[tuple[int, int]]:
    """(epoch, start offset) of a leader-epoch-checkpoint. Raises MalformedCheckpoint."""
    entries = []
    for words in parse_lines(data):
        if len(words) != 2:
            raise MalformedCheckpoint(f"the line {' '.join(words)!r} has not two words")
        entries.append((_integer(words[0]), _integer(words[1])))
    return entries
