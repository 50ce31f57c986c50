"""The engine of `odradek dump-log`: prints what the files of a log hold and checks it.

The lines are those of Apache Kafka's DumpLogSegments, so that tools and habits carry over. Every
check is made whatever is printed; what is wrong is said in lines of its own, and then the exit
status is 1. Offset gaps are said too, but compaction and transactions leave them rightly.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from posixpath import basename, splitext
from struct import Struct
from typing import Final, NamedTuple, TextIO

from protocol import batch as batches
from protocol import legacy
from protocol.batch import LENGTH_END, BatchHeader
from protocol.compression import NAMES, NONE, decompress
from protocol.errors import CorruptRecord, Malformed
from protocol.legacy import AnyHeader
from protocol.record import Record
from protocol.record_errors import InvalidRecord
from storage.filesystem import File, FileSystem, RealFileSystem
from storage.producers import CorruptSnapshot, ProducerEntry, decode_snapshot

DECOMPRESSED_LIMIT: Final = 1 << 30
_MAGIC_AT: Final = legacy.MAGIC_AT
_SIZE = Struct(">i")
_INDEX_ENTRY = Struct(">ii")
_TIME_ENTRY = Struct(">qi")
_TXN_ENTRY = Struct(">hqqqq")
_CONTROL_KEY = Struct(">hh")
_MARKER = Struct(">hi")

_USAGE: Final = (
    "options: --print-data-log --deep-iteration --skip-record-metadata --verify-index-only "
    "--index-sanity-check"
)


class Options(NamedTuple):
    """What to print; the checks are the same for all."""

    print_data: bool = False
    deep: bool = False
    skip_record_metadata: bool = False
    verify_index_only: bool = False
    index_sanity_check: bool = False


_OPTIONS: Final = {
    "--print-data-log": Options(print_data=True, deep=True),
    "--deep-iteration": Options(deep=True),
    "--skip-record-metadata": Options(skip_record_metadata=True),
    "--verify-index-only": Options(verify_index_only=True),
    "--index-sanity-check": Options(index_sanity_check=True),
}


class Batch(NamedTuple):
    """A whole batch or top-level message of any magic where it lies in a file."""

    position: int
    data: bytes
    header: AnyHeader


class Dump:
    """One run: where lines go and whether anything was wrong."""

    def __init__(self, fs: FileSystem, out: TextIO, options: Options) -> None:
        self.fs = fs
        self.out = out
        self.options = options
        self.corrupt = False

    def say(self, line: str) -> None:
        self.out.write(line + "\n")

    def wrong(self, line: str) -> None:
        """Something that makes the exit status 1."""
        self.corrupt = True
        self.say(line)

    def file(self, path: str) -> None:
        """Prints one file by what its name says it is."""
        self.say(f"Dumping {path}")
        name = basename(path)
        ending = splitext(name)[1]
        if ending in {".deleted", ".cleaned", ".swap"}:
            ending = splitext(splitext(name)[0])[1]
        checkpoints = ("leader-epoch-checkpoint", "-offset-checkpoint")
        printer = _PRINTERS.get(ending)
        if printer is None and name.endswith(checkpoints):
            printer = Dump.checkpoint
        if printer is None:
            self.wrong(f"Ignoring unknown file {path}")
            return
        try:
            printer(self, path)
        except OSError as error:
            self.wrong(f"{path}: {error.strerror or error}")

    # --- segments

    def log(self, path: str) -> None:
        self.say(f"Log starting offset: {_base_offset(path)}")
        file = self.fs.open(path)
        end = 0
        last = -1
        gaps: list[tuple[int, int]] = []
        for batch in read_batches(file):
            end = batch.position + len(batch.data)
            last = self.batch(batch, last, gaps, _base_offset(path))
        trailing = file.size - end
        if trailing:
            self.wrong(f"Found {trailing} invalid bytes at the end of {basename(path)}")
        if gaps:
            self.say(f"Non-consecutive offsets in {path}")
            for before, after in gaps:
                self.say(f"  {before} is followed by {after}")

    def batch(self, batch: Batch, last: int, gaps: list[tuple[int, int]], base: int) -> int:
        """Prints and checks one batch; returns its last offset."""
        header = batch.header
        valid = legacy.any_crc_ok(batch.data, 0, header)
        self.say(_batch_line(batch, valid))
        if not valid:
            self.wrong(f"The batch at position {batch.position} is corrupt: its CRC is wrong.")
            return header.last_offset
        try:
            records = list(legacy.any_records(batch.data, 0, header, DECOMPRESSED_LIMIT))
        except (Malformed, CorruptRecord, InvalidRecord) as error:
            self.wrong(f"The batch at position {batch.position} is corrupt: {error}")
            return header.last_offset
        for record in records:
            if record.offset <= last or record.offset < base:
                self.wrong(
                    f"The offset {record.offset} at position {batch.position} is out of order: "
                    f"{last} came before."
                )
            elif last >= 0 and record.offset != last + 1:
                gaps.append((last, record.offset))
            last = record.offset
        if self.options.deep:
            crcs = _message_crcs(batch)
            for index, record in enumerate(records):
                crc = crcs[index] if index < len(crcs) else -1
                self.say(self.record_line(header, record, crc))
        return last

    def record_line(self, header: AnyHeader, record: Record, crc: int) -> str:
        parts = ["|"]
        if not self.options.skip_record_metadata:
            parts.append(
                f"offset: {record.offset} {_timestamp_type(header)}: {record.timestamp} "
                f"keySize: {_size(record.key)} valueSize: {_size(record.value)}"
            )
            if isinstance(header, BatchHeader):
                keys = ",".join(key for key, _ in record.headers)
                parts.append(f"sequence: {_sequence(header, record)} headerKeys: [{keys}]")
            else:
                parts.append(f"isValid: true crc: {crc}}}")
            if header.control:
                parts.append(_control_text(record))
        if self.options.print_data and not header.control:
            if record.key is not None:
                parts.append(f"key: {_text(record.key)}")
            if record.value is not None:
                parts.append(f"payload: {_text(record.value)}")
        return " ".join(parts)

    # --- indexes

    def index(self, path: str) -> None:
        data = self.entries(path, _INDEX_ENTRY)
        if data is None:
            return
        base = _base_offset(path)
        log = self.beside(path)
        mismatches = []
        previous = (-1, -1)
        for number, (delta, position) in enumerate(_INDEX_ENTRY.iter_unpack(data)):
            if delta == 0 and (number > 0 or position == 0):
                break  # preallocated and never trimmed: zeros to the end
            if delta < 0 or delta <= previous[0] or position <= previous[1]:
                self.wrong(f"Index entry {number} of {path} is not above the one before it.")
            previous = (delta, position)
            if log is not None:
                mismatches += self.index_entry(path, log, base + delta, position)
            if not self.options.verify_index_only:
                self.say(f"offset: {base + delta} position: {position}")
        if mismatches:
            self.wrong(f"Mismatches in :{path}")
            for ours, theirs in mismatches:
                self.say(f"  Index offset: {ours}, log offset: {theirs}")

    def index_entry(
        self, path: str, log: File, offset: int, position: int
    ) -> list[tuple[int, int]]:
        """The entry's mismatch with the batch it points at: that may begin and end before the
        entry's offset (one entry for several batches appended at once), but not begin behind."""
        batch = _batch_at(log, position)
        if batch is None:
            self.wrong(f"Index entry {offset} of {path} points at no batch: {position}.")
            return []
        if batch.header.base_offset > offset and batch.header.magic == 2:
            return [(offset, batch.header.last_offset)]
        return []

    def time_index(self, path: str) -> None:
        data = self.entries(path, _TIME_ENTRY)
        if data is None:
            return
        base = _base_offset(path)
        log = self.beside(path)
        newest = _newest_by_offset(log) if log is not None else []
        previous = -(1 << 63)
        for number, (timestamp, delta) in enumerate(_TIME_ENTRY.iter_unpack(data)):
            if delta == 0 and timestamp == 0 and len(data) > _TIME_ENTRY.size:
                break  # preallocated and never trimmed: zeros to the end
            if timestamp <= previous and number > 0:
                self.wrong(
                    f"Found out of order timestamp in :{path}\n"
                    f"  Index timestamp: {timestamp}, Previously indexed timestamp: {previous}"
                )
            previous = timestamp
            later = _newest_up_to(newest, base + delta)
            if later is not None and later > timestamp:
                self.wrong(
                    f"Found timestamp mismatch in :{path}\n"
                    f"  Index timestamp: {timestamp}, log timestamp: {later}"
                )
            if not self.options.verify_index_only:
                self.say(f"timestamp: {timestamp} offset: {base + delta}")

    def entries(self, path: str, entry: Struct) -> bytes | None:
        """An index file's bytes, None when there is nothing more to print about it."""
        data = self.fs.read_bytes(path)
        if len(data) % entry.size:
            self.wrong(f"{path} has {len(data)} bytes, not a multiple of {entry.size}.")
            data = data[: len(data) - len(data) % entry.size]
        if not data:
            self.say(f"{path} is empty.")
            return None
        if self.options.index_sanity_check:
            if not self.corrupt:
                self.say(f"{path} passed sanity check.")
            return None
        return data

    def beside(self, path: str) -> File | None:
        """The `.log` of the same segment, None when it is not there."""
        log = path[: len(path) - len(basename(path))] + basename(path).split(".")[0] + ".log"
        if not self.fs.exists(log):
            self.wrong(f"{log} is missing: the entries cannot be checked against it.")
            return None
        return self.fs.open(log)

    def txn_index(self, path: str) -> None:
        data = self.fs.read_bytes(path)
        if len(data) % _TXN_ENTRY.size:
            self.wrong(f"{path} has {len(data)} bytes, not a multiple of {_TXN_ENTRY.size}.")
        data = data[: len(data) - len(data) % _TXN_ENTRY.size]
        previous = -1
        for version, producer_id, first, last, stable in _TXN_ENTRY.iter_unpack(data):
            self.say(
                f"version: {version} producerId: {producer_id} firstOffset: {first} "
                f"lastOffset: {last} lastStableOffset: {stable}"
            )
            if version != 0 or not first <= last or last <= previous:
                self.wrong(f"The entry before this line in {path} is out of order.")
            previous = last

    # --- the rest

    def snapshot(self, path: str) -> None:
        try:
            entries = decode_snapshot(self.fs.read_bytes(path))
        except CorruptSnapshot as error:
            self.wrong(f"{path}: {error}")
            return
        for entry in entries:
            self.say(_producer_line(entry))

    def checkpoint(self, path: str) -> None:
        lines = self.fs.read_bytes(path).decode("utf-8", "replace").split("\n")
        if lines == [""]:
            self.say(f"{path} is empty.")
            return
        entries = [line for line in lines[2:] if line]
        for line in lines[:2]:
            self.say(line)
        columns = 2 if basename(path).startswith("leader-epoch") else 3
        for line in entries:
            self.say(line)
            words = line.split(" ")
            if len(words) != columns or not all(_is_number(word) for word in words[columns - 2 :]):
                self.wrong(f"{path} has a malformed line: {line}")
        if lines[0] != "0" or len(lines) < 2 or lines[1] != str(len(entries)):
            self.wrong(f"{path}: version or number of entries is wrong.")


