"""Reassignments carried out by the controller: what is written, what brokers are told, resumption.

The courses of one move, of one called off and of one asked for by the old znode are those recorded
of Apache Kafka 3.9.2: the same leader epochs and partition epochs in the same steps.
"""

import asyncio
from typing import Any

import pytest

from broker.cluster import layout
from broker.cluster.layout import Assignment, Leadership
from broker.cluster.store import Create, Delete, NoNode, SetData, StoreFailed
from broker.controller import run
from broker.controller.elect import Wish
from broker.controller.reassign import BY_REQUEST, Target
from broker.controller.run import NotController
from broker.controller.topics import Refusal
from protocol.errors import ErrorCode
from protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from protocol.messages.leader_and_isr import LeaderAndIsrRequest
from protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)
from protocol.messages.stop_replica import StopReplicaRequest
from tests.broker.controller_kit import cluster, made, settled, state, stop, tree
from tests.broker.test_control_recorded import answer as answer_of
from tests.kit.nodes import MetadataNode, handler_node

KEY = ("t", 0)


async def move(
    node: MetadataNode, *targets: tuple[int, ...] | None, topic: str = "t"
) -> list[Refusal | None]:
    """Partitions 0, 1, ... to these replicas."""
    wanted = [Target((topic, index), replicas) for index, replicas in enumerate(targets)]
    answers = await node.controller.alter_reassignments(wanted, BY_REQUEST)
    await settled(node)
    return list(answers.values())


async def assignment(node: MetadataNode, topic: str = "t", index: int = 0) -> Assignment:
    data, _ = await node.store.get(layout.topic_path(topic))
    return layout.decode_topic(topic, data).assignments[index]


async def in_sync(nodes: list[MetadataNode], *isr: int, topic: str = "t") -> None:
    """The leader says that these are in sync."""
    now, version = await state(nodes[0], topic)
    epoch = nodes[now.leader].membership.epoch
    wish = Wish((topic, 0), now.leader_epoch, isr, version)
    (answer,) = await active(nodes).controller.alter_isr(now.leader, epoch, [wish])
    assert not isinstance(answer, ErrorCode), answer
    await settled(active(nodes))


def active(nodes: list[MetadataNode]) -> MetadataNode:
    """The controller. Raises NotController while there is none."""
    for node in nodes:
        if node.controller.active:
            return node
    raise NotController


def heard(node: MetadataNode) -> list[tuple[Any, ...]]:
    """What a broker was told of t-0 since the last look: (leader, leader epoch, partition epoch,
    replicas, adding, removing, new), or (whether deleted, leader epoch)."""
    told: list[tuple[Any, ...]] = []
    for request in node.received:
        if isinstance(request, LeaderAndIsrRequest):
            for topic in request.topic_states:
                told += [
                    (
                        p.leader,
                        p.leader_epoch,
                        p.partition_epoch,
                        tuple(p.replicas),
                        tuple(p.adding_replicas),
                        tuple(p.removing_replicas),
                        p.is_new,
                    )
                    for p in topic.partition_states
                ]
        elif isinstance(request, StopReplicaRequest):
            for stopped in request.topic_states:
                told += [(p.delete_partition, p.leader_epoch) for p in stopped.partition_states]
    node.received.clear()
    return told


async def test_a_move_takes_the_steps_of_apache_kafka() -> None:
    nodes = await cluster(3)
    await made(nodes[0], "t", (0, 1))
    for node in nodes:
        heard(node)
    assert await move(nodes[0], (2, 1)) == [None]
    assert await assignment(nodes[0]) == Assignment((2, 1, 0), (2,), (0,))
    assert await state(nodes[0], "t") == (Leadership(0, 1, (0, 1), 1), 1)
    for node in nodes:
        told = (0, 1, 1, (2, 1, 0), (2,), (0,), node.broker_id == 2)
        assert heard(node) == [told]
        assert node.metadata.view.topics["t"].partitions[0].replicas == (2, 1, 0)
    assert await nodes[0].controller.reassignments(None) == {KEY: Assignment((2, 1, 0), (2,), (0,))}

    await in_sync(nodes, 0, 1, 2)
    assert await assignment(nodes[0]) == Assignment((2, 1))
    assert await state(nodes[0], "t") == (Leadership(2, 3, (1, 2), 1), 4)
    led = [(2, 2, 3, (2, 1), (), (), False), (2, 3, 4, (2, 1), (), (), False)]
    assert heard(nodes[1]) == heard(nodes[2]) == led
    assert heard(nodes[0]) == [(True, 3)]
    for node in nodes:
        info = node.metadata.view.topics["t"].partitions[0]
        assert (info.leader, info.replicas, info.isr) == (2, (2, 1), (1, 2))
    assert await nodes[0].controller.reassignments(None) == {}
    await stop(*reversed(nodes))


