"""The simulated network: stream sockets between hosts, with delays, cuts and loss of connections.

Bytes of one direction of a connection arrive in order, each piece after a seeded delay. A cut from
host to host holds back what is sent (as TCP does, which tries again) until it is healed; a cut in
one direction only is one. `reset` ends connections at once. `Network.module(host)` stands in for
the `socket` module in the broker's files: the sockets it makes belong to that host, or (None) to
the host after which the running life is named. Hosts are numeric addresses: nothing looks up names.

`digest` covers every piece that was sent, when and where: equal digests are equal runs.
"""

import socket
import struct
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from itertools import count
from selectors import EVENT_READ, EVENT_WRITE
from types import SimpleNamespace
from typing import Any

from tests.sim.loop import CURRENT, SimLoop

FIRST_FD = 1 << 20
SEND_BUFFER = 1 << 18
SHORTEST_S, LONGEST_S = 0.0001, 0.003
"""How long a piece is under way, when nothing slows the network."""
Address = tuple[str, int]


class SimSocket:
    """One end of a connection, or a listener. Non-blocking; errors are those of the real thing."""

    family = 0  # no name of this family needs to be looked up

    def __init__(self, network: "Network", host: str) -> None:
        self.network = network
        self.host = host
        self.fd = next(network.fds)
        self.local: Address = (host, 0)
        self.remote: Address = ("", 0)
        self.peer: SimSocket | None = None
        self.received: deque[bytes] = deque()
        self.backlog: deque[SimSocket] = deque()
        self.listening = False
        self.connecting = False
        self.at_end = False  # the other side has closed
        self.error: OSError | None = None
        self.closed = False
        # Pieces under way to the peer: in order, whatever delays are drawn.
        self.under_way: deque[bytes | None] = deque()
        self.in_flight = 0
        self.arrives_at = 0.0
        network.sockets[self.fd] = self

    # --- what the broker calls

    def fileno(self) -> int:
        return -1 if self.closed else self.fd

    def setblocking(self, flag: bool) -> None:
        assert not flag, "nothing may block here"

    def setsockopt(self, *options: Any) -> None:
        """Options change nothing."""

    def getsockopt(self, level: int, option: int) -> int:
        error, self.error = self.error, None
        return 0 if error is None else (error.errno or 104)

    def getsockname(self) -> Address:
        return self.local

    def getpeername(self) -> Address:
        return self.remote

    def bind(self, address: Address) -> None:
        port = address[1] or self.network.free_port(self.host)
        if (self.host, port) in self.network.listeners:
            raise OSError(98, "Address already in use")
        self.local = (self.host, port)

    def listen(self, backlog: int = 0) -> None:
        self.listening = True
        self.network.listeners[self.local] = self

    def accept(self) -> tuple["SimSocket", Address]:
        if not self.backlog:
            raise BlockingIOError
        accepted = self.backlog.popleft()
        return accepted, accepted.remote

    def connect_ex(self, address: Address) -> int:
        try:
            self.connect(address)
        except BlockingIOError as error:
            return error.errno or 115
        return 0

    def connect(self, address: Address) -> None:
        self.remote = address
        self.connecting = True
        self.network.connect(self)
        raise BlockingIOError(115, "Operation now in progress")

    def recv(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self.recv_into(buffer)])

    def recv_into(self, buffer: Any, size: int = 0) -> int:
        self._raise()
        if not self.received:
            if self.at_end:
                return 0
            raise BlockingIOError
        view = memoryview(buffer)
        wanted = min(size or len(view), len(view))
        filled = 0
        while self.received and filled < wanted:
            piece = self.received.popleft()
            part = piece[: wanted - filled]
            view[filled : filled + len(part)] = part
            filled += len(part)
            if len(part) < len(piece):
                self.received.appendleft(piece[len(part) :])
        return filled

    def send(self, data: Any, flags: int = 0) -> int:
        self._raise()
        if self.closed or self.peer is None:
            raise BrokenPipeError(32, "Broken pipe")
        room = SEND_BUFFER - self.in_flight
        if room <= 0:
            raise BlockingIOError
        piece = bytes(memoryview(data)[:room])
        self.in_flight += len(piece)
        self.network.carry(self, piece)
        return len(piece)

    def shutdown(self, how: int) -> None:
        self.network.carry(self, None)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.network.sockets.pop(self.fd, None)
        if self.listening:
            self.network.listeners.pop(self.local, None)
            for waiting in self.backlog:
                waiting.close()
        elif self.peer is not None:
            self.network.carry(self, None)

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error

    # --- what the network calls

    def ready(self) -> int:
        """Events that a selector would tell."""
        if self.listening:
            return EVENT_READ if self.backlog else 0
        events = 0
        if self.received or self.at_end or self.error is not None:
            events |= EVENT_READ
        if not self.connecting and (self.in_flight < SEND_BUFFER or self.error is not None):
            events |= EVENT_WRITE
        return events


