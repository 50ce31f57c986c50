"""DescribeConfigs (key 32): settings of topics, brokers, groups and loggers (KIP-133).

Versions: 1 sources and synonyms (KIP-226); 2 throttling after the answer (KIP-219); 3 types and
documentation (KIP-569); 4 flexible (KIP-482).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Bool, Int8, Int16, Int32, NullableString, String, ignorable, since, until


@dataclass(slots=True)
class DescribeConfigsResource:
    resource_type: Int8 = 0
    resource_name: String = ""
    configuration_keys: list[String] | None = field(default_factory=list)


@dataclass(slots=True)
class DescribeConfigsRequest:
    """Resources and the names of their settings; null means all."""

    API_KEY: ClassVar[int] = 32
    VERSIONS: ClassVar[tuple[int, int]] = (0, 4)
    FLEXIBLE_SINCE: ClassVar[int | None] = 4

    resources: list[DescribeConfigsResource] = field(default_factory=list)
    include_synonyms: Annotated[Bool, since(1)] = False
    include_documentation: Annotated[Bool, since(3)] = False


@dataclass(slots=True)
class DescribeConfigsSynonym:
    name: String = ""
    value: NullableString = ""
    source: Int8 = 0


@dataclass(slots=True)
class DescribeConfigsResourceResult:
    name: String = ""
    value: NullableString = ""
    read_only: Bool = False
    is_default: Annotated[Bool, until(0)] = False
    config_source: Annotated[Int8, since(1), ignorable] = -1
    is_sensitive: Bool = False
    synonyms: Annotated[list[DescribeConfigsSynonym], since(1), ignorable] = field(
        default_factory=list
    )
    config_type: Annotated[Int8, since(3), ignorable] = 0
    documentation: Annotated[NullableString, since(3), ignorable] = ""


@dataclass(slots=True)
class DescribeConfigsResult:
    error_code: Int16 = 0
    error_message: NullableString = ""
    resource_type: Int8 = 0
    resource_name: String = ""
    configs: list[DescribeConfigsResourceResult] = field(default_factory=list)


@dataclass(slots=True)
class DescribeConfigsResponse:
    """Each setting's value, where it comes from and what it may be."""

    API_KEY: ClassVar[int] = 32
    VERSIONS: ClassVar[tuple[int, int]] = (0, 4)
    FLEXIBLE_SINCE: ClassVar[int | None] = 4

    throttle_time_ms: Int32 = 0
    results: list[DescribeConfigsResult] = field(default_factory=list)
