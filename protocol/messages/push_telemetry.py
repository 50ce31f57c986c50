"""PushTelemetry (key 72): metrics pushed by a client (KIP-714)."""

from dataclasses import dataclass
from typing import ClassVar

from protocol.wire import ZERO_UUID, Bool, Bytes, Int8, Int16, Int32, Uuid


@dataclass(slots=True)
class PushTelemetryRequest:
    """Compressed metrics of one subscription."""

    API_KEY: ClassVar[int] = 72
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    client_instance_id: Uuid = ZERO_UUID
    subscription_id: Int32 = 0
    terminating: Bool = False
    compression_type: Int8 = 0
    metrics: Bytes = b""


@dataclass(slots=True)
class PushTelemetryResponse:
    """Whether they were taken."""

    API_KEY: ClassVar[int] = 72
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
