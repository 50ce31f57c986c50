"""DescribeAcls (key 29): access rules that match a filter (KIP-140).

Versions: 1 pattern types (KIP-290), throttling after the answer (KIP-219); 2 flexible (KIP-482); 3
user resources (KIP-373).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Int8, Int16, Int32, NullableString, String, since


@dataclass(slots=True)
class DescribeAclsRequest:
    """The filter; null matches everything."""

    API_KEY: ClassVar[int] = 29
    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    resource_type_filter: Int8 = 0
    resource_name_filter: NullableString = ""
    pattern_type_filter: Annotated[Int8, since(1)] = 3
    principal_filter: NullableString = ""
    host_filter: NullableString = ""
    operation: Int8 = 0
    permission_type: Int8 = 0


@dataclass(slots=True)
class AclDescription:
    principal: String = ""
    host: String = ""
    operation: Int8 = 0
    permission_type: Int8 = 0


@dataclass(slots=True)
class DescribeAclsResource:
    resource_type: Int8 = 0
    resource_name: String = ""
    pattern_type: Annotated[Int8, since(1)] = 3
    acls: list[AclDescription] = field(default_factory=list)


@dataclass(slots=True)
class DescribeAclsResponse:
    """The rules by resource."""

    API_KEY: ClassVar[int] = 29
    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = ""
    resources: list[DescribeAclsResource] = field(default_factory=list)
