"""Markers: what a leader does with them, and how the coordinator gets them to every partition."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from broker.cluster.view import OFFSETS_TOPIC, TRANSACTIONS_TOPIC
from broker.coordinator import Waiting
from broker.transactions import markers
from broker.transactions.markers import (
    PATIENCE,
    Marker,
    MarkerSender,
    Results,
    write_markers,
)
from broker.transactions.state import State, TopicPartition
from protocol.errors import ErrorCode
from protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from storage.config import LogConfig
from tests.broker.transactions.part import TID, Part
from tests.kit.faulty_files import FaultyFileSystem
from tests.kit.hosted import BROKER, OTHER

COMMITTED, ABORTED = ("commit", 0), ("abort", 0)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Markers are sent again in the next turn of the loop."""
    monkeypatch.setattr(markers, "FIRST_RETRY_S", 0)


@pytest.fixture
async def part() -> AsyncIterator[Part]:
    made = await Part(level=0).start("a", "b")
    yield made
    await made.stop()


async def written(part: Part, *names: str, **fields: Any) -> dict[str, int]:
    """WriteTxnMarkers of one marker: codes by partition."""
    topics: dict[str, list[int]] = {}
    for name in names:
        topic, _, index = name.rpartition("-")
        topics.setdefault(topic, []).append(int(index))
    version = fields.pop("version", 1)
    marker = WritableTxnMarker(
        **{"producer_id": 7, "transaction_result": True} | fields,
        topics=[WritableTxnMarkerTopic(topic, rows) for topic, rows in topics.items()],
    )
    answer = await part.ask(version, WriteTxnMarkersRequest([marker]))
    return {
        f"{topic.name}-{row.partition_index}": row.error_code
        for result in answer.markers
        for topic in result.topics
        for row in topic.partitions
    }


def transactional(part: Part, topic: str, index: int = 0, *, epoch: int = 0) -> None:
    """One batch of producer 7, which begins a transaction."""
    fields = {"producer_id": 7, "producer_epoch": epoch, "base_sequence": 0}
    part.append(topic, [1], index, transactional=True, **fields)


# --- the leader


@pytest.mark.parametrize("version", range(3))
@pytest.mark.parametrize("commit", [True, False])
async def test_written(part: Part, version: int, commit: bool) -> None:
    transactional(part, "a", 1)
    log = part.partition("a", 1).log
    assert log is not None and log.last_stable_offset == 0
    more = {"version": version, "transaction_result": commit, "coordinator_epoch": 3}
    assert await written(part, "a-1", "b-0", **more) == {"a-1": 0, "b-0": 0}
    what = "commit" if commit else "abort"
    assert part.log("a", 1) == [(0, 1), (0, (what, 3))]
    assert part.log("b") == [(0, (what, 3))]
    assert log.last_stable_offset == 2
    assert log.aborted_transactions(0, 2) == ([] if commit else [(7, 0)])


async def test_refused(part: Part) -> None:
    part.host("elsewhere", leader=OTHER)
    part.know("unknown", leader=OTHER)
    part.host("few", min_insync_replicas="2", replicas=(OTHER,))
    part.host("off")
    part.partition("off").log = None
    assert await written(
        part, "a-0", "a-9", "nope-0", "elsewhere-0", "unknown-0", "few-0", "off-0"
    ) == {
        "a-0": 0,
        "a-9": 3,
        "nope-0": 3,
        "elsewhere-0": 6,
        "unknown-0": 3,
        "few-0": 19,
        "off-0": 56,
    }


async def test_fenced(part: Part) -> None:
    assert await written(part, "a-0", producer_epoch=2, coordinator_epoch=5) == {"a-0": 0}
    assert await written(part, "a-0", producer_epoch=1, coordinator_epoch=5) == {"a-0": 47}
    assert await written(part, "a-0", producer_epoch=2, coordinator_epoch=4) == {"a-0": 52}
    assert await written(part, "a-0", producer_epoch=2, coordinator_epoch=5) == {"a-0": 0}
    assert len(part.log("a")) == 2


