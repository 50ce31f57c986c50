"""AlterClientQuotas (key 49): client quotas to be changed (KIP-546).

Versions: 1 flexible (KIP-482).
"""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import Bool, Float64, Int16, Int32, NullableString, String


@dataclass(slots=True)
class EntityData:
    entity_type: String = ""
    entity_name: NullableString = ""


@dataclass(slots=True)
class OpData:
    key: String = ""
    value: Float64 = 0.0
    remove: Bool = False


@dataclass(slots=True)
class RequestEntryData:
    entity: list[EntityData] = field(default_factory=list)
    ops: list[OpData] = field(default_factory=list)


@dataclass(slots=True)
class AlterClientQuotasRequest:
    """Quotas to be set or removed, by entity."""

    API_KEY: ClassVar[int] = 49
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 1

    entries: list[RequestEntryData] = field(default_factory=list)
    validate_only: Bool = False


@dataclass(slots=True)
class ResponseEntryData:
    error_code: Int16 = 0
    error_message: NullableString = ""
    entity: list[EntityData] = field(default_factory=list)


@dataclass(slots=True)
class AlterClientQuotasResponse:
    """What became of each entity."""

    API_KEY: ClassVar[int] = 49
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 1

    throttle_time_ms: Int32 = 0
    entries: list[ResponseEntryData] = field(default_factory=list)
