"""AlterConfigs, IncrementalAlterConfigs, DescribeConfigs, ListConfigResources: codes, quirks and
what changes bring about.

The codes are those a real Apache Kafka 3.9.2 (client metrics: 4.4.0) gave to the same questions.
"""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker import logging_setup
from broker.cluster.layout import encode_config
from broker.cluster.local import LocalStore
from broker.cluster.store import ConnectionLoss
from broker.controller.topics import Defaults, TopicWish
from broker.handlers import (
    alter_configs,
    describe_configs,
    incremental_alter_configs,
    list_config_resources,
)
from protocol.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResource,
)
from protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from protocol.messages.incremental_alter_configs import (
    AlterableConfig as Entry,
)
from protocol.messages.incremental_alter_configs import (
    AlterConfigsResource as ChangedResource,
)
from protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
)
from protocol.messages.list_config_resources import ListConfigResourcesRequest
from storage.config import LogConfig
from tests.broker.config_kit import (
    APPEND,
    BROKER,
    DELETE,
    GROUP,
    LOGGER,
    SET,
    SUBTRACT,
    TOPIC,
    Broker,
    Change,
    built,
    names_of,
    running,
)

LOGGER_NAME = "odradek.test.config_handlers"


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with running() as made:
        yield made


TOPIC_CHANGES: list[tuple[int, tuple[Change, ...]]] = [
    (0, ()),
    (0, (("retention.ms", SET, " 7 "),)),
    (0, (("retention.bytes", SET, "-5"),)),
    (40, (("retention.ms", SET, "x"),)),
    (40, (("retention.ms", SET, ""),)),
    (40, (("retention.ms", SET, "-2"),)),
    (40, (("no.such", SET, "1"),)),
    (40, (("", SET, "1"),)),
    (40, (("log.retention.ms", SET, "1"),)),
    (0, (("no.such", DELETE, None),)),
    (0, (("retention.ms", DELETE, "5"),)),
    (-1, (("no.such", APPEND, "1"),)),
    (-1, (("no.such", SUBTRACT, "1"),)),
    (40, (("retention.ms", APPEND, "1"),)),
    (40, (("retention.ms", SUBTRACT, "1"),)),
    (40, (("cleanup.policy", APPEND, "burn"),)),
    (40, (("cleanup.policy", APPEND, ""),)),
    (0, (("cleanup.policy", APPEND, "delete, compact"),)),
    (42, (("retention.ms", SET, None),)),
    (42, (("cleanup.policy", APPEND, None),)),
    (42, (("cleanup.policy", SUBTRACT, None),)),
    (-1, (("retention.ms", 4, "5"),)),
    (-1, (("retention.ms", -1, "5"),)),
    (42, (("retention.ms", SET, "5"), ("retention.ms", DELETE, None))),
    (40, (("retention.ms", SET, "5"), ("segment.ms", SET, "x"))),
    (40, (("min.compaction.lag.ms", SET, "9"), ("max.compaction.lag.ms", SET, "3"))),
    (40, (("remote.storage.enable", SET, "true"),)),
    (40, (("remote.log.copy.disable", SET, "true"),)),
    (40, (("leader.replication.throttled.replicas", SET, "none"),)),
    (0, (("leader.replication.throttled.replicas", SET, "*"),)),
]


@pytest.mark.parametrize(("code", "changes"), TOPIC_CHANGES)
async def test_changes_of_a_topic(broker: Broker, code: int, changes: tuple[Change, ...]) -> None:
    assert await broker.change(TOPIC, "t", *changes, validate=True) == code
    assert dict(broker.node.configs.topic("t")) == {}
    assert broker.logs.given == []
    assert await broker.change(TOPIC, "t", *changes) == code
    if code:
        assert dict(broker.node.configs.topic("t")) == {}


@pytest.mark.parametrize(
    ("name", "code"),
    [("", 42), ("never", 3), ("a b", 3), ("x" * 250, 3), ("__consumer_offsets", 3)],
)
async def test_topics_that_are_not_there(broker: Broker, name: str, code: int) -> None:
    assert await broker.change(TOPIC, name, ("retention.ms", SET, "x")) == code
    assert await broker.replace(TOPIC, name, ("retention.ms", "x")) == code
    # What is wrong with the operations comes before the topic.
    assert await broker.change(TOPIC, name or "never", ("no.such", APPEND, "x")) == -1