_PRINTERS: Final[dict[str, Callable[[Dump, str], None]]] = {
    ".log": Dump.log,
    ".index": Dump.index,
    ".timeindex": Dump.time_index,
    ".txnindex": Dump.txn_index,
    ".snapshot": Dump.snapshot,
}


def dump(arguments: Sequence[str], out: TextIO, fs: FileSystem | None = None) -> int:
    """Prints files (and understands Kafka's options among `arguments`) to `out`.

    Returns the exit status: 1 when a file is corrupt, unreadable or not known, or an option is not.
    """
    options = Options()
    paths = []
    for argument in arguments:
        if argument.startswith("--"):
            chosen = _OPTIONS.get(argument)
            if chosen is None:
                out.write(f"dump-log does not know {argument}; {_USAGE}.\n")
                return 1
            options = Options(*(a or b for a, b in zip(options, chosen, strict=True)))
        else:
            paths += [path for path in argument.split(",") if path]
    run = Dump(fs or RealFileSystem(), out, options)
    for path in paths:
        run.file(path)
    return 1 if run.corrupt else 0


def read_batches(file: File, position: int = 0) -> Iterator[Batch]:
    """Every whole batch from `position` on; stops at the first thing that cannot be one."""
    while True:
        batch = _batch_at(file, position)
        if batch is None:
            return
        yield batch
        position += len(batch.data)


