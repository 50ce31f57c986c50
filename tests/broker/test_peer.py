"""The way to another broker, against a scripted one on a real socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from broker import peer as peers
from broker.peer import NotServed, Peer, PeerGone
from protocol.compiler import encoder
from protocol.errors import ErrorCode
from protocol.header import decode_request_header, response_header_version
from protocol.messages.allocate_producer_ids import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
)
from protocol.messages.api_versions import ApiVersion, ApiVersionsResponse
from protocol.messages.update_metadata import UpdateMetadataRequest, UpdateMetadataResponse

Seen = tuple[int, int, str | None]
"""API key, version, client id."""
Serve = Callable[["Broker", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Broker:
    """Answers one request after the other; `serve` may be replaced by anything."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self.serve: Serve = Broker.answer_all
        self.ranges = {67: (0, 0), 6: (0, 5)}
        self.code = 0
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.serve(self, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def request(self, reader: asyncio.StreamReader) -> tuple[int, int, int]:
        """(API key, version, correlation id) of the next request."""
        size = int.from_bytes(await reader.readexactly(4), "big")
        header, _ = decode_request_header(await reader.readexactly(size))
        self.seen.append((header.api_key, header.api_version, header.client_id))
        return header.api_key, header.api_version, header.correlation_id

    def frame(self, key: int, version: int, number: int) -> bytes:
        response: Any
        if key == 18:
            rows = [ApiVersion(k, low, high) for k, (low, high) in self.ranges.items()]
            response = ApiVersionsResponse(self.code, rows)
        elif key == 67:
            response = AllocateProducerIdsResponse(producer_id_start=number, producer_id_len=3)
        else:
            response = UpdateMetadataResponse(number)
        out = bytearray(4) + number.to_bytes(4, "big")
        if response_header_version(key, version):
            out.append(0)
        encoder(type(response), version)(response, out)
        out[:4] = (len(out) - 4).to_bytes(4, "big")
        return bytes(out)

    async def answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(self.frame(*await self.request(reader)))


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    made = Broker()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def peer(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Peer]:
    monkeypatch.setattr(peers, "FIRST_BACKOFF_S", 0.001)
    made = Peer(lambda: ("127.0.0.1", broker.port), "7", timeout_s=5)
    yield made
    made.close()


REQUEST = UpdateMetadataRequest()


async def test_a_fixed_version_is_sent_without_asking(broker: Broker, peer: Peer) -> None:
    assert (await peer.call(REQUEST, 8)).error_code == 0
    assert (await peer.call(REQUEST, 8)).error_code == 1
    assert broker.seen == [(6, 8, "7")] * 2
    assert broker.connections == 1


async def test_answers_come_in_order(peer: Peer) -> None:
    calls = [asyncio.ensure_future(peer.call(REQUEST, 8)) for _ in range(20)]
    assert [(await call).error_code for call in calls] == list(range(20))


async def test_versions_are_asked_for_once_a_connection(broker: Broker, peer: Peer) -> None:
    made: list[int] = []

    def make(version: int) -> UpdateMetadataRequest:
        made.append(version)
        return REQUEST

    await peer.call_newest(6, make)
    await peer.call_newest(6, make, most=2)
    assert made == [5, 2]
    assert [seen[:2] for seen in broker.seen] == [(18, 3), (6, 5), (6, 2)]
    with pytest.raises(NotServed):
        await peer.call_newest(7, make)
    broker.ranges = {6: (9, 9)}
    peer._line.close("anew")  # type: ignore[union-attr]
    with pytest.raises(NotServed):
        await peer.call_newest(6, make)


async def test_a_peer_that_does_not_tell_its_versions(broker: Broker, peer: Peer) -> None:
    broker.code = ErrorCode.UNSUPPORTED_VERSION
    with pytest.raises(PeerGone):
        await peer.call_newest(67, lambda _: AllocateProducerIdsRequest())
    broker.code = 0
    assert (await peer.call_newest(67, lambda _: AllocateProducerIdsRequest())).producer_id_len == 3


async def test_nobody_listens(broker: Broker, peer: Peer) -> None:
    await broker.stop()
    for _ in range(3):
        with pytest.raises(PeerGone):
            await peer.call(REQUEST, 8)
    await broker.start()
    assert (await peer.call(REQUEST, 8)).error_code == 0


async def test_the_pause_grows_to_its_limit_and_an_answer_ends_it(
    broker: Broker, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "LAST_BACKOFF_S", 0.003)
    await broker.stop()
    pauses = []
    for _ in range(4):
        with pytest.raises(PeerGone):
            await peer.call(REQUEST, 8)
        pauses.append(peer._backoff_s)
    assert pauses == [0.001, 0.002, 0.003, 0.003]
    await broker.start()
    await peer.call(REQUEST, 8)
    assert peer._backoff_s == 0


async def test_an_unknown_address(peer: Peer) -> None:
    peer._address = lambda: None
    with pytest.raises(PeerGone, match="not known"):
        await peer.call(REQUEST, 8)


async def test_a_name_is_looked_up(broker: Broker) -> None:
    peer = Peer(lambda: ("localhost", broker.port), "7", timeout_s=5)
    assert (await peer.call(REQUEST, 8)).error_code == 0
    peer.close()


async def test_no_answer_in_time_costs_the_connection(broker: Broker, peer: Peer) -> None:
    async def silent(broker: Broker, reader: asyncio.StreamReader, _: Any) -> None:
        await broker.request(reader)
        await reader.read()

    broker.serve = silent
    late = asyncio.ensure_future(peer.call(REQUEST, 8, timeout_s=0.02))
    behind = asyncio.ensure_future(peer.call(REQUEST, 8))
    for call in (late, behind):
        with pytest.raises(PeerGone, match="no answer in time"):
            await call
    broker.serve = Broker.answer_all
    assert (await peer.call(REQUEST, 8)).error_code == 0
    assert broker.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",  # closes
        b"\x7f\xff\xff\xff",  # too large
        b"\0\0\0\6\0\0\0\x63\0\0",  # another correlation id
        b"\0\0\0\5\0\0\0\0\0",  # cut off
    ],
)
async def test_answers_that_are_none(broker: Broker, peer: Peer, answer: bytes) -> None:
    async def odd(broker: Broker, reader: asyncio.StreamReader, writer: Any) -> None:
        await broker.request(reader)
        writer.write(answer)

    broker.serve = odd
    with pytest.raises(PeerGone):
        await peer.call(REQUEST, 8)
    broker.serve = Broker.answer_all
    assert (await peer.call(REQUEST, 8)).error_code == 0


