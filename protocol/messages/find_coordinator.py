"""FindCoordinator (key 10): which broker coordinates a group, a transactional id or a share
partition.

Versions: 1 key types (KIP-98) and throttle time (KIP-124); 2 throttling after the answer (KIP-219);
3 flexible (KIP-482); 4 several keys (KIP-699); 5 TRANSACTION_ABORTABLE (KIP-890); 6 share groups
(KIP-932).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Int8, Int16, Int32, NullableString, String, ignorable, since, until


@dataclass(slots=True)
class FindCoordinatorRequest:
    """The key and its type: 0 group, 1 transaction, 2 share."""

    API_KEY: ClassVar[int] = 10
    VERSIONS: ClassVar[tuple[int, int]] = (0, 6)
    FLEXIBLE_SINCE: ClassVar[int | None] = 3

    key: Annotated[String, until(3)] = ""
    key_type: Annotated[Int8, since(1)] = 0
    coordinator_keys: Annotated[list[String], since(4)] = field(default_factory=list)


@dataclass(slots=True)
class Coordinator:
    key: String = ""
    node_id: Int32 = 0
    host: String = ""
    port: Int32 = 0
    error_code: Int16 = 0
    error_message: Annotated[NullableString, ignorable] = ""


@dataclass(slots=True)
class FindCoordinatorResponse:
    """The coordinator's address; since version 4 one for each key."""

    API_KEY: ClassVar[int] = 10
    VERSIONS: ClassVar[tuple[int, int]] = (0, 6)
    FLEXIBLE_SINCE: ClassVar[int | None] = 3

    throttle_time_ms: Annotated[Int32, since(1), ignorable] = 0
    error_code: Annotated[Int16, until(3)] = 0
    error_message: Annotated[NullableString, since(1), until(3), ignorable] = ""
    node_id: Annotated[Int32, until(3)] = 0
    host: Annotated[String, until(3)] = ""
    port: Annotated[Int32, until(3)] = 0
    coordinators: Annotated[list[Coordinator], since(4)] = field(default_factory=list)
