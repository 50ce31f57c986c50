"""Share coordinators on another broker: what is asked goes through the bytes of the APIs to the
handlers of a second node."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from broker import outbox
from broker.cluster.view import SHARE_STATE_TOPIC
from broker.peer import NotServed, PeerGone
from broker.shares import persister
from broker.shares.common import ShareKey, StateBatch
from broker.shares.ends import EndOffsets
from broker.shares.persister import StatePersister
from broker.shares.state import Answer, Change
from protocol.apis import API_BY_KEY
from protocol.errors import ErrorCode
from tests.broker.groups.node import GroupNode
from tests.broker.shares.node import ShareNode, topic_id
from tests.kit.hosted import OTHER

INITIALIZE, READ, WRITE, DELETE, SUMMARY = range(83, 88)
BATCHES = (StateBatch(3, 4, 2, 1), StateBatch(7, 7, 4, 3))


def key(partition: int = 0, topic: str = "t", group: str = "g") -> ShareKey:
    return ShareKey(group, topic_id(topic), partition)


class Way:
    """In place of `broker.peer.Peer`: to the other node, unless a fault comes first."""

    def __init__(self) -> None:
        self.other: ShareNode
        self.requests: list[Any] = []
        self.faults: list[Exception] = []
        self.before: Callable[[Any], None] = lambda request: None

    def __call__(self, address: Any, client_id: str, *, timeout_s: float) -> "Way":
        return self

    async def call_newest(self, api: int, make: Callable[[int], Any]) -> Any:
        version = API_BY_KEY[api].latest_stable
        request = make(version)
        self.requests.append(request)
        await asyncio.sleep(0)
        if self.faults:
            raise self.faults.pop(0)
        self.before(request)
        return await self.other.ask(version, request)

    def close(self) -> None:
        pass

    @property
    def keys(self) -> list[int]:
        return [type(request).API_KEY for request in self.requests]


class Pair:
    """`here` asks, `there` coordinates."""

    def __init__(self, here: ShareNode, there: ShareNode, way: Way) -> None:
        self.here, self.there, self.way = here, there, way
        self.asked = StatePersister(here.node)

    async def answer(self, ask: Callable[..., None], *arguments: Any) -> Answer:
        answers: list[Answer] = []
        ask(*arguments, answers.append)
        await self.until(lambda: bool(answers))
        return answers[0]

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not done():
                await asyncio.sleep(0)


@pytest.fixture
async def pair(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    monkeypatch.setattr(persister, "FIRST_PAUSE_S", 0.0005)
    monkeypatch.setattr(persister, "LAST_PAUSE_S", 0.001)
    way = Way()
    monkeypatch.setattr(outbox, "Peer", way)
    here, there = ShareNode(), ShareNode()
    way.other = there
    await GroupNode.start(here)
    await there.start()
    here.know(SHARE_STATE_TOPIC, 2, leader=OTHER)
    made = Pair(here, there, way)
    yield made
    made.asked.close()
    await here.stop()
    await there.stop()


async def test_a_state_from_its_begin_to_its_end(pair: Pair) -> None:
    ask = pair.asked
    assert await pair.answer(ask.initialize, key(), 1, 3) == Answer()
    change = Change(1, 0, 3, 2, BATCHES)
    assert await pair.answer(ask.write, key(), change) == Answer()
    state = (await pair.answer(ask.read, key(), 5)).state
    assert state is not None
    assert (state.state_epoch, state.start_offset, state.batches) == (1, 3, BATCHES)
    summary = (await pair.answer(ask.summary, key())).state
    assert summary is not None
    assert summary[1:5] == (1, 5, 3, 2)
    assert await pair.answer(ask.delete, key()) == Answer()
    gone = (await pair.answer(ask.summary, key())).state
    assert gone is not None and gone.start_offset == -1
    assert pair.way.keys == [INITIALIZE, WRITE, READ, SUMMARY, DELETE, SUMMARY]


async def test_refusals_come_with_their_sentence(pair: Pair) -> None:
    refused = await pair.answer(pair.asked.read, key(), 1)
    assert refused.code == ErrorCode.INVALID_REQUEST and refused.message
    await pair.answer(pair.asked.initialize, key(), 4, 0)
    assert (await pair.answer(pair.asked.read, key(), 7)).code == 0
    refused = await pair.answer(pair.asked.write, key(), Change(4, 6, 0, 0, ()))
    assert refused.code == ErrorCode.FENCED_LEADER_EPOCH
    assert pair.way.keys == [READ, INITIALIZE, READ, WRITE], "a refusal is not asked again"


async def test_what_is_asked_together_goes_together(pair: Pair) -> None:
    """One request for each API and group; what is about one partition keeps its order."""
    answers: list[Answer] = []
    for number in range(2):
        for topic in ("t", "u"):
            pair.asked.initialize(key(number, topic), 1, 0, answers.append)
    pair.asked.initialize(key(group="h"), 1, 0, answers.append)
    pair.asked.write(key(), Change(1, 0, 0, 0, BATCHES), answers.append)
    pair.asked.summary(key(), answers.append)
    await pair.until(lambda: len(answers) == 7)
    assert [answer.code for answer in answers] == [0] * 7
    assert pair.way.keys == [INITIALIZE, INITIALIZE, WRITE, SUMMARY]
    first, second = pair.way.requests[:2]
    assert (first.group_id, second.group_id) == ("g", "h")
    rows = {(t.topic_id, p.partition) for t in first.topics for p in t.partitions}
    assert rows == {(topic_id(t), p) for t in "tu" for p in (0, 1)}


async def test_again_while_the_coordinator_changes(pair: Pair) -> None:
    """It does not answer, is not the coordinator yet, then is loading, and then it is."""
    assert await pair.answer(pair.asked.initialize, key(), 1, 9) == Answer()
    pair.way.faults += [PeerGone("gone")] * 2
    pair.there.host(SHARE_STATE_TOPIC, 2, leader=OTHER, leader_epoch=1)
    answers: list[Answer] = []
    pair.asked.read(key(), 0, answers.append)
    await pair.until(lambda: len(pair.way.requests) >= 5)
    assert answers == []
    pair.there.host(SHARE_STATE_TOPIC, 2, leader_epoch=2)
    await pair.until(lambda: bool(answers))
    state = answers[0].state
    assert state is not None and state.start_offset == 9


async def test_the_coordinator_becomes_this_broker(pair: Pair) -> None:
    pair.way.faults += [PeerGone("gone")] * 1000
    answers: list[Answer] = []
    pair.asked.initialize(key(), 1, 9, answers.append)
    await pair.until(lambda: len(pair.way.requests) >= 2)
    pair.here.know(SHARE_STATE_TOPIC, 2)
    pair.here.host(SHARE_STATE_TOPIC, 2)
    await pair.until(lambda: bool(answers))
    assert answers == [Answer()]
    machine = pair.here.node.share_states.find(str(key()))
    assert not isinstance(machine, ErrorCode) and machine.states.keys() == {key()}


async def test_nobody_answers(pair: Pair) -> None:
    pair.way.faults += [PeerGone("gone")] * 1000
    answer = await pair.answer(pair.asked.read, key(), 1)
    assert answer.code == ErrorCode.NETWORK_EXCEPTION
    assert len(pair.way.requests) == persister.TRIES


async def test_a_broker_without_share_groups(pair: Pair) -> None:
    pair.way.faults.append(NotServed("no"))
    answer = await pair.answer(pair.asked.read, key(), 1)
    assert answer.code == ErrorCode.UNSUPPORTED_VERSION and len(pair.way.requests) == 1


async def test_an_answer_that_leaves_something_out(pair: Pair) -> None:
    def without(request: Any) -> None:
        request.topics.clear()

    pair.way.before = without
    answer = await pair.answer(pair.asked.summary, key())
    assert answer.code == ErrorCode.UNKNOWN_SERVER_ERROR


async def test_a_group_whose_states_are_elsewhere(pair: Pair) -> None:
    """Its coordinator is here: members get partitions whose states were made there."""
    await pair.here.ready("a")
    assert set(pair.way.keys) == {INITIALIZE}
    machines = list(pair.there.node.share_states.machines())
    made = {one for machine in machines for one in machine.states}
    assert made == {key(0), key(1)}


async def test_where_partitions_end(pair: Pair) -> None:
    pair.here.append("t", [1, 2, 3])
    pair.here.know("far", 2, leader=OTHER)
    pair.there.host("far", 2)
    pair.there.append("far", [1, 2], 1)
    pair.here.know("nobody", leader=-1)
    asked = EndOffsets(pair.here.node)
    ends: list[Any] = []
    places = [("t", 0), ("far", 0), ("far", 1), ("nobody", 0), ("t", 0)]
    asked.ask(places, ends.append)
    await pair.until(lambda: bool(ends))
    assert ends == [
        {
            ("t", 0): 3,
            ("far", 0): 0,
            ("far", 1): 2,
            ("nobody", 0): ErrorCode.LEADER_NOT_AVAILABLE,
        }
    ]
    assert len(pair.way.requests) == 1
    pair.way.faults.append(PeerGone("gone"))
    asked.ask([("far", 1)], ends.append)
    await pair.until(lambda: len(ends) == 2)
    assert ends[1] == {("far", 1): ErrorCode.NETWORK_EXCEPTION}
    asked.ask([], ends.append)
    assert ends[2] == {}
    asked.close()
