"""What tests of the log share: batches to append, opening, reading everything, looking at files."""

from collections.abc import Iterator
from typing import Any

from protocol import batch as batches
from protocol.batch import BatchHeader
from protocol.legacy import any_batches, any_crc_ok, any_records
from protocol.record import Record
from storage.config import LogConfig
from storage.filesystem import FileSystem
from storage.log import Log

NOW = 1_700_000_000_000
DAY = 86_400_000
"""In ms."""
DIRECTORY = "/data/orders-0"
FAR = 1 << 62
LIMIT = 1 << 26


def records(
    count: int, *, timestamp: int = NOW, size: int = 20, key: str | None = "key"
) -> list[Record]:
    """`count` records, one ms apart, with values of `size` bytes."""
    return [
        Record(
            index,
            timestamp + index,
            None if key is None else f"{key}-{index}".encode(),
            bytes([97 + index % 26]) * size,
        )
        for index in range(count)
    ]


def batch(
    count: int = 1, *, timestamp: int = NOW, size: int = 20, key: str | None = "key", **fields: Any
) -> memoryview:
    """A batch as a producer sends it, in memory that may be patched."""
    built = batches.build(records(count, timestamp=timestamp, size=size, key=key), **fields)
    return memoryview(bytearray(built))


def marker(
    producer_id: int, *, committed: bool, epoch: int = 0, timestamp: int = NOW, coordinator: int = 0
) -> memoryview:
    """A transaction marker as the coordinator has it written."""
    return memoryview(
        bytearray(
            batches.build_end_txn_marker(
                producer_id=producer_id,
                producer_epoch=epoch,
                committed=committed,
                timestamp=timestamp,
                coordinator_epoch=coordinator,
            )
        )
    )


def placed(data: memoryview, base_offset: int, leader_epoch: int = 0) -> bytes:
    """The same batch as a leader stored it."""
    copy = bytearray(data)
    batches.patch(copy, 0, base_offset, leader_epoch)
    return bytes(copy)


def config(**settings: Any) -> LogConfig:
    """A topic's settings: Kafka's names with underscores."""
    return LogConfig.from_strings(
        {name.replace("_", "."): str(value) for name, value in settings.items()}
    )


def open_log(
    fs: FileSystem,
    *,
    clean: bool = False,
    recovery_point: int = 0,
    log_start_offset: int = 0,
    directory: str = DIRECTORY,
    settings: LogConfig | None = None,
    now_ms: int = NOW,
    **more: Any,
) -> Log:
    """Opens orders-0, making its directory where it is missing."""
    fs.mkdir(directory)
    topic, _, partition = directory.rpartition("/")[2].rpartition("-")
    return Log.open(
        fs,
        directory,
        topic,
        int(partition),
        settings or LogConfig(),
        recovery_point=recovery_point,
        log_start_offset=log_start_offset,
        clean=clean,
        now_ms=now_ms,
        **more,
    )


def append(log: Log, data: memoryview, epoch: int = 0, now_ms: int = NOW) -> int:
    """Appends one batch; its base offset."""
    appended = log.stage(data, epoch, now_ms)
    log.write_staged()
    return appended.base_offset


def read_all(log: Log, start: int | None = None, upper: int | None = None) -> bytes:
    """Every byte from `start` up to `upper`, piece by piece as a consumer would."""
    offset = log.log_start_offset if start is None else start
    upper = log.end_offset if upper is None else upper
    pieces = []
    while offset < upper:
        piece = log.read(offset, 1 << 20, upper)
        data = piece.bytes()
        assert len(data) == piece.length
        if not data:
            break
        pieces.append(data)
        *_, (_, last) = any_batches(data)
        assert last.last_offset >= offset
        offset = last.last_offset + 1
    return b"".join(pieces)


def each_batch(data: bytes) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of the batches, every byte of `data` being one's, CRCs right."""
    end = 0
    for position, header in any_batches(data):
        assert any_crc_ok(data, position, header)
        end = position + header.size
        yield position, header  # type: ignore[misc]
    assert end == len(data)


def read_records(log: Log) -> list[Record]:
    """Every record of data batches (no markers), decompressed."""
    data = read_all(log)
    found = []
    for position, header in each_batch(data):
        if not header.control:
            found += list(any_records(data, position, header, LIMIT))
    return found


def files(fs: FileSystem, directory: str = DIRECTORY) -> dict[str, bytes]:
    """The directory's files with their content."""
    return {name: fs.read_bytes(f"{directory}/{name}") for name in fs.listdir(directory)}


def segment_bases(fs: FileSystem, directory: str = DIRECTORY) -> list[int]:
    """Base offsets of the `.log` files."""
    return [int(name[:-4]) for name in fs.listdir(directory) if name.endswith(".log")]


def finding_kinds(log: Log) -> set[str]:
    """The names of what recovery found."""
    return {str(getattr(finding, "kind", finding)) for finding in log.findings}


def flipped(data: memoryview) -> memoryview:
    data[-1] ^= 1
    return data


def idempotent(sequence: int, count: int = 1, *, epoch: int = 0, txn: bool = False) -> memoryview:
    return batch(
        count, producer_id=4, producer_epoch=epoch, base_sequence=sequence, transactional=txn
    )


def bases(log: Log) -> list[int]:
    return [segment.base_offset for segment in log.segments]
