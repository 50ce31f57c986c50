"""Zig-zag varints against kafka-python's and at their edges."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.errors import Malformed
from protocol.varint import encode_varint, read_varint, read_varlong, varint_size
from tests.protocol.record_oracles import decode_varint as their_decode
from tests.protocol.record_oracles import encode_varint as their_encode

INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)

EXAMPLES = [
    (0, "00"),
    (-1, "01"),
    (1, "02"),
    (63, "7e"),
    (-64, "7f"),
    (64, "8001"),
    (-65, "8101"),
    (8191, "fe7f"),
    (8192, "808001"),
    (1048575, "feff7f"),
    (1048576, "80808001"),
    ((1 << 31) - 1, "feffffff0f"),
    (-(1 << 31), "ffffffff0f"),
]
LONG_EXAMPLES = [
    ((1 << 63) - 1, "feffffffffffffffff01"),
    (-(1 << 63), "ffffffffffffffffff01"),
]


@pytest.mark.parametrize(("value", "encoded"), EXAMPLES + LONG_EXAMPLES)
def test_known_encodings(value: int, encoded: str) -> None:
    data = bytes.fromhex(encoded)
    assert encode_varint(value) == data
    assert varint_size(value) == len(data)
    assert read_varlong(data, 0) == (value, len(data))
    if len(data) <= 5:
        assert read_varint(b"\xaa" + data + b"\xaa", 1) == (value, 1 + len(data))


@given(INT32)
def test_32_bits(value: int) -> None:
    data = encode_varint(value)
    assert read_varint(memoryview(data), 0) == (value, len(data))


@given(INT64)
@example(-(1 << 63))
def test_64_bits_as_kafka_python(value: int) -> None:
    theirs = bytearray()
    their_encode(value, theirs.append)
    data = encode_varint(value)
    assert data == theirs
    assert read_varlong(data, 0) == their_decode(data, 0) == (value, len(data))
    assert varint_size(value) == len(data)


@given(INT64, st.integers(0, 9))
def test_cut_off(value: int, keep: int) -> None:
    data = encode_varint(value)[:-1][:keep]
    with pytest.raises(Malformed):
        read_varlong(data, 0)


@pytest.mark.parametrize("read", [read_varint, read_varlong])
def test_too_long(read: object) -> None:
    assert callable(read)
    most = 5 if read is read_varint else 10
    with pytest.raises(Malformed, match=f"more than {most} bytes"):
        read(b"\x80" * most + b"\x00", 0)
    assert read(b"\x80" * (most - 1) + b"\x00", 0) == (0, most)


def test_bits_above_the_width_are_dropped() -> None:
    assert read_varint(b"\xfe\xff\xff\xff\x7f", 0) == ((1 << 31) - 1, 5)
    assert read_varlong(b"\xfe" + b"\xff" * 8 + b"\x7f", 0) == ((1 << 63) - 1, 10)
