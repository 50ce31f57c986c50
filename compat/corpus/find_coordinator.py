"""FindCoordinator."""

from typing import Any

from broker.cluster.layout import encode_uuid
from compat.offered import NEW
from compat.script import Run, Topic, case

API = "FindCoordinator"


def _find(run: Run, kind: int, *keys: str, **more: Any) -> Any:
    if run.version >= 4:
        return run.call(key_type=kind, coordinator_keys=list(keys), **more)
    fields: dict[str, Any] = {"key": keys[0] if keys else "", **more}
    if run.version >= 1:
        fields["key_type"] = kind
    return run.call(**fields)


@case(API)
def accepted(run: Run) -> None:
    "The first question makes the internal topic; asked until it is there."
    for kind in (0,) if run.version == 0 else (0, 1):
        run.coordinator(kind)
        for number, key in enumerate(("group", "", "a b", "x" * 300)):
            _find(run, kind, key, step=f"type {kind}, key {number}")


@case(API, (1, 6))
def unknown_types(run: Run) -> None:
    for kind in (3, 9, -1, 127):
        _find(run, kind, "x", step=f"type {kind}")


@case(API, (4, 6))
def several_keys(run: Run) -> None:
    run.coordinator(0)
    _find(run, 0, "a", "b", "c", step="three")
    _find(run, 0, "a", "a", step="the same twice")
    _find(run, 0, step="none")
    _find(run, 7, "a", "b", step="three of an unknown type")
    _find(run, 7, step="none of an unknown type")


@case(API, (4, 6))
def share_keys(run: Run) -> None:
    "Type 2 belongs to share groups (KIP-932): version 6 and a broker that has them."
    for number, key in enumerate(("", "x", "g:bad:0", "g:AAAAAAAAAAAAAAAAAAAAAA:x")):
        _find(run, 2, key, step=f"malformed {number}")


@case(API, (6, 6), topics={"t": Topic()}, judge=NEW)
def share_partitions(run: Run) -> None:
    "A key is a group, a topic id and a partition; whether they exist is not asked."
    run.coordinator(2)
    known, unknown = encode_uuid(run.topic_id("t")), encode_uuid(run.other_id())
    for step, key in (
        ("right", f"g:{known}:0"),
        ("partition that is not there", f"g:{known}:99"),
        ("unknown topic", f"g:{unknown}:0"),
        ("empty group", f":{known}:0"),
        ("group with colons", f"a:b:{known}:0"),
        ("no partition", f"g:{known}"),
        ("partition that is no number", f"g:{known}:x"),
        ("negative partition", f"g:{known}:-1"),
        ("topic id that is none", "g:t:0"),
        ("empty", ""),
        ("colons", "::"),
    ):
        _find(run, 2, key, step=step)
    _find(run, 2, f"g:{known}:0", "x", f"g:{known}:1", step="three")


@case(API, (4, 6), judge=NEW)
def any_keys_at_4_4(run: Run) -> None:
    run.coordinator(0)
    run.coordinator(1)
    for kind in (0, 1, 3, -1):
        _find(run, kind, "a", "", step=f"type {kind}")


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x7f\xff", step="two bytes", link="2")
    if run.version < 3:
        run.send_body(API, run.version, b"\xff\xff\0", step="null key", link="3")


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.coordinator(0)
    if run.version >= 4:
        run.extra(b"x", key_type=0, coordinator_keys=["group"])
    else:
        run.extra(b"x", key="group")
