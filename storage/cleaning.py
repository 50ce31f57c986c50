"""Compaction of one batch: what of it stays, and its new bytes. Pure.

A rewritten batch keeps base offset, last offset, producer id, epoch and sequences, so that every
offset stays readable and duplicates stay recognisable. A batch that loses all its records goes,
unless it is the last one of a producer or the last one of the round: then its header stays alone.
Tombstones and transaction markers first get a delete horizon (KIP-534: in the header's base
timestamp, now + delete.retention.ms) and go in a round after it has passed.

Generators here yield now and then while they work through a large batch and return the result, so
that whoever runs them on an event loop can serve somebody else in between.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Final, NamedTuple

from protocol import batch as batches
from protocol.batch import BatchHeader
from protocol.compression import NONE
from protocol.legacy import AnyHeader, any_records, build_set
from protocol.record import Record
from protocol.wire import Buffer
from storage.aborted import AbortedTxn
from storage.compaction import OffsetMap, TransactionsSeen

RECORDS_A_SLICE: Final = 256


class LastOfProducer(NamedTuple):
    """Which batch holds the last thing known of a producer: the one that ends with
    `last_offset`, or when there is none (-1) a marker of `epoch`."""

    last_offset: int
    epoch: int


class Kept(NamedTuple):
    """A batch that stays, perhaps rewritten."""

    data: Buffer
    last_offset: int
    max_timestamp: int
    records: int
    whole: bool  # as it was


class BatchFilter:
    """Decides batch by batch, in offset order, over the segments of one round."""

    __slots__ = (
        "_delete_retention_ms",
        "_last_of",
        "_limit",
        "_now_ms",
        "_offsets",
        "_round_end",
        "aborted_kept",
        "legacy_deletes_stay",
        "transactions",
    )

    def __init__(
        self,
        offsets: OffsetMap,
        last_of_producers: Mapping[int, LastOfProducer],
        *,
        now_ms: int,
        delete_retention_ms: int,
        round_end: int,
        limit: int,
    ) -> None:
        """`round_end` is the first uncleanable offset; `limit` bounds a decompressed batch."""
        self._offsets = offsets
        self._last_of = last_of_producers
        self._now_ms = now_ms
        self._delete_retention_ms = delete_retention_ms
        self._round_end = round_end
        self._limit = limit
        self.transactions = TransactionsSeen()
        # Formats 0 and 1 have no delete horizon: the runner says it segment by segment.
        self.legacy_deletes_stay = True
        # Index entries of aborted transactions whose marker stays; the runner takes them away.
        self.aborted_kept: list[AbortedTxn] = []

    def apply(
        self, header: AnyHeader, data: Buffer, pos: int = 0
    ) -> Generator[None, None, Kept | None]:
        """What stays of the batch (or old message) `data[pos:]`, None when nothing does.

        Raises CorruptRecord or InvalidRecord when it cannot be read.
        """
        if not isinstance(header, BatchHeader):
            return (yield from self._filter(header, data, pos))
        if header.control:
            needless = self._marker_is_needless(header, data, pos)
            horizon = header.delete_horizon
            drop = needless and horizon is not None and horizon <= self._now_ms
            if not drop and header.record_count:
                return self._keep_marker(header, data, pos, needless)
            return self._empty(header) if self._holds_state(header) else None
        aborted = self.transactions.on_data(
            header.producer_id, header.last_offset, header.transactional
        )
        if not aborted and header.record_count:
            kept = yield from self._filter(header, data, pos)
            if kept is not None:
                return kept
        return self._empty(header) if self._holds_state(header) else None

    def _holds_state(self, header: BatchHeader) -> bool:
        """Whether the header must stay even when no record does."""
        if header.next_offset == self._round_end:
            return True  # otherwise the log could seem to end earlier
        last = self._last_of.get(header.producer_id) if header.producer_id >= 0 else None
        if last is None:
            return False
        if last.last_offset >= 0:
            return header.last_offset == last.last_offset
        return header.control and header.producer_epoch == last.epoch

    def _marker_is_needless(self, header: BatchHeader, data: Buffer, pos: int) -> bool:
        kind = batches.control_type(data, pos, header) if header.record_count else None
        if kind not in (None, batches.CONTROL_ABORT, batches.CONTROL_COMMIT):
            return False
        committed = None if kind is None else kind == batches.CONTROL_COMMIT
        needless, entry = self.transactions.on_marker(
            header.producer_id, header.last_offset, committed
        )
        if entry is not None:
            self.aborted_kept.append(entry)
        return needless

    def _keep_marker(self, header: BatchHeader, data: Buffer, pos: int, needless: bool) -> Kept:
        if not needless or header.delete_horizon is not None:
            return _whole(header, data, pos, header.record_count)
        records = list(any_records(data, pos, header, self._limit))
        return self._rebuild(header, records, self._now_ms + self._delete_retention_ms)

    def _filter(
        self, header: AnyHeader, data: Buffer, pos: int
    ) -> Generator[None, None, Kept | None]:
        horizon = header.delete_horizon
        if header.magic < 2:
            deletes_stay = self.legacy_deletes_stay
        else:
            deletes_stay = horizon is None or self._now_ms < horizon
        kept: list[Record] = []
        tombstones = False
        count = 0
        for record in any_records(data, pos, header, self._limit):
            count += 1
            if count % RECORDS_A_SLICE == 0:
                yield
            if self._stays(record, deletes_stay):
                kept.append(record)
                tombstones = tombstones or record.value is None
        if not kept:
            return None
        set_horizon = tombstones and horizon is None and header.magic == 2
        if len(kept) == count and not set_horizon:
            return _whole(header, data, pos, count)
        if count >= RECORDS_A_SLICE:
            yield
        if not isinstance(header, BatchHeader):
            return _rebuild_old(header, kept)
        if set_horizon:
            horizon = self._now_ms + self._delete_retention_ms
        return self._rebuild(header, kept, horizon)

    def _stays(self, record: Record, deletes_stay: bool) -> bool:
        offset = record.offset
        if offset > self._offsets.latest_offset:
            return True
        key = record.key
        if key is None or offset < self._offsets.get(key):
            return False
        return deletes_stay or record.value is not None

    def _rebuild(self, header: BatchHeader, kept: list[Record], horizon: int | None) -> Kept:
        newest = header.max_timestamp
        if not header.append_time:
            newest = max((record.timestamp for record in kept), default=newest)
        data = batches.build(
            kept,
            base_offset=header.base_offset,
            codec=header.codec if kept else NONE,
            append_time=header.append_time,
            producer_id=header.producer_id,
            producer_epoch=header.producer_epoch,
            base_sequence=header.base_sequence,
            transactional=header.transactional,
            control=header.control,
            leader_epoch=header.leader_epoch,
            delete_horizon=horizon,
            last_offset_delta=header.last_offset_delta,
            max_timestamp=newest,
        )
        return Kept(data, header.last_offset, newest, len(kept), False)

    def _empty(self, header: BatchHeader) -> Kept:
        return self._rebuild(header, [], None)


def _whole(header: AnyHeader, data: Buffer, pos: int, records: int) -> Kept:
    view = memoryview(data)[pos : pos + header.size]
    return Kept(view, header.last_offset, header.max_timestamp, records, True)


def _rebuild_old(header: AnyHeader, kept: list[Record]) -> Kept:
    data = build_set(kept, header.magic, codec=header.codec, append_time=header.append_time)
    newest = max(record.timestamp for record in kept)
    return Kept(data, kept[-1].offset, newest, len(kept), False)


def learn(
    offsets: OffsetMap,
    transactions: TransactionsSeen,
    header: AnyHeader,
    data: Buffer,
    pos: int,
    *,
    start: int,
    limit: int,
) -> Generator[None, None, bool]:
    """Notes the keys of one batch at or above offset `start`. False when the map is full."""
    if isinstance(header, BatchHeader) and header.control:
        kind = batches.control_type(data, pos, header) if header.record_count else None
        if kind in (None, batches.CONTROL_ABORT, batches.CONTROL_COMMIT):
            committed = None if kind is None else kind == batches.CONTROL_COMMIT
            transactions.on_marker(header.producer_id, header.last_offset, committed)
    elif not transactions.on_data(header.producer_id, header.last_offset, header.transactional):
        for count, record in enumerate(any_records(data, pos, header, limit), 1):
            if count % RECORDS_A_SLICE == 0:
                yield
            key = record.key
            if key is not None and record.offset >= start and not offsets.put(key, record.offset):
                return False
    if header.last_offset >= start:
        offsets.reached(header.last_offset)
    return True