@pytest.mark.parametrize("producer", [(-1, 0), (7, -1), (-1, -1)])
async def test_nobodys_marker(part: Part, producer: tuple[int, int]) -> None:
    fields = {"producer_id": producer[0], "producer_epoch": producer[1]}
    assert await written(part, "a-0", **fields) == {"a-0": -1}
    assert part.log("a") == []


async def test_markers_of_version_2_have_an_epoch_of_their_own(part: Part) -> None:
    transactional(part, "a", epoch=3)

    async def late(epoch: int, version: int = 2, **fields: Any) -> int:
        fields = {"producer_epoch": epoch, "transaction_version": 2} | fields
        return (await written(part, "a-0", version=version, **fields))["a-0"]

    assert await late(3) == 47, "that epoch has batches: it ends an earlier transaction"
    assert await late(2) == 47
    assert await late(4) == 0
    assert await late(4) == 0, "once more"
    assert await late(3) == 47
    assert part.log("a") == [(3, 1), (4, COMMITTED), (4, COMMITTED)]
    transactional(part, "b", epoch=3)
    assert await written(part, "b-0", version=2, producer_epoch=3, transaction_version=1) == {
        "b-0": 0
    }


async def test_several_markers(part: Part) -> None:
    row = WritableTxnMarkerTopic
    asked = [
        WritableTxnMarker(7, 0, True, [row("a", [0, 0]), row("nope", [1])]),
        WritableTxnMarker(7, 1, False, [row("a", [0])]),
        WritableTxnMarker(8, 0, True, []),
        WritableTxnMarker(9, 0, True, [row("a", [])]),
        WritableTxnMarker(6, 0, True, [row("a", [1]), row("b", [0]), row("a", [2])]),
    ]
    answer = await part.ask(2, WriteTxnMarkersRequest(asked))
    assert [
        (
            result.producer_id,
            [(t.name, [(p.partition_index, p.error_code) for p in t.partitions]) for t in topics],
        )
        for result in answer.markers
        if (topics := result.topics)
    ] == [
        (7, [("a", [(0, 0), (0, 0)]), ("nope", [(1, 3)])]),
        (7, [("a", [(0, 0)])]),
        (6, [("a", [(1, 0), (2, 0)]), ("b", [(0, 0)])]),
    ]
    assert part.log("a") == [(0, COMMITTED), (1, ABORTED)]
    assert (await part.ask(2, WriteTxnMarkersRequest())).markers == []


async def test_a_marker_waits_for_its_replicas(part: Part) -> None:
    part.host("c", isr=(BROKER, OTHER))
    results: list[Results] = []
    marker = Marker(7, 0, True, 0, 0)
    write_markers(part.node, marker, [("c", 0), ("a", 0)], results.append)
    await part.quiet()
    assert results == []
    log = part.partition("c").log
    assert log is not None and log.end_offset == 1
    part.partition("c").notify()
    assert results == []
    log.advance_high_watermark(1)
    part.partition("c").notify()
    assert results == [{("c", 0): ErrorCode.NONE, ("a", 0): ErrorCode.NONE}]


async def test_a_marker_whose_leader_is_lost(part: Part) -> None:
    part.host("c", isr=(BROKER, OTHER))
    results: list[Results] = []
    write_markers(part.node, Marker(7, 0, True, 0, 0), [("c", 0)], results.append)
    part.host("c", leader=OTHER, leader_epoch=1, isr=(OTHER,))
    assert results == [{("c", 0): ErrorCode.NOT_LEADER_OR_FOLLOWER}]


async def test_a_marker_that_is_not_replicated_in_time() -> None:
    part = await Part(settings={"request.timeout.ms": "1"}).start("a")
    part.host("c", isr=(BROKER, OTHER))
    answer: asyncio.Future[Results] = asyncio.get_running_loop().create_future()
    marker = Marker(7, 0, True, 0, 0)
    write_markers(part.node, marker, [("a", 0), ("c", 0)], answer.set_result)
    codes = await asyncio.wait_for(answer, 10)
    assert codes == {("a", 0): ErrorCode.NONE, ("c", 0): ErrorCode.REQUEST_TIMED_OUT}
    assert part.partition("c").waiters is None
    await part.stop()


