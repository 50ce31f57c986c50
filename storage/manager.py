"""All partition logs of a broker, over several log directories. (Names; being written.)"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from storage.config import LogConfig
from storage.filesystem import FileSystem
from storage.log import Log

DirFailure = Callable[[str, BaseException], None]


class DirSize(NamedTuple):
    """One log directory for DescribeLogDirs: bytes of the volume, bytes of each partition."""

    path: str
    error: bool
    total_bytes: int  # -1 when not known
    usable_bytes: int
    partitions: list[tuple[str, int, int, bool]]  # topic, partition, bytes, is a future replica


class LogManager:
    """Opens, creates, deletes and looks after logs. Synchronous; `now_ms` is milliseconds."""

    def __init__(
        self,
        fs: FileSystem,
        log_dirs: list[str],
        default_config: LogConfig,
        *,
        broker_id: int,
        cluster_id: str,
        on_dir_failure: DirFailure | None = None,
        producer_expiration_ms: int = 86_400_000,
    ) -> None:
        self.logs: dict[tuple[str, int], Log] = {}
        self.offline_dirs: set[str] = set()
        raise NotImplementedError

    def load(self, topic_configs: Mapping[str, LogConfig], now_ms: int) -> None:
        """Locks every directory, checks meta.properties, opens every log found."""
        raise NotImplementedError

    def get(self, topic: str, partition: int) -> Log | None:
        """The open log, None if there is none. Raises LogDirOffline when its directory failed."""
        raise NotImplementedError

    def get_or_create(
        self, topic: str, partition: int, config: LogConfig, topic_id: bytes | None, now_ms: int
    ) -> Log:
        """The log, made in the directory with the fewest partitions if it is not there yet."""
        raise NotImplementedError

    def delete(self, topic: str, partition: int, now_ms: int) -> None:
        """Renames the directory to `-delete`; its files go after file.delete.delay.ms."""
        raise NotImplementedError

    def update_config(self, topic: str, config: LogConfig) -> None:
        """Gives every log of the topic its new settings."""
        raise NotImplementedError

    def retain(self, now_ms: int) -> int:
        """One retention round over all logs (log.retention.check.interval.ms); segments removed."""
        raise NotImplementedError

    def flush_jobs(self, now_ms: int) -> list[Callable[[], None]]:
        """Due fsyncs (flush.ms, flush.messages, 64 MiB); each may run in a thread."""
        raise NotImplementedError

    def delete_jobs(self, now_ms: int) -> list[Callable[[], None]]:
        """Deferred removals that are due; each may run in a thread."""
        raise NotImplementedError

    def compact(self, now_ms: int) -> Iterator[None]:
        """One compaction round over the logs that are due, in slices of a few milliseconds."""
        raise NotImplementedError

    def expire_producers(self, now_ms: int) -> int:
        """Forgets producer ids unused for producer.id.expiration.ms."""
        raise NotImplementedError

    def checkpoint_recovery_points(self) -> None:
        """Writes recovery-point-offset-checkpoint (every 60 s and at the end)."""
        raise NotImplementedError

    def checkpoint_log_start_offsets(self) -> None:
        """Writes log-start-offset-checkpoint."""
        raise NotImplementedError

    def checkpoint_high_watermarks(self) -> None:
        """Writes replication-offset-checkpoint (every 5 s and at the end)."""
        raise NotImplementedError

    def dir_sizes(self) -> list[DirSize]:
        """Sizes for DescribeLogDirs."""
        raise NotImplementedError

    def close(self, now_ms: int) -> None:
        """Flushes and closes every log, writes checkpoints, then the clean-shutdown marker."""
        raise NotImplementedError
