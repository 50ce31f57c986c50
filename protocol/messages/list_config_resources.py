"""ListConfigResources (key 74): resources that have settings (KIP-1000 as
ListClientMetricsResources, KIP-1142).

Versions: 1 types of resource (KIP-1142).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Int8, Int16, Int32, String, ignorable, since


@dataclass(slots=True)
class ListConfigResourcesRequest:
    """Types of resource; none means all. Version 0 asks for client metrics only."""

    API_KEY: ClassVar[int] = 74
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    resource_types: Annotated[list[Int8], since(1)] = field(default_factory=list)


@dataclass(slots=True)
class ConfigResource:
    resource_name: String = ""
    resource_type: Annotated[Int8, since(1), ignorable] = 16


@dataclass(slots=True)
class ListConfigResourcesResponse:
    """The resources."""

    API_KEY: ClassVar[int] = 74
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    config_resources: list[ConfigResource] = field(default_factory=list)
