"""IncrementalAlterConfigs: set, delete, append, subtract (KIP-339)."""

import struct
from typing import Any

from compat.corpus.resources import BROKER, CLIENT_METRICS, GROUP, LOGGER, TOPIC, told
from compat.script import Run, Topic, case

API = "IncrementalAlterConfigs"
SET, DELETE, APPEND, SUBTRACT = range(4)
Change = tuple[str, int, str | None]


def _resource(kind: int, name: str, *changes: Change) -> dict[str, Any]:
    configs = [{"name": k, "config_operation": op, "value": v} for k, op, v in changes]
    return {"resource_type": kind, "resource_name": name, "configs": configs}


def _alter(run: Run, kind: int, name: str, *changes: Change, **more: Any) -> Any:
    fields = {"resources": [_resource(kind, name, *changes)], "validate_only": False, **more}
    return run.call(**fields)


@case(API, topics={"t": Topic(configs={"segment.ms": "9"})})
def operations(run: Run) -> None:
    name = run.name("t")
    keys = ("retention.ms", "segment.ms", "cleanup.policy")
    _alter(run, TOPIC, name, ("retention.ms", SET, "5"), step="set")
    told(run, TOPIC, name, *keys, expect={"retention.ms": "5"})
    _alter(run, TOPIC, name, ("cleanup.policy", APPEND, "compact"), step="append")
    told(run, TOPIC, name, *keys, expect={"cleanup.policy": "delete,compact"})
    _alter(run, TOPIC, name, ("cleanup.policy", APPEND, "compact"), step="append what is there")
    told(run, TOPIC, name, *keys)
    _alter(run, TOPIC, name, ("cleanup.policy", SUBTRACT, "delete"), step="subtract")
    told(run, TOPIC, name, *keys, expect={"cleanup.policy": "compact"})
    _alter(
        run, TOPIC, name, ("cleanup.policy", SUBTRACT, "delete"), step="subtract what is not there"
    )
    _alter(run, TOPIC, name, ("retention.ms", DELETE, None), step="delete")
    told(run, TOPIC, name, *keys, expect={"retention.ms": "-1"})
    _alter(run, TOPIC, name, ("retention.ms", DELETE, "5"), step="delete what is not there")
    _alter(run, TOPIC, name, ("cleanup.policy", SUBTRACT, "compact"), step="subtract the last")
    told(run, TOPIC, name, *keys)


CHANGES: dict[str, tuple[Change, ...]] = {
    "unknown key": (("no.such", SET, "1"),),
    "unknown key deleted": (("no.such", DELETE, None),),
    "unknown key appended": (("no.such", APPEND, "1"),),
    "no number": (("retention.ms", SET, "x"),),
    "below the minimum": (("retention.ms", SET, "-2"),),
    "set to null": (("retention.ms", SET, None),),
    "append null": (("cleanup.policy", APPEND, None),),
    "subtract null": (("cleanup.policy", SUBTRACT, None),),
    "append to a number": (("retention.ms", APPEND, "5"),),
    "subtract from a number": (("retention.ms", SUBTRACT, "5"),),
    "append a wrong one": (("cleanup.policy", APPEND, "burn"),),
    "append two": (("cleanup.policy", APPEND, "delete,compact"),),
    "append nothing": (("cleanup.policy", APPEND, ""),),
    "empty": (("retention.ms", SET, ""),),
    "empty key": (("", SET, "1"),),
    "unknown operation": (("retention.ms", 4, "5"),),
    "operation -1": (("retention.ms", -1, "5"),),
    "key twice": (("retention.ms", SET, "5"), ("retention.ms", SET, "6")),
    "key twice, set and deleted": (("retention.ms", SET, "5"), ("retention.ms", DELETE, None)),
    "one right, one wrong": (("retention.ms", SET, "5"), ("segment.ms", SET, "x")),
    "right": (("retention.bytes", SET, "1000"),),
    "nothing": (),
}


