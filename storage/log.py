"""One partition's log: append, and what moves its ends.

Single writer: everything here belongs to one thread, except what `flush_job` hands out. Batches
are staged (checked, given their offsets in place, queued) and then written together by one writev,
after which readers see them. Opening is `Log.open`, which always runs recovery. When segments
begin is in `rolling.py`, what followers take and producers tell in `replica.py`, reading in
`read.py`, truncation and removal of segments in `trim.py`, making it durable in `flush.py`.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Final, Literal

from protocol.batch import HEADER_SIZE, TRANSACTIONAL, BatchHeader, peek
from protocol.compression import ZSTD
from protocol.crc import crc32c
from protocol.wire import ZERO_UUID, Buffer
from storage import flush, read, recovery, replica, rolling, trim
from storage.append import Appended, examine, is_plain
from storage.errors import (
    CorruptRecord,
    InconsistentTopicId,
    LogDirOffline,
    OffsetOutOfRange,
    RecordBatchTooLarge,
)
from storage.filesystem import FileSystem
from storage.metadata import write_topic_id
from storage.producers import ProducerStates
from storage.read import LogSlice
from storage.segment import Segment

if TYPE_CHECKING:
    from storage.config import LogConfig
    from storage.epochs import LeaderEpochCache
    from storage.findings import Finding

__all__ = ["Appended", "Log", "LogSlice"]

logger = logging.getLogger(__name__)

Origin = Literal["client", "coordinator", "replication"]
Found = tuple[int, int, int]
"""Timestamp (ms), offset, leader epoch of a record."""

FLUSH_BYTES: Final = 64 << 20
"""A flush is due when so much was written since the last: that bounds a restart's reading."""
TAIL_MOST: Final = 48
TAIL_KEPT: Final = 16

_HEAD = Struct(">qii")  # base offset, length, leader epoch
_ORDINARY: Final = frozenset((*range(ZSTD + 1), *range(TRANSACTIONAL, TRANSACTIONAL + ZSTD + 1)))
"""Attributes that the ordinary case takes: any codec, transactional or not."""

_new = tuple.__new__
_unpack = peek
_patch = _HEAD.pack_into


