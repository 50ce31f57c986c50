"""One log directory: what its top holds beside the logs, and how logs are named in it."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

from storage.metafiles import DirLock

if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.log import Log

Key = tuple[str, int]
"""Topic and partition."""

RECOVERY_POINTS: Final = "recovery-point-offset-checkpoint"
LOG_STARTS: Final = "log-start-offset-checkpoint"
HIGH_WATERMARKS: Final = "replication-offset-checkpoint"
CLEANER_OFFSETS: Final = "cleaner-offset-checkpoint"
CHECKPOINTS: Final = (RECOVERY_POINTS, LOG_STARTS, HIGH_WATERMARKS, CLEANER_OFFSETS)


class DirSize(NamedTuple):
    """One log directory for DescribeLogDirs: bytes of the volume, bytes of each partition."""

    path: str
    error: bool
    total_bytes: int  # -1 when not known
    usable_bytes: int
    partitions: list[tuple[str, int, int, bool]]  # topic, partition, bytes, is a future replica


class LogDir:
    """One of the broker's directories and what was read from the files at its top."""

    __slots__ = ("clean", "lock", "logs", "path", "tables", "writing", "written")

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock: DirLock | None = None
        self.logs = 0  # how many are open in it
        self.clean = False
        self.tables: dict[str, dict[Key, int]] = {}
        self.written: dict[str, dict[Key, int]] = {}  # what each checkpoint file holds now
        self.writing = Lock()


def parse_name(name: str) -> Key | None:
    """Topic and partition of a log's directory name, split at the last dash; None if it is none."""
    topic, dash, partition = name.rpartition("-")
    if dash and topic and partition.isascii() and partition.isdigit():
        return topic, int(partition)
    return None


def _trimmed_start(log: Log) -> int | None:
    start = log.log_start_offset
    return start if start > log.segments[0].base_offset else None


CHECKPOINTED: Final[dict[str, Callable[[Log], int | None] | None]] = {
    RECOVERY_POINTS: lambda log: log.recovery_point,
    LOG_STARTS: _trimmed_start,
    HIGH_WATERMARKS: lambda log: log.high_watermark,
    CLEANER_OFFSETS: None,  # kept beside the logs
}
"""What each checkpoint file says of a log, None for nothing."""
