"""ControlledShutdown (key 7): a broker that wants to stop asks the controller to move its
leaderships (ZooKeeper mode).

Versions: 1 an ordinary request header; 2 broker epoch (KIP-380); 3 flexible (KIP-482).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Int16, Int32, Int64, String, ignorable, since


@dataclass(slots=True)
class ControlledShutdownRequest:
    """The broker that is about to stop. Version 0 travels with request header 0, without a client
    id.
    """

    API_KEY: ClassVar[int] = 7
    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 3

    broker_id: Int32 = 0
    broker_epoch: Annotated[Int64, since(2), ignorable] = -1


@dataclass(slots=True)
class RemainingPartition:
    topic_name: String = ""
    partition_index: Int32 = 0


@dataclass(slots=True)
class ControlledShutdownResponse:
    """The partitions that the broker still leads."""

    API_KEY: ClassVar[int] = 7
    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 3

    error_code: Int16 = 0
    remaining_partitions: list[RemainingPartition] = field(default_factory=list)
