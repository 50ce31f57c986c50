"""The declared tables against what Apache Kafka describes of itself.

captured/settings.json.gz: name -> type, default, read-only, sensitive (and, for topics, the broker
settings a value comes from), as told by DescribeConfigs of 3.9.2 and 4.4.0. group-settings.json.gz:
name -> type, default and the broker setting behind it, of groups, as told by 4.4.0.
"""

import gzip
import json
from pathlib import Path
from typing import Any

from broker.settings import (
    CLIENT_METRICS,
    GROUPS,
    INTERNAL,
    SETTINGS,
    cluster,
    coordinators,
    groups,
    logs,
    network,
)
from storage import config as topic_config
from storage.settings import Scope, Setting, parse

CAPTURED = Path(__file__).parent / "captured"
KAFKA: dict[str, Any] = json.loads(gzip.decompress((CAPTURED / "settings.json.gz").read_bytes()))
TABLES = (
    cluster.ROWS,
    cluster.CLIENT_METRICS_ROWS,
    coordinators.ROWS,
    coordinators.NEWER_ROWS,
    logs.ROWS,
    network.ROWS,
    topic_config.ROWS,
    groups.ROWS,
)


def told(row: Setting) -> list[Any]:
    read_only = row.scope is Scope.READ_ONLY
    return [row.kind.name, row.default, read_only, row.sensitive]


def test_every_setting_of_3_9_is_declared_as_it_is_there() -> None:
    expected = KAFKA["3.9.2"]["broker"]
    newer = {row.name for row in coordinators.NEWER_ROWS}
    # Share groups are served as by 4.4; 3.9 knew the setting and served none.
    locks = "group.share.partition.max.record.locks"
    expected = {**expected, locks: ["INT", "2000", True, False]}
    assert {name: told(row) for name, row in SETTINGS.items() if name not in newer} == expected


def test_newer_settings_are_declared_as_in_4_4() -> None:
    expected = KAFKA["4.4.0"]["broker"]
    for row in coordinators.NEWER_ROWS:
        assert told(row) == expected[row.name], row.name
    names = {row.name for row in coordinators.NEWER_ROWS}
    subjects = ("group.consumer.", "group.share.", "group.streams.", "share.coordinator.")
    assert {name for name in expected if name.startswith(subjects)} <= names


def test_topic_settings_are_those_of_3_9() -> None:
    expected = KAFKA["3.9.2"]["topic"]
    assert expected.keys() == topic_config.SETTINGS.keys()
    for name, (kind, default, read_only, sensitive, synonyms) in expected.items():
        row = topic_config.SETTINGS[name]
        assert [row.kind.name, row.default, False, row.sensitive] == [
            kind,
            default,
            read_only,
            sensitive,
        ]
        # A synonym of the same name, or without a default, does not show in the recording.
        assert [s for s in synonyms if s not in row.synonyms] == []
        assert all(synonym in SETTINGS for synonym in row.synonyms)


def test_client_metrics_are_those_of_4_4() -> None:
    expected = KAFKA["4.4.0"]["client_metrics"]
    assert {
        name: [row.kind.name, row.default, False, row.sensitive]
        for name, row in CLIENT_METRICS.items()
    } == expected


def test_group_settings_are_those_of_4_4() -> None:
    with gzip.open(CAPTURED / "group-settings.json.gz") as file:
        expected = json.load(file)
    assert expected == {
        name: [row.kind.name, row.default, list(row.synonyms)] for name, row in GROUPS.items()
    }
    assert all(synonym in SETTINGS for row in GROUPS.values() for synonym in row.synonyms)


def test_every_default_passes_its_own_check() -> None:
    for rows in TABLES:
        for row in rows:
            parse(row, row.default)


def test_every_setting_is_declared_once_and_has_a_sentence() -> None:
    for rows in (TABLES[0], *TABLES[2:6]):
        names = [row.name for row in rows]
        assert len(set(names)) == len(names)
    assert len(SETTINGS) == sum(len(TABLES[i]) for i in (0, 2, 3, 4, 5))
    for rows in TABLES:
        for row in rows:
            assert row.doc[0].isupper(), row.name
            assert row.doc.endswith("."), row.name


def test_stand_ins_are_settings_themselves() -> None:
    for row in SETTINGS.values():
        assert all(synonym in SETTINGS for synonym in row.synonyms)


def test_internal_settings_are_none_that_apache_kafka_lists() -> None:
    assert INTERNAL.keys().isdisjoint(KAFKA["3.9.2"]["broker"])
    for row in INTERNAL.values():
        parse(row, row.default)
        assert row.scope is Scope.READ_ONLY and row.doc.endswith(".")
