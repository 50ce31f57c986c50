"""DescribeConfigs."""

import struct
from typing import Any

from compat.corpus.resources import BROKER, CLIENT_METRICS, GROUP, LOGGER, TOPIC, UNKNOWN
from compat.script import Run, Topic, case

API = "DescribeConfigs"


def _describe(run: Run, kind: int, name: str, keys: list[str] | None = None, **more: Any) -> Any:
    resource = {"resource_type": kind, "resource_name": name, "configuration_keys": keys}
    return run.call(resources=[resource], **more)


def _options(run: Run) -> list[dict[str, Any]]:
    options: list[dict[str, Any]] = [{}]
    if run.version >= 1:
        options.append({"include_synonyms": True})
    if run.version >= 3:
        options.append({"include_documentation": True})
    return options


CONFIGS = {"retention.ms": "1234", "cleanup.policy": "compact,delete", "min.insync.replicas": "1"}


@case(API, topics={"t": Topic(configs=CONFIGS)})
def topics(run: Run) -> None:
    for more in _options(run):
        _describe(run, TOPIC, run.name("t"), step=f"all {more}", **more)
    for keys in (
        [],
        ["retention.ms"],
        ["no.such"],
        ["retention.ms", "retention.ms"],
        ["segment.ms", "x"],
    ):
        _describe(run, TOPIC, run.name("t"), keys, step=f"keys {keys}")
    _describe(run, TOPIC, run.name("t"), ["log.retention.ms"], step="the broker's name of it")


@case(API)
def unknown_topics(run: Run) -> None:
    for number, name in enumerate((run.fresh("never"), "", "a b", ".", "x" * 250)):
        _describe(run, TOPIC, name, step=f"name {number}")


BROKER_KEYS = [
    "broker.id",
    "num.partitions",
    "log.retention.ms",
    "log.retention.hours",
    "message.max.bytes",
    "listeners",
    "advertised.listeners",
    "ssl.keystore.password",
    "auto.create.topics.enable",
    "offsets.topic.num.partitions",
    "fetch.max.bytes",
    "log.cleaner.threads",
    "no.such.key",
    "log.message.timestamp.type",
    "compression.type",
    "log.segment.bytes",
    "num.io.threads",
    "group.initial.rebalance.delay.ms",
    "log.dirs",
    "log.cleanup.policy",
    "min.insync.replicas",
]


@case(API)
def broker_keys(run: Run) -> None:
    for more in _options(run):
        _describe(run, BROKER, "1", BROKER_KEYS, step=f"some {more}", **more)
        _describe(run, BROKER, "", BROKER_KEYS, step=f"cluster {more}", **more)


@case(API, alone=True)
def broker_all(run: Run) -> None:
    for more in _options(run):
        _describe(run, BROKER, "1", step=f"all {more}", **more)
    _describe(run, BROKER, "", step="cluster, all")


@case(API)
def other_brokers(run: Run) -> None:
    for name in ("0", "2", "-1", "one", "01", " 1", "1 ", "99999999999"):
        _describe(run, BROKER, name, ["num.partitions"], step=f"broker {name!r}")


@case(API)
def other_types(run: Run) -> None:
    for kind in (UNKNOWN, 1, 3, 5, 64, 127, -1):
        _describe(run, kind, "x", step=f"type {kind}")
    for kind in (CLIENT_METRICS, GROUP):
        for name in ("x", ""):
            _describe(run, kind, name, step=f"type {kind} {name!r}")


@case(API)
def loggers(run: Run) -> None:
    _describe(run, LOGGER, "1", ["no.such.logger"], step="unknown logger")
    _describe(run, LOGGER, "1", [], step="no keys")
    _describe(run, LOGGER, "2", step="other broker")
    _describe(run, LOGGER, "", step="no name")
    _describe(run, LOGGER, "x", step="no number")


@case(API)
def several(run: Run) -> None:
    def one(kind: int, name: str) -> dict[str, Any]:
        keys = ["retention.ms", "num.partitions"]
        return {"resource_type": kind, "resource_name": name, "configuration_keys": keys}

    topic = one(TOPIC, run.name("filled"))
    run.call(resources=[topic, one(BROKER, "1"), one(TOPIC, run.fresh("never"))], step="three")
    run.call(resources=[topic, topic], step="the same twice")
    run.call(resources=[topic, one(5, "x")], step="one of no type")
    run.call(resources=[topic, one(GROUP, "x")], step="one for a group")
    run.call(resources=[], step="nothing")


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    none = b"\0" if run.version >= 4 else struct.pack(">i", -1)
    run.send_body(API, run.version, none + b"\0\0\0", step="null list", link="3")


@case(API)
def bytes_after_the_body(run: Run) -> None:
    resource = {
        "resource_type": TOPIC,
        "resource_name": run.name("filled"),
        "configuration_keys": [],
    }
    run.extra(b"x", resources=[resource])
