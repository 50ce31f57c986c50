"""What brokers ask of the active controller: ISR changes, controlled shutdown, elections."""

import asyncio
from typing import Any

import pytest

from broker.cluster import layout
from broker.cluster.local import LocalStore
from broker.cluster.store import ConnectionLoss, SetData
from broker.context import Context, Node
from broker.controller import run
from broker.controller.decide import Notices, Plan
from broker.controller.elect import Election, Wish
from broker.controller.reign import Balance
from broker.controller.run import NotController
from broker.controller.topics import Refused
from broker.dispatch import Dispatcher
from protocol.errors import ErrorCode
from protocol.messages.allocate_producer_ids import AllocateProducerIdsRequest
from protocol.messages.alter_partition import (
    AlterPartitionRequest,
    BrokerState,
    RequestPartitionData,
    RequestTopicData,
)
from protocol.messages.controlled_shutdown import ControlledShutdownRequest
from protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from protocol.messages.leader_and_isr import LeaderAndIsrRequest
from protocol.messages.update_metadata import UpdateMetadataRequest
from tests.broker.controller_kit import cluster, made, settled, state, stop
from tests.broker.test_control_recorded import answer as answer_of
from tests.kit.nodes import MetadataNode, handler_node
from tests.kit.wire import frame


def epoch(node: MetadataNode) -> int:
    return node.membership.epoch


async def ask(node: Node, key: int, version: int, request: Any) -> Any:
    return await answer_of(node, {"api": key, "version": version}, request)


async def dispatch(node: Node, version: int, request: Any) -> Any:
    """The answer as a connection has it, whatever the handler raised."""
    dispatcher, context = Dispatcher(node), Context("c", "PLAINTEXT", "h")
    data = memoryview(frame(request, version)[4:])
    route, decoded, result = dispatcher.dispatch(context, data)
    return await dispatcher.finish(route, context, decoded, result)


# --- producer ids ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("written", "first"), [(True, 1000), (False, 0)])
async def test_a_block_of_producer_ids_that_may_be_written_is_nobodys(
    written: bool,
    first: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = MetadataNode(LocalStore())
    await node.start()
    write = node.store.set

    async def lost(*change: Any) -> None:
        monkeypatch.undo()
        if written:
            await write(*change)
        raise ConnectionLoss(layout.PRODUCER_ID_BLOCK)

    monkeypatch.setattr(node.store, "set", lost)
    request = AllocateProducerIdsRequest(0, epoch(node))
    assert (await dispatch(handler_node(node), 0, request)).error_code == -1
    assert node.controller.active
    assert "ConnectionLoss" in caplog.text and "Traceback" not in caplog.text
    answer = await ask(handler_node(node), 67, 0, request)
    assert (answer.error_code, answer.producer_id_start, answer.producer_id_len) == (0, first, 1000)
    await node.stop()


# --- ISR ------------------------------------------------------------------------------------------


async def test_an_isr_is_written_and_told_to_everybody() -> None:
    nodes = await cluster(3)
    await made(nodes[0], "t", (1, 0, 2))
    for node in nodes:
        node.received.clear()
    wish = Wish(("t", 0), 0, (1, 2), 0)
    answer = await nodes[0].controller.alter_isr(1, epoch(nodes[1]), [wish])
    expected = layout.Leadership(1, 0, (1, 2), 1), 1
    assert answer == [expected]
    assert await state(nodes[0], "t") == expected
    await nodes[0].controller.drained()
    for node in nodes:
        assert [type(r) for r in node.received] == [UpdateMetadataRequest], "no new epoch"
        info = node.metadata.view.topics["t"].partitions[0]
        assert (info.isr, info.partition_epoch, info.leader_epoch) == ((1, 2), 1, 0)
    # Again, because the answer was lost: the same, and nothing is written.
    assert await nodes[0].controller.alter_isr(1, epoch(nodes[1]), [wish]) == [expected]
    assert await state(nodes[0], "t") == expected
    await stop(*reversed(nodes))


async def test_isr_changes_are_fenced() -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (1, 0))
    controller = nodes[0].controller
    wish = Wish(("t", 0), 0, (1,), 0)
    for broker_id, of in ((1, -1), (1, epoch(nodes[1]) + 1), (7, epoch(nodes[1]))):
        with pytest.raises(Refused) as refused:
            await controller.alter_isr(broker_id, of, [wish])
        assert refused.value.refusal.code == ErrorCode.STALE_BROKER_EPOCH
    with pytest.raises(NotController):
        await nodes[1].controller.alter_isr(1, epoch(nodes[1]), [wish])
    # Somebody else has written the partition's state: the controller reads it again.
    other = layout.encode_state(layout.Leadership(1, 3, (1, 0), 1))
    await nodes[1].store.set(layout.state_path("t", 0), other)
    assert await controller.alter_isr(1, epoch(nodes[1]), [wish]) == [
        ErrorCode.INVALID_UPDATE_VERSION
    ]
    await settled(*nodes)
    newer = Wish(("t", 0), 3, (1,), 1)
    ((leadership, version),) = await controller.alter_isr(1, epoch(nodes[1]), [newer])  # type: ignore[misc]
    assert (leadership.isr, version) == ((1,), 2)
    await stop(*reversed(nodes))


