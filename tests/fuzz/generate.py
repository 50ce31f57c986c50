"""Seeded requests from the declarations, and ways to damage their bytes."""

import random
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

from protocol.apis import API_BY_KEY, request_class
from protocol.compiler import specs_of
from protocol.wire import FieldSpec
from tests.kit.wire import batch, frame

TOPICS = ("fuzz", "fuzz-compacted")
TOPIC = "fuzz"
PRODUCE, FETCH = 0, 1
SLOW = frozenset((1, 11, 14, 78))
"""APIs whose answer may rightly wait: Fetch, JoinGroup, SyncGroup, ShareFetch."""

RANGES = {"int8": 7, "int16": 15, "uint16": 16, "int32": 31, "uint32": 32, "int64": 63}
NAMES = ("", "fuzz", "fuzz", "fuzz-compacted", "absent", "a b", "..", "x" * 250, "é")
CONFIGS = (
    "retention.ms",
    "retention.bytes",
    "cleanup.policy",
    "compression.type",
    "max.message.bytes",
    "message.timestamp.type",
    "min.insync.replicas",
    "segment.ms",
    "no.such.config",
)
VALUES = ("", "delete", "compact", "gzip", "lz4", "producer", "LogAppendTime", "1000", "-1", "x")

# field name -> what it is drawn from: values near what a real client sends, so that a request gets
# past its first check often enough
PLAUSIBLE: dict[str, Sequence[Any]] = {
    "acks": (-1, 1, 1, 0, 2),
    "timeout_ms": (0, 1, 10),
    "max_wait_ms": (0, 0, 1, 5),
    "min_bytes": (0, 0, 1),
    "max_bytes": (0, 1, 100, 1 << 20, 0x7FFFFFFF),
    "partition_max_bytes": (0, 1, 100, 1 << 20),
    "replica_id": (-1, -1, -1, 0, -2),
    "isolation_level": (0, 1),
    "session_id": (0, 0, 0, 1, 77),
    "session_epoch": (-1, -1, 0, 1, 2),
    "partition": (0, 0, 1, 2, 3, 4, -1),
    "partition_index": (0, 0, 1, 2, 3, 4, -1),
    "index": (0, 0, 1, 2, 3, 4, -1),
    "fetch_offset": (0, 0, 1, 5, 1000, -1),
    "offset": (0, 1, -1, 100),
    "timestamp": (-1, -2, -3, -4, -5, -6, -7, 0, 1_700_000_000_000),
    "current_leader_epoch": (-1, -1, 0, 1),
    "leader_epoch": (-1, 0, 1),
    "last_fetched_epoch": (-1, -1, 0),
    "validate_only": (True,),
    "num_partitions": (-1, 0, 1, 2),
    "replication_factor": (-1, 1, 2),
    "count": (0, 1, 5),
    "broker_id": (0, 1, 5),
    "key_type": (0, 1, 2, 7),
    "resource_type": (2, 2, 4, 8, 16, 32, 0),
    "config_operation": (0, 1, 2, 3, 9),
    "resource_name": ("fuzz", "fuzz", "fuzz-compacted", "absent"),
    "value": VALUES,
    "transactional_id": (None, None, None, "t", ""),
    "transaction_timeout_ms": (60_000, 0, -1),
    "producer_id": (-1, -1, 0, 1),
    "producer_epoch": (-1, -1, 0),
    "client_software_name": ("fuzz", "bad name!", ""),
    "client_software_version": ("1", ""),
    "cluster_id": (None, None, "x"),
}


