"""The codecs of record batches: gzip, snappy, lz4 and zstd, with bounded output.

Framing as Java clients write it: gzip members, snappy blocks in the frame of the xerial library,
one lz4 frame of independent 64 KiB blocks, zstd frames. Reading also takes what others send: raw
snappy blocks (librdkafka), several gzip members or zstd frames in a row, lz4 frames whose header
checksum is wrong the way message format 0 had it.

Libraries are imported at first use of their codec. Levels are Apache Kafka's
(compression.gzip.level -1, 1 to 9; compression.lz4.level 1 to 17; compression.zstd.level -131072
to 22), None means Kafka's default.
"""

from collections.abc import Callable
from importlib import import_module
from struct import Struct
from typing import Any

from protocol.record_errors import UndecodableBody, UnsupportedCompression
from protocol.wire import Buffer

NONE = 0
GZIP = 1
SNAPPY = 2
LZ4 = 3
ZSTD = 4

NAMES = ("none", "gzip", "snappy", "lz4", "zstd")
"""Codec names as in compression.type ("uncompressed" there stands for none), by number."""

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER = _XERIAL_MAGIC + b"\x00\x00\x00\x01\x00\x00\x00\x01"
_XERIAL_BLOCK = 32 * 1024
_SNAPPY_MOST = 32
"""No snappy element makes more than 64 bytes of 3, or 11 of 2."""

_LZ4_MAGIC = b"\x04\x22\x4d\x18"
_LZ4_CONTENT_SIZE = 0x08
_LZ4_DICTIONARY = 0x01
_LZ4_DEFAULT_LEVEL = 9

_ZSTD_FIRST_GUESS = 8
_UINT32 = Struct(">I")


def _library(name: str, codec: int) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UnsupportedCompression(
            f"{NAMES[codec]} needs the Python package {name.partition('.')[0]}: {error}"
        ) from None


def compress(
    codec: int, data: Buffer, level: int | None = None, *, legacy_lz4: bool = False
) -> bytes:
    """``data`` in the codec's framing.

    ``legacy_lz4`` writes the lz4 header checksum as message format 0 has it. Raises
    UnsupportedCompression for an unknown codec or a missing library.
    """
    if codec == NONE:
        return bytes(data)
    if not 0 < codec <= ZSTD:
        raise UnsupportedCompression(f"unknown compression codec {codec}")
    if codec == LZ4 and legacy_lz4:
        return _with_header_checksum(_compress_lz4(data, level), broken=True)
    return _COMPRESS[codec](data, level)


def decompress(codec: int, data: Buffer, limit: int, *, legacy_lz4: bool = False) -> bytes:
    """What ``data`` holds, of at most ``limit`` bytes; memory stays below a few times ``limit``.

    ``legacy_lz4`` accepts any lz4 header checksum, as message format 0 needs it. Raises
    UndecodableBody (a CorruptRecord) for wrong bytes, an unknown codec and more output than
    ``limit``; UnsupportedCompression when the library is missing.
    """
    if codec == NONE:
        if len(data) > limit:
            raise _too_large(codec, limit)
        return bytes(data)
    if not 0 < codec <= ZSTD:
        raise UndecodableBody(f"unknown compression codec {codec}")
    if codec == LZ4 and legacy_lz4:
        data = _with_header_checksum(bytes(data), broken=False)
    return _DECOMPRESS[codec](data, limit)


def _too_large(codec: int, limit: int) -> UndecodableBody:
    return UndecodableBody(f"{NAMES[codec]} body of more than {limit} bytes")


def _compress_gzip(data: Buffer, level: int | None) -> bytes:
    zlib = _library("zlib", GZIP)
    packer = zlib.compressobj(-1 if level is None else level, zlib.DEFLATED, 31)
    return bytes(packer.compress(data) + packer.flush())