async def test_a_controller_that_was_replaced_changes_no_isr() -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (1, 0))
    await nodes[1].store.multi([SetData(layout.CONTROLLER_EPOCH, b"2", 1)])
    before = await state(nodes[0], "t")
    with pytest.raises(NotController):
        await nodes[0].controller.alter_isr(1, epoch(nodes[1]), [Wish(("t", 0), 0, (1,), 0)])
    assert await state(nodes[0], "t") == before
    await stop(*reversed(nodes))


@pytest.mark.parametrize("version", range(4))
async def test_alter_partition_in_every_version(version: int) -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (1, 0), (0, 1))
    topic_id = nodes[0].metadata.view.topics["t"].topic_id

    def wanted(index: int, *isr: int) -> RequestPartitionData:
        data = RequestPartitionData(index)
        if version >= 3:
            data.new_isr_with_epochs = [BrokerState(broker_id) for broker_id in isr]
        else:
            data.new_isr = list(isr)
        return data

    topics = [
        RequestTopicData("t", topic_id, [wanted(0, 1), wanted(1, 9), wanted(5, 1)]),
        RequestTopicData("none", b"x" * 16, [wanted(0, 1)]),
    ]
    request = AlterPartitionRequest(1, epoch(nodes[1]), topics)
    answer = await ask(handler_node(nodes[0]), 56, version, request)
    assert answer.error_code == 0
    assert [[p.error_code for p in topic.partitions] for topic in answer.topics] == [
        [0, 107 if version >= 2 else 55, 3],
        [100 if version >= 2 else 3],
    ]
    first = answer.topics[0].partitions[0]
    assert (first.leader_id, first.leader_epoch, first.isr, first.partition_epoch) == (1, 0, [1], 1)
    request.broker_epoch -= 1
    assert (await ask(handler_node(nodes[0]), 56, version, request)).error_code == 77
    assert (await ask(handler_node(nodes[1]), 56, version, request)).error_code == 41
    await stop(*reversed(nodes))


async def test_a_controller_that_still_reads_its_topics_knows_them_when_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (1, 0))
    topic_id = nodes[0].metadata.view.topics["t"].topic_id
    read, get = asyncio.Event(), nodes[1].store.get

    async def slow(path: str, watch: Any = None) -> Any:
        if path == layout.topic_path("t"):
            await read.wait()
        return await get(path, watch)

    monkeypatch.setattr(nodes[1].store, "get", slow)
    await nodes[0].stop()
    for _ in range(50):
        await asyncio.sleep(0)
    assert nodes[1].controller.active
    data = RequestPartitionData(0, new_isr_with_epochs=[BrokerState(1)])
    request = AlterPartitionRequest(1, epoch(nodes[1]), [RequestTopicData("", topic_id, [data])])
    asked = asyncio.create_task(ask(handler_node(nodes[1]), 56, 3, request))
    await asyncio.sleep(0)
    read.set()
    ((partition,),) = [topic.partitions for topic in (await asked).topics]
    assert partition.error_code == ErrorCode.FENCED_LEADER_EPOCH, "not: unknown topic"
    await nodes[1].stop()


# --- controlled shutdown --------------------------------------------------------------------------


async def test_a_broker_hands_over_and_is_gone_for_the_controller() -> None:
    nodes = await cluster(3)
    await made(nodes[0], "t", (1, 0), (0, 1))
    await made(nodes[0], "alone", (1,))
    for node in nodes:
        node.received.clear()
    assert await nodes[0].controller.controlled_shutdown(1, epoch(nodes[1])) == []
    await nodes[0].controller.drained()
    assert (await state(nodes[0], "t", 0))[0] == layout.Leadership(0, 1, (0,), 1)
    assert (await state(nodes[0], "t", 1))[0] == layout.Leadership(0, 1, (0,), 1)
    assert (await state(nodes[0], "alone"))[0] == layout.Leadership(1, 0, (1,), 1)
    assert nodes[1].replicas.leaders == {("t", 0): 0, ("alone", 0): 1}
    assert nodes[1].replicas.stopped == [("t", 1)]
    assert nodes[2].metadata.view.topics["t"].partitions[0].offline_replicas == (1,)
    # It cannot come back into an ISR, nor lead, before it registers again.
    wish = Wish(("t", 0), 1, (0, 1), 1)
    found = await nodes[0].controller.alter_isr(0, epoch(nodes[0]), [wish])
    assert found == [ErrorCode.INELIGIBLE_REPLICA]
    await nodes[1].stop()
    await settled(nodes[0], nodes[2])
    assert (await state(nodes[0], "alone"))[0].leader == -1
    back = MetadataNode(nodes[0].store.session(), 1, peers=nodes[0].peers)
    await back.start()
    await settled(nodes[0], nodes[2])
    found = await nodes[0].controller.alter_isr(0, epoch(nodes[0]), [wish])
    assert found == [(layout.Leadership(0, 1, (0, 1), 1), 2)]
    await stop(back, nodes[2], nodes[0])


