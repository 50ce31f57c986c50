"""IncrementalAlterConfigs (key 44): single settings of resources to be set, deleted, appended to or
subtracted from (KIP-339).

Versions: 1 flexible (KIP-482).
"""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import Bool, Int8, Int16, Int32, NullableString, String


@dataclass(slots=True)
class AlterableConfig:
    name: String = ""
    config_operation: Int8 = 0
    value: NullableString = ""


@dataclass(slots=True)
class AlterConfigsResource:
    resource_type: Int8 = 0
    resource_name: String = ""
    configs: list[AlterableConfig] = field(default_factory=list)


@dataclass(slots=True)
class IncrementalAlterConfigsRequest:
    """Resources with their changes."""

    API_KEY: ClassVar[int] = 44
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 1

    resources: list[AlterConfigsResource] = field(default_factory=list)
    validate_only: Bool = False


@dataclass(slots=True)
class AlterConfigsResourceResponse:
    error_code: Int16 = 0
    error_message: NullableString = ""
    resource_type: Int8 = 0
    resource_name: String = ""


@dataclass(slots=True)
class IncrementalAlterConfigsResponse:
    """What became of each resource."""

    API_KEY: ClassVar[int] = 44
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = 1

    throttle_time_ms: Int32 = 0
    responses: list[AlterConfigsResourceResponse] = field(default_factory=list)
