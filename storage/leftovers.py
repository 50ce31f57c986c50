"""Files that an interrupted compaction, truncation or write left in a log's directory.

Apache Kafka's rules: `.deleted` files go. `.cleaned` files are unfinished, so they go, and with
them any `.swap` file that begins at or above the first of them. What `.swap` files then remain are
complete: the segments they replace go, and they take their places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from storage.filesystem import FileSystem
from storage.findings import Kind
from storage.index import OffsetIndex
from storage.scan import walk_headers
from storage.segment import CLEANED, DELETED, ENDINGS, INDEX, LOG, SWAP

if TYPE_CHECKING:
    from storage.recovery import _Recovery

TEMPORARY: Final = ".tmp"
_DIGITS: Final = 20


def offset_of(name: str) -> int | None:
    """The offset a file is named after, None when it is named otherwise."""
    digits = name[:_DIGITS]
    if len(digits) == _DIGITS and digits.isascii() and digits.isdigit() and name[_DIGITS:] > ".":
        return int(digits)
    return None


def tidy(recovery: _Recovery) -> None:
    """Applies the rules; `recovery.sizes` then has only files of proper names. Raises OSError."""
    names = list(recovery.sizes)
    suffixed = [name for name in names if name.endswith((DELETED, CLEANED, SWAP, TEMPORARY))]
    if not suffixed:
        return
    cleaned = [
        offset
        for name in suffixed
        if name.endswith(CLEANED) and (offset := offset_of(name)) is not None
    ]
    first_cleaned = min(cleaned, default=None)
    swaps = []
    for name in suffixed:
        offset = offset_of(name)
        if (
            name.endswith(SWAP)
            and offset is not None
            and (first_cleaned is None or offset < first_cleaned)
        ):
            swaps.append(name)
            continue
        recovery.found(Kind.LEFTOVER, f"{name} is removed")
        recovery.drop(name)
    if swaps:
        _finish_swap(recovery, swaps)


def _finish_swap(recovery: _Recovery, swaps: list[str]) -> None:
    fs = recovery.fs
    logs = [name for name in swaps if name.endswith(LOG + SWAP)]
    ranges = [(offset_of(name) or 0, _next_offset(recovery, name)) for name in logs]
    if ranges:
        start = min(first for first, _ in ranges)
        end = max(end for _, end in ranges)
        for name in list(recovery.sizes):
            offset = offset_of(name)
            if offset is not None and name.endswith(ENDINGS) and start <= offset < end:
                recovery.found(Kind.LEFTOVER, f"{name} was compacted away and is removed")
                recovery.drop(name)
        fs.sync_dir(recovery.directory)
    for name in swaps:
        final = name[: -len(SWAP)]
        recovery.found(Kind.FINISHED_SWAP, f"{name} becomes {final}")
        fs.rename(recovery.path(name), recovery.path(final))
        recovery.sizes[final] = recovery.sizes.pop(name)
    fs.sync_dir(recovery.directory)


def _next_offset(recovery: _Recovery, name: str) -> int:
    """The offset after the last batch of a compacted segment."""
    fs: FileSystem = recovery.fs
    base = offset_of(name) or 0
    size = recovery.sizes[name]
    position = 0
    index = name.replace(LOG, INDEX)
    if index in recovery.sizes:
        data = fs.read_bytes(recovery.path(index))
        if len(data) % OffsetIndex.entry_size == 0:
            position = OffsetIndex.from_bytes(base, data, max(size, 1)).last()[1]
    following = base
    for _, header in walk_headers(fs.open(recovery.path(name)), position, size):
        following = header.next_offset
    return following