@pytest.mark.parametrize(
    ("kind", "changes", "sentence"),
    [
        (TOPIC, [("compression.type", SET, "zip")], "Invalid config value for resource "
         "ConfigResource(type=TOPIC, name='t'): Invalid value zip for configuration "
         "compression.type: Value must be one of: uncompressed, zstd, lz4, snappy, gzip, producer"),
        (TOPIC, [("min.cleanable.dirty.ratio", SET, "1.1")], "Invalid config value for resource "
         "ConfigResource(type=TOPIC, name='t'): Invalid value 1.1 for configuration "
         "min.cleanable.dirty.ratio: Value must be no more than 1"),
        (TOPIC, [("retention.ms", SET, "1"), ("retention.ms", DELETE, None)],
         "Error due to duplicate config keys : retention.ms"),
        (TOPIC, [("retention.bytes", SET, None)], "Null value not supported for : retention.bytes"),
        (TOPIC, [("compression.type", APPEND, "gzip")],
         "Config value append is not allowed for config key: compression.type"),
        (TOPIC, [("compression.type", SUBTRACT, "gzip")],
         "Config value subtract is not allowed for config key: compression.type"),
        (BROKER, [("log.cleaner.threads", SET, "many")], "Invalid config value for resource "
         "ConfigResource(type=BROKER, name='1'): Invalid value many for configuration "
         "log.cleaner.threads: Value must be a number of type INT"),
    ],
)  # fmt: skip
async def test_refusals_say_what_programs_look_for(
    broker: Broker, kind: int, changes: list[Change], sentence: str
) -> None:
    name = "t" if kind == TOPIC else "1"
    assert await broker.complaint(kind, name, *changes) == sentence


async def test_operations_on_a_list(broker: Broker) -> None:
    steps: list[tuple[int, str, str]] = [
        (APPEND, "compact", "delete,compact"),
        (APPEND, "compact", "delete,compact"),
        (SUBTRACT, "delete", "compact"),
        (SUBTRACT, "delete", "compact"),
        (SUBTRACT, "compact", ""),
        (APPEND, "delete,compact", "delete,compact"),
        (SUBTRACT, "compact,delete", ""),
        (SET, "compact,compact", "compact,compact"),
    ]
    for operation, text, expected in steps:
        assert await broker.change(TOPIC, "t", ("cleanup.policy", operation, text)) == 0
        told = await broker.told(TOPIC, "t", "cleanup.policy")
        assert told == {"cleanup.policy": (expected, 1)}
    assert await broker.change(TOPIC, "t", ("cleanup.policy", DELETE, None)) == 0
    assert await broker.told(TOPIC, "t", "cleanup.policy") == {"cleanup.policy": ("delete", 5)}


@pytest.mark.parametrize(
    ("code", "entries"),
    [
        (0, ()),
        (0, (("retention.ms", " 7 "), ("cleanup.policy", ""))),
        (40, (("retention.ms", "x"),)),
        (40, (("no.such", "1"),)),
        (40, (("", "1"),)),
        (42, (("retention.ms", None),)),
        (42, (("retention.ms", "6"), ("retention.ms", "7"))),
        (40, (("cleanup.policy", "delete,burn"),)),
    ],
)
async def test_replacing_a_topics_settings(
    broker: Broker, code: int, entries: tuple[tuple[str, str | None], ...]
) -> None:
    assert await broker.replace(TOPIC, "t", ("segment.ms", "9")) == 0
    assert await broker.replace(TOPIC, "t", *entries, validate=True) == code
    assert await broker.replace(TOPIC, "t", *entries) == code
    after = {"segment.ms": "9"} if code else dict(entries)
    assert dict(broker.node.configs.topic("t")) == after


async def test_a_topics_logs_hear_of_it(broker: Broker) -> None:
    await broker.change(TOPIC, "t", ("retention.ms", SET, "7"))
    ((topic, config),) = broker.logs.given
    assert (topic, config.retention_ms) == ("t", 7)
    await broker.change(TOPIC, "t", ("retention.ms", DELETE, None))
    assert broker.logs.given[1] == ("t", LogConfig.from_strings({"retention.ms": "-1"}))


