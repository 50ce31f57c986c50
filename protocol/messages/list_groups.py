"""ListGroups (key 16): the groups that a broker coordinates.

Versions: 1 throttle time (KIP-124); 2 throttling after the answer (KIP-219); 3 flexible (KIP-482);
4 states (KIP-518); 5 types (KIP-848).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Int16, Int32, String, ignorable, since


@dataclass(slots=True)
class ListGroupsRequest:
    """States and types that the answer is limited to; empty means no limit."""

    API_KEY: ClassVar[int] = 16
    VERSIONS: ClassVar[tuple[int, int]] = (0, 5)
    FLEXIBLE_SINCE: ClassVar[int | None] = 3

    states_filter: Annotated[list[String], since(4)] = field(default_factory=list)
    types_filter: Annotated[list[String], since(5)] = field(default_factory=list)


@dataclass(slots=True)
class ListedGroup:
    group_id: String = ""
    protocol_type: String = ""
    group_state: Annotated[String, since(4), ignorable] = ""
    group_type: Annotated[String, since(5), ignorable] = ""


@dataclass(slots=True)
class ListGroupsResponse:
    """The groups of this broker."""

    API_KEY: ClassVar[int] = 16
    VERSIONS: ClassVar[tuple[int, int]] = (0, 5)
    FLEXIBLE_SINCE: ClassVar[int | None] = 3

    throttle_time_ms: Annotated[Int32, since(1), ignorable] = 0
    error_code: Int16 = 0
    groups: list[ListedGroup] = field(default_factory=list)
