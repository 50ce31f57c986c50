"""SyncGroup (key 14): the leader of a group hands out assignments, every member fetches its own.

Versions: 1 throttle time (KIP-124); 2 throttling after the answer (KIP-219); 3 static members
(KIP-345); 4 flexible (KIP-482); 5 protocol type and name (KIP-559).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Bytes, Int16, Int32, NullableString, String, ignorable, since


@dataclass(slots=True)
class SyncGroupRequestAssignment:
    member_id: String = ""
    assignment: Bytes = b""


@dataclass(slots=True)
class SyncGroupRequest:
    """The member, and from the leader the assignment of each member."""

    API_KEY: ClassVar[int] = 14
    VERSIONS: ClassVar[tuple[int, int]] = (0, 5)
    FLEXIBLE_SINCE: ClassVar[int | None] = 4

    group_id: String = ""
    generation_id: Int32 = 0
    member_id: String = ""
    group_instance_id: Annotated[NullableString, since(3)] = None
    protocol_type: Annotated[NullableString, since(5), ignorable] = None
    protocol_name: Annotated[NullableString, since(5), ignorable] = None
    assignments: list[SyncGroupRequestAssignment] = field(default_factory=list)


@dataclass(slots=True)
class SyncGroupResponse:
    """The member's own assignment."""

    API_KEY: ClassVar[int] = 14
    VERSIONS: ClassVar[tuple[int, int]] = (0, 5)
    FLEXIBLE_SINCE: ClassVar[int | None] = 4

    throttle_time_ms: Annotated[Int32, since(1), ignorable] = 0
    error_code: Int16 = 0
    protocol_type: Annotated[NullableString, since(5), ignorable] = None
    protocol_name: Annotated[NullableString, since(5), ignorable] = None
    assignment: Bytes = b""