@case(API, topics={"t": Topic()})
def values(run: Run) -> None:
    for step, changes in CHANGES.items():
        _alter(run, TOPIC, run.name("t"), *changes, step=step)
        _alter(run, TOPIC, run.name("t"), *changes, validate_only=True, step=f"{step}, validated")
    keys = ("retention.ms", "retention.bytes", "cleanup.policy")
    told(run, TOPIC, run.name("t"), *keys, expect={"retention.bytes": "1000"})


@case(API, topics={"t": Topic()})
def not_a_number(run: Run) -> None:
    ratio = "min.cleanable.dirty.ratio"
    _alter(run, TOPIC, run.name("t"), (ratio, SET, "NaN"), validate_only=True, step="NaN")


@case(API)
def unknown_resources(run: Run) -> None:
    right = ("retention.ms", SET, "5")
    for number, name in enumerate((run.fresh("never"), "", "a b", "x" * 250, ".", "..")):
        _alter(run, TOPIC, name, right, step=f"topic {number}")
    for name in ("2", "x", "-1", "01"):
        change = ("log.cleaner.backoff.ms", SET, "15000")
        _alter(run, BROKER, name, change, step=f"broker {name!r}")
    for kind in (0, 1, 3, 5, 64, -1):
        _alter(run, kind, "x", right, step=f"type {kind}")
    for kind in (CLIENT_METRICS, GROUP):
        _alter(run, kind, "x", right, step=f"type {kind}")
    run.call(resources=[], validate_only=False, step="nothing")


@case(API)
def loggers(run: Run) -> None:
    for name in ("2", "", "x"):
        _alter(run, LOGGER, name, ("root", SET, "WARN"), step=f"broker {name!r}")
    _alter(run, LOGGER, "1", ("no.such.logger", SET, "WARN"), step="unknown logger")
    _alter(run, LOGGER, "1", ("root", SET, "LOUD"), step="unknown level")


@case(API, alone=True)
def broker(run: Run) -> None:
    keys = ("log.cleaner.backoff.ms", "log.cleanup.policy", "message.max.bytes")
    for name in ("1", ""):
        where = f"broker {name!r}: "
        _alter(run, BROKER, name, ("log.cleaner.backoff.ms", SET, "14001"), step=where + "dynamic")
        told(run, BROKER, "1", *keys, expect={"log.cleaner.backoff.ms": "14001"})
        _alter(run, BROKER, name, ("log.cleaner.backoff.ms", DELETE, None), step=where + "deleted")
        told(run, BROKER, "1", *keys, expect={"log.cleaner.backoff.ms": "15000"})
        for step, change in {
            "read-only": ("broker.id", SET, "5"),
            "read-only deleted": ("broker.id", DELETE, None),
            "unknown key": ("no.such.key", SET, "5"),
            "unknown key deleted": ("no.such.key", DELETE, None),
            "no number": ("message.max.bytes", SET, "x"),
            "below the minimum": ("message.max.bytes", SET, "-5"),
            "null": ("message.max.bytes", SET, None),
            "append to a number": ("message.max.bytes", APPEND, "5"),
            "unknown operation": ("message.max.bytes", 9, "5"),
        }.items():
            _alter(run, BROKER, name, change, step=where + step)
        change = ("message.max.bytes", SET, "50000")
        _alter(run, BROKER, name, change, validate_only=True, step=where + "validated")
    told(run, BROKER, "1", *keys)


@case(API, topics={"t": Topic(), "u": Topic()})
def several(run: Run) -> None:
    three = [
        _resource(TOPIC, run.name("t"), ("retention.ms", SET, "5")),
        _resource(TOPIC, run.fresh("never"), ("retention.ms", SET, "5")),
        _resource(TOPIC, run.name("u"), ("retention.ms", SET, "x")),
    ]
    run.call(resources=three, validate_only=False, step="one of three")
    told(run, TOPIC, run.name("t"), "retention.ms", expect={"retention.ms": "5"})


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    none = b"\0" if run.version >= 1 else struct.pack(">i", -1)
    run.send_body(API, run.version, none + b"\0\0", step="null list", link="3")


@case(API, topics={"t": Topic()})
def bytes_after_the_body(run: Run) -> None:
    run.extra(b"x", resources=[_resource(TOPIC, run.name("t"))], validate_only=False)
