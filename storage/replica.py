"""Batches that are decided already: a leader's, taken by a follower; and what any batch tells of
its producer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.batch import HEADER_SIZE, BatchHeader, end_txn_marker
from protocol.errors import Malformed
from storage import rolling
from storage.aborted import AbortedTxn
from storage.append import Appended
from storage.errors import CorruptRecord, InvalidRecord, UnexpectedAppendOffset
from storage.scan import crc_ok, header_at

if TYPE_CHECKING:
    from storage.log import Log
    from storage.producers import Origin


def append(log: Log, records: memoryview, now_ms: int) -> None:
    """See `Log.append_as_follower`."""
    position = 0
    end = len(records)
    try:
        while True:
            header = header_at(records, position, end - position)
            if header is None or header.size > end - position:
                if header is None and end - position >= HEADER_SIZE:
                    raise CorruptRecord("What the leader sent is no record batch.")
                break
            _stage(log, records[position : position + header.size], header, now_ms)
            position += header.size
    finally:
        log.write_staged()


def _stage(log: Log, batch: memoryview, header: BatchHeader, now_ms: int) -> None:
    if not crc_ok(batch, 0, header):
        raise CorruptRecord(f"The CRC of the batch at offset {header.base_offset} is wrong.")
    base_offset, last = header.base_offset, header.last_offset
    if base_offset < log.next_offset:
        _begin_before_log_start(log, header, now_ms)
    size = len(batch)
    if (
        log.active.end + size > log.active.room
        or header.max_timestamp > log.roll_after
        or last > log.last_possible
    ):
        rolling.make_room(log, size, header.max_timestamp, last, now_ms)
    if header.producer_id >= 0:
        # After rolling: a snapshot must not know this batch yet.
        track(log, batch, header, base_offset, "replication")
    if header.leader_epoch > log.epochs.latest:
        log.epochs.assign(header.leader_epoch, base_offset)
    log.tail[base_offset] = log.active.end
    log.active.add(size, last, header.max_timestamp)
    log.staged.append(batch)
    log.next_offset = last + 1


def _begin_before_log_start(log: Log, header: BatchHeader, now_ms: int) -> None:
    """Where DeleteRecords has put the leader's log start into the middle of a batch, an empty log
    that begins there is sent the whole batch: it begins with that, and its log start stays.

    Raises UnexpectedAppendOffset if it is not that.
    """
    from storage import trim

    start = log.log_start_offset
    if not (log.next_offset == start and header.base_offset < start <= header.last_offset):
        raise UnexpectedAppendOffset(
            f"A batch from offset {header.base_offset} on cannot follow offset {log.next_offset}."
        )
    trim.start_over(log, header.base_offset, now_ms, start)


def track(
    log: Log, batch: memoryview, header: BatchHeader, base_offset: int, origin: Origin
) -> Appended | None:
    """Idempotence and transactions of a batch to be staged. Returns the answer for a duplicate.

    Raises what `Log.stage` says of producers.
    """
    if header.control:
        try:
            marker = end_txn_marker(batch, 0, header)
        except Malformed as error:
            raise InvalidRecord(f"The control batch cannot be read: {error}") from None
        if marker is not None:
            _end_transaction(log, header, marker, base_offset, origin)
        return None
    earlier = log.producers.check_and_append(header, base_offset, origin)
    if earlier is None:
        return None
    return Appended(
        earlier.base_offset,
        earlier.last_offset,
        earlier.timestamp,
        log.log_start_offset,
        True,
        header.base_timestamp,
        header.max_timestamp,
    )


def _end_transaction(
    log: Log, header: BatchHeader, marker: tuple[bool, int], offset: int, origin: Origin
) -> None:
    committed, coordinator_epoch = marker
    done = log.producers.append_marker(
        header.producer_id,
        header.producer_epoch,
        offset,
        committed=committed,
        coordinator_epoch=coordinator_epoch,
        timestamp=header.max_timestamp,
        origin=origin,
    )
    if done is not None and done.aborted:
        log.active.add_aborted(
            AbortedTxn(
                done.producer_id, done.first_offset, done.last_offset, done.last_stable_offset
            )
        )


def replay(log: Log, data: bytes, at: int, header: BatchHeader) -> None:
    """Takes a batch that is in the log already into account in `Log.producers`."""
    if not header.control:
        log.producers.check_and_append(header, header.base_offset, "replication")
        return
    marker = end_txn_marker(data, at, header)
    if marker is not None:
        log.producers.append_marker(
            header.producer_id,
            header.producer_epoch,
            header.last_offset,
            committed=marker[0],
            coordinator_epoch=marker[1],
            timestamp=header.max_timestamp,
            origin="replication",
        )
        log.producers.on_high_watermark(log.high_watermark)
