"""What tests of the controller ask of it and of its store."""

import asyncio
from typing import Any

from broker.cluster import layout
from broker.cluster.local import LocalStore
from broker.controller.topics import (
    Created,
    Defaults,
    TopicWish,
)
from tests.kit.nodes import MetadataNode

ONE = Defaults(1, 1)


async def create(node: MetadataNode, *wishes: TopicWish, **options: Any) -> list[Any]:
    answers = await node.controller.create_topics(wishes, ONE, **options)
    await node.controller.drained()
    return answers


async def made(node: MetadataNode, name: str, *replicas: tuple[int, ...]) -> None:
    (answer,) = await create(node, TopicWish(name, assignments=list(enumerate(replicas))))
    assert isinstance(answer, Created), answer


async def state(node: MetadataNode, topic: str, partition: int = 0) -> tuple[Any, int]:
    """(leadership, partition epoch) as the store has it."""
    data, stat = await node.store.get(layout.state_path(topic, partition))
    return layout.decode_state(topic, partition, data), stat.version


async def until(node: MetadataNode, done: Any) -> None:
    assert await node.metadata.wait_until(done, 10)


async def settled(*nodes: MetadataNode) -> None:
    """Let watches, events and requests run until nothing is left to do."""
    for _ in range(50):
        await asyncio.sleep(0)
    for n in nodes:
        await n.controller.drained()
    for _ in range(10):
        await asyncio.sleep(0)


async def tree(store: LocalStore, path: str = "/") -> dict[str, bytes | None]:
    found: dict[str, bytes | None] = {}
    for name in sorted(await store.children(path)):
        child = f"{path.rstrip('/')}/{name}"
        found[child] = (await store.get(child))[0]
        found |= await tree(store, child)
    return found


async def cluster(count: int) -> list[MetadataNode]:
    store = LocalStore()
    peers: dict[int, MetadataNode] = {}
    nodes = [MetadataNode(store.session(), i, peers=peers) for i in range(count)]
    for node in nodes:
        await node.start()
    await settled(*nodes)
    return nodes


async def stop(*nodes: MetadataNode) -> None:
    for node in nodes:
        await node.stop()