async def test_a_change_made_through_another_broker_is_described_at_once(broker: Broker) -> None:
    await broker.part.store.set("/config/topics/t", encode_config({"retention.ms": "77"}))
    assert await broker.told(TOPIC, "t", "retention.ms") == {"retention.ms": ("77", 1)}


async def test_a_brokers_change_reaches_all_logs(broker: Broker) -> None:
    await broker.change(TOPIC, "t", ("segment.bytes", SET, "100"))
    broker.logs.given.clear()
    assert await broker.change(BROKER, "1", ("log.segment.bytes", SET, "200")) == 0
    found = {topic: config.segment_bytes for topic, config in broker.logs.given}
    assert found == {"t": 100, "u": 200}
    broker.logs.given.clear()
    assert await broker.change(BROKER, "", ("log.cleaner.backoff.ms", SET, "3")) == 0
    assert broker.node.config.log_cleaner_backoff_ms == 3
    assert broker.logs.given == []


BOTH, ONE, ALL = ("1", ""), ("1",), ("",)
BROKER_CHANGES: list[tuple[int, tuple[str, ...], Change]] = [
    (0, BOTH, ("log.cleaner.backoff.ms", SET, "14001")),
    (42, BOTH, ("broker.id", SET, "5")),
    (0, BOTH, ("broker.id", DELETE, None)),
    (0, BOTH, ("no.such.key", SET, "5")),
    (0, BOTH, ("no.such.key", DELETE, None)),
    (-1, BOTH, ("no.such.key", APPEND, "5")),
    (42, BOTH, ("message.max.bytes", SET, "x")),
    (42, BOTH, ("message.max.bytes", SET, "-5")),
    (42, BOTH, ("message.max.bytes", SET, None)),
    (40, BOTH, ("message.max.bytes", APPEND, "5")),
    (42, BOTH, ("message.max.bytes", 9, "5")),
    (0, BOTH, ("log.cleanup.policy", APPEND, "compact")),
    (0, BOTH, ("log.cleanup.policy", SUBTRACT, "compact,delete")),
    (0, ONE, ("advertised.listeners", SET, "PLAINTEXT://x:1")),
    (42, ALL, ("advertised.listeners", SET, "PLAINTEXT://x:1")),
    (42, ONE, ("advertised.listeners", SET, "PLAINTEXT://0.0.0.0:1")),
    (42, BOTH, ("listeners", SET, "X://y")),
    (42, BOTH, ("listeners", SET, "")),
    (42, BOTH, ("listeners", SET, "PLAINTEXT://127.0.0.1:1")),
    (42, BOTH, ("ssl.keystore.location", SET, "/x")),
    (0, ONE, ("listener.name.plaintext.ssl.keystore.location", SET, "/x")),
    (42, ALL, ("listener.name.plaintext.ssl.keystore.location", SET, "/x")),
    (42, BOTH, ("max.connections.per.ip.overrides", SET, "x")),
    (0, BOTH, ("max.connections.per.ip.overrides", SET, "127.0.0.1:5")),
    (42, BOTH, ("log.cleaner.threads", SET, "0")),
    (0, BOTH, ("log.cleaner.threads", SET, "2")),
    (42, BOTH, ("log.cleaner.threads", SET, "3")),
    (42, BOTH, ("num.io.threads", SET, "3")),
    (0, BOTH, ("num.io.threads", SET, "4")),
    (0, BOTH, ("num.io.threads", SET, "16")),
    (42, BOTH, ("num.io.threads", SET, "17")),
    (42, BOTH, ("log.retention.ms", SET, "0")),
    (0, BOTH, ("log.retention.ms", SET, "-2")),
    (42, BOTH, ("log.roll.ms", SET, "0")),
    (42, BOTH, ("log.retention.hours", SET, "5")),
    (42, BOTH, ("compression.type", SET, "x")),
    (0, BOTH, ("log.cleaner.io.max.bytes.per.second", SET, "1e3")),
    (40, ONE, ("sasl.jaas.config", SET, "x")),
    (42, ALL, ("sasl.jaas.config", SET, "x")),
    (40, ONE, ("listener.name.plaintext.sasl.jaas.config", SET, "x")),
    (42, BOTH, ("log.cleaner.dedupe.buffer.size", SET, "5")),
    (42, BOTH, ("metric.reporters", SET, "x.Y")),
    (0, BOTH, ("super.users", SET, "x")),
    (42, BOTH, ("inter.broker.listener.name", SET, "x")),
]


