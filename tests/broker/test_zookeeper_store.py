"""ZooKeeperStore with a real server: lost connections, ended sessions, dead threads, bad servers.

What it shares with the embedded store is in test_store.py.
"""

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from broker.cluster.layout import CONTROLLER_EPOCH
from broker.cluster.store import (
    BadVersion,
    Check,
    ConnectionLoss,
    Create,
    EventKind,
    MultiFailed,
    NoNode,
    SessionEvent,
    SessionExpired,
    SetData,
    StoreError,
    StoreFailed,
    WatchEvent,
    ensure_path,
)
from broker.cluster.zookeeper import ZooKeeperStore
from broker.cluster.zookeeper_options import Options
from broker.controller.fence import Fence, Group
from compat.reference import free_ports
from tests.kit import zookeeper
from tests.kit.zookeeper import ZooKeeper

SOON_S = 1.0
"""How long the loop may be busy with one thing; generous, because the machine is shared."""
Open = Callable[..., "asyncio.Future[ZooKeeperStore]"]


class Events:
    """Session events; `until` waits for one, bounded."""

    def __init__(self, store: ZooKeeperStore) -> None:
        self.seen: list[SessionEvent] = []
        self._changed = asyncio.Event()
        store.listen(self._hear)

    def _hear(self, event: SessionEvent) -> None:
        self.seen.append(event)
        self._changed.set()

    async def until(self, event: SessionEvent, count: int = 1) -> None:
        async with asyncio.timeout(30):
            while self.seen.count(event) < count:
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def opened() -> AsyncIterator[list[ZooKeeperStore]]:
    """Stores that are closed after the test."""
    stores: list[ZooKeeperStore] = []
    yield stores
    for store in stores:
        await store.close()


async def connect(
    stores: list[ZooKeeperStore], address: str, root: str = "", session_ms: int = 4000, **more: int
) -> ZooKeeperStore:
    store = ZooKeeperStore(Options(address, root, session_ms, 20_000, **more))
    stores.append(store)
    await store.start()
    return store


@pytest.fixture
async def store(opened: list[ZooKeeperStore]) -> ZooKeeperStore:
    """On the shared server, in a chroot of its own."""
    return await connect(opened, zookeeper.standalone().address, zookeeper.chroot())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ZooKeeper]:
    """A server that the test may kill."""
    server = ZooKeeper(tmp_path)
    server.start()
    yield server
    server.kill()


@contextlib.asynccontextmanager
async def loop_lag() -> AsyncIterator[Callable[[], float]]:
    """The longest pause of the loop so far, in seconds."""
    worst, ended = 0.0, False

    async def tick() -> None:
        nonlocal worst
        while not ended:
            began = time.monotonic()
            await asyncio.sleep(0.002)
            worst = max(worst, time.monotonic() - began)

    task = asyncio.create_task(tick())
    yield lambda: worst
    ended = True
    await task


# --- opening and closing --------------------------------------------------------------------------


async def test_the_chroot_is_created_and_hides_the_rest(opened: list[ZooKeeperStore]) -> None:
    address, root = zookeeper.standalone().address, zookeeper.chroot()
    inside = await connect(opened, address, f"{root}/deep/er")
    outside = await connect(opened, address)
    heard: list[WatchEvent] = []
    await inside.create("/a", b"x")
    await inside.get("/a", heard.append)
    await outside.set(f"{root}/deep/er/a", b"y")
    assert await inside.get("/a") == (b"y", (await outside.get(f"{root}/deep/er/a"))[1])
    assert await inside.children("/") == ["a"]
    assert await inside.exists("/") == await outside.exists(f"{root}/deep/er")
    assert heard == [WatchEvent(EventKind.CHANGED, "/a")]
    assert (await outside.get(f"{root}/deep"))[0] is None


async def test_nobody_answers(opened: list[ZooKeeperStore]) -> None:
    (port,) = free_ports(1)
    store = ZooKeeperStore(Options(f"127.0.0.1:{port}", connection_ms=300))
    began = time.monotonic()
    with pytest.raises(ConnectionLoss) as caught:
        await store.start()
    assert time.monotonic() - began < 3
    assert caught.value.detail.startswith(
        f"ZooKeeper at 127.0.0.1:{port} did not answer within 300 ms (127.0.0.1:{port}: "
    )
    assert "refused" in caught.value.detail
    with pytest.raises(SessionExpired):
        await store.get("/")


