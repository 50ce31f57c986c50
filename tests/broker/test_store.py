"""The contract of the metadata store, run over each implementation.

A backend gives sessions on one tree and can expire one; add a backend to `BACKENDS` and the whole
suite runs over it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

import pytest

from broker.cluster.local import LocalStore
from broker.cluster.store import (
    BadVersion,
    Check,
    Create,
    Delete,
    EventKind,
    MultiFailed,
    NoChildrenForEphemerals,
    NodeExists,
    NoNode,
    NotEmpty,
    SessionEvent,
    SessionExpired,
    SetData,
    Stat,
    Store,
    StoreError,
    WatchEvent,
    ensure_path,
)
from tests.kit import zookeeper


class Backend(Protocol):
    """Gives sessions on one empty tree."""

    async def session(self) -> Store: ...

    async def expire(self, store: Store) -> None:
        """End a session as by its timeout; returns when its owner has the next one."""

    async def close(self) -> None: ...


class Local:
    """Sessions of one LocalStore, in memory or in a file."""

    def __init__(self, path: str | None) -> None:
        self._first = LocalStore(path)
        self._sessions: list[LocalStore] = []

    async def session(self) -> LocalStore:
        store = self._first.session()
        await store.start()
        self._sessions.append(store)
        return store

    async def expire(self, store: Store) -> None:
        assert isinstance(store, LocalStore)
        await store.expire()

    async def close(self) -> None:
        for store in self._sessions:
            await store.close()


class Real:
    """Sessions with a real ZooKeeper server, in a chroot of their own."""

    def __init__(self) -> None:
        # Imported where it is needed: the embedded store does without kazoo.
        from broker.cluster.zookeeper import ZooKeeperStore
        from broker.cluster.zookeeper_options import Options

        self._server = zookeeper.standalone()
        options = Options(self._server.address, zookeeper.chroot(), 10_000, 10_000)
        self._new = lambda: ZooKeeperStore(options)
        self._sessions: list[Store] = []

    async def session(self) -> Store:
        store = self._new()
        await store.start()
        self._sessions.append(store)
        return store

    async def expire(self, store: Store) -> None:
        await zookeeper.expire(self._server, store)

    async def close(self) -> None:
        for store in self._sessions:
            await store.close()


BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "memory": lambda _: Local(None),
    "file": lambda path: Local(str(path / "store.sqlite")),
    "zookeeper": lambda _: Real(),
}


@pytest.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    made = BACKENDS[request.param](tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def store(backend: Backend) -> Store:
    return await backend.session()


class Heard:
    """Collects watch events; `next()` waits for one, bounded."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[WatchEvent] = asyncio.Queue()

    def __call__(self, event: WatchEvent) -> None:
        self.queue.put_nowait(event)

    async def next(self) -> tuple[EventKind, str]:
        async with asyncio.timeout(10):
            event = await self.queue.get()
        return event.kind, event.path


async def refused(error: type[StoreError], call: Awaitable[object]) -> StoreError:
    with pytest.raises(error) as caught:
        await call
    assert type(caught.value) is error
    return caught.value


# --- single operations ----------------------------------------------------------------------------


async def test_create_get_set_delete(store: Store) -> None:
    path, made = await store.create("/a", b"one")
    assert path == "/a"
    assert made.version == 0
    assert made.czxid == made.mzxid > 0
    assert made.owner == 0
    assert await store.get("/a") == (b"one", made)

    stat = await store.set("/a", b"two")
    assert stat.version == 1
    assert stat.czxid == made.czxid
    assert stat.mzxid > made.mzxid
    assert await store.get("/a") == (b"two", stat)
    assert await store.exists("/a") == stat

    await store.delete("/a")
    assert await store.exists("/a") is None


async def test_no_data_and_empty_data_differ(store: Store) -> None:
    await store.create("/none")
    await store.create("/empty", b"")
    assert (await store.get("/none"))[0] is None
    assert (await store.get("/empty"))[0] == b""


async def test_refusals_of_single_operations(store: Store) -> None:
    await store.create("/a")
    await store.create("/a/b")
    assert (await refused(NodeExists, store.create("/a"))).path == "/a"
    await refused(NoNode, store.create("/x/y"))
    await refused(NoNode, store.get("/x"))
    await refused(NoNode, store.set("/x", b""))
    await refused(NoNode, store.delete("/x"))
    await refused(NoNode, store.children("/x"))
    await refused(NotEmpty, store.delete("/a"))
    assert await store.children("/a") == ["b"]


async def test_versions_are_compared(store: Store) -> None:
    await store.create("/a", b"0")
    await refused(BadVersion, store.set("/a", b"x", 1))
    assert (await store.set("/a", b"1", 0)).version == 1
    await refused(BadVersion, store.delete("/a", 0))
    assert (await store.get("/a"))[0] == b"1"
    await store.delete("/a", 1)
    # A node made again starts anew, with a later creation id.
    _, stat = await store.create("/a")
    assert stat.version == 0


