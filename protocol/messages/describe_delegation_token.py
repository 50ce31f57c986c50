"""DescribeDelegationToken (key 41): delegation tokens of owners (KIP-48).

Versions: 1 throttling after the answer (KIP-219); 2 flexible (KIP-482); 3 who asked for the token
(KIP-373).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Bytes, Int16, Int32, Int64, String, since


@dataclass(slots=True)
class DescribeDelegationTokenOwner:
    principal_type: String = ""
    principal_name: String = ""


@dataclass(slots=True)
class DescribeDelegationTokenRequest:
    """The owners; null means everybody's tokens that the asker may see."""

    API_KEY: ClassVar[int] = 41
    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    owners: list[DescribeDelegationTokenOwner] | None = field(default_factory=list)


@dataclass(slots=True)
class DescribedDelegationTokenRenewer:
    principal_type: String = ""
    principal_name: String = ""


@dataclass(slots=True)
class DescribedDelegationToken:
    principal_type: String = ""
    principal_name: String = ""
    token_requester_principal_type: Annotated[String, since(3)] = ""
    token_requester_principal_name: Annotated[String, since(3)] = ""
    issue_timestamp: Int64 = 0
    expiry_timestamp: Int64 = 0
    max_timestamp: Int64 = 0
    token_id: String = ""
    hmac: Bytes = b""
    renewers: list[DescribedDelegationTokenRenewer] = field(default_factory=list)


@dataclass(slots=True)
class DescribeDelegationTokenResponse:
    """The tokens."""

    API_KEY: ClassVar[int] = 41
    VERSIONS: ClassVar[tuple[int, int]] = (0, 3)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    error_code: Int16 = 0
    tokens: list[DescribedDelegationToken] = field(default_factory=list)
    throttle_time_ms: Int32 = 0
