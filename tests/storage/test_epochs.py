"""Leader epochs: Kafka's answers, and truncation from both ends."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.epochs import LeaderEpochCache

ENTRIES = [(2, 10), (4, 20), (7, 20 + 15)]


@pytest.fixture
def cache() -> LeaderEpochCache:
    return LeaderEpochCache(ENTRIES)


@pytest.mark.parametrize(
    ("epoch", "answer"),
    [
        (-1, (-1, -1)),
        (0, (0, 10)),
        (1, (1, 10)),
        (2, (2, 20)),
        (3, (2, 20)),
        (4, (4, 35)),
        (6, (4, 35)),
        (7, (7, 50)),
        (8, (-1, -1)),
    ],
)
def test_where_an_epoch_ends(cache: LeaderEpochCache, epoch: int, answer: tuple[int, int]) -> None:
    assert cache.end_offset_for(epoch, 50) == answer


def test_nothing_known() -> None:
    cache = LeaderEpochCache()
    assert (cache.latest, cache.epoch_of(5), len(cache)) == (-1, -1, 0)
    assert cache.end_offset_for(0, 50) == (-1, -1)
    assert not cache.dirty


def test_assigning(cache: LeaderEpochCache) -> None:
    assert not cache.dirty
    cache.assign(7, 40)  # known
    cache.assign(5, 60)  # older
    assert (cache.entries(), cache.dirty) == (ENTRIES, False)
    cache.assign(9, 50)
    assert (cache.latest, cache.dirty) == (9, True)
    # A leader that took over at the same place wrote nothing in between.
    cache.assign(11, 50)
    assert cache.entries() == [*ENTRIES, (11, 50)]


def test_epoch_of(cache: LeaderEpochCache) -> None:
    assert [cache.epoch_of(offset) for offset in (9, 10, 19, 20, 34, 35, 99)] == [
        -1, 2, 2, 4, 4, 7, 7,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("end", "left"), [(99, 3), (36, 3), (35, 2), (21, 2), (20, 1), (11, 1), (10, 0), (0, 0)]
)
def test_truncation_from_the_end(cache: LeaderEpochCache, end: int, left: int) -> None:
    cache.truncate_from_end(end)
    assert cache.entries() == ENTRIES[:left]
    assert cache.latest == (ENTRIES[left - 1][0] if left else -1)
    assert cache.dirty == (left < 3)


@pytest.mark.parametrize(
    ("start", "left"),
    [
        (0, ENTRIES),
        (10, ENTRIES),
        (15, [(2, 15), (4, 20), (7, 35)]),
        (20, [(4, 20), (7, 35)]),
        (34, [(4, 34), (7, 35)]),
        (40, [(7, 40)]),
    ],
)
def test_truncation_from_the_start(
    cache: LeaderEpochCache, start: int, left: list[tuple[int, int]]
) -> None:
    cache.truncate_from_start(start)
    assert cache.entries() == left
    assert cache.latest == 7
    assert cache.dirty == (left != ENTRIES)


def test_clearing(cache: LeaderEpochCache) -> None:
    cache.clear()
    assert (cache.entries(), cache.latest, cache.dirty) == ([], -1, True)
    cache.assign(1, 5)
    assert cache.entries() == [(1, 5)]


@settings(derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 100)), max_size=20))
def test_both_columns_always_grow(assigned: list[tuple[int, int]]) -> None:
    cache = LeaderEpochCache()
    newest = -1
    for epoch, start in assigned:
        cache.assign(epoch, start)
        newest = max(newest, epoch)
        entries = cache.entries()
        assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(entries))
        assert cache.latest == newest