async def test_a_frozen_server_does_not_hold_up_start_or_close(server: ZooKeeper) -> None:
    server.pause()
    store = ZooKeeperStore(Options(server.address, session_ms=1000, connection_ms=300))
    began = time.monotonic()
    with pytest.raises(ConnectionLoss):
        await store.start()
    assert time.monotonic() - began < 4


async def test_closing_with_calls_under_way_ends_them(store: ZooKeeperStore) -> None:
    calls = [asyncio.ensure_future(store.create(f"/n{i}")) for i in range(300)]
    await asyncio.sleep(0)
    await store.close()
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    ended = [o for o in outcomes if isinstance(o, StoreError)]
    assert {type(o) for o in ended} <= {SessionExpired, ConnectionLoss}
    assert len(ended) >= 300 - 10  # all that were not under way
    await store.close()


# --- order and load -------------------------------------------------------------------------------


async def test_calls_take_effect_in_the_order_of_the_calls(store: ZooKeeperStore) -> None:
    await store.create("/p")
    names = await asyncio.gather(
        *(store.create("/p/n", b"%d" % i, sequential=True) for i in range(500))
    )
    assert [path for path, _ in names] == [f"/p/n{i:010d}" for i in range(500)]
    found = await store.get_many([path for path, _ in names])
    assert [node and node[0] for node in found] == [b"%d" % i for i in range(500)]


async def test_a_watch_is_heard_before_a_reply_that_shows_the_change(
    store: ZooKeeperStore, opened: list[ZooKeeperStore]
) -> None:
    other = await connect(opened, zookeeper.standalone().address, store._root)
    await store.create("/a", b"0")
    for number in range(1, 300):
        heard: list[WatchEvent] = []
        await store.get("/a", heard.append)
        write = asyncio.ensure_future(other.set("/a", b"%d" % number))
        while (await store.get("/a"))[0] != b"%d" % number:
            pass
        assert heard == [WatchEvent(EventKind.CHANGED, "/a")]
        await write


async def test_at_most_so_many_requests_are_under_way(opened: list[ZooKeeperStore]) -> None:
    store = await connect(opened, zookeeper.standalone().address, zookeeper.chroot(), in_flight=3)
    most = 0
    send = store._send

    def count(call: object) -> bool:
        nonlocal most
        sent = send(call)  # type: ignore[arg-type]
        most = max(most, len(store._flying))
        return sent

    store._send = count  # type: ignore[method-assign,assignment]
    await asyncio.gather(*(store.exists("/") for _ in range(50)))
    assert most == 3


async def test_thousands_of_calls_without_a_server_block_nothing(
    server: ZooKeeper, opened: list[ZooKeeperStore]
) -> None:
    store = await connect(opened, server.address, session_ms=20_000, in_flight=2000)
    await store.create("/a")
    async with loop_lag() as lag:
        # Those under way fill kazoo's queue while nobody reads; the others wait here.
        server.pause()
        writes = [asyncio.ensure_future(store.set("/a", b"x" * 1000)) for _ in range(2000)]
        reads = [asyncio.ensure_future(store.get("/a")) for _ in range(1000)]
        await asyncio.sleep(0.3)
        server.resume()
        await asyncio.gather(*writes, *reads)
        assert lag() < SOON_S
    assert (await store.get("/a"))[1].version == 2000


async def test_many_events_at_once_leave_the_loop_breath(
    store: ZooKeeperStore, opened: list[ZooKeeperStore]
) -> None:
    other = await connect(opened, zookeeper.standalone().address, store._root)
    await store.create("/p")
    paths = [f"/p/{i}" for i in range(2000)]
    await other.multi([Create(path) for path in paths])
    heard: list[WatchEvent] = []
    await asyncio.gather(*(store.get(path, heard.append) for path in paths))
    async with loop_lag() as lag:
        await other.multi([SetData(path, b"x") for path in paths])
        found = await store.get_many(paths)
        assert lag() < SOON_S
    assert [node and node[0] for node in found] == [b"x"] * 2000
    assert heard == [WatchEvent(EventKind.CHANGED, path) for path in paths]


