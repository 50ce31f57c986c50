"""Whole transactions on real sockets: what producers are told and what readers see."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from protocol.messages.describe_producers import DescribeProducersRequest, TopicRequest
from protocol.messages.end_txn import EndTxnRequest
from protocol.messages.find_coordinator import FindCoordinatorRequest
from protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from protocol.messages.list_transactions import ListTransactionsRequest
from protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestTopic
from protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from tests.broker.transactions.client import (
    Producer,
    Row,
    fetch_request,
    read,
    rows_of,
    values_of,
)
from tests.kit.threaded import ThreadedBroker
from tests.kit.wire import ConnectionClosed, Wire

NOT_ADDED = "Partition was not added to the transaction"
LAST_VERSION = 13


@pytest.fixture(scope="module")
def broker() -> Iterator[ThreadedBroker]:
    # How long a batch waits for the markers of the transaction before it: a busy machine is late.
    patient = {"add.partitions.to.txn.retry.backoff.max.ms": "10000"}
    with ThreadedBroker({}, patient) as running:
        yield running


@pytest.fixture
def reader(broker: ThreadedBroker) -> Iterator[Wire]:
    with Wire(broker.bootstrap) as wire:
        yield wire


@pytest.fixture
def topic(broker: ThreadedBroker, reader: Wire, request: pytest.FixtureRequest) -> str:
    name = f"topic-{next(_numbers)}"
    answer = reader.call(CreateTopicsRequest([CreatableTopic(name, 3, 1)], 5000), 5)
    assert answer.topics[0].error_code == 0
    return name


_numbers = count()


@pytest.fixture
def producer(broker: ThreadedBroker) -> Iterator[Callable[..., Producer]]:
    made: list[Producer] = []

    def make(tid: str | None = None, **more: Any) -> Producer:
        made.append(Producer(broker.bootstrap, tid or f"tid-{next(_numbers)}", **more))
        return made[-1].begin()

    yield make
    for one in made:
        one.wire.close()


def latest(wire: Wire, topic: str, *, committed: bool) -> int:
    asked = ListOffsetsTopic(topic, [ListOffsetsPartition(0, timestamp=-1)])
    answer = wire.call(ListOffsetsRequest(-1, int(committed), [asked]), 5)
    return int(answer.topics[0].partitions[0].offset)


# --- whole transactions


@pytest.mark.parametrize("version", range(3, LAST_VERSION + 1))
def test_committed_and_aborted(
    producer: Callable[..., Producer], reader: Wire, topic: str, version: int
) -> None:
    me = producer()
    ends = 5 if version >= 12 else min(version - 3, 4)
    for commit, value in ((True, b"kept"), (False, b"lost"), (True, b"kept too")):
        if version < 12:
            assert me.add({topic: [0]}, min(version - 3, 3)) == {0}
        first = me.send(topic, value, version=version)
        assert first.error == 0
        second = me.send(topic, value + b" 2", version=version)
        assert second == Row(0, first.offset + 1, 0 if version >= 5 else -1)
        assert latest(reader, topic, committed=False) == first.offset + 2
        assert latest(reader, topic, committed=True) == first.offset
        assert me.end(commit, ends) == 0
        me.settle()
        assert latest(reader, topic, committed=True) == first.offset + 3
    everything = [b"kept", b"kept 2", b"lost", b"lost 2", b"kept too", b"kept too 2"]
    assert read(reader, topic) == everything[:2] + everything[4:]
    assert read(reader, topic, committed=False) == everything


def test_several_partitions_end_together(
    producer: Callable[..., Producer], reader: Wire, topic: str
) -> None:
    me = producer()
    rows = me.send_all({(topic, index): [b"%d" % index] for index in range(3)})
    assert rows == [Row(0, 0, 0)] * 3
    assert [read(reader, topic, index=index) for index in range(3)] == [[]] * 3
    assert me.end() == 0
    me.settle()
    assert [read(reader, topic, index=index) for index in range(3)] == [[b"0"], [b"1"], [b"2"]]


def test_transactions_side_by_side(
    producer: Callable[..., Producer], reader: Wire, topic: str
) -> None:
    a, b, c = producer(), producer(), producer()
    for one, value in ((a, b"a1"), (b, b"b1"), (c, b"c1"), (a, b"a2"), (b, b"b2")):
        assert one.send(topic, value).error == 0
    assert b.end(False) == 0
    b.settle()
    assert read(reader, topic) == []
    assert b.send(topic, b"b3").error == 0
    assert a.end() == 0
    a.settle()
    assert read(reader, topic) == [b"a1"], "c's is still open"
    assert c.end() == 0
    c.settle()
    assert read(reader, topic) == [b"a1", b"c1", b"a2"]
    assert b.end() == 0
    b.settle()
    assert read(reader, topic) == [b"a1", b"c1", b"a2", b"b3"]
    assert read(reader, topic, committed=False) == [b"a1", b"b1", b"c1", b"a2", b"b2", b"b3"]


@pytest.mark.parametrize("commit", [True, False])
def test_a_marker_wakes_readers_that_wait(
    producer: Callable[..., Producer], reader: Wire, topic: str, commit: bool
) -> None:
    me = producer()
    assert me.send(topic, b"value").error == 0
    reader.send(fetch_request(topic, wait_ms=60_000), 11)
    assert me.end(commit) == 0
    answer = reader.receive()
    assert values_of(answer) == ([b"value"] if commit else [])
    (part,) = answer.responses[0].partitions
    assert part.last_stable_offset == part.high_watermark == 2
    assert len(part.aborted_transactions) == (0 if commit else 1)


def test_a_second_producer_fences_the_first(
    producer: Callable[..., Producer], reader: Wire, topic: str
) -> None:
    zombie = producer("the-same")
    assert zombie.send(topic, b"lost").error == 0
    me = producer("the-same")
    assert zombie.send(topic, b"never").error == 47
    assert zombie.send(topic, b"never", index=1).error == 47
    assert zombie.end(version=4) == 90
    assert me.send(topic, b"kept").error == 0
    assert me.end() == 0
    me.settle()
    assert read(reader, topic) == [b"kept"]
    assert read(reader, topic, committed=False) == [b"lost", b"kept"]


def test_after_a_time_out(producer: Callable[..., Producer], reader: Wire, topic: str) -> None:
    me = producer(timeout=50)
    assert me.send(topic, b"lost").error == 0
    answer = reader.call(fetch_request(topic, wait_ms=60_000), 11)
    assert values_of(answer) == []
    assert me.send(topic, b"never").error == 47
    assert me.end(version=4) == 90
    assert me.init(expected=me.me) == 0
    assert me.send(topic, b"kept").error == 0
    assert me.end() == 0
    me.settle()
    assert read(reader, topic) == [b"kept"]


# --- what is not taken


@pytest.mark.parametrize("version", range(3, 12))
def test_partitions_have_to_be_added(
    producer: Callable[..., Producer], topic: str, version: int
) -> None:
    me = producer()
    code, message = (120, None) if version >= 11 else (48, NOT_ADDED if version >= 8 else None)
    assert me.send(topic, b"a", version=version) == Row(code, message=message)
    assert me.add({topic: [0, 1]}) == {0}
    rows = me.send_all({(topic, 0): [b"a"], (topic, 2): [b"b"]}, version, sequence=0)
    assert rows == [Row(0, 0, 0 if version >= 5 else -1), Row(code, message=message)]
    assert me.end(version=4) == 0
    me.settle()
    assert me.send(topic, b"b", version=version) == Row(code, message=message)


@pytest.mark.parametrize("version", [9, 11, 12, 13])
def test_not_the_owner(producer: Callable[..., Producer], topic: str, version: int) -> None:
    me = producer()
    right, tid = me.me, me.tid
    for producer_id, epoch, name, code in (
        (right[0] + 1000, 0, tid, 49),
        (right[0], right[1] + 1, tid, 47),
        (*right, "unknown", 49),
        (*right, "", 42),
    ):
        me.become(producer_id, epoch)
        me.tid = name
        assert me.send(topic, b"a", version=version) == Row(code)


@pytest.mark.parametrize("version", [9, 12])
def test_producers_are_not_mixed(
    producer: Callable[..., Producer], topic: str, version: int
) -> None:
    me = producer()
    me.add({topic: [0, 1]})
    request = me.request({(topic, 0): [b"a"]}, version)
    me.become(me.producer_id, me.epoch + 1)
    other = me.request({(topic, 1): [b"b"]}, version)
    request.topic_data[0].partition_data += other.topic_data[0].partition_data
    message = "Transactional records contained more than one producer ID"
    assert rows_of(me.wire.call(request, version)) == [Row(49, message=message)] * 2


@pytest.mark.parametrize("version", [9, 12])
def test_the_coordinator_is_asked_first(
    producer: Callable[..., Producer], topic: str, version: int
) -> None:
    me = producer()
    added = version >= 12
    assert me.send(topic, b"a", version=version, acks=5).error == (21 if added else 48)
    assert me.send(topic, b"a", index=9, version=version) == Row(3)
    assert me.send("unknown-topic", b"a", version=version) == Row(3)
    internal = me.send("__transaction_state", b"a", version=version)
    assert internal.error == (17 if added else 48)


def test_other_batches_beside_a_transaction(
    producer: Callable[..., Producer], reader: Wire, topic: str
) -> None:
    me = producer()
    me.add({topic: [0]})
    plain = me.request({(topic, 1): [b"plain"]}, 9, transactional=False)
    request = me.request({(topic, 0): [b"a"], (topic, 2): [b"refused"]}, 9)
    request.topic_data[0].partition_data += plain.topic_data[0].partition_data
    assert [row.error for row in rows_of(me.wire.call(request, 9))] == [0, 48, 0]
    assert me.send(topic, b"no", transactional=False, version=9).error == 48
    assert read(reader, topic, index=1) == [b"plain"]


def test_a_transactional_batch_without_an_id(producer: Callable[..., Producer], topic: str) -> None:
    me = producer()
    me.add({topic: [0]})
    request = me.request({(topic, 0): [b"a"]}, 9)
    request.transactional_id = None
    assert rows_of(me.wire.call(request, 9)) == [Row(53)]


def test_duplicates_and_gaps(producer: Callable[..., Producer], reader: Wire, topic: str) -> None:
    me = producer()
    assert me.send(topic, b"gap", sequence=3) == Row(45, log_start=0)
    assert me.send(topic, b"a", sequence=0) == Row(0, 0, 0)
    assert me.send(topic, b"a", sequence=0) == Row(0, 0, 0)
    assert me.send(topic, b"gap", sequence=2) == Row(45, log_start=0)
    assert me.end() == 0
    me.settle()
    assert read(reader, topic) == [b"a"]


def test_batches_behind_one_that_was_refused(producer: Callable[..., Producer], topic: str) -> None:
    me = producer()
    assert me.send(topic, b"a", version=9, sequence=0).error == 48
    me.add({topic: [0]})
    assert me.send(topic, b"b", version=9, sequence=1) == Row(45, log_start=0)
    assert me.send(topic, b"a", version=9, sequence=0) == Row(0, 0, 0)
    assert me.send(topic, b"b", version=9, sequence=1) == Row(0, 1, 0)


def test_nobody_is_asked_when_the_check_is_off(topic: str) -> None:
    off = {"transaction.partition.verification.enable": "false"}
    with ThreadedBroker({"t": 1}, off) as broker, Producer(broker.bootstrap, "tid") as me:
        me.begin()
        assert me.send("t", b"a", version=11) == Row(0, 0, 0)
        me.become(me.producer_id, me.epoch + 1)
        assert me.send("t", b"a", version=12) == Row(47), "from version 12 they are added"


# --- requests that wait


def test_requests_behind_a_first_batch_keep_their_order(
    producer: Callable[..., Producer], reader: Wire, topic: str
) -> None:
    me = producer()
    first = me.request({(topic, 0): [b"a"]})
    second = me.request({(topic, 0): [b"b"], (topic, 1): [b"c"]})
    third = me.request({(topic, 0): [b"d"]}, 9)
    me.wire.send(fetch_request(topic, committed=False), 11)
    for request, version in ((first, 12), (second, 12), (third, 9)):
        me.wire.send(request, version)
    me.wire.send(EndTxnRequest(me.tid, *me.me, True), 5)
    me.wire.send(fetch_request(topic, 2, wait_ms=60_000), 11)
    assert values_of(me.wire.receive()) == []
    assert rows_of(me.wire.receive()) == [Row(0, 0, 0)]
    assert rows_of(me.wire.receive()) == [Row(0, 1, 0), Row(0, 0, 0)]
    assert rows_of(me.wire.receive()) == [Row(0, 2, 0)]
    assert me.wire.receive().error_code == 0
    assert values_of(me.wire.receive()) == [b"d"]
    assert read(reader, topic, index=1) == [b"c"]


def test_the_next_transaction_waits_for_the_one_before(
    producer: Callable[..., Producer], reader: Wire, topic: str
) -> None:
    """Sent at once: the end is decided, its markers are not written yet."""
    me = producer()
    for number in range(20):
        request = me.request({(topic, 0): [b"%d" % number]})
        me.wire.send(request, 12)
        me.wire.send(EndTxnRequest(me.tid, *me.me, number % 2 == 0), 5)
        me.become(me.producer_id, me.epoch + 1)
    for number in range(20):
        assert rows_of(me.wire.receive()) == [Row(0, 2 * number, 0)]
        ended = me.wire.receive()
        assert (ended.error_code, ended.producer_epoch) == (0, number + 1)
    me.settle()
    assert read(reader, topic) == [b"%d" % number for number in range(0, 20, 2)]


def test_a_first_batch_behind_ordinary_ones(
    producer: Callable[..., Producer], reader: Wire, topic: str
) -> None:
    me = producer()
    plain = producer()
    for number in range(3):
        request = plain.request({(topic, 0): [b"%d" % number]}, transactional=False)
        request.transactional_id = None
        me.wire.send(request, 9)
    me.wire.send(me.request({(topic, 0): [b"a"]}), 12)
    assert [rows_of(me.wire.receive())[0].offset for _ in range(4)] == [0, 1, 2, 3]


def test_many_producers_begin_at_once(
    producer: Callable[..., Producer], reader: Wire, topic: str
) -> None:
    them = [producer() for _ in range(20)]
    for number, one in enumerate(them):
        one.wire.send(one.request({(topic, 0): [b"%d" % number]}), 12)
    offsets = sorted(rows_of(one.wire.receive())[0].offset for one in them)
    assert offsets == list(range(20))
    for number, one in enumerate(them):
        assert one.end(number % 3 != 0) == 0
    for one in them:
        one.settle()
    kept = [b"%d" % number for number in range(20) if number % 3]
    assert sorted(read(reader, topic)) == sorted(kept)


def test_a_client_that_goes_while_its_batch_waits(
    broker: ThreadedBroker, producer: Callable[..., Producer], reader: Wire, topic: str
) -> None:
    gone = producer("gone")
    for index in range(3):
        gone.wire.send(gone.request({(topic, index): [b"x"]}), 12)
    gone.wire.close()
    me = producer("gone")
    assert me.send(topic, b"kept").error == 0
    assert me.end() == 0
    me.settle()
    assert read(reader, topic) == [b"kept"]


def test_a_refusal_without_an_answer_closes_the_connection(
    producer: Callable[..., Producer], topic: str
) -> None:
    me = producer()
    me.wire.send(me.request({(topic, 0): [b"a"]}, 9, acks=0), 9)
    with pytest.raises(ConnectionClosed):
        me.wire.receive()


def test_a_hanging_transaction_is_found_and_aborted() -> None:
    """One that no coordinator knows of (KIP-664)."""
    off = {"transaction.partition.verification.enable": "false"}
    with ThreadedBroker({"t": 1}, off) as broker, Producer(broker.bootstrap, "tid") as me:
        wire = me.begin().wire
        assert me.send("t", b"hangs", version=11) == Row(0, 0, 0)
        me.become(-1, -1)
        plain = me.request({("t", 0): [b"behind"]}, 9, sequence=-1, transactional=False)
        plain.transactional_id = None
        assert rows_of(wire.call(plain, 9)) == [Row(0, 1, 0)]
        assert read(wire, "t") == []
        described = wire.call(DescribeProducersRequest([TopicRequest("t", [0])]), 0)
        (found,) = described.topics[0].partitions[0].active_producers
        assert (found.current_txn_start_offset, found.coordinator_epoch) == (0, -1)
        filters = ListTransactionsRequest(["Ongoing"], [found.producer_id])
        assert wire.call(filters, 1).transaction_states == []
        marker = WritableTxnMarker(
            found.producer_id,
            found.producer_epoch,
            False,
            [WritableTxnMarkerTopic("t", [0])],
            max(found.coordinator_epoch, 0),
        )
        answer = wire.call(WriteTxnMarkersRequest([marker]), 1)
        assert answer.markers[0].topics[0].partitions[0].error_code == 0
        assert read(wire, "t") == [b"behind"]
        described = wire.call(DescribeProducersRequest([TopicRequest("t", [0])]), 0)
        (found,) = described.topics[0].partitions[0].active_producers
        assert (found.current_txn_start_offset, found.coordinator_epoch) == (-1, 0)


def test_offsets_begin_the_next_transaction(
    producer: Callable[..., Producer], reader: Wire, topic: str
) -> None:
    """Sent at once, without AddOffsetsToTxn (KIP-890): each waits for the markers before it."""
    me = producer()
    while reader.call(FindCoordinatorRequest(key="g", key_type=0), 1).error_code:
        pass

    def commit(offset: int) -> TxnOffsetCommitRequest:
        row = TxnOffsetCommitRequestPartition(0, offset)
        rows = [TxnOffsetCommitRequestTopic(topic, partitions=[row])]
        return TxnOffsetCommitRequest(me.tid, "g", *me.me, topics=rows)

    for number in range(20):
        me.wire.send(commit(number), 5)
        me.wire.send(EndTxnRequest(me.tid, *me.me, number != 19), 5)
        me.become(me.producer_id, me.epoch + 1)
    for _ in range(20):
        answer = me.wire.receive()
        assert [p.error_code for t in answer.topics for p in t.partitions] == [0]
        assert me.wire.receive().error_code == 0
    me.settle()
    asked = OffsetFetchRequest(group_id="g", topics=[OffsetFetchRequestTopic(topic, [0])])
    (found,) = reader.call(asked, 5).topics[0].partitions
    assert (found.error_code, found.committed_offset) == (0, 18)
