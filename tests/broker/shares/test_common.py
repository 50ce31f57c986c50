"""Names of share partitions, and batches of states put together."""

import random
from itertools import pairwise

import pytest

from broker.shares.common import ShareKey, StateBatch, combined, parse_key

UUID = bytes(range(16))


def test_keys() -> None:
    key = ShareKey("a:group", UUID, 7)
    assert str(key) == "a:group:AAECAwQFBgcICQoLDA0ODw:7"
    assert parse_key(str(key)) == key


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("g:AAECAwQFBgcICQoLDA0ODw:-1", ShareKey("g", UUID, -1)),
        ("g:AAECAwQFBgcICQoLDA0ODw==:+1", ShareKey("g", UUID, 1)),
        ("g:AAECAwQFBgcICQoLDA0ODw:1:", ShareKey("g", UUID, 1)),
        ("a b:AAECAwQFBgcICQoLDA0ODw:1", ShareKey("a b", UUID, 1)),
        ("garbage", None),
        ("g:AAECAwQFBgcICQoLDA0ODw", None),
        (":AAECAwQFBgcICQoLDA0ODw:1", None),
        (" :AAECAwQFBgcICQoLDA0ODw:1", None),
        ("g:AAECAwQFBgcICQoLDA0OD:1", None),
        ("g:AAECAwQFBgcICQoLDA0ODw:", None),
        ("g:AAECAwQFBgcICQoLDA0ODw:x", None),
        ("g:AAECAwQFBgcICQoLDA0ODw:2147483648", None),
    ],
)
def test_texts(text: str, key: ShareKey | None) -> None:
    assert parse_key(text) == key


def test_one_batch_stays_as_it_is() -> None:
    assert combined([StateBatch(3, 5, 0, 1)], -1) == (StateBatch(3, 5, 0, 1),)
    assert combined([StateBatch(3, 5, 0, 1)], 4) == (StateBatch(4, 5, 0, 1),)
    assert combined([StateBatch(3, 5, 0, 1)], 6) == ()
    assert combined([StateBatch(5, 3, 0, 1)], -1) == ()
    assert combined([], 0) == ()


def test_of_overlapping_batches_the_later_delivery_counts() -> None:
    batches = [StateBatch(0, 9, 2, 1), StateBatch(5, 14, 0, 2), StateBatch(7, 7, 4, 2)]
    assert combined(batches, -1) == (
        StateBatch(0, 4, 2, 1),
        StateBatch(5, 6, 0, 2),
        StateBatch(7, 7, 4, 2),
        StateBatch(8, 14, 0, 2),
    )
    assert combined(reversed(batches), -1) == combined(batches, -1)


@pytest.mark.parametrize("seed", range(60))
def test_record_by_record(seed: int) -> None:
    """Against a table of records."""
    chosen = random.Random(seed)
    batches = []
    for _ in range(chosen.randint(2, 8)):
        first = chosen.randrange(30)
        batch = StateBatch(first, first + chosen.randrange(12), chosen.choice((0, 2, 4)), 1)
        batches.append(batch._replace(deliveries=chosen.randint(1, 3)))
    start = chosen.choice((-1, 0, 10, 25))
    table: dict[int, tuple[int, int]] = {}
    for first, last, state, deliveries in batches:
        for offset in range(max(first, start), last + 1):
            table[offset] = max(table.get(offset, (0, 0)), (deliveries, state))
    found = combined(batches, start)
    assert {
        offset: (deliveries, state)
        for first, last, state, deliveries in found
        for offset in range(first, last + 1)
    } == table
    for before, after in pairwise(found):
        assert before.last < after.first
        assert before.last + 1 < after.first or before[2:] != after[2:]