async def test_3000_conditional_sets_in_one_fenced_multi(store: ZooKeeperStore) -> None:
    state = b'{"controller_epoch":1,"leader":1,"version":1,"leader_epoch":7,"isr":[1,2,3]}'
    await store.create(CONTROLLER_EPOCH, b"1")
    await ensure_path(store, "/brokers/topics/t/partitions")
    paths = [f"/brokers/topics/t/partitions/{i}" for i in range(3000)]
    fence = Fence(store, 0)
    assert all(await fence.write([[Create(path)] for path in paths]))
    await store.set(paths[17], b"somebody else was faster")

    sent: list[int] = []
    multi = store.multi

    async def counted(ops: list[SetData]) -> object:
        sent.append(len(ops))
        return await multi(ops)

    store.multi = counted  # type: ignore[method-assign,assignment]
    groups: list[Group] = [[SetData(path, state, 0)] for path in paths]
    began = time.monotonic()
    outcomes = await fence.write(groups)
    assert time.monotonic() - began < 2
    assert sent == [3001, 3000], "all in one, then without the one that was refused"
    refused = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, StoreError)]
    assert refused == [17]
    assert isinstance(outcomes[17], BadVersion)
    found = await store.get_many(paths)
    assert [i for i, node in enumerate(found) if node and node[0] == state] == [
        i for i in range(3000) if i != 17
    ]


async def test_a_request_above_the_servers_limit_costs_nothing(store: ZooKeeperStore) -> None:
    events = Events(store)
    await store.create("/large", b"x" * 900_000)
    with pytest.raises(StoreFailed, match="too many for one request"):
        await store.set("/large", b"y" * 1_100_000)
    with pytest.raises(StoreFailed):
        await store.multi([SetData("/large", b"y" * 600_000), SetData("/large", b"z" * 600_000)])
    assert (await store.get("/large"))[0] == b"x" * 900_000
    assert events.seen == []


async def test_many_nodes_are_read_in_few_requests(store: ZooKeeperStore) -> None:
    await store.create("/p")
    paths = [f"/p/{i}" for i in range(3500)]
    await store.multi([Create(path, path.encode()) for path in paths])
    asked = [*paths[:2500], "/none", *paths[2500:]]
    sent = 0
    send = store._send

    def count(call: object) -> bool:
        nonlocal sent
        sent += 1
        return send(call)  # type: ignore[arg-type]

    store._send = count  # type: ignore[method-assign,assignment]
    found = await store.get_many(asked)
    assert sent == 4
    assert [node and node[0] for node in found] == [
        None if path == "/none" else path.encode() for path in asked
    ]


# --- lost connections -----------------------------------------------------------------------------


async def test_a_server_that_is_killed_and_comes_back(
    server: ZooKeeper, opened: list[ZooKeeperStore]
) -> None:
    store = await connect(opened, server.address, "/root", session_ms=10_000)
    events = Events(store)
    heard: list[WatchEvent] = []
    _, made = await store.create("/e", b"1", ephemeral=True)
    await store.create("/a", b"0")
    await store.get("/a", heard.append)
    session = store.session_id

    server.kill()
    await events.until(SessionEvent.SUSPENDED)
    assert not store.connected
    waiting = [
        asyncio.ensure_future(store.get("/e")),
        asyncio.ensure_future(store.set("/a", b"1", 0)),
        asyncio.ensure_future(store.children("/")),
    ]
    await asyncio.sleep(0.2)
    assert not any(call.done() for call in waiting)
    server.start()
    await events.until(SessionEvent.RECONNECTED)
    assert store.connected
    got, stat, names = await asyncio.gather(*waiting)
    assert got == (b"1", made)
    assert stat.version == 1  # type: ignore[union-attr]
    assert sorted(names) == ["a", "e"]  # type: ignore[arg-type]
    assert store.session_id == session == made.owner
    assert events.seen == [SessionEvent.SUSPENDED, SessionEvent.RECONNECTED]
    # Its watches are gone: nothing was heard of the change.
    await store.exists("/")
    assert heard == []


