"""CreateDelegationToken (key 38): a delegation token to be made (KIP-48).

Versions: 1 throttling after the answer (KIP-219); 2 flexible (KIP-482); 3 tokens for other owners
(KIP-373).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Bytes, Int16, Int32, Int64, NullableString, String, since


@dataclass(slots=True)
class CreatableRenewers:
    principal_type: String = ""
    principal_name: String = ""


@dataclass(slots=True)
class CreateDelegationTokenRequest:
    """Owner, renewers and the longest life in ms."""

    API_KEY: ClassVar[int] = 38
    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    owner_principal_type: Annotated[NullableString, since(3)] = ""
    owner_principal_name: Annotated[NullableString, since(3)] = ""
    renewers: list[CreatableRenewers] = field(default_factory=list)
    max_lifetime_ms: Int64 = 0


@dataclass(slots=True)
class CreateDelegationTokenResponse:
    """The token with its secret."""

    API_KEY: ClassVar[int] = 38
    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    error_code: Int16 = 0
    principal_type: String = ""
    principal_name: String = ""
    token_requester_principal_type: Annotated[String, since(3)] = ""
    token_requester_principal_name: Annotated[String, since(3)] = ""
    issue_timestamp_ms: Int64 = 0
    expiry_timestamp_ms: Int64 = 0
    max_timestamp_ms: Int64 = 0
    token_id: String = ""
    hmac: Bytes = b""
    throttle_time_ms: Int32 = 0
