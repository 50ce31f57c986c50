"""The way to another broker: requests out, answers back in order, over a raw socket on the loop.

Connects when first used, and again after trouble, with a growing pause between attempts. An API
whose version the inter-broker protocol fixes is sent in that version (`call`); any other in the
newest that both sides know (`call_newest`), which ApiVersions tells once a connection. A request
that is not answered in time costs the connection, as in Apache Kafka: answers come in order, so
those behind it would be late too.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from protocol.apis import API_BY_KEY, response_class
from protocol.compiler import decoder, encoder
from protocol.errors import ErrorCode, Malformed
from protocol.header import (
    RequestHeader,
    decode_response_header,
    encode_request_header,
    response_header_version,
)

log = logging.getLogger("odradek.peers")

Address = tuple[str, int]

BUFFER_SIZE = 1 << 16
MAX_ANSWER = 1 << 29
"""Bytes that a peer's answer may claim to have."""
FIRST_BACKOFF_S = 0.05
LAST_BACKOFF_S = 1.0
CONNECT_S = 10.0
"""How long the opening of a connection may take (socket.connection.setup.timeout.ms)."""
API_VERSIONS = 18
API_VERSIONS_SENT = 3
SOFTWARE = "odradek"


class PeerGone(ConnectionError):
    """No connection, a broken one, or no answer in time: whether the request was served is not
    known."""


class NotServed(Exception):
    """The peer serves no version of that API which this release knows."""


