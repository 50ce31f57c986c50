"""Request and response headers, with their exceptions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.apis import API_BY_KEY
from protocol.errors import Malformed
from protocol.header import (
    RequestHeader,
    decode_request_header,
    decode_response_header,
    encode_request_header,
    encode_response_header,
    request_header_version,
    response_header_version,
)
from tests.kit.strategies import profile


def encoded(header: RequestHeader) -> bytes:
    out = bytearray()
    encode_request_header(header, out)
    return bytes(out)


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (RequestHeader(0, 3, 7, "me"), b"\0\0\0\x03\0\0\0\x07\0\x02me"),
        (RequestHeader(0, 3, 7, None), b"\0\0\0\x03\0\0\0\x07\xff\xff"),
        (RequestHeader(0, 3, 7, ""), b"\0\0\0\x03\0\0\0\x07\0\0"),
        # Flexible versions add tagged fields; the client id stays as it was.
        (RequestHeader(0, 9, 7, "me"), b"\0\0\0\x09\0\0\0\x07\0\x02me\0"),
        (RequestHeader(18, 3, 7, "me"), b"\0\x12\0\x03\0\0\0\x07\0\x02me\0"),
        # A version that does not exist is told by its number.
        (RequestHeader(18, 99, 7, "me"), b"\0\x12\0\x63\0\0\0\x07\0\x02me\0"),
        (RequestHeader(18, -1, 7, "me"), b"\0\x12\xff\xff\0\0\0\x07\0\x02me"),
        (RequestHeader(17, 1, -1, "me"), b"\0\x11\0\x01\xff\xff\xff\xff\0\x02me"),
        # The oldest ControlledShutdown has no client id.
        (RequestHeader(7, 0, 7), b"\0\x07\0\0\0\0\0\x07"),
        (RequestHeader(7, 1, 7, None), b"\0\x07\0\x01\0\0\0\x07\xff\xff"),
        (RequestHeader(7, 3, 7, "0"), b"\0\x07\0\x03\0\0\0\x07\0\x010\0"),
    ],
)
def test_request_headers(header: RequestHeader, data: bytes) -> None:
    assert encoded(header) == data
    assert decode_request_header(b"xx" + data + b"body", 2) == (header, 2 + len(data))
    assert decode_request_header(memoryview(data + b"body")) == (header, len(data))


@pytest.mark.parametrize("key", API_BY_KEY)
def test_header_versions_of_every_api(key: int) -> None:
    api = API_BY_KEY[key]
    for version in range(api.max_version + 1):
        flexible = api.flexible_since is not None and version >= api.flexible_since
        first = (key, version) == (7, 0)
        assert request_header_version(key, version) == (0 if first else 2 if flexible else 1)
        assert response_header_version(key, version) == (1 if flexible and key != 18 else 0)


def test_tags_of_the_future_are_skipped() -> None:
    data = b"\0\x12\0\x03\0\0\0\x07\0\x02me" + b"\x02\x00\x01a\x81\x01\x03bcd" + b"body"
    header, end = decode_request_header(data)
    assert (header.client_id, data[end:]) == ("me", b"body")
    assert decode_response_header(1, b"\0\0\0\x07\x01\x05\x02ab" + b"body") == (7, 9)


def test_client_id_that_is_no_text_is_replaced() -> None:
    header, _ = decode_request_header(b"\0\0\0\x03\0\0\0\x07\0\x02\xff\xfe")
    assert header.client_id == "��"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "cut off"),
        (b"\0\0\0\x03\0\0\0\x07\0", "cut off"),
        (b"\0\0\0\x03\0\0\0\x07\0\x03me", "client id is cut off"),
        (b"\0\0\0\x03\0\0\0\x07\xff\xfe", "negative length"),
        (b"\0\0\0\x09\0\0\0\x07\0\x02me", "cut off"),
        (b"\0\0\0\x09\0\0\0\x07\0\x02me\x01\x05\x7f", "tagged field"),
        (b"\0\0\0\x09\0\0\0\x07\0\x02me\xff\xff\xff\xff\xff\x01", "varint"),
        (b"\x03\xe7\0\0\0\0\0\x07\0\x02me", "API key 999 is unknown"),
        (b"\xff\xff\0\0\0\0\0\x07\0\x02me", "API key -1 is unknown"),
    ],
)
def test_bad_request_headers(data: bytes, text: str) -> None:
    with pytest.raises(Malformed, match=text):
        decode_request_header(data)


def test_response_headers() -> None:
    out = bytearray(b"x")
    encode_response_header(0, -7, out)
    assert bytes(out) == b"x\xff\xff\xff\xf9"
    encode_response_header(1, 7, out)
    assert bytes(out[5:]) == b"\0\0\0\x07\0"
    assert decode_response_header(0, bytes(out), 1) == (-7, 5)
    assert decode_response_header(1, bytes(out), 5) == (7, 10)


@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\0\0\0\x07", b"\0\0\0\x07\x01\x05"])
def test_bad_response_headers(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_response_header(1, data)


def test_a_client_id_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="client id"):
        encoded(RequestHeader(0, 3, 7, "x" * 32768))


@profile(200)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_header_or_malformed(data: bytes) -> None:
    try:
        header, end = decode_request_header(data)
    except Malformed:
        return
    assert end <= len(data)
    assert header.api_key in API_BY_KEY


def test_headers_compare_and_show_themselves() -> None:
    header = RequestHeader(1, 2, 3, "me")
    assert header == RequestHeader(1, 2, 3, "me")
    assert header != RequestHeader(1, 2, 3, "you")
    assert header != 1
    assert repr(header).startswith("RequestHeader(api_key=1, api_version=2")
