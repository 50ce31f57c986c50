"""Kafka's text checkpoint files: a version line, a count, then one entry a line.

`<topic> <partition> <offset>` at the top of a log directory, `<epoch> <start offset>` in a
partition's. A file with a wrong version, count or line is refused as a whole; an empty one has no
entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from storage.errors import StorageError
from storage.filesystem import FileSystem

VERSION: Final = "0"


class MalformedCheckpoint(StorageError):
    """A checkpoint file that cannot be read; its reader goes on as if there were none."""


def read_offsets(fs: FileSystem, path: str) -> dict[tuple[str, int], int]:
    """(topic, partition) -> offset; empty when there is no such file.

    Raises MalformedCheckpoint, OSError.
    """
    offsets = {}
    for line in _read(fs, path):
        words = line.split(" ")
        if len(words) != 3:
            raise MalformedCheckpoint(f"{path} has a malformed line: {line!r}")
        offsets[words[0], _number(path, words[1])] = _number(path, words[2])
    return offsets


def write_offsets(fs: FileSystem, path: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Replaces the file: write aside, fsync, rename. Raises OSError."""
    lines = [f"{topic} {partition} {offset}" for (topic, partition), offset in offsets.items()]
    fs.write_atomic(path, _text(lines))


def read_epochs(fs: FileSystem, path: str) -> list[tuple[int, int]]:
    """(leader epoch, start offset) lines in order; empty when there is no such file.

    Raises MalformedCheckpoint, OSError.
    """
    entries = []
    for line in _read(fs, path):
        words = line.split(" ")
        if len(words) != 2:
            raise MalformedCheckpoint(f"{path} has a malformed line: {line!r}")
        entries.append((_number(path, words[0]), _number(path, words[1])))
    return entries


def write_epochs(
    fs: FileSystem, path: str, entries: Iterable[tuple[int, int]], *, sync: bool = True
) -> None:
    """Replaces the file, without waiting for the disk where `sync` is false. Raises OSError."""
    fs.write_atomic(path, epochs_text(entries), sync=sync)


def epochs_text(entries: Iterable[tuple[int, int]]) -> bytes:
    """The content of a leader-epoch-checkpoint."""
    return _text([f"{epoch} {start}" for epoch, start in entries])


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in (VERSION, str(len(lines)), *lines)).encode()


def _read(fs: FileSystem, path: str) -> list[str]:
    try:
        data = fs.read_bytes(path)
    except FileNotFoundError:
        return []
    if not data:
        return []
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError:
        raise MalformedCheckpoint(f"{path} is not text") from None
    if lines[-1] == "":
        lines.pop()
    if len(lines) < 2 or lines[0] != VERSION:
        raise MalformedCheckpoint(f"{path} has version {lines[0]!r}, expected {VERSION}")
    if _number(path, lines[1]) != len(lines) - 2:
        raise MalformedCheckpoint(f"{path} has {len(lines) - 2} entries, told {lines[1]}")
    return lines[2:]


def _number(path: str, text: str) -> int:
    digits = text[1:] if text[:1] == "-" else text
    if not (digits.isascii() and digits.isdigit()):
        raise MalformedCheckpoint(f"{path} has {text!r} where a number is expected")
    return int(text)
