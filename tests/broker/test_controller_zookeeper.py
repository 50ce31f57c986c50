"""Controllers on sessions with a real ZooKeeper: expiries, lost replies, a server that goes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from broker.cluster import layout
from broker.cluster.store import ConnectionLoss, Op, SessionEvent
from broker.cluster.zookeeper import ZooKeeperStore
from broker.cluster.zookeeper_options import Options
from broker.controller.run import NotController
from broker.controller.topics import Created, Defaults, TopicWish
from tests.kit import zookeeper
from tests.kit.nodes import MetadataNode
from tests.kit.zookeeper import ZooKeeper

DEFAULTS = Defaults(1, 1)


class Cluster:
    """Brokers without data on one path of a server."""

    def __init__(self, server: ZooKeeper, session_ms: int = 20_000) -> None:
        self.server = server
        self._options = Options(server.address, zookeeper.chroot(), session_ms, 20_000)
        self.nodes: dict[int, MetadataNode] = {}

    def node(self, broker_id: int) -> MetadataNode:
        """Not started yet."""
        store: Any = ZooKeeperStore(self._options)
        return MetadataNode(store, broker_id, peers=self.nodes)

    async def start(self, *ids: int) -> list[MetadataNode]:
        nodes = [self.node(broker_id) for broker_id in ids]
        for node in nodes:
            await node.start()
        return nodes

    async def stop(self) -> None:
        for node in list(self.nodes.values()):
            await node.stop()

    async def expire(self, node: MetadataNode) -> None:
        await zookeeper.expire(self.server, node.store)

    @property
    def controllers(self) -> list[int]:
        return [n.broker_id for n in self.nodes.values() if n.controller.active]


async def until(what: str, holds: Callable[[], object]) -> None:
    for _ in range(4000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(what)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    made = Cluster(zookeeper.standalone())
    yield made
    await made.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ZooKeeper]:
    """A server that the test may kill."""
    server = ZooKeeper(tmp_path)
    server.start()
    yield server
    server.kill()


async def create(node: MetadataNode, *names: str) -> None:
    answers = await node.controller.create_topics([TopicWish(n, 2) for n in names], DEFAULTS)
    assert all(isinstance(answer, Created) for answer in answers), answers


async def test_one_of_three_is_elected_and_when_it_dies_another(cluster: Cluster) -> None:
    one, two, three = await cluster.start(1, 2, 3)
    assert cluster.controllers == [1]
    await create(one, "a")
    await until("all know", lambda: all("a" in n.metadata.view.topics for n in (one, two, three)))
    await one.stop()
    del cluster.nodes[1]
    await until("another is elected", lambda: cluster.controllers)
    (winner,) = (n for n in (two, three) if n.controller.active)
    assert winner.controller.epoch == 2
    await create(winner, "b")
    for node in (two, three):
        await until("all know", lambda node=node: "b" in node.metadata.view.topics)
        assert set(node.metadata.view.brokers) == {2, 3}
        assert node.controller.controller_id in (-1, winner.broker_id)


async def test_an_expired_controller_is_a_broker_anew(cluster: Cluster) -> None:
    one, two = await cluster.start(1, 2)
    await create(one, "a")
    epoch = one.membership.epoch
    for number in (2, 3, 4):
        (old,) = (n for n in (one, two) if n.controller.active)
        await cluster.expire(old)
        await until("one is elected", lambda: len(cluster.controllers) == 1)
        await until(
            "both are registered",
            lambda: (
                all(n.membership.registered for n in (one, two))
                and all(
                    set(n.metadata.view.brokers) == {1, 2} and n.controller.controller_id != -1
                    for n in (one, two)
                )
            ),
        )
        (new,) = (n for n in (one, two) if n.controller.active)
        assert new.controller.epoch == number
        await create(new, f"t{number}")
    assert one.membership.epoch > epoch
    for node in (one, two):
        path = layout.broker_path(node.broker_id)
        stat = await node.store.exists(path)
        assert stat is not None
        assert (stat.owner, stat.czxid) == (node.store.session_id, node.membership.epoch)
    assert (await one.store.get(layout.CONTROLLER_EPOCH))[0] == b"4"


async def test_a_single_broker_whose_session_ends_again_and_again(cluster: Cluster) -> None:
    (node,) = await cluster.start(1)
    for number in range(5):
        try:
            await create(node, f"t{number}")
        except NotController:
            pass
        await cluster.expire(node)
    await until("it is elected", lambda: node.controller.active and node.membership.registered)
    await until("it may", lambda: node.controller.epoch >= 2)
    await create(node, "last")
    state, _ = await node.store.get(layout.state_path("last", 0))
    decoded = layout.decode_state("last", 0, state)
    assert decoded.controller_epoch == node.controller.epoch


class Losing:
    """Makes a store lose replies of multis: of each first one, after or before it was done."""

    def __init__(self, store: Any, *, done: bool) -> None:
        self._multi = store.multi
        self._done = done
        self._seen: set[str] = set()
        self.lost: list[str] = []
        store.multi = self

    async def __call__(self, ops: Sequence[Op]) -> Any:
        path = ops[0].path
        if path in self._seen:
            return await self._multi(ops)
        self._seen.add(path)
        self.lost.append(path)
        if self._done:
            await self._multi(ops)
        raise ConnectionLoss(path)


@pytest.mark.parametrize("done", [False, True])
async def test_lost_replies_of_registration_and_election(cluster: Cluster, done: bool) -> None:
    node = cluster.node(1)
    losing = Losing(node.store, done=done)
    await node.start()
    assert losing.lost[:3] == [layout.CLUSTER_ID, layout.broker_path(1), layout.CONTROLLER]
    await until("it is elected", lambda: node.controller.active)
    stat = await node.store.exists(layout.broker_path(1))
    assert stat is not None
    assert (stat.version, stat.czxid) == (1, node.membership.epoch)
    assert node.controller.epoch == 1
    assert (await node.store.get(layout.CONTROLLER_EPOCH))[0] == b"1"
    await create(node, "t")


async def test_a_server_that_goes_away_and_comes_back(server: ZooKeeper) -> None:
    cluster = Cluster(server, session_ms=60_000)
    try:
        one, two = await cluster.start(1, 2)
        await create(one, "before")
        registered = [await n.store.get(layout.broker_path(n.broker_id)) for n in (one, two)]
        events: list[SessionEvent] = []
        two.store.listen(events.append)
        server.kill()
        await until("it is noticed", lambda: not one.store.connected and not two.store.connected)
        # The controller goes on when the server is back; who asks meanwhile waits.
        asked = asyncio.create_task(create(one, "meanwhile"))
        await asyncio.to_thread(server.start)
        async with asyncio.timeout(30):
            await asked
        await create(one, "after")
        assert cluster.controllers == [1]
        assert one.controller.epoch == 1
        assert registered == [
            await n.store.get(layout.broker_path(n.broker_id)) for n in (one, two)
        ]
        names = {"before", "meanwhile", "after"}
        await until("both know", lambda: set(two.metadata.view.topics) == names)
        assert set(await two.store.children(layout.TOPICS)) == names
        for name in names:
            assert await two.store.exists(layout.state_path(name, 1)) is not None
        # Watches are armed anew: a broker that comes is seen.
        (three,) = await cluster.start(3)
        await until("it is known", lambda: set(two.metadata.view.brokers) == {1, 2, 3})
        assert events == [SessionEvent.SUSPENDED, SessionEvent.RECONNECTED]
        assert three.controller.controller_id == 1
    finally:
        await cluster.stop()
        server.kill()


async def test_a_controller_cut_off_from_zookeeper_is_replaced_and_harms_nobody(
    cluster: Cluster,
) -> None:
    cut = Cluster(cluster.server, session_ms=1500)
    cut._options = cluster._options._replace(session_ms=1500)
    cut.nodes = cluster.nodes
    (one,) = await cut.start(1)
    (two,) = await cluster.start(2)
    await create(one, "a")
    store: Any = one.store

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("unreachable")

    link = store._client._connection._socket
    store._handler.create_connection = unreachable
    link.shutdown(2)
    await until("another is elected", lambda: two.controller.active)
    # It does not know yet; what it is asked for is not done, now or later.
    assert one.controller.active
    asked = asyncio.create_task(create(one, "stale"))
    await create(two, "b")
    del store._handler.create_connection
    with pytest.raises(NotController):
        await asked
    await until("it is a broker again", lambda: one.membership.registered)
    await until("it has resigned", lambda: cluster.controllers == [2])
    await until("all are known", lambda: set(one.metadata.view.brokers) == {1, 2})
    assert set(await two.store.children(layout.TOPICS)) == {"a", "b"}
    await until("it hears of all", lambda: set(one.metadata.view.topics) == {"a", "b"})