class Generator:
    """Requests of the offered APIs with random but plausible values."""

    def __init__(
        self, chance: random.Random, topic_ids: Sequence[bytes], offered: Sequence[tuple[int, int]]
    ) -> None:
        self.chance = chance
        self.topic_ids = [bytes(16), chance.randbytes(16), *topic_ids]
        self.offered = list(offered)
        self.now = time.time_ns() // 1_000_000
        self.records = [self._records() for _ in range(40)]

    def request(self, key: int) -> Any:
        """A request object; fields that a version cannot carry are left at their defaults later."""
        return self._fill(request_class(key), API_BY_KEY[key].latest_stable, 0)

    def frame(self, key: int, version: int, correlation_id: int) -> bytes:
        """A whole valid frame of one API and version."""
        request = self._fill(request_class(key), version, 0)
        return frame(request, version, correlation_id, self.chance.choice(("fuzz", "", None)))

    def any_frame(self, correlation_id: int) -> bytes:
        """A frame of a random offered API and version; Produce and Fetch come more often."""
        chance = self.chance.random()
        if chance < 0.15:
            key, version = self.chance.choice([o for o in self.offered if o[0] == PRODUCE])
        elif chance < 0.3:
            key, version = self.chance.choice([o for o in self.offered if o[0] == FETCH])
        else:
            key, version = self.chance.choice(self.offered)
        return self.frame(key, version, correlation_id)

    def _fill(self, cls: type[Any], version: int, depth: int) -> Any:
        made = cls()
        for spec in specs_of(cls):
            if spec.in_version(version):
                setattr(made, spec.name, self._value(spec, version, depth))
        return made

    def _value(self, spec: FieldSpec, version: int, depth: int) -> Any:
        if spec.nullable(version) and self.chance.random() < 0.1:
            return None
        if spec.kind == "array":
            return self._array(spec, version, depth)
        if spec.kind == "struct":
            assert spec.struct is not None
            return self._fill(spec.struct, version, depth + 1)
        value = self._primitive(spec)
        return spec.default if value is None and not spec.nullable(version) else value

    def _array(self, spec: FieldSpec, version: int, depth: int) -> list[Any]:
        assert spec.element is not None
        count = self.chance.choice((0, 1, 1, 1, 2, 3)) if depth < 3 else self.chance.choice((0, 1))
        return [self._value(spec.element, version, depth + 1) for _ in range(count)]

    def _primitive(self, spec: FieldSpec) -> Any:
        chance = self.chance
        if spec.kind == "records":
            return memoryview(chance.choice(self.records))
        if spec.name in PLAUSIBLE:
            found = chance.choice(PLAUSIBLE[spec.name])
            if _fits(found, spec.kind):
                return found
        if spec.kind in RANGES:
            return chance.choice((0, 0, 1, 2, 3)) if chance.random() < 0.8 else self._wild(spec)
        if spec.kind == "bool":
            return chance.random() < 0.5
        if spec.kind == "uuid":
            return chance.choice(self.topic_ids)
        if spec.kind == "string":
            return chance.choice(CONFIGS if "config" in spec.name else NAMES)
        if spec.kind == "float64":
            return chance.random()
        return memoryview(chance.randbytes(chance.randrange(8)))

    def _wild(self, spec: FieldSpec) -> int:
        bits = RANGES[spec.kind]
        low = 0 if spec.kind.startswith("u") else -(1 << bits)
        return self.chance.choice((low, (1 << bits) - 1, self.chance.randrange(low, 1 << bits)))

    def _records(self) -> bytes:
        """Batches: mostly good, some with damage that the checksum does or does not cover."""
        chance = self.chance
        values = [
            None if chance.random() < 0.1 else chance.randbytes(chance.randrange(60))
            for _ in range(chance.choice((1, 1, 2, 5)))
        ]
        made = bytearray(
            batch(
                values,
                timestamp=self.now - chance.randrange(10_000),
                key=chance.choice((None, b"k")),
                headers=chance.choice(((), (("h", b"1"),))),
                producer_id=chance.choice((-1, -1, 5)),
                producer_epoch=0,
                base_sequence=chance.choice((-1, 0, 7)),
                attributes=chance.choice((0, 0, 0, 0, 1, 2, 3, 4, 8, 16, 32)),
            )
        )
        if chance.random() < 0.3:
            made[chance.randrange(len(made))] ^= 1 << chance.randrange(8)
        return bytes(made) * chance.choice((1, 1, 1, 2))


def _fits(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "bool"
    if isinstance(value, int):
        return kind in RANGES and -(1 << RANGES[kind]) <= value < 1 << RANGES[kind]
    return kind == "string"


INTERESTING = (0, 1, -1, 2, 127, 128, 255, 256, 32767, -32768, 65535, 0x7FFFFFFF, -0x80000000)
Mutation = Callable[[random.Random, bytearray], None]


def _flip_bits(chance: random.Random, data: bytearray) -> None:
    for _ in range(chance.choice((1, 1, 2, 8))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set_byte(chance: random.Random, data: bytearray) -> None:
    data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))


def _set_number(chance: random.Random, data: bytearray) -> None:
    size = chance.choice((2, 4, 4, 8))
    if len(data) >= size:
        pos = chance.randrange(len(data) - size + 1)
        value = chance.choice(INTERESTING) & ((1 << 8 * size) - 1)
        data[pos : pos + size] = value.to_bytes(size, "big")


def _insert(chance: random.Random, data: bytearray) -> None:
    pos = chance.randrange(len(data) + 1)
    data[pos:pos] = chance.randbytes(chance.choice((1, 1, 2, 4, 30)))


def _remove(chance: random.Random, data: bytearray) -> None:
    pos = chance.randrange(len(data))
    del data[pos : pos + chance.choice((1, 1, 2, 4, 30))]


def _truncate(chance: random.Random, data: bytearray) -> None:
    del data[chance.randrange(len(data)) :]


def _repeat(chance: random.Random, data: bytearray) -> None:
    start = chance.randrange(len(data))
    piece = data[start : start + chance.randrange(1, 40)]
    data[start:start] = piece * chance.choice((1, 2, 10))


def _append(chance: random.Random, data: bytearray) -> None:
    data += chance.randbytes(chance.choice((1, 3, 10)))


def _set_header(chance: random.Random, data: bytearray) -> None:
    if len(data) >= 4:
        struct.pack_into(">h", data, chance.choice((0, 2)), chance.randrange(-2, 100))


def _flip_late(chance: random.Random, data: bytearray) -> None:
    """Beyond the header, where most fields are."""
    if len(data) > 20:
        data[chance.randrange(16, len(data))] = chance.randrange(256)


MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _flip_late,
    _flip_late,
    _set_byte,
    _set_number,
    _set_number,
    _insert,
    _remove,
    _truncate,
    _repeat,
    _append,
    _set_header,
)


def mutate(chance: random.Random, whole: bytes) -> bytes:
    """A damaged copy of a frame. Its length prefix fits again, but for a few percent."""
    body = bytearray(whole[4:])
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        chance.choice(MUTATIONS)(chance, body)
        if not body:
            break
    size = len(body)
    if chance.random() < 0.02:
        size = chance.choice((-1, -(1 << 31), 0, 1, size // 2, size + 100, 104_857_601, 0x7FFFFFFF))
    return struct.pack(">i", size) + body