class Network:
    """Hosts by name; see the module."""

    def __init__(self, loop: SimLoop) -> None:
        self.loop = loop
        self.fds = count(FIRST_FD)
        self.sockets: dict[int, SimSocket] = {}
        self.listeners: dict[Address, SimSocket] = {}
        self.paused: set[str] = set()
        self.digest = blake2b(digest_size=8)
        self.cuts: set[tuple[str, str]] = set()
        self.slowed: list[float] = []
        """What slows it at present, each with the longest time that a piece may take, in seconds;
        the worst counts."""
        self._ports = count(20_000)
        loop.watch_sockets(self._ready)

    def delay_s(self) -> float:
        """Draw how long a piece is under way."""
        return self.loop.chance.uniform(SHORTEST_S, max(self.slowed, default=LONGEST_S))

    def _ready(self, fd: int) -> int:
        found = self.sockets.get(fd)
        return 0 if found is None or found.host in self.paused else found.ready()

    def touch(self, sock: SimSocket) -> None:
        """Something about it has changed: it may be ready."""
        self.loop.touch(sock.fd)

    def free_port(self, host: str) -> int:
        return next(self._ports)

    def module(self, host: str | None = None) -> Any:
        """A stand-in for the `socket` module; see this module."""
        names = {name: getattr(socket, name) for name in dir(socket) if name.isupper()}

        def make(*_: Any) -> SimSocket:
            if host is not None:
                return SimSocket(self, host)
            life = CURRENT.get()
            assert life is not None, "a socket that belongs to nobody"
            return SimSocket(self, life.name)

        return SimpleNamespace(
            **names,
            socket=make,
            has_dualstack_ipv6=lambda: False,
            inet_pton=socket.inet_pton,
            error=OSError,
        )

    # --- connections

    def connect(self, sock: SimSocket) -> None:
        """Begin to connect; a cut in either direction leaves it hanging until healed."""
        sock.local = (sock.host, self.free_port(sock.host))
        self._world(2 * self.delay_s(), self._connected, sock)

    def _connected(self, sock: SimSocket) -> None:
        if sock.closed:
            return
        there = sock.remote[0]
        if (sock.host, there) in self.cuts or (there, sock.host) in self.cuts:
            self._world(0.2, self._connected, sock)
            return
        sock.connecting = False
        self.touch(sock)
        listener = self.listeners.get(sock.remote)
        if listener is None:
            sock.error = ConnectionRefusedError(111, "Connection refused")
            return
        other = SimSocket(self, there)
        other.local, other.remote = sock.remote, sock.local
        other.peer, sock.peer = sock, other
        listener.backlog.append(other)
        self.touch(listener)

    def carry(self, sock: SimSocket, piece: bytes | None) -> None:
        """Send a piece (None: the end) to the other side, after those before it."""
        sock.under_way.append(piece)
        sock.arrives_at = max(sock.arrives_at, self.loop.time() + self.delay_s())
        self.digest.update(struct.pack(">dI", sock.arrives_at, sock.fd - FIRST_FD))
        self.digest.update(piece or b"")
        self._world(sock.arrives_at - self.loop.time(), self._arrive, sock)

    def _arrive(self, sock: SimSocket) -> None:
        peer = sock.peer
        if not sock.under_way or peer is None:
            return
        if (sock.host, peer.host) in self.cuts:
            return  # `heal` takes up what is held back
        piece = sock.under_way.popleft()
        if piece is None:
            peer.at_end = True
            self.touch(peer)
            return
        sock.in_flight -= len(piece)
        self.touch(sock)
        if peer.closed:
            if not sock.closed:
                self._break(sock)
            return
        peer.received.append(piece)
        self.touch(peer)

    def _break(self, sock: SimSocket) -> None:
        sock.error = ConnectionResetError(104, "Connection reset by peer")
        self.touch(sock)

    def _world(self, delay: float, act: Callable[..., None], *args: Any) -> None:
        """A timer of the network itself: it outlives every node."""
        token = CURRENT.set(None)
        try:
            self.loop.call_later(max(delay, 0.0), act, *args)
        finally:
            CURRENT.reset(token)

    # --- faults

    def cut(self, here: str, there: str) -> None:
        """Nothing sent from `here` reaches `there` any more."""
        self.cuts.add((here, there))

    def heal(self, here: str | None = None, there: str | None = None) -> None:
        """Undo one cut, or all of them; what was held back arrives."""
        healed = {c for c in self.cuts if here is None or c == (here, there)}
        self.cuts -= healed
        for sock in list(self.sockets.values()):
            if sock.peer is not None and (sock.host, sock.peer.host) in healed:
                for _ in range(len(sock.under_way)):
                    self._world(self.delay_s(), self._arrive, sock)

    def pause(self, host: str) -> None:
        """The host's process reads and writes nothing until `go_on`; what it is sent waits."""
        self.paused.add(host)

    def go_on(self, host: str) -> None:
        self.paused.discard(host)
        for sock in self.sockets.values():
            if sock.host == host:
                self.touch(sock)

    def reset(self, wanted: Callable[[SimSocket], bool]) -> int:
        """End connections at once on both sides; how many."""
        ended = 0
        for sock in list(self.sockets.values()):
            if sock.peer is not None and sock.error is None and wanted(sock):
                for each in (sock, sock.peer):
                    each.under_way.clear()
                    self._break(each)
                ended += 1
        return ended

    def kill(self, host: str) -> None:
        """The host's process is gone: its listeners and connections end. Behind a cut nobody
        notices before something is sent and the cut is healed."""
        for sock in [s for s in self.sockets.values() if s.host == host]:
            if sock.peer is not None and (host, sock.peer.host) not in self.cuts:
                self._break(sock.peer)
            sock.closed = True
            sock.under_way.clear()
            del self.sockets[sock.fd]
        for address in [a for a in self.listeners if a[0] == host]:
            del self.listeners[address]