async def test_a_move_is_called_off() -> None:
    nodes = await cluster(3)
    await made(nodes[0], "t", (2, 1))
    assert await move(nodes[0], (0, 1)) == [None]
    for node in nodes:
        heard(node)
    assert await move(nodes[0], None) == [None]
    assert await assignment(nodes[0]) == Assignment((1, 2))
    assert await state(nodes[0], "t") == (Leadership(2, 2, (2, 1), 1), 2)
    assert heard(nodes[0]) == [(True, 1)]
    assert heard(nodes[1]) == heard(nodes[2]) == [(2, 2, 2, (1, 2), (), (), False)]
    (refusal,) = await move(nodes[0], None)
    assert refusal is not None and refusal.code == ErrorCode.NO_REASSIGNMENT_IN_PROGRESS
    await stop(*reversed(nodes))


async def test_a_move_is_called_off_when_a_new_replica_leads() -> None:
    nodes = await cluster(3)
    await made(nodes[0], "t", (0,))
    await move(nodes[0], (1, 2))
    await in_sync(nodes, 0, 1)
    assert (await assignment(nodes[0])).adding == (1, 2)
    elected = layout.encode_state(Leadership(1, 2, (0, 1), 1))
    await nodes[0].store.set(layout.state_path("t", 0), elected)
    assert await move(nodes[0], None) == [None]
    assert await assignment(nodes[0]) == Assignment((0,))
    now, _ = await state(nodes[0], "t")
    assert (now.leader, now.isr) == (0, (0,))
    await stop(*reversed(nodes))


async def test_another_move_takes_the_place_of_one_under_way() -> None:
    nodes = await cluster(4)
    await made(nodes[0], "t", (0, 1))
    await move(nodes[0], (2, 1))
    for node in nodes:
        heard(node)
    assert await move(nodes[0], (3, 1)) == [None]
    assert await assignment(nodes[0]) == Assignment((3, 1, 0), (3,), (0,))
    assert heard(nodes[2]) == [(True, 1)]
    assert heard(nodes[3]) == [(0, 2, 2, (3, 1, 0), (3,), (0,), True)]
    await in_sync(nodes, 0, 1, 3)
    assert await assignment(nodes[0]) == Assignment((3, 1))
    await stop(*reversed(nodes))


async def test_only_the_order_changes() -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (0, 1))
    assert await move(nodes[0], (1, 0)) == [None]
    assert await assignment(nodes[0]) == Assignment((1, 0))
    assert await state(nodes[0], "t") == (Leadership(0, 1, (0, 1), 1), 1)
    await stop(*reversed(nodes))


async def test_a_new_controller_goes_on_with_a_move() -> None:
    nodes = await cluster(3)
    await made(nodes[0], "t", (2, 1))
    await move(nodes[0], (0, 1))
    await nodes[0].crash()
    await settled(nodes[1], nodes[2])
    again = MetadataNode(nodes[1].store.session(), 0, peers=nodes[1].peers)
    await again.start()
    await settled(nodes[1], nodes[2])
    nodes[0] = again
    assert await active(nodes).controller.reassignments([KEY]) == {
        KEY: Assignment((0, 1, 2), (0,), (2,))
    }
    assert any(told[-1] is True and told[4] == (0,) for told in heard(again))
    await in_sync(nodes, 2, 1, 0)
    assert await assignment(nodes[1]) == Assignment((0, 1))
    now, _ = await state(nodes[1], "t")
    assert (now.leader, now.isr) == (0, (1, 0))
    await stop(*reversed(nodes))


async def test_what_was_in_sync_before_the_failover_ends_with_it() -> None:
    """The old controller died between the leader's news and the end of the move."""
    nodes = await cluster(3)
    await made(nodes[0], "t", (1,))
    data, _ = await nodes[0].store.get(layout.topic_path("t"))
    node = layout.decode_topic("t", data)
    halfway = node._replace(assignments={0: Assignment((2, 1), (2,), (1,))})
    await nodes[0].crash()
    await nodes[1].store.set(layout.topic_path("t"), layout.encode_topic(halfway))
    both = layout.encode_state(Leadership(1, 1, (1, 2), 1))
    await nodes[1].store.set(layout.state_path("t", 0), both)
    await nodes[1].controller.stop()
    await settled(nodes[2])
    assert nodes[2].controller.active
    assert await assignment(nodes[2]) == Assignment((2,))
    assert (await state(nodes[2], "t"))[0].isr == (2,)
    await stop(*reversed(nodes[1:]))


