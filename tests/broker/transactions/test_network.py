"""Markers to leaders, and questions to coordinators, on another broker: what is asked goes through
the bytes of the APIs to the handlers of a second node."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from broker import outbox
from broker.cluster.view import OFFSETS_TOPIC, TRANSACTIONS_TOPIC
from broker.peer import PeerGone
from broker.transactions import markers
from broker.transactions.markers import Marker
from broker.transactions.network import Brokers, TransactionLink
from broker.transactions.state import State
from broker.waiting import settled
from protocol.apis import API_BY_KEY
from protocol.errors import ErrorCode
from protocol.messages.add_partitions_to_txn import AddPartitionsToTxnResponse
from protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from tests.broker.transactions.part import TID, Part
from tests.kit.hosted import OTHER

A, B = ("a", 0), ("b", 0)
Fault = Callable[[Any], Any]


class Wire:
    """The way to the other node, in place of `broker.peer.Peer`s. `faults` come first: each takes a
    request and raises, gives an answer, or None for the node's own."""

    def __init__(self, other: Part) -> None:
        self.other = other
        self.requests: list[Any] = []
        self.faults: list[Fault] = []
        self.most = 99

    def __call__(self, address: Any, client_id: str, *, timeout_s: float) -> "Wire":
        return self

    async def call_newest(self, key: int, make: Callable[[int], Any]) -> Any:
        version = min(API_BY_KEY[key].latest_stable, self.most)
        request = make(version)
        self.requests.append(request)
        await asyncio.sleep(0)
        if self.faults:
            answer = self.faults.pop(0)(request)
            if answer is not None:
                return answer
        return await self.other.ask(version, request)

    def close(self) -> None:
        pass


def gone(request: Any) -> Any:
    raise PeerGone("it closed the connection")


class Pair:
    """`here` and `there`: what is led elsewhere in the view of the one is hosted by the other."""

    def __init__(self, here: Part, there: Part, wire: Wire) -> None:
        self.here = here
        self.there = there
        self.wire = wire

    async def quiet(self) -> None:
        for _ in range(4):
            await self.here.quiet()
            await self.there.quiet()

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not done():
                await self.quiet()


