"""Kafka frames over a plain socket, and what came of them.

Nothing here retries, follows leaders or hides an error: one frame goes out, and the outcome is an
answer, a closed connection, or silence.
"""

import select
import socket
import struct
from dataclasses import dataclass

ANSWERED = "answered"
CLOSED = "closed"
SILENT = "silent"
NOTHING_DUE = "nothing due"

PROBE = 0x7F00_0000
"""Correlation ids from here on belong to the probes that this module sends itself."""


@dataclass(slots=True)
class Outcome:
    """What one frame led to. `frame` is the answer without its length, empty if there is none."""

    kind: str
    frame: bytes = b""


class Link:
    """One connection to a broker. It opens at first use and again after the broker closed it."""

    def __init__(self, host: str, port: int, patience: float = 10.0) -> None:
        """`patience`: seconds without an answer after which the outcome is silence."""
        self.host = host
        self.port = port
        self.patience = patience
        self._socket: socket.socket | None = None
        self._received = bytearray()

    def send(self, frame: bytes) -> None:
        """Sends one frame, length in front. A connection that breaks shows at `receive`."""
        self.send_raw(struct.pack(">i", len(frame)) + frame)

    def send_raw(self, data: bytes) -> None:
        """Sends bytes that need not be a frame."""
        link = self._open()
        try:
            link.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def receive(self, patience: float | None = None) -> Outcome:
        """The next frame, or how its absence showed."""
        link = self._open()
        link.settimeout(self.patience if patience is None else patience)
        try:
            while True:
                frame = self._take()
                if frame is not None:
                    return Outcome(ANSWERED, frame)
                part = link.recv(1 << 18)
                if not part:
                    break
                self._received += part
        except TimeoutError:
            self.close()
            return Outcome(SILENT)
        except ConnectionResetError:
            pass
        self.close()
        return Outcome(CLOSED)

    def exchange(self, frame: bytes, patience: float | None = None) -> Outcome:
        """Sends one frame and waits for what follows."""
        self.send(frame)
        return self.receive(patience)

    def expect_nothing(self, frame: bytes) -> Outcome:
        """Sends a frame that has no answer, then something harmless: only that may be answered."""
        self.send(frame)
        self.send(struct.pack(">hhih", 18, 0, PROBE, -1))
        outcome = self.receive()
        if outcome.kind == ANSWERED and struct.unpack_from(">i", outcome.frame)[0] == PROBE:
            return Outcome(NOTHING_DUE)
        self.close()
        return outcome

    def has_something(self) -> bool:
        """Whether an answer, or the end, can be received without waiting."""
        if self._received:
            return True
        return bool(select.select([self._open()], [], [], 0)[0])

    def finish_writing(self) -> None:
        """Closes the sending half."""
        try:
            self._open().shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._received.clear()

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection((self.host, self.port), self.patience)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def _take(self) -> bytes | None:
        if len(self._received) < 4:
            return None
        size = struct.unpack_from(">i", self._received)[0]
        if len(self._received) < 4 + size:
            return None
        frame = bytes(self._received[4 : 4 + size])
        del self._received[: 4 + size]
        return frame
