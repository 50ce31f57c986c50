"""A script client: one blocking socket, one request or any bytes at a time, nothing hidden.

No retries, no metadata, no groups of its own. Requests are declared messages, answers come back
decoded; `frame` builds request bytes for those who send them in bulk.
"""

import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from protocol.apis import API_BY_KEY, response_class
from protocol.compiler import decoder, encoder
from protocol.crc import crc32c
from protocol.header import (
    RequestHeader,
    decode_response_header,
    encode_request_header,
    response_header_version,
)
from protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse

Address = tuple[str, int]
Headers = Sequence[tuple[str, bytes | None]]


class ConnectionClosed(Exception):
    """The broker closed the connection (orderly or by a reset)."""


class NoAnswer(Exception):
    """Nothing came within the time limit; the connection is still open."""


def address_of(bootstrap: str) -> Address:
    """`host:port` as a socket address; of several the first one."""
    bootstrap = bootstrap.partition(",")[0]
    host, _, port = bootstrap.rpartition(":")
    return host, int(port)


def frame(
    request: Any, version: int, correlation_id: int = 0, client_id: str | None = "script"
) -> bytes:
    """A whole request frame: length, header, body."""
    out = bytearray(4)
    header = RequestHeader(type(request).API_KEY, version, correlation_id, client_id)
    encode_request_header(header, out)
    encoder(type(request), version)(request, out)
    struct.pack_into(">i", out, 0, len(out) - 4)
    return bytes(out)


def decode_answer(key: int, version: int, data: bytes) -> tuple[int, Any]:
    """Correlation id and decoded body of an answer frame (without its length)."""
    head = response_header_version(key, version)
    correlation_id, pos = decode_response_header(head, data, 0)
    body, _ = decoder(response_class(key), version)(data, pos)
    return correlation_id, body


class Wire:
    """One connection. `timeout` bounds every wait, in seconds."""

    def __init__(
        self, bootstrap: str, *, timeout: float = 10.0, client_id: str | None = "script"
    ) -> None:
        self.client_id = client_id
        self.socket = socket.create_connection(address_of(bootstrap), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        self._next_id = 1
        self._waiting: list[tuple[int, int, int]] = []

    def __enter__(self) -> "Wire":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, whatever is under way."""
        self.socket.close()

    def send(self, request: Any, version: int | None = None) -> int:
        """Send a request (newest stable version if none is given); its correlation id."""
        key = type(request).API_KEY
        if version is None:
            version = API_BY_KEY[key].latest_stable
        number = self._next_id
        self._next_id += 1
        self.send_bytes(frame(request, version, number, self.client_id))
        self._waiting.append((number, key, version))
        return number

    def send_bytes(self, data: bytes) -> None:
        """Send any bytes. Raises `ConnectionClosed` when the broker is gone."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ConnectionClosed(str(error)) from None

    def half_close(self) -> None:
        """Tell the broker that nothing more will be sent; answers can still be read."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise ConnectionClosed(str(error)) from None

    def receive(self) -> Any:
        """The decoded answer to the oldest unanswered `send`."""
        number, key, version = self._waiting.pop(0)
        answered, body = decode_answer(key, version, self.receive_frame())
        assert answered == number, f"answer to {answered} where {number} was due"
        return body

    def call(self, request: Any, version: int | None = None) -> Any:
        """Send a request and wait for its decoded answer."""
        self.send(request, version)
        return self.receive()

    def receive_frame(self) -> bytes:
        """The next answer frame without its length. Raises `ConnectionClosed` or `NoAnswer`."""
        self._fill(4)
        size: int = struct.unpack_from(">i", self._received)[0]
        self._fill(4 + size)
        data = bytes(self._received[4 : 4 + size])
        del self._received[: 4 + size]
        return data

    def wait_closed(self) -> bytes:
        """Whatever still comes until the broker closes; raises `NoAnswer` when it does not."""
        try:
            while True:
                self._fill(len(self._received) + 1)
        except ConnectionClosed:
            return bytes(self._received)

    def _fill(self, size: int) -> None:
        while len(self._received) < size:
            try:
                part = self.socket.recv(1 << 18)
            except TimeoutError:
                raise NoAnswer(f"{len(self._received)} of {size} bytes") from None
            except ConnectionResetError as error:
                raise ConnectionClosed(str(error)) from None
            if not part:
                raise ConnectionClosed(f"after {len(self._received)} of {size} bytes")
            self._received += part


def leader_of(bootstrap: str, topic: str, index: int = 0) -> tuple[int, str]:
    """Id and `host:port` of the broker that leads a partition."""
    asked = MetadataRequest([MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False)
    with Wire(bootstrap) as wire:
        answer: MetadataResponse = wire.call(asked, 9)
    (leader,) = [
        partition.leader_id
        for partition in answer.topics[0].partitions
        if partition.partition_index == index
    ]
    return leader, next(f"{b.host}:{b.port}" for b in answer.brokers if b.node_id == leader)


def batch(
    values: Sequence[bytes | None],
    *,
    timestamp: int,
    key: bytes | None = None,
    headers: Headers = (),
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    attributes: int = 0,
) -> bytes:
    """An uncompressed record batch (magic 2), all records at one timestamp.

    Written apart from `protocol.batch`, so that the broker is not fed by the code that it reads
    batches with.
    """
    body = bytearray()
    for number, value in enumerate(values):
        record = b"\x00\x00" + _zigzag(number) + _blob(key) + _blob(value) + _zigzag(len(headers))
        for name, content in headers:
            record += _blob(name.encode()) + _blob(content)
        body += _zigzag(len(record)) + record
    checked = (
        struct.pack(
            ">hiqqqhii",
            attributes,
            len(values) - 1,
            timestamp,
            timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            len(values),
        )
        + body
    )
    return struct.pack(">qiibI", 0, len(checked) + 9, -1, 2, crc32c(checked)) + checked


def _zigzag(value: int) -> bytes:
    number = (value << 1) ^ (value >> 63)
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _blob(value: bytes | None) -> bytes:
    return b"\x01" if value is None else _zigzag(len(value)) + value
