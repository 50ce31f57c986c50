"""Controllers of several brokers on LocalStore: election, brokers that come and go, trouble."""

import asyncio
from typing import Any

import pytest

from broker.cluster import layout
from broker.cluster.local import LocalStore
from broker.cluster.store import Create, Delete, SetData, StoreFailed
from broker.controller import decide
from broker.controller.fence import ControllerMoved
from broker.controller.reign import Reign
from broker.controller.run import NotController
from broker.controller.topics import (
    TopicWish,
)
from tests.broker.controller_kit import (
    ONE,
    cluster,
    create,
    made,
    settled,
    state,
    stop,
    tree,
    until,
)
from tests.kit.nodes import MetadataNode

# --- several brokers ------------------------------------------------------------------------------


async def test_one_of_three_is_the_controller_and_tells_the_others() -> None:
    nodes = await cluster(3)
    assert [node.controller.active for node in nodes] == [True, False, False]
    assert [node.controller.controller_id for node in nodes] == [0, 0, 0]
    with pytest.raises(NotController):
        await nodes[1].controller.create_topics([TopicWish("t")], ONE)
    await made(nodes[0], "t", (0, 1, 2), (1, 2, 0))
    for node in nodes:
        view = node.metadata.view
        assert view.brokers.keys() == {0, 1, 2}
        assert [p.leader for p in view.topics["t"].partitions] == [0, 1]
        assert node.replicas.leaders == {("t", 0): 0, ("t", 1): 1}
    await stop(*reversed(nodes))


async def test_a_dead_follower_and_a_dead_leader() -> None:
    nodes = await cluster(3)
    await made(nodes[0], "t", (1, 0), (0, 1))
    await made(nodes[0], "solo", (1,))
    await nodes[1].crash()
    await settled(nodes[0], nodes[2])
    keys = [("t", 0), ("t", 1), ("solo", 0)]
    seen = [(await state(nodes[0], *key))[0] for key in keys]
    assert [(s.leader, s.leader_epoch, s.isr) for s in seen] == [
        (0, 1, (0,)),
        (0, 1, (0,)),
        (-1, 1, (1,)),
    ]
    for node in (nodes[0], nodes[2]):
        view = node.metadata.view
        assert view.brokers.keys() == {0, 2}
        partitions = [*view.topics["t"].partitions, *view.topics["solo"].partitions]
        assert [p.leader for p in partitions] == [0, 0, -1]
        assert [p.offline_replicas for p in partitions] == [(1,), (1,), (1,)]
    # It comes back: a leader again where nobody else was, a follower elsewhere.
    back = MetadataNode(nodes[0].store.session(), 1, peers=nodes[0].peers)
    await back.start()
    await settled(nodes[0], nodes[2])
    assert (await state(nodes[0], "solo"))[0][:3] == (1, 2, (1,))
    assert back.replicas.leaders == {("t", 0): 0, ("t", 1): 0, ("solo", 0): 1}
    assert back.metadata.view.topics["solo"].partitions[0].leader == 1
    await stop(back, nodes[2], nodes[0])


async def test_a_new_controller_takes_over_when_the_old_one_dies() -> None:
    nodes = await cluster(3)
    await made(nodes[0], "t", (0, 1, 2))
    await nodes[0].crash()
    await settled(nodes[1], nodes[2])
    assert sorted([nodes[1].controller.active, nodes[2].controller.active]) == [False, True]
    new = nodes[1] if nodes[1].controller.active else nodes[2]
    assert new.controller.epoch == 2
    leadership, _ = await state(new, "t")
    assert leadership == layout.Leadership(1, 2, (1, 2), 2)
    for node in nodes[1:]:
        assert node.metadata.view.controller_id == new.broker_id
        assert node.replicas.leaders[("t", 0)] == 1
    await made(new, "u", (1, 2))
    await stop(*nodes[1:])


