"""AllocateProducerIds (key 67): a broker asks the controller for producer ids (KIP-730)."""

from dataclasses import dataclass
from typing import ClassVar

from protocol.wire import Int16, Int32, Int64


@dataclass(slots=True)
class AllocateProducerIdsRequest:
    """The broker and its epoch."""

    API_KEY: ClassVar[int] = 67
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    broker_id: Int32 = 0
    broker_epoch: Int64 = -1


@dataclass(slots=True)
class AllocateProducerIdsResponse:
    """First id and length of the block."""

    API_KEY: ClassVar[int] = 67
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    producer_id_start: Int64 = 0
    producer_id_len: Int32 = 0