def _decompress_gzip(data: Buffer, limit: int) -> bytes:
    zlib = _library("zlib", GZIP)
    parts = []
    left = limit
    while True:
        unpacker = zlib.decompressobj(31)
        try:
            part = unpacker.decompress(data, left + 1)
        except zlib.error as error:
            raise UndecodableBody(f"gzip body: {error}") from None
        if len(part) > left:
            raise _too_large(GZIP, limit)
        if not unpacker.eof:
            raise UndecodableBody("gzip body cut off")
        parts.append(part)
        left -= len(part)
        data = unpacker.unused_data
        # Java ignores what follows the last member unless it is another one.
        if data[:2] != b"\x1f\x8b":
            return b"".join(parts)


def _compress_snappy(data: Buffer, level: int | None) -> bytes:
    snappy = _library("cramjam", SNAPPY).snappy
    view = memoryview(data)
    out = bytearray(_XERIAL_HEADER)
    for start in range(0, len(view), _XERIAL_BLOCK):
        block = bytes(snappy.compress_raw(view[start : start + _XERIAL_BLOCK]))
        out += _UINT32.pack(len(block))
        out += block
    return bytes(out)


def _decompress_snappy(data: Buffer, limit: int) -> bytes:
    cramjam = _library("cramjam", SNAPPY)
    view = memoryview(data)
    if view[:8] != _XERIAL_MAGIC:
        return _snappy_block(cramjam, view, limit, limit)
    parts = []
    pos, end, left = len(_XERIAL_HEADER), len(view), limit
    if end < pos:
        raise UndecodableBody("snappy frame header cut off")
    while pos < end:
        if end - pos < 4:
            raise UndecodableBody("snappy frame cut off in a block size")
        # Frames may follow one another, as when a Java stream was flushed in pieces.
        if view[pos : pos + 8] == _XERIAL_MAGIC:
            pos += len(_XERIAL_HEADER)
            continue
        size = _UINT32.unpack_from(view, pos)[0]
        pos += 4
        if size > end - pos:
            raise UndecodableBody(f"snappy block of {size} bytes where {end - pos} are left")
        part = _snappy_block(cramjam, view[pos : pos + size], left, limit)
        parts.append(part)
        left -= len(part)
        pos += size
    return b"".join(parts)


