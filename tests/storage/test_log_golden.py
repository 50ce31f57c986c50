"""Directories that Apache Kafka 3.9.2 wrote: opened, read, rebuilt, left as Kafka left them."""

import base64
from pathlib import Path
from typing import Any

import pytest

from protocol.batch import BatchHeader, end_txn_marker
from protocol.legacy import any_batches, any_crc_ok, any_records
from storage import checkpoint
from storage.config import LogConfig
from storage.filesystem import MemoryFileSystem, RealFileSystem
from storage.findings import Kind
from storage.log import Log
from storage.log_dir import parse_name
from storage.producers import decode_snapshot
from tests.storage import golden
from tests.storage.log_kit import LIMIT, NOW, append, batch, config, read_all

CLEAN = ("3.9.2-clean", "3.9.2-old-formats-clean")
DIRECTORIES = (*CLEAN, "3.9.2-killed")

# What the topics were made with, as far as it matters to the log.
SETTINGS = {
    "segments": {"segment_bytes": 4096, "index_interval_bytes": 256},
    "append-time": {"message_timestamp_type": "LogAppendTime"},
    "m1-append": {"message_timestamp_type": "LogAppendTime"},
    "compacted": {"cleanup_policy": "compact"},
    "compacted-tx": {"cleanup_policy": "compact"},
    "m1-compacted": {"cleanup_policy": "compact"},
    "__consumer_offsets": {"cleanup_policy": "compact"},
    "__transaction_state": {"cleanup_policy": "compact"},
}
COMPACTED = {topic for topic, given in SETTINGS.items() if "cleanup_policy" in given}


def settings_of(topic: str) -> LogConfig:
    return config(**SETTINGS.get(topic, {}))


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    target = tmp_path_factory.mktemp("kafka")
    return {name: golden.unpack(name, target) for name in DIRECTORIES}


def in_memory(folder: Path, *, without: tuple[str, ...] = ()) -> MemoryFileSystem:
    """A copy that may be changed, each partition below /data."""
    fs = MemoryFileSystem()
    for path in folder.rglob("*"):
        to = f"/data/{path.relative_to(folder).as_posix()}"
        if path.is_dir():
            fs.mkdir(to)
        elif not path.name.endswith(without):
            fs.mkdir(to.rpartition("/")[0])
            fs.open(to, create=True).append([path.read_bytes()])
    return fs


def partitions(fs: MemoryFileSystem) -> list[str]:
    return [name for name in fs.listdir("/data") if fs.is_dir(f"/data/{name}")]


def opened(fs: MemoryFileSystem, name: str, *, clean: bool, trust: bool = True) -> Log:
    key = parse_name(name)
    assert key is not None
    points = checkpoint.read_offsets(fs, "/data/recovery-point-offset-checkpoint")
    starts = checkpoint.read_offsets(fs, "/data/log-start-offset-checkpoint")
    log = Log.open(
        fs,
        f"/data/{name}",
        *key,
        settings_of(key[0]),
        recovery_point=points.get(key, 0) if trust else 0,
        log_start_offset=starts.get(key, 0),
        clean=clean,
        now_ms=NOW,
    )
    log.advance_high_watermark(log.end_offset)
    return log


def text_or_bytes(value: Any) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, dict):
        return base64.b64decode(next(iter(value.values())))
    return str(value).encode()


def told(record: dict[str, Any]) -> tuple[Any, ...]:
    """A record as the consumer saw it."""
    return (
        record["offset"],
        record["timestamp"],
        record["timestamp_type"],
        text_or_bytes(record["key"]),
        text_or_bytes(record["value"]),
        tuple((name, text_or_bytes(value)) for name, value in record["headers"]),
    )


def seen(log: Log, *, committed: bool) -> list[tuple[Any, ...]]:
    """The records of the log as a consumer sees them, with either isolation level."""
    upper = log.last_stable_offset if committed else log.high_watermark
    data = read_all(log, upper=upper)
    to_come = sorted(log.aborted_transactions(log.log_start_offset, upper), key=lambda txn: txn[1])
    aborting: set[int] = set()
    found: list[tuple[Any, ...]] = []
    for position, header in any_batches(data):
        assert any_crc_ok(data, position, header)
        while to_come and to_come[0][1] <= header.last_offset:
            aborting.add(to_come.pop(0)[0])
        if isinstance(header, BatchHeader) and header.control:
            marker = end_txn_marker(data, position, header)
            if marker is not None and not marker[0]:
                aborting.discard(header.producer_id)
            continue
        if committed and header.transactional and header.producer_id in aborting:
            continue
        kind = "append" if header.append_time else "create" if header.magic else "none"
        found += [
            (
                record.offset,
                record.timestamp if header.magic else None,
                kind,
                record.key,
                record.value,
                record.headers,
            )
            for record in any_records(data, position, header, LIMIT)
            if record.offset >= log.log_start_offset
        ]
    return found


