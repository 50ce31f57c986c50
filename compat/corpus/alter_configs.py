"""AlterConfigs: replaces all settings of a resource."""

import struct
from typing import Any

from compat.corpus.resources import BROKER, CLIENT_METRICS, GROUP, LOGGER, TOPIC, told
from compat.script import Run, Topic, case

API = "AlterConfigs"


def _alter(run: Run, kind: int, name: str, values: dict[str, str | None], **more: Any) -> Any:
    configs = [{"name": k, "value": v} for k, v in values.items()]
    resource = {"resource_type": kind, "resource_name": name, "configs": configs}
    return run.call(resources=[resource], **{"validate_only": False, **more})


@case(API, topics={"t": Topic(configs={"retention.ms": "5"})})
def replaced(run: Run) -> None:
    name = run.name("t")
    keys = ("retention.ms", "segment.ms", "cleanup.policy")
    _alter(run, TOPIC, name, {"segment.ms": "9", "cleanup.policy": "compact"}, step="two others")
    told(run, TOPIC, name, *keys, expect={"segment.ms": "9"})
    _alter(run, TOPIC, name, {"retention.ms": "77"}, validate_only=True, step="validated")
    told(run, TOPIC, name, *keys, expect={"segment.ms": "9"})
    _alter(run, TOPIC, name, {}, step="cleared")
    told(run, TOPIC, name, *keys, expect={"cleanup.policy": "delete"})


VALUES: dict[str, dict[str, str | None]] = {
    "unknown key": {"no.such": "1"},
    "no number": {"retention.ms": "x"},
    "below the minimum": {"retention.ms": "-2"},
    "null": {"retention.ms": None},
    "empty": {"retention.ms": ""},
    "none of the values": {"cleanup.policy": "burn"},
    "list with a wrong one": {"cleanup.policy": "delete,burn"},
    "empty list": {"cleanup.policy": ""},
    "blanks": {"retention.ms": " 7 "},
    "one right, one wrong": {"retention.ms": "7", "segment.bytes": "x"},
    "lags crossed": {"min.compaction.lag.ms": "9", "max.compaction.lag.ms": "3"},
    "empty key": {"": "1"},
    "a broker's key": {"log.retention.ms": "5"},
    "right": {"retention.bytes": "1000"},
}


@case(API, topics={"t": Topic()})
def values(run: Run) -> None:
    for step, given in VALUES.items():
        _alter(run, TOPIC, run.name("t"), given, step=step)
        _alter(run, TOPIC, run.name("t"), given, validate_only=True, step=f"{step}, validated")
    told(
        run,
        TOPIC,
        run.name("t"),
        "retention.ms",
        "retention.bytes",
        expect={"retention.bytes": "1000"},
    )


@case(API)
def unknown_resources(run: Run) -> None:
    for number, name in enumerate((run.fresh("never"), "", "a b", "x" * 250)):
        _alter(run, TOPIC, name, {"retention.ms": "5"}, step=f"topic {number}")
    for name in ("2", "x", "-1", "01"):
        _alter(run, BROKER, name, {"log.cleaner.threads": "1"}, step=f"broker {name!r}")
    for kind in (0, 1, 3, 5, 64, -1):
        _alter(run, kind, "x", {"retention.ms": "5"}, step=f"type {kind}")
    for kind in (LOGGER, CLIENT_METRICS, GROUP):
        _alter(run, kind, "1", {"retention.ms": "5"}, step=f"type {kind}")
    run.call(resources=[], validate_only=False, step="nothing")


@case(API, alone=True)
def broker(run: Run) -> None:
    keys = ("log.retention.ms", "message.max.bytes", "log.cleaner.backoff.ms")
    _alter(run, BROKER, "1", {"log.cleaner.backoff.ms": "14000"}, step="dynamic")
    told(run, BROKER, "1", *keys, expect={"log.cleaner.backoff.ms": "14000"})
    _alter(run, BROKER, "1", {"broker.id": "5"}, step="read-only")
    _alter(run, BROKER, "1", {"log.dirs": "/x"}, step="read-only directory")
    _alter(run, BROKER, "1", {"no.such.key": "5"}, step="unknown key")
    _alter(run, BROKER, "1", {"message.max.bytes": "x"}, step="no number")
    _alter(run, BROKER, "1", {"message.max.bytes": "-5"}, step="below the minimum")
    _alter(run, BROKER, "1", {"message.max.bytes": None}, step="null")
    _alter(run, BROKER, "1", {"message.max.bytes": "5000"}, validate_only=True, step="validated")
    _alter(run, BROKER, "1", {}, step="cleared")
    told(run, BROKER, "1", *keys, expect={"log.cleaner.backoff.ms": "15000"})


@case(API, alone=True)
def cluster_default(run: Run) -> None:
    keys = ("log.cleaner.backoff.ms",)
    _alter(run, BROKER, "", {"log.cleaner.backoff.ms": "14500"}, step="dynamic")
    told(run, BROKER, "1", *keys, expect={"log.cleaner.backoff.ms": "14500"})
    told(run, BROKER, "", *keys)
    _alter(run, BROKER, "", {"broker.id": "5"}, step="read-only")
    _alter(run, BROKER, "", {"no.such.key": "5"}, step="unknown key")
    _alter(run, BROKER, "", {"advertised.listeners": "PLAINTEXT://x:1"}, step="only per broker")
    _alter(run, BROKER, "", {}, step="cleared")
    told(run, BROKER, "1", *keys, expect={"log.cleaner.backoff.ms": "15000"})


@case(API, topics={"t": Topic(), "u": Topic()})
def several(run: Run) -> None:
    def one(name: str, value: str) -> dict[str, Any]:
        configs = [{"name": "retention.ms", "value": value}]
        return {"resource_type": TOPIC, "resource_name": name, "configs": configs}

    three = [one(run.name("t"), "5"), one(run.fresh("never"), "5"), one(run.name("u"), "x")]
    run.call(resources=three, validate_only=False, step="one of three")
    told(run, TOPIC, run.name("t"), "retention.ms", expect={"retention.ms": "5"})
    twice = [{"name": "retention.ms", "value": v} for v in ("6", "7")]
    resource = {"resource_type": TOPIC, "resource_name": run.name("u"), "configs": twice}
    run.call(resources=[resource], validate_only=False, step="key twice")
    told(run, TOPIC, run.name("u"), "retention.ms")


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    none = b"\0" if run.version >= 2 else struct.pack(">i", -1)
    run.send_body(API, run.version, none + b"\0\0", step="null list", link="3")


@case(API, topics={"t": Topic()})
def bytes_after_the_body(run: Run) -> None:
    resource = {"resource_type": TOPIC, "resource_name": run.name("t"), "configs": []}
    run.extra(b"x", resources=[resource], validate_only=False)