class Log:
    """A partition's log. Offsets are absolute, sizes bytes, times ms since the epoch.

    `end_offset` is where readers stop; `next_offset` counts what is staged too. The high
    watermark and the log start offset are told by others and kept here.
    """

    __slots__ = (
        "_config",
        "_flush_messages",
        "_max_batch",
        "_plain",
        "active",
        "bases",
        "batches_flushed",
        "batches_written",
        "changes",
        "directory",
        "end_offset",
        "epochs",
        "failure",
        "findings",
        "flush_started_ms",
        "fs",
        "high_watermark",
        "io_lock",
        "last_possible",
        "log_start_offset",
        "next_offset",
        "on_failure",
        "partition",
        "pending_deletes",
        "pending_epochs",
        "pending_snapshots",
        "producers",
        "recovery_point",
        "roll_after",
        "segments",
        "snapshots",
        "staged",
        "synced_offset",
        "tail",
        "topic",
        "topic_id",
    )

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        topic: str,
        partition: int,
        config: LogConfig,
        state: recovery.Recovered,
    ) -> None:
        """Use `Log.open`."""
        self.fs = fs
        self.directory = directory
        self.topic = topic
        self.partition = partition
        self.topic_id = ZERO_UUID
        self.segments: list[Segment] = state.segments
        self.bases = [segment.base_offset for segment in state.segments]
        self.active = state.segments[-1]
        self.epochs: LeaderEpochCache = state.epochs
        self.producers: ProducerStates = state.producers
        self.snapshots: list[int] = state.snapshots  # offsets of the snapshot files, growing
        self.pending_snapshots: list[tuple[int, bytes]] = []  # of rolls, for the next flush
        self.pending_epochs: bytes | None = None  # what a flush under way writes of them
        self.batches_written = state.batches_read  # only ever grows, as does the next
        self.batches_flushed = 0
        self.findings: Sequence[Finding] = state.findings
        self.log_start_offset = state.log_start_offset
        self.end_offset = self.next_offset = state.end_offset
        self.high_watermark = state.log_start_offset
        self.recovery_point = state.recovery_point
        self.synced_offset = state.recovery_point  # data on disk up to there
        self.flush_started_ms = -1
        self.changes = 0  # truncations so far; tells a flush under way that it came too late
        self.failure: BaseException | None = None
        self.on_failure: Callable[[BaseException], None] | None = None
        self.pending_deletes: list[tuple[int, str]] = []  # due at, path
        self.io_lock = flush.new_lock()
        # Positions of the newest batches in the active segment, by base offset.
        self.tail: dict[int, int] = {}
        self.staged: list[Buffer] = []
        self.roll_after = 0  # a batch with a later timestamp may need a new segment
        self.last_possible = 0  # and one with a higher last offset does
        self.config = config

    @classmethod
    def open(
        cls,
        fs: FileSystem,
        directory: str,
        topic: str,
        partition: int,
        config: LogConfig,
        *,
        recovery_point: int,
        log_start_offset: int,
        clean: bool,
        now_ms: int,
        topic_id: bytes | None = None,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> Log:
        """Opens the log in `directory` (which is there), or begins one if it is empty.

        `recovery_point` and `log_start_offset` come from the checkpoints, 0 where they say
        nothing; `clean` tells that the last shutdown was. `on_failure(error)` is called once when
        an IO error takes the log offline. Raises OSError, InconsistentTopicId.
        """
        state = recovery.recover(
            fs,
            directory,
            config,
            recovery_point=recovery_point,
            log_start_offset=log_start_offset,
            clean=clean,
            now_ms=now_ms,
        )
        log = cls(fs, directory, topic, partition, config, state)
        log.on_failure = on_failure
        if state.topic_id is not None:
            log.topic_id = state.topic_id
        if topic_id is not None:
            log.assign_topic_id(topic_id)
        return log

    def __repr__(self) -> str:
        return f"Log({self.directory}, {self.log_start_offset} to {self.end_offset})"

    # --- settings and identity

    @property
    def config(self) -> LogConfig:
        """The topic's settings; replaceable at any time."""
        return self._config

    @config.setter
    def config(self, config: LogConfig) -> None:
        self._config = config
        self._plain = is_plain(config)
        self._max_batch = min(config.max_message_bytes, config.segment_bytes)
        self._flush_messages = config.flush_messages
        for segment in self.segments:
            segment.interval = config.index_interval_bytes
        rolling.set_limits(self)

    def assign_topic_id(self, topic_id: bytes) -> None:
        """Tells the topic id (16 bytes); kept in partition.metadata from now on.

        Raises InconsistentTopicId when the directory has another one, LogDirOffline.
        """
        if self.topic_id == topic_id or topic_id == ZERO_UUID:
            return
        if self.topic_id != ZERO_UUID:
            raise InconsistentTopicId(
                f"{self.directory} belongs to the topic with id {self.topic_id.hex()}, not to "
                f"{topic_id.hex()}."
            )
        try:
            write_topic_id(self.fs, self.directory, topic_id)
        except OSError as error:
            raise self.fail(error) from error
        self.topic_id = topic_id

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self.segments)

    @property
    def first_unstable_offset(self) -> int | None:
        """Where the oldest transaction begins whose end readers cannot see yet, None without."""
        return self.producers.first_unstable_offset

    @property
    def last_stable_offset(self) -> int:
        """Where read_committed readers stop."""
        unstable = self.producers.first_unstable_offset
        if unstable is None or unstable >= self.high_watermark:
            return self.high_watermark
        return max(unstable, self.log_start_offset)

    @property
    def earliest_epoch(self) -> int:
        """Leader epoch of the log start, -1 if not known."""
        return self.epochs.epoch_of(self.log_start_offset)

    @property
    def latest_epoch(self) -> int:
        """The newest leader epoch, -1 if none is known."""
        return self.epochs.latest

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        """(largest epoch at or below `epoch`, where it ends); (-1, -1) if that is not known."""
        return self.epochs.end_offset_for(epoch, self.end_offset)

    # --- append

    def stage(
        self, batch: memoryview, leader_epoch: int, now_ms: int, *, origin: Origin = "client"
    ) -> Appended:
        """Checks one batch of magic 2, assigns its offsets and queues it for `write_staged`.

        `batch` is exactly the batch, writable, and must stay as it is until it is written. With
        origin "coordinator" control batches are taken; "replication" keeps nothing else apart.
        Raises CorruptRecord, InvalidRecord, InvalidTimestamp, RecordTooLarge, RecordBatchTooLarge,
        UnsupportedCompression, OutOfOrderSequence, InvalidProducerEpoch, InvalidTxnState,
        CoordinatorFenced (nothing is appended then) and LogDirOffline.
        """
        size = len(batch)
        if size < HEADER_SIZE:
            raise CorruptRecord(f"A record batch of {size} bytes is too short.")
        header = _unpack(batch)
        (
            base, length, _, magic, crc, flags, delta, first, newest, producer, _, sequence, count
        ) = header  # fmt: skip
        base_offset = self.next_offset
        append_time = -1
        if (
            magic == 2
            and flags in _ORDINARY
            and base == 0
            and delta >= 0
            and count == delta + 1
            and length + 12 == size <= self._max_batch
            and self._plain
            and (producer < 0 or sequence >= 0)
        ):
            if crc32c(batch[21:]) != crc:
                raise CorruptRecord("The CRC of the record batch is wrong.")
        else:
            batch, header, append_time = examine(batch, self._config, now_ms, origin)
            size = len(batch)
            length, delta, first, newest = header[1], header[6], header[7], header[8]
            if size > self._config.segment_bytes:
                raise RecordBatchTooLarge(
                    f"A batch of {size} bytes does not fit into a segment of "
                    f"{self._config.segment_bytes} (segment.bytes)."
                )
        active = self.active
        position = active.end
        last = base_offset + delta
        if position + size > active.room or newest > self.roll_after or last > self.last_possible:
            rolling.make_room(self, size, newest, last, now_ms)
            active = self.active
            position = active.end
        if producer >= 0:  # after rolling: a snapshot must not know this batch yet
            earlier = replica.track(self, batch, _new(BatchHeader, header), base_offset, origin)
            if earlier is not None:
                return earlier
        if leader_epoch > self.epochs.latest:
            self.epochs.assign(leader_epoch, base_offset)
        _patch(batch, 0, base_offset, length, leader_epoch)
        active.add(size, last, newest)
        self.tail[base_offset] = position
        self.staged.append(batch)
        self.next_offset = last + 1
        return _new(
            Appended,
            (base_offset, last, append_time, self.log_start_offset, False, first, newest),
        )

    def write_staged(self) -> None:
        """Writes everything staged with one writev; from here on readers see it.

        Raises LogDirOffline when that fails: then nothing staged is in the log, whose directory
        is reported failed.
        """
        staged = self.staged
        if not staged:
            return
        active = self.active
        try:
            active.write(staged)
        except OSError as error:
            raise self._write_failed(error) from error
        self.staged = []
        self.batches_written += len(staged)
        self.end_offset = end = self.next_offset
        tail = self.tail
        if len(tail) > TAIL_MOST:
            self.tail = dict(list(tail.items())[-TAIL_KEPT:])
        if end - self.synced_offset >= self._flush_messages:
            self.sync()

    def append(
        self, batch: memoryview, leader_epoch: int, now_ms: int, *, origin: Origin = "client"
    ) -> Appended:
        """`stage` and `write_staged`."""
        appended = self.stage(batch, leader_epoch, now_ms, origin=origin)
        self.write_staged()
        return appended

    def append_as_follower(self, records: memoryview, now_ms: int = -1) -> None:
        """Appends batches fetched from the leader as they are: their offsets, their epochs.

        A partial batch at the end is left out. An empty log whose start is within the first batch
        begins with that batch, and keeps its start. `now_ms` (for rolling segments without
        timestamps) may be left out. Raises CorruptRecord, LogDirOffline, UnexpectedAppendOffset
        (nothing at or after the wrong batch is appended).
        """
        replica.append(self, records, now_ms)

    # --- rolling

    def roll(self, now_ms: int) -> None:
        """Begins a new segment at the log end; nothing if the active one is empty.

        What is staged is written first. Raises LogDirOffline.
        """
        rolling.roll(self, now_ms)

    def set_active(self) -> None:
        """The last of `segments` is appended to from now on."""
        self.active = self.segments[-1]
        self.tail = {}
        rolling.set_limits(self)

    # --- failures

    def fail(self, error: BaseException) -> LogDirOffline:
        """Takes the log offline because of an error of its directory; the exception to raise."""
        if self.failure is None:
            self.failure = error
            self.active.room = -1
            self.drop_staged()
            if self.on_failure is not None:
                self.on_failure(error)
        return self.offline()

    def offline(self) -> LogDirOffline:
        """The exception to raise once the log is offline."""
        return LogDirOffline(
            f"The directory of {self.topic}-{self.partition} failed: {self.failure}"
        )

    def _write_failed(self, error: OSError) -> LogDirOffline:
        active = self.active
        try:
            # A part of it may have got there; whole batches of it would come to life in recovery.
            active.file().truncate(active.size)
        except OSError as second:
            logger.error("%r cannot be cut back after a failed write: %s", active, second)
        logger.error("%r: write failed: %s", active, error)
        return self.fail(error)

    def drop_staged(self) -> None:
        """Forgets what is staged and not written."""
        self.staged = []
        self.next_offset = self.end_offset
        self.active.end = self.active.size
        self.tail = {base: at for base, at in self.tail.items() if base < self.end_offset}

    # --- ends

    def advance_high_watermark(self, offset: int) -> None:
        """Raises the high watermark (to the log end at most); a lower one changes nothing."""
        if offset > self.end_offset:
            offset = self.end_offset
        if offset > self.high_watermark:
            self.high_watermark = offset
            self.producers.on_high_watermark(offset)

    def advance_log_start_offset(self, offset: int) -> None:
        """Moves the log start up (DeleteRecords, or a follower told by its leader).

        Segments below go with the next retention round. Raises OffsetOutOfRange above the high
        watermark.
        """
        if offset > self.high_watermark:
            raise OffsetOutOfRange(
                f"The log start cannot move to {offset}, beyond the high watermark "
                f"{self.high_watermark}."
            )
        if offset > self.log_start_offset:
            self.log_start_offset = offset
            self.epochs.truncate_from_start(offset)
            self.producers.on_log_start_offset(offset)

    def truncate_to(self, offset: int) -> None:
        """Removes everything from `offset` on; the batch that holds it goes as a whole.

        A follower does this before it fetches from a new leader. Raises LogDirOffline.
        """
        trim.truncate_to(self, offset)

    def truncate_fully_and_start_at(self, offset: int, now_ms: int = 0) -> None:
        """Empties the log; the next batch gets `offset`. Raises LogDirOffline."""
        trim.start_over(self, offset, now_ms)

    def delete_oldest(self, count: int, now_ms: int) -> None:
        """Removes the first `count` segments (never the active one); the log starts after them.

        Their files go after file.delete.delay.ms (`delete_jobs`). Raises LogDirOffline.
        """
        trim.delete_oldest(self, count, now_ms)

    def replace_segments(
        self, cleaned: Sequence[Segment], old: Sequence[Segment], now_ms: int
    ) -> None:
        """Puts compacted segments (whose files are `.cleaned` and synced) in the place of `old`
        ones, by Kafka's renames: a crash at any point leaves one of the two. Raises
        LogDirOffline."""
        trim.replace_segments(self, cleaned, old, now_ms)

    def delete_jobs(self, now_ms: int) -> list[Callable[[], None]]:
        """Removals of files that are due; each may run in a thread and raises OSError."""
        return trim.delete_jobs(self, now_ms)

    # --- reading

    def segment_of(self, offset: int) -> int:
        """Index in `segments` of the one that may hold `offset` (0 when it is below all)."""
        return max(bisect_right(self.bases, offset) - 1, 0)

    def read(
        self, offset: int, max_bytes: int, upper_offset: int, *, min_one: bool = True
    ) -> LogSlice:
        """Bytes from the batch that holds `offset` on, at most `max_bytes` of them and below
        `upper_offset` (the high watermark, the last stable offset, or the log end).

        With `min_one` the first batch is whole even if it is larger, otherwise it must fit for
        anything to come; the end may cut a batch. Empty at or above `upper_offset`. Raises
        OffsetOutOfRange outside of [log_start_offset, end_offset], LogDirOffline.
        """
        return read.read(self, offset, max_bytes, upper_offset, min_one)

    def bound_of(self, found: LogSlice) -> int:
        """An offset above everything that was read: by the index, at most somewhat too high."""
        return read.bound_of(self, found)

    def aborted_transactions(self, start_offset: int, upper_offset: int) -> list[tuple[int, int]]:
        """(producer id, first offset) of aborted transactions with data in the range."""
        return read.aborted_transactions(self, start_offset, upper_offset)

    def offset_for_timestamp(self, timestamp: int) -> Found | None:
        """The first record at or after `timestamp`: (its timestamp, offset, leader epoch)."""
        return read.offset_for_timestamp(self, timestamp)

    def max_timestamp(self) -> Found | None:
        """The first record with the largest timestamp: (timestamp, offset, leader epoch)."""
        return read.max_timestamp(self)

    # --- durability

    def sync(self) -> None:
        """Data to disk, now (log.flush.interval.messages). Raises LogDirOffline."""
        flush.sync(self)

    def flush_due(self, now_ms: int) -> bool:
        """Whether `flush` should run: flush.ms has passed, a segment was rolled, or FLUSH_BYTES
        were written since the last one."""
        return flush.due(self, now_ms, FLUSH_BYTES)

    def flush_job(self) -> Callable[[], None]:
        """A flush of everything written so far, to be run anywhere, also while this log goes on.

        What it writes is taken now. The job raises OSError; the caller then fails the directory.
        """
        return flush.job(self)

    def flush(self, upto: int | None = None) -> None:
        """Data, indexes, epochs and a producer snapshot to disk; moves `recovery_point` there.

        `upto`: nothing to do if the recovery point is there already. Raises LogDirOffline.
        """
        flush.flush(self, upto)

    @property
    def unflushed_bytes(self) -> int:
        """Bytes that a restart after a crash would read again."""
        return flush.unflushed_bytes(self)

    @property
    def unflushed_batches(self) -> int:
        """Batches that a restart after a crash would read again, or somewhat more."""
        return self.batches_written - self.batches_flushed

    def close(self, clean: bool = True) -> None:
        """Ends the use of this log. With `clean` everything is flushed and every segment gets its
        indexes; otherwise only files are let go. Raises LogDirOffline."""
        flush.close(self, clean)
