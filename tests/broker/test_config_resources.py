"""Settings of client metrics subscriptions and of groups; the codes are those of Kafka 4.4.0."""

from collections.abc import AsyncIterator

import pytest

from tests.broker.config_kit import (
    APPEND,
    CLIENT_METRICS,
    DELETE,
    GROUP,
    SET,
    SUBTRACT,
    Broker,
    Change,
    names_of,
    running,
)


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with running() as made:
        yield made


SUBSCRIPTIONS: list[tuple[int, tuple[Change, ...]]] = [
    (42, (("interval.ms", SET, "99"),)),
    (42, (("interval.ms", SET, "3600001"),)),
    (0, (("interval.ms", SET, "3600000"),)),
    (40, (("interval.ms", SET, "x"),)),
    (42, (("no.such", SET, "5"),)),
    (0, (("no.such", DELETE, "5"),)),
    (40, (("no.such", APPEND, "5"),)),
    (40, (("metrics", APPEND, "a"),)),
    (40, (("metrics", SUBTRACT, "a"),)),
    (0, (("match", SET, "client_id=a.*, client_software_name=b"),)),
    (40, (("match", SET, "client_id=a.*,x=y"),)),
    (40, (("match", SET, "zz"),)),
    (40, (("match", SET, "client_id=[0-9"),)),
    (-1, (("interval.ms", 9, "1"),)),
    (42, (("interval.ms", SET, None),)),
    (42, (("interval.ms", SET, "500"), ("interval.ms", SET, "600"))),
]


@pytest.mark.parametrize(("code", "changes"), SUBSCRIPTIONS)
async def test_client_metrics(broker: Broker, code: int, changes: tuple[Change, ...]) -> None:
    assert await broker.change(CLIENT_METRICS, "s", *changes, validate=True) == code
    assert broker.node.configs.names("client-metrics") == []
    assert await broker.change(CLIENT_METRICS, "s", *changes) == code
    kept = code == 0 and changes[0][1] == SET
    assert broker.node.configs.names("client-metrics") == (["s"] if kept else [])


GROUP_CHANGES: list[tuple[int, tuple[Change, ...]]] = [
    (0, (("consumer.session.timeout.ms", SET, "50000"),)),
    (40, (("consumer.session.timeout.ms", SET, "44999"),)),
    (40, (("consumer.session.timeout.ms", SET, "60001"),)),
    (40, (("consumer.session.timeout.ms", SET, "x"),)),
    (40, (("no.such", SET, "x"),)),
    (0, (("no.such", DELETE, None),)),
    (40, (("consumer.session.timeout.ms", APPEND, "x"),)),
    (40, (("streams.rack.aware.assignment.tags", APPEND, "x"),)),
    (40, (("share.auto.offset.reset", SET, "sometime"),)),
    (40, (("share.auto.offset.reset", SET, "none"),)),
    (40, (("share.auto.offset.reset", SET, "by_duration:-PT1H"),)),
    (40, (("share.auto.offset.reset", SET, "by_duration:PT"),)),
    (0, (("share.auto.offset.reset", SET, "by_duration:P1DT2H3M4.5S"),)),
    (0, (("share.auto.offset.reset", SET, "earliest"),)),
    (0, (("share.isolation.level", SET, "read_committed"),)),
    (40, (("share.isolation.level", SET, "READ_COMMITTED"),)),
    (40, (("share.record.lock.duration.ms", SET, "14999"),)),
    (
        0,
        (("share.session.timeout.ms", SET, "45000"), ("share.heartbeat.interval.ms", SET, "15000")),
    ),
    (40, (("share.delivery.count.limit", SET, "11"),)),
    (0, (("share.delivery.count.limit", SET, "10"),)),
    (40, (("share.partition.max.record.locks", SET, "99"),)),
    (40, (("errors.deadletterqueue.topic.name", SET, "__dlq"),)),
    (0, (("errors.deadletterqueue.topic.name", SET, "dlq"),)),
    (40, (("streams.assignor.name", SET, "nope"),)),
    (0, (("streams.assignor.name", SET, "sticky"),)),
    (42, (("share.delivery.count.limit", SET, "7"), ("share.delivery.count.limit", SET, "7"))),
    (42, (("share.delivery.count.limit", SET, None),)),
    (-1, (("share.delivery.count.limit", 9, "7"),)),
]


@pytest.mark.parametrize(("code", "changes"), GROUP_CHANGES)
async def test_groups(broker: Broker, code: int, changes: tuple[Change, ...]) -> None:
    assert await broker.change(GROUP, "g", *changes, validate=True) == code
    assert broker.node.configs.names("groups") == []
    assert await broker.change(GROUP, "g", *changes) == code
    kept = code == 0 and changes[0][1] == SET
    assert broker.node.configs.names("groups") == (["g"] if kept else [])


async def test_a_subscription_lives_while_it_has_settings(broker: Broker) -> None:
    name = "a b/c"
    assert await broker.change(CLIENT_METRICS, name, ("metrics", SET, "")) == 0
    assert await broker.told(CLIENT_METRICS, name) == {
        "interval.ms": ("300000", 5),
        "match": ("", 5),
        "metrics": ("", 7),
    }
    assert await names_of(broker, CLIENT_METRICS) == [(name, CLIENT_METRICS)]
    assert await names_of(broker, version=0) == [(name, CLIENT_METRICS)]
    assert await broker.replace(CLIENT_METRICS, name) == 0
    assert await names_of(broker, CLIENT_METRICS) == []
    assert await broker.change(CLIENT_METRICS, "", ("metrics", SET, "")) == 42
    assert (await broker.describe(CLIENT_METRICS, "")).error_code == 42


async def test_a_groups_settings_are_over_the_brokers(broker: Broker) -> None:
    group, settings = "a b/c", broker.node.config.groups
    assert settings.get(group, "share.session.timeout.ms") == 45000
    assert settings.get(group, "share.isolation.level") == "read_uncommitted"
    assert await broker.change(GROUP, group, ("share.session.timeout.ms", SET, "60000")) == 0
    assert settings.get(group, "share.session.timeout.ms") == 60000
    told = await broker.told(GROUP, group)
    assert told["share.session.timeout.ms"] == ("60000", 8)
    assert told["consumer.session.timeout.ms"] == ("45000", 5)
    assert told["share.auto.offset.reset"] == ("latest", 5)
    assert await names_of(broker, GROUP) == [(group, GROUP)]
    # A broker with other bounds keeps within them.
    broker.node.config._static["group.share.max.session.timeout.ms"] = "50000"
    broker.node.config._derive()
    assert settings.get(group, "share.session.timeout.ms") == 50000
    assert await broker.replace(GROUP, group, ("share.delivery.count.limit", "2")) == 0
    assert settings.get(group, "share.session.timeout.ms") == 45000
    assert settings.get(group, "share.delivery.count.limit") == 2
    assert await broker.replace(GROUP, group) == 0
    assert settings.get(group, "share.delivery.count.limit") == 5
    assert await names_of(broker, GROUP) == []
    assert await broker.change(GROUP, "", ("share.delivery.count.limit", SET, "2")) == 42
    assert (await broker.describe(GROUP, "")).error_code == 42