@pytest.mark.parametrize(("code", "names", "change"), BROKER_CHANGES)
async def test_changes_of_a_broker(
    broker: Broker, code: int, names: tuple[str, ...], change: Change
) -> None:
    for name in names:
        assert await broker.change(BROKER, name, change) == code, name
        stored = broker.node.configs.broker(int(name) if name else None)
        assert (change[0] in stored) == (code == 0 and change[1] != DELETE)
        if change[1] == SET and change[2] is not None:
            assert await broker.replace(BROKER, name, (change[0], change[2])) == code
        assert await broker.replace(BROKER, name) == 0


NAMES = [("2", 42), ("x", 42), ("-1", 42), ("01", 0), ("+1", 0), (" 1", 42), ("9" * 11, 42)]


@pytest.mark.parametrize(("name", "code"), NAMES)
async def test_names_of_brokers(broker: Broker, name: str, code: int) -> None:
    assert await broker.change(BROKER, name, ("log.cleaner.backoff.ms", SET, "1")) == code
    assert await broker.replace(BROKER, name, ("log.cleaner.backoff.ms", "1")) == code
    assert (await broker.describe(BROKER, name, "num.partitions")).error_code == code
    assert (await broker.describe(LOGGER, name)).error_code == code


async def test_values_of_a_broker_are_told_with_their_sources(broker: Broker) -> None:
    for name, text in (("1", "1e3"), ("", "2e3")):
        change = ("log.cleaner.io.max.bytes.per.second", SET, text)
        assert await broker.change(BROKER, name, change) == 0
    key = "log.cleaner.io.max.bytes.per.second"
    (told,) = (await broker.describe(BROKER, "1", key)).configs
    assert (told.value, told.config_source, told.read_only) == ("1000.0", 2, False)
    assert [(s.value, s.source) for s in told.synonyms] == [
        ("1e3", 2),
        ("2e3", 3),
        ("1.7976931348623157E308", 5),
    ]
    (told,) = (await broker.describe(BROKER, "")).configs
    assert (told.name, told.value, told.config_source) == (key, "2e3", 3)
    assert [(s.value, s.source) for s in told.synonyms] == [("2e3", 3)]


async def test_rates_of_replication_are_told_only_where_they_are_set(broker: Broker) -> None:
    key = "leader.replication.throttled.rate"
    assert await broker.told(BROKER, "1", key) == {}
    assert await broker.change(BROKER, "1", (key, SET, "-5")) == 42
    for name, text in (("1", "1000"), ("", "2000")):
        assert await broker.change(BROKER, name, (key, SET, text)) == 0
    (told,) = (await broker.describe(BROKER, "1", key)).configs
    assert (told.value, told.config_source, told.read_only) == ("1000", 2, True)
    assert [(s.value, s.source) for s in told.synonyms] == [("1000", 2), ("2000", 3)]
    assert broker.node.config.leader_replication_throttled_rate == 1000
    assert await broker.change(BROKER, "1", (key, DELETE, None)) == 0
    assert broker.node.config.leader_replication_throttled_rate == 2000


async def test_a_brokers_values_show_in_topics(broker: Broker) -> None:
    await broker.change(BROKER, "1", ("log.retention.ms", SET, "-2"))
    (told,) = (await broker.describe(TOPIC, "t", "retention.ms")).configs
    assert (told.value, told.config_source) == ("-1", 2)
    assert [(s.name, s.value) for s in told.synonyms] == [
        ("log.retention.ms", "-2"),
        ("log.retention.ms", "-1"),
        ("log.retention.hours", "168"),
    ]


async def test_unknown_settings_of_all_brokers_are_secrets(broker: Broker) -> None:
    assert await broker.change(BROKER, "", ("super.users", SET, "x")) == 0
    (told,) = (await broker.describe(BROKER, "")).configs
    assert (told.value, told.is_sensitive, told.read_only) == (None, True, True)
    assert [(s.value, s.source) for s in told.synonyms] == [(None, 3)]


