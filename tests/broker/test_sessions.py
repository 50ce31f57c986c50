"""Fetch sessions: epochs, tables, room (KIP-227)."""

import itertools

from broker.sessions import FetchedPartition, FetchSessions, Session, next_epoch
from protocol.errors import ErrorCode


def sessions(slots: int = 2, eviction_ms: int = 1000) -> FetchSessions:
    return FetchSessions(slots, eviction_ms, itertools.count(10).__next__)


def asked(*indexes: int, offset: int = 0) -> list[FetchedPartition]:
    return [FetchedPartition("t", bytes(16), i, offset, 100) for i in indexes]


def made(cache: FetchSessions, now_ms: int = 0, size: int = 1) -> Session | None:
    return cache.create(asked(*range(size)), now_ms, by_id=False, privileged=False)


def test_an_incremental_request_counts_the_epoch_on() -> None:
    cache = sessions()
    session = made(cache)
    assert session is not None and session.session_id == 10
    assert cache.resume(10, 1, 5, by_id=False) is session
    assert session.epoch == 2
    assert cache.resume(10, 1, 5, by_id=False) == ErrorCode.INVALID_FETCH_SESSION_EPOCH
    assert cache.resume(11, 1, 5, by_id=False) == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert cache.resume(10, 2, 5, by_id=True) == ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR


def test_epochs_wrap_past_the_one_that_asks_for_a_new_session() -> None:
    assert next_epoch(0x7FFFFFFF) == 1


def test_changed_partitions_keep_what_was_sent_and_forgotten_ones_go() -> None:
    cache = sessions()
    session = made(cache, size=3)
    assert session is not None
    session.partitions["t", bytes(16), 1].sent_high_watermark = 7
    cache.update(session, asked(1, 5, offset=9), [("t", bytes(16), 0), ("t", bytes(16), 99)])
    assert [p.index for p in session.partitions.values()] == [1, 2, 5]
    assert session.partitions["t", bytes(16), 1].fetch_offset == 9
    assert session.partitions["t", bytes(16), 1].sent_high_watermark == 7


def test_a_full_cache_makes_room_for_what_is_larger_or_later() -> None:
    cache = sessions()
    assert made(cache, 0, 3) and made(cache, 10, 2)
    assert made(cache, 500, 9) is None  # both are young and in use
    assert made(cache, 1005, 1) is not None  # the first one is long unused
    assert len(cache) == 2


def test_sessions_end() -> None:
    cache = sessions()
    session = made(cache)
    assert session is not None
    cache.remove(session.session_id)
    cache.remove(session.session_id)
    assert len(cache) == 0
