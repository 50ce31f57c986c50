"""Rounds over all logs of a manager: what is due in each."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from storage.errors import LogDirOffline
from storage.log import FLUSH_BYTES, Log
from storage.log_dir import DirSize, Key
from storage.retention import plan_retention

if TYPE_CHECKING:
    from storage.manager import LogManager

logger = logging.getLogger(__name__)

FLUSH_BATCHES: Final = 150_000
"""What a restart after a crash has to read again, over all logs, is kept below FLUSH_BYTES and so
many batches (3 us each): when it is more, the logs with most of it are flushed."""
LOGS_A_FLUSH: Final = 20


def retain(manager: LogManager, key: Key, log: Log, now_ms: int) -> int:
    """Removes what one log's retention lets go; how many segments."""
    if manager.compacting(key) or manager.logs.get(key) is not log or manager.is_offline(key):
        return 0
    try:
        plan = plan_retention(
            log.segments,
            log.config,
            log_start_offset=log.log_start_offset,
            high_watermark=log.high_watermark,
            end_offset=log.end_offset,
            now_ms=now_ms,
        )
        if plan.roll:
            log.roll(now_ms)
        if plan.segments:
            log.delete_oldest(plan.segments, now_ms)
            logger.info("%s-%d: retention removes %s", *key, plan.sentence(log.config))
    except OSError as error:
        manager.dir_failed(key, error)
        return 0
    except LogDirOffline:
        return 0
    return plan.segments


def to_flush(manager: LogManager, now_ms: int) -> list[tuple[Key, Log]]:
    """The logs whose flush is due; and when a restart would have to read too much, those with most
    of it."""
    due: list[tuple[Key, Log]] = []
    rest: list[tuple[float, Key, Log]] = []
    total = 0.0
    for key, log in manager.logs.items():
        if log.recovery_point >= log.end_offset or manager.is_offline(key):
            continue
        if log.flush_due(now_ms):
            due.append((key, log))
            continue
        share = max(log.unflushed_bytes / FLUSH_BYTES, log.unflushed_batches / FLUSH_BATCHES)
        total += share
        rest.append((share, key, log))
    if total >= 1:
        rest.sort(reverse=True)
        for share, key, log in rest[:LOGS_A_FLUSH]:
            due.append((key, log))
            total -= share
            if total < 0.5:
                break
    return due


def dir_sizes(manager: LogManager, paths: list[str]) -> list[DirSize]:
    """Sizes for DescribeLogDirs, one entry for each configured directory."""
    partitions: dict[str, list[tuple[str, int, int, bool]]] = {p: [] for p in paths}
    for (topic, partition), log in manager.logs.items():
        home = manager.home_of((topic, partition)).path
        partitions[home].append((topic, partition, log.size, False))
    for (topic, partition), log in manager.futures.logs.items():
        home = manager.futures.home[topic, partition].path
        partitions[home].append((topic, partition, log.size, True))
    sizes = []
    for path in paths:
        if path in manager.offline_dirs:
            sizes.append(DirSize(path, True, -1, -1, []))
            continue
        try:
            total, usable = manager.fs.disk_usage(path)
        except OSError:
            total = usable = -1
        sizes.append(DirSize(path, False, total, usable, partitions[path]))
    return sizes
