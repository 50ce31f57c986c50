"""Heartbeat (key 12): a group member says that it lives.

Versions: 1 throttle time (KIP-124); 2 throttling after the answer (KIP-219); 3 static members
(KIP-345); 4 flexible (KIP-482).
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from protocol.wire import Int16, Int32, NullableString, String, ignorable, since


@dataclass(slots=True)
class HeartbeatRequest:
    """The member and its generation."""

    API_KEY: ClassVar[int] = 12
    VERSIONS: ClassVar[tuple[int, int]] = (0, 4)
    FLEXIBLE_SINCE: ClassVar[int | None] = 4

    group_id: String = ""
    generation_id: Int32 = 0
    member_id: String = ""
    group_instance_id: Annotated[NullableString, since(3)] = None


@dataclass(slots=True)
class HeartbeatResponse:
    """Whether it is still a member, or a rebalance is under way."""

    API_KEY: ClassVar[int] = 12
    VERSIONS: ClassVar[tuple[int, int]] = (0, 4)
    FLEXIBLE_SINCE: ClassVar[int | None] = 4

    throttle_time_ms: Annotated[Int32, since(1), ignorable] = 0
    error_code: Int16 = 0
