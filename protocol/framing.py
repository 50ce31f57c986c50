"""Frames: an int32 length, then that many bytes. Cuts a stream into frames; does no IO itself."""

from struct import Struct

from protocol.errors import Malformed
from protocol.wire import Buffer

_INT32 = Struct(">i")

FIRST_CHUNK = 2 << 20
"""Bytes reserved for a frame whose end has not come: a long length alone reserves no more."""


class FrameSplitter:
    """Cuts one connection's bytes into frames of at most `limit` bytes.

    There are two ways in. `feed` takes bytes received anywhere, and hands out whole frames as views
    of them, without a copy; what is left over is kept. When a frame was begun, `space` is where its
    rest may be received directly, to be reported with `received`.

    A frame's length below zero or above the limit is Malformed. If whole frames came before it in
    the same bytes, they are handed out and the error waits in `failure`.
    """

    __slots__ = ("_body", "_filled", "_head", "_missing", "failure", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.failure: Malformed | None = None
        self._head = b""  # less than four bytes of a length
        self._body: bytearray | None = None  # of a frame whose length is known
        self._filled = 0
        self._missing = 0

    @property
    def pending(self) -> int:
        """Bytes kept of a frame that is not whole yet."""
        return self._filled if self._body is not None else len(self._head)

    def feed(self, data: Buffer) -> list[memoryview]:
        """The frames that are whole with these bytes. They are views: of `data`, or of own memory.

        Raises Malformed when the first frame that begins here has a bad length.
        """
        view = data if type(data) is memoryview else memoryview(data)
        frames: list[memoryview] = []
        pos = self._resume(view, frames) if self._head or self._body is not None else 0
        end = len(view)
        while end - pos >= 4:
            (size,) = _INT32.unpack_from(view, pos)
            if not 0 <= size <= self.limit:
                self._fail(size, frames)
                return frames
            pos += 4
            if end - pos < size:
                self._begin(size)
                self._append(view[pos:])
                return frames
            frames.append(view[pos : pos + size])
            pos += size
        if pos < end:
            self._head = bytes(view[pos:])
        return frames

    def space(self) -> memoryview | None:
        """Where the rest of the begun frame may be received; None between frames."""
        if self._body is None:
            return None
        self._grow(1)
        stop = min(len(self._body), self._filled + self._missing)
        return memoryview(self._body)[self._filled : stop]

    def received(self, count: int) -> memoryview | None:
        """Says that `count` bytes were put into `space`; the frame, if that completes it."""
        assert self._body is not None
        self._filled += count
        self._missing -= count
        return None if self._missing else self._finish()

    def _resume(self, view: memoryview, frames: list[memoryview]) -> int:
        """Continues what an earlier call left over; returns how many bytes that took."""
        pos = 0
        if self._body is None:
            pos = min(4 - len(self._head), len(view))
            self._head += bytes(view[:pos])
            if len(self._head) < 4:
                return pos
            (size,) = _INT32.unpack(self._head)
            self._head = b""
            if not 0 <= size <= self.limit:
                self._fail(size, frames)
            self._begin(size)
        taken = view[pos : pos + self._missing]
        self._append(taken)
        if not self._missing:
            frames.append(self._finish())
        return pos + len(taken)

    def _fail(self, size: int, frames: list[memoryview]) -> None:
        problem = "negative" if size < 0 else f"above the limit of {self.limit}"
        self.failure = Malformed(f"a frame's length is {size}, {problem}")
        if not frames:
            raise self.failure

    def _begin(self, size: int) -> None:
        self._body = bytearray(min(size, FIRST_CHUNK))
        self._filled = 0
        self._missing = size

    def _append(self, data: memoryview) -> None:
        assert self._body is not None
        count = len(data)
        self._grow(count)
        self._body[self._filled : self._filled + count] = data
        self._filled += count
        self._missing -= count

    def _grow(self, count: int) -> None:
        """Makes room for `count` more bytes, at least doubling: memory follows what was sent."""
        assert self._body is not None
        room = len(self._body)
        if self._filled + count > room:
            size = min(self._filled + self._missing, max(2 * room, self._filled + count))
            larger = bytearray(size)
            larger[: self._filled] = memoryview(self._body)[: self._filled]
            self._body = larger

    def _finish(self) -> memoryview:
        assert self._body is not None
        frame = memoryview(self._body)
        self._body = None
        self._filled = 0
        return frame
