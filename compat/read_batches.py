"""Record bytes as plain values, so that two brokers' records can be compared field by field.

Compressed bodies are compared by content: two compressors need not write the same bytes. Whatever
cannot be read stays as hexadecimal text, so nothing is lost to the comparison.
"""

import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

from protocol.compression import decompress
from protocol.crc import crc32c

LIMIT = 64 << 20
NOW = "<now>"
NEAR_MS = 20 * 60 * 1000
_V2 = struct.Struct(">qiibIhiqqqhii")


def around_now(value: int) -> int | str:
    """A time that the broker took from its clock becomes `<now>`."""
    return NOW if abs(value - time.time() * 1000) < NEAR_MS else value


def read_varint(data: bytes, pos: int) -> tuple[int, int]:
    shift = number = 0
    while True:
        byte = data[pos]
        pos += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), pos
        shift += 7


def _blob(data: bytes, pos: int) -> tuple[str | None, int]:
    size, pos = read_varint(data, pos)
    if size < 0:
        return None, pos
    if pos + size > len(data):
        raise IndexError(pos)
    return data[pos : pos + size].hex(), pos + size


def read_records(
    data: bytes, pos: int, producer: Callable[[int], Any]
) -> list[dict[str, Any] | str]:
    """All batches and messages in `data`; a part of one at the end comes last, as text."""
    out: list[dict[str, Any] | str] = []
    while len(data) - pos >= 17:
        size = 12 + struct.unpack_from(">i", data, pos + 8)[0]
        if size < 14 or pos + size > len(data):
            break
        if data[pos + 16] == 2 and size >= _V2.size:
            out.append(_batch(data[pos : pos + size], producer))
        else:
            out.append(_message(data[pos : pos + size]))
        pos += size
    if pos < len(data):
        out.append(f"{len(data) - pos} bytes of a part of a batch")
    return out


def _batch(data: bytes, producer: Callable[[int], Any]) -> dict[str, Any]:
    (
        base,
        length,
        epoch,
        magic,
        crc,
        attributes,
        last,
        first_ms,
        max_ms,
        pid,
        pepoch,
        seq,
        count,
    ) = _V2.unpack_from(data)
    out: dict[str, Any] = {
        "base_offset": base,
        "leader_epoch": epoch,
        "magic": magic,
        "crc": "right" if crc32c(data[21:]) == crc else "wrong",
        "attributes": attributes,
        "last_offset_delta": last,
        "base_timestamp": around_now(first_ms),
        "max_timestamp": around_now(max_ms),
        "producer_id": producer(pid),
        "producer_epoch": pepoch,
        "base_sequence": seq,
        "count": count,
    }
    if attributes & 7 == 0:
        out["length"] = length
    try:
        body = data[_V2.size :]
        out["records"] = _records(
            decompress(attributes & 7, body, LIMIT) if attributes & 7 else body
        )
    except Exception:  # noqa: BLE001 - unreadable on purpose in some cases
        out["records"] = data[_V2.size :].hex()
    return out


def _records(body: bytes) -> list[Any]:
    body = bytes(body)
    pos = 0
    out: list[Any] = []
    while pos < len(body):
        size, start = read_varint(body, pos)
        end = start + size
        attributes = body[start]
        time_delta, at = read_varint(body, start + 1)
        offset_delta, at = read_varint(body, at)
        key, at = _blob(body, at)
        value, at = _blob(body, at)
        count, at = read_varint(body, at)
        headers = []
        for _ in range(count):
            name, at = _blob(body, at)
            content, at = _blob(body, at)
            headers.append([name, content])
        record = [offset_delta, time_delta, key, value]
        out.append([*record, headers, attributes] if headers or attributes else record)
        pos = end
    return out


def _message(data: bytes) -> dict[str, Any]:
    offset, _, crc, magic, attributes = struct.unpack_from(">qiIbb", data)
    out: dict[str, Any] = {
        "offset": offset,
        "magic": magic,
        "crc": "right" if zlib.crc32(data[16:]) == crc else "wrong",
        "attributes": attributes,
    }
    at = 18
    if magic == 1:
        out["timestamp"] = around_now(struct.unpack_from(">q", data, at)[0])
        at += 8
    key, at = _old_blob(data, at)
    value, at = _old_blob(data, at)
    out["key"] = key and key.hex()
    if attributes & 7 and value is not None:
        try:
            plain = decompress(attributes & 7, value, LIMIT)
            out["messages"] = read_records(bytes(plain), 0, lambda pid: pid)
        except Exception:  # noqa: BLE001 - unreadable on purpose in some cases
            out["value"] = value.hex()
    else:
        out["value"] = None if value is None else value.hex()
    return out


def _old_blob(data: bytes, at: int) -> tuple[bytes | None, int]:
    size = struct.unpack_from(">i", data, at)[0]
    return (None, at + 4) if size < 0 else (data[at + 4 : at + 4 + size], at + 4 + size)
