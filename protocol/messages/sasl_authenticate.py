"""SaslAuthenticate (key 36): one step of a SASL exchange (KIP-152).

Versions: 1 session lifetime (KIP-368); 2 flexible (KIP-482).
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from protocol.wire import Bytes, Int16, Int64, NullableString, ignorable, since


@dataclass(slots=True)
class SaslAuthenticateRequest:
    """The client's token."""

    API_KEY: ClassVar[int] = 36
    VERSIONS: ClassVar[tuple[int, int]] = (0, 2)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    auth_bytes: Bytes = b""


@dataclass(slots=True)
class SaslAuthenticateResponse:
    """The broker's token, and since version 1 how long (ms) the session may last."""

    API_KEY: ClassVar[int] = 36
    VERSIONS: ClassVar[tuple[int, int]] = (0, 2)
    FLEXIBLE_SINCE: ClassVar[int | None] = 2

    error_code: Int16 = 0
    error_message: NullableString = ""
    auth_bytes: Bytes = b""
    session_lifetime_ms: Annotated[Int64, since(1), ignorable] = 0
