"""The follower's side of fetch sessions, against the leader's (`broker.sessions`)."""

import itertools
import random

import pytest

from broker.fetch_session import Ask, Key, SessionClient, Turn
from broker.sessions import FetchedPartition, FetchSessions, PartitionKey
from protocol.errors import ErrorCode
from protocol.wire import ZERO_UUID

ID = b"1" * 16
OTHER_ID = b"2" * 16


def ask(offset: int, topic_id: bytes = ID) -> Ask:
    return Ask(topic_id, offset, 0, 0, 0)


def begun() -> SessionClient:
    """Session 7 with partitions 0 and 1."""
    client = SessionClient()
    client.put(("t", 0), ask(0))
    client.put(("t", 1), ask(0))
    turn = client.turn()
    assert turn == Turn(0, 0, True, [(("t", 0), ask(0)), (("t", 1), ask(0))], [])
    assert client.answered(0, 7)
    return client


def test_the_first_request_is_full_and_later_ones_name_what_changed() -> None:
    client = begun()
    assert client.turn() == Turn(7, 1, True, [], [])
    assert client.answered(0, 7)
    client.put(("t", 1), ask(0))
    client.put(("t", 0), ask(5))
    client.put(("t", 2), ask(0))
    client.drop(("t", 1))
    turn = client.turn()
    assert turn == Turn(7, 2, True, [(("t", 0), ask(5)), (("t", 2), ask(0))], [(("t", 1), ID)])
    assert len(client) == 2


def test_a_partition_dropped_and_put_again_is_named_not_forgotten() -> None:
    client = begun()
    client.drop(("t", 0))
    client.put(("t", 0), ask(3))
    assert client.turn() == Turn(7, 1, True, [(("t", 0), ask(3))], [])


def test_a_topic_made_anew_is_another_one() -> None:
    client = begun()
    client.put(("t", 0), ask(0, OTHER_ID))
    turn = client.turn()
    assert turn.asks == [(("t", 0), ask(0, OTHER_ID))]
    assert turn.forgotten == [(("t", 0), ID)]


def test_no_answer_closes_the_session_and_opens_another() -> None:
    client = begun()
    client.drop(("t", 1))
    client.turn()
    client.failed()
    assert client.turn() == Turn(7, 0, True, [(("t", 0), ask(0))], [])
    assert client.answered(0, 8)
    assert client.turn()[:2] == (8, 1)


@pytest.mark.parametrize(
    ("code", "session_id"),
    [
        (ErrorCode.FETCH_SESSION_ID_NOT_FOUND, 0),
        (ErrorCode.INVALID_FETCH_SESSION_EPOCH, 7),
        (ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR, 7),
    ],
)
def test_a_refused_session_is_begun_anew(code: ErrorCode, session_id: int) -> None:
    client = begun()
    client.turn()
    assert not client.answered(code, 0)
    turn = client.turn()
    assert (turn.session_id, turn.epoch, len(turn.asks)) == (session_id, 0, 2)


def test_a_leader_without_room_is_asked_in_full_each_time() -> None:
    client = SessionClient()
    client.put(("t", 0), ask(0))
    for _ in range(3):
        assert client.turn() == Turn(0, 0, True, [(("t", 0), ask(0))], [])
        assert client.answered(0, 0)


def test_one_topic_without_an_id_ends_asking_by_id() -> None:
    client = begun()
    client.put(("old", 0), ask(0, ZERO_UUID))
    turn = client.turn()
    assert (turn.session_id, turn.epoch, turn.by_id, len(turn.asks)) == (7, 0, False, 3)
    client.answered(0, 9)
    client.drop(("old", 0))
    turn = client.turn()
    assert (turn.session_id, turn.epoch, turn.by_id, len(turn.asks)) == (9, 0, True, 2)


def lay_over(sessions: FetchSessions, turn: Turn) -> tuple[int, int]:
    """What a leader does with a request: (error, session id)."""
    named = [FetchedPartition("", a.topic_id, index, a.offset, 1) for (_, index), a in turn.asks]
    if turn.epoch == 0:
        sessions.remove(turn.session_id)
        made = sessions.create(named, 0, by_id=True, privileged=True)
        return 0, 0 if made is None else made.session_id
    found = sessions.resume(turn.session_id, turn.epoch, 0, by_id=True)
    if isinstance(found, ErrorCode):
        return found, 0
    gone: list[PartitionKey] = [("", topic_id, index) for (_, index), topic_id in turn.forgotten]
    sessions.update(found, named, gone)
    return 0, found.session_id


@pytest.mark.parametrize("seed", range(30))
def test_both_sides_agree_after_any_history(seed: int) -> None:
    """Lost requests, lost answers and evictions included."""
    draw = random.Random(seed)
    sessions = FetchSessions(1, 1000, itertools.count(1).__next__)
    client = SessionClient()
    wanted: dict[Key, int] = {}
    session_id = 0
    for _ in range(200):
        for _ in range(draw.randrange(4)):
            key = "t", draw.randrange(6)
            if draw.random() < 0.3:
                wanted.pop(key, None)
                client.drop(key)
            else:
                wanted[key] = draw.randrange(100)
                client.put(key, ask(wanted[key]))
        turn, fate = client.turn(), draw.random()
        if fate < 0.1:
            client.failed()  # the request was lost
            continue
        if fate < 0.2:
            sessions.remove(session_id)  # evicted
        code, session_id = lay_over(sessions, turn)
        if fate > 0.9:
            client.failed()  # the answer was lost
        elif client.answered(code, session_id) and session_id:
            session = sessions.get(session_id)
            assert session is not None
            held = {("t", p.index): p.fetch_offset for p in session.partitions.values()}
            assert held == wanted
