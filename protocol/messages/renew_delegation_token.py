"""RenewDelegationToken (key 39): a delegation token to be renewed (KIP-48).

Versions: 1 throttling after the answer (KIP-219); 2 flexible (KIP-482).
"""

from dataclasses import dataclass
from typing import ClassVar

from protocol.wire import Bytes, Int16, Int32, Int64


@dataclass(slots=True)
class RenewDelegationTokenRequest:
    """The token's secret and for how long (ms)."""

    API_KEY: ClassVar[int] = 39
    VERSIONS: ClassVar[tuple[int, int]] = (0, 2)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    hmac: Bytes = b""
    renew_period_ms: Int64 = 0


@dataclass(slots=True)
class RenewDelegationTokenResponse:
    """When the token expires now (ms since the epoch)."""

    API_KEY: ClassVar[int] = 39
    VERSIONS: ClassVar[tuple[int, int]] = (0, 2)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    error_code: Int16 = 0
    expiry_timestamp_ms: Int64 = 0
    throttle_time_ms: Int32 = 0
