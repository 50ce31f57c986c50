"""FindCoordinator."""

from typing import Any

from compat.script import Run, case

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