async def test_a_disk_that_fails() -> None:
    fs = FaultyFileSystem()
    part = await Part(fs=fs).start("a")
    results: list[Results] = []
    fs.fail_at(0)
    write_markers(part.node, Marker(7, 0, True, 0, 0), [("a", 0)], results.append)
    await part.quiet()
    assert results == [{("a", 0): ErrorCode.KAFKA_STORAGE_ERROR}]
    await part.stop()


# --- the coordinator


async def open_at(part: Part, **partitions: list[int]) -> tuple[int, int]:
    """A producer whose transaction is open there."""
    me = await part.begin()
    assert set((await part.add(me, partitions)).values()) == {0}
    return me


async def test_sent_again_until_each_is_written(part: Part) -> None:
    part.host("c")
    me = await open_at(part, a=[0], c=[0])
    part.host("c", leader=OTHER, leader_epoch=1, isr=(OTHER,))
    assert (await part.end(me))[0] == 0
    await part.quiet()
    assert part.state() == State.PREPARE_COMMIT
    assert part.log("a") == [(0, COMMITTED)]
    part.host("c", leader_epoch=2)
    await part.quiet()
    assert part.state() == State.COMPLETE_COMMIT
    assert part.log("c") == [(0, COMMITTED)]
    assert len(part.log("a")) == 1, "those that have it do not get it again"


async def test_partitions_without_a_leader_are_waited_for(part: Part) -> None:
    me = await open_at(part, a=[0])
    part.know("a", 3, leader=-1)
    assert (await part.end(me, False))[0] == 0
    await part.quiet()
    assert part.state() == State.PREPARE_ABORT
    part.know("a", 3)
    await part.quiet()
    assert part.state() == State.COMPLETE_ABORT


async def test_a_deleted_topic_needs_no_markers(part: Part) -> None:
    me = await open_at(part, a=[0, 1], b=[2])
    view = part.metadata.view
    topics = {name: info for name, info in view.topics.items() if name != "a"}
    part.metadata.view = replace(view, topics=topics)
    assert (await part.end(me))[0] == 0
    await part.quiet()
    assert part.state() == State.COMPLETE_COMMIT
    assert (part.log("a"), part.log("b", 2)) == ([], [(0, COMMITTED)])


async def test_topics_that_a_new_coordinator_has_not_heard_of_yet(part: Part) -> None:
    part.host("c")
    me = await open_at(part, b=[0], c=[0])
    part.host("c", leader=OTHER, leader_epoch=1, isr=(OTHER,))
    assert (await part.end(me))[0] == 0
    await part.quiet()
    assert part.state() == State.PREPARE_COMMIT
    view = part.metadata.view
    part.metadata.view = replace(view, topics={TRANSACTIONS_TOPIC: view.topics[TRANSACTIONS_TOPIC]})
    part.come_back(TRANSACTIONS_TOPIC)
    while part.node.transactions.loading:
        await asyncio.sleep(0)
    part.metadata.view = view
    part.host("c", leader_epoch=2)
    await part.quiet()
    assert part.state() == State.COMPLETE_COMMIT
    assert part.log("b") == [(0, COMMITTED), (0, ("commit", 2))]
    assert part.log("c") == [(0, ("commit", 2))]


async def test_a_coordinator_that_goes_on_before_it_is_told_of_any_topic(part: Part) -> None:
    """Nor of its own: LeaderAndIsr comes before UpdateMetadata to a broker that has just begun."""
    part.host("c", isr=(BROKER, OTHER))
    me = await open_at(part, b=[0], c=[0])
    assert (await part.end(me))[0] == 0
    await part.quiet()
    assert part.state() == State.PREPARE_COMMIT
    view = part.metadata.view
    part.come_back(TRANSACTIONS_TOPIC)
    part.metadata.view = replace(view, topics={})
    for _ in range(2 * PATIENCE):
        await part.quiet()
    part.metadata.view = view
    assert part.state() == State.PREPARE_COMMIT
    assert part.log("b") == [(0, COMMITTED)]
    part.host("c", leader_epoch=1)
    for _ in range(2 * PATIENCE):
        await part.quiet()
    assert part.state() == State.COMPLETE_COMMIT
    assert part.log("b") == [(0, COMMITTED), (0, ("commit", 2))]
    assert part.log("c") == [(0, COMMITTED), (0, ("commit", 2))]


