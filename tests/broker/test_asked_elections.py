"""/admin/preferred_replica_election: what old tools write there, and what the controller makes of
it."""

import json

import pytest

from broker.cluster import layout
from broker.controller.elect import Wish
from tests.broker.controller_kit import cluster, made, settled, state, stop, tree
from tests.kit.nodes import MetadataNode


def asks_for(*keys: tuple[str, int]) -> bytes:
    partitions = [{"topic": topic, "partition": index} for topic, index in keys]
    return json.dumps({"version": 1, "partitions": partitions}).encode()


async def leader_of(node: MetadataNode, index: int) -> int:
    leader: int = (await state(node, "t", index))[0].leader
    return leader


async def asked(node: MetadataNode) -> bool:
    return layout.PREFERRED_ELECTION in await tree(node.store, "/admin")


async def strayed() -> list[MetadataNode]:
    """Broker 1 should lead partitions 0 and 1, and is in sync with both; broker 0 leads them."""
    nodes = await cluster(2)
    await made(nodes[0], "t", (1, 0), (1, 0))
    await nodes[1].crash()
    await settled(nodes[0])
    nodes[1] = MetadataNode(nodes[0].store.session(), 1, peers=nodes[0].peers)
    await nodes[1].start()
    await settled(nodes[0])
    for index in (0, 1):
        now, version = await state(nodes[0], "t", index)
        wish = Wish(("t", index), now.leader_epoch, (0, 1), version)
        await nodes[0].controller.alter_isr(0, nodes[0].membership.epoch, [wish])
        assert await leader_of(nodes[0], index) == 0
    return nodes


async def test_preferred_leaders_are_elected_and_the_node_goes_again_and_again() -> None:
    nodes = await strayed()
    for index in (0, 1):
        keys = ("t", index), ("t", 9), ("nowhere", 0)
        await nodes[1].store.create(layout.PREFERRED_ELECTION, asks_for(*keys))
        await settled(nodes[0])
        assert [await leader_of(nodes[0], i) for i in (0, 1)] == [1, index]
        assert not await asked(nodes[0])
    await stop(*reversed(nodes))


async def test_it_is_given_up_while_the_preferred_broker_is_away() -> None:
    nodes = await strayed()
    await nodes[1].crash()
    await settled(nodes[0])
    await nodes[0].store.create(layout.PREFERRED_ELECTION, asks_for(("t", 0)))
    await settled(nodes[0])
    assert not await asked(nodes[0])
    assert await leader_of(nodes[0], 0) == 0
    await stop(nodes[0])


@pytest.mark.parametrize("data", [b"", b"{", b'{"version":1}', b"[]"])
async def test_nonsense_is_taken_away(data: bytes) -> None:
    nodes = await cluster(1)
    await nodes[0].store.create(layout.PREFERRED_ELECTION, data)
    await settled(nodes[0])
    assert not await asked(nodes[0])
    await stop(*nodes)


async def test_what_was_asked_while_nobody_reigned_is_found() -> None:
    nodes = await cluster(2)
    await nodes[1].controller.stop()
    await nodes[0].crash()
    await nodes[1].store.create(layout.PREFERRED_ELECTION, asks_for(("t", 0)))
    await nodes[1].controller.start()
    assert nodes[1].controller.active
    assert not await asked(nodes[1])
    await stop(nodes[1])
