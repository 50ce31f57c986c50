"""All partition logs of a broker, over several log directories.

A directory that fails (an IO error, a full disk) goes offline: its logs answer LogDirOffline from
then on and the other directories go on. Everything here is synchronous and belongs to one thread;
what may run beside it (fsyncs, checkpoint files, removals) is handed out as jobs, plain callables.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from storage import checkpoint, rounds
from storage.config import LogConfig
from storage.errors import LogDirOffline
from storage.filesystem import FileSystem
from storage.futures import FUTURE_SUFFIX, Futures
from storage.log import Log
from storage.log_dir import (
    CHECKPOINTED,
    CHECKPOINTS,
    CLEANER_OFFSETS,
    HIGH_WATERMARKS,
    LOG_STARTS,
    RECOVERY_POINTS,
    DirSize,
    Key,
    LogDir,
    parse_name,
)
from storage.metafiles import (
    CLEAN_SHUTDOWN,
    CLEAN_SHUTDOWN_TEXT,
    DirLock,
    InconsistentLogDir,
    check_meta_properties,
    read_meta_properties,
    write_meta_properties,
)

if TYPE_CHECKING:
    from storage.cleaner import Cleaner, SyncJob

logger = logging.getLogger(__name__)

Job = Callable[[], None]
DirFailure = Callable[[str, BaseException], None]

DELETE_SUFFIX: Final = "-delete"
STRAY_SUFFIX: Final = "-stray"
NOT_LOGS: Final = frozenset({"remote-log-index-cache", "__cluster_metadata-0"})
MAX_NAME: Final = 255
DEDUPE_MEMORY: Final = 128 << 20
LOGS_A_SLICE: Final = 20


class LogManager:
    """Opens, creates, deletes and looks after logs. `now_ms` is in milliseconds everywhere.

    `on_dir_failure(path, error)` is called once for each directory that goes offline, from the
    thread that met the error (a flush job's perhaps).
    """

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
        dedupe_memory: int = DEDUPE_MEMORY,
    ) -> None:
        self.fs = fs
        self.default_config = default_config
        self.broker_id = broker_id
        self.cluster_id = cluster_id
        self.logs: dict[Key, Log] = {}
        self.offline_dirs: set[str] = set()
        self._dirs = {path.rstrip("/") or "/": LogDir(path.rstrip("/") or "/") for path in log_dirs}
        self._home: dict[Key, LogDir] = {}
        self._on_dir_failure = on_dir_failure
        self._producer_expiration_ms = producer_expiration_ms
        self._deletes: list[tuple[int, str, str]] = []  # due at, log directory, path
        self._delete_count = 0
        self._untold: list[tuple[str, BaseException]] = []  # failures that logs do not know of
        self._dedupe_memory = dedupe_memory
        self._cleaner: Cleaner | None = None  # imported and made by the first round
        self.futures = Futures(self)
        """Replicas on their way to another directory."""

    # --- start

    def load(self, topic_configs: Mapping[str, LogConfig], now_ms: int) -> None:
        """Locks every directory, checks its meta.properties and opens every log found.

        Raises InconsistentLogDir (one sentence) when a directory is in use, belongs to another
        broker or cluster, or a partition is in two directories; LogDirOffline when no directory is
        left.
        """
        try:
            for directory in self._dirs.values():
                self.guard(directory.path, self._enter, directory)
            for directory in self._online():
                self.guard(directory.path, self._load_dir, directory, topic_configs, now_ms)
        except InconsistentLogDir:
            self._release()
            raise
        if not self._online():
            self._release()
            raise LogDirOffline("None of the log directories can be used.")

    def _enter(self, directory: LogDir) -> None:
        fs, path = self.fs, directory.path
        fs.mkdir(path)
        directory.lock = DirLock(fs, path)
        properties = read_meta_properties(fs, path)
        if properties is None:
            write_meta_properties(fs, path, self.broker_id, self.cluster_id)
        else:
            check_meta_properties(path, properties, self.broker_id, self.cluster_id)
        marker = f"{path}/{CLEAN_SHUTDOWN}"
        directory.clean = fs.exists(marker)
        if directory.clean:
            # Gone before anything changes: a crash from here on is an unclean end.
            fs.remove(marker)
            fs.sync_dir(path)
        for name in CHECKPOINTS:
            directory.tables[name] = self._read_table(f"{path}/{name}")
            directory.written[name] = dict(directory.tables[name])

    def _read_table(self, path: str) -> dict[Key, int]:
        """A checkpoint file; a damaged one counts as empty, which only costs a longer recovery."""
        try:
            return checkpoint.read_offsets(self.fs, path)
        except checkpoint.MalformedCheckpoint as error:
            logger.warning("%s is damaged and read as empty: %s", path, error)
            return {}

    def _load_dir(
        self, directory: LogDir, topic_configs: Mapping[str, LogConfig], now_ms: int
    ) -> None:
        started = len(self.logs)
        for name in self.fs.listdir(directory.path):
            if name in NOT_LOGS or not self.fs.is_dir(f"{directory.path}/{name}"):
                continue
            if name.endswith(DELETE_SUFFIX):
                self.delete_later(directory, f"{directory.path}/{name}", now_ms)
            elif name.endswith(STRAY_SUFFIX) or (
                name.endswith(FUTURE_SUFFIX)
                and not self.futures.load(directory, name, topic_configs, now_ms)
            ):
                logger.warning("%s/%s is left alone.", directory.path, name)
            elif not name.endswith(FUTURE_SUFFIX):
                key = parse_name(name)
                if key is None:
                    logger.warning("%s/%s is no partition: left alone.", directory.path, name)
                    continue
                self._open(directory, key, topic_configs.get(key[0], self.default_config), now_ms)
        logger.info(
            "%s: %d logs opened after %s shutdown",
            directory.path,
            len(self.logs) - started,
            "a clean" if directory.clean else "an unclean (or no)",
        )

    def _open(self, directory: LogDir, key: Key, config: LogConfig, now_ms: int) -> Log:
        name = f"{key[0]}-{key[1]}"
        if key in self.logs:
            stands = self.futures.settle(directory, key, config, now_ms)
            if stands is None:
                raise InconsistentLogDir(
                    f"Partition {name} is both in {self._home[key].path} and in "
                    f"{directory.path}: remove the older one."
                )
            return stands
        log = self.read_log(directory, name, key, config, now_ms)
        self.logs[key] = log
        self._home[key] = directory
        directory.logs += 1
        return log

    def read_log(
        self,
        directory: LogDir,
        name: str,
        key: Key,
        config: LogConfig,
        now_ms: int,
        *,
        clean: bool | None = None,
    ) -> Log:
        """Opens the log in a directory's folder `name`, without taking it among the logs. `clean`:
        whether it was closed so, where the whole directory was not. Raises OSError."""
        tables = directory.tables
        log = Log.open(
            self.fs,
            f"{directory.path}/{name}",
            key[0],
            key[1],
            config,
            recovery_point=tables[RECOVERY_POINTS].get(key, 0),
            log_start_offset=tables[LOG_STARTS].get(key, 0),
            clean=directory.clean if clean is None else clean,
            now_ms=now_ms,
            on_failure=partial(self.dir_failed_at, directory.path),
        )
        log.producers.expiration_ms = self._producer_expiration_ms
        log.advance_high_watermark(min(tables[HIGH_WATERMARKS].get(key, 0), log.end_offset))
        return log

    def directory(self, path: str) -> LogDir:
        """The directory of that path. Raises KeyError."""
        return self._dirs[path]

    def has_dir(self, path: str) -> bool:
        """Whether this is one of the log directories, as DescribeLogDirs names them."""
        return path in self._dirs

    def home_of(self, key: Key) -> LogDir:
        """The directory of a log."""
        return self._home[key]

    def compacting(self, key: Key) -> bool:
        """Whether the log is being compacted at the moment."""
        return self._cleaner is not None and key == self._cleaner.busy

    def replace(self, key: Key, log: Log, directory: LogDir) -> None:
        """Another log, which is counted in its directory already, is this partition's now."""
        self._home[key].logs -= 1
        self.logs[key], self._home[key] = log, directory

    # --- failing directories

    def _online(self) -> list[LogDir]:
        return [d for d in self._dirs.values() if d.path not in self.offline_dirs]

    def guard(self, path: str, work: Callable[..., None], *arguments: object) -> None:
        """Runs `work`; an IO error takes the directory offline instead of leaving here."""
        try:
            work(*arguments)
        except (OSError, LogDirOffline) as error:
            self.dir_failed_at(path, error)

    def _in_thread(self, path: str, work: Callable[[], None]) -> None:
        """The same in whatever thread a job runs: logs are told later, on their own thread."""
        try:
            work()
        except OSError as error:
            if self._goes_offline(path, error) and self._on_dir_failure is not None:
                self._on_dir_failure(path, error)

    def _goes_offline(self, path: str, error: BaseException) -> bool:
        if path in self.offline_dirs:
            return False
        self._untold.append((path, error))
        self.offline_dirs.add(path)
        logger.error("Log directory %s is taken offline: %s", path, error)
        return True

    def dir_failed_at(self, path: str, error: BaseException) -> None:
        if self._goes_offline(path, error):
            self.settle()
            if self._on_dir_failure is not None:
                self._on_dir_failure(path, error)

    def settle(self) -> None:
        """Tells the logs of directories that failed in a job that they are offline. `get`, the
        rounds and the functions that make jobs do it, too; to be called on the logs' thread."""
        while self._untold:
            path, error = self._untold.pop()
            for logs, home in ((self.logs, self._home), (self.futures.logs, self.futures.home)):
                for key, log in logs.items():
                    if home[key].path == path:
                        log.fail(error)

    def dir_failed(self, key: Key, error: BaseException) -> None:
        """An IO error in a log: its directory goes offline."""
        self.dir_failed_at(self._home[key].path, error)

    def is_offline(self, key: Key) -> bool:
        """Whether the directory of the log has failed."""
        return bool(self.offline_dirs) and self._home[key].path in self.offline_dirs

    # --- logs

    def get(self, topic: str, partition: int) -> Log | None:
        """The open log, None if there is none. Raises LogDirOffline when its directory failed."""
        key = (topic, partition)
        log = self.logs.get(key)
        if self.offline_dirs:
            self.settle()
            if log is not None and self.is_offline(key):
                raise LogDirOffline(f"The log directory of {topic}-{partition} is offline.")
        return log

    def get_or_create(
        self,
        topic: str,
        partition: int,
        config: LogConfig | None,
        topic_id: bytes | None,
        now_ms: int,
    ) -> Log:
        """The log, made in the directory with the fewest partitions if it is not there yet.

        Raises InconsistentTopicId when the log belongs to a former topic of that name, and
        LogDirOffline when its directory (or every directory) has failed.
        """
        log = self.get(topic, partition)
        if log is not None:
            if topic_id is not None:
                log.assign_topic_id(topic_id)
            return log
        config = config or self.default_config
        wanted = self.futures.preferred((topic, partition))
        for directory in sorted(self._online(), key=lambda d: (d.path != wanted, d.logs)):
            try:
                return self._create(directory, (topic, partition), config, topic_id, now_ms)
            except OSError as error:
                self.dir_failed_at(directory.path, error)
        raise LogDirOffline("None of the log directories can be used.")

    def _create(
        self, directory: LogDir, key: Key, config: LogConfig, topic_id: bytes | None, now_ms: int
    ) -> Log:
        path = f"{directory.path}/{key[0]}-{key[1]}"
        self.forget(directory, key)
        self.fs.mkdir(path)
        log = self._open(directory, key, config, now_ms)
        if topic_id is not None:
            log.assign_topic_id(topic_id)
        return log

    def forget(self, directory: LogDir, key: Key) -> None:
        """Nothing that the checkpoints say of a former log of that name is true of a new one: not
        now, and not after a crash. Raises OSError."""
        for table in directory.tables.values():
            table.pop(key, None)
        for name in CHECKPOINTS:
            if key in directory.written[name]:
                self.write_checkpoint(directory, name)

    def write_checkpoint(self, directory: LogDir, name: str) -> None:
        """Writes a directory's checkpoint file of that name, here and now. Raises OSError."""
        self._write_table(directory, name, self._by_dir()[directory.path])

    def note_ends(self, directory: LogDir, key: Key, log: Log) -> None:
        """What the directory's checkpoints say of a log that was closed and is opened again."""
        for name, offset_of in CHECKPOINTED.items():
            offset = offset_of(log) if offset_of is not None else None
            if offset is None:
                directory.tables[name].pop(key, None)
            else:
                directory.tables[name][key] = offset

    def update_config(self, topic: str, config: LogConfig) -> None:
        """Gives every log of the topic its new settings."""
        for logs in (self.logs, self.futures.logs):
            for (name, _), log in logs.items():
                if name == topic:
                    log.config = config

    def delete(self, topic: str, partition: int, now_ms: int) -> None:
        """Takes the log out at once: its directory is renamed to `-delete`, its files go after
        file.delete.delay.ms (`delete_jobs`). Without such a log nothing happens.

        Raises LogDirOffline when the directory has failed.
        """
        self._put_aside((topic, partition), DELETE_SUFFIX, now_ms)

    def set_stray(self, topic: str, partition: int, now_ms: int) -> None:
        """Takes out a log that the cluster does not know here; the files stay, named `-stray`."""
        self._put_aside((topic, partition), STRAY_SUFFIX, now_ms)

    def _put_aside(self, key: Key, suffix: str, now_ms: int) -> None:
        # Before the log: a future replica without one is the end of a swap (see `futures`).
        self.futures.drop(key, now_ms)
        log = self.get(*key)
        if log is None:
            return
        directory = self._home[key]
        if self._cleaner is not None:
            self._cleaner.forget(key)
        log.close(clean=False)
        if not self.discard(directory, log.directory, key, log, now_ms, suffix):
            raise LogDirOffline(f"The log directory {directory.path} failed.")
        del self.logs[key], self._home[key]
        directory.logs -= 1

    def discard(
        self,
        directory: LogDir,
        path: str,
        key: Key,
        log: Log,
        now_ms: int,
        suffix: str = DELETE_SUFFIX,
    ) -> bool:
        """Renames a closed log's folder out of the way; what is to be deleted goes later. False
        when the directory fails at that."""
        aside = self._aside(directory, key, suffix, now_ms)
        try:
            self.fs.rename(path, aside)
            self.fs.sync_dir(directory.path)
        except OSError as error:
            self.dir_failed_at(directory.path, error)
            return False
        for table in directory.tables.values():
            table.pop(key, None)
        if suffix == DELETE_SUFFIX:
            self.delete_later(directory, aside, now_ms + log.config.file_delete_delay_ms)
        return True

    def _aside(self, directory: LogDir, key: Key, suffix: str, now_ms: int) -> str:
        """A name like `topic-0.<32 hex>-delete` that is free, cut to fit into a file name."""
        while True:
            end = f"-{key[1]}.{self.unique(directory, key, now_ms)}{suffix}"
            name = f"{directory.path}/{key[0][: MAX_NAME - len(end)]}{end}"
            if not self.fs.exists(name):
                return name

    def unique(self, directory: LogDir, key: Key, now_ms: int) -> str:
        """32 hexadecimal digits, others each time."""
        self._delete_count += 1
        seed = f"{directory.path}/{key}{now_ms}/{self._delete_count}"
        return blake2b(seed.encode(), digest_size=16).hexdigest()

    def delete_later(self, directory: LogDir, path: str, due_ms: int) -> None:
        self._deletes.append((due_ms, directory.path, path))

    def delete_jobs(self, now_ms: int) -> list[Job]:
        """Removals that are due: deleted partitions, segments dropped by retention, compaction and
        truncation. Each may run in a thread."""
        self.settle()
        due = [entry for entry in self._deletes if entry[0] <= now_ms]
        if due:
            self._deletes = [entry for entry in self._deletes if entry[0] > now_ms]
        jobs: list[Job] = [
            partial(self._in_thread, home, partial(self.fs.remove_tree, path))
            for _, home, path in due
        ]
        for key, log in self.logs.items():
            if log.pending_deletes and not self.is_offline(key):
                home = self._home[key].path
                jobs += [partial(self._in_thread, home, job) for job in log.delete_jobs(now_ms)]
        return jobs

    # --- rounds

    def retain(self, now_ms: int) -> int:
        """One retention round over all logs (log.retention.check.interval.ms); segments removed."""
        removed = 0
        for number in self.retain_slices(now_ms):
            removed += number
        return removed

    def retain_slices(self, now_ms: int) -> Iterator[int]:
        """The same in slices of some logs each; yields how many segments each removed."""
        self.settle()
        logs = list(self.logs.items())
        for start in range(0, len(logs), LOGS_A_SLICE):
            yield sum(rounds.retain(self, *each, now_ms) for each in logs[start:][:LOGS_A_SLICE])

    def compact(self, now_ms: int) -> Iterator[SyncJob | None]:
        """One compaction round: compacts the logs that are due, dirtiest first, in slices of a few
        milliseconds, each ending in a yield. One round at a time (log.cleaner.backoff.ms apart).

        What it yields now and then is an fsync: a callable to be run in a thread before going on.
        It is run here, blocking, when it was not run.
        """
        if self._cleaner is None:
            from storage.cleaner import Cleaner

            self._cleaner = Cleaner(self._dedupe_memory)
        return self._cleaner.round(self, now_ms)

    def flush_jobs(self, now_ms: int) -> list[Job]:
        """Due flushes, each may run in a thread: flush.ms, segments that were rolled, and the
        recovery points that follow the log ends so that a restart reads little (FLUSH_BYTES,
        FLUSH_BATCHES). What they write is taken now: run them before making the next ones.
        """
        self.settle()
        jobs: list[Job] = []
        for key, log in rounds.to_flush(self, now_ms):
            try:
                jobs.append(partial(self._in_thread, self._home[key].path, log.flush_job()))
            except (OSError, LogDirOffline) as error:
                self.dir_failed(key, error)
        if jobs:
            # A restart goes by what the checkpoint says, not by what is on disk.
            jobs += self.checkpoint_jobs(RECOVERY_POINTS)
        return jobs

    def expire_producers(self, now_ms: int, expiration_ms: int) -> int:
        """Forgets producer ids unused for `expiration_ms` (producer.id.expiration.ms, which may
        have changed); how many."""
        self._producer_expiration_ms = expiration_ms
        gone = 0
        for log in self.logs.values():
            log.producers.expiration_ms = expiration_ms
            gone += log.producers.expire(now_ms)
        return gone

    # --- checkpoint files

    def write_checkpoints(self, *names: str) -> None:
        """Write these checkpoint files here and now, in every directory where they changed."""
        for name in names:
            for job in self.checkpoint_jobs(name):
                job()

    def checkpoint_jobs(self, name: str) -> list[Job]:
        """A job for each directory that writes its checkpoint file of that name, if anything
        changed in it; each may run in a thread (the offsets are taken there)."""
        self.settle()
        return [
            partial(self._in_thread, path, partial(self._write_table, self._dirs[path], name, logs))
            for path, logs in self._by_dir().items()
        ]

    def _by_dir(self) -> dict[str, list[tuple[Key, Log]]]:
        """The logs of each directory that is online."""
        found: dict[str, list[tuple[Key, Log]]] = {d.path: [] for d in self._online()}
        for logs, home in ((self.logs, self._home), (self.futures.logs, self.futures.home)):
            for key, log in logs.items():
                there = found.get(home[key].path)
                if there is not None:
                    there.append((key, log))
        return found

    def _write_table(self, directory: LogDir, name: str, logs: list[tuple[Key, Log]]) -> None:
        """Writes one checkpoint file. Raises OSError.

        A log that was deleted meanwhile must not come back into it: a new one of the same name
        would start with its offsets.
        """
        offset_of = CHECKPOINTED[name]
        cleaned = directory.tables[CLEANER_OFFSETS]
        present, future = self.logs.get, self.futures.logs.get
        with directory.writing:
            table = {}
            for key, log in logs:
                offset = cleaned.get(key) if offset_of is None else offset_of(log)
                if offset is not None and log in (present(key), future(key)):
                    table[key] = offset
            if table != directory.written.get(name):
                checkpoint.write_offsets(self.fs, f"{directory.path}/{name}", table)
                directory.written[name] = table

    def cleaner_offset(self, key: Key) -> int | None:
        """The first dirty offset of a compacted log, None before its first compaction."""
        return self._home[key].tables[CLEANER_OFFSETS].get(key)

    def set_cleaner_offset(self, key: Key, offset: int) -> None:
        """Notes it for the next `checkpoint_jobs(CLEANER_OFFSETS)`. One that gets lost costs work:
        clean segments are read once more."""
        self._home[key].tables[CLEANER_OFFSETS][key] = offset

    # --- sizes and end

    def dir_sizes(self) -> list[DirSize]:
        """Sizes for DescribeLogDirs, one entry for each configured directory."""
        return rounds.dir_sizes(self, list(self._dirs))

    def close(self, now_ms: int) -> None:
        """Flushes and closes every log, writes the checkpoints and last the clean-shutdown marker.

        A directory where any of that fails gets no marker, so that its logs are recovered when it
        is opened again. No job of this manager may be running.
        """
        for logs, home in ((self.logs, self._home), (self.futures.logs, self.futures.home)):
            for key, log in logs.items():
                self.guard(home[key].path, log.close, True)
        self.write_checkpoints(*CHECKPOINTS)
        for directory in self._online():
            self.guard(directory.path, self._mark_clean, directory)
        self._release()

    def _mark_clean(self, directory: LogDir) -> None:
        self.fs.write_atomic(f"{directory.path}/{CLEAN_SHUTDOWN}", CLEAN_SHUTDOWN_TEXT)

    def _release(self) -> None:
        for directory in self._dirs.values():
            if directory.lock is not None:
                directory.lock.release()
                directory.lock = None