@pytest.fixture
async def pair(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    here, there = Part(), Part()
    wire = Wire(there)
    monkeypatch.setattr(outbox, "Peer", wire)
    monkeypatch.setattr(markers, "FIRST_RETRY_S", 0)
    yield Pair(here, there, wire)
    if here.node.transaction_link_made is not None:
        here.node.transaction_link_made.close()
    await here.stop()
    await there.stop()


# --- markers


@pytest.fixture
async def ending(pair: Pair) -> Pair:
    """`here` coordinates; topic a is led here, b there."""
    await pair.here.start("a")
    pair.here.know("b", 3, leader=OTHER)
    for topic in ("b", OFFSETS_TOPIC):
        pair.there.host(topic, 3)
    return pair


async def open_everywhere(pair: Pair, tid: str = TID, **partitions: list[int]) -> tuple[int, int]:
    me = await pair.here.begin(tid)
    codes = await pair.here.add(me, partitions, tid=tid)
    assert set(codes.values()) == {0}
    return me


@pytest.mark.parametrize("commit", [True, False])
async def test_markers_go_to_the_leaders(ending: Pair, commit: bool) -> None:
    me = await open_everywhere(ending, a=[1], b=[0, 2])
    assert (await ending.here.end(me, commit))[0] == 0
    done = State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT
    await ending.until(lambda: ending.here.state() == done)
    marker = (0, ("commit" if commit else "abort", 0))
    assert ending.here.log("a", 1) == [marker]
    assert ending.there.log("b", 0) == ending.there.log("b", 2) == [marker]
    assert ending.there.log("b", 1) == []
    (request,) = ending.wire.requests
    (one,) = request.markers
    assert [(t.name, t.partition_indexes) for t in one.topics] == [("b", [0, 2])]


async def test_what_ends_meanwhile_goes_in_one_request(ending: Pair) -> None:
    mine = [await open_everywhere(ending, f"t{n}", b=[n]) for n in range(3)]
    released = asyncio.Event()
    wire_call = ending.wire.call_newest

    async def slow(key: int, make: Any) -> Any:
        await released.wait()
        return await wire_call(key, make)

    ending.wire.call_newest = slow  # type: ignore[method-assign]
    for number, me in enumerate(mine):
        assert (await ending.here.end(me, tid=f"t{number}"))[0] == 0
        await ending.quiet()
    released.set()
    await ending.until(
        lambda: all(ending.here.state(f"t{n}") == State.COMPLETE_COMMIT for n in range(3))
    )
    ids = [[one.producer_id for one in request.markers] for request in ending.wire.requests]
    assert ids == [[mine[0][0]], [mine[1][0], mine[2][0]]]


async def test_again_until_it_is_written(ending: Pair) -> None:
    """A connection that breaks, a leader that is another, replicas that are too few."""
    ending.wire.faults += [gone, lambda _: None]
    ending.there.host("b", leader=OTHER, leader_epoch=1)
    me = await open_everywhere(ending, b=[0])
    assert (await ending.here.end(me))[0] == 0
    await ending.until(lambda: len(ending.wire.requests) >= 4)
    assert ending.here.state() == State.PREPARE_COMMIT and ending.there.log("b") == []
    ending.there.host("b", leader_epoch=2)
    await ending.until(lambda: ending.here.state() == State.COMPLETE_COMMIT)
    assert ending.there.log("b") == [(0, ("commit", 0))]


async def test_the_leader_becomes_this_broker(ending: Pair) -> None:
    me = await open_everywhere(ending, b=[0])
    ending.wire.faults += [gone] * 1000
    assert (await ending.here.end(me))[0] == 0
    await ending.until(lambda: len(ending.wire.requests) >= 2)
    ending.here.know("b", 3)
    ending.here.host("b", 3)
    await ending.until(lambda: ending.here.state() == State.COMPLETE_COMMIT)
    assert ending.here.log("b") == [(0, ("commit", 0))] and ending.there.log("b") == []


async def test_fenced_by_a_newer_coordinator(ending: Pair) -> None:
    me = await open_everywhere(ending, b=[0])
    codes: list[Any] = []
    markers.write_markers(ending.there.node, Marker(*me, True, 5, 0), [B], codes.append)
    ending.there.replicas.write_staged()
    assert codes == [{B: ErrorCode.NONE}]
    assert (await ending.here.end(me, False))[0] == 0
    await ending.until(lambda: bool(ending.wire.requests))
    await ending.quiet()
    assert ending.here.state() == State.PREPARE_ABORT
    assert len(ending.wire.requests) == 1, "it is left alone"
    assert ending.there.log("b") == [(0, ("commit", 5))]


async def test_a_former_coordinator_sends_nothing_that_waits(ending: Pair) -> None:
    """The second transaction's turn comes when the coordinator is another."""
    first = await open_everywhere(ending, "t1", b=[0])
    second = await open_everywhere(ending, "t2", b=[1])
    released = asyncio.Event()
    wire_call = ending.wire.call_newest

    async def slow(key: int, make: Any) -> Any:
        await released.wait()
        return await wire_call(key, make)

    ending.wire.call_newest = slow  # type: ignore[method-assign]
    assert (await ending.here.end(first, tid="t1"))[0] == 0
    await ending.quiet()
    assert (await ending.here.end(second, tid="t2"))[0] == 0
    await ending.quiet()
    ending.here.host(TRANSACTIONS_TOPIC, leader=OTHER, leader_epoch=1)
    released.set()
    await ending.quiet()
    assert ending.there.log("b", 0) == [(0, ("commit", 0))], "it was on its way"
    assert ending.there.log("b", 1) == []
    assert len(ending.wire.requests) == 1


async def test_offsets_of_a_group_elsewhere(ending: Pair) -> None:
    ending.here.know(OFFSETS_TOPIC, 3, leader=OTHER)
    me = await open_everywhere(ending, b=[0])
    assert await ending.here.add_offsets(me) == 0
    assert (await ending.here.end(me))[0] == 0
    await ending.until(lambda: ending.here.state() == State.COMPLETE_COMMIT)
    index = ending.there.node.groups.partition_for("g")
    assert index is not None
    assert ending.there.log(OFFSETS_TOPIC, index) == [(0, ("commit", 0))]


async def test_an_answer_that_leaves_something_out(ending: Pair) -> None:
    brokers = Brokers(ending.here.node)

    def without(request: Any) -> Any:
        request.markers[0].topics[0].partition_indexes.remove(1)

    ending.wire.faults.append(without)
    codes: list[Any] = []
    keys = [("b", 0), ("b", 1)]
    brokers.send_markers(OTHER, Marker(7, 0, True, 0, 0), keys, codes.append, lambda: False)
    await ending.until(lambda: bool(codes))
    unsaid = ErrorCode.NETWORK_EXCEPTION
    assert codes == [{("b", 0): ErrorCode.NONE, ("b", 1): unsaid}]
    brokers.close()


# --- verification


@pytest.fixture
async def asking(pair: Pair) -> Pair:
    """`there` coordinates; topics a and b are led here."""
    await pair.there.start("a", "b")
    for topic in ("a", "b"):
        pair.here.host(topic, 3)
    pair.here.know(TRANSACTIONS_TOPIC, leader=OTHER)
    return pair


async def test_produce_adds_its_partitions(asking: Pair) -> None:
    me = await asking.there.begin()
    assert await asking.here.produce(me, {A: 0, B: 0}) == {A: 0, B: 0}
    assert asking.there.state() == State.ONGOING
    (request,) = asking.wire.requests
    (one,) = request.transactions
    assert (one.transactional_id, one.verify_only) == (TID, False)
    assert await asking.here.produce(me, {A: 1}) == {A: 0}
    assert len(asking.wire.requests) == 1, "the log knows"


async def test_produce_asks_whether_they_were_added(asking: Pair) -> None:
    me = await asking.there.begin()
    assert await asking.there.add(me, {"a": [0]}) == {A: 0}
    assert await asking.here.produce(me, {A: 0, B: 0}, 9) == {A: 0, B: 48}
    assert asking.wire.requests[0].transactions[0].verify_only


@pytest.mark.parametrize("version", [9, 12])
@pytest.mark.parametrize("fault", ["gone", "not coordinator", "loading"])
async def test_a_coordinator_that_cannot_say(asking: Pair, version: int, fault: str) -> None:
    me = await asking.there.begin()
    await asking.there.add(me, {"a": [0]})
    if fault == "gone":
        asking.wire.faults.append(gone)
    elif fault == "not coordinator":
        asking.there.host(TRANSACTIONS_TOPIC, leader=OTHER, leader_epoch=1)
    else:
        asking.wire.faults.append(lambda _: asking.there.come_back(TRANSACTIONS_TOPIC) and None)
    assert await asking.here.produce(me, {A: 0}, version) == {A: 19}, "sent again by the producer"
    assert asking.here.log("a") == []


async def test_a_refusal_of_the_whole_request(asking: Pair) -> None:
    me = await asking.there.begin()
    for code, told in ((31, 48), (42, 42)):
        asking.wire.faults.append(lambda _, c=code: AddPartitionsToTxnResponse(error_code=c))
        assert await asking.here.produce(me, {A: 0}) == {A: told}


async def test_fenced_producers(asking: Pair) -> None:
    me = await asking.there.begin()
    assert await asking.there.begin() == (me[0], me[1] + 1)
    assert await asking.here.produce(me, {A: 0}) == {A: 47}
    assert await asking.here.produce((me[0] + 5, 0), {A: 0}) == {A: 49}


@pytest.mark.parametrize("version", [9, 12])
async def test_a_coordinator_that_is_too_old_to_ask(asking: Pair, version: int) -> None:
    asking.wire.most = 3
    me = await asking.there.begin()
    assert await asking.here.produce(me, {A: 0}, version) == {A: 0}
    assert asking.wire.requests == []


async def test_one_transaction_is_there_once_in_a_request(asking: Pair) -> None:
    mine = [await asking.there.begin(f"t{n}") for n in range(2)]
    link = TransactionLink(asking.here.node)
    asked = [
        link.ask(OTHER, tid, producer, [key], add=True)
        for tid, producer, key in (
            ("t0", mine[0], A),
            ("t1", mine[1], A),
            ("t0", mine[0], B),
            ("t0", (mine[0][0], 9), A),
        )
    ]
    answers = [await settled(one) for one in asked]
    assert answers == [[0], [0], [0], [ErrorCode.PRODUCER_FENCED]]
    tids = [[one.transactional_id for one in r.transactions] for r in asking.wire.requests]
    assert tids == [["t0", "t1"], ["t0"], ["t0"]]
    link.close()


@pytest.mark.parametrize("version", [3, 5])
async def test_offsets_of_a_transaction_coordinated_elsewhere(asking: Pair, version: int) -> None:
    asking.here.host(OFFSETS_TOPIC)
    await asking.quiet()
    asking.there.know(OFFSETS_TOPIC, leader=OTHER)
    me = await asking.there.begin()
    if version == 3:
        assert await asking.there.add_offsets(me) == 0
    row = TxnOffsetCommitRequestPartition(0, 5, committed_metadata="")
    request = TxnOffsetCommitRequest(
        TID, "g", *me, topics=[TxnOffsetCommitRequestTopic("a", partitions=[row])]
    )
    asking.wire.faults.append(gone)
    for code in (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NONE):
        answer = await asking.here.ask(version, request)
        assert answer.topics[0].partitions[0].error_code == code
    assert asking.here.log(OFFSETS_TOPIC) == [(0, 1)]
