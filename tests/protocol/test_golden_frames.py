"""Frames recorded from Apache Kafka 3.9.2 and 4.4.0 decode, and encode to the same bytes again."""

import json
import lzma
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from protocol.apis import API_BY_KEY, request_class, response_class
from protocol.compiler import decoder, encoder
from protocol.errors import Malformed
from protocol.header import (
    decode_request_header,
    decode_response_header,
    encode_request_header,
    encode_response_header,
    response_header_version,
)
from tests.kit.reference_codec import read_message

FRAMES = Path(__file__).parent / "captured_frames" / "frames.jsonl.xz"

Exchange = dict[str, str]


@cache
def exchanges() -> dict[int, list[Exchange]]:
    """All recorded exchanges by API key."""
    found: dict[int, list[Exchange]] = defaultdict(list)
    with lzma.open(FRAMES, "rt") as lines:
        for line in lines:
            exchange: Exchange = json.loads(line)
            found[int(exchange["request"][:4], 16)].append(exchange)
    return found


def again(cls: type[Any], version: int, value: Any) -> bytes:
    out = bytearray()
    encoder(cls, version)(value, out)
    return bytes(out)


def check_request(exchange: Exchange) -> tuple[int, int, int]:
    frame = bytes.fromhex(exchange["request"])
    header, start = decode_request_header(frame)
    out = bytearray()
    encode_request_header(header, out)
    assert bytes(out) == frame[:start]
    cls = request_class(header.api_key)
    value, end = decoder(cls, header.api_version)(frame, start)
    assert again(cls, header.api_version, value) == frame[start:end]
    rest = frame[end:]
    assert not rest or (exchange["source"].startswith("confluent-kafka") and not any(rest))
    assert read_message(cls, header.api_version, frame, start) == (value, end)
    return header.api_key, header.api_version, header.correlation_id


def check_response(exchange: Exchange, key: int, version: int, correlation_id: int) -> None:
    frame = bytes.fromhex(exchange["response"])
    header_version = response_header_version(key, version)
    found, start = decode_response_header(header_version, frame)
    assert found == correlation_id
    out = bytearray()
    encode_response_header(header_version, found, out)
    assert bytes(out) == frame[:start]
    cls = response_class(key)
    value, end = decoder(cls, version)(frame, start)
    assert end == len(frame)
    assert again(cls, version, value) == frame[start:]
    assert read_message(cls, version, frame, start) == (value, end)


@pytest.mark.parametrize("key", sorted(API_BY_KEY), ids=lambda key: API_BY_KEY[key].stem)
def test_recorded_frames_encode_to_the_same_bytes(key: int) -> None:
    for exchange in exchanges()[key]:
        if exchange.get("case", "").startswith("truncated body"):
            continue
        where = check_request(exchange)
        if "response" in exchange:
            check_response(exchange, *where)


def test_requests_cut_short_are_malformed() -> None:
    cut = [
        bytes.fromhex(exchange["request"])
        for of_key in exchanges().values()
        for exchange in of_key
        if exchange.get("case", "").startswith("truncated body")
    ]
    assert len(cut) > 80
    for frame in cut:
        header, start = decode_request_header(frame)
        with pytest.raises(Malformed):
            decoder(request_class(header.api_key), header.api_version)(frame, start)


# Telemetry needs a broker with a receiver; Envelope is answered by closing the connection.
NEVER_ASKED = {(71, 0), (72, 0)}
NEVER_ANSWERED = {*NEVER_ASKED, (58, 0)}


def test_every_version_was_recorded() -> None:
    asked = set()
    answered = set()
    for key, of_key in exchanges().items():
        for exchange in of_key:
            version = int(exchange["request"][4:8], 16)
            asked.add((key, version))
            if "response" in exchange:
                answered.add((key, version))
    served = {
        (api.key, version)
        for api in API_BY_KEY.values()
        for version in range(api.min_version, api.latest_stable + 1)
    }
    assert served - asked == NEVER_ASKED
    assert served - answered == NEVER_ANSWERED
