"""LeaveGroup (key 13): members leave a group.

Versions: 1 throttle time (KIP-124); 2 throttling after the answer (KIP-219); 3 several and static
members (KIP-345); 4 flexible (KIP-482); 5 a reason (KIP-800).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Int16, Int32, NullableString, String, ignorable, since, until


@dataclass(slots=True)
class MemberIdentity:
    member_id: String = ""
    group_instance_id: NullableString = None
    reason: Annotated[NullableString, since(5), ignorable] = None


@dataclass(slots=True)
class LeaveGroupRequest:
    """The member, since version 3 several of them."""

    API_KEY: ClassVar[int] = 13
    VERSIONS: ClassVar[tuple[int, int]] = (0, 5)
    FLEXIBLE_SINCE: ClassVar[int | None] = 4

    group_id: String = ""
    member_id: Annotated[String, until(2)] = ""
    members: Annotated[list[MemberIdentity], since(3)] = field(default_factory=list)


@dataclass(slots=True)
class MemberResponse:
    member_id: String = ""
    group_instance_id: NullableString = ""
    error_code: Int16 = 0


@dataclass(slots=True)
class LeaveGroupResponse:
    """What became of each member."""

    API_KEY: ClassVar[int] = 13
    VERSIONS: ClassVar[tuple[int, int]] = (0, 5)
    FLEXIBLE_SINCE: ClassVar[int | None] = 4

    throttle_time_ms: Annotated[Int32, since(1), ignorable] = 0
    error_code: Int16 = 0
    members: Annotated[list[MemberResponse], since(3)] = field(default_factory=list)