async def test_brokers_die_during_a_move() -> None:
    nodes = await cluster(4)
    await made(nodes[0], "t", (0, 1))
    await move(nodes[0], (3, 2))
    # A new replica dies: the move waits for it.
    await nodes[3].crash()
    await settled(nodes[0])
    assert await assignment(nodes[0]) == Assignment((3, 2, 0, 1), (3, 2), (0, 1))
    await in_sync(nodes[:3], 0, 1, 2)
    assert (await assignment(nodes[0])).removing == (0, 1)
    # An old one dies, and does not hold it up.
    await nodes[1].crash()
    await settled(nodes[0])
    nodes[3] = MetadataNode(nodes[0].store.session(), 3, peers=nodes[0].peers)
    await nodes[3].start()
    await settled(nodes[0])
    assert any(told[-1] is True for told in heard(nodes[3]))
    await in_sync([nodes[0], nodes[2], nodes[3]], 0, 2, 3)
    assert await assignment(nodes[0]) == Assignment((3, 2))
    now, _ = await state(nodes[0], "t")
    assert (now.leader, set(now.isr)) == (3, {2, 3})
    await stop(nodes[3], nodes[2], nodes[0])


async def test_a_topic_is_deleted_during_a_move() -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (0,))
    await move(nodes[0], (1,))
    assert await nodes[0].controller.delete_topics(["t"]) == [None]
    await settled(nodes[0])
    await nodes[0].controller.deleted("t")
    assert await nodes[0].store.children(layout.TOPICS) == []
    assert nodes[0].replicas.stopped == nodes[1].replicas.stopped == [KEY]
    assert await nodes[0].controller.reassignments(None) == {}
    await stop(*reversed(nodes))


# --- the old znode --------------------------------------------------------------------------------


async def test_moves_asked_for_by_the_old_znode() -> None:
    nodes = await cluster(3)
    await made(nodes[0], "t", (0, 2), (1, 0))
    store = nodes[1].store
    # As recorded: a replica less, which ends at once.
    asked = b'{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[0]}]}'
    await store.create(layout.REASSIGN_PARTITIONS, asked)
    await settled(nodes[0])
    assert await assignment(nodes[0]) == Assignment((0,))
    assert await state(nodes[0], "t") == (Leadership(0, 2, (0,), 1), 2)
    with pytest.raises(NoNode):
        await store.get(layout.REASSIGN_PARTITIONS)
    # And again, of which one entry waits, one cannot be, and one is replaced by a request.
    await store.create(
        layout.REASSIGN_PARTITIONS,
        layout.encode_reassignments({KEY: (1,), ("t", 1): (2,), ("t", 7): (1,), ("u", 0): ()}),
    )
    await settled(nodes[0])
    assert set(await nodes[0].controller.reassignments(None)) == {KEY, ("t", 1)}
    data, _ = await store.get(layout.REASSIGN_PARTITIONS)
    assert layout.decode_reassignments(data) == {KEY: (1,), ("t", 1): (2,)}
    wanted = [Target(("t", 1), (0, 1))]
    assert await nodes[0].controller.alter_reassignments(wanted, BY_REQUEST) == {("t", 1): None}
    data, _ = await store.get(layout.REASSIGN_PARTITIONS)
    assert layout.decode_reassignments(data) == {KEY: (1,)}
    await in_sync(nodes, 0, 1)
    assert await assignment(nodes[0]) == Assignment((1,))
    with pytest.raises(NoNode):
        await store.get(layout.REASSIGN_PARTITIONS)
    await stop(*reversed(nodes))


async def test_the_old_znode_is_read_by_a_new_controller() -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (1,))
    await nodes[0].crash()
    await nodes[1].controller.stop()
    asked = layout.encode_reassignments({KEY: (1, 0)})
    await nodes[1].store.create(layout.REASSIGN_PARTITIONS, asked)
    await nodes[1].controller.start()
    await settled(nodes[1])
    assert await assignment(nodes[1]) == Assignment((1, 0), (0,))
    epoch = (await state(nodes[1], "t"))[0].leader_epoch
    assert epoch == 1, "begun once"
    await nodes[1].stop()


