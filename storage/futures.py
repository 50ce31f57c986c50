"""Replicas on their way to another log directory of this broker (KIP-113).

A future replica is a log like others in a directory `<topic>-<partition>.<32 hex>-future`. Somebody
copies batches into it (`broker/log_dir_moves.py`); when it has all that the current one has, the
two are swapped:

1. an empty file `odradek-moved` in the future's directory says that it is about to take over, then
   everything of it is written to disk;
2. its directory gets the name of the current one;
3. the old directory is renamed to `-delete`, and goes later;
4. the file is removed.

A process that ends between 2 and 3 leaves two directories of one name. At the next start the marked
one stands; but not if the other has gone on beyond it, because the swap failed after 2 and the
broker did not. Directories of one name without a mark are nobody's doing here: such a start is
refused.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from storage.config import LogConfig
from storage.errors import LogDirOffline
from storage.log import Log
from storage.log_dir import (
    CLEANER_OFFSETS,
    HIGH_WATERMARKS,
    LOG_STARTS,
    RECOVERY_POINTS,
    Key,
    LogDir,
)

if TYPE_CHECKING:
    from storage.manager import LogManager

logger = logging.getLogger(__name__)

FUTURE_SUFFIX: Final = "-future"
MOVED: Final = "odradek-moved"
_NAME: Final = re.compile(r"(.+)-(\d+)\.([0-9a-f]{32})-future")


def future_name(key: Key, unique: str) -> str:
    """Name of the directory of a future replica; `unique` is 32 hexadecimal digits."""
    return f"{key[0]}-{key[1]}.{unique}{FUTURE_SUFFIX}"


def parse_future(name: str) -> Key | None:
    """Topic and partition of such a name, None if it is none."""
    found = _NAME.fullmatch(name)
    return None if found is None else (found[1], int(found[2]))


def align(current: Log, future: Log, now_ms: int) -> None:
    """Cuts the future replica back to what it has in common with the current one, which may have
    been truncated, emptied or moved on meanwhile. Raises LogDirOffline; InconsistentTopicId when it
    is one of a former topic."""
    future.assign_topic_id(current.topic_id)
    while future.end_offset > future.log_start_offset:
        epoch = future.latest_epoch
        known, end = current.end_offset_for_epoch(epoch)
        if known == epoch or epoch < 0:
            future.truncate_to(min(future.end_offset, end if known == epoch else 0))
            break
        # The current one has nothing of that epoch: all of it goes.
        _, before = future.end_offset_for_epoch(epoch - 1)
        future.truncate_to(before if before >= 0 else future.log_start_offset)
    if not current.log_start_offset <= future.end_offset <= current.end_offset:
        future.truncate_fully_and_start_at(current.log_start_offset, now_ms)


def copy(current: Log, future: Log, max_bytes: int, now_ms: int) -> int:
    """Copies some batches that the future replica lacks, and its ends; how many bytes. Raises
    LogDirOffline of either, CorruptRecord, UnexpectedAppendOffset."""
    found = current.read(future.end_offset, max_bytes, current.end_offset)
    if found.length:
        try:
            records = found.bytes()
        except OSError as error:
            raise current.fail(error) from error
        future.append_as_follower(memoryview(records), now_ms)
    future.advance_high_watermark(current.high_watermark)
    start = min(current.log_start_offset, future.high_watermark)
    if start > future.log_start_offset:
        future.advance_log_start_offset(start)
    return found.length


class Futures:
    """The future replicas of one `LogManager`, beside its logs and on their thread."""

    __slots__ = ("_manager", "_preferred", "home", "logs")

    def __init__(self, manager: LogManager) -> None:
        self._manager = manager
        self.logs: dict[Key, Log] = {}
        self.home: dict[Key, LogDir] = {}
        self._preferred: dict[Key, str] = {}
        """Where a replica shall be made that is not there yet."""

    # --- where a new replica goes

    def prefer(self, key: Key, path: str) -> None:
        """A replica that is not there yet shall be made in this directory."""
        self._preferred[key] = path

    def preferred(self, key: Key) -> str | None:
        """That directory; it is asked for once."""
        return self._preferred.pop(key, None)

    # --- coming and going

    def load(
        self, directory: LogDir, name: str, configs: Mapping[str, LogConfig], now_ms: int
    ) -> bool:
        """Opens a future replica found at a start; False for a name that is none. Of two of one
        partition the first is kept. Raises OSError."""
        key = parse_future(name)
        if key is None:
            return False
        manager = self._manager
        path = f"{directory.path}/{name}"
        if key in self.logs:
            logger.warning("%s is a second future replica and is removed.", path)
            manager.delete_later(directory, path, now_ms)
            return True
        config = configs.get(key[0], manager.default_config)
        self._enlist(key, directory, manager.read_log(directory, name, key, config, now_ms))
        return True

    def _enlist(self, key: Key, directory: LogDir, log: Log) -> None:
        self.logs[key] = log
        self.home[key] = directory
        directory.logs += 1

    def create(self, key: Key, path: str, now_ms: int) -> Log:
        """Begins a future replica in another directory than the current one's. Raises
        LogDirOffline."""
        manager = self._manager
        current, directory = manager.logs[key], manager.directory(path)
        name = future_name(key, manager.unique(directory, key, now_ms))
        try:
            manager.forget(directory, key)
            manager.fs.mkdir(f"{directory.path}/{name}")
            log = manager.read_log(directory, name, key, current.config, now_ms)
            log.assign_topic_id(current.topic_id)
        except OSError as error:
            manager.dir_failed_at(directory.path, error)
            raise LogDirOffline(f"The log directory {path} failed: {error}") from error
        self._enlist(key, directory, log)
        return log

    def drop(self, key: Key, now_ms: int) -> None:
        """Gives a future replica up: its directory is renamed to `-delete`."""
        log = self.logs.pop(key, None)
        if log is None:
            return
        directory = self.home.pop(key)
        directory.logs -= 1
        log.close(clean=False)
        if directory.path not in self._manager.offline_dirs:
            self._manager.discard(directory, log.directory, key, log, now_ms)

    # --- the swap

    def swap(self, key: Key, now_ms: int) -> Log:
        """Puts the future replica, which has all that the current one has, in its place; the log
        that stands now.

        Raises LogDirOffline when the future's directory fails: then the current one stays.
        """
        manager, fs = self._manager, self._manager.fs
        current, future = manager.logs[key], self.logs[key]
        source, target = manager.home_of(key), self.home[key]
        name = f"{key[0]}-{key[1]}"
        mark = f"{target.path}/{name}/{MOVED}"
        try:
            for table in (RECOVERY_POINTS, LOG_STARTS, HIGH_WATERMARKS):
                manager.write_checkpoint(target, table)
            fs.write_atomic(f"{future.directory}/{MOVED}", b"")
            future.close(clean=True)
            manager.note_ends(target, key, future)
            fs.rename(future.directory, f"{target.path}/{name}")
            fs.sync_dir(target.path)
            log = manager.read_log(target, name, key, current.config, now_ms, clean=True)
        except OSError as error:
            manager.dir_failed_at(target.path, error)
            raise LogDirOffline(f"The log directory {target.path} failed: {error}") from error
        del self.logs[key], self.home[key]
        cleaned = source.tables[CLEANER_OFFSETS].get(key)
        log.producers.go_on_verifying(current.producers)
        # Whoever still has the old one in hand must not take its directory offline by reading on.
        current.on_failure = None
        current.close(clean=False)
        manager.replace(key, log, target)
        if cleaned is not None:
            manager.set_cleaner_offset(key, cleaned)
        if manager.discard(source, current.directory, key, current, now_ms):
            manager.guard(target.path, fs.remove, mark)
        logger.info("%s is now in %s", name, target.path)
        return log

    def settle(self, directory: LogDir, key: Key, config: LogConfig, now_ms: int) -> Log | None:
        """At a start a second directory of one name is found: which of them stands, if a swap left
        them; None if not. The other is put aside. Raises OSError."""
        manager, fs = self._manager, self._manager.fs
        earlier, first = manager.home_of(key), manager.logs[key]
        name = f"{key[0]}-{key[1]}"
        marked = [fs.exists(f"{each.path}/{name}/{MOVED}") for each in (earlier, directory)]
        if not any(marked):
            return None
        second = manager.read_log(directory, name, key, config, now_ms)
        if marked[0] == marked[1]:
            stands = first if first.end_offset >= second.end_offset else second
        else:
            moved, left = (first, second) if marked[0] else (second, first)
            stands = moved if moved.end_offset >= left.end_offset else left
        loser, place = (second, directory) if stands is first else (first, earlier)
        loser.close(clean=False)
        if stands is second:
            directory.logs += 1
            manager.replace(key, second, directory)
        if manager.discard(place, loser.directory, key, loser, now_ms):
            home = directory if stands is second else earlier
            mark = f"{home.path}/{name}/{MOVED}"
            if fs.exists(mark):
                fs.remove(mark)
        logger.info("%s was being moved and is now in %s", name, stands.directory)
        return stands
