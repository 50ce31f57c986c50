"""BrokerConfig: layers, sources, derived values, contradictions."""

import logging
from pathlib import Path

import pytest

from broker.config import (
    BrokerConfig,
    ConfigError,
    Source,
    check_served,
    read_file,
    setting_of,
    shown,
)
from broker.listeners import Endpoint


def test_alone_it_needs_no_settings() -> None:
    config = BrokerConfig()
    assert config.broker_id == 0
    assert config.node_id == 0
    assert config.listeners == (Endpoint("PLAINTEXT", "PLAINTEXT", "127.0.0.1", 9092),)
    assert config.advertised_listeners == config.listeners
    assert config.inter_broker_listener_name == "PLAINTEXT"
    assert config.offsets_topic_replication_factor == 1
    assert config.transaction_state_log_replication_factor == 1
    assert config.transaction_state_log_min_isr == 1
    assert config.num_partitions == 1
    assert config.socket_request_max_bytes == 104857600
    assert config.group_initial_rebalance_delay_ms == 3000
    assert config.log_cleaner_min_cleanable_ratio == 0.5
    assert config.log_cleanup_policy == ["delete"]
    assert config.log_dirs == ("/tmp/kafka-logs",)
    assert config.zookeeper_connect is None


def test_in_a_cluster_kafkas_defaults_hold() -> None:
    config = BrokerConfig({"zookeeper.connect": "h:2181"})
    assert config.broker_id == -1
    assert config.offsets_topic_replication_factor == 3
    assert config.listeners == (Endpoint("PLAINTEXT", "PLAINTEXT", "", 9092),)
    assert BrokerConfig({"zookeeper.connect": "h", "broker.id": "7"}).node_id == 7


@pytest.mark.parametrize("given", [{"node.id": "5"}, {"broker.id": "5"}, {"broker.id": " 5"}])
def test_the_two_names_of_the_id(given: dict[str, str]) -> None:
    config = BrokerConfig(given)
    assert (config.broker_id, config.node_id) == (5, 5)


def test_an_id_of_its_own_choice_is_0() -> None:
    assert BrokerConfig({"broker.id": "-1"}).broker_id == 0


def test_unknown_attributes() -> None:
    config = BrokerConfig()
    assert not hasattr(config, "no_such_setting")
    with pytest.raises(KeyError):
        config.value("no.such.setting")


def test_several_directories() -> None:
    assert BrokerConfig({"log.dirs": "/a, /b"}).log_dirs == ("/a", "/b")
    assert BrokerConfig({"log.dir": "/c"}).log_dirs == ("/c",)
    here = Path.cwd()
    dirs = BrokerConfig({"log.dirs": "data/a,./b"}).log_dirs
    assert dirs == (str(here / "data/a"), str(here / "b"))


@pytest.mark.parametrize(
    ("given", "retention_ms"),
    [
        ({}, 7 * 24 * 3600_000),
        ({"log.retention.hours": "2"}, 2 * 3600_000),
        ({"log.retention.hours": "2", "log.retention.minutes": "3"}, 180_000),
        ({"log.retention.hours": "2", "log.retention.minutes": "3", "log.retention.ms": "4"}, 4),
        ({"log.retention.ms": "-1"}, -1),
        ({"log.retention.ms": "-7"}, -1),
        ({"log.retention.hours": "-1"}, -1),
    ],
)
def test_retention_in_its_three_units(given: dict[str, str], retention_ms: int) -> None:
    assert BrokerConfig(given).log_config.retention_ms == retention_ms


def test_what_topics_fall_back_to() -> None:
    config = BrokerConfig(
        {
            "log.roll.hours": "1",
            "log.roll.jitter.hours": "2",
            "log.flush.scheduler.interval.ms": "9",
            "message.max.bytes": "77",
            "log.cleanup.policy": "compact",
            "log.segment.bytes": "20000",
            "min.insync.replicas": "2",
        }
    )
    topic = config.log_config
    assert topic.segment_ms == 3600_000
    assert topic.segment_jitter_ms == 7200_000
    assert topic.flush_ms == 9
    assert topic.max_message_bytes == 77
    assert topic.compact
    assert topic.segment_bytes == 20000
    assert topic.min_insync_replicas == 2
    assert config.topic_default("segment.ms") == "3600000"
    assert config.topic_default("remote.storage.enable") == "false"


