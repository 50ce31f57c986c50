"""The transaction index of a segment: transactions that a marker in it aborted.

    .txnindex  34 bytes: int16 version 0, int64 producer id, int64 first offset, int64 last offset
               (of the marker), int64 last stable offset

Readers with isolation level read_committed skip the data of these (KIP-98). Entries are in the
order of their markers. The file is made when a segment has its first one.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple

from storage.errors import StorageError

TXN_ENTRY: Final = 34
VERSION: Final = 0

_ENTRY = Struct(">hqqqq")


class CorruptTxnIndex(StorageError):
    """A transaction index that cannot belong to its segment; it is rebuilt."""


class AbortedTxn(NamedTuple):
    """One aborted transaction. `last_stable_offset` is the log's when its marker was written."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


def encode(transactions: Iterable[AbortedTxn]) -> bytes:
    """The entries as the file has them."""
    return b"".join(_ENTRY.pack(VERSION, *transaction) for transaction in transactions)


def decode(data: bytes, base_offset: int) -> list[AbortedTxn]:
    """The entries of a file. Raises CorruptTxnIndex when it is cut off, of another version, or
    not in order."""
    if len(data) % TXN_ENTRY:
        raise CorruptTxnIndex(f"{len(data)} bytes are no multiple of {TXN_ENTRY}")
    entries = []
    last = base_offset - 1
    for version, *fields in _ENTRY.iter_unpack(data):
        transaction = AbortedTxn(*fields)
        if version != VERSION:
            raise CorruptTxnIndex(f"an entry has version {version}, {VERSION} is known")
        if transaction.last_offset <= last:
            raise CorruptTxnIndex(f"offset {transaction.last_offset} comes after {last}")
        last = transaction.last_offset
        entries.append(transaction)
    return entries


def collect(
    transactions: Iterable[AbortedTxn], start_offset: int, upper_offset: int
) -> tuple[list[tuple[int, int]], bool]:
    """(producer id, first offset) of the transactions that touch offsets from `start_offset` to
    below `upper_offset`, and whether later segments can have none of them any more."""
    found = []
    for transaction in transactions:
        if transaction.last_offset >= start_offset and transaction.first_offset < upper_offset:
            found.append((transaction.producer_id, transaction.first_offset))
        if transaction.last_stable_offset >= upper_offset:
            return found, True
    return found, False
