"""Share sessions: epochs, partitions that come and go, what answers must name."""

import pytest

from broker.shares.common import Refused
from broker.shares.sessions import CLOSE, MAX_EPOCH, Asked, ShareSessions
from protocol.errors import ErrorCode

KEY = ("g", "member")
T0, T1, U0 = Asked(b"t", 0), Asked(b"t", 1), Asked(b"u", 0)


def test_epochs_count_up() -> None:
    sessions = ShareSessions(10)
    session = sessions.open(KEY, [T0], None)
    assert session.epoch == 1
    for epoch in (1, 2, 3):
        assert sessions.resume(KEY, epoch) is session
    for epoch in (3, 5, 0):
        with pytest.raises(Refused) as caught:
            sessions.resume(KEY, epoch)
        assert caught.value.code == ErrorCode.INVALID_SHARE_SESSION_EPOCH
    assert session.epoch == 4
    # To close it, it need not be known how often it was used.
    assert sessions.resume(KEY, CLOSE) is session
    assert session.epoch == 4
    session.epoch = MAX_EPOCH
    sessions.resume(KEY, MAX_EPOCH)
    assert session.epoch == 1


def test_there_must_be_a_session() -> None:
    sessions = ShareSessions(10)
    for epoch in (1, CLOSE):
        with pytest.raises(Refused) as caught:
            sessions.resume(KEY, epoch)
        assert caught.value.code == ErrorCode.SHARE_SESSION_NOT_FOUND
    sessions.open(KEY, [], None)
    assert sessions.has_members("g")
    assert not sessions.has_members("other")
    assert sessions.remove(KEY) is not None
    assert sessions.remove(KEY) is None
    assert not sessions.has_members("g")


def test_a_member_has_one_session() -> None:
    sessions = ShareSessions(1)
    first = sessions.open(KEY, [T0], None)
    second = sessions.open(KEY, [T1], None)
    assert len(sessions) == 1
    assert sessions.get(KEY) is second is not first
    with pytest.raises(Refused) as caught:
        sessions.open(("g", "another"), [T0], None)
    assert caught.value.code == ErrorCode.SHARE_SESSION_LIMIT_REACHED
    # One that asks in a way that cannot be has none any more.
    with pytest.raises(Refused) as caught:
        sessions.open(KEY, [T0, T0], None)
    assert caught.value.code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert sessions.get(KEY) is None
    sessions.open(("g", "another"), [T0], None)


def test_partitions_come_and_go() -> None:
    session = ShareSessions(1).open(KEY, [T0, T1], None)
    session.change([U0, T1], [T0])
    assert list(session.partitions) == [T1, U0]
    session.change([], [T0, U0])
    assert list(session.partitions) == [T1]


def test_answers_name_what_is_new() -> None:
    session = ShareSessions(1).open(KEY, [T0, T1], None)
    assert not session.must_name(T0, records=False, error=False)
    session.change([U0], [])
    assert session.must_name(U0, records=False, error=False)
    assert not session.must_name(U0, records=False, error=False)
    # An error, and that it is over.
    assert session.must_name(T0, records=False, error=True)
    assert session.must_name(T0, records=False, error=False)
    assert not session.must_name(T0, records=False, error=False)
    # Who got records goes behind the others.
    assert session.must_name(T0, records=True, error=False)
    assert list(session.partitions) == [T1, U0, T0]
    # What was forgotten meanwhile is named to be sure.
    session.change([], [T1])
    assert session.must_name(T1, records=False, error=False)
