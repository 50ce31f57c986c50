"""Retention plans: which leading segments go, and why."""

from dataclasses import dataclass

import pytest

from storage.config import LogConfig
from storage.retention import NOTHING, RetentionPlan, plan_retention

NOW = 1_000_000


@dataclass
class Segment:
    base_offset: int
    size: int
    largest_timestamp: int


def four(last_size: int = 100) -> list[Segment]:
    return [
        Segment(0, 100, NOW - 400),
        Segment(10, 100, NOW - 300),
        Segment(20, 100, NOW - 200),
        Segment(30, last_size, NOW - 100),
    ]


def plan(
    segments: list[Segment], *, start: int = 0, high: int = 40, end: int = 40, **config: str
) -> RetentionPlan:
    names = {name.replace("_", "."): text for name, text in config.items()}
    return plan_retention(
        segments,
        LogConfig.from_strings({"retention.ms": "-1", **names}),
        log_start_offset=start,
        high_watermark=high,
        end_offset=end,
        now_ms=NOW,
    )


def test_without_limits_nothing_goes() -> None:
    assert plan(four()) == NOTHING


@pytest.mark.parametrize(
    ("age", "gone"), [(400, 0), (399, 1), (300, 1), (299, 2), (199, 3), (100, 3)]
)
def test_by_time(age: int, gone: int) -> None:
    assert plan(four(), retention_ms=str(age)) == RetentionPlan(gone, False, 0, 0, gone)


def test_the_active_segment_goes_by_time_after_a_roll() -> None:
    assert plan(four(), retention_ms="99") == RetentionPlan(4, True, 0, 0, 4)
    assert plan([Segment(0, 5, 0)], end=3, retention_ms="99") == RetentionPlan(1, True, 0, 0, 1)


def test_an_empty_active_segment_stays_without_a_roll() -> None:
    assert plan(four(last_size=0), retention_ms="0") == RetentionPlan(3, False, 0, 0, 3)
    assert plan([Segment(0, 0, 0)], end=0, high=0, retention_ms="0") == NOTHING


def test_time_stops_at_the_first_segment_that_stays() -> None:
    segments = four()
    segments[1].largest_timestamp = NOW
    assert plan(segments, retention_ms="0").segments == 1


@pytest.mark.parametrize(
    ("limit", "gone"), [(400, 0), (301, 0), (300, 1), (201, 1), (200, 2), (1, 3), (0, 4), (999, 0)]
)
def test_by_size_only_what_the_log_can_spare(limit: int, gone: int) -> None:
    assert plan(four(), retention_bytes=str(limit)) == RetentionPlan(gone, gone == 4, 0, gone, 0)


def test_nothing_at_or_beyond_the_high_watermark_goes() -> None:
    assert plan(four(), high=40, retention_ms="0").segments == 4
    assert plan(four(), high=39, retention_ms="0").segments == 3
    assert plan(four(), high=20, retention_ms="0").segments == 2
    assert plan(four(), high=19, retention_bytes="0").segments == 1
    assert plan(four(), high=9, retention_ms="0") == NOTHING


@pytest.mark.parametrize(("start", "gone"), [(9, 0), (10, 1), (29, 2), (30, 3), (39, 3), (40, 3)])
def test_segments_below_the_log_start_go_whatever_the_policy(start: int, gone: int) -> None:
    for policy in ("delete", "compact"):
        found = plan(four(), start=start, cleanup_policy=policy)
        assert found == RetentionPlan(gone, False, gone, 0, 0)


def test_a_compacted_log_keeps_to_its_own_rules() -> None:
    assert plan(four(), cleanup_policy="compact", retention_ms="0", retention_bytes="0") == NOTHING
    both = plan(four(), cleanup_policy="compact,delete", retention_ms="250")
    assert both == RetentionPlan(2, False, 0, 0, 2)


def test_the_three_reasons_follow_each_other() -> None:
    found = plan(four(), start=10, retention_bytes="200", retention_ms="150")
    assert found == RetentionPlan(3, False, 1, 1, 1)
    sentence = found.sentence(
        LogConfig.from_strings({"retention.bytes": "200", "retention.ms": "150"})
    )
    assert sentence == (
        "1 below the log start offset, 1 over retention.bytes=200, 1 older than retention.ms=150"
    )


def test_empty_segments_in_front_go_by_size_only_with_bytes_to_spare() -> None:
    segments = [Segment(0, 0, NOW), Segment(10, 100, NOW), Segment(20, 100, NOW)]
    assert plan(segments, end=30, retention_bytes="250") == NOTHING
    assert plan(segments, end=30, retention_bytes="150").segments == 1
