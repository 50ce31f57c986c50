"""Sending queued pieces over a non-blocking socket: bytes by send, regions of files by sendfile."""

import os
import socket
from collections import deque

from storage.log import LogSlice

MAX_JOINED = 1 << 18
"""Bytes of small answers that are joined into one send."""
SLICE = 1 << 18
"""Bytes a pread at a time where there is no sendfile."""
MSG_MORE = getattr(socket, "MSG_MORE", 0)
HAS_SENDFILE = hasattr(os, "sendfile")


class FilePiece:
    """A region of a file on its way out; keeps the file open."""

    __slots__ = ("_file", "fd", "position", "remaining")

    def __init__(self, fd: int, source: LogSlice) -> None:
        self._file = source.file
        self.fd = fd
        self.position = source.position
        self.remaining = source.length

    @classmethod
    def of(cls, source: LogSlice) -> "FilePiece | None":
        """The piece, or None where the bytes are in no file."""
        fd = source.file.fileno()
        return None if fd is None else cls(fd, source)


def send_pieces(sock: socket.socket, out: deque[bytes | FilePiece]) -> bool:
    """Send from the front as far as the socket takes it; whether all is gone. Raises OSError."""
    try:
        while out:
            first = out[0]
            if isinstance(first, FilePiece):
                if not _send_file(sock, first):
                    return False
                out.popleft()
            elif not _send_bytes(sock, out):
                return False
    except BlockingIOError:
        return False
    return True


def _send_bytes(sock: socket.socket, out: deque[bytes | FilePiece]) -> bool:
    """Send the bytes at the front, joined; whether they are all gone."""
    if len(out) == 1:
        data = out.popleft()
        assert isinstance(data, bytes)
        more = 0
    else:
        parts: list[bytes] = []
        size = 0
        while out and isinstance(out[0], bytes) and size < MAX_JOINED:
            part = out.popleft()
            assert isinstance(part, bytes)
            parts.append(part)
            size += len(part)
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        more = MSG_MORE if out else 0
    try:
        sent = sock.send(data, more)
    except BlockingIOError:
        out.appendleft(data)
        raise
    if sent < len(data):
        out.appendleft(data[sent:])
        return False
    return True


def _send_file(sock: socket.socket, piece: FilePiece) -> bool:
    while piece.remaining:
        if HAS_SENDFILE:
            sent = os.sendfile(sock.fileno(), piece.fd, piece.position, piece.remaining)
        else:
            sent = sock.send(os.pread(piece.fd, min(piece.remaining, SLICE), piece.position))
        if sent == 0:
            raise OSError("a segment ends before the records it was read for")
        piece.position += sent
        piece.remaining -= sent
    return True
