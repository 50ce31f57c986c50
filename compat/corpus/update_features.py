"""UpdateFeatures (KIP-584): what is granted to whom, and what it changes in ApiVersions.

Up to version 1 the judge is 3.9.2 in ZooKeeper mode, which has no features at all; from version 2
on 4.4.0. A case leaves the levels as it found them.
"""

from typing import Any

from compat.script import Run, case

API = "UpdateFeatures"
NAME = {"client_software_name": "compat", "client_software_version": "1.0"}
UPGRADE, SAFE, UNSAFE = 1, 2, 3
OURS = {"group.version": 1, "share.version": 1, "transaction.version": 2}


def _update(run: Run, *wishes: tuple[str, int, int], validate: bool = False, **more: Any) -> Any:
    """Wishes are (feature, level, upgrade type); version 0 knows only a permission to downgrade."""
    updates = [{"feature": name, "max_version_level": level} for name, level, _ in wishes]
    for update, (_, _, kind) in zip(updates, wishes, strict=True):
        if run.version == 0:
            update["allow_downgrade"] = kind != UPGRADE
        else:
            update["upgrade_type"] = kind
    if run.version >= 1:
        more["validate_only"] = validate
    return run.call(feature_updates=updates, **more)


def _levels(run: Run) -> None:
    """The finalized levels of the features that both know, once they are `OURS` again or not."""
    run.ask("ApiVersions", 4, **NAME, step="levels")


@case(API, alone=True)
def nothing_to_do(run: Run) -> None:
    _update(run)
    _update(run, validate=True)
    _levels(run)


@case(API, alone=True)
def unknown_features(run: Run) -> None:
    for name in ("nope", "", "Group.Version", "x" * 300):
        for kind in (UPGRADE, SAFE, UNSAFE):
            _update(run, (name, 1, kind), step=f"{name[:20]} type {kind}")
            _update(run, (name, 0, kind), step=f"{name[:20]} to 0, type {kind}")


@case(API, alone=True)
def levels_that_do_not_exist(run: Run) -> None:
    for name in OURS:
        for level in (-1, 9, 32767, -32768):
            for kind in (UPGRADE, SAFE):
                _update(run, (name, level, kind), step=f"{name} {level} type {kind}")


@case(API, (1, 2), alone=True)
def upgrade_types(run: Run) -> None:
    for kind in (0, 4, -1, 127):
        _update(run, ("group.version", 1, kind), step=f"type {kind}")
        _update(run, ("nope", 1, kind), step=f"unknown feature, type {kind}")


@case(API, alone=True)
def downgrade_without_permission(run: Run) -> None:
    for name in OURS:
        _update(run, (name, 0, UPGRADE), step=name)
    _levels(run)


@case(API, (2, 2), alone=True)
def same_level(run: Run) -> None:
    for name, level in OURS.items():
        if name != "share.version":  # 4.4 has one level more
            for kind in (UPGRADE, SAFE, UNSAFE):
                _update(run, (name, level, kind), step=f"{name} type {kind}")


@case(API, (2, 2), alone=True)
def down_and_up(run: Run) -> None:
    "A downgrade that says so is granted; so is the way back, unless it says downgrade."
    for name in ("group.version", "transaction.version"):
        high = OURS[name]
        for kind in (SAFE, UNSAFE):
            step = f"{name} type {kind}"
            _update(run, (name, 0, kind), validate=True, step=f"{step} only validated")
            _update(run, (name, 0, kind), step=f"{step} down")
            _wait(run, name, 0)
            _update(run, (name, 0, kind), step=f"{step} down again")
            _update(run, (name, 0, UPGRADE), step=f"{step} to 0 by an upgrade")
            _update(run, (name, high, kind), step=f"{step} up by a downgrade")
            _update(run, (name, high, UPGRADE), validate=True, step=f"{step} up validated")
            _update(run, (name, high, UPGRADE), step=f"{step} up")
            _wait(run, name, high)


@case(API, (2, 2), alone=True)
def one_step_at_a_time(run: Run) -> None:
    name = "transaction.version"
    _update(run, (name, 1, SAFE))
    _wait(run, name, 1)
    _update(run, (name, 2, SAFE), step="up by a downgrade")
    _update(run, (name, 3, UPGRADE), step="too high")
    _update(run, (name, 2, UPGRADE), step="up")
    _wait(run, name, 2)


def _wait(run: Run, name: str, level: int) -> None:
    """Until the broker asked knows the level: in KRaft mode it hears of it after the answer."""

    def known(answer: Any) -> bool:
        levels = {f.name: f.max_version_level for f in answer.finalized_features}
        return levels.get(name, 0) == level

    run.ask_until(known, "ApiVersions", 4, **NAME)


@case(API, alone=True)
def several(run: Run) -> None:
    "From version 2 on one that is refused stands for all; before, each has its own result."
    _update(run, ("nope", 1, UPGRADE), ("none", 1, UPGRADE), step="two unknown")
    _update(run, ("group.version", 1, UPGRADE), ("nope", 1, UPGRADE), step="one unknown")
    _update(run, ("nope", 1, UPGRADE), ("nope", 1, UPGRADE), step="the same twice")
    _levels(run)
    if run.version < 2:  # nothing was finalized before
        _update(run, ("group.version", 0, SAFE), step="back again")


@case(API)
def malformed(run: Run) -> None:
    run.send_body(API, run.version, b"", step="no body", link="1")
    run.send_body(API, run.version, b"\x05", step="one byte", link="2")
    run.send_body(API, run.version, b"\0\0\0\0\xff\xff\xff\xff\xff", step="nine bytes", link="3")


@case(API)
def bytes_after_the_body(run: Run) -> None:
    run.extra(b"x", feature_updates=[])