@pytest.mark.parametrize("kind", [0, 1, 3, 5, 64, 127, -1])
async def test_other_types(broker: Broker, kind: int) -> None:
    assert await broker.change(kind, "x", ("retention.ms", SET, "5")) == 42
    assert await broker.replace(kind, "x", ("retention.ms", "5")) == 42
    result = await broker.describe(kind, "x")
    assert result.error_code == 42
    assert result.error_message


async def test_a_resource_named_twice(broker: Broker) -> None:
    twice = [ChangedResource(TOPIC, "t", [Entry("retention.ms", SET, "5")])] * 2
    other = ChangedResource(TOPIC, "u", [Entry("retention.ms", SET, "5")])
    request = IncrementalAlterConfigsRequest([*twice, other])
    answer = await broker.ask(incremental_alter_configs, request)
    assert [r.error_code for r in answer.responses] == [42, 42, 0]
    old = AlterConfigsRequest([AlterConfigsResource(TOPIC, "t")] * 2)
    answer = await broker.ask(alter_configs, old)
    assert [r.error_code for r in answer.responses] == [42, 42]
    assert dict(broker.node.configs.topic("t")) == {}
    assert dict(broker.node.configs.topic("u")) == {"retention.ms": "5"}


async def test_each_resource_for_itself(broker: Broker) -> None:
    request = IncrementalAlterConfigsRequest(
        [
            ChangedResource(TOPIC, "t", [Entry("retention.ms", SET, "5")]),
            ChangedResource(TOPIC, "never", [Entry("retention.ms", SET, "5")]),
            ChangedResource(TOPIC, "u", [Entry("retention.ms", SET, "x")]),
            ChangedResource(BROKER, "1", [Entry("message.max.bytes", SET, "77")]),
        ]
    )
    answer = await broker.ask(incremental_alter_configs, request)
    assert [r.error_code for r in answer.responses] == [0, 3, 40, 0]
    assert broker.node.config.message_max_bytes == 77


