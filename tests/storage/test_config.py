"""Topic settings: reading text as Kafka does, the declared table, LogConfig."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.config import LONG_MAX, ROWS, SETTINGS, LogConfig, release
from storage.settings import (
    Kind,
    Setting,
    SettingError,
    UnknownSetting,
    at_least,
    between,
    each_of,
    int_or,
    matching,
    one_of,
    parse,
    render,
    render_real,
    split_list,
)


def row(kind: Kind) -> Setting:
    return Setting("x", kind, None, "A setting.")


@pytest.mark.parametrize(
    ("kind", "text", "value", "shown"),
    [
        (Kind.BOOLEAN, " TRUE ", True, "true"),
        (Kind.BOOLEAN, "false", False, "false"),
        (Kind.INT, " +7 ", 7, "7"),
        (Kind.INT, "-2147483648", -(2**31), "-2147483648"),
        (Kind.SHORT, "32767", 32767, "32767"),
        (Kind.LONG, "9223372036854775807", LONG_MAX, "9223372036854775807"),
        (Kind.DOUBLE, ".25f", 0.25, "0.25"),
        (Kind.DOUBLE, "1e3", 1000.0, "1000.0"),
        (Kind.DOUBLE, "1.7976931348623157E308", 1.7976931348623157e308, "1.7976931348623157E308"),
        (Kind.LIST, " a , b,c ", ["a", "b", "c"], "a,b,c"),
        (Kind.LIST, "a,", ["a", ""], "a,"),
        (Kind.LIST, "  ", [], ""),
        (Kind.STRING, " kept ", " kept ", " kept "),
        (Kind.CLASS, " a.B ", "a.B", "a.B"),
    ],
)
def test_text_is_read_and_shown_as_kafka_does(
    kind: Kind, text: str, value: object, shown: str
) -> None:
    assert parse(row(kind), text) == value
    assert render(row(kind), text) == shown


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Kind.BOOLEAN, "yes"),
        (Kind.BOOLEAN, ""),
        (Kind.INT, "2147483648"),
        (Kind.INT, "1_000"),
        (Kind.INT, "٣"),
        (Kind.INT, "1.0"),
        (Kind.INT, ""),
        (Kind.INT, "+"),
        (Kind.SHORT, "32768"),
        (Kind.LONG, "9223372036854775808"),
        (Kind.DOUBLE, "1_0.5"),
        (Kind.DOUBLE, "nan"),
        (Kind.DOUBLE, ""),
    ],
)
def test_text_of_another_type_is_refused(kind: Kind, text: str) -> None:
    with pytest.raises(SettingError, match="configuration x: Value must be") as refused:
        parse(row(kind), text)
    assert refused.value.name == "x"


def test_nothing_given_is_nothing() -> None:
    assert parse(row(Kind.INT), None) is None
    assert render(row(Kind.INT), None) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"),
        (0.0, "0.0"),
        (100.0, "100.0"),
        (1e7, "1.0E7"),
        (12345678.0, "1.2345678E7"),
        (0.001, "0.001"),
        (0.0001, "1.0E-4"),
        (-1.5e-7, "-1.5E-7"),
        (1e22, "1.0E22"),
        (123456789012345680.0, "1.2345678901234568E17"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (float("nan"), "NaN"),
    ],
)
def test_doubles_are_shown_as_java_prints_them(value: float, text: str) -> None:
    assert render_real(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_shown_double_reads_back_as_the_same(value: float) -> None:
    assert parse(row(Kind.DOUBLE), render_real(value)) == value


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (at_least(3), 3, 2),
        (between(1, 5), 5, 6),
        (between(1, 5), 1, 0),
        (one_of("a", "b"), "a", "A"),
        (each_of("a", "b"), ["b", "a"], ["a", "c"]),
        (each_of("a"), [], [""]),
        (int_or(-1, 1, 9), -1, 0),
        (int_or(-1, 1, 9), 9, 10),
        (matching("[a-z]+", "letters"), "abc", "a1"),
    ],
)
def test_checks(check: object, good: object, bad: object) -> None:
    assert callable(check)
    assert check(good) is None
    assert check(bad).startswith(("must be ", "every item must be "))


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("0.9.0", True),
        ("0.10.0-IV1", True),
        ("2.8", True),
        ("2.8.1", True),
        ("3.9-IV0", True),
        ("3.9-IV1", False),
        ("4.0-IV0", True),
        ("4.0-IV1", True),
        ("4.0-IV2", False),
        ("4.0", False),
        ("4.1", False),
        ("3.9-IVx", False),
    ],
)
def test_metadata_versions_are_those_of_apache_kafka_3_9(text: str, known: bool) -> None:
    assert (release(text) is None) == known


def test_split_list() -> None:
    assert split_list("") == []
    assert split_list(" a ,, b ") == ["a", "", "b"]


def test_defaults() -> None:
    config = LogConfig()
    assert config.cleanup_policy == {"delete"}
    assert (config.delete, config.compact) == (True, False)
    assert config.retention_ms == 7 * 24 * 3600 * 1000
    assert config.retention_bytes == -1
    assert config.segment_bytes == 1 << 30
    assert config.max_message_bytes == 1048588
    assert config.min_cleanable_dirty_ratio == 0.5
    assert config.message_timestamp_before_max_ms == LONG_MAX
    assert config.leader_replication_throttled_replicas == ()
    assert config.unclean_leader_election_enable is False


def test_every_row_is_an_attribute_and_every_default_reads() -> None:
    config = LogConfig()
    for setting in ROWS:
        value = getattr(config, setting.name.replace(".", "_"))
        expected = parse(setting, setting.default)
        if setting.name == "cleanup.policy":
            assert value == frozenset(expected)
        elif setting.kind is Kind.LIST:
            assert value == tuple(expected)
        else:
            assert value == expected
        assert setting.name in SETTINGS
        assert setting.doc.endswith(".")
    annotated = {n for n in LogConfig.__annotations__ if n not in ("compact", "delete", "given")}
    assert annotated == {setting.name.replace(".", "_") for setting in ROWS}


def test_own_settings_lie_over_the_base() -> None:
    base = LogConfig.from_strings({"retention.ms": "10", "segment.ms": "20"})
    config = LogConfig.from_strings({"retention.ms": "30", "cleanup.policy": "compact"}, base)
    assert (config.retention_ms, config.segment_ms) == (30, 20)
    assert (config.compact, config.delete) == (True, False)
    assert base.retention_ms == 10
    assert LogConfig.from_strings({}, base) is base


def test_equal_settings_are_equal() -> None:
    a = LogConfig.from_strings({"retention.ms": "10"})
    b = LogConfig.from_strings({"retention.ms": " 10 "}, LogConfig())
    assert a == b
    assert hash(a) == hash(b)
    assert a != LogConfig()
    assert a != "a"
    assert "retention.ms=10" in repr(a)


def test_a_config_is_frozen() -> None:
    config = LogConfig()
    with pytest.raises(AttributeError):
        config.retention_ms = 5
    with pytest.raises(AttributeError):
        del config.retention_ms


@pytest.mark.parametrize(
    ("given", "before", "after"),
    [
        ({}, LONG_MAX, LONG_MAX),
        ({"message.timestamp.difference.max.ms": "5"}, 5, 5),
        (
            {
                "message.timestamp.difference.max.ms": "5",
                "message.timestamp.before.max.ms": "7",
            },
            7,
            5,
        ),
    ],
)
def test_the_older_timestamp_limit_stands_in(
    given: dict[str, str], before: int, after: int
) -> None:
    config = LogConfig.from_strings(given)
    assert config.message_timestamp_before_max_ms == before
    assert config.message_timestamp_after_max_ms == after


def test_a_newer_older_limit_replaces_the_one_of_the_base() -> None:
    base = LogConfig.from_strings({"message.timestamp.difference.max.ms": "5"})
    config = LogConfig.from_strings({"message.timestamp.difference.max.ms": "9"}, base)
    assert config.message_timestamp_after_max_ms == 9


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("retention.ms", "-2"),
        ("retention.ms", ""),
        ("segment.bytes", "13"),
        ("min.insync.replicas", "0"),
        ("cleanup.policy", "burn"),
        ("cleanup.policy", "delete,"),
        ("compression.type", "GZIP"),
        ("compression.gzip.level", "0"),
        ("compression.lz4.level", "18"),
        ("compression.zstd.level", "23"),
        ("compression.zstd.level", "-131073"),
        ("message.format.version", "0.9.9"),
        ("message.format.version", "4.0"),
        ("message.timestamp.type", "createtime"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("leader.replication.throttled.replicas", "none"),
        ("leader.replication.throttled.replicas", "*,0:1"),
        ("max.compaction.lag.ms", "0"),
    ],
)
def test_values_out_of_bounds(name: str, text: str) -> None:
    with pytest.raises(SettingError) as refused:
        LogConfig.from_strings({name: text})
    assert refused.value.name == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cleanup.policy", ""),
        ("retention.bytes", "-5"),
        ("message.format.version", "2.8"),
        ("message.format.version", "0.10.0-IV1"),
        ("leader.replication.throttled.replicas", "0:1, 12:3"),
        ("leader.replication.throttled.replicas", "*"),
        ("compression.gzip.level", "-1"),
    ],
)
def test_values_at_the_bounds(name: str, text: str) -> None:
    assert name in LogConfig.from_strings({name: text}).given


def test_unknown_names_and_contradictions() -> None:
    with pytest.raises(UnknownSetting, match=r"Unknown topic config name: no\.such"):
        LogConfig.from_strings({"no.such": "1"})
    with pytest.raises(SettingError, match=r"max\.compaction\.lag\.ms \(3\)"):
        LogConfig.from_strings({"min.compaction.lag.ms": "9", "max.compaction.lag.ms": "3"})
