"""The handlers of transactions over a real coordinator: versions, codes, what is written."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.cluster.view import OFFSETS_TOPIC, TRANSACTIONS_TOPIC
from broker.transactions.state import State
from protocol.errors import ErrorCode
from protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from protocol.messages.describe_producers import DescribeProducersRequest, TopicRequest
from protocol.messages.describe_transactions import DescribeTransactionsRequest
from protocol.messages.list_transactions import ListTransactionsRequest
from tests.broker.transactions.part import TID, Part
from tests.kit.hosted import OTHER

COMMITTED, ABORTED = ("commit", 0), ("abort", 0)


@pytest.fixture
async def part() -> AsyncIterator[Part]:
    made = await Part().start("a", "b")
    yield made
    await made.stop()


# --- a whole transaction


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("version", range(5))
async def test_a_transaction_in_one_epoch(part: Part, version: int, commit: bool) -> None:
    me = await part.begin(version=version)
    added = await part.add(me, {"a": [0, 2], "b": [1]}, min(version, 3))
    assert added == {("a", 0): 0, ("a", 2): 0, ("b", 1): 0}
    assert part.state() == State.ONGOING
    assert await part.end(me, commit, version) == (0, -1, -1)
    await part.quiet()
    marker = (0, COMMITTED if commit else ABORTED)
    assert [part.log("a", index) for index in range(3)] == [[marker], [], [marker]]
    assert part.log("b", 1) == [marker]
    assert part.state() == (State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT)
    assert await part.end(me, commit, version) == (0, -1, -1)
    assert await part.end(me, not commit, version) == (48, -1, -1)
    assert len(part.log(TRANSACTIONS_TOPIC)) == 4


@pytest.mark.parametrize("commit", [True, False])
async def test_a_transaction_with_its_own_epoch(part: Part, commit: bool) -> None:
    me = await part.begin()
    assert await part.add(me, {"a": [0]}, 5) == {("a", 0): 0}
    assert await part.end(me, commit, 5) == (0, 1, 1)
    await part.quiet()
    assert part.log("a") == [(1, COMMITTED if commit else ABORTED)]
    assert await part.end(me, commit, 5) == (0, 1, 1)
    assert await part.end(me, not commit, 5) == (48, -1, -1)
    assert await part.end((1, 1), False, 5) == (0, 1, 2)
    await part.quiet()
    assert len(part.log("a")) == 1, "nothing was added"


@pytest.mark.parametrize("version", range(5))
async def test_offsets_join(part: Part, version: int) -> None:
    part.host(OFFSETS_TOPIC)
    me = await part.begin()
    assert await part.add_offsets(me, version=version) == 0
    assert await part.add_offsets(me, version=version) == 0
    assert await part.end(me, version=version if version < 5 else 4) == (0, -1, -1)
    await part.quiet()
    assert part.log(OFFSETS_TOPIC) == [(0, COMMITTED)]
    assert part.state() == State.COMPLETE_COMMIT


async def test_offsets_join_before_their_topic_is_there(part: Part) -> None:
    me = await part.begin()
    assert await part.add_offsets(me) == 0
    machine: Any = part.node.transactions.find(TID)
    # "g" is 103, of the 50 partitions that there will be.
    assert machine.transactions[TID].partitions == {(OFFSETS_TOPIC, 3)}
    assert (await part.end(me))[0] == 0
    await part.quiet()
    assert part.state() == State.COMPLETE_COMMIT


# --- refusals


@pytest.mark.parametrize("version", range(6))
async def test_a_producer_that_was_fenced(part: Part, version: int) -> None:
    old = await part.begin()
    await part.begin()
    code = 47 if version < 2 else 90
    assert await part.add(old, {"a": [0]}, version) == {("a", 0): code}
    assert await part.end(old, version=version) == (code, -1, -1)
    if version < 5:
        assert await part.add_offsets(old, version=version) == code
    if version >= 3:
        init = await part.init(version, expected=(1, 7))
        assert init == (47 if version < 4 else 90, -1, -1)


@pytest.mark.parametrize("version", range(6))
async def test_who_does_not_own_the_id(part: Part, version: int) -> None:
    producer_id, epoch = await part.begin()
    for tid, producer, code in (
        (TID, (producer_id + 1, epoch), 49),
        ("unknown", (producer_id, epoch), 49),
        ("", (producer_id, epoch), 42),
    ):
        assert await part.add(producer, {"a": [0]}, version, tid=tid) == {("a", 0): code}
        assert await part.end(producer, version=version, tid=tid) == (code, -1, -1)
        if version < 5:
            assert await part.add_offsets(producer, version=version, tid=tid) == code
    assert part.state() == State.EMPTY


@pytest.mark.parametrize("version", range(6))
async def test_nothing_to_end(part: Part, version: int) -> None:
    me = await part.begin()
    assert (await part.end(me, version=version))[0] == 48


@pytest.mark.parametrize("version", range(6))
async def test_an_unknown_partition_keeps_the_others_out(part: Part, version: int) -> None:
    me = await part.begin()
    assert await part.add(me, {"a": [0, 9], "nope": [0]}, version) == {
        ("a", 0): 55,
        ("a", 9): 3,
        ("nope", 0): 3,
    }
    assert part.state() == State.EMPTY


@pytest.mark.parametrize("version", range(6))
async def test_the_brokers_own_topics(part: Part, version: int) -> None:
    """Clients may not add them; brokers (version 4 and up) may."""
    part.host(OFFSETS_TOPIC)
    me = await part.begin()
    codes = await part.add(me, {"a": [0], OFFSETS_TOPIC: [0]}, version)
    if version < 4:
        assert codes == {("a", 0): 55, (OFFSETS_TOPIC, 0): 29}
        assert part.state() == State.EMPTY
    else:
        assert codes == {("a", 0): 0, (OFFSETS_TOPIC, 0): 0}


@pytest.mark.parametrize("epoch", [0, 7])
async def test_where_one_code_goes_for_all_the_rows_are_the_request_s(
    part: Part, epoch: int
) -> None:
    producer_id, _ = await part.begin()
    topics = [("a", [1, 1]), ("b", []), ("a", [1])]
    named = [AddPartitionsToTxnTopic(name, some) for name, some in topics]
    one = AddPartitionsToTxnTransaction(TID, producer_id, epoch, False, named)
    (result,) = (await part.ask(5, AddPartitionsToTxnRequest([one]))).results_by_transaction
    rows = [
        (row.name, [p.partition_index for p in row.results_by_partition])
        for row in result.topic_results
    ]
    assert rows == topics
    codes = {
        p.partition_error_code for row in result.topic_results for p in row.results_by_partition
    }
    assert codes == {ErrorCode.NONE if epoch == 0 else ErrorCode.PRODUCER_FENCED}


@pytest.mark.parametrize("version", range(6))
async def test_a_refusal_tells_once_what_is_named_twice(part: Part, version: int) -> None:
    me = await part.begin()
    topics = [AddPartitionsToTxnTopic("a", [1, 9, 1, 9])]
    if version >= 4:
        request = AddPartitionsToTxnRequest(
            [AddPartitionsToTxnTransaction(TID, *me, False, topics)]
        )
        (row,) = (await part.ask(version, request)).results_by_transaction[0].topic_results
    else:
        request = AddPartitionsToTxnRequest([], TID, *me, topics)
        (row,) = (await part.ask(version, request)).results_by_topic_v3_and_below
    rows = [(p.partition_index, p.partition_error_code) for p in row.results_by_partition]
    assert rows == [(1, 55), (9, 3)]


async def test_a_verification_tells_once_what_is_named_twice(part: Part) -> None:
    me = await part.begin()
    topics = [AddPartitionsToTxnTopic("a", [1, 1])]
    request = AddPartitionsToTxnRequest([AddPartitionsToTxnTransaction(TID, *me, True, topics)])
    (row,) = (await part.ask(5, request)).results_by_transaction[0].topic_results
    assert [p.partition_index for p in row.results_by_partition] == [1]


async def test_while_the_transaction_ends(part: Part) -> None:
    part.host("c", isr=(0, OTHER))  # its marker is not replicated
    me = await part.begin()
    await part.add(me, {"a": [0], "c": [0]})
    assert (await part.end(me))[0] == 0
    await part.quiet()
    assert part.state() == State.PREPARE_COMMIT
    for version in range(6):
        assert (await part.init(version))[0] == 51
        assert await part.add(me, {"a": [0]}, version) == {("a", 0): 51}
        for commit in (True, False):
            assert (await part.end(me, commit, version))[0] == 51
        if version < 5:
            assert await part.add_offsets(me, version=version) == 51
    assert await part.add(me, {"a": [0]}, 5, verify=True) == {("a", 0): 51}
    described = await part.ask(0, DescribeTransactionsRequest([TID]))
    (state,) = described.transaction_states
    assert (state.transaction_state, len(state.topics)) == ("PrepareCommit", 2)
    log = part.partition("c").log
    assert log is not None
    log.advance_high_watermark(log.end_offset)
    part.partition("c").notify()
    await part.quiet()
    assert part.state() == State.COMPLETE_COMMIT


async def test_another_producer_ends_the_transaction_first(part: Part) -> None:
    me = await part.begin()
    await part.add(me, {"a": [1]})
    for version in (2, 5):
        assert (await part.init(version))[0] == 51
        await part.quiet()
        assert part.log("a", 1)[-1][1] == ABORTED
        await part.add(await part.begin(version=version), {"a": [1]})
    # A fence and a producer each time, told or not: 0, fence 1, 2, fence 3, 4.
    assert [epoch for epoch, _ in part.log("a", 1)] == [1, 3]
    assert (await part.end(me))[0] == 90


@pytest.mark.parametrize("version", [4, 5])
async def test_several_transactions_in_one_request(part: Part, version: int) -> None:
    me, you = await part.begin(), await part.begin("u")
    await part.add(me, {"a": [0]})

    def one(tid: str, producer: tuple[int, int], verify: bool, **topics: list[int]) -> Any:
        rows = [AddPartitionsToTxnTopic(name, indexes) for name, indexes in topics.items()]
        return AddPartitionsToTxnTransaction(tid, *producer, verify, rows)

    request = AddPartitionsToTxnRequest(
        [
            one(TID, me, True, a=[0, 1]),
            one("u", you, False, a=[1], b=[0, 0]),
            one("nobody", you, False, a=[1]),
            one("u", you, True, nope=[1], a=[1]),
            one("", you, True, a=[1]),
            one("u", you, True, b=[0], a=[2]),
        ]
    )
    answer = await part.ask(version, request)
    assert [
        (
            result.transactional_id,
            {
                (topic.name, row.partition_index): row.partition_error_code
                for topic in result.topic_results
                for row in topic.results_by_partition
            },
        )
        for result in answer.results_by_transaction
    ] == [
        (TID, {("a", 0): 0, ("a", 1): 120}),
        ("u", {("a", 1): 0, ("b", 0): 0}),
        ("nobody", {("a", 1): 49}),
        ("u", {("nope", 1): 3, ("a", 1): 55}),
        ("", {("a", 1): 42}),
        ("u", {("b", 0): 0, ("a", 2): 120}),
    ]


# --- who coordinates


async def test_somebody_else_coordinates() -> None:
    part = Part()
    part.host(TRANSACTIONS_TOPIC, leader=OTHER)
    part.host("a")
    await part.node.producer_ids.start()
    for version in range(6):
        assert await part.init(version) == (16, -1, -1)
        assert await part.add((1, 0), {"a": [0]}, version) == {("a", 0): 16}
        assert await part.end((1, 0), version=version) == (16, -1, -1)
    assert await part.add((1, 0), {"a": [0]}, 5, verify=True) == {("a", 0): 16}
    assert await part.add_offsets((1, 0)) == 16
    answer = await part.ask(0, DescribeTransactionsRequest([TID]))
    assert [state.error_code for state in answer.transaction_states] == [16]
    await part.stop()


async def test_a_coordinator_that_is_loading() -> None:
    part = await Part().start("a")
    me = await part.begin()
    part.come_back(TRANSACTIONS_TOPIC)
    assert part.node.transactions.loading
    assert await part.init() == (14, -1, -1)
    assert await part.add(me, {"a": [0]}) == {("a", 0): 14}
    assert await part.end(me) == (14, -1, -1)
    listed = await part.ask(2, ListTransactionsRequest())
    assert (listed.error_code, listed.transaction_states) == (14, [])
    answer = await part.ask(0, DescribeTransactionsRequest([TID]))
    assert [state.error_code for state in answer.transaction_states] == [14]
    await part.quiet()
    assert await part.add(me, {"a": [0]}) == {("a", 0): 0}
    await part.stop()


async def test_a_producer_waits_for_a_block_of_ids() -> None:
    part = Part()
    part.host(TRANSACTIONS_TOPIC)
    assert part.node.producer_ids.left == 0
    assert await part.init() == (0, 1, 0)
    await part.node.producer_ids.stop()
    assert await part.init(tid="u") == (14, -1, -1)
    await part.stop()


# --- looking at transactions


async def test_described(part: Part) -> None:
    me = await part.begin(timeout=1234)
    part.clock.ms += 5
    await part.add(me, {"b": [2, 0], "a": [1]})
    answer = await part.ask(0, DescribeTransactionsRequest([TID, "", "unknown"]))
    known, empty, unknown = answer.transaction_states
    assert (known.error_code, known.transaction_state) == (0, "Ongoing")
    assert (known.producer_id, known.producer_epoch) == me
    assert (known.transaction_timeout_ms, known.transaction_start_time_ms) == (
        1234,
        part.clock.now_ms(),
    )
    assert [(t.topic, t.partitions) for t in known.topics] == [("a", [1]), ("b", [0, 2])]
    assert (empty.error_code, empty.transactional_id) == (42, "")
    assert (unknown.error_code, unknown.transactional_id) == (105, "unknown")
    await part.end(me)
    await part.quiet()
    (done,) = (await part.ask(0, DescribeTransactionsRequest([TID]))).transaction_states
    assert (done.transaction_state, done.topics) == ("CompleteCommit", [])


async def test_listed(part: Part) -> None:
    me, you, them = [await part.begin(tid) for tid in ("me", "you", "them")]
    await part.add(me, {"a": [0]}, tid="me")
    part.clock.ms += 10
    await part.add(you, {"a": [0]}, tid="you")
    part.clock.ms += 5

    async def listed(version: int = 2, **filters: Any) -> list[tuple[str, int, str]]:
        answer = await part.ask(version, ListTransactionsRequest(**filters))
        assert answer.error_code == 0
        return [
            (one.transactional_id, one.producer_id, one.transaction_state)
            for one in answer.transaction_states
        ]

    everybody = [
        ("me", me[0], "Ongoing"),
        ("them", them[0], "Empty"),
        ("you", you[0], "Ongoing"),
    ]
    mine, theirs, yours = [[one] for one in everybody]
    for version in range(3):
        assert await listed(version) == everybody
        assert await listed(version, state_filters=["Empty", "Dead"]) == theirs
        assert await listed(version, producer_id_filters=[you[0], 99]) == yours
        assert await listed(version, state_filters=["Empty"], producer_id_filters=[me[0]]) == []
    for version in (1, 2):
        assert await listed(version, duration_filter=14) == mine + theirs
        assert await listed(version, duration_filter=15) == theirs
        assert await listed(version, duration_filter=4) == everybody
        assert await listed(version, duration_filter=-3) == everybody
    assert await listed(transactional_id_pattern="m.*") == mine
    assert await listed(transactional_id_pattern=".*e.*") == mine + theirs
    assert await listed(transactional_id_pattern="e") == []
    assert await listed(transactional_id_pattern="") == everybody


@pytest.mark.parametrize("version", range(3))
async def test_states_that_nobody_knows_are_told_back(part: Part, version: int) -> None:
    await part.begin()
    filters = ["Nope", "empty", "PrepareEpochFence", ""]
    answer = await part.ask(version, ListTransactionsRequest(state_filters=filters))
    assert answer.unknown_state_filters == ["Nope", "empty", ""]
    assert answer.transaction_states == []


@pytest.mark.parametrize("pattern", ["[", "(", "*", r"(a)\1", "(?=a)a", "(?<!a)b"])
async def test_a_pattern_that_is_none(part: Part, pattern: str) -> None:
    answer = await part.ask(2, ListTransactionsRequest(transactional_id_pattern=pattern))
    assert (answer.error_code, answer.transaction_states) == (128, [])


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        ("orders.*", ["orders-1", "orders:2"]),
        (r"orders\W\d", ["orders-1", "orders:2"]),
        ("orders[:]2", ["orders:2"]),
        (r"\Qorders-1\E", ["orders-1"]),
        ("[[:alpha:]]+-1", ["orders-1"]),
        ("(o+)+rders-1", ["orders-1"]),
    ],
)
async def test_patterns(part: Part, pattern: str, ids: list[str]) -> None:
    for tid in ("orders-1", "orders:2", "other"):
        await part.begin(tid)
    answer = await part.ask(2, ListTransactionsRequest(transactional_id_pattern=pattern))
    assert [one.transactional_id for one in answer.transaction_states] == ids


async def test_producers_tell_of_their_transaction(part: Part) -> None:
    me = await part.begin()
    await part.add(me, {"a": [0]})

    async def told() -> list[tuple[int, int, int, int, int]]:
        answer = await part.ask(0, DescribeProducersRequest([TopicRequest("a", [0])]))
        (row,) = answer.topics[0].partitions
        return [
            (
                one.producer_id,
                one.producer_epoch,
                one.last_sequence,
                one.coordinator_epoch,
                one.current_txn_start_offset,
            )
            for one in row.active_producers
        ]

    part.append("a", [1, 2])
    for sequence in (0, 3):
        part.append(
            "a",
            [1, 2, 3],
            producer_id=me[0],
            producer_epoch=me[1],
            base_sequence=sequence,
            transactional=True,
        )
    assert await told() == [(*me, 5, -1, 2)]
    part.come_back(TRANSACTIONS_TOPIC, leader_epoch=4)
    await part.quiet()
    assert (await part.end(me))[0] == 0
    await part.quiet()
    assert await told() == [(*me, 5, 4, -1)]
    me = await part.begin()
    await part.add(me, {"a": [0]})
    assert (await part.init())[0] == 51
    await part.quiet()
    assert await told() == [(me[0], me[1] + 1, -1, 4, -1)]