async def test_transaction_ids_grow(store: Store) -> None:
    _, first = await store.create("/a")
    _, second = await store.create("/b")
    await store.delete("/a")
    _, third = await store.create("/a")
    assert first.czxid < second.czxid < third.czxid


async def test_children(store: Store) -> None:
    await store.create("/p")
    assert await store.children("/p") == []
    for name in ("b", "a", "c"):
        await store.create(f"/p/{name}")
    await store.create("/p/a/deep")
    assert sorted(await store.children("/p")) == ["a", "b", "c"]
    await store.delete("/p/b")
    assert sorted(await store.children("/p")) == ["a", "c"]


async def test_sequential_nodes_count_creations_of_the_parent(store: Store) -> None:
    await store.create("/p")
    first, _ = await store.create("/p/n_", b"x", sequential=True)
    await store.create("/p/other")
    third, _ = await store.create("/p/n_", sequential=True)
    assert (first, third) == ("/p/n_0000000000", "/p/n_0000000002")
    await store.delete(first)
    await store.delete(third)
    fourth, _ = await store.create("/p/n_", sequential=True)
    assert fourth == "/p/n_0000000003"


async def test_get_many(store: Store) -> None:
    await store.create("/a", b"1")
    await store.create("/b")
    found = await store.get_many(["/a", "/x", "/b"])
    assert found[0] is not None
    assert found[0][0] == b"1"
    assert found[1] is None
    assert found[2] is not None
    assert found[2][0] is None
    assert await store.get_many([]) == []


async def test_ensure_path(store: Store) -> None:
    await ensure_path(store, "/x/y/z")
    await ensure_path(store, "/x/y")
    assert await store.children("/x/y") == ["z"]
    assert (await store.get("/x"))[0] is None


# --- multi ----------------------------------------------------------------------------------------


async def test_multi_is_one_transaction(store: Store) -> None:
    await store.create("/a", b"0")
    results = await store.multi(
        [
            Check("/a", 0),
            Create("/a/b", b"x"),
            SetData("/a", b"1", 0),
            Create("/a/b/c"),
            Delete("/a/b/c"),
            Create("/a/s_", None, sequential=True),
        ]
    )
    assert results[0] is True
    assert results[1] == "/a/b"
    assert isinstance(results[2], Stat)
    assert results[2].version == 1
    assert results[3:] == ["/a/b/c", True, "/a/s_0000000001"]
    _, a = await store.get("/a")
    _, b = await store.get("/a/b")
    assert a.mzxid == b.czxid


async def test_creation_and_set_in_one_multi_give_the_creation_id(store: Store) -> None:
    results = await store.multi([Create("/e", None, ephemeral=True), SetData("/e", b"x", 0)])
    stat = results[1]
    assert isinstance(stat, Stat)
    assert stat == (await store.get("/e"))[1]
    assert stat.owner == store.session_id


@pytest.mark.parametrize(
    ("ops", "index", "error"),
    [
        ([Check("/a", 7), Create("/n")], 0, BadVersion),
        ([Check("/none", 0)], 0, NoNode),
        ([Create("/n"), Create("/a")], 1, NodeExists),
        ([Create("/n"), SetData("/a", b"9"), SetData("/a", b"9", 0), Create("/m")], 2, BadVersion),
        ([Delete("/a/b"), Delete("/a"), Create("/a/b")], 2, NoNode),
        ([Create("/n"), Delete("/n"), Create("/n"), Delete("/a")], 3, NotEmpty),
        ([Create("/a/s", None, sequential=True), Check("/a", 5)], 1, BadVersion),
        ([Create("/e", None, ephemeral=True), Create("/e/c")], 1, NoChildrenForEphemerals),
    ],
)
async def test_a_refused_multi_changes_nothing(
    store: Store, ops: list[Create], index: int, error: type[StoreError]
) -> None:
    await store.create("/a", b"0")
    await store.create("/a/b", b"b")
    before = await store.get_many(["/a", "/a/b"])
    with pytest.raises(MultiFailed) as caught:
        await store.multi(ops)
    assert caught.value.index == index
    assert type(caught.value.error) is error
    assert await store.get_many(["/a", "/a/b"]) == before
    assert await store.children("/a") == ["b"]
    assert sorted(n for n in await store.children("/") if n != "zookeeper") == ["a"]
    # Neither is a sequence number used up.
    path, _ = await store.create("/a/s", sequential=True)
    assert path == "/a/s0000000001"


# --- sessions and ephemerals ----------------------------------------------------------------------


async def test_ephemerals_go_with_their_session(backend: Backend) -> None:
    one, two = await backend.session(), await backend.session()
    assert one.session_id != two.session_id
    await one.create("/e", b"1", ephemeral=True)
    await one.create("/stays")
    _, stat = await two.get("/e")
    assert stat.owner == one.session_id
    await refused(NoChildrenForEphemerals, two.create("/e/child"))
    heard = Heard()
    await two.exists("/e", heard)
    await one.close()
    assert await heard.next() == (EventKind.DELETED, "/e")
    assert await two.exists("/e") is None
    assert await two.exists("/stays") is not None
    assert not one.connected


