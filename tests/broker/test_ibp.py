"""Versions by inter.broker.protocol.version."""

import pytest

from broker.ibp import Versions, has_topic_ids, knows_recovery, release, versions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.7-IV2", Versions(4, 6, 3, 3, 12, 5, 3, 0)),
        ("2.7", Versions(4, 6, 3, 3, 12, 5, 3, 0)),
        ("2.8-IV0", Versions(4, 6, 3, 3, 12, 5, 3, 0)),
        ("2.8", Versions(5, 7, 3, 3, 12, 6, 4, 1)),
        ("3.0-IV0", Versions(5, 7, 3, 3, 12, 6, 4, 1)),
        ("3.1", Versions(5, 7, 3, 3, 13, 7, 4, 1)),
        ("3.3-IV3", Versions(6, 7, 3, 3, 13, 7, 4, 1)),
        ("3.4", Versions(7, 8, 4, 3, 13, 7, 4, 1)),
        ("3.5-IV0", Versions(7, 8, 4, 3, 14, 8, 4, 1)),
        ("3.6", Versions(7, 8, 4, 3, 15, 8, 4, 1)),
        ("3.7", Versions(7, 8, 4, 3, 16, 8, 4, 1)),
        ("3.8-IV0", Versions(7, 8, 4, 3, 16, 8, 4, 1)),
        ("3.9-IV0", Versions(7, 8, 4, 3, 17, 9, 4, 1)),
        ("4.0-IV1", Versions(7, 8, 4, 3, 17, 9, 4, 1)),
    ],
)
def test_versions(text: str, expected: Versions) -> None:
    assert versions(text) == expected


def test_older_releases_get_what_all_since_then_understand() -> None:
    assert versions("0.10.0-IV1") == versions("2.6") == versions("2.7-IV2")
    assert release("0.10.0-IV1") < release("1.0") < release("2.0-IV1") < release("2.0")


def test_the_mark_of_unclean_leaders() -> None:
    assert knows_recovery(versions("3.2")) and not knows_recovery(versions("3.1"))


def test_ids_of_topics() -> None:
    assert has_topic_ids("2.8-IV0") and has_topic_ids("3.9") and not has_topic_ids("2.7-IV2")