async def test_shutting_down_is_refused_to_others() -> None:
    nodes = await cluster(2)
    controller = nodes[0].controller
    for broker_id, of, code in (
        (7, 1, ErrorCode.BROKER_NOT_AVAILABLE),
        (1, epoch(nodes[1]) - 1, ErrorCode.STALE_BROKER_EPOCH),
    ):
        with pytest.raises(Refused) as refused:
            await controller.controlled_shutdown(broker_id, of)
        assert refused.value.refusal.code == code
    assert await controller.controlled_shutdown(1, -1) == [], "an old broker tells no epoch"
    await stop(*reversed(nodes))


async def test_what_nobody_else_can_lead_is_told() -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (1, 0))
    await nodes[0].controller.alter_isr(1, epoch(nodes[1]), [Wish(("t", 0), 0, (1,), 0)])
    assert await nodes[0].controller.controlled_shutdown(1, epoch(nodes[1])) == [("t", 0)]
    assert (await state(nodes[0], "t"))[0].leader == 1
    await stop(*reversed(nodes))


# --- a broker that comes --------------------------------------------------------------------------


async def test_a_broker_hears_where_everybody_is_before_it_is_told_to_follow() -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (0, 1))
    await nodes[1].crash()
    await settled(nodes[0])
    back = MetadataNode(nodes[0].store.session(), 1, peers=nodes[0].peers)
    await back.start()
    await settled(nodes[0])
    first, second, *_ = back.received
    assert isinstance(first, UpdateMetadataRequest) and isinstance(second, LeaderAndIsrRequest)
    assert {b.id for b in first.live_brokers} == {0, 1}
    assert [t.topic_name for t in first.topic_states] == ["t"]
    await stop(back, nodes[0])


# --- elections ------------------------------------------------------------------------------------


def elections(kind: int, *partitions: int) -> ElectLeadersRequest:
    return ElectLeadersRequest(kind, [TopicPartitions("t", list(partitions))], 5000)


def codes(answer: Any) -> dict[int, int]:
    return {
        p.partition_id: p.error_code
        for topic in answer.replica_election_results
        for p in topic.partition_result
    }


async def test_preferred_leaders_come_back() -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (1, 0), (0, 1))
    await nodes[1].crash()
    await settled(nodes[0])
    node = handler_node(nodes[0])
    answer = await ask(node, 43, 2, elections(0, 0, 1, 9))
    assert codes(answer) == {0: 80, 1: 84, 9: 3}
    assert [p.error_message for p in answer.replica_election_results[0].partition_result] == [
        "Failed to elect leader for partition t-0 under strategy "
        "PreferredReplicaPartitionLeaderElectionStrategy",
        ErrorCode.ELECTION_NOT_NEEDED.message,
        "The partition does not exist.",
    ]
    back = MetadataNode(nodes[0].store.session(), 1, peers=nodes[0].peers)
    await back.start()
    await settled(nodes[0])
    (now, version) = await state(nodes[0], "t", 0)
    wish = Wish(("t", 0), now.leader_epoch, (0, 1), version)
    await nodes[0].controller.alter_isr(0, epoch(nodes[0]), [wish])
    everything = ElectLeadersRequest(0, None, 5000)
    assert codes(await ask(node, 43, 2, everything)) == {0: 0}
    assert nodes[0].metadata.view.leader("t", 0) == 1
    assert (await state(nodes[0], "t", 0))[0].leader_epoch == now.leader_epoch + 1
    assert codes(await ask(node, 43, 2, everything)) == {}
    assert codes(await ask(handler_node(back), 43, 0, elections(0, 0))) == {0: 41}
    await stop(back, nodes[0])


