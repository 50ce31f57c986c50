"""Listeners and the connections they accept; the pass that gathers what these stage."""

import asyncio
import logging
import socket
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from broker.connection import Connection
from broker.context import Context
from broker.dispatch import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.context import Node
    from broker.handlers.produce import Call
    from broker.listeners import Endpoint

log = logging.getLogger("odradek.connections")

BeginProduce: TypeAlias = "Callable[[Node, Context, memoryview, int], Call]"

BUFFER_SIZE = 1 << 16
BUFFERS_KEPT = 64
LARGE_KEPT = 4
LARGE_KEPT_SIZE = 2 << 20
ACCEPTS_A_TURN = 64
IDLE_CHECK_S = 10.0
BACKLOG = 1024


class Connections:
    """Everything that reads from sockets of clients."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.node = dispatcher.node
        self.loop = asyncio.get_running_loop()
        self.max_request_size: int = self.node.config.socket_request_max_bytes
        self._buffers: list[bytearray] = []
        self._large: list[bytearray] = []
        self._listeners: dict[str, socket.socket] = {}
        # In the order in which they came, so that the same course of events is the same again.
        self._connections: dict[Connection, None] = {}
        self._per_ip: Counter[str] = Counter()
        self._to_complete: list[Connection] = []
        self._scheduled = False
        self._accepted = 0
        self.begin_produce: BeginProduce = self._import_produce
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._connections)

    # --- listening

    def bind(self, endpoint: "Endpoint") -> int:
        """Bind a listener and return its port. Raises OSError."""
        family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
        if not endpoint.host and socket.has_dualstack_ipv6():
            family = socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6 and not endpoint.host:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.setblocking(False)
            sock.bind((endpoint.host, endpoint.port))
        except OSError:
            sock.close()
            raise
        self._listeners[endpoint.name] = sock
        port: int = sock.getsockname()[1]
        return port

    def serve(self) -> None:
        """Accept from now on."""
        for name, sock in self._listeners.items():
            sock.listen(BACKLOG)
            self.loop.add_reader(sock.fileno(), self._accept, name, sock)
        self._sweep = self.loop.call_later(IDLE_CHECK_S, self._close_idle)

    def _accept(self, listener: str, server: socket.socket) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                sock, address = server.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("no connection can be accepted: %s", error)
                self._pause_accepting(listener, server)
                return
            self._admit(listener, sock, address)

    def _pause_accepting(self, listener: str, server: socket.socket) -> None:
        """Out of descriptors, most likely: let connections end before the next try."""
        self.loop.remove_reader(server.fileno())
        self.loop.call_later(0.1, self._resume_accepting, listener, server)

    def _resume_accepting(self, listener: str, server: socket.socket) -> None:
        if server.fileno() >= 0:
            self.loop.add_reader(server.fileno(), self._accept, listener, server)

    def _admit(self, listener: str, sock: socket.socket, address: tuple[str, int]) -> None:
        host = address[0].removeprefix("::ffff:")
        config = self.node.config
        if (
            len(self._connections) >= config.max_connections
            or self._per_ip[host] >= config.max_connections_per_ip
        ):
            log.warning("connection from %s refused: too many connections", host)
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._accepted += 1
        connection_id = f"{listener}:{host}:{address[1]}-{self._accepted}"
        self._per_ip[host] += 1
        self._connections[Connection(self, sock, Context(connection_id, listener, host))] = None

    def forget(self, connection: Connection) -> None:
        """A connection closed."""
        if connection in self._connections:
            del self._connections[connection]
            self._per_ip[connection.peer] -= 1
            if not self._per_ip[connection.peer]:
                del self._per_ip[connection.peer]

    def _close_idle(self) -> None:
        limit = self.node.config.connections_max_idle_ms / 1000
        if limit > 0:
            before = self.loop.time() - limit
            for connection in [c for c in self._connections if c.last_active < before and c.idle]:
                connection.close(None)
        self._sweep = self.loop.call_later(IDLE_CHECK_S, self._close_idle)

    # --- buffers of a pass

    def take_buffer(self) -> bytearray:
        """For one pass of one connection."""
        return self._buffers.pop() if self._buffers else bytearray(BUFFER_SIZE)

    def take_large(self, size: int) -> bytearray:
        """For a frame that does not fit into such a buffer: `size` bytes or more. Large buffers are
        kept because fresh memory costs a page fault every 4 KiB."""
        for number, buffer in enumerate(self._large):
            if len(buffer) >= size:
                return self._large.pop(number)
        return bytearray(max(size, 2 * BUFFER_SIZE))

    def give_buffer(self, buffer: bytearray) -> None:
        """Back from a connection; nothing may look at it any more."""
        size = len(buffer)
        if size == BUFFER_SIZE:
            if len(self._buffers) < BUFFERS_KEPT:
                self._buffers.append(buffer)
        elif size <= LARGE_KEPT_SIZE and len(self._large) < LARGE_KEPT:
            self._large.append(buffer)

    # --- the pass's write

    def _import_produce(
        self, node: "Node", context: Context, frame: memoryview, version: int
    ) -> "Call":
        """The first Produce: from now on `begin_produce` is the handler's own."""
        from broker.handlers.produce import begin

        self.begin_produce = begin
        return begin(node, context, frame, version)

    def answer_after_write(self, connection: Connection) -> None:
        """Have the connection's Produce requests answered once this turn's batches are written."""
        if not self._to_complete or self._to_complete[-1] is not connection:
            self._to_complete.append(connection)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._write)

    def _write(self) -> None:
        self._scheduled = False
        self.write_now()

    def write_now(self) -> None:
        """Write everything staged, then answer."""
        replicas = self.node.replicas
        replicas.write_staged()
        while replicas.dirty:
            # somebody who was woken has staged more, and may be among those to be answered
            replicas.write_staged()
        connections, self._to_complete = dict.fromkeys(self._to_complete), []
        for connection in connections:
            connection.complete()

    # --- the end

    async def close(self) -> None:
        """Stop accepting, write what is staged, close every connection."""
        if self._sweep is not None:
            self._sweep.cancel()
        for sock in self._listeners.values():
            self.loop.remove_reader(sock.fileno())
            sock.close()
        self._listeners.clear()
        self.write_now()
        for connection in list(self._connections):
            connection.close(None)
