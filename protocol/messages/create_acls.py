"""CreateAcls (key 30): access rules to be made (KIP-140).

Versions: 1 pattern types (KIP-290), throttling after the answer (KIP-219); 2 flexible (KIP-482); 3
user resources (KIP-373).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Int8, Int16, Int32, NullableString, String, since


@dataclass(slots=True)
class AclCreation:
    resource_type: Int8 = 0
    resource_name: String = ""
    resource_pattern_type: Annotated[Int8, since(1)] = 3
    principal: String = ""
    host: String = ""
    operation: Int8 = 0
    permission_type: Int8 = 0


@dataclass(slots=True)
class CreateAclsRequest:
    """The rules."""

    API_KEY: ClassVar[int] = 30
    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    creations: list[AclCreation] = field(default_factory=list)


@dataclass(slots=True)
class AclCreationResult:
    error_code: Int16 = 0
    error_message: NullableString = ""


@dataclass(slots=True)
class CreateAclsResponse:
    """What became of each rule, in the order of the request."""

    API_KEY: ClassVar[int] = 30
    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    throttle_time_ms: Int32 = 0
    results: list[AclCreationResult] = field(default_factory=list)
