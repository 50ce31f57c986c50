"""DescribeGroups (key 15): state and members of classic groups.

Versions: 1 throttle time (KIP-124); 2 throttling after the answer (KIP-219); 3 authorized
operations (KIP-430); 4 static members (KIP-345); 5 flexible (KIP-482); 6 GROUP_ID_NOT_FOUND
(KIP-1043).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Bool, Bytes, Int16, Int32, NullableString, String, ignorable, since


@dataclass(slots=True)
class DescribeGroupsRequest:
    """The groups asked for."""

    API_KEY: ClassVar[int] = 15
    VERSIONS: ClassVar[tuple[int, int]] = (0, 6)
    FLEXIBLE_SINCE: ClassVar[int | None] = 5

    groups: list[String] = field(default_factory=list)
    include_authorized_operations: Annotated[Bool, since(3)] = False


@dataclass(slots=True)
class DescribedGroupMember:
    member_id: String = ""
    group_instance_id: Annotated[NullableString, since(4), ignorable] = None
    client_id: String = ""
    client_host: String = ""
    member_metadata: Bytes = b""
    member_assignment: Bytes = b""


@dataclass(slots=True)
class DescribedGroup:
    error_code: Int16 = 0
    error_message: Annotated[NullableString, since(6)] = None
    group_id: String = ""
    group_state: String = ""
    protocol_type: String = ""
    protocol_data: String = ""
    members: list[DescribedGroupMember] = field(default_factory=list)
    authorized_operations: Annotated[Int32, since(3)] = -2147483648


@dataclass(slots=True)
class DescribeGroupsResponse:
    """Each group's state, protocol and members."""

    API_KEY: ClassVar[int] = 15
    VERSIONS: ClassVar[tuple[int, int]] = (0, 6)
    FLEXIBLE_SINCE: ClassVar[int | None] = 5

    throttle_time_ms: Annotated[Int32, since(1), ignorable] = 0
    groups: list[DescribedGroup] = field(default_factory=list)
