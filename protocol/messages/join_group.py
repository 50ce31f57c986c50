"""JoinGroup (key 11): a member joins a group, or joins again.

Versions: 1 rebalance timeout (KIP-62); 2 throttle time (KIP-124); 3 throttling after the answer
(KIP-219); 4 member ids handed out before joining (KIP-394); 5 static members (KIP-345); 6 flexible
(KIP-482); 7 protocol type (KIP-559); 8 a reason (KIP-800); 9 the leader may skip the assignment
(KIP-814).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import (
    Bool,
    Bytes,
    Int16,
    Int32,
    NullableString,
    String,
    ignorable,
    nullable_since,
    since,
)


@dataclass(slots=True)
class JoinGroupRequestProtocol:
    name: String = ""
    metadata: Bytes = b""


@dataclass(slots=True)
class JoinGroupRequest:
    """The member with the protocols it supports."""

    API_KEY: ClassVar[int] = 11
    VERSIONS: ClassVar[tuple[int, int]] = (0, 9)
    FLEXIBLE_SINCE: ClassVar[int | None] = 6

    group_id: String = ""
    session_timeout_ms: Int32 = 0
    rebalance_timeout_ms: Annotated[Int32, since(1), ignorable] = -1
    member_id: String = ""
    group_instance_id: Annotated[NullableString, since(5)] = None
    protocol_type: String = ""
    protocols: list[JoinGroupRequestProtocol] = field(default_factory=list)
    reason: Annotated[NullableString, since(8), ignorable] = None


@dataclass(slots=True)
class JoinGroupResponseMember:
    member_id: String = ""
    group_instance_id: Annotated[NullableString, since(5), ignorable] = None
    metadata: Bytes = b""


@dataclass(slots=True)
class JoinGroupResponse:
    """The generation with its protocol and leader; the leader gets all members."""

    API_KEY: ClassVar[int] = 11
    VERSIONS: ClassVar[tuple[int, int]] = (0, 9)
    FLEXIBLE_SINCE: ClassVar[int | None] = 6

    throttle_time_ms: Annotated[Int32, since(2), ignorable] = 0
    error_code: Int16 = 0
    generation_id: Int32 = -1
    protocol_type: Annotated[NullableString, since(7), ignorable] = None
    protocol_name: Annotated[NullableString, nullable_since(7)] = ""
    leader: String = ""
    skip_assignment: Annotated[Bool, since(9)] = False
    member_id: String = ""
    members: list[JoinGroupResponseMember] = field(default_factory=list)
