"""The transaction index of a segment: transactions that ended in it with an abort marker.

`.txnindex` on disk: 34 bytes an entry, int16 version 0, int64 producer id, int64 first offset of
the transaction, int64 offset of its marker, int64 last stable offset once it had ended. Few, so all
of a segment's are kept in memory once asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple

from storage.errors import StorageError

ENTRY: Final = 34
_ENTRY: Final = Struct(">hqqqq")
_VERSION: Final = 0


class CorruptAbortedIndex(StorageError):
    """A transaction index that cannot be one; it is rebuilt from the log."""


class AbortedTxn(NamedTuple):
    """One aborted transaction."""

    producer_id: int
    first_offset: int
    last_offset: int  # of the abort marker
    last_stable_offset: int


def parse(data: bytes, base_offset: int) -> list[AbortedTxn]:
    """Reads a `.txnindex` file. Raises CorruptAbortedIndex."""
    if len(data) % ENTRY:
        raise CorruptAbortedIndex(f"{len(data)} bytes are no whole number of 34-byte entries")
    entries = []
    last = base_offset - 1
    for version, *fields in _ENTRY.iter_unpack(data):
        entry = AbortedTxn(*fields)
        if version != _VERSION or entry.first_offset > entry.last_offset <= last:
            raise CorruptAbortedIndex(f"entry {len(entries)} is out of order or of another version")
        last = entry.last_offset
        entries.append(entry)
    return entries


def encode(entries: Iterable[AbortedTxn]) -> bytes:
    """The file's bytes for these entries."""
    return b"".join([_ENTRY.pack(_VERSION, *entry) for entry in entries])