async def test_an_answer_that_nobody_asked_for(broker: Broker, peer: Peer) -> None:
    async def twice(broker: Broker, reader: asyncio.StreamReader, writer: Any) -> None:
        frame = broker.frame(*await broker.request(reader))
        writer.write(frame + frame)
        await reader.read()

    broker.serve = twice
    assert (await peer.call(REQUEST, 8)).error_code == 0
    broker.serve = Broker.answer_all
    assert (await peer.call(REQUEST, 8)).error_code == 0
    assert broker.connections == 2


async def test_a_call_that_is_given_up_does_not_confuse_the_others(
    broker: Broker, peer: Peer
) -> None:
    hold = asyncio.Event()

    async def slow(broker: Broker, reader: asyncio.StreamReader, writer: Any) -> None:
        while True:
            asked = await broker.request(reader)
            await hold.wait()
            writer.write(broker.frame(*asked))

    broker.serve = slow
    first = asyncio.ensure_future(peer.call(REQUEST, 8))
    second = asyncio.ensure_future(peer.call(REQUEST, 8))
    while not broker.seen:
        await asyncio.sleep(0)
    first.cancel()
    hold.set()
    assert (await second).error_code == 1


@pytest.mark.parametrize("size", [10, peers.BUFFER_SIZE - 8, peers.BUFFER_SIZE, 3_000_000])
async def test_answers_of_any_size_in_pieces(broker: Broker, peer: Peer, size: int) -> None:
    """UpdateMetadata's answer has a few bytes; what comes after it is passed over."""

    async def large(broker: Broker, reader: asyncio.StreamReader, writer: Any) -> None:
        while True:
            frame = broker.frame(*await broker.request(reader)) + bytes(size)
            frame = (len(frame) - 4).to_bytes(4, "big") + frame[4:]
            for at in (0, 3, 9):
                writer.write(frame[at : {0: 3, 3: 9, 9: None}[at]])
                await writer.drain()
                await asyncio.sleep(0)

    broker.serve = large
    for number in range(3):
        assert (await peer.call(REQUEST, 8)).error_code == number


async def test_a_request_that_the_socket_does_not_take_at_once(broker: Broker, peer: Peer) -> None:
    from protocol.messages.update_metadata import UpdateMetadataTopicState

    large = UpdateMetadataRequest(topic_states=[UpdateMetadataTopicState("t" * 20000)] * 400)
    calls = [asyncio.ensure_future(peer.call(large, 8)) for _ in range(3)]
    assert [(await call).error_code for call in calls] == [0, 1, 2]


async def test_a_closed_way_stays_closed(broker: Broker, peer: Peer) -> None:
    await peer.call(REQUEST, 8)

    async def silent(broker: Broker, reader: asyncio.StreamReader, _: Any) -> None:
        await reader.read()

    broker.serve = silent
    peer._line.close("anew")  # type: ignore[union-attr]
    waits = asyncio.ensure_future(peer.call(REQUEST, 8))
    while broker.connections < 2:
        await asyncio.sleep(0)
    peer.close()
    for call in (waits, peer.call(REQUEST, 8)):
        with pytest.raises(PeerGone, match="closed"):
            await call
