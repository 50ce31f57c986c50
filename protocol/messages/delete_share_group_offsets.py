"""DeleteShareGroupOffsets (key 92): offsets of a share group to be deleted (KIP-932)."""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import ZERO_UUID, Int16, Int32, NullableString, String, Uuid


@dataclass(slots=True)
class DeleteShareGroupOffsetsRequestTopic:
    topic_name: String = ""


@dataclass(slots=True)
class DeleteShareGroupOffsetsRequest:
    """The group and its topics."""

    API_KEY: ClassVar[int] = 92
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    group_id: String = ""
    topics: list[DeleteShareGroupOffsetsRequestTopic] = field(default_factory=list)


@dataclass(slots=True)
class DeleteShareGroupOffsetsResponseTopic:
    topic_name: String = ""
    topic_id: Uuid = ZERO_UUID
    error_code: Int16 = 0
    error_message: NullableString = None


@dataclass(slots=True)
class DeleteShareGroupOffsetsResponse:
    """What became of each topic."""

    API_KEY: ClassVar[int] = 92
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = None
    responses: list[DeleteShareGroupOffsetsResponseTopic] = field(default_factory=list)
