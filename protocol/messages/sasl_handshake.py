"""SaslHandshake (key 17): the choice of a SASL mechanism.

Versions: 1 the exchange that follows goes by SaslAuthenticate (KIP-152). Never flexible.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from protocol.wire import Int16, String


@dataclass(slots=True)
class SaslHandshakeRequest:
    """The mechanism that the client wants."""

    API_KEY: ClassVar[int] = 17
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    mechanism: String = ""


@dataclass(slots=True)
class SaslHandshakeResponse:
    """The mechanisms that are enabled."""

    API_KEY: ClassVar[int] = 17
    VERSIONS: ClassVar[tuple[int, int]] = (0, 1)
    FLEXIBLE_SINCE: ClassVar[int | None] = None

    error_code: Int16 = 0
    mechanisms: list[String] = field(default_factory=list)
