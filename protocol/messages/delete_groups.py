"""DeleteGroups (key 42): groups to be deleted (KIP-229).

Versions: 1 throttling after the answer (KIP-219); 2 flexible (KIP-482); 3 an error message by
group.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Int16, Int32, NullableString, String, ignorable, since


@dataclass(slots=True)
class DeleteGroupsRequest:
    """The groups."""

    API_KEY: ClassVar[int] = 42
    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    groups_names: list[String] = field(default_factory=list)


@dataclass(slots=True)
class DeletableGroupResult:
    group_id: String = ""
    error_code: Int16 = 0
    error_message: Annotated[NullableString, since(3), ignorable] = None


@dataclass(slots=True)
class DeleteGroupsResponse:
    """What became of each group."""

    API_KEY: ClassVar[int] = 42
    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    throttle_time_ms: Int32 = 0
    results: list[DeletableGroupResult] = field(default_factory=list)
