"""What the record tests share: values to write, captured logs and frames, batches with one field
wrong."""

import json
import lzma
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from protocol.apis import request_class, response_class
from protocol.compiler import decoder
from protocol.header import decode_request_header, decode_response_header, response_header_version
from protocol.record import Record

HERE = Path(__file__).parent
LIMIT = 1 << 24
CODECS = range(5)
START = 1_700_000_000_000

blobs = st.none() | st.binary(max_size=200)
headers = st.lists(st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=40)), max_size=4)


@st.composite
def record_lists(draw: st.DrawFn, min_size: int = 1, with_headers: bool = True) -> list[Record]:
    """Records with offsets 0, 1, 2 ... and any timestamps."""
    timestamps = st.integers(-1, 1 << 62) | st.integers(START, START + 100_000)
    return [
        Record(
            index,
            draw(timestamps),
            draw(blobs),
            draw(blobs),
            tuple(draw(headers)) if with_headers else (),
        )
        for index in range(draw(st.integers(min_size, 12)))
    ]


def some_records(count: int = 20, base: int = 0) -> list[Record]:
    return [
        Record(
            base + index,
            START + 7 * index,
            None if index % 5 == 4 else b"key %d" % (index % 3),
            None if index % 7 == 6 else b"value %d " % index * 20,
            (("h", b"\xff"), ("none", None)) if index % 4 == 1 else (),
        )
        for index in range(count)
    ]


@cache
def logs() -> dict[tuple[str, str], dict[str, Any]]:
    """Captured partitions by (release, directory)."""
    with lzma.open(HERE / "captured" / "logs.jsonl.xz", "rt") as lines:
        found = [json.loads(line) for line in lines]
    for log in found:
        log["segments"] = {name: bytes.fromhex(data) for name, data in log["segments"].items()}
    return {(log["release"], log["partition"]): log for log in found}


@cache
def record_sets() -> list[tuple[str, int, int, bytes]]:
    """``(source and case, API key, version, records)`` out of the captured Produce and Fetch
    frames."""
    found = []
    with lzma.open(HERE / "captured_frames" / "frames.jsonl.xz", "rt") as lines:
        for line in lines:
            exchange = json.loads(line)
            key = int(exchange["request"][:4], 16)
            if key > 1 or exchange.get("case") == "truncated body":
                continue
            label = f"{exchange['source']}: {exchange.get('case')}"
            for version, records in _record_sets(exchange, key):
                found.append((label, key, version, records))
    return found


def _record_sets(exchange: dict[str, str], key: int) -> Iterator[tuple[int, bytes]]:
    frame = bytes.fromhex(exchange["request"])
    header, pos = decode_request_header(frame)
    version = header.api_version
    if key == 0:
        request: Any = decoder(request_class(0), version)(frame, pos)[0]
        for topic in request.topic_data:
            for partition in topic.partition_data:
                if partition.records is not None:
                    yield version, bytes(partition.records)
        return
    if "response" not in exchange:
        return
    frame = bytes.fromhex(exchange["response"])
    _, pos = decode_response_header(response_header_version(key, version), frame)
    response: Any = decoder(response_class(1), version)(frame, pos)[0]
    for topic in response.responses:
        for partition in topic.partitions:
            if partition.records:
                yield version, bytes(partition.records)
