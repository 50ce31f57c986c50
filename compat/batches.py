"""Record batches and old message sets made by hand, so that a corpus can make wrong ones too.

Written apart from `protocol.batch` on purpose: what the broker is fed must not come from the code
that the broker reads it with.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from protocol.compression import compress
from protocol.crc import crc32c

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
START_MS = 1_700_000_000_000
"""Timestamp of the first record where a case does not say otherwise (2023)."""


def varint(value: int) -> bytes:
    """A zigzag varint (also the wire form of a varlong)."""
    number = (value << 1) ^ (value >> 63)
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _blob(value: bytes | None) -> bytes:
    return varint(-1) if value is None else varint(len(value)) + value


@dataclass(slots=True)
class Rec:
    """One record; the deltas are counted up where they are None."""

    value: bytes | None = b"v"
    key: bytes | None = b"k"
    headers: Sequence[tuple[bytes, bytes | None]] = ()
    offset_delta: int | None = None
    timestamp_delta: int | None = None
    attributes: int = 0

    def encode(self, index: int) -> bytes:
        offset = index if self.offset_delta is None else self.offset_delta
        time = index if self.timestamp_delta is None else self.timestamp_delta
        body = struct.pack(">b", self.attributes) + varint(time) + varint(offset)
        body += _blob(self.key) + _blob(self.value) + varint(len(self.headers))
        body += b"".join(varint(len(k)) + k + _blob(v) for k, v in self.headers)
        return varint(len(body)) + body


@dataclass(slots=True)
class Batch:
    """A v2 batch. Whatever is left at None is filled in rightly; the rest is taken as said."""

    records: Sequence[Rec] = field(default_factory=lambda: [Rec()])
    codec: int = NONE
    attributes: int = 0
    base_offset: int = 0
    leader_epoch: int = -1
    magic: int = 2
    crc: int | None = None
    last_offset_delta: int | None = None
    base_timestamp: int = START_MS
    max_timestamp: int | None = None
    producer_id: int = -1
    producer_epoch: int = -1
    base_sequence: int = -1
    count: int | None = None
    body: bytes | None = None
    length: int | None = None
    extra: bytes = b""

    def encode(self) -> bytes:
        body = b"".join(r.encode(i) for i, r in enumerate(self.records)) + self.extra
        if self.body is not None:
            body = self.body
        elif self.codec:
            body = compress(self.codec, body)
        last = len(self.records) - 1 if self.last_offset_delta is None else self.last_offset_delta
        checked = (
            struct.pack(
                ">hiqqqhii",
                self.attributes | self.codec,
                last,
                self.base_timestamp,
                self._latest() if self.max_timestamp is None else self.max_timestamp,
                self.producer_id,
                self.producer_epoch,
                self.base_sequence,
                len(self.records) if self.count is None else self.count,
            )
            + body
        )
        crc = crc32c(checked) if self.crc is None else self.crc
        length = len(checked) + 9 if self.length is None else self.length
        return struct.pack(
            ">qiibI", self.base_offset, length, self.leader_epoch, self.magic, crc
        ) + (checked)

    def _latest(self) -> int:
        deltas = [
            i if r.timestamp_delta is None else r.timestamp_delta
            for i, r in enumerate(self.records)
        ]
        return self.base_timestamp + max(deltas, default=0)


def batch(*values: bytes, **fields: object) -> bytes:
    """A v2 batch of keyed records with these values (one record `v` if none is given)."""
    records = [Rec(value, b"k%d" % i) for i, value in enumerate(values or (b"v",))]
    return Batch(records, **fields).encode()  # type: ignore[arg-type]


def message(
    value: bytes | None = b"v",
    key: bytes | None = b"k",
    *,
    magic: int = 1,
    offset: int = 0,
    timestamp: int = START_MS,
    attributes: int = 0,
    crc: int | None = None,
) -> bytes:
    """A message of format 0 or 1."""
    body = struct.pack(">bb", magic, attributes)
    if magic == 1:
        body += struct.pack(">q", timestamp)
    for part in (key, value):
        body += struct.pack(">i", -1) if part is None else struct.pack(">i", len(part)) + part
    checked = zlib.crc32(body) if crc is None else crc
    return struct.pack(">qiI", offset, len(body) + 4, checked) + body


def wrapped(*inner: bytes, codec: int = GZIP, magic: int = 1, timestamp: int = START_MS) -> bytes:
    """Messages compressed into one of format 0 or 1."""
    value = compress(codec, b"".join(inner))
    return message(value, None, magic=magic, attributes=codec, timestamp=timestamp)