async def test_reads_under_way_are_made_again_and_writes_are_in_doubt(
    server: ZooKeeper, opened: list[ZooKeeperStore]
) -> None:
    store = await connect(opened, server.address, session_ms=30_000, in_flight=50)
    events = Events(store)
    await store.create("/a", b"0")
    server.pause()
    reads = [asyncio.ensure_future(store.get("/a")) for _ in range(5)]
    writes = [asyncio.ensure_future(store.set("/a", b"1")) for _ in range(5)]
    later = [asyncio.ensure_future(store.exists("/a")) for _ in range(100)]
    await asyncio.sleep(0.1)
    server.kill()
    await events.until(SessionEvent.SUSPENDED)
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ConnectionLoss}
    assert not any(call.done() for call in (*reads, *later))
    server.start()
    async with asyncio.timeout(60):
        assert len({stat for _, stat in await asyncio.gather(*reads)}) == 1
        await asyncio.gather(*later)


async def test_a_call_without_a_server_ends_after_twice_the_session_timeout(
    server: ZooKeeper, opened: list[ZooKeeperStore]
) -> None:
    store = await connect(opened, server.address, session_ms=500)
    server.kill()
    began = time.monotonic()
    for call in (store.get("/"), store.create("/late")):
        with pytest.raises(ConnectionLoss):
            await call
    assert 1.8 < time.monotonic() - began < 20
    assert store.session_id != 0
    server.start()
    # A session of half a second may have ended before its client was back.
    async with asyncio.timeout(20):
        with contextlib.suppress(SessionExpired):
            await store.exists("/")
            assert await store.exists("/late") is None


async def test_a_server_that_takes_a_connection_and_says_nothing_is_asked_again(
    server: ZooKeeper, opened: list[ZooKeeperStore]
) -> None:
    """As ZooKeeper does now and then with a connection that comes while it starts."""
    taken: list[asyncio.StreamWriter] = []
    copying: list[asyncio.Future[list[None]]] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(writer)
        if len(taken) > 1:
            host, _, port = server.address.partition(":")
            there, to = await asyncio.open_connection(host, int(port))
            copying.append(asyncio.gather(copy(reader, to), copy(there, writer)))

    between = await asyncio.start_server(take, "127.0.0.1", 0)
    port = between.sockets[0].getsockname()[1]
    began = time.monotonic()
    store = await connect(opened, f"127.0.0.1:{port}", session_ms=12_000)
    assert await store.exists("/") is not None
    assert 4 <= time.monotonic() - began < 11  # a third of the session, not all of it
    assert len(taken) == 2
    await store.close()
    await asyncio.gather(*copying)
    for writer in taken:
        writer.close()
    between.close()
    await between.wait_closed()


async def test_the_leader_of_an_ensemble_is_killed(
    tmp_path: Path, opened: list[ZooKeeperStore]
) -> None:
    ensemble = zookeeper.Ensemble(tmp_path)
    try:
        ensemble.start()
        stores = [await connect(opened, server.address, "/r") for server in ensemble.servers]
        both = await connect(opened, ensemble.address, "/r")
        events = Events(both)
        made = [
            (await store.create(f"/e{number}", ephemeral=True))[1]
            for number, store in enumerate([*stores, both])
        ]
        leader = ensemble.leader()
        leader.kill()
        began = time.monotonic()
        await events.until(SessionEvent.RECONNECTED)
        await both.create("/after")
        assert time.monotonic() - began < 4, "no longer than a session lasts"
        assert events.seen[-2:] == [SessionEvent.SUSPENDED, SessionEvent.RECONNECTED]
        for number, stat in enumerate(made):
            if number == len(stores) or ensemble.servers[number] is not leader:
                assert await both.exists(f"/e{number}") == stat
    finally:
        ensemble.kill()


# --- ended sessions -------------------------------------------------------------------------------


async def test_calls_under_way_do_not_slip_into_the_next_session(
    opened: list[ZooKeeperStore],
) -> None:
    """Ephemerals are submitted all the time while the session is ended again and again."""
    server = zookeeper.standalone()
    store = await connect(opened, server.address, zookeeper.chroot(), 10_000)
    owners: dict[str, int] = {}
    numbers = itertools.count()
    ended = False

    async def work() -> None:
        while not ended:
            path, submitted_in = f"/e{next(numbers)}", store.session_id
            try:
                _, stat = await store.create(path, ephemeral=True)
            except StoreError:
                await asyncio.sleep(0)
            else:
                owners[path] = submitted_in
                assert stat.owner == submitted_in

    workers = [asyncio.create_task(work()) for _ in range(8)]
    for _ in range(5):
        await zookeeper.expire(server, store)
        await asyncio.sleep(0.05)
    ended = True
    async with asyncio.timeout(20):
        await asyncio.gather(*workers)
    left = await store.get_many([f"/{name}" for name in await store.children("/")])
    assert {node[1].owner for node in left if node is not None} <= {store.session_id}
    assert len(set(owners.values())) >= 5