async def test_a_leader_that_is_back_before_the_new_controller_looks_leads_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits for its old registration to go, and the election begins at the same moment."""
    nodes = await cluster(2)
    await made(nodes[0], "t", (0, 1))
    await made(nodes[0], "solo", (0,))
    back = MetadataNode(nodes[0].store.session(), 0, peers=nodes[0].peers)
    begin = Reign.begin

    async def late(reign: Reign) -> None:
        await back.start()
        await begin(reign)

    monkeypatch.setattr(Reign, "begin", late)
    await nodes[0].crash()
    await settled(nodes[1], back)
    assert nodes[1].controller.active
    assert (await state(nodes[1], "t"))[0] == layout.Leadership(1, 2, (1,), 2)
    assert (await state(nodes[1], "solo"))[0] == layout.Leadership(0, 0, (0,), 1)
    assert back.replicas.leaders == {("t", 0): 1, ("solo", 0): 0}
    await stop(back, nodes[1])


async def test_a_resigning_controller_hands_over_at_once() -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (0, 1))
    await nodes[0].controller.stop()
    await settled(nodes[1])
    assert nodes[1].controller.active
    assert nodes[1].controller.epoch == 2
    # The successor never counted on it.
    assert await nodes[1].store.children(layout.BROKER_IDS) == ["1"]
    assert (await state(nodes[1], "t"))[0] == layout.Leadership(1, 2, (1,), 2)
    await nodes[0].stop()
    await stop(nodes[1])


async def test_deletion_waits_for_a_broker_that_is_away() -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (0, 1))
    await made(nodes[0], "other", (0,))
    await nodes[1].crash()
    await settled(nodes[0])
    assert await nodes[0].controller.delete_topics(["t", "other"]) == [None, None]
    await nodes[0].controller.deleted("t")
    await nodes[0].controller.deleted("other")
    assert nodes[0].metadata.view.topics == {}
    assert await nodes[0].store.children(layout.TOPICS) == ["t"]
    back = MetadataNode(nodes[0].store.session(), 1, peers=nodes[0].peers)
    await back.start()
    await settled(nodes[0])
    await settled(nodes[0])
    assert back.replicas.stopped == [("t", 0)]
    assert await nodes[0].store.children(layout.TOPICS) == []
    assert await nodes[0].store.children(layout.DELETE_TOPICS) == []
    await stop(back, nodes[0])


async def test_an_expired_controller_stops_at_once_and_comes_back_as_a_broker() -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (0, 1))
    old_epoch = nodes[0].membership.epoch
    fence = nodes[0].controller._reign
    assert fence is not None
    await nodes[0].store.expire()
    # Before any other turn of the loop: the old reign can write nothing.
    with pytest.raises(ControllerMoved):
        await fence.fence.one(SetData(layout.CONTROLLER_EPOCH, b"9"))
    await settled(*nodes)
    await settled(*nodes)
    assert nodes[0].membership.epoch > old_epoch
    assert [n.controller.active for n in nodes].count(True) == 1
    for node in nodes:
        assert node.metadata.view.brokers.keys() == {0, 1}
    # Death and return: the ISR was cut, then the broker follows again.
    leadership, _ = await state(nodes[0], "t")
    assert leadership.leader == 1
    assert leadership.leader_epoch >= 1
    await stop(*nodes)


async def test_a_frozen_controller_cannot_write_after_another_has_won() -> None:
    """Each kind of fenced write, tried by the old reign: the tree stays as it is."""
    nodes = await cluster(2)
    await made(nodes[0], "t", (1,))
    old = nodes[0].controller._reign
    assert old is not None
    # The old one does not notice: its node is taken from under it.
    await nodes[1].store.multi(
        [Delete(layout.CONTROLLER), SetData(layout.CONTROLLER_EPOCH, b"2", 1)]
    )
    before = await tree(nodes[1].store)
    with pytest.raises(ControllerMoved):
        await old.carry_out(
            decide.Plan({("t", 0): layout.Leadership(0, 5, (0,), 1)}, decide.Notices())
        )
    with pytest.raises(ControllerMoved):
        await old.fence.write([[Create("/brokers/topics/new", b"{}")]])
    with pytest.raises(ControllerMoved):
        await old.fence.one(Delete(layout.topic_path("t")))
    assert await tree(nodes[1].store) == before
    await settled(*nodes)
    await stop(*reversed(nodes))


# --- trouble --------------------------------------------------------------------------------------


class Ailing(LocalStore):
    """A store whose writes fail while `broken`."""

    broken = False

    async def multi(self, ops: Any) -> Any:
        if self.broken:
            raise StoreFailed(ops[0].path, "the disk is full")
        return await super().multi(ops)


async def test_a_store_that_cannot_write_fails_the_call_and_nothing_else() -> None:
    store = Ailing()
    node = MetadataNode(store)
    await node.start()
    store.broken = True
    with pytest.raises(StoreFailed):
        await create(node, TopicWish("t", 1, 1))
    assert node.controller.active
    assert node.metadata.view.topics == {}
    store.broken = False
    await made(node, "t", (0,))
    await node.stop()


async def test_calls_in_the_queue_of_a_stopped_controller_are_answered() -> None:
    node = MetadataNode(LocalStore())
    await node.start()
    call = asyncio.ensure_future(node.controller.create_topics([TopicWish("t")], ONE))
    stopping = asyncio.ensure_future(node.controller.stop())
    await asyncio.wait([call, stopping])
    assert isinstance(call.exception(), NotController) or call.result()
    with pytest.raises(NotController):
        await node.controller.delete_topics(["t"])
    await node.configs.close()
    await node.store.close()


async def test_an_unforeseen_error_ends_the_reign_and_it_begins_anew(
    node: MetadataNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(node, "t", (0,))
    reign = node.controller._reign
    assert reign is not None

    async def explode() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("broker.controller.run.RETRY_S", 0.0)
    reign._put(None, explode)
    while node.controller._reign is reign or not node.controller.active:
        await asyncio.sleep(0)
    assert node.controller.epoch == 1  # the same office: nobody else was elected
    await settled(node)
    await made(node, "u", (0,))
    assert node.metadata.view.topics.keys() == {"t", "u"}


async def test_a_change_seen_by_a_new_reign_is_not_lost_in_the_old_ones_queue(
    node: MetadataNode,
) -> None:
    """An event of a reign that has ended still waits when the next reign wants the same one."""
    reign = node.controller._reign
    assert reign is not None
    reign._on_topics(None)  # type: ignore[arg-type]
    await node.controller._resign()
    await node.controller._reign_with(2, 1, 0)  # as if elected again in between
    node.controller._reign.fence.version = 1  # type: ignore[union-attr]
    await node.store.create("/config/topics/x", b"")
    await node.store.create("/brokers/topics/x", b'{"version":1,"partitions":{"0":[0]}}')
    await until(node, lambda view: "x" in view.topics)


async def test_a_stopping_controller_does_not_stand_for_election_again() -> None:
    node = MetadataNode(LocalStore())
    await node.start()
    await node.store.delete(layout.CONTROLLER)
    await asyncio.sleep(0)  # the watch has queued an election
    await node.controller.stop()
    assert not node.controller.active
    assert await node.store.exists(layout.CONTROLLER) is None
    await node.configs.close()
    await node.store.close()
