"""The frame splitter: any cut gives the same frames, and memory follows what was sent."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Malformed
from protocol.framing import FIRST_CHUNK, FrameSplitter
from tests.kit.strategies import profile


def framed(*bodies: bytes) -> bytes:
    return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


@profile(150)
@given(
    st.lists(st.binary(max_size=30), max_size=6),
    st.lists(st.integers(0, 12), max_size=60),
    st.booleans(),
)
def test_any_cut_gives_the_same_frames(bodies: list[bytes], cuts: list[int], direct: bool) -> None:
    stream = framed(*bodies)
    splitter = FrameSplitter(100)
    found: list[bytes] = []
    pos = 0
    for size in [*cuts, len(stream)]:
        piece = stream[pos : pos + size]
        space = splitter.space() if direct else None
        if space is not None:
            piece = piece[: len(space)]
            space[: len(piece)] = piece
            frame = splitter.received(len(piece))
            found += [bytes(frame)] if frame is not None else []
        else:
            found += [bytes(frame) for frame in splitter.feed(piece)]
        pos += len(piece)
    found += [bytes(frame) for frame in splitter.feed(stream[pos:])]
    assert found == bodies
    assert splitter.pending == 0
    assert splitter.failure is None


def test_whole_frames_are_views_of_what_was_fed() -> None:
    data = bytearray(framed(b"one", b"two"))
    frames = FrameSplitter(100).feed(data)
    assert [bytes(frame) for frame in frames] == [b"one", b"two"]
    assert all(frame.obj is data for frame in frames)


@pytest.mark.parametrize("length", [-1, -(1 << 31), 101, (1 << 31) - 1])
def test_bad_lengths_are_malformed(length: int) -> None:
    prefix = length.to_bytes(4, "big", signed=True)
    with pytest.raises(Malformed, match=str(length)):
        FrameSplitter(100).feed(prefix + b"abc")
    splitter = FrameSplitter(100)
    assert splitter.feed(prefix[:3]) == []
    with pytest.raises(Malformed):
        splitter.feed(prefix[3:])


def test_the_limit_itself_is_allowed() -> None:
    assert FrameSplitter(100).feed(framed(bytes(100)))[0].nbytes == 100
    assert FrameSplitter(100).feed(framed(b""))[0].nbytes == 0


def test_frames_before_a_bad_length_are_handed_out() -> None:
    splitter = FrameSplitter(100)
    frames = splitter.feed(framed(b"good") + b"\xff\xff\xff\xff" + framed(b"never"))
    assert [bytes(frame) for frame in frames] == [b"good"]
    assert isinstance(splitter.failure, Malformed)


def test_between_frames_there_is_no_space() -> None:
    splitter = FrameSplitter(100)
    assert splitter.space() is None
    splitter.feed(b"\0\0")
    assert splitter.space() is None
    assert splitter.pending == 2
    splitter.feed(b"\0\x05ab")
    space = splitter.space()
    assert space is not None and len(space) == 3
    assert splitter.pending == 2


def test_a_long_length_alone_reserves_little() -> None:
    limit = 100 << 20
    splitter = FrameSplitter(limit)
    tracemalloc.start()
    splitter.feed(limit.to_bytes(4, "big") + b"x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < FIRST_CHUNK + 100_000


def test_memory_at_most_doubles_what_was_sent() -> None:
    limit = 100 << 20
    splitter = FrameSplitter(limit)
    piece = bytes(FIRST_CHUNK)
    tracemalloc.start()
    splitter.feed(limit.to_bytes(4, "big") + b"x")
    for _ in range(3):
        splitter.feed(piece)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 2 * (3 * FIRST_CHUNK + 1) + 100_000


def test_a_large_frame_grows_with_what_comes() -> None:
    body = bytes(range(256)) * (5 * FIRST_CHUNK // 256) + b"end"
    stream = memoryview(framed(body))
    splitter = FrameSplitter(len(body))
    assert splitter.feed(stream[:10]) == []
    pos, frame = 10, None
    while frame is None:
        space = splitter.space()
        assert space is not None and len(space) > 0
        count = min(len(space), 700_001)
        space[:count] = stream[pos : pos + count]
        pos += count
        frame = splitter.received(count)
    assert pos == len(stream)
    assert frame == body
