"""Logs and frames of Apache Kafka and stock clients, all formats and codecs: read, checked,
rebuilt, converted."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from protocol import batch
from protocol.batch import BatchHeader
from protocol.compression import SNAPPY
from protocol.errors import CorruptRecord
from protocol.legacy import (
    AnyHeader,
    any_batches,
    any_crc_ok,
    any_records,
    build_set,
    down_convert,
    first_offset,
    to_v2,
)
from protocol.record import Record, recompress, records_of, validate
from protocol.record_errors import InvalidRecord, UndecodableBody
from tests.protocol.records_kit import LIMIT, logs, record_sets

OLD = "3.9.2, formats 0 to 2"


def walk(log: dict[str, Any]) -> list[tuple[bytes, int, AnyHeader]]:
    """``(segment, pos, header)`` of everything in a partition; each segment must be used up."""
    found = []
    for data in log["segments"].values():
        walked = [(data, pos, header) for pos, header in any_batches(data)]
        assert walked[-1][1] + walked[-1][2].size == len(data)
        found += walked
    return found


def as_bytes(value: Any) -> bytes | None:
    if isinstance(value, dict):
        return base64.b64decode(value["base64"])
    return None if value is None else str(value).encode()


@pytest.mark.parametrize("key", logs(), ids=" ".join)
def test_logs_read_as_a_consumer_read_them(key: tuple[str, str]) -> None:
    log = logs()[key]
    found = []
    for data, pos, header in walk(log):
        assert any_crc_ok(data, pos, header)
        records = list(any_records(data, pos, header, LIMIT))
        if records:
            assert records[-1].offset <= header.last_offset
            assert records[0].offset >= first_offset(data, pos, header, LIMIT)
        kind = "none" if not header.magic else "append" if header.append_time else "create"
        for record in records:
            if not header.control and record.offset >= log["low"]:
                # librdkafka says 0 where there is none
                timestamp = record.timestamp if header.magic else 0
                found.append((replace(record, timestamp=timestamp), kind))
    expected = [
        (
            Record(
                offset,
                timestamp,
                as_bytes(record_key),
                as_bytes(value),
                tuple((name, as_bytes(v)) for name, v in headers),
            ),
            kind,
        )
        for offset, timestamp, kind, record_key, value, headers in log["read"]
    ]
    assert found == expected
    assert log["high"] >= (found[-1][0].offset + 1 if found else 0)


def test_formats_and_codecs_in_the_captured_logs() -> None:
    kinds = {(h.magic, h.codec) for log in logs().values() for _, _, h in walk(log)}
    assert {(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 3)} <= kinds
    assert {(2, codec) for codec in range(5)} <= kinds


@pytest.mark.parametrize("key", logs(), ids=" ".join)
def test_plain_bytes_are_rebuilt_as_apache_kafka_wrote_them(key: tuple[str, str]) -> None:
    for data, pos, header in walk(logs()[key]):
        if header.codec:
            continue
        original = data[pos : pos + header.size]
        records = list(any_records(data, pos, header, LIMIT))
        if isinstance(header, BatchHeader):
            rebuilt = batch.build(
                records,
                base_offset=header.base_offset,
                append_time=header.append_time,
                producer_id=header.producer_id,
                producer_epoch=header.producer_epoch,
                base_sequence=header.base_sequence,
                transactional=header.transactional,
                control=header.control,
                leader_epoch=header.leader_epoch,
                delete_horizon=header.delete_horizon,
                last_offset_delta=header.last_offset_delta,
                base_timestamp=header.base_timestamp,
                max_timestamp=header.max_timestamp,
            )
            if header.append_time:
                continue  # records keep the producer's deltas, which no reader sees
        else:
            rebuilt = build_set(records, header.magic, append_time=header.append_time)
        assert rebuilt == original


def test_lz4_of_magic_0_has_the_old_checksum() -> None:
    seen = 0
    for log in logs().values():
        for data, pos, header in walk(log):
            if (header.magic, header.codec) != (0, 3):
                continue
            seen += 1
            frame = data[data.index(b"\x04\x22\x4d\x18", pos) :][:7]
            records = list(any_records(data, pos, header, LIMIT))
            ours = build_set(records, 0, codec=3)
            mine = ours[ours.index(b"\x04\x22\x4d\x18") :][:7]
            assert mine == frame
    assert seen


@pytest.mark.parametrize("key", [key for key in logs() if key[0] == OLD], ids=" ".join)
@pytest.mark.parametrize("magic", [0, 1])
def test_old_logs_convert_down(key: tuple[str, str], magic: int) -> None:
    for data, pos, header in walk(logs()[key]):
        one = data[pos : pos + header.size]
        records = list(any_records(data, pos, header, LIMIT))
        down = down_convert(one, magic, limit=LIMIT)
        if header.magic <= magic:
            assert down == one
        found = [r for at, h in any_batches(down) for r in any_records(down, at, h, LIMIT)]
        assert [(r.offset, r.key, r.value) for r in found] == [
            (r.offset, r.key, r.value) for r in records
        ]


FETCHED = {
    case: data
    for label, key, version, data in record_sets()
    if key == 1 and version == 4 and label.startswith("hand-3.9.2: ")
    for case in [label.partition(": ")[2]]
}
OLD_FETCHES = [
    (label.partition(": ")[2], version, data)
    for label, key, version, data in record_sets()
    if key == 1 and version < 4 and label.startswith("hand-3.9.2: ")
]
STARTS = {"ok: offset inside a batch": 4}


@pytest.mark.parametrize(
    ("case", "version", "answer"), OLD_FETCHES, ids=[f"{c} v{v}" for c, v, _ in OLD_FETCHES]
)
def test_fetches_of_old_versions_byte_for_byte(case: str, version: int, answer: bytes) -> None:
    """The same log at version 4, converted, is what Apache Kafka answered.

    It fills the answer up to the log's own size with the head of a message that never comes:
    offset -1 and zeros.
    """
    magic = 0 if version < 2 else 1
    down = down_convert(FETCHED[case], magic, limit=LIMIT, first_offset=STARTS.get(case, 0))
    assert down
    assert answer[: len(down)] == down
    filler = answer[len(down) :]
    assert filler[:8] in (b"", b"\xff" * 8)
    assert not any(filler[12:])


def test_old_fetches_were_found() -> None:
    assert len(OLD_FETCHES) >= 16


PRODUCED = [(label, v, data) for label, key, v, data in record_sets() if key == 0]
MEANT_TO_FAIL = ("bad crc", "is not", "magic 1 in new", "two batches", "empty")


def test_every_set_that_clients_produced() -> None:
    """Whatever stock clients and the recorded requests sent is taken, unless it was meant to be
    refused."""
    taken = 0
    for label, version, data in PRODUCED:
        if not data or (version >= 3 and data[16] < 2):
            continue
        failing = any(words in label for words in MEANT_TO_FAIL)
        try:
            found = to_v2(data, limit=LIMIT)
            header = batch.parse_header(found)
            if not batch.crc_ok(found, 0, header.size):
                raise CorruptRecord("crc")
            validate(found, 0, header, LIMIT)
        except (CorruptRecord, InvalidRecord) as error:
            assert failing, (label, version, error)
            continue
        assert not failing, (label, version)
        records = list(records_of(found, 0, header, LIMIT))
        assert len(records) == header.record_count
        for codec in range(5):
            again = recompress(found, 0, header, codec, None, LIMIT)
            packed = batch.parse_header(again)
            assert list(records_of(again, 0, packed, LIMIT)) == records
        taken += 1
    assert taken > 500


def test_snappy_of_stock_clients_in_both_framings() -> None:
    """Java and the Python clients frame snappy as xerial does; librdkafka sends the bare block."""
    framings = {}
    for label, _, data in PRODUCED:
        if len(data) > 61 and data[16] == 2 and batch.parse_header(data).codec == SNAPPY:
            client = label.split()[0]
            framings.setdefault(client, set()).add(data[61:69] == b"\x82SNAPPY\x00")
    assert framings.get("confluent-kafka") == {False} or "confluent-kafka" not in framings
    assert {kind for kinds in framings.values() for kind in kinds} == {True, False}, framings


def test_what_is_no_zstd_is_told_apart_from_a_wrong_checksum() -> None:
    seen = set()
    for label, version, data in PRODUCED:
        if "body is not" in label and version >= 7:
            header = batch.parse_header(data)
            assert batch.crc_ok(data, 0, header.size)
            with pytest.raises(UndecodableBody):
                validate(data, 0, header, LIMIT)
            seen.add(version)
    assert seen