async def test_topics_that_a_new_coordinator_never_hears_of(part: Part) -> None:
    me = await open_at(part, b=[0])
    part.partition("b").leader = OTHER
    assert (await part.end(me))[0] == 0
    view = part.metadata.view
    topics = {name: info for name, info in view.topics.items() if name != "b"}
    part.metadata.view = replace(view, topics=topics)
    part.come_back(TRANSACTIONS_TOPIC)
    await part.quiet()
    assert part.state() == State.COMPLETE_COMMIT
    assert part.log("b") == []


async def test_a_record_that_is_not_taken_is_written_later(part: Part) -> None:
    part.host("c")
    me = await open_at(part, c=[0])
    part.host("c", leader=OTHER, leader_epoch=1, isr=(OTHER,))
    assert (await part.end(me))[0] == 0
    await part.quiet()
    log = part.partition(TRANSACTIONS_TOPIC).log
    assert log is not None
    log.config = LogConfig.from_strings({"min.insync.replicas": "2"})
    part.come_back(TRANSACTIONS_TOPIC, replicas=(OTHER,))
    part.host("c", leader_epoch=2)
    await part.quiet()
    assert part.log("c") == [(0, ("commit", 2))]
    assert part.state() == State.PREPARE_COMMIT
    log.config = LogConfig()
    await part.quiet()
    assert part.state() == State.COMPLETE_COMMIT
    assert len(part.log("c")) == 1


async def test_offsets_that_are_being_loaded(part: Part) -> None:
    part.host(OFFSETS_TOPIC)
    me = await part.begin()
    assert await part.add_offsets(me) == 0
    await written(part, f"{OFFSETS_TOPIC}-0")
    part.come_back(OFFSETS_TOPIC)
    assert part.node.groups.loading
    assert (await part.end(me))[0] == 0
    await part.quiet()
    assert part.state() == State.COMPLETE_COMMIT
    assert len(part.log(OFFSETS_TOPIC)) == 2


@pytest.mark.parametrize("newer", [{"coordinator_epoch": 1}, {"producer_epoch": 1}])
async def test_whoever_fenced_it_ends_it(part: Part, newer: dict[str, int]) -> None:
    me = await open_at(part, a=[0], b=[0])
    assert await written(part, "a-0", producer_id=me[0], **newer) == {"a-0": 0}
    assert (await part.end(me))[0] == 0
    await part.quiet()
    assert part.state() == State.PREPARE_COMMIT
    assert part.log("b") == [(0, COMMITTED)]


async def test_a_new_coordinator_goes_on(part: Part) -> None:
    part.host("c", isr=(BROKER, OTHER))
    me = await open_at(part, a=[0], c=[0])
    assert (await part.end(me))[0] == 0
    await part.quiet()
    assert part.state() == State.PREPARE_COMMIT
    part.come_back(TRANSACTIONS_TOPIC)
    part.host("c", leader_epoch=1)
    await part.quiet()
    assert part.state() == State.COMPLETE_COMMIT
    assert part.log("a") == [(0, COMMITTED), (0, ("commit", 2))]
    assert part.log("c") == [(0, COMMITTED), (0, ("commit", 2))]
    assert len(part.log(TRANSACTIONS_TOPIC)) == 4


async def test_the_former_coordinator_sends_nothing_more(part: Part) -> None:
    """Its markers might end the producer's next transaction."""
    part.host("c", leader=OTHER)
    me = await open_at(part, c=[0])
    assert (await part.end(me))[0] == 0
    await part.quiet()
    part.host(TRANSACTIONS_TOPIC, leader=OTHER, leader_epoch=1)
    part.host("c", leader_epoch=1)
    await part.quiet()
    assert part.log("c") == []


async def test_nothing_is_sent_again_after_the_end(part: Part) -> None:
    part.host("c", leader=OTHER)
    me = await open_at(part, c=[0])
    assert (await part.end(me))[0] == 0
    await asyncio.sleep(0)
    part.sender.close()
    part.host("c", leader_epoch=1)
    await part.quiet()
    assert part.log("c") == []