class _Line:
    """One open connection."""

    __slots__ = (
        "_body",
        "_buffer",
        "_filled",
        "_have",
        "_loop",
        "_next_id",
        "_out",
        "_sock",
        "_waiting",
        "answered",
        "closed",
        "ranges",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self._sock = sock
        self._out = bytearray()
        self._buffer = bytearray(BUFFER_SIZE)
        self._have = 0
        self._body: bytearray | None = None
        self._filled = 0
        self._next_id = 0
        # (correlation id, key, version, who waits), in the order sent.
        self._waiting: deque[tuple[int, int, int, asyncio.Future[Any]]] = deque()
        self.closed = False
        self.answered = False
        self.ranges: dict[int, tuple[int, int]] | None = None
        """API key -> versions that the peer serves, once it was asked."""
        loop.add_reader(sock.fileno(), self._on_readable)

    async def call(self, request: Any, version: int, client_id: str, timeout_s: float) -> Any:
        """The decoded answer. Raises PeerGone."""
        if self.closed:
            raise PeerGone("the connection is closed")
        key = type(request).API_KEY
        number = self._next_id
        self._next_id = (number + 1) & 0x7FFFFFFF
        frame = bytearray(4)
        encode_request_header(RequestHeader(key, version, number, client_id), frame)
        encoder(type(request), version)(request, frame)
        frame[:4] = (len(frame) - 4).to_bytes(4, "big")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((number, key, version, future))
        self._send(frame)
        timer = self._loop.call_later(timeout_s, self._late, future)
        try:
            return await future
        finally:
            timer.cancel()

    def _late(self, future: "asyncio.Future[Any]") -> None:
        if not future.done():
            self.close("no answer in time")

    # --- out

    def _send(self, frame: bytearray) -> None:
        if self._out:
            self._out += frame
            return
        try:
            sent = self._sock.send(frame)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self.close(str(error))
            return
        if sent < len(frame):
            self._out += memoryview(frame)[sent:]
            self._loop.add_writer(self._sock.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        try:
            sent = self._sock.send(self._out)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(str(error))
            return
        del self._out[:sent]
        if not self._out:
            self._loop.remove_writer(self._sock.fileno())

    # --- in

    def _on_readable(self) -> None:
        try:
            if self._body is not None:
                self._receive_body()
            else:
                self._receive()
        except (BlockingIOError, InterruptedError):
            pass
        except Malformed as error:
            self.close(f"its answer cannot be read: {error}")
        except OSError as error:
            self.close(str(error))

    def _receive(self) -> None:
        view = memoryview(self._buffer)
        count = self._sock.recv_into(view[self._have :])
        if not count:
            self.close("it closed the connection")
            return
        end = self._have + count
        at = 0
        while end - at >= 4 and not self.closed:
            size = int.from_bytes(view[at : at + 4], "big")
            if size > MAX_ANSWER:
                raise Malformed(f"a frame of {size} bytes")
            if at + 4 + size > end:
                if size > BUFFER_SIZE - 4:
                    self._begin_body(size, view[at + 4 : end])
                    at = end
                break
            # A copy: records of the answer are looked at after the buffer is used again.
            self._answer(bytes(view[at + 4 : at + 4 + size]))
            at += 4 + size
        rest = end - at
        if at and rest:
            self._buffer[:rest] = bytes(view[at:end])
        self._have = rest

    def _begin_body(self, size: int, begun: memoryview) -> None:
        """An answer larger than the buffer gets one of its own."""
        self._body = bytearray(size)
        self._body[: len(begun)] = begun
        self._filled = len(begun)

    def _receive_body(self) -> None:
        body = self._body
        assert body is not None
        with memoryview(body) as view, view[self._filled :] as space:
            count = self._sock.recv_into(space)
        if not count:
            self.close("it closed the connection")
            return
        self._filled += count
        if self._filled == len(body):
            self._body = None
            self._answer(body)

    def _answer(self, frame: bytes | bytearray) -> None:
        if not self._waiting:
            raise Malformed("an answer that nobody asked for")
        # Who waits stays in the queue until the answer is read: else nobody would tell of trouble.
        number, key, version, future = self._waiting[0]
        head = response_header_version(key, version)
        correlation_id, pos = decode_response_header(head, frame, 0)
        if correlation_id != number:
            raise Malformed(f"the answer to {correlation_id} where {number} was due")
        response, _ = decoder(response_class(key), version)(frame, pos)
        self._waiting.popleft()
        self.answered = True
        if not future.done():
            future.set_result(response)

    # --- the end

    def close(self, reason: str) -> None:
        """Whoever waits gets PeerGone with that reason."""
        if self.closed:
            return
        self.closed = True
        fd = self._sock.fileno()
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)
        self._sock.close()
        waiting, self._waiting = self._waiting, deque()
        for _, _, _, future in waiting:
            if not future.done():
                future.set_exception(PeerGone(reason))


class Peer:
    """Requests to one broker. `address()` says where it is now, None while that is not known.

    `timeout_s` is how long a request may take that names no time of its own. Several calls may be
    under way: they are answered in order.
    """

    def __init__(
        self, address: Callable[[], Address | None], client_id: str, *, timeout_s: float
    ) -> None:
        self.client_id = client_id
        self._address = address
        self._timeout_s = timeout_s
        self._line: _Line | None = None
        self._connecting = asyncio.Lock()
        self._backoff_s = 0.0
        self._retry_at = 0.0
        self._closed = False

    async def call(self, request: Any, version: int, *, timeout_s: float | None = None) -> Any:
        """The decoded answer to a request of that version.

        Waits for the pause after a failed attempt. Raises PeerGone.
        """
        line = await self._open_line()
        return await self._send(line, request, version, timeout_s)

    async def call_newest(
        self,
        key: int,
        make: Callable[[int], Any],
        *,
        most: int | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """The answer to `make(version)`, in the newest version that both sides know of an API, or
        at most in version `most`. Raises PeerGone, NotServed.
        """
        line = await self._open_line()
        if line.ranges is None:
            line.ranges = await self._ask_versions(line)
        version = _common_version(line.ranges, key, most)
        return await self._send(line, make(version), version, timeout_s)

    async def _send(self, line: _Line, request: Any, version: int, timeout_s: float | None) -> Any:
        timeout = self._timeout_s if timeout_s is None else timeout_s
        try:
            return await line.call(request, version, self.client_id, timeout)
        finally:
            if line.answered:
                self._backoff_s = 0.0

    async def _open_line(self) -> _Line:
        line = self._line
        if line is None or line.closed:
            async with self._connecting:
                line = await self._connected()
        return line

    async def _connected(self) -> _Line:
        loop = asyncio.get_running_loop()
        if self._line is not None:
            if not self._line.closed:
                return self._line
            self._line = None
            self._back_off(loop.time())
        wait = self._retry_at - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        if self._closed:
            raise PeerGone("the way to it is closed")
        try:
            # Not wait_for: that one may swallow a cancellation.
            async with asyncio.timeout(CONNECT_S):
                sock = await self._open()
        except (OSError, TimeoutError) as error:
            self._back_off(loop.time())
            raise PeerGone(str(error) or "it cannot be reached in time") from None
        if self._closed:
            sock.close()
            raise PeerGone("the way to it is closed")
        self._line = _Line(loop, sock)
        return self._line

    def _back_off(self, now: float) -> None:
        self._backoff_s = min(max(self._backoff_s * 2, FIRST_BACKOFF_S), LAST_BACKOFF_S)
        self._retry_at = now + self._backoff_s

    async def _open(self) -> socket.socket:
        place = self._address()
        if place is None:
            raise OSError("its address is not known")
        failure: OSError | None = None
        for family, address in await _resolve(*place):
            try:
                return await _connect(family, address)
            except OSError as error:
                failure = error
        raise failure or OSError(f"{place[0]} has no address")

    async def _ask_versions(self, line: _Line) -> dict[int, tuple[int, int]]:
        from protocol.messages.api_versions import ApiVersionsRequest

        request = ApiVersionsRequest(SOFTWARE, "0")
        answer = await line.call(request, API_VERSIONS_SENT, self.client_id, self._timeout_s)
        if answer.error_code != ErrorCode.NONE:
            line.close("it does not tell its versions")
            raise PeerGone(f"ApiVersions is answered with error {answer.error_code}")
        return {row.api_key: (row.min_version, row.max_version) for row in answer.api_keys}

    def close(self) -> None:
        """For good: whoever waits gets PeerGone."""
        self._closed = True
        if self._line is not None:
            self._line.close("the way to it is closed")


def _common_version(ranges: dict[int, tuple[int, int]], key: int, most: int | None) -> int:
    api = API_BY_KEY[key]
    low, high = ranges.get(key, (0, -1))
    version = min(high, api.latest_stable)
    if most is not None:
        version = min(version, most)
    if version < max(low, api.min_version):
        raise NotServed(f"{api.name} is served in versions {low} to {high}")
    return version


async def _resolve(host: str, port: int) -> list[tuple[int, Any]]:
    """(family, address) of a host; a number is not looked up, which would take a thread."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [(family, (host, port))]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


async def _connect(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
        if sock.getsockname() == sock.getpeername():
            # On loopback, a port that nobody listens on may be given to the one who asks for it.
            raise ConnectionRefusedError("nobody listens there")
    except BaseException:
        sock.close()
        raise
    return sock
