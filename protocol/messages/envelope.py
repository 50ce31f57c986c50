"""Envelope (key 58): a request that a broker forwards to the controller for a client (KIP-590)."""

from dataclasses import dataclass
from typing import ClassVar

from protocol.wire import Bytes, Int16, NullableBytes


@dataclass(slots=True)
class EnvelopeRequest:
    """The request's bytes with the client's principal and address."""

    API_KEY: ClassVar[int] = 58
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    request_data: Bytes = b""
    request_principal: NullableBytes = b""
    client_host_address: Bytes = b""


@dataclass(slots=True)
class EnvelopeResponse:
    """The answer's bytes."""

    API_KEY: ClassVar[int] = 58
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    response_data: NullableBytes = None
    error_code: Int16 = 0
