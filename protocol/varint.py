"""Zig-zag varints as records of magic 2 use them.

A varint (32 bits) takes at most 5 bytes, a varlong (64 bits) at most 10; bits above the width are
dropped, as Apache Kafka drops them. The plain unsigned varints of flexible message versions live
with the message compiler.
"""

from protocol.errors import Malformed
from protocol.wire import Buffer

MAX_VARINT = 5
MAX_VARLONG = 10

_ONE_BYTE = tuple(bytes((value,)) for value in range(128))


def read_varint(data: Buffer, pos: int) -> tuple[int, int]:
    """``(value, following position)`` of the 32-bit varint at ``pos``.

    Raises Malformed if it is cut off or too long.
    """
    try:
        raw = data[pos]
        if raw < 0x80:
            return (raw >> 1) ^ -(raw & 1), pos + 1
        second = data[pos + 1]
    except IndexError:
        raise Malformed("varint cut off at the end of the data") from None
    if second < 0x80:
        raw = raw & 0x7F | second << 7
        return (raw >> 1) ^ -(raw & 1), pos + 2
    raw, pos = _read(data, pos, MAX_VARINT)
    raw &= 0xFFFFFFFF
    return (raw >> 1) ^ -(raw & 1), pos


def read_varlong(data: Buffer, pos: int) -> tuple[int, int]:
    """``(value, following position)`` of the 64-bit varint at ``pos``.

    Raises Malformed if it is cut off or too long.
    """
    try:
        raw = data[pos]
        if raw < 0x80:
            return (raw >> 1) ^ -(raw & 1), pos + 1
        second = data[pos + 1]
    except IndexError:
        raise Malformed("varint cut off at the end of the data") from None
    if second < 0x80:
        raw = raw & 0x7F | second << 7
        return (raw >> 1) ^ -(raw & 1), pos + 2
    raw, pos = _read(data, pos, MAX_VARLONG)
    raw &= 0xFFFFFFFFFFFFFFFF
    return (raw >> 1) ^ -(raw & 1), pos


def _read(data: Buffer, pos: int, most: int) -> tuple[int, int]:
    """The raw bits of a varint of any length; short ones, which are most, do not come here."""
    raw = shift = 0
    try:
        for _ in range(most):
            byte = data[pos]
            pos += 1
            if byte < 0x80:
                return raw | byte << shift, pos
            raw |= (byte & 0x7F) << shift
            shift += 7
    except IndexError:
        raise Malformed("varint cut off at the end of the data") from None
    raise Malformed(f"varint of more than {most} bytes")


def encode_varint(value: int) -> bytes:
    """The zig-zag varint of a 32- or 64-bit signed value, in the fewest bytes.

    Widths share one encoding; a value outside 64 bits is the caller's mistake and makes an
    undecodable varint.
    """
    raw = value << 1 if value >= 0 else ~(value << 1)
    if raw < 0x80:
        return _ONE_BYTE[raw]
    if raw < 0x4000:
        return bytes((raw & 0x7F | 0x80, raw >> 7))
    if raw < 0x200000:
        return bytes((raw & 0x7F | 0x80, raw >> 7 & 0x7F | 0x80, raw >> 14))
    out = bytearray()
    while raw >= 0x80:
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    out.append(raw)
    return bytes(out)


def varint_size(value: int) -> int:
    """Bytes that :func:`encode_varint` needs."""
    raw = value << 1 if value >= 0 else ~(value << 1)
    return (raw.bit_length() + 6) // 7 or 1
