"""Records of __share_group_state: what happened to a share partition's records (KIP-932)."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from protocol.stored import versioned
from protocol.stored.versioned import RecordTypes, encode_key, encode_value
from protocol.wire import ZERO_UUID, Buffer, Int8, Int16, Int32, Int64, String, Uuid, tag

__all__ = [
    "RECORD_TYPES",
    "ShareSnapshotKey",
    "ShareSnapshotValue",
    "ShareUpdateKey",
    "ShareUpdateValue",
    "StateBatch",
    "decode_key",
    "decode_value",
    "encode_key",
    "encode_value",
]


@dataclass(slots=True)
class ShareSnapshotKey:
    """Key of `ShareSnapshotValue`."""

    RECORD_TYPE: ClassVar[int] = 0
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""
    topic_id: Uuid = ZERO_UUID
    partition: Int32 = 0


@dataclass(slots=True)
class StateBatch:
    first_offset: Int64 = 0
    last_offset: Int64 = 0
    delivery_state: Int8 = 0
    delivery_count: Int16 = 0


@dataclass(slots=True)
class ShareSnapshotValue:
    """The whole state of a share partition."""

    RECORD_TYPE: ClassVar[int] = 0
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    snapshot_epoch: Int32 = 0
    state_epoch: Int32 = 0
    leader_epoch: Int32 = 0
    start_offset: Int64 = 0
    delivery_complete_count: Annotated[Int32, tag(0)] = -1
    create_timestamp: Int64 = 0
    write_timestamp: Int64 = 0
    state_batches: list[StateBatch] = field(default_factory=list)


@dataclass(slots=True)
class ShareUpdateKey:
    """Key of `ShareUpdateValue`."""

    RECORD_TYPE: ClassVar[int] = 1
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    group_id: String = ""
    topic_id: Uuid = ZERO_UUID
    partition: Int32 = 0


@dataclass(slots=True)
class ShareUpdateValue:
    """What changed since the last snapshot."""

    RECORD_TYPE: ClassVar[int] = 1
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    snapshot_epoch: Int32 = 0
    leader_epoch: Int32 = 0
    start_offset: Int64 = 0
    delivery_complete_count: Annotated[Int32, tag(0)] = -1
    state_batches: list[StateBatch] = field(default_factory=list)


RECORD_TYPES: RecordTypes = {
    0: ("share_group_state", "ShareSnapshot"),
    1: ("share_group_state", "ShareUpdate"),
}
"""This topic's kinds of record, by the int16 that leads a key: module, and name without Key."""


def decode_key(data: Buffer) -> Any | None:
    """The key object, whose `RECORD_TYPE` is its kind; None for a kind that is not known."""
    return versioned.decode_key(RECORD_TYPES, data)


def decode_value(kind: int, data: Buffer | None) -> Any | None:
    """The value that belongs to a key of this kind; a tombstone (None) stays None."""
    return versioned.decode_value(RECORD_TYPES, kind, data)
