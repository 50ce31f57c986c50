"""GetTelemetrySubscriptions (key 71): which metrics a client shall push (KIP-714)."""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import ZERO_UUID, Bool, Int8, Int16, Int32, String, Uuid


@dataclass(slots=True)
class GetTelemetrySubscriptionsRequest:
    """The client's instance id, zero at first."""

    API_KEY: ClassVar[int] = 71
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    client_instance_id: Uuid = ZERO_UUID


@dataclass(slots=True)
class GetTelemetrySubscriptionsResponse:
    """The subscription and how to push."""

    API_KEY: ClassVar[int] = 71
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    client_instance_id: Uuid = ZERO_UUID
    subscription_id: Int32 = 0
    accepted_compression_types: list[Int8] = field(default_factory=list)
    push_interval_ms: Int32 = 0
    telemetry_max_bytes: Int32 = 0
    delta_temporality: Bool = False
    requested_metrics: list[String] = field(default_factory=list)
