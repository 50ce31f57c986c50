"""What tests of compaction share: a manager with one compacted log, and reading it record by
record."""

from typing import Any

from protocol import batch as batches
from protocol.legacy import any_batches, any_crc_ok, any_records
from protocol.record import Record
from storage.config import LogConfig
from storage.filesystem import FileSystem
from storage.log import Log
from storage.manager import LogManager

NOW = 1_700_000_000_000
TOPIC = "facts"
KEY = (TOPIC, 0)
LIMIT = 1 << 26
SMALL = {
    "cleanup.policy": "compact",
    "segment.bytes": "400",
    "index.interval.bytes": "64",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "1000",
    "file.delete.delay.ms": "0",
}


def settings(**more: Any) -> LogConfig:
    """Small segments; names with underscores."""
    return LogConfig.from_strings(
        SMALL | {name.replace("_", "."): str(value) for name, value in more.items()}
    )


def manager(
    fs: FileSystem, config: LogConfig | None = None, now_ms: int = NOW, **more: Any
) -> LogManager:
    """A manager of /data, loaded; one that was there before ended without a word."""
    fs.locked.clear()
    made = LogManager(fs, ["/data"], config or settings(), broker_id=1, cluster_id="c", **more)
    made.load({}, now_ms)
    return made


def facts(logs: LogManager, now_ms: int = NOW) -> Log:
    """The log under test."""
    return logs.get_or_create(*KEY, None, None, now_ms)


def put(
    log: Log, *keyed: tuple[str | None, str | None], now_ms: int = NOW, epoch: int = 0, **more: Any
) -> int:
    """Appends one batch of (key, value) records as the leader, all replicated; its base offset."""
    records = [
        Record(n, now_ms, None if k is None else k.encode(), None if v is None else v.encode())
        for n, (k, v) in enumerate(keyed)
    ]
    return append(log, batches.build(records, **more), now_ms, epoch)


def append(log: Log, data: bytes, now_ms: int = NOW, epoch: int = 0) -> int:
    """Appends a batch made elsewhere, markers included, and has it replicated."""
    origin = "coordinator" if batches.parse_header(data).control else "client"
    done = log.append(memoryview(bytearray(data)), epoch, now_ms, origin=origin)  # type: ignore[arg-type]
    log.advance_high_watermark(log.end_offset)
    return done.base_offset


def compact(logs: LogManager, now_ms: int = NOW) -> int:
    """Runs a whole round; how many slices it took."""
    slices = 0
    for job in logs.compact(now_ms):
        slices += 1
        if job is not None:
            job()
    return slices


def all_bytes(log: Log, upper: int | None = None) -> bytes:
    """Everything from the log start to `upper` (default: the end)."""
    upper = log.end_offset if upper is None else upper
    offset = log.log_start_offset
    pieces = []
    while offset < upper:
        data = log.read(offset, 1 << 20, upper).bytes()
        if not data:
            break
        pieces.append(data)
        for _, header in any_batches(data):
            offset = header.last_offset + 1
    return b"".join(pieces)


def records(log: Log) -> list[Record]:
    """Every data record, CRCs checked."""
    data = all_bytes(log)
    found = []
    for pos, header in any_batches(data):
        assert any_crc_ok(data, pos, header)
        if not header.control:
            found += list(any_records(data, pos, header, LIMIT))
    assert [record.offset for record in found] == sorted({record.offset for record in found})
    return found


def contents(log: Log) -> list[tuple[int, str | None, str | None]]:
    """(offset, key, value) of every data record."""
    return [(record.offset, text(record.key), text(record.value)) for record in records(log)]


def text(data: bytes | memoryview | None) -> str | None:
    """Of a key or value."""
    return None if data is None else bytes(data).decode()
