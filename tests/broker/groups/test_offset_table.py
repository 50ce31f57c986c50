"""Committed offsets as they are kept: their records, what transactions make of them, their size."""

import random
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.groups.offset_table import (
    Committed,
    OffsetTable,
    offset_key,
    offset_value,
    read_value,
    times_of,
)
from protocol.errors import Malformed
from protocol.stored.consumer_offsets import (
    LegacyOffsetCommitKey,
    OffsetCommitKey,
    OffsetCommitValue,
)
from protocol.stored.versioned import encode_key, encode_value

int64 = st.integers(-(1 << 63), (1 << 63) - 1)
int32 = st.integers(-(1 << 31), (1 << 31) - 1)
name = st.text(max_size=20).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))


@given(name, name, int32)
def test_a_key_is_that_of_the_declaration(group: str, topic: str, partition: int) -> None:
    assert offset_key(group, topic, partition) == encode_key(
        OffsetCommitKey(group, topic, partition)
    )


@given(int64, int32, name, int64, st.integers(0, 1 << 62), st.integers(0, 4))
def test_values_of_every_version_are_read(
    offset: int, epoch: int, metadata: str, committed: int, expires: int, version: int
) -> None:
    value = OffsetCommitValue(offset, epoch, metadata, committed, expires)
    data = encode_value(value, version)
    seen = Committed(
        offset,
        epoch if version >= 3 else -1,
        metadata,
        committed,
        expires if version == 1 else -1,
    )
    assert read_value(data) == seen
    assert times_of(data) == seen[3:]


@given(int64, int32, name, int64, st.none() | st.integers(0, 1 << 62))
def test_a_value_is_that_of_the_declaration(
    offset: int, epoch: int, metadata: str, committed: int, expires: int | None
) -> None:
    """Version 1 with an expiry of its own, else 3: what Kafka 3.9 writes and reads."""
    value = OffsetCommitValue(
        offset, epoch, metadata, committed, -1 if expires is None else expires
    )
    data = offset_value(
        Committed(offset, epoch, metadata, committed, -1 if expires is None else expires)
    )
    assert data == encode_value(value, 3 if expires is None else 1)


def test_what_is_no_offset_is_malformed() -> None:
    with pytest.raises(Malformed):
        read_value(encode_value(OffsetCommitValue(), 3).replace(b"\0\x03", b"\0\x09", 1))
    key = offset_key("group", "topic", 0)
    with pytest.raises(Malformed):
        OffsetTable().replay(key[:-5] + key[-4:], b"", -1, 0)


def test_keys_from_before_0_9_count_too() -> None:
    table = OffsetTable()
    key = encode_key(LegacyOffsetCommitKey("g", "t", 3))
    table.replay(key, encode_value(OffsetCommitValue(7, -1, "", 5), 0), -1, 0)
    assert read_value(table.of("g")["t", 3]).offset == 7


class Model:
    """What is committed, from the whole history of a place at once."""

    def __init__(self) -> None:
        self.history: list[tuple[str, int, int]] = []

    def look(self) -> tuple[int | None, bool]:
        """(offset, whether a transaction is under way there)."""
        committed: tuple[int, int] | None = None
        pending: dict[int, tuple[int, int]] = {}
        for at, (what, producer, offset) in enumerate(self.history):
            if what == "put":
                committed = (at, offset)
            elif what == "delete":
                committed = None
                pending.clear()
            elif what == "pend":
                pending[producer] = (at, offset)
            elif what in ("commit", "abort") and producer in pending:
                written = pending.pop(producer)
                puts = [a for a, (w, _, _) in enumerate(self.history[:at]) if w == "put"]
                superseded = any(written[0] < put for put in puts)
                # Of two transactions what was written later counts.
                later = committed is None or committed[0] < written[0]
                if what == "commit" and later and not superseded:
                    committed = written
        return None if committed is None else committed[1], bool(pending)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "delete", "pend", "pend", "commit", "abort"]),
        st.integers(1, 3),
        st.integers(0, 1),
    ),
    max_size=30,
)


@given(STEPS)
def test_transactions_in_any_order(steps: list[tuple[str, int, int]]) -> None:
    """Puts, deletes and transactions of three producers at two places."""
    table, models = OffsetTable(), [Model(), Model()]
    for at, (what, producer, place) in enumerate(steps):
        if what in ("commit", "abort"):
            table.replay_end(producer, what == "commit")
            for model in models:
                model.history.append((what, producer, at))
            continue
        for index, model in enumerate(models):
            model.history.append((what if index == place else "pass", producer, at))
        value = None if what == "delete" else offset_value(Committed(at, -1, "", 0, -1))
        table.replay(offset_key("g", "t", place), value, producer if what == "pend" else -1, at)
    for index, model in enumerate(models):
        value = table.of("g").get(("t", index))
        seen = None if value is None else read_value(value).offset
        assert (seen, table.is_pending("g", ("t", index))) == model.look()
    known = any(model.look() != (None, False) for model in models)
    assert table.has("g") == known
    assert list(table.groups()) == (["g"] if known else [])


def _records(groups: int, topics: int, partitions: int) -> Iterator[tuple[bytes, bytes]]:
    """In an order in which compaction may leave them."""
    order = random.Random(7)
    for group in range(groups):
        places = [(t, p) for t in range(topics) for p in range(partitions)]
        order.shuffle(places)
        for topic, index in places:
            value = offset_value(Committed(index, 0, "", 1_700_000_000_000, -1))
            yield offset_key(f"group-{group:07}", f"a-topic-{topic:03}", index), value


@pytest.mark.parametrize(
    ("groups", "topics", "partitions"), [(20, 1, 1000), (20, 1000, 1), (200, 10, 10), (2000, 1, 10)]
)
def test_a_million_offsets_fit_into_300_mb(groups: int, topics: int, partitions: int) -> None:
    """What each of 20,000 offsets takes, keys and values of the log included; in whatever shape."""
    records = list(_records(groups, topics, partitions))
    tracemalloc.start()
    table = OffsetTable()
    for at, (key, value) in enumerate(records):
        table.replay(key, bytes(bytearray(value)), -1, at)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(len(table.of(group)) for group in table.groups()) == len(records) == 20_000
    assert size / len(records) < 300  # other threads of the tests allocate a little meanwhile
