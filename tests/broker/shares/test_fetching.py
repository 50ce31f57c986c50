"""ShareFetch and ShareAcknowledge through their handlers: sessions, waiting, locks, refusals."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.cluster.features import FeatureCache, FinalizedFeatures
from broker.cluster.view import SHARE_STATE_TOPIC
from protocol.batch import build_end_txn_marker
from protocol.errors import ErrorCode
from tests.broker.groups.node import GroupNode
from tests.broker.shares.node import ACCEPT, GROUP, REJECT, RELEASE, RENEW, ShareNode, topic_id
from tests.kit.hosted import OTHER

T0, T1, U0 = ("t", 0), ("t", 1), ("u", 0)
A, B = "member-a", "member-b"
NOTHING: dict[Any, Any] = {}


@pytest.fixture
async def part() -> AsyncIterator[ShareNode]:
    made = await ShareNode().start()
    yield made
    await made.stop()


async def codes(answer: Any) -> dict[tuple[str, int], int]:
    return {
        (topic.topic_id.lstrip(b".").decode(), row.partition_index): row.error_code
        for topic in answer.responses
        for row in topic.partitions
    }


async def opened(part: ShareNode, member: str = A, *places: tuple[str, int]) -> None:
    """A session whose partitions are led here by now."""
    answer = await part.fetch(member, 0, places or (T0,), max_wait_ms=50).whole()
    assert answer.error_code == 0


async def test_records_are_acquired_and_acknowledged(part: ShareNode) -> None:
    part.append("t", [1, 2, 3])
    await part.ready(A, B)
    call = part.fetch(A, 0, [T0], max_wait_ms=5000)
    assert await call.acquired() == {T0: [(0, 2, 1)]}
    (topic,) = (await call.whole()).responses
    assert len(topic.partitions[0].records) > 0
    assert (await call.whole()).acquisition_lock_timeout_ms == 30_000
    # Others get none of them.
    await opened(part, B)
    assert await part.fetch(B, 1).acquired() == NOTHING
    answer = await part.acknowledge(A, 1, {T0: [(0, 0, [ACCEPT]), (1, 2, [RELEASE])]})
    assert await codes(answer) == {T0: 0}
    assert await part.fetch(B, 2).acquired() == {T0: [(1, 2, 2)]}
    # Said along with the next fetch.
    part.append("t", [4])
    call = part.fetch(B, 3, acks={T0: [(1, 2, [ACCEPT, REJECT])]})
    assert await call.acquired() == {T0: [(3, 3, 1)]}
    state = part.node.share_states.find(str(next(iter(part.node.shares._led))))
    assert not isinstance(state, ErrorCode)
    (known,) = (one for key, one in state.states.items() if key.partition == 0)
    assert (known.start_offset, known.complete_count) == (1, 2)


async def test_a_fetch_waits_for_records(part: ShareNode) -> None:
    await part.ready(A, B)
    await opened(part, A)
    call = part.fetch(A, 1, max_wait_ms=5000)
    await asyncio.sleep(0)
    assert not call.answered
    part.append("t", [1])
    assert await call.acquired() == {T0: [(0, 0, 1)]}
    # For records of others as well: released, or after their time.
    await opened(part, B)
    call = part.fetch(B, 1, max_wait_ms=5000)
    await part.acknowledge(A, 2, {T0: [(0, 0, [RELEASE])]})
    assert await call.acquired() == {T0: [(0, 0, 2)]}
    call = part.fetch(A, 3, max_wait_ms=5000)
    part.pass_time(29_999)
    await asyncio.sleep(0)
    assert not call.answered
    part.pass_time(1)
    assert await call.acquired() == {T0: [(0, 0, 3)]}


async def test_a_fetch_gives_up_waiting(part: ShareNode) -> None:
    await part.ready(A)
    answer = await part.fetch(A, 0, [T0, T1], max_wait_ms=50).whole()
    rows = [row for topic in answer.responses for row in topic.partitions]
    assert [(row.error_code, row.records, row.acquired_records) for row in rows] == [
        (0, b"", []),
        (0, b"", []),
    ]
    # Later answers name only what is new.
    call = part.fetch(A, 1, max_wait_ms=10)
    assert call.waits
    assert (await call.whole()).responses == []
    # The client is gone: nobody is answered.
    call = part.fetch(A, 2, max_wait_ms=5000)
    call.call.cancel()
    part.append("t", [1])
    await asyncio.sleep(0)
    assert not call.answered
    assert await part.fetch(A, 3).acquired() == {T0: [(0, 0, 1)]}


async def test_enough_bytes(part: ShareNode) -> None:
    await part.ready(A)
    part.append("t", [1])
    await opened(part)
    await part.acknowledge(A, 1, {T0: [(0, 0, [RELEASE])]})
    call = part.fetch(A, 2, max_wait_ms=5000, min_bytes=100)
    await asyncio.sleep(0)
    assert not call.answered
    part.append("t", [2, 3])
    assert await call.acquired() == {T0: [(0, 0, 2), (1, 2, 1)]}


async def test_acknowledgements_are_told_along_with_what_is_waited_for(part: ShareNode) -> None:
    await part.ready(A)
    part.append("t", [1, 2])
    await opened(part)
    call = part.fetch(A, 1, acks={T0: [(0, 0, [ACCEPT]), (5, 5, [ACCEPT])]}, max_wait_ms=20)
    answer = await call.whole()
    ((row,),) = ([*topic.partitions] for topic in answer.responses)
    assert (row.error_code, row.acknowledge_error_code) == (0, ErrorCode.INVALID_REQUEST)
    assert row.acknowledge_error_message
    # None of it has happened.
    await part.acknowledge(A, 2, {T0: [(0, 1, [ACCEPT])]})


async def test_locks_are_renewed(part: ShareNode) -> None:
    part.set(share_record_lock_duration_ms="20000")
    part.append("t", [1, 2, 3])
    await part.ready(A)
    answer = await part.fetch(A, 0, [T0], max_wait_ms=5000).whole()
    assert answer.acquisition_lock_timeout_ms == 20_000
    part.pass_time(15_000)
    answer = await part.acknowledge(A, 1, {T0: [(0, 1, [RENEW])]}, is_renew_ack=True)
    assert (await codes(answer), answer.acquisition_lock_timeout_ms) == ({T0: 0}, 20_000)
    part.pass_time(5_000)
    # A fetch can do it too, and brings no records then.
    plain = {"max_bytes": 0, "min_bytes": 0, "max_records": 0, "is_renew_ack": True}
    answer = await part.fetch(A, 2, acks={T0: [(0, 0, [RENEW])]}, **plain).whole()
    ((row,),) = ([*topic.partitions] for topic in answer.responses)
    assert (row.error_code, row.acknowledge_error_code, row.records) == (0, 0, b"")
    assert await part.fetch(A, 3).acquired() == {T0: [(2, 2, 2)]}
    part.pass_time(15_000)
    assert await part.fetch(A, 4).acquired() == {T0: [(1, 1, 2)]}
    part.set(share_renew_acknowledge_enable="false")
    answer = await part.acknowledge(A, 5, {T0: [(1, 1, [RENEW])]}, is_renew_ack=True)
    assert await codes(answer) == {T0: ErrorCode.INVALID_RECORD_STATE}


async def test_a_session_that_ends_gives_its_records_back(part: ShareNode) -> None:
    part.append("t", [1, 2, 3])
    await part.ready(A, B)
    await opened(part, A)
    await opened(part, B)
    call = part.fetch(B, 1, max_wait_ms=5000)
    # Closed with an acknowledgement.
    answer = await part.fetch(A, -1, acks={T0: [(0, 0, [ACCEPT])]}).whole()
    assert answer.error_code == 0
    assert await call.acquired() == {T0: [(1, 2, 2)]}
    assert (await part.fetch(A, 1).whole()).error_code == ErrorCode.SHARE_SESSION_NOT_FOUND
    # And with its connection.
    await opened(part, A)
    call = part.fetch(A, 1, max_wait_ms=5000)
    part.hang_up(B)
    assert await call.acquired() == {T0: [(1, 2, 3)]}
    assert part.node.shares.sessions.get((GROUP, B)) is None
    answer = await part.acknowledge(A, -1, {T0: [(1, 2, [REJECT])]})
    assert await codes(answer) == {T0: 0}
    assert not part.node.shares.sessions.has_members(GROUP)
    part.hang_up(A)
    assert part.node.shares._led == {}


async def test_another_connection_takes_the_session_over(part: ShareNode) -> None:
    part.append("t", [1])
    await part.ready(A)
    await opened(part)
    old = part.connections.pop(A)
    assert await part.fetch(A, 0, [T0], max_wait_ms=50).acquired() == NOTHING
    for act in (old.closing or {}).values():
        act()
    # Its session is the new connection's by now; the record still is its own.
    assert (await codes(await part.acknowledge(A, 1, {T0: [(0, 0, [ACCEPT])]}))) == {T0: 0}


async def test_records_of_several_partitions(part: ShareNode) -> None:
    for index in (0, 1):
        part.append("t", [1, 2, 3], index)
    part.append("u", [1], 0)
    await part.ready(A, topics=("t", "u"))
    first = await part.fetch(A, 0, [T0, T1, U0], max_wait_ms=5000, max_records=3).acquired()
    assert sum(last - at + 1 for ((at, last, _),) in first.values()) == 3
    second = await part.fetch(A, 1, max_records=500).acquired()
    assert first.keys() | second.keys() == {T0, T1, U0}
    assert not first.keys() & second.keys()


async def test_forgotten_partitions_bring_nothing(part: ShareNode) -> None:
    from protocol.messages.share_fetch import ForgottenTopic

    await part.ready(A)
    await opened(part, A, T0, T1)
    part.append("t", [1], 0)
    part.append("t", [1], 1)
    forgotten = [ForgottenTopic(topic_id("t"), [0])]
    call = part.fetch(A, 1, forgotten_topics_data=forgotten)
    assert await call.acquired() == {T1: [(0, 0, 1)]}


async def test_the_answer_to_an_older_request_of_the_session(part: ShareNode) -> None:
    await part.ready(A)
    await opened(part)
    first = part.fetch(A, 1, max_wait_ms=5000)
    second = part.fetch(A, 2, max_wait_ms=20)
    part.append("t", [1])
    answers = [await first.whole(), await second.whole()]
    assert answers[0].error_code == ErrorCode.INVALID_SHARE_SESSION_EPOCH
    assert answers[0].responses == []
    assert answers[1].error_code == 0


# --- limits


async def test_too_many_sessions() -> None:
    part = await ShareNode({"group.share.max.share.sessions": "1"}).start()
    try:
        await part.ready(A)
        await opened(part)
        call = part.fetch(B, 0, [T0], max_wait_ms=10)
        assert call.waits  # so that it does not ask again at once
        answer = await call.whole()
        assert answer.error_code == ErrorCode.SHARE_SESSION_LIMIT_REACHED
        part.hang_up(A)
        await opened(part, B)
    finally:
        await part.stop()


async def test_deliveries_are_limited(part: ShareNode) -> None:
    part.set(share_delivery_count_limit="2")
    part.append("t", [1])
    await part.ready(A)
    await opened(part)
    await part.acknowledge(A, 1, {T0: [(0, 0, [RELEASE])]})
    assert await part.fetch(A, 2).acquired() == {T0: [(0, 0, 2)]}
    await part.acknowledge(A, 3, {T0: [(0, 0, [RELEASE])]})
    assert await part.fetch(A, 4, max_wait_ms=10).acquired() == NOTHING


# --- where a group begins


async def test_a_group_begins_at_the_end(part: ShareNode) -> None:
    part.set(share_auto_offset_reset="latest")
    part.append("t", [1, 2])
    await part.ready(A)
    await opened(part)
    part.append("t", [3])
    assert await part.fetch(A, 1).acquired() == {T0: [(2, 2, 1)]}


async def test_a_group_begins_some_time_ago(part: ShareNode) -> None:
    now = part.clock.now_ms()
    part.set(share_auto_offset_reset="by_duration:PT1H")
    part.append("t", [now - 7_200_000])
    part.append("t", [now - 1_800_000])
    await part.ready(A)
    assert await part.fetch(A, 0, [T0], max_wait_ms=5000).acquired() == {T0: [(1, 1, 1)]}
    answer = await part.fetch(A, 0, [T1], max_wait_ms=30).whole()
    assert await codes(answer) == {T1: ErrorCode.OFFSET_NOT_AVAILABLE}


async def test_only_committed_records(part: ShareNode) -> None:
    part.set(share_isolation_level="read_committed")
    part.append("t", [1, 2])
    part.append("t", [3, 4], producer_id=9, producer_epoch=0, base_sequence=0, transactional=True)
    await part.ready(A)
    assert await part.fetch(A, 0, [T0], max_wait_ms=5000).acquired() == {T0: [(0, 1, 1)]}
    part.set()
    assert await part.fetch(A, 1).acquired() == {T0: [(2, 3, 1)]}


async def test_records_of_transactions_that_were_given_up(part: ShareNode) -> None:
    part.set(share_isolation_level="read_committed")
    for number, committed in enumerate((True, False, True)):
        part.append(
            "t",
            [1, 2],
            producer_id=9,
            producer_epoch=0,
            base_sequence=2 * number,
            transactional=True,
        )
        marker = build_end_txn_marker(
            producer_id=9, producer_epoch=0, committed=committed, timestamp=3
        )
        part.append_batch("t", marker, origin="coordinator")
    await part.ready(A)
    # The markers are offsets too, of which members say that there is nothing.
    assert await part.fetch(A, 0, [T0], max_wait_ms=5000).acquired() == {T0: [(0, 2, 1), (5, 8, 1)]}
    await part.acknowledge(A, 1, {T0: [(0, 2, [ACCEPT, ACCEPT, 0]), (5, 8, [0, 1, 1, 0])]})
    assert await part.fetch(A, 2, max_wait_ms=10).acquired() == NOTHING


# --- refusals


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"group_id": None}, ErrorCode.INVALID_REQUEST),
        ({"member_id": None}, ErrorCode.INVALID_REQUEST),
        ({"member_id": ""}, ErrorCode.INVALID_REQUEST),
        ({"member_id": "x" * 37}, ErrorCode.INVALID_REQUEST),
        ({"is_renew_ack": True}, ErrorCode.INVALID_REQUEST),
        ({"share_session_epoch": 1}, ErrorCode.SHARE_SESSION_NOT_FOUND),
        ({"share_session_epoch": -1}, ErrorCode.SHARE_SESSION_NOT_FOUND),
        ({"share_acquire_mode": 7}, ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
async def test_requests_that_are_refused(
    part: ShareNode, fields: dict[str, Any], code: ErrorCode
) -> None:
    answer = await part.fetch(A, 0, [T0], **fields).whole()
    assert (answer.error_code, answer.responses) == (code, [])
    if "share_acquire_mode" in fields or fields == {"is_renew_ack": True}:
        return
    fields = {"share_session_epoch": 1} | fields
    epoch = fields.pop("share_session_epoch")
    told = await part.acknowledge(A, epoch, {T0: [(0, 0, [ACCEPT])]}, **fields)
    assert (told.error_code, told.responses) == (code, [])


async def test_epochs_of_sessions(part: ShareNode) -> None:
    await part.ready(A)
    await opened(part)
    for epoch in (2, 9):
        answer = await part.fetch(A, epoch).whole()
        assert answer.error_code == ErrorCode.INVALID_SHARE_SESSION_EPOCH
        told = await part.acknowledge(A, epoch, {})
        assert told.error_code == ErrorCode.INVALID_SHARE_SESSION_EPOCH
    told = await part.acknowledge(A, 0, {})
    assert told.error_code == ErrorCode.INVALID_SHARE_SESSION_EPOCH
    # A request that opens a session has nothing to acknowledge, and asks for nothing twice.
    answer = await part.fetch(A, 0, [T0], {T0: [(0, 0, [ACCEPT])]}).whole()
    assert answer.error_code == ErrorCode.INVALID_REQUEST


async def test_partitions_that_are_refused(part: ShareNode) -> None:
    await part.ready(A)
    places = [("nowhere", 0), ("t", 7), U0, T0]
    answer = await part.fetch(A, 0, places, max_wait_ms=10).whole()
    assert await codes(answer) == {
        ("nowhere", 0): ErrorCode.UNKNOWN_TOPIC_ID,
        ("t", 7): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        U0: ErrorCode.UNKNOWN_SERVER_ERROR,  # has no state in this group
        T0: 0,
    }
    answer = await part.fetch(A, 1, max_bytes=-1).whole()
    assert (await codes(answer))[T0] == ErrorCode.UNKNOWN_SERVER_ERROR
    answer = await part.fetch(A, 0, [T0], group_id="", max_wait_ms=10).whole()
    assert await codes(answer) == {T0: ErrorCode.UNKNOWN_SERVER_ERROR}


@pytest.mark.parametrize("fields", [{"max_records": 0}, {"max_bytes": 0}])
async def test_nothing_is_asked_for(part: ShareNode, fields: dict[str, int]) -> None:
    part.append("t", [1])
    await part.ready(A)
    await opened(part, B, T1)
    call = part.fetch(A, 0, [T0], max_wait_ms=5000, **fields)
    assert not call.waits
    assert (await call.whole()).responses == []


@pytest.mark.parametrize(
    ("place", "acks", "code"),
    [
        (("nowhere", 0), [(0, 0, [ACCEPT])], ErrorCode.UNKNOWN_TOPIC_ID),
        (("t", 7), [(0, 0, [ACCEPT])], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (T1, [(0, 0, [ACCEPT])], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),  # no session has it
        (T0, [(1, 0, [ACCEPT])], ErrorCode.INVALID_REQUEST),
        (T0, [(1, 1, [ACCEPT]), (0, 0, [ACCEPT])], ErrorCode.INVALID_REQUEST),
        (T0, [(0, 1, [ACCEPT, ACCEPT, ACCEPT])], ErrorCode.INVALID_REQUEST),
        (T0, [(0, 0, [])], ErrorCode.INVALID_REQUEST),
        (T0, [(0, 0, [5])], ErrorCode.INVALID_REQUEST),
        (T0, [(0, 0, [-1])], ErrorCode.INVALID_REQUEST),
        (T0, [(0, 0, [RENEW])], ErrorCode.INVALID_REQUEST),
        (T0, [(3, 3, [ACCEPT])], ErrorCode.INVALID_REQUEST),
    ],
)
async def test_acknowledgements_that_are_refused(
    part: ShareNode, place: tuple[str, int], acks: Any, code: ErrorCode
) -> None:
    part.append("t", [1, 2, 3])
    await part.ready(A)
    await opened(part)
    assert await codes(await part.acknowledge(A, 1, {place: acks})) == {place: code}
    assert await codes(await part.acknowledge(A, 2, {T0: [(0, 2, [ACCEPT])]})) == {T0: 0}


async def test_records_of_another_member(part: ShareNode) -> None:
    part.append("t", [1, 2, 3])
    await part.ready(A, B)
    await opened(part, A)
    await opened(part, B)
    answer = await part.acknowledge(B, 1, {T0: [(0, 2, [ACCEPT])]})
    assert await codes(answer) == {T0: ErrorCode.INVALID_RECORD_STATE}
    part.pass_time(30_000)
    answer = await part.acknowledge(A, 1, {T0: [(0, 2, [ACCEPT])]})
    assert await codes(answer) == {T0: ErrorCode.INVALID_RECORD_STATE}


async def test_the_feature_must_be_finalized(part: ShareNode) -> None:
    part.node.features = FeatureCache(FinalizedFeatures({"share.version": 0}, 0))
    answer = await part.fetch(A, 0, [T0]).whole()
    assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION
    told = await part.acknowledge(A, 1, {})
    assert told.error_code == ErrorCode.UNSUPPORTED_VERSION


async def test_everybody_is_told_that_there_is_no_state() -> None:
    part = ShareNode()
    await GroupNode.start(part)
    try:
        part.know(SHARE_STATE_TOPIC)
        calls = [part.fetch(member, 0, [T0], max_wait_ms=100) for member in (A, B)]
        part.host(SHARE_STATE_TOPIC)
        for call in calls:
            assert await codes(await call.whole()) == {T0: ErrorCode.UNKNOWN_SERVER_ERROR}
    finally:
        await part.stop()


# --- leaders


async def test_another_leader(part: ShareNode) -> None:
    part.append("t", [1, 2, 3])
    await part.ready(A)
    await opened(part)
    part.host("t", leader=OTHER, leader_epoch=1, replicas=(OTHER,))
    answer = await part.acknowledge(A, 1, {T0: [(0, 2, [ACCEPT])]})
    assert await codes(answer) == {T0: ErrorCode.NOT_LEADER_OR_FOLLOWER}
    answer = await part.fetch(A, 2, max_wait_ms=10).whole()
    ((row,),) = ([*topic.partitions] for topic in answer.responses)
    assert row.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    # This broker leads again: what was not acknowledged is available.
    part.host("t", leader_epoch=2, replicas=(OTHER,))
    assert await part.fetch(A, 3, max_wait_ms=5000).acquired() == {T0: [(0, 2, 1)]}


async def test_a_leader_that_was_fenced(part: ShareNode) -> None:
    from broker.coordinator import Waiting
    from broker.shares.common import ShareKey

    part.append("t", [1, 2, 3])
    await part.ready(A)
    await opened(part)
    key = ShareKey(GROUP, topic_id("t"), 0)
    states = part.node.share_states
    states.write(
        str(key),
        lambda machine, who, now_ms: machine.read(key, 5, who, now_ms),
        Waiting,
    )
    answer = await part.acknowledge(A, 1, {T0: [(0, 2, [ACCEPT])]})
    assert await codes(answer) == {T0: ErrorCode.NOT_LEADER_OR_FOLLOWER}
    assert part.node.shares._led == {}
    # It asks for the state again, which tells it so.
    answer = await part.fetch(A, 2, max_wait_ms=10).whole()
    assert await codes(answer) == {T0: ErrorCode.NOT_LEADER_OR_FOLLOWER}


async def test_records_that_are_deleted(part: ShareNode) -> None:
    part.append("t", [1, 2, 3])
    part.append("t", [4])
    await part.ready(A)
    await opened(part)
    await part.acknowledge(A, 1, {T0: [(0, 3, [RELEASE])]})
    log = part.partition("t").log
    assert log is not None
    log.advance_log_start_offset(3)
    assert await part.fetch(A, 2, max_wait_ms=10).acquired() == NOTHING
    assert await part.fetch(A, 3).acquired() == {T0: [(3, 3, 2)]}