async def test_each_broker_is_sent_its_own(part: Part) -> None:
    sent: list[tuple[int, Marker, list[TopicPartition]]] = []

    class Brokers:
        def send_markers(
            self, broker_id: int, marker: Marker, keys: Any, done: Any, is_over: Any
        ) -> None:
            sent.append((broker_id, marker, keys))
            done(dict.fromkeys(keys, ErrorCode.NONE))

        def close(self) -> None:
            pass

    part.sender = MarkerSender(part.node, Brokers())
    part.know("c", 2, leader=OTHER)
    me = await open_at(part, a=[2, 0], c=[1])
    assert (await part.end(me, False))[0] == 0
    await part.quiet()
    marker = Marker(*me, False, 0, 0)
    assert sent == [(BROKER, marker, [("a", 0), ("a", 2)]), (OTHER, marker, [("c", 1)])]
    assert part.state() == State.COMPLETE_ABORT


async def test_a_time_out_aborts(part: Part) -> None:
    me = await part.begin(timeout=1)
    assert await part.add(me, {"a": [0]}) == {("a", 0): 0}
    await part.quiet()
    assert part.state() == State.ONGOING, "time stands still"
    part.clock.ms += 1
    while part.state() != State.COMPLETE_ABORT:
        await asyncio.sleep(0)
    assert part.log("a") == [(1, ABORTED)]
    assert await part.end(me) == (90, -1, -1)


# --- coordinators that are lost


async def test_lost_between_append_and_answer() -> None:
    """Whoever asked is sent away; what was appended counts if it is still there later."""
    part = await Part().start("a")
    me = await part.begin()
    part.host(TRANSACTIONS_TOPIC, leader_epoch=1, isr=(BROKER, OTHER))
    await part.quiet()
    waiting: Waiting = part.node.transactions.write(
        TID,
        lambda machine, who, now: machine.add_partitions(who, now, TID, me, [("a", 0)], 0),
        lambda code: code,
    )
    known: Waiting = part.node.transactions.write(
        TID,
        lambda machine, who, now: machine.add_partitions(who, now, TID, me, [("a", 0)], 0),
        lambda code: code,
    )
    ended: Waiting = part.node.transactions.write(
        TID,
        lambda machine, who, now: machine.end(who, now, TID, me, True, 0),
        lambda code: code,
    )
    await part.quiet()
    assert not (waiting.done or known.done or ended.done)
    assert part.log("a") == [], "no marker before the decision is replicated"
    part.host(TRANSACTIONS_TOPIC, leader=OTHER, leader_epoch=2)
    away = ErrorCode.NOT_COORDINATOR
    assert (waiting.response, known.response, ended.response) == (away, away, away)
    part.host(TRANSACTIONS_TOPIC, leader_epoch=3)
    await part.quiet()
    assert part.state() == State.COMPLETE_COMMIT
    assert part.log("a") == [(0, ("commit", 3))]
    await part.stop()


async def test_lost_with_what_was_appended() -> None:
    """A new leader without the record: the producer ends its transaction again."""
    part = await Part().start("a")
    me = await part.begin()
    await part.add(me, {"a": [0]})
    part.host(TRANSACTIONS_TOPIC, leader_epoch=1, isr=(BROKER, OTHER))
    await part.quiet()
    ended: Waiting = part.node.transactions.write(
        TID,
        lambda machine, who, now: machine.end(who, now, TID, me, True, 0),
        lambda code: code,
    )
    await part.quiet()
    log = part.partition(TRANSACTIONS_TOPIC).log
    assert log is not None and log.end_offset == 3
    part.host(TRANSACTIONS_TOPIC, leader=OTHER, leader_epoch=2)
    assert ended.response == ErrorCode.NOT_COORDINATOR
    log.truncate_to(2)
    part.host(TRANSACTIONS_TOPIC, leader_epoch=3)
    await part.quiet()
    assert part.state() == State.ONGOING
    assert part.log("a") == []
    assert (await part.end(me))[0] == 0
    await part.quiet()
    assert part.state() == State.COMPLETE_COMMIT
    await part.stop()
