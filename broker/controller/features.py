"""What clients ask of features: levels checked against what the brokers support. Pure.

A level may always be raised to one that every registered broker supports, and lowered by a request
that says so. Nothing of ours tells a safe downgrade from an unsafe one: no level loses data when it
goes, so both are granted, as Apache Kafka 4.4 does for these features.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from broker.controller.topics import Refusal
from protocol.errors import ErrorCode

Range = tuple[int, int]
"""Lowest and highest level of a feature."""


UPGRADE = 1
SAFE_DOWNGRADE = 2
UNSAFE_DOWNGRADE = 3
UPGRADE_TYPES = (UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE)
"""What a request can allow (KIP-778)."""


UNSUPPORTED = (
    "Could not apply finalized feature update because the provided feature is not supported."
)
NOT_FINALIZED = "Can not delete non-existing finalized feature."
"""Of features that not every broker knows. Tools show both sentences as they are, which is how
Apache Kafka 3.9 with ZooKeeper says that metadata.version is not to be changed."""


class FeatureWish(NamedTuple):
    """One entry of an UpdateFeatures request; `upgrade_type` as it was received."""

    name: str
    level: int
    upgrade_type: int


class FeaturePlan(NamedTuple):
    """Levels after the change (features at level 0 are not there), and an answer to each wish."""

    levels: dict[str, int]
    answers: list[Refusal | None]


def supported_by_all(registered: Iterable[Mapping[str, Any]]) -> dict[str, Range]:
    """Levels that every broker supports, from the features of their registrations.

    A broker that does not name a feature supports its level 0, which is to be without it; a feature
    that some broker cannot go above level 0 with is unknown.
    """
    ranges: dict[str, Range] | None = None
    for features in registered:
        own = {name: _range(value) for name, value in features.items()}
        if ranges is None:
            ranges = own
        else:
            ranges = {
                name: (max(ranges[name][0], own[name][0]), min(ranges[name][1], own[name][1]))
                for name in ranges
                if name in own
            }
    return {name: span for name, span in (ranges or {}).items() if span[0] <= span[1]}


def _range(value: Any) -> Range:
    try:
        return int(value["min_version"]), int(value["max_version"])
    except (KeyError, TypeError, ValueError):
        return 0, 0


def plan_levels(
    wishes: Sequence[FeatureWish], finalized: Mapping[str, int], supported: Mapping[str, Range]
) -> FeaturePlan:
    """The wishes one after the other; a refused one changes nothing."""
    levels = dict(finalized)
    answers: list[Refusal | None] = []
    for wish in wishes:
        text = _objection(wish, levels.get(wish.name, 0), supported.get(wish.name))
        if text is not None:
            answers.append(Refusal(ErrorCode.INVALID_UPDATE_VERSION, text))
            continue
        answers.append(None)
        if wish.level:
            levels[wish.name] = wish.level
        else:
            levels.pop(wish.name, None)
    return FeaturePlan(levels, answers)


def _objection(wish: FeatureWish, present: int, span: Range | None) -> str | None:
    """Why a wish is refused, or None. The order of the checks is Apache Kafka's."""
    if wish.upgrade_type not in UPGRADE_TYPES:
        return _sentence(wish, f"there is no upgrade type {wish.upgrade_type}")
    if wish.level < 0:
        return _sentence(wish, "a level cannot be negative")
    if span is None:
        return UNSUPPORTED if wish.level else NOT_FINALIZED
    if not (span[0] <= wish.level <= span[1]):
        return _sentence(wish, f"the brokers support levels {span[0]} to {span[1]}")
    upgrade = wish.upgrade_type == UPGRADE
    if wish.level < present and upgrade:
        return _sentence(
            wish, f"that is a downgrade from level {present}, which the request does not allow"
        )
    if wish.level > present and not upgrade:
        return _sentence(
            wish, f"that is above level {present}, and the request asks for a downgrade"
        )
    return None


def _sentence(wish: FeatureWish, detail: str) -> str:
    return f"Feature {wish.name!r} cannot have level {wish.level}: {detail}."