def test_sources_the_one_in_force_first() -> None:
    config = BrokerConfig({"log.retention.ms": "-1"})
    assert config.sources("log.retention.ms") == [
        Source("log.retention.ms", "-1", 4),
        Source("log.retention.hours", "168", 5),
    ]
    assert config.sources("log.retention.hours") == [Source("log.retention.hours", "168", 5)]
    assert config.sources("log.roll.ms") == []
    config.set_dynamic({"log.retention.ms": "1"}, {"log.retention.ms": "2"})
    assert [(s.value, s.source) for s in config.sources("log.retention.ms")] == [
        ("1", 2),
        ("2", 3),
        ("-1", 4),
        ("168", 5),
    ]


def test_listener_settings() -> None:
    name = "listener.name.external.scram-sha-256.sasl.jaas.config"
    row = setting_of(name)
    assert row is not None
    assert row.name == "sasl.jaas.config"
    assert setting_of("listener.name.external.ssl.keystore.type") is not None
    assert setting_of("listener.name.external.no.such") is None
    config = BrokerConfig({name: "secret"})
    assert config.unknown() == []
    assert config.sources(name) == [Source(name, "secret", 4)]
    assert shown(name, "secret") is None


def test_what_is_not_known_is_kept_and_said() -> None:
    config = BrokerConfig({"no.such": "1", "super.users": "User:a", "num.partitions": "3"})
    assert config.unknown() == ["no.such"]
    assert check_served(config) == ["settings without meaning here: no.such"]
    assert shown("no.such", "1") is None


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"num.partitions": "0"}, r"num\.partitions=0 must be at least 1\."),
        ({"num.partitions": "many"}, r"num\.partitions=many must be a number of type INT\."),
        ({"auto.create.topics.enable": "yes"}, "must be true or false"),
        ({"compression.type": "brotli"}, "must be one of: uncompressed"),
        ({"broker.id": "1", "node.id": "2"}, "must be the same number"),
        ({"broker.id": "1001"}, "from -1 to 1000"),
        ({"broker.id": "x"}, "broker.id=x must be a number"),
        ({"log.dirs": " "}, "at least one directory"),
        ({"log.retention.ms": "0"}, "must be -1 for no limit"),
        ({"log.roll.ms": "0"}, "log.roll.ms or log.roll.hours: Value must be at least 1"),
        ({"log.cleaner.threads": "1000"}, "1 MiB"),
        ({"queued.max.request.bytes": "5"}, "queued.max.request.bytes"),
        ({"max.connections.per.ip": "0"}, "overrides"),
        ({"max.connections.per.ip.overrides": "x"}, "host:count"),
        ({"replica.fetch.wait.max.ms": "40000"}, "replica.socket.timeout.ms"),
        ({"replica.fetch.wait.max.ms": "30000", "replica.lag.time.max.ms": "5"}, "lag.time"),
        ({"group.consumer.session.timeout.ms": "1"}, "not between its minimum"),
        ({"offsets.commit.required.acks": "2"}, "offsets.commit.required.acks"),
        ({"listeners": "X://y"}, "not of the form"),
        (
            {
                "inter.broker.listener.name": "PLAINTEXT",
                "security.inter.broker.protocol": "PLAINTEXT",
            },
            "Only one of",
        ),
        ({"process.roles": "broker", "zookeeper.connect": "x"}, "cannot both"),
        ({"process.roles": "boss"}, "every item must be one of"),
        (
            {"log.cleaner.min.compaction.lag.ms": "9", "log.cleaner.max.compaction.lag.ms": "1"},
            "lag",
        ),
        ({"listener.name.plaintext.max.connections": "x"}, "must be a number"),
    ],
)
def test_what_cannot_be(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as refused:
        BrokerConfig(given)
    assert "\n" not in str(refused.value)


def test_security_is_not_silently_left_out() -> None:
    config = BrokerConfig(
        {"listeners": "SSL://h:1", "security.inter.broker.protocol": "SSL"},
    )
    with pytest.raises(ConfigError, match="does not serve"):
        check_served(config)
    notes = check_served(BrokerConfig({"authorizer.class.name": "x.Y", "process.roles": "broker"}))
    assert len(notes) == 2


def test_dynamic_settings() -> None:
    config = BrokerConfig({"num.io.threads": "4"})
    heard: list[frozenset[str]] = []
    config.watch(heard.append)
    assert config.num_io_threads == 4
    changed = config.set_dynamic({"num.io.threads": "6"}, {"message.max.bytes": "500"})
    assert changed == {"num.io.threads", "message.max.bytes"}
    assert heard == [changed]
    assert (config.num_io_threads, config.message_max_bytes) == (6, 500)
    assert config.log_config.max_message_bytes == 500
    assert config.set_dynamic({"num.io.threads": "6"}, {"message.max.bytes": "500"}) == frozenset()
    config.set_dynamic({}, {})
    assert (config.num_io_threads, config.message_max_bytes) == (4, 1048588)
    assert heard[1:] == [changed]


def test_unusable_dynamic_settings_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    config = BrokerConfig()
    own = {"message.max.bytes": "x", "broker.id": "9", "num.io.threads": "5", "unknown": "1"}
    cluster = {"advertised.listeners": "PLAINTEXT://x:1"}
    with caplog.at_level(logging.ERROR):
        config.set_dynamic(own, cluster)
    assert config.num_io_threads == 5
    assert config.broker_id == 0
    assert config.message_max_bytes == 1048588
    assert config.advertised_listeners[0].port == 9092
    assert dict(config.dynamic) == {"num.io.threads": "5", "unknown": "1"}
    assert len(caplog.records) == 3


def test_dynamic_settings_that_fit_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    config = BrokerConfig()
    with caplog.at_level(logging.ERROR):
        assert config.set_dynamic({"advertised.listeners": "SSL://x:1"}, {}) == frozenset()
    assert config.advertised_listeners[0].host == "127.0.0.1"
    assert "not taken over" in caplog.text


def test_a_copy_to_try_settings_on() -> None:
    config = BrokerConfig()
    tried = config.with_dynamic({"advertised.listeners": "PLAINTEXT://x:1"}, {})
    assert tried.advertised_listeners[0].host == "x"
    assert config.advertised_listeners[0].host == "127.0.0.1"
    with pytest.raises(ConfigError):
        config.with_dynamic({"log.retention.ms": "0"}, {})


def test_real_ports() -> None:
    config = BrokerConfig({"listeners": "PLAINTEXT://127.0.0.1:0"})
    config.advertise({"PLAINTEXT": 4711})
    assert config.advertised_listeners[0].port == 4711
    config = BrokerConfig({"advertised.listeners": "PLAINTEXT://x:1"})
    config.advertise({"PLAINTEXT": 4711})
    assert config.advertised_listeners[0].port == 1


def test_real_ports_outlive_dynamic_changes() -> None:
    config = BrokerConfig({"listeners": "PLAINTEXT://127.0.0.1:0"})
    config.advertise({"PLAINTEXT": 4711})
    config.set_dynamic({"num.io.threads": "6"}, {})
    assert config.advertised_listeners[0].port == 4711


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "server.properties"
    path.write_text("# a broker\nnum.partitions = 4\nlog.dirs=/a,\\\n  /b\n")
    assert read_file(str(path)) == {"num.partitions": "4", "log.dirs": "/a,/b"}
    with pytest.raises(ConfigError, match="Cannot read"):
        read_file(str(tmp_path / "none"))
    path.write_text("a=\\u1")
    with pytest.raises(ConfigError, match="is not a property file: line 1"):
        read_file(str(path))
