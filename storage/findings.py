"""What opening a log may find: the names, each with a log line where it is found."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    """What opening a log may find."""

    TORN_TAIL = "torn tail"
    BAD_CRC = "bad CRC"
    BAD_BATCH = "bad batch"
    CUT_SEGMENT = "segment after a cut"
    HOLE = "hole before a segment"
    MISSING_INDEX = "missing index"
    CORRUPT_INDEX = "corrupt index"
    ORPHAN_INDEX = "orphan index"
    LEFTOVER = "leftover file"
    FINISHED_SWAP = "finished swap"
    MISSING_SNAPSHOT = "missing snapshot"
    CORRUPT_SNAPSHOT = "corrupt snapshot"
    STRAY_SNAPSHOT = "stray snapshot"
    BAD_EPOCHS = "bad leader epochs"
    MISSING_EPOCHS = "missing leader epochs"
    BAD_METADATA = "bad partition metadata"
    START_BEYOND_END = "log start beyond the end"


class Finding(NamedTuple):
    """One thing that was not as a clean shutdown leaves it, and what was done about it."""

    kind: Kind
    detail: str


NOTHING: Final[Sequence[Finding]] = ()
"""The findings of a log that is as it should be."""

INFORMATIVE: Final = frozenset({Kind.LEFTOVER, Kind.STRAY_SNAPSHOT, Kind.MISSING_SNAPSHOT})
"""What is nobody's worry; the others are warnings."""