async def test_a_store_that_does_not_answer(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise ConnectionLoss("/config/topics/t", "the session is gone")

    monkeypatch.setattr(broker.node.configs, "edit", lost)
    assert await broker.change(TOPIC, "t", ("retention.ms", SET, "5")) == -1


async def test_the_checks_hold_for_what_is_in_the_store(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another broker was faster: the change is made, and checked, over what it wrote."""
    edit = broker.node.configs.edit

    async def after_another(kind: str, name: str, change: Any) -> Any:
        monkeypatch.undo()
        await edit(kind, name, lambda _: {"max.compaction.lag.ms": "3"})
        return await edit(kind, name, change)

    monkeypatch.setattr(broker.node.configs, "edit", after_another)
    assert await broker.change(TOPIC, "t", ("min.compaction.lag.ms", SET, "9")) == 40
    assert dict(broker.node.configs.topic("t")) == {"max.compaction.lag.ms": "3"}


# --- loggers --------------------------------------------------------------------------------------

LEVELS: list[tuple[int, Change]] = [
    (0, (LOGGER_NAME, SET, "DEBUG")),
    (0, (LOGGER_NAME, SET, "TRACE")),
    (0, (LOGGER_NAME, DELETE, None)),
    (40, (LOGGER_NAME, SET, "LOUD")),
    (40, (LOGGER_NAME, SET, "debug")),
    (40, (LOGGER_NAME, SET, "OFF")),
    (42, (LOGGER_NAME, SET, None)),
    (42, ("root", DELETE, None)),
    (42, ("root", APPEND, "x")),
    (42, ("no.such", SUBTRACT, "x")),
    (-1, ("root", 9, "x")),
    (40, ("no.such", SET, "LOUD")),
    (40, ("no.such", DELETE, None)),
    (40, ("", SET, "INFO")),
]


@pytest.mark.parametrize(("code", "change"), LEVELS)
async def test_levels_of_loggers(broker: Broker, code: int, change: Change) -> None:
    logger = logging.getLogger(LOGGER_NAME)
    logger.setLevel(logging.ERROR)
    assert await broker.change(LOGGER, "1", change, validate=True) == code
    assert logger.level == logging.ERROR
    assert await broker.change(LOGGER, "1", change) == code
    if code == 0:
        name, operation, level = change
        expected = 0 if operation == DELETE else logging_setup.LEVELS[level or ""]
        assert logger.level == expected
        (told,) = (await broker.describe(LOGGER, "1", name, "no.such")).configs
        assert (told.name, told.config_source, told.config_type) == (name, 6, 0)
        assert told.documentation == ""
    logger.setLevel(logging.NOTSET)


async def test_one_wrong_level_changes_none(broker: Broker) -> None:
    logger = logging.getLogger(LOGGER_NAME)
    changes = ((LOGGER_NAME, SET, "DEBUG"), ("no.such", SET, "DEBUG"))
    assert await broker.change(LOGGER, "1", *changes) == 40
    assert logger.level == logging.NOTSET
    assert await broker.change(LOGGER, "", (LOGGER_NAME, SET, "DEBUG")) == 42
    assert await broker.change(LOGGER, "2", (LOGGER_NAME, SET, "DEBUG")) == 42
    assert await broker.replace(LOGGER, "1", (LOGGER_NAME, "DEBUG")) == 42
    assert (await broker.describe(LOGGER, "")).error_code == 42


# --- client metrics -------------------------------------------------------------------------------


async def test_listing(broker: Broker) -> None:
    everything = [("1", LOGGER), ("1", BROKER), ("t", TOPIC), ("u", TOPIC)]
    assert await names_of(broker) == everything
    assert await names_of(broker, TOPIC) == everything[2:]
    assert await names_of(broker, BROKER, BROKER) == [("1", BROKER)]
    assert await names_of(broker, GROUP) == []
    for kinds in ([0], [1], [64], [-1], [TOPIC, 3]):
        request = ListConfigResourcesRequest(kinds)
        answer = await broker.ask(list_config_resources, request, 1)
        assert (answer.error_code, answer.config_resources) == (35, [])


# --- describing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "sentence"),
    [
        ("never", 3, False),
        ("", 17, True),
        ("a b", 17, True),
        (".", 17, True),
        ("x" * 250, 17, True),
    ],
)
async def test_topics_that_cannot_be_described(
    broker: Broker, name: str, code: int, sentence: bool
) -> None:
    result = await broker.describe(TOPIC, name)
    assert (result.error_code, bool(result.error_message)) == (code, sentence)
    assert result.error_message is not None
    assert result.configs == []


async def test_documentation_only_when_asked_for(broker: Broker) -> None:
    resource = DescribeConfigsResource(TOPIC, "t", ["retention.ms"])
    for wanted in (False, True):
        request = DescribeConfigsRequest([resource], include_documentation=wanted)
        (result,) = (await broker.ask(describe_configs, request)).results
        (told,) = result.configs
        assert bool(told.documentation) == wanted
        assert told.synonyms == []


async def test_keys(broker: Broker) -> None:
    assert await broker.told(TOPIC, "t", "no.such", "log.retention.ms") == {}
    assert len(await broker.told(TOPIC, "t")) == 36
    result = await broker.describe(TOPIC, "t", "retention.ms", "retention.ms")
    assert len(result.configs) == 1


# --- after a restart ------------------------------------------------------------------------------


async def test_changes_outlive_the_broker(tmp_path: Path) -> None:
    path = str(tmp_path / "metadata.sqlite")
    first = await built(LocalStore(path))
    await first.part.controller.create_topics([TopicWish("t", 1, 1)], Defaults(1, 1))
    await first.part.controller.drained()
    assert await first.change(TOPIC, "t", ("retention.ms", SET, "7")) == 0
    assert await first.change(BROKER, "1", ("message.max.bytes", SET, "77")) == 0
    assert await first.change(BROKER, "", ("log.segment.bytes", SET, "88")) == 0
    await first.part.stop()
    second = await built(LocalStore(path))
    assert second.node.config.message_max_bytes == 77
    config = second.dynamic.topic_configs()["t"]
    assert (config.retention_ms, config.max_message_bytes, config.segment_bytes) == (7, 77, 88)
    assert await second.told(TOPIC, "t", "segment.bytes") == {"segment.bytes": ("88", 3)}
    await second.part.stop()


async def test_a_stored_value_that_cannot_be_used(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = {"retention.ms": "x", "no.such": "1", "segment.ms": "9"}
    with caplog.at_level(logging.ERROR):
        await broker.node.configs.put("topics", "t", overrides)
    assert broker.dynamic.for_topic("t").segment_ms == 9
    assert broker.dynamic.for_topic("t").retention_ms == -1
    assert "left out" in caplog.text
