"""DeleteTopics (key 20): topics to be deleted (KIP-4).

Versions: 1 throttle time (KIP-124); 2 throttling after the answer (KIP-219); 3
TOPIC_DELETION_DISABLED (KIP-322); 4 flexible (KIP-482); 5 error messages, THROTTLING_QUOTA_EXCEEDED
(KIP-599); 6 topic ids (KIP-516).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import (
    ZERO_UUID,
    Int16,
    Int32,
    NullableString,
    String,
    Uuid,
    ignorable,
    nullable_since,
    since,
    until,
)


@dataclass(slots=True)
class DeleteTopicState:
    name: NullableString = None
    topic_id: Uuid = ZERO_UUID


@dataclass(slots=True)
class DeleteTopicsRequest:
    """Topics by name, since version 6 also by id."""

    API_KEY: ClassVar[int] = 20
    VERSIONS: ClassVar[tuple[int, int]] = (0, 6)
    FLEXIBLE_SINCE: ClassVar[int | None] = 4

    topics: Annotated[list[DeleteTopicState], since(6)] = field(default_factory=list)
    topic_names: Annotated[list[String], until(5), ignorable] = field(default_factory=list)
    timeout_ms: Int32 = 0


@dataclass(slots=True)
class DeletableTopicResult:
    name: Annotated[NullableString, nullable_since(6)] = ""
    topic_id: Annotated[Uuid, since(6), ignorable] = ZERO_UUID
    error_code: Int16 = 0
    error_message: Annotated[NullableString, since(5), ignorable] = None


@dataclass(slots=True)
class DeleteTopicsResponse:
    """What became of each topic."""

    API_KEY: ClassVar[int] = 20
    VERSIONS: ClassVar[tuple[int, int]] = (0, 6)
    FLEXIBLE_SINCE: ClassVar[int | None] = 4

    throttle_time_ms: Annotated[Int32, since(1), ignorable] = 0
    responses: list[DeletableTopicResult] = field(default_factory=list)