async def test_an_expiry_with_the_server_away(
    server: ZooKeeper, opened: list[ZooKeeperStore]
) -> None:
    """The client learns of it from the server only; what waits is refused, not done."""
    store = await connect(opened, server.address, session_ms=4000)
    other = await connect(opened, server.address, session_ms=20_000)
    events = Events(store)
    await store.create("/e", ephemeral=True)
    old = store.session_id
    link = store._client._connection._socket
    heard = asyncio.Event()
    await other.exists("/e", lambda _: heard.set())
    # Cut off silently: nothing is read and no connection can be made.
    store._handler.create_connection = _unreachable  # type: ignore[union-attr,method-assign,assignment]
    link.shutdown(socket.SHUT_RDWR)
    await events.until(SessionEvent.SUSPENDED)
    late = asyncio.ensure_future(store.create("/late"))
    async with asyncio.timeout(20):
        await heard.wait()
    del store._handler.create_connection  # type: ignore[union-attr]
    await events.until(SessionEvent.CONNECTED)
    with pytest.raises(SessionExpired):
        await late
    assert await other.exists("/late") is None
    assert store.session_id != old
    assert events.seen == [
        SessionEvent.SUSPENDED,
        SessionEvent.EXPIRED,
        SessionEvent.CONNECTED,
    ]
    await store.create("/late")


def _unreachable(*_: object, **__: object) -> None:
    raise OSError("unreachable")


async def test_a_connection_whose_thread_dies_is_made_anew_in_the_same_session(
    store: ZooKeeperStore,
) -> None:
    events = Events(store)
    _, made = await store.create("/e", ephemeral=True)
    session = store.session_id

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    store._client._connection._read_response = broken
    read = asyncio.ensure_future(store.get("/e"))
    write = asyncio.ensure_future(store.set("/e", b"1"))
    with pytest.raises(ConnectionLoss):
        await write
    await events.until(SessionEvent.RECONNECTED)
    async with asyncio.timeout(20):
        _, stat = await read
    assert (stat.czxid, stat.owner) == (made.czxid, session)
    assert store.session_id == session
    assert events.seen == [SessionEvent.SUSPENDED, SessionEvent.RECONNECTED]


async def test_a_failing_watch_does_not_stop_the_others(
    store: ZooKeeperStore, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[WatchEvent] = []

    def fails(_: WatchEvent) -> None:
        raise ValueError("not the store's fault")

    await store.create("/a")
    await store.exists("/a", fails)
    await store.exists("/a", heard.append)
    await store.set("/a", b"1")
    await store.exists("/a")
    assert heard == [WatchEvent(EventKind.CHANGED, "/a")]
    assert "a callback of the metadata store failed" in caplog.text


async def test_a_cancelled_call_leaves_the_others_alone(store: ZooKeeperStore) -> None:
    calls = [asyncio.ensure_future(store.create(f"/n{i}")) for i in range(100)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    names = set(await store.children("/"))
    assert {f"n{i}" for i in range(1, 100, 2)} <= names
    with pytest.raises(NoNode):
        await store.get("/none")


async def test_an_empty_multi_and_a_check_alone(store: ZooKeeperStore) -> None:
    assert await store.multi([]) == []
    await store.create("/a")
    assert await store.multi([Check("/a", 0)]) == [True]
    with pytest.raises(MultiFailed):
        await store.multi([Check("/a", 1)])


@pytest.mark.parametrize("path", ["", "a", "/a/", "//a", "/a//b", "/a/./b"])
async def test_impossible_paths_are_refused(store: ZooKeeperStore, path: str) -> None:
    await store.create("/a")
    with pytest.raises(StoreError):
        await store.create(path)
    assert store.connected
