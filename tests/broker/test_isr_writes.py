"""ISRs that leaders write themselves (IBP below 2.7), and how the controller hears of them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker import isr_writes
from broker.cluster import layout
from broker.cluster.layout import Leadership
from broker.cluster.local import LocalStore
from broker.cluster.store import ConnectionLoss
from broker.controller.reassign import BY_REQUEST, Target
from broker.ibp import leaders_write_isr
from broker.isr_writes import LINGER_MS, LONGEST_MS, IsrWrites
from broker.partition import Partition
from protocol.messages.update_metadata import UpdateMetadataRequest
from tests.broker.controller_kit import cluster, made, settled, state, stop
from tests.broker.test_partition import led
from tests.kit.nodes import FakeClock

PATH = layout.state_path("t", 0)
NOTE = b'{"version":1,"partitions":[{"topic":"rep","partition":0},{"topic":"rep","partition":1}]}'


class Leader:
    """Leads t-0 under epoch 1, made leader by controller 3; its node has version 0."""

    def __init__(self) -> None:
        self.store = LocalStore()
        self.clock = FakeClock()
        self.settled: list[Partition] = []
        self.changes = IsrWrites(self.store, self.settled.append, self.clock)
        self.partition = led((0, 1, 2))
        self.partition.controller_epoch = 3
        self.partition.partition_epoch = 0

    async def start(self) -> None:
        await self.store.start()
        for path in (
            "/brokers",
            layout.TOPICS,
            layout.topic_path("t"),
            layout.ISR_CHANGES,
            layout.partitions_path("t"),
            layout.partition_path("t", 0),
        ):
            await self.store.create(path)
        await self.store.create(PATH, layout.encode_state(Leadership(0, 1, (0, 1, 2), 3)))

    async def change(self, *isr: int) -> None:
        self.changes.submit(self.partition, isr)
        while self.changes._task is not None:
            await asyncio.sleep(0)

    async def written(self) -> tuple[Leadership, int]:
        data, stat = await self.store.get(PATH)
        return layout.decode_state("t", 0, data), stat.version

    async def notes(self) -> list[bytes | None]:
        names = sorted(await self.store.children(layout.ISR_CHANGES))
        return [(await self.store.get(f"{layout.ISR_CHANGES}/{name}"))[0] for name in names]


@pytest.fixture
async def leader(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Leader]:
    monkeypatch.setattr(isr_writes, "RETRY_S", 0.0)
    made = Leader()
    await made.start()
    yield made
    await made.changes.close()
    await made.store.close()


@pytest.mark.parametrize(
    ("ibp", "themselves"), [("2.6", True), ("2.7-IV1", True), ("2.7-IV2", False), ("3.9", False)]
)
def test_which_releases(ibp: str, themselves: bool) -> None:
    assert leaders_write_isr(ibp) is themselves


async def test_a_change_is_written_under_the_same_leader_epoch(leader: Leader) -> None:
    await leader.change(0, 1)
    assert await leader.written() == (Leadership(0, 1, (0, 1), 3), 1)
    partition = leader.partition
    assert (partition.isr, partition.partition_epoch, partition.pending) == ((0, 1), 1, None)
    assert leader.settled == [partition]
    await leader.change(0, 1, 2)
    assert await leader.written() == (Leadership(0, 1, (0, 1, 2), 3), 2)


async def test_who_is_outdated_changes_nothing(leader: Leader) -> None:
    other = Leadership(1, 2, (0, 1, 2), 4)
    await leader.store.set(PATH, layout.encode_state(other))
    await leader.change(0)
    assert await leader.written() == (other, 1)
    assert leader.partition.isr == (0, 1, 2)
    # Both may be true, until LeaderAndIsr tells.
    assert leader.partition.maximal_isr == (0, 1, 2) and leader.partition.pending is not None
    assert leader.settled == []


@pytest.mark.parametrize("done", [True, False])
async def test_an_answer_is_lost(
    leader: Leader, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    write, lost = leader.store.set, 0

    async def losing(*arguments: Any) -> Any:
        nonlocal lost
        if lost == 0:
            lost += 1
            if done:
                await write(*arguments)
            raise ConnectionLoss(PATH)
        return await write(*arguments)

    monkeypatch.setattr(leader.store, "set", losing)
    await leader.change(0, 1)
    assert lost == 1
    assert await leader.written() == (Leadership(0, 1, (0, 1), 3), 1)
    assert (leader.partition.isr, leader.partition.partition_epoch) == ((0, 1), 1)


async def test_a_newer_role_ends_a_change(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> Any:
        leader.partition.pending = None
        raise ConnectionLoss(PATH)

    monkeypatch.setattr(leader.store, "set", never)
    await leader.change(0, 1)
    assert leader.partition.isr == (0, 1, 2)


async def test_the_controller_is_told_some_time_later(leader: Leader) -> None:
    clock, changes = leader.clock, leader.changes
    await changes.tell_if_due()
    await leader.change(0, 1)
    clock.ms += LINGER_MS
    await changes.tell_if_due()
    assert await leader.notes() == []
    clock.ms += 1
    await changes.tell_if_due()
    assert await leader.notes() == [b'{"version":1,"partitions":[{"topic":"t","partition":0}]}']
    await changes.tell_if_due()
    assert len(await leader.notes()) == 1
    # Where changes do not end, a minute after the last note.
    for _ in range(LONGEST_MS // 4000):
        clock.ms += 4000
        await leader.change(*((0, 1) if leader.partition.isr == (0, 1, 2) else (0, 1, 2)))
        await changes.tell_if_due()
    assert len(await leader.notes()) == 1
    clock.ms += 4000
    await changes.tell_if_due()
    assert len(await leader.notes()) == 2


def test_notes_are_those_of_apache_kafka() -> None:
    keys = [("rep", 0), ("rep", 1)]
    assert layout.encode_isr_change(keys) == NOTE
    assert layout.decode_isr_change(NOTE) == keys
    for broken in (None, b"", b"{", b"[]", b'{"partitions":1}', b'{"partitions":[{"topic":"t"}]}'):
        assert layout.decode_isr_change(broken) == []


# --- the controller -------------------------------------------------------------------------------


async def note(store: Any, content: bytes) -> None:
    path = f"{layout.ISR_CHANGES}/{layout.ISR_CHANGE_PREFIX}"
    await store.create(path, content, sequential=True)


async def test_the_controller_takes_over_what_leaders_have_written() -> None:
    nodes = await cluster(3)
    await made(nodes[0], "t", (1, 0, 2), (0, 1, 2))
    for node in nodes:
        node.received.clear()
    store = nodes[1].store
    await store.set(PATH, layout.encode_state(Leadership(1, 0, (1, 2), 1)), 0)
    await note(store, layout.encode_isr_change([("t", 0), ("gone", 4)]))
    await note(store, b"{")
    await settled(*nodes)
    assert await store.children(layout.ISR_CHANGES) == []
    for node in nodes:
        assert {type(r) for r in node.received} == {UpdateMetadataRequest}
        info = node.metadata.view.topics["t"].partitions[0]
        assert (info.isr, info.partition_epoch, info.leader_epoch) == ((1, 2), 1, 0)
    # An election goes by it.
    await nodes[1].crash()
    await settled(nodes[0])
    assert (await state(nodes[0], "t"))[0].leader == 2
    await stop(nodes[2], nodes[0])


async def test_a_move_ends_by_what_leaders_have_written() -> None:
    nodes = await cluster(2)
    await made(nodes[0], "t", (0,))
    await nodes[0].controller.alter_reassignments([Target(("t", 0), (1,))], BY_REQUEST)
    await settled(*nodes)
    await nodes[0].store.set(PATH, layout.encode_state(Leadership(0, 1, (0, 1), 1)), 1)
    await note(nodes[0].store, layout.encode_isr_change([("t", 0)]))
    await settled(*nodes)
    assert (await state(nodes[0], "t"))[0].isr == (1,)
    # The ISR shrinks again between the note and the end: the move goes on waiting.
    await nodes[0].controller.alter_reassignments([Target(("t", 0), (0,))], BY_REQUEST)
    await settled(*nodes)
    now, version = await state(nodes[0], "t")
    both = now._replace(isr=(1, 0))
    await nodes[0].store.set(PATH, layout.encode_state(both), version)
    controller_state = nodes[0].controller.state
    assert controller_state is not None
    known = controller_state.partition(("t", 0))
    assert known is not None
    known.state, known.version = both, version + 1
    await nodes[0].store.set(PATH, layout.encode_state(now), version + 1)
    reign = nodes[0].controller._reign
    assert reign is not None
    await reign.moves.advance([("t", 0)])
    await settled(*nodes)
    assert (await state(nodes[0], "t"))[0].isr == (1,)
    assert ("t", 0) in await nodes[0].controller.reassignments(None)
    await stop(*reversed(nodes))
