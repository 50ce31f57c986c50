"""Codecs: against other libraries, both snappy framings, the lz4 quirk of message format 0, bombs,
wrong bytes."""

import gzip
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import lz4.frame
import pytest
import snappy
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import compression
from protocol.compression import GZIP, LZ4, NAMES, NONE, SNAPPY, ZSTD, compress, decompress
from protocol.errors import CorruptRecord
from protocol.record_errors import UndecodableBody, UnsupportedCompression
from tests.protocol.record_oracles import kafka_codec

LIMIT = 1 << 22
PACKED = (GZIP, SNAPPY, LZ4, ZSTD)
SAMPLES = [b"", b"x", bytes(1000), bytes(range(256)) * 600, b"some words, " * 20_000]


def zstd_stream(data: bytes) -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(data) + packer.flush()


other_decoders: dict[int, Callable[[bytes], bytes]] = {
    GZIP: gzip.decompress,
    SNAPPY: kafka_codec.snappy_decode,
    LZ4: lz4.frame.decompress,
    ZSTD: lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}
other_encoders: dict[int, list[Callable[[bytes], bytes]]] = {
    GZIP: [gzip.compress, kafka_codec.gzip_encode],
    SNAPPY: [
        snappy.compress,
        lambda data: kafka_codec.snappy_encode(data, xerial_compatible=True),
        lambda data: kafka_codec.snappy_encode(data, xerial_compatible=False),
        lambda data: kafka_codec.snappy_encode(data, xerial_blocksize=1000),
    ],
    LZ4: [
        kafka_codec.lz4_encode,
        lz4.frame.compress,
        lambda data: lz4.frame.compress(data, store_size=False, block_linked=False),
        lambda data: lz4.frame.compress(data, content_checksum=True, block_checksum=True),
    ],
    ZSTD: [
        kafka_codec.zstd_encode,
        zstandard.ZstdCompressor(level=19, write_content_size=True).compress,
        zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compress,
        zstd_stream,
    ],
}


@pytest.mark.parametrize("codec", PACKED)
@pytest.mark.parametrize("data", SAMPLES, ids=len)
def test_against_other_libraries(codec: int, data: bytes) -> None:
    if data or codec != SNAPPY:  # kafka-python cannot read a snappy frame without blocks
        assert other_decoders[codec](compress(codec, data)) == data
    for encode in other_encoders[codec]:
        packed = encode(data)
        assert decompress(codec, packed, len(data)) == data
        assert decompress(codec, memoryview(packed), LIMIT) == data
        assert decompress(codec, bytearray(packed), LIMIT) == data


@pytest.mark.parametrize("codec", range(5))
@given(data=st.binary(max_size=5000), times=st.integers(1, 50))
@settings(max_examples=30)
def test_round_trips(codec: int, data: bytes, times: int) -> None:
    data *= times
    for form in (data, bytearray(data), memoryview(data)):
        packed = compress(codec, form)
        assert type(packed) is bytes
        assert decompress(codec, packed, len(data)) == data


@pytest.mark.parametrize("codec", range(5))
def test_the_limit_is_exact(codec: int) -> None:
    data = random.Random(7).randbytes(70_000) + bytes(70_000)
    packed = compress(codec, data)
    assert decompress(codec, packed, len(data)) == data
    for limit in (0, 1, 70_000, len(data) - 1):
        with pytest.raises(UndecodableBody, match=f"more than {limit} bytes"):
            decompress(codec, packed, limit)