async def test_an_unclean_election_marks_the_leader() -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (1, 0))
    await nodes[0].controller.alter_isr(1, epoch(nodes[1]), [Wish(("t", 0), 0, (1,), 0)])
    node = handler_node(nodes[0])
    assert codes(await ask(node, 43, 2, elections(Election.UNCLEAN, 0))) == {0: 84}
    await nodes[1].crash()
    await settled(nodes[0])
    assert (await state(nodes[0], "t"))[0] == layout.Leadership(-1, 1, (1,), 1)
    assert codes(await ask(node, 43, 2, elections(Election.UNCLEAN, 0))) == {0: 0}
    now, version = await state(nodes[0], "t")
    assert now == layout.Leadership(0, 2, (0,), 1, recovering=True)
    (told,) = [
        p
        for r in nodes[0].received
        if isinstance(r, LeaderAndIsrRequest)
        for t in r.topic_states
        for p in t.partition_states
        if p.leader_epoch == 2
    ]
    assert (told.leader, told.leader_recovery_state) == (0, 1)
    # The first change of the ISR clears the mark.
    await nodes[0].controller.alter_isr(0, epoch(nodes[0]), [Wish(("t", 0), 2, (0,), version)])
    assert (await state(nodes[0], "t"))[0] == layout.Leadership(0, 2, (0,), 1)
    await stop(nodes[0])


async def test_nobody_to_elect() -> None:
    node = MetadataNode(LocalStore())
    await node.start()
    assert codes(await ask(handler_node(node), 43, 2, ElectLeadersRequest(1, None, 10))) == {}
    answer = await ask(handler_node(node), 43, 2, elections(9, 0))
    assert answer.error_code == -1 and codes(answer) == {0: -1}
    await node.stop()


# --- a store that loses an answer -----------------------------------------------------------------


async def test_what_was_written_without_an_answer_is_found_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "RETRY_S", 0)
    nodes = await cluster(3)
    await made(nodes[0], "t", (1, 2), (2, 1))
    write = nodes[0].store.multi

    async def lost(ops: Any) -> None:
        monkeypatch.setattr(nodes[0].store, "multi", write)
        await write(ops)
        raise ConnectionLoss(layout.CONTROLLER_EPOCH)

    monkeypatch.setattr(nodes[0].store, "multi", lost)
    node, request = handler_node(nodes[0]), ControlledShutdownRequest(1, epoch(nodes[1]))
    assert (await dispatch(node, 2, request)).error_code == -1
    assert (await state(nodes[0], "t", 0))[0].leader == 2
    assert await nodes[2].metadata.wait_until(lambda view: view.leader("t", 0) == 2, 10)
    assert nodes[0].controller.active
    answer = await ask(node, 7, 2, request)
    assert (answer.error_code, answer.remaining_partitions) == (0, [])
    await stop(*reversed(nodes))


# --- what the controller does by itself -----------------------------------------------------------


async def test_a_topic_that_allows_it_now_gets_an_unclean_leader() -> None:
    nodes = await cluster(2)
    for name in ("t", "u"):
        await made(nodes[0], name, (1, 0))
        await nodes[0].controller.alter_isr(1, epoch(nodes[1]), [Wish((name, 0), 0, (1,), 0)])
    allowed: set[str] = set()
    reign = nodes[0].controller._reign
    assert reign is not None
    reign._unclean = allowed.__contains__
    await nodes[1].crash()
    await settled(nodes[0])
    assert nodes[0].metadata.view.leader("t", 0) == -1
    allowed.add("t")
    nodes[0].controller.reconsider("u")
    await settled(nodes[0])
    assert nodes[0].metadata.view.leader("t", 0) == -1
    nodes[0].controller.reconsider("t")
    await settled(nodes[0])
    assert (await state(nodes[0], "t"))[0] == layout.Leadership(0, 2, (0,), 1, recovering=True)
    allowed.add("u")
    nodes[0].controller.reconsider(None)
    await settled(nodes[0])
    assert nodes[0].metadata.view.leader("u", 0) == 0
    await stop(nodes[0])


async def test_leaders_are_given_back_from_time_to_time() -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (1, 0), (1, 0))
    reign = nodes[0].controller._reign
    assert reign is not None
    # Both are led elsewhere, as after a failover.
    moved = {("t", i): layout.Leadership(0, 1, (0, 1), 1) for i in range(2)}
    await reign.carry_out(Plan(moved, Notices(metadata=dict.fromkeys(moved))))
    await nodes[0].controller.drained()
    assert nodes[0].metadata.view.leader("t", 1) == 0
    assert [(await state(nodes[0], "t", i))[0].leader for i in range(2)] == [0, 0]
    reign._ways.balance = Balance(0.01, 10)
    reign._balance_in(0.0)
    while nodes[0].metadata.view.leader("t", 1) != 1:
        await asyncio.sleep(0)
    assert (await state(nodes[0], "t", 0))[0] == layout.Leadership(1, 2, (0, 1), 1)
    assert reign._balancer is not None, "it looks again"
    await stop(*reversed(nodes))
    assert reign._balancer.cancelled()