def _batch_at(file: File, position: int) -> Batch | None:
    head = file.pread(_MAGIC_AT + 1, position)
    if len(head) < _MAGIC_AT + 1:
        return None
    size = LENGTH_END + _SIZE.unpack_from(head, 8)[0]
    if size < LENGTH_END + legacy.MIN_SIZE or position + size > file.size:
        return None
    data = bytes(file.pread(size, position))
    try:
        for _, header in legacy.any_batches(data):
            return Batch(position, data, header)
    except Malformed:
        pass
    return None


def _timestamp_type(header: AnyHeader) -> str:
    if header.magic == 0:
        return "NoTimestampType"
    return "LogAppendTime" if header.append_time else "CreateTime"


def _batch_line(batch: Batch, valid: bool) -> str:
    header = batch.header
    if isinstance(header, BatchHeader):
        start = (
            f"baseOffset: {header.base_offset} lastOffset: {header.last_offset} "
            f"count: {header.record_count} baseSequence: {header.base_sequence} "
            f"lastSequence: {header.last_sequence} producerId: {header.producer_id} "
            f"producerEpoch: {header.producer_epoch} "
            f"partitionLeaderEpoch: {header.leader_epoch} "
            f"isTransactional: {_bool(header.transactional)} "
            f"isControl: {_bool(header.control)} "
            f"deleteHorizonMs: {_optional(header.delete_horizon)}"
        )
    else:
        start = f"offset: {header.last_offset}"
    return (
        f"{start} position: {batch.position} {_timestamp_type(header)}: {header.max_timestamp} "
        f"size: {header.size} magic: {header.magic} compresscodec: {_codec_name(header.codec)} "
        f"crc: {header.crc} isvalid: {_bool(valid)}"
    )