@pytest.mark.parametrize("name", DIRECTORIES)
def test_what_a_consumer_read_is_read(unpacked: dict[str, Path], name: str) -> None:
    fs = in_memory(unpacked[name])
    wanted = golden.reads(name.removesuffix("-clean"))
    compared = 0
    for partition in partitions(fs):
        log = opened(fs, partition, clean=name != "3.9.2-killed")
        for isolation in ("read_uncommitted", "read_committed"):
            read = wanted.get(f"{partition} {isolation}")
            if read is None:
                continue
            committed = isolation == "read_committed"
            records = seen(log, committed=committed)
            expected = [told(record) for record in read["records"]]
            # Of `many` one record was written after the consumer had read.
            assert len(records) - len(expected) <= (1 if partition.startswith("many") else 0)
            for ours, theirs in zip(records, expected, strict=False):
                assert ours[0] == theirs[0]
                assert ours[3:] == theirs[3:]
                if ours[1] is not None:
                    assert ours[1:3] == theirs[1:3]
            assert len(records) >= len(expected)
            assert log.log_start_offset == read["low"]
            compared += len(expected)
    assert compared > 50


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_directory_has_nothing_to_repair_and_stays_as_it_is(
    unpacked: dict[str, Path], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    fs = in_memory(unpacked[name])
    before = {path: bytes(data.content) for path, data in fs.files.items()}
    with caplog.at_level("WARNING", "storage"):
        for partition in partitions(fs):
            log = opened(fs, partition, clean=True)
            found = {finding.kind for finding in log.findings}
            # Kafka keeps no epochs of logs in old formats.
            known = {Kind.LEFTOVER, Kind.MISSING_EPOCHS if "old" in name else Kind.LEFTOVER}
            assert found <= known, partition
            read_all(log)
            log.max_timestamp()
            log.offset_for_timestamp(0)
            log.aborted_transactions(0, log.end_offset)
            for segment in log.segments:
                assert segment.newest_timestamp >= -1
            log.close(True)
    assert not [r for r in caplog.records if "leader epochs" not in r.getMessage()]
    after = {path: bytes(data.content) for path, data in fs.files.items()}
    for path in set(before) - set(after):
        assert path.endswith(".deleted")
    for path, content in after.items():
        # An epoch without a single batch is not kept; the next leader tells its own anew.
        if path.endswith("leader-epoch-checkpoint") and content == b"0\n0\n":
            assert before.get(path, content) in (content, b"0\n1\n0 0\n")
        else:
            assert before[path] == content, path


def test_indexes_made_anew_are_kafkas(unpacked: dict[str, Path]) -> None:
    """The same bytes in every index, the same producers in every snapshot, the same epochs."""
    kafkas = in_memory(unpacked["3.9.2-clean"])
    fs = in_memory(
        unpacked["3.9.2-clean"],
        without=(".index", ".timeindex", ".txnindex", ".snapshot", "leader-epoch-checkpoint"),
    )
    compared = 0
    for partition in partitions(fs):
        if partition.rpartition("-")[0] in COMPACTED:
            continue  # compaction indexes at other places
        log = opened(fs, partition, clean=False, trust=False)
        log.close(True)
        for name in kafkas.listdir(f"/data/{partition}"):
            path = f"/data/{partition}/{name}"
            theirs = kafkas.read_bytes(path)
            if name.endswith(".txnindex") and not theirs:
                continue
            if name.endswith(".snapshot"):
                if int(name[:20]) == log.end_offset:
                    assert producers(fs.read_bytes(path)) == producers(theirs), path
                continue
            if name == "leader-epoch-checkpoint" and not log.end_offset:
                continue
            assert fs.read_bytes(path) == theirs, path
            compared += 1
    assert compared > 60


def producers(snapshot: bytes) -> list[tuple[int, ...]]:
    return sorted(
        (e.producer_id, e.epoch, e.last_sequence, e.last_offset, e.txn_first_offset)
        for e in decode_snapshot(snapshot)
    )


def test_a_killed_directory_is_repaired_and_written_on(unpacked: dict[str, Path]) -> None:
    """Kafka leaves index files of their full size; afterwards they are as after a clean end."""
    fs = in_memory(unpacked["3.9.2-killed"])
    for partition in partitions(fs):
        log = opened(fs, partition, clean=False)
        end = log.end_offset
        before = read_all(log)
        if partition.startswith(("client", "many", "segments", "empty")):
            assert append(log, batch(3), epoch=log.latest_epoch + 1) == end
            before = read_all(log)
        log.close(True)
        for name in fs.listdir(f"/data/{partition}"):
            data = fs.read_bytes(f"/data/{partition}/{name}")
            if name.endswith(".index") and data:
                assert data[-8:] != bytes(8)
            if name.endswith(".timeindex") and data:
                assert data[-12:] != bytes(12)
        again = opened(fs, partition, clean=True)
        assert again.findings == ()
        assert read_all(again) == before


def test_over_real_files(unpacked: dict[str, Path]) -> None:
    folder = unpacked["3.9.2-clean"]
    memory = in_memory(folder)
    fs = RealFileSystem()
    for partition in partitions(memory):
        topic, number = parse_name(partition) or ("", 0)
        start = opened(memory, partition, clean=True).log_start_offset
        log = Log.open(
            fs,
            f"{folder}/{partition}",
            topic,
            number,
            settings_of(topic),
            recovery_point=0,
            log_start_offset=start,
            clean=True,
            now_ms=NOW,
        )
        assert read_all(log) == read_all(opened(memory, partition, clean=True))
        log.close(clean=False)
