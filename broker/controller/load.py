"""Reading the tree into a `State`: at take-over, and when a watch says that something changed.

A node that cannot be read is logged and left out: one broken topic does not stop the others.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from broker.cluster import layout
from broker.cluster.layout import BadContent, TopicNode
from broker.cluster.store import NoNode, SetData, Stat, Store, Watch
from broker.controller.fence import Fence
from broker.controller.state import Broker, Key, State
from protocol.wire import ZERO_UUID

log = logging.getLogger("odradek.controller")


async def brokers(store: Store, ids: Iterable[int]) -> dict[int, Broker]:
    """The registrations that can be read."""
    wanted = sorted(ids)
    nodes = await store.get_many([layout.broker_path(broker_id) for broker_id in wanted])
    found: dict[int, Broker] = {}
    for broker_id, node in zip(wanted, nodes, strict=True):
        if node is None:
            continue
        try:
            registration = layout.decode_registration(broker_id, node[0])
        except BadContent as error:
            log.error("broker %d cannot join: %s", broker_id, error)
            continue
        found[broker_id] = Broker(broker_id, node[1].czxid, registration)
    return found


def broker_ids(names: Iterable[str]) -> set[int]:
    """Children of /brokers/ids as numbers."""
    return {int(name) for name in names if name.isdigit()}


async def topics(
    store: Store,
    fence: Fence,
    state: State,
    names: Sequence[str],
    watch: Watch,
    new_topic_id: Callable[[], bytes],
) -> list[str]:
    """Read these topics into the state, arm their watches; returns those that were read.

    A topic without an id (written before IBP 2.8) gets one, fenced, if there is one to be had.
    Raises ControllerMoved.
    """
    read: list[str] = []
    nodes = await asyncio.gather(*(_get(store, layout.topic_path(name), watch) for name in names))
    for name, found in zip(names, nodes, strict=True):
        if found is None:
            continue
        data, stat = found
        try:
            node = layout.decode_topic(name, data)
        except BadContent as error:
            log.error("topic left out: %s", error)
            continue
        if node.topic_id is None and (topic_id := new_topic_id()) != ZERO_UUID:
            node = TopicNode(topic_id, node.assignments)
            path = layout.topic_path(name)
            await fence.one(SetData(path, layout.encode_topic(node), stat.version))
        state.add_topic(name, node)
        read.append(name)
    await leaderships(
        store, state, [(name, index) for name in read for index in state.topics[name].partitions]
    )
    return read


async def content(store: Store, path: str, watch: Watch) -> bytes | None:
    """Of a node that comes and goes: None when there is none. Watched in any case."""
    while await store.exists(path, watch) is not None:
        try:
            return (await store.get(path))[0] or b""
        except NoNode:
            continue
    return None


async def _get(store: Store, path: str, watch: Watch) -> tuple[bytes | None, Stat] | None:
    try:
        return await store.get(path, watch)
    except NoNode:
        return None


async def leaderships(store: Store, state: State, keys: Sequence[Key]) -> None:
    """Read the state nodes of these partitions; those without one stay as they are."""
    nodes = await store.get_many([layout.state_path(*key) for key in keys])
    for key, node in zip(keys, nodes, strict=True):
        partition = state.partition(key)
        if node is None or partition is None:
            continue
        try:
            partition.state = layout.decode_state(*key, node[0])
            partition.version, partition.written = node[1].version, node[1].mzxid
        except BadContent as error:
            log.error("partition left without a leader: %s", error)