async def test_expiry_ends_ephemerals_and_watches(backend: Backend) -> None:
    one, two = await backend.session(), await backend.session()
    events: list[SessionEvent] = []
    one.listen(events.append)
    heard = Heard()
    await one.create("/e", ephemeral=True)
    await one.create("/a")
    await one.get("/a", heard)
    old = one.session_id
    await backend.expire(one)
    # A lost connection may have been heard of before.
    assert [e for e in events if e is not SessionEvent.SUSPENDED] == [
        SessionEvent.EXPIRED,
        SessionEvent.CONNECTED,
    ]
    assert one.session_id != old
    assert await two.exists("/e") is None
    await two.set("/a", b"x")
    # The old watch is gone; one armed in the new session is heard.
    await one.get("/a", heard)
    await two.set("/a", b"y")
    assert await heard.next() == (EventKind.CHANGED, "/a")
    assert heard.queue.empty()


async def test_a_closed_session_does_nothing(backend: Backend) -> None:
    one, two = await backend.session(), await backend.session()
    await one.close()
    await one.close()
    await refused(SessionExpired, one.create("/late"))
    await refused(SessionExpired, one.get("/"))
    assert await two.exists("/late") is None


# --- watches --------------------------------------------------------------------------------------


async def test_a_data_watch_fires_once(backend: Backend) -> None:
    one, two = await backend.session(), await backend.session()
    await one.create("/a")
    heard, exists = Heard(), Heard()
    await one.get("/a", heard)
    await one.exists("/a", exists)
    await two.set("/a", b"1")
    await two.set("/a", b"2")
    assert await heard.next() == (EventKind.CHANGED, "/a")
    assert await exists.next() == (EventKind.CHANGED, "/a")
    await one.get("/a", heard)
    await two.delete("/a")
    assert await heard.next() == (EventKind.DELETED, "/a")
    assert heard.queue.empty()
    assert exists.queue.empty()


async def test_a_watch_armed_twice_on_a_node_fires_once(backend: Backend) -> None:
    one, two = await backend.session(), await backend.session()
    await one.create("/a")
    heard = Heard()
    await one.get("/a", heard)
    await one.exists("/a", heard)
    await one.children("/a", heard)
    await one.children("/a", heard)
    await two.set("/a", b"1")
    await two.create("/a/b")
    await two.create("/later")
    await one.exists("/later")
    assert await heard.next() == (EventKind.CHANGED, "/a")
    assert await heard.next() == (EventKind.CHILDREN, "/a")
    assert heard.queue.empty()


async def test_an_exists_watch_sees_the_creation(backend: Backend) -> None:
    one, two = await backend.session(), await backend.session()
    heard = Heard()
    assert await one.exists("/later", heard) is None
    await two.create("/later")
    assert await heard.next() == (EventKind.CREATED, "/later")


async def test_a_child_watch_sees_children_and_the_end_of_the_parent(backend: Backend) -> None:
    one, two = await backend.session(), await backend.session()
    await one.create("/p")
    heard = Heard()
    await one.children("/p", heard)
    await two.set("/p", b"data is not its business")
    await two.create("/p/a")
    await two.create("/p/b")
    assert await heard.next() == (EventKind.CHILDREN, "/p")
    assert sorted(await one.children("/p", heard)) == ["a", "b"]
    await two.delete("/p/a")
    assert await heard.next() == (EventKind.CHILDREN, "/p")
    await two.delete("/p/b")
    await one.children("/p", heard)
    await two.delete("/p")
    assert await heard.next() == (EventKind.DELETED, "/p")
    assert heard.queue.empty()


async def test_failed_reads_and_refused_writes_leave_no_watch_and_fire_none(store: Store) -> None:
    heard = Heard()
    await refused(NoNode, store.get("/x", heard))
    await refused(NoNode, store.children("/x", heard))
    await store.create("/a")
    await store.get("/a", heard)
    await refused(BadVersion, store.set("/a", b"", 9))
    with pytest.raises(MultiFailed):
        await store.multi([SetData("/a", b"1"), Check("/a", 9)])
    await store.create("/x")
    await store.set("/a", b"2")
    assert await heard.next() == (EventKind.CHANGED, "/a")
    assert heard.queue.empty()


async def test_a_watch_is_heard_before_a_later_reply_shows_more(store: Store) -> None:
    """Own writes fire own watches, and each event is one node's."""
    heard = Heard()
    await ensure_path(store, "/p/q")
    await store.children("/p", heard)
    await store.get("/p/q", heard)
    await store.multi([SetData("/p/q", b"1"), Create("/p/r")])
    assert await heard.next() == (EventKind.CHANGED, "/p/q")
    assert await heard.next() == (EventKind.CHILDREN, "/p")
