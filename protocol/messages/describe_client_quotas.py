"""DescribeClientQuotas (key 48): client quotas that match a filter (KIP-546).

Versions: 1 flexible (KIP-482).
"""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import Bool, Float64, Int8, Int16, Int32, NullableString, String


@dataclass(slots=True)
class ComponentData:
    entity_type: String = ""
    match_type: Int8 = 0
    match: NullableString = ""


@dataclass(slots=True)
class DescribeClientQuotasRequest:
    """What users, client ids and addresses must match."""

    API_KEY: ClassVar[int] = 48
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 1

    components: list[ComponentData] = field(default_factory=list)
    strict: Bool = False


@dataclass(slots=True)
class EntityData:
    entity_type: String = ""
    entity_name: NullableString = ""


@dataclass(slots=True)
class ValueData:
    key: String = ""
    value: Float64 = 0.0


@dataclass(slots=True)
class EntryData:
    entity: list[EntityData] = field(default_factory=list)
    values: list[ValueData] = field(default_factory=list)


@dataclass(slots=True)
class DescribeClientQuotasResponse:
    """Quotas by entity."""

    API_KEY: ClassVar[int] = 48
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 1

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = ""
    entries: list[EntryData] | None = field(default_factory=list)
