"""Request and response headers: hand-written, because none of them is regular.

Request header 0 has no client id (only ControlledShutdown 0 uses it), 1 adds the client id, 2 adds
tagged fields but keeps the client id an ordinary nullable string, so that a broker can read the
start of any header without knowing the API. Response header 0 is the correlation id, 1 adds tagged
fields. ApiVersions always answers with header 0: its client cannot know yet what is understood.
"""

from struct import Struct
from struct import error as struct_error

from protocol.apis import API_BY_KEY
from protocol.compiler import read_uvarint
from protocol.errors import Malformed
from protocol.wire import Buffer

API_VERSIONS = 18
CONTROLLED_SHUTDOWN = 7

_NEVER = 1 << 16
_FLEXIBLE_SINCE = {
    api.key: _NEVER if api.flexible_since is None else api.flexible_since
    for api in API_BY_KEY.values()
}
_FIXED = Struct(">hhi")
_FIXED_AND_LENGTH = Struct(">hhih")
_INT32 = Struct(">i")


class RequestHeader:
    """What leads every request. `client_id` is None where null was sent or the header has none."""

    __slots__ = ("api_key", "api_version", "client_id", "correlation_id")

    def __init__(
        self, api_key: int, api_version: int, correlation_id: int, client_id: str | None = None
    ) -> None:
        self.api_key = api_key
        self.api_version = api_version
        self.correlation_id = correlation_id
        self.client_id = client_id

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RequestHeader):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"RequestHeader(api_key={self.api_key}, api_version={self.api_version}, "
            f"correlation_id={self.correlation_id}, client_id={self.client_id!r})"
        )


def request_header_version(key: int, version: int) -> int:
    """The header that a request of this API and version has; 1 for an unknown API."""
    if key == CONTROLLED_SHUTDOWN and version == 0:
        return 0
    return 2 if version >= _FLEXIBLE_SINCE.get(key, _NEVER) else 1


def response_header_version(key: int, version: int) -> int:
    """The header that an answer of this API and version has."""
    if key == API_VERSIONS:
        return 0
    return 1 if version >= _FLEXIBLE_SINCE.get(key, _NEVER) else 0


def decode_request_header(data: Buffer, pos: int = 0) -> tuple[RequestHeader, int]:
    """The header at `pos` and where the body begins.

    A version that is not served is no error here (ApiVersions must answer it); an unknown API is
    Malformed, because nothing can be said about its header.
    """
    try:
        key, version, correlation_id, length = _FIXED_AND_LENGTH.unpack_from(data, pos)
        flexible_since = _FLEXIBLE_SINCE.get(key)
        if flexible_since is None:
            raise Malformed(f"API key {key} is unknown")
        if key == CONTROLLED_SHUTDOWN and version == 0:
            return RequestHeader(key, version, correlation_id), pos + 8
        pos += 10
        client_id = None
        if length >= 0:
            end = pos + length
            if end > len(data):
                raise Malformed("the client id is cut off")
            client_id = str(data[pos:end], "utf-8", "replace")
            pos = end
        elif length != -1:
            raise Malformed("the client id has a negative length")
        if version >= flexible_since:
            # Almost always an empty section, one zero byte.
            pos = pos + 1 if data[pos] == 0 else _skip_tags(data, pos)
    except (struct_error, IndexError) as error:
        raise Malformed(f"the request header is cut off: {error}") from None
    return RequestHeader(key, version, correlation_id, client_id), pos


def encode_request_header(header: RequestHeader, out: bytearray) -> None:
    """Appends a request header in the version that its API and version ask for."""
    number = request_header_version(header.api_key, header.api_version)
    out += _FIXED.pack(header.api_key, header.api_version, header.correlation_id)
    if number == 0:
        return
    if header.client_id is None:
        out += b"\xff\xff"
    else:
        text = header.client_id.encode()
        if len(text) > 32767:
            raise ValueError("the client id is longer than 32767 bytes")
        out += len(text).to_bytes(2, "big")
        out += text
    if number == 2:
        out.append(0)


def decode_response_header(header_version: int, data: Buffer, pos: int = 0) -> tuple[int, int]:
    """The correlation id at `pos` and where the body begins."""
    try:
        (correlation_id,) = _INT32.unpack_from(data, pos)
        pos += 4
        if header_version >= 1:
            pos = _skip_tags(data, pos)
    except (struct_error, IndexError) as error:
        raise Malformed(f"the response header is cut off: {error}") from None
    return correlation_id, pos


def encode_response_header(header_version: int, correlation_id: int, out: bytearray) -> None:
    """Appends a response header; the version comes from `response_header_version`."""
    out += _INT32.pack(correlation_id)
    if header_version >= 1:
        out.append(0)


def _skip_tags(data: Buffer, pos: int) -> int:
    """Steps over tagged fields (KIP-482); Kafka defines none in headers."""
    count, pos = read_uvarint(data, pos)
    for _ in range(count):
        _, pos = read_uvarint(data, pos)
        size, pos = read_uvarint(data, pos)
        pos += size
        if pos > len(data):
            raise Malformed("a tagged field of the header is cut off")
    return pos
