"""One log directory: what its top holds beside the logs, and how logs are named in it."""

from threading import Lock
from typing import Final, NamedTuple

from storage.metafiles import DirLock

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