async def test_an_old_znode_that_cannot_be_read_harms_nobody() -> None:
    nodes = await cluster(1)
    await made(nodes[0], "t", (0,))
    await nodes[0].store.multi([Create(layout.REASSIGN_PARTITIONS, b"{")])
    await settled(nodes[0])
    asked = layout.encode_reassignments({("u", 0): (0,)})
    await nodes[0].store.multi([SetData(layout.REASSIGN_PARTITIONS, asked)])
    await settled(nodes[0])
    assert layout.REASSIGN_PARTITIONS not in await tree(nodes[0].store, "/admin")
    assert await move(nodes[0], (0,)) == [None]
    await stop(*nodes)


async def test_deleting_the_old_znode_stops_nothing() -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (0,))
    asked = layout.encode_reassignments({KEY: (1,)})
    await nodes[0].store.create(layout.REASSIGN_PARTITIONS, asked)
    await settled(nodes[0])
    await nodes[0].store.multi([Delete(layout.REASSIGN_PARTITIONS)])
    await settled(nodes[0])
    await in_sync(nodes, 0, 1)
    assert await assignment(nodes[0]) == Assignment((1,))
    await stop(*reversed(nodes))


# --- trouble --------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", range(1, 7))
async def test_a_store_that_fails_in_the_middle(
    write: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whichever write: everything is read again, and the move ends all the same."""
    monkeypatch.setattr(run, "RETRY_S", 0.01)
    nodes = await cluster(2)
    await made(nodes[0], "t", (0,))
    multi, count = nodes[0].store.multi, 0

    async def failing(ops: Any) -> Any:
        nonlocal count
        count += 1
        if count == write:
            raise StoreFailed("/", "for once")
        return await multi(ops)

    monkeypatch.setattr(nodes[0].store, "multi", failing)
    deadline = asyncio.get_running_loop().time() + 10
    while await assignment(nodes[0]) != Assignment((1,)):
        assert asyncio.get_running_loop().time() < deadline
        try:
            if not (await assignment(nodes[0])).adding:
                await move(nodes[0], (1,))
            elif 1 not in (await state(nodes[0], "t"))[0].isr:
                await in_sync(nodes, 0, 1)
        except (StoreFailed, NotController):
            assert count == write
        await asyncio.sleep(0.01)
        await settled(*nodes)
    assert count >= write, "it did fail"
    assert (await state(nodes[0], "t"))[0].isr == (1,)
    assert nodes[0].replicas.stopped[-1] == KEY
    await stop(*reversed(nodes))


# --- requests -------------------------------------------------------------------------------------


def asked(**topics: list[list[int] | None]) -> AlterPartitionReassignmentsRequest:
    return AlterPartitionReassignmentsRequest(
        topics=[
            ReassignableTopic(name, [ReassignablePartition(i, r) for i, r in enumerate(targets)])
            for name, targets in topics.items()
        ]
    )


@pytest.mark.parametrize("version", [0, 1])
async def test_by_request(version: int) -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (0,), (0,))
    here, there = handler_node(nodes[0]), handler_node(nodes[1])
    row = {"api": 45, "version": version}
    answer = await answer_of(here, row, asked(t=[[1], [9], None], u=[[9]]))
    assert answer.error_code == 0
    codes = {t.name: [p.error_code for p in t.partitions] for t in answer.responses}
    unknown = 3
    assert codes == (
        {"t": [0, 39, 85], "u": [39]} if version == 0 else {"t": [0, 39, unknown], "u": [unknown]}
    )
    assert (await answer_of(there, row, asked(t=[[1]]))).error_code == ErrorCode.NOT_CONTROLLER
    if version:
        request = asked(t=[None, [0, 1]])
        request.allow_replication_factor_change = False
        answer = await answer_of(here, row, request)
        assert [p.error_code for p in answer.responses[0].partitions] == [0, 38]
        await answer_of(here, row, asked(t=[[1]]))

    row = {"api": 46, "version": 0}
    for wanted in (
        None,
        [ListPartitionReassignmentsTopics("t", [1, 0, 7]), ListPartitionReassignmentsTopics("u")],
    ):
        listed = await answer_of(here, row, ListPartitionReassignmentsRequest(topics=wanted))
        (topic,) = listed.topics
        (one,) = topic.partitions
        shown = (one.partition_index, one.replicas, one.adding_replicas, one.removing_replicas)
        assert (topic.name, *shown) == ("t", 0, [1, 0], [1], [0])
    nothing = ListPartitionReassignmentsRequest(topics=[])
    assert (await answer_of(here, row, nothing)).topics == []
    refused = await answer_of(there, row, nothing)
    assert (refused.error_code, refused.topics) == (ErrorCode.NOT_CONTROLLER, [])
    await stop(*reversed(nodes))