def _codec_name(codec: int) -> str:
    return NAMES[codec] if codec < len(NAMES) else str(codec)


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _optional(value: int | None) -> str:
    return "OptionalLong.empty" if value is None else f"OptionalLong[{value}]"


def _size(data: bytes | memoryview | None) -> int:
    return -1 if data is None else len(data)


def _text(data: bytes | memoryview) -> str:
    return bytes(data).decode("utf-8", "replace")


def _sequence(header: BatchHeader, record: Record) -> int:
    if header.base_sequence < 0:
        return -1
    return (header.base_sequence + record.offset - header.base_offset) & batches.MAX_INT32


def _message_crcs(batch: Batch) -> list[int]:
    """CRCs of the messages of magic 0 or 1 in `batch`, which has been read through before."""
    header, data = batch.header, batch.data
    if isinstance(header, BatchHeader):
        return []
    if header.codec == NONE:
        return [header.crc]
    key_at = 26 if header.magic else 18
    value_at = key_at + 8 + max(0, _SIZE.unpack_from(data, key_at)[0])
    value = memoryview(data)[value_at:]
    inner = decompress(header.codec, value, DECOMPRESSED_LIMIT, legacy_lz4=header.magic == 0)
    return [message.crc for _, message in legacy.any_batches(inner)]


def _control_text(record: Record) -> str:
    key, value = record.key or b"", record.value or b""
    kind = _CONTROL_KEY.unpack_from(key)[1] if len(key) >= _CONTROL_KEY.size else -1
    if kind in (batches.CONTROL_ABORT, batches.CONTROL_COMMIT) and len(value) >= _MARKER.size:
        name = "COMMIT" if kind == batches.CONTROL_COMMIT else "ABORT"
        return f"endTxnMarker: {name} coordinatorEpoch: {_MARKER.unpack_from(value)[1]}"
    name = {2: "LEADER_CHANGE", 3: "SNAPSHOT_HEADER", 4: "SNAPSHOT_FOOTER"}.get(kind, "UNKNOWN")
    return f"controlType: {name}({kind})"


def _producer_line(entry: ProducerEntry) -> str:
    line = (
        f"producerId: {entry.producer_id} producerEpoch: {entry.epoch} "
        f"coordinatorEpoch: {entry.coordinator_epoch} currentTxnFirstOffset: "
        f"{_optional(entry.txn_first_offset if entry.txn_first_offset >= 0 else None)} "
        f"lastTimestamp: {entry.last_timestamp} "
    )
    if entry.batches:
        last = entry.batches[-1]
        line += (
            f"firstSequence: {last.first_sequence} lastSequence: {last.last_sequence} "
            f"lastOffset: {last.last_offset} offsetDelta: {last.offset_delta} "
            f"timestamp: {last.timestamp}"
        )
    return line


def _newest_by_offset(log: File) -> list[tuple[int, int]]:
    """(last offset, largest timestamp so far) after each batch."""
    newest = -1
    found = []
    for batch in read_batches(log):
        newest = max(newest, batch.header.max_timestamp)
        found.append((batch.header.last_offset, newest))
    return found


def _newest_up_to(newest: list[tuple[int, int]], offset: int) -> int | None:
    """Largest timestamp among batches that end at or before `offset`."""
    number = bisect_right(newest, offset, key=lambda pair: pair[0])
    return newest[number - 1][1] if number else None


def _base_offset(path: str) -> int:
    name = basename(path).split(".")[0]
    return int(name) if _is_number(name) else 0


def _is_number(text: str) -> bool:
    return text.isascii() and (text.isdigit() or (text[:1] == "-" and text[1:].isdigit()))
