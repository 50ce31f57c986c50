"""UpdateFeatures (key 57): levels of features to be finalized (KIP-584).

Versions: 1 validation only, kinds of upgrade (KIP-778); 2 one error for the whole request
(KIP-1022).
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from protocol.wire import Bool, Int8, Int16, Int32, NullableString, String, ignorable, since, until


@dataclass(slots=True)
class FeatureUpdateKey:
    feature: String = ""
    max_version_level: Int16 = 0
    allow_downgrade: Annotated[Bool, until(0)] = False
    upgrade_type: Annotated[Int8, since(1)] = 1


@dataclass(slots=True)
class UpdateFeaturesRequest:
    """Features with the level they shall have."""

    API_KEY: ClassVar[int] = 57
    VERSIONS: ClassVar[tuple[int, int]] = (0, 2)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    timeout_ms: Int32 = 60000
    feature_updates: list[FeatureUpdateKey] = field(default_factory=list)
    validate_only: Annotated[Bool, since(1)] = False


@dataclass(slots=True)
class UpdatableFeatureResult:
    feature: String = ""
    error_code: Int16 = 0
    error_message: NullableString = ""


@dataclass(slots=True)
class UpdateFeaturesResponse:
    """What became of it; until version 1 by feature."""

    API_KEY: ClassVar[int] = 57
    VERSIONS: ClassVar[tuple[int, int]] = (0, 2)
    FLEXIBLE_SINCE: ClassVar[int | None] = 0

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: NullableString = ""
    results: Annotated[list[UpdatableFeatureResult], until(1), ignorable] = field(
        default_factory=list
    )
