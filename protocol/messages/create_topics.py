"""CreateTopics (key 19): topics to be created (KIP-4).

Versions: 1 validation only, error messages; 2 throttle time (KIP-124); 3 throttling after the
answer (KIP-219); 4 the broker's defaults for counts of -1 (KIP-464); 5 flexible, the settings that
came about (KIP-525); 6 THROTTLING_QUOTA_EXCEEDED (KIP-599); 7 topic ids (KIP-516).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import (
    ZERO_UUID,
    Bool,
    Int8,
    Int16,
    Int32,
    NullableString,
    String,
    Uuid,
    ignorable,
    since,
    tag,
)


@dataclass(slots=True)
class CreatableReplicaAssignment:
    partition_index: Int32 = 0
    broker_ids: list[Int32] = field(default_factory=list)


@dataclass(slots=True)
class CreatableTopicConfig:
    name: String = ""
    value: NullableString = ""


@dataclass(slots=True)
class CreatableTopic:
    name: String = ""
    num_partitions: Int32 = 0
    replication_factor: Int16 = 0
    assignments: list[CreatableReplicaAssignment] = field(default_factory=list)
    configs: list[CreatableTopicConfig] = field(default_factory=list)


@dataclass(slots=True)
class CreateTopicsRequest:
    """Topics with partition counts or assignments, and settings."""

    API_KEY: ClassVar[int] = 19
    VERSIONS: ClassVar[tuple[int, int]] = (0, 7)
    FLEXIBLE_SINCE: ClassVar[int | None] = 5

    topics: list[CreatableTopic] = field(default_factory=list)
    timeout_ms: Int32 = 60000
    validate_only: Annotated[Bool, since(1)] = False


@dataclass(slots=True)
class CreatableTopicConfigs:
    name: String = ""
    value: NullableString = ""
    read_only: Bool = False
    config_source: Annotated[Int8, ignorable] = -1
    is_sensitive: Bool = False


@dataclass(slots=True)
class CreatableTopicResult:
    name: String = ""
    topic_id: Annotated[Uuid, since(7), ignorable] = ZERO_UUID
    error_code: Int16 = 0
    error_message: Annotated[NullableString, since(1), ignorable] = ""
    topic_config_error_code: Annotated[Int16, since(5), tag(0), ignorable] = 0
    num_partitions: Annotated[Int32, since(5), ignorable] = -1
    replication_factor: Annotated[Int16, since(5), ignorable] = -1
    configs: Annotated[list[CreatableTopicConfigs] | None, since(5), ignorable] = field(
        default_factory=list
    )


@dataclass(slots=True)
class CreateTopicsResponse:
    """What became of each topic."""

    API_KEY: ClassVar[int] = 19
    VERSIONS: ClassVar[tuple[int, int]] = (0, 7)
    FLEXIBLE_SINCE: ClassVar[int | None] = 5

    throttle_time_ms: Annotated[Int32, since(2), ignorable] = 0
    topics: list[CreatableTopicResult] = field(default_factory=list)
