"""What compaction decides: which logs are due, groups of segments, keys, transactions."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from storage.aborted import AbortedTxn
from storage.compaction import (
    MAX_OFFSET_DELTA,
    CleaningPlan,
    OffsetMap,
    TransactionsSeen,
    group_segments,
    plan_cleaning,
)
from storage.config import LogConfig

NOW = 1_000_000


@dataclass
class Segment:
    base_offset: int
    size: int = 100
    largest_timestamp: int = NOW - 500
    first_timestamp: int | None = NOW - 600


def config(**settings: str) -> LogConfig:
    names = {name.replace("_", "."): text for name, text in settings.items()}
    return LogConfig.from_strings({"cleanup.policy": "compact", **names})


def plan(
    *,
    checkpoint: int | None = None,
    start: int = 0,
    stable: int = 35,
    segments: list[Segment] | None = None,
    settings: LogConfig | None = None,
) -> CleaningPlan:
    return plan_cleaning(
        segments or [Segment(0), Segment(10), Segment(20), Segment(30)],
        settings or config(),
        checkpoint=checkpoint,
        log_start_offset=start,
        end_offset=40,
        last_stable_offset=stable,
        now_ms=NOW,
    )


def test_the_active_segment_is_left_alone() -> None:
    assert plan() == CleaningPlan(0, 30, 0, 300, False, False)
    assert plan().ratio == 1.0
    assert plan(segments=[Segment(0)]) == CleaningPlan(0, 0, 0, 0, False, False)
    assert not plan(segments=[Segment(0)]).due(config())


def test_only_whole_segments_below_the_last_stable_offset() -> None:
    assert plan(stable=25) == CleaningPlan(0, 20, 0, 200, False, False)
    assert plan(stable=20) == CleaningPlan(0, 20, 0, 200, False, False)
    assert plan(stable=9) == CleaningPlan(0, 0, 0, 0, False, False)


def test_what_a_round_has_cleaned_counts_as_clean() -> None:
    found = plan(checkpoint=20)
    assert found == CleaningPlan(20, 30, 200, 100, False, False)
    assert not found.due(config())
    assert found.due(config(min_cleanable_dirty_ratio="0.3"))
    assert not plan(checkpoint=30).due(config(min_cleanable_dirty_ratio="0"))


def test_a_round_that_ended_inside_a_segment_starts_there_again() -> None:
    assert plan(checkpoint=15) == CleaningPlan(15, 30, 200, 200, False, False)


def test_a_checkpoint_outside_of_the_log_starts_over() -> None:
    assert plan(checkpoint=41) == CleaningPlan(0, 30, 0, 300, False, True)
    assert plan(checkpoint=5, start=12) == CleaningPlan(12, 30, 200, 200, False, True)
    assert not plan(checkpoint=40).reset


def test_the_minimum_lag_keeps_young_segments_out() -> None:
    segments = [Segment(0), Segment(10, largest_timestamp=NOW - 99), Segment(20), Segment(30)]
    lag = config(min_compaction_lag_ms="100")
    assert plan(segments=segments, settings=lag) == CleaningPlan(0, 10, 0, 100, False, False)
    segments[1].largest_timestamp = NOW - 100
    assert plan(segments=segments, settings=lag) == CleaningPlan(0, 30, 0, 300, False, False)
    # A young segment among the clean ones does not matter.
    segments[1].largest_timestamp = NOW
    found = plan(segments=segments, settings=lag, checkpoint=20)
    assert found.first_uncleanable_offset == 30


def test_the_maximum_lag_makes_a_log_due_at_any_ratio() -> None:
    patient = config(min_cleanable_dirty_ratio="1", max_compaction_lag_ms="600")
    assert not plan(settings=patient).due(patient)
    hasty = config(min_cleanable_dirty_ratio="1", max_compaction_lag_ms="599")
    assert plan(settings=hasty).due(hasty)
    # Only dirty segments count, and there must be something that can be cleaned.
    assert not plan(settings=hasty, checkpoint=30).due(hasty)
    assert not plan(settings=hasty, stable=5).due(hasty)


def groups(sizes: list[tuple[int, int, int, int]], end: int = 1000, **settings: str) -> object:
    return group_segments(sizes, config(**settings), end)


def test_small_neighbours_become_one_segment() -> None:
    sizes = [(0, 40, 8, 12), (10, 40, 8, 12), (20, 40, 8, 12), (30, 200, 8, 12), (40, 1, 8, 12)]
    assert groups(sizes, segment_bytes="100") == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert groups(sizes, segment_bytes="120") == [(0, 3), (3, 4), (4, 5)]
    assert groups(sizes, segment_index_bytes="16") == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    assert groups(sizes, segment_index_bytes="24") == [(0, 2), (2, 4), (4, 5)]
    assert groups([]) == []


def test_a_group_does_not_outreach_its_index() -> None:
    far = MAX_OFFSET_DELTA + 1
    assert groups([(0, 1, 0, 0), (10, 1, 0, 0), (far, 1, 0, 0)], far + 5) == [(0, 2), (2, 3)]
    assert groups([(0, 1, 0, 0), (10, 1, 0, 0)], far) == [(0, 2)]
    assert groups([(0, 1, 0, 0), (10, 1, 0, 0)], far + 1) == [(0, 1), (1, 2)]
    # Nothing in an empty segment needs an index entry.
    assert groups([(0, 1, 0, 0), (10, 0, 0, 0), (far + 9, 1, 0, 0)], far + 99) == [(0, 2), (2, 3)]


@given(st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 1000)), max_size=60))
def test_the_offset_map_knows_the_latest_offset_of_every_key(
    puts: list[tuple[bytes, int]],
) -> None:
    offsets = OffsetMap(1 << 20)
    expected: dict[bytes, int] = {}
    for number, (key, _) in enumerate(puts):
        assert offsets.put(memoryview(key), number)
        expected[key] = number
    for key, number in expected.items():
        assert offsets.get(key) == number
    assert len(offsets) == len(expected)
    assert offsets.latest_offset == len(puts) - 1
    assert offsets.get(b"a key that was never put here") == -1


def test_a_full_offset_map_takes_known_keys_only() -> None:
    offsets = OffsetMap(2 * 190)
    assert offsets.put(b"a", 1)
    assert offsets.put(b"b", 2)
    assert not offsets.put(b"c", 3)
    assert offsets.latest_offset == 2
    assert offsets.put(b"a", 4)
    assert (offsets.get(b"a"), offsets.latest_offset) == (4, 4)
    offsets.reached(3)
    assert offsets.latest_offset == 4
    offsets.reached(9)
    assert offsets.latest_offset == 9


def test_a_long_key_is_never_taken_for_its_digest() -> None:
    from hashlib import blake2b

    offsets = OffsetMap(1 << 20)
    offsets.put(b"k" * 99, 1)
    assert offsets.get(blake2b(b"k" * 99, digest_size=16).digest()) == -1


def test_data_of_aborted_transactions_is_told_and_its_marker_kept_once() -> None:
    seen = TransactionsSeen()
    aborted = AbortedTxn(7, 5, 9, 10)
    seen.add_aborted([aborted])
    assert not seen.on_data(7, 3, True)  # an earlier transaction, committed
    assert seen.on_marker(7, 4, True) == (False, None)
    assert seen.on_data(7, 6, True)
    assert not seen.on_data(8, 7, True)
    assert not seen.on_data(7, 8, False)
    assert seen.on_marker(7, 9, False) == (False, aborted)
    assert not seen.on_data(7, 10, True)  # the next one is not aborted
    # The next round: the data is gone, so the marker has no use.
    again = TransactionsSeen()
    again.add_aborted([aborted])
    assert again.on_marker(7, 9, False) == (True, None)


def test_commit_markers_are_needed_while_data_passes() -> None:
    seen = TransactionsSeen()
    assert not seen.on_data(7, 1, True)
    assert seen.on_marker(7, 2, True) == (False, None)
    assert seen.on_marker(7, 3, True) == (True, None)
    assert seen.on_marker(7, 4, False) == (True, None)
    assert seen.on_marker(7, 5, None) == (True, None)


def test_a_transaction_told_twice_is_one() -> None:
    seen = TransactionsSeen()
    aborted = AbortedTxn(7, 5, 9, 10)
    seen.add_aborted([aborted])
    assert seen.on_data(7, 5, True)
    seen.add_aborted([aborted, AbortedTxn(7, 20, 22, 23)])
    assert seen.on_marker(7, 9, False) == (False, aborted)
    assert not seen.on_data(7, 15, True)
    assert seen.on_data(7, 20, True)