CHILD = """
import resource, sys
from protocol.compression import decompress
from protocol.record_errors import UndecodableBody
codec, limit = int(sys.argv[1]), int(sys.argv[2])
packed = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decompress(codec, packed, limit)
except UndecodableBody:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def growth(codec: int, packed: bytes, limit: int) -> int:
    """KiB of resident memory that a process of its own needed to refuse ``packed``."""
    answer = subprocess.run(
        [sys.executable, "-c", CHILD, str(codec), str(limit)],
        input=packed,
        capture_output=True,
        check=True,
        timeout=60,
    )
    return int(answer.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="resident memory is read the POSIX way")
@pytest.mark.parametrize("codec", PACKED)
def test_bombs_are_refused_in_bounded_memory(codec: int) -> None:
    packed = compress(codec, bytes(1 << 28))
    assert growth(codec, packed, 1 << 20) < 24 * 1024


def test_a_snappy_block_may_not_promise_what_it_cannot_hold() -> None:
    """Its size comes first, and the decoder makes room for it before it looks any further."""
    promise = b"\xff\xff\xff\x7f" + b"\x00" * 100
    with pytest.raises(UndecodableBody, match="claims to hold"):
        decompress(SNAPPY, promise, 1 << 30)
    framed = compress(SNAPPY, b"")[:16] + struct.pack(">i", len(promise)) + promise
    with pytest.raises(UndecodableBody, match="claims to hold"):
        decompress(SNAPPY, framed, 1 << 30)


@pytest.mark.skipif(sys.platform == "win32", reason="resident memory is read the POSIX way")
def test_a_zstd_frame_may_not_promise_more_than_the_limit() -> None:
    packed = bytearray(zstandard.ZstdCompressor(write_content_size=True).compress(bytes(1 << 20)))
    assert packed[4] >> 6 == 2
    struct.pack_into("<I", packed, 6 - (packed[4] >> 5 & 1), 0xFFFFFFFF)
    assert growth(ZSTD, bytes(packed), 1 << 20) < 24 * 1024


@pytest.mark.parametrize("codec", PACKED)
def test_cut_off_anywhere(codec: int) -> None:
    data = random.Random(3).randbytes(100) + bytes(2000)
    packed = compress(codec, data)
    for end in range(len(packed)):
        if codec == SNAPPY and end == 16:
            continue  # the frame has no end mark: a header alone is an empty body
        with pytest.raises(UndecodableBody):
            decompress(codec, packed[:end], LIMIT)


@pytest.mark.parametrize("codec", PACKED)
def test_mutated_bodies_raise_nothing_else(codec: int) -> None:
    rng = random.Random(codec)
    packed = compress(codec, b"some words and some more words " * 60)
    for _ in range(3000):
        wrong = bytearray(packed)
        for _ in range(rng.choice((1, 2, 5))):
            wrong[rng.randrange(len(wrong))] = rng.randrange(256)
        try:
            assert len(decompress(codec, wrong, 10_000)) <= 10_000
        except CorruptRecord:
            pass


@pytest.mark.parametrize("codec", PACKED)
@given(data=st.binary(max_size=64))
@settings(max_examples=50)
def test_any_bytes_raise_nothing_else(codec: int, data: bytes) -> None:
    for legacy in (False, True):
        try:
            decompress(codec, data, 1000, legacy_lz4=legacy)
        except CorruptRecord:
            pass


def test_snappy_is_written_in_xerial_blocks_of_32_kib() -> None:
    packed = compress(SNAPPY, bytes(100_000))
    assert packed[:16] == b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
    sizes, pos = [], 16
    while pos < len(packed):
        (size,) = struct.unpack_from(">i", packed, pos)
        sizes.append(len(snappy.uncompress(packed[pos + 4 : pos + 4 + size])))
        pos += 4 + size
    assert sizes == [32768, 32768, 32768, 1696]


def test_snappy_frames_in_a_row_are_one_body() -> None:
    packed = compress(SNAPPY, b"one ") + compress(SNAPPY, b"two ") + compress(SNAPPY, b"three")
    assert decompress(SNAPPY, packed, 100) == b"one two three"


@pytest.mark.parametrize("tail", [b"\x00", b"\x00\x00\x00", b"\x00\x00\x00\x05abcd", b"\xff" * 8])
def test_snappy_blocks_that_are_not_there(tail: bytes) -> None:
    with pytest.raises(UndecodableBody):
        decompress(SNAPPY, compress(SNAPPY, b"data") + tail, 100)


def test_lz4_is_written_as_java_can_read_it() -> None:
    """Java takes independent blocks only; 64 KiB blocks, no content size and no block checksums
    are what it writes."""
    info = lz4.frame.get_frame_info(compress(LZ4, bytes(200_000)))
    assert not info["block_linked"]
    assert info["block_size"] == 65536
    assert info["content_size"] == 0
    assert not info["block_checksum"]


def test_lz4_bytes_after_the_frame_are_ignored_as_java_does() -> None:
    assert decompress(LZ4, compress(LZ4, b"data") + b"junk", 100) == b"data"


def test_gzip_members_and_what_follows_them() -> None:
    packed = compress(GZIP, b"one ") + compress(GZIP, b"two")
    assert decompress(GZIP, packed, 7) == b"one two"
    assert decompress(GZIP, packed + b"\x00\x00", 7) == b"one two"
    with pytest.raises(UndecodableBody, match="more than 6"):
        decompress(GZIP, packed, 6)
    with pytest.raises(UndecodableBody):
        decompress(GZIP, packed + b"\x1f\x8b", 7)
    with pytest.raises(UndecodableBody):
        decompress(GZIP, zlib.compress(b"not gzip"), 100)


def test_zstd_frames_in_a_row_are_one_body() -> None:
    packed = compress(ZSTD, b"one ") + zstandard.compress(b"two")
    assert decompress(ZSTD, packed, 100) == b"one two"


@pytest.mark.parametrize("size", [0, 1, 200, 300, 70_000, 3_000_000])
@pytest.mark.parametrize("told", [True, False])
def test_zstd_room_is_found_whatever_the_frame_tells(size: int, told: bool) -> None:
    data = bytes(size)
    packed = zstandard.ZstdCompressor(write_content_size=told).compress(data)
    assert decompress(ZSTD, packed, size) == data


@pytest.mark.parametrize(
    ("data", "expected"), [(b"", 0x02CC5D05), (b"a", 0x550D7456), (b"abc", 0x32D153FF)]
)
def test_xxhash_of_known_bytes(data: bytes, expected: int) -> None:
    assert compression._xxh32(data) == expected


@given(st.binary(max_size=70_000), st.booleans(), st.booleans())
@settings(max_examples=40)
def test_lz4_header_checksums_of_both_kinds(data: bytes, store_size: bool, linked: bool) -> None:
    frame = lz4.frame.compress(data, store_size=store_size, block_linked=linked)
    right = compression._with_header_checksum(frame, broken=False)
    assert right == frame
    broken = compression._with_header_checksum(frame, broken=True)
    assert len(broken) == len(frame)
    assert sum(a != b for a, b in zip(broken, frame, strict=True)) <= 1
    assert decompress(LZ4, broken, LIMIT, legacy_lz4=True) == data
    assert decompress(LZ4, frame, LIMIT, legacy_lz4=True) == data


def test_the_checksum_of_message_format_0() -> None:
    """What Apache Kafka wrote is in test_legacy_captured; here: one byte differs, and it
    matters."""
    new, old = compress(LZ4, b"data"), compress(LZ4, b"data", legacy_lz4=True)
    assert new[:6] == old[:6] == b"\x04\x22\x4d\x18\x60\x40"
    assert new[6] == 0x82
    assert old[6] != new[6]
    assert new[7:] == old[7:]
    with pytest.raises(UndecodableBody):
        decompress(LZ4, old, 100)
    assert decompress(LZ4, old, 100, legacy_lz4=True) == b"data"


@pytest.mark.parametrize(
    "frame", [b"", b"\x04\x22\x4d\x18\x60\x40", b"\x04\x22\x4d\x18\x68\x40\x00\x00", b"abcdefgh"]
)
def test_lz4_headers_that_are_not_there(frame: bytes) -> None:
    with pytest.raises(UndecodableBody):
        decompress(LZ4, frame, 100, legacy_lz4=True)
    with pytest.raises(UndecodableBody, match="dictionary"):
        decompress(LZ4, b"\x04\x22\x4d\x18\x61\x40" + bytes(9), 100, legacy_lz4=True)


@pytest.mark.parametrize(
    ("codec", "levels"),
    [(GZIP, [-1, 1, 5, 9]), (LZ4, [1, 3, 9, 12, 17]), (ZSTD, [-131072, -5, 1, 3, 22])],
)
def test_levels(codec: int, levels: list[int]) -> None:
    rng = random.Random(1)
    words = [b"%x" % rng.randrange(1 << 20) for _ in range(300)]
    data = b" ".join(rng.choice(words) for _ in range(20_000))
    sizes = []
    for level in levels:
        packed = compress(codec, data, level)
        assert other_decoders[codec](packed) == data
        sizes.append(len(packed))
    assert len(set(sizes)) > 1
    assert min(sizes) < len(data) / 2
    if codec == LZ4:
        # 9 is the default level, which means the fast compressor.
        assert compress(codec, data, 9) == compress(codec, data)
    else:
        default = {GZIP: 6, ZSTD: 3}[codec]
        assert compress(codec, data) == compress(codec, data, default)


@pytest.mark.parametrize("codec", [5, 6, 7, -1])
def test_unknown_codecs(codec: int) -> None:
    with pytest.raises(UnsupportedCompression, match=f"unknown compression codec {codec}"):
        compress(codec, b"data")
    with pytest.raises(UndecodableBody, match=f"unknown compression codec {codec}"):
        decompress(codec, b"data", 100)


@pytest.mark.parametrize(
    ("codec", "module"), [(SNAPPY, "cramjam"), (ZSTD, "cramjam"), (LZ4, "lz4.frame")]
)
def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, codec: int, module: str
) -> None:
    packed = compress(codec, b"data")
    monkeypatch.setitem(sys.modules, module, None)
    package = module.partition(".")[0]
    sentence = f"{NAMES[codec]} needs the Python package {package}"
    with pytest.raises(UnsupportedCompression, match=sentence):
        compress(codec, b"data")
    with pytest.raises(UnsupportedCompression, match=sentence):
        decompress(codec, packed, 100)


def test_names_and_no_codec() -> None:
    assert NAMES == ("none", "gzip", "snappy", "lz4", "zstd")
    assert (NONE, GZIP, SNAPPY, LZ4, ZSTD) == (0, 1, 2, 3, 4)
    assert compress(NONE, memoryview(b"abc")) == b"abc"
