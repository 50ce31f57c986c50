"""A group goes from 1 to 8 to 3 members under load; `python -m tests.e2e.scale` tells more."""

from collections.abc import Callable

import pytest

from tests.e2e import scale
from tests.e2e.members import Broken, Watch


@pytest.mark.parametrize(
    "kind", ["confluent", "confluent-cooperative", "confluent-consumer", "aiokafka"]
)
def test_scaling_under_load(bootstrap: str, kind: str, new_name: Callable[[], str]) -> None:
    report = scale.run(bootstrap, kind, new_name())
    assert report.records >= len(scale.STEPS) * scale.RECORDS_A_STEP * scale.PARTITIONS
    if kind in scale.COOPERATIVE:
        # 8 members own 1 or 2 partitions each, so that the first member keeps one or two of 12
        assert report.moved[1] >= 10


def test_the_watch_notices_what_must_not_be() -> None:
    place = ("topic", 0)

    def watch() -> Watch:
        made = Watch()
        made.gained("a", [place])
        made.read("a", place, 0, b"0")
        made.read("a", place, 1, b"1")
        assert made.failure is None
        return made

    for misdeed in (
        lambda w: w.gained("b", [place]),
        lambda w: w.read("b", place, 2, b"2"),
        lambda w: w.read("a", place, 3, b"3"),
        lambda w: w.read("a", place, 1, b"1"),
    ):
        watched = watch()
        misdeed(watched)
        with pytest.raises(Broken):
            watched.until(lambda: True, "whatever")

    handed_over = watch()
    handed_over.was_committed({place: 1})
    handed_over.gave_up("a", [place])
    handed_over.gained("b", [place])
    handed_over.read("b", place, 1, b"1")
    assert handed_over.failure is None and handed_over.given_up() == [place]
    handed_over.was_committed({place: 2})
    handed_over.gave_up("b", [place])
    handed_over.gained("a", [place])
    handed_over.read("a", place, 1, b"1")
    with pytest.raises(Broken, match="committed"):
        handed_over.until(lambda: True, "whatever")