def _snappy_block(cramjam: Any, block: memoryview, left: int, limit: int) -> bytes:
    # cramjam takes no limit, so the size told at the start is checked before it allocates that
    # much.
    try:
        size = cramjam.snappy.decompress_raw_len(block)
        if size > left:
            raise _too_large(SNAPPY, limit)
        if size > _SNAPPY_MOST * len(block):
            raise UndecodableBody(f"snappy block of {len(block)} bytes claims to hold {size}")
        return bytes(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError as error:
        raise UndecodableBody(f"snappy body: {error}") from None


def _compress_lz4(data: Buffer, level: int | None) -> bytes:
    frame = _library("lz4.frame", LZ4)
    # Java's reader takes independent blocks only. Its writer uses the fast compressor at the
    # default level and the high-compression one at any other, which this library has from level 3
    # on.
    wanted = 0 if level is None or level == _LZ4_DEFAULT_LEVEL else max(level, 3)
    packed: bytes = frame.compress(
        data,
        compression_level=wanted,
        block_size=frame.BLOCKSIZE_MAX64KB,
        block_linked=False,
        store_size=False,
    )
    return packed


def _decompress_lz4(data: Buffer, limit: int) -> bytes:
    frame = _library("lz4.frame", LZ4)
    unpacker = frame.LZ4FrameDecompressor()
    try:
        out: bytes = unpacker.decompress(bytes(data), max_length=limit + 1)
        if not unpacker.eof and len(out) <= limit:
            # With the output complete the end mark may still be unread.
            out += unpacker.decompress(b"", max_length=limit + 1 - len(out))
    except (RuntimeError, EOFError) as error:
        raise UndecodableBody(f"lz4 body: {error}") from None
    if len(out) > limit:
        raise _too_large(LZ4, limit)
    if not unpacker.eof:
        raise UndecodableBody("lz4 body cut off")
    return out


def _compress_zstd(data: Buffer, level: int | None) -> bytes:
    # The level is always given: cramjam's default is 11.
    return bytes(_library("cramjam", ZSTD).zstd.compress(data, 3 if level is None else level))


def _decompress_zstd(data: Buffer, limit: int) -> bytes:
    cramjam = _library("cramjam", ZSTD)
    capacity = min(limit, _zstd_guess(data))
    while True:
        out = bytearray(capacity)
        try:
            size = cramjam.zstd.decompress_into(data, out)
            return bytes(memoryview(out)[:size])
        except (cramjam.DecompressionError, OSError) as error:
            # "No room" and "wrong bytes" differ only in the sentence, so both are tried again with
            # more room.
            if capacity >= limit:
                raise UndecodableBody(f"zstd body, or more than {limit} bytes: {error}") from None
        capacity = min(limit, max(capacity, 1024) * 4)


def _zstd_guess(data: Buffer) -> int:
    """Room to begin with: the content size when the frame tells it, otherwise some times the
    packed size."""
    guess = max(_ZSTD_FIRST_GUESS * len(data), 4096)
    if len(data) < 14 or data[:4] != b"\x28\xb5\x2f\xfd":
        return guess
    descriptor = data[4]
    single_segment = descriptor >> 5 & 1
    start = 6 - single_segment + (0, 1, 2, 4)[descriptor & 3]
    width = (single_segment, 2, 4, 8)[descriptor >> 6]
    if not width or start + width > len(data):
        return guess
    size = int.from_bytes(data[start : start + width], "little")
    return size + 256 if width == 2 else size


_COMPRESS: dict[int, Callable[[Buffer, int | None], bytes]] = {
    GZIP: _compress_gzip,
    SNAPPY: _compress_snappy,
    LZ4: _compress_lz4,
    ZSTD: _compress_zstd,
}
_DECOMPRESS: dict[int, Callable[[Buffer, int], bytes]] = {
    GZIP: _decompress_gzip,
    SNAPPY: _decompress_snappy,
    LZ4: _decompress_lz4,
    ZSTD: _decompress_zstd,
}


def _with_header_checksum(frame: bytes, *, broken: bool) -> bytes:
    """The lz4 frame with its header checksum replaced by the right one, or by that of message
    format 0.

    The right one covers the descriptor; in message format 0 it covered the magic number too
    (KIP-57).
    """
    if len(frame) < 7 or frame[:4] != _LZ4_MAGIC:
        raise UndecodableBody("lz4 body without the magic number of a frame")
    flags = frame[4]
    if flags & _LZ4_DICTIONARY:
        raise UndecodableBody("lz4 frame with a dictionary")
    at = 14 if flags & _LZ4_CONTENT_SIZE else 6
    if len(frame) <= at:
        raise UndecodableBody("lz4 frame header cut off")
    checksum = _xxh32(frame[0 if broken else 4 : at]) >> 8 & 0xFF
    return frame[:at] + bytes((checksum,)) + frame[at + 1 :]


def _xxh32(data: bytes) -> int:
    """xxHash32 with seed 0 of fewer than 16 bytes, all that an lz4 frame header needs."""
    mask = 0xFFFFFFFF
    value = (0x165667B1 + len(data)) & mask
    whole = len(data) & ~3
    for start in range(0, whole, 4):
        value += int.from_bytes(data[start : start + 4], "little") * 0xC2B2AE3D
        value &= mask
        value = (value << 17 | value >> 15) * 0x27D4EB2F & mask
    for byte in data[whole:]:
        value = (value + byte * 0x165667B1) & mask
        value = (value << 11 | value >> 21) * 0x9E3779B1 & mask
    value = (value ^ value >> 15) * 0x85EBCA77 & mask
    value = (value ^ value >> 13) * 0xC2B2AE3D & mask
    return value ^ value >> 16
