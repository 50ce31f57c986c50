"""Replicas moved between the log directories of this broker (KIP-113).

One task copies what the present replica has into its future one (`storage/futures.py`), some of one
partition at a time and not faster than replica.alter.log.dirs.io.max.bytes.per.second. As soon as
nothing is missing the two are swapped within one turn of the loop: nobody sees a moment between.
What was under way when the broker ended goes on when the partition has its role again.
"""

import asyncio
import logging
from collections.abc import Callable

from broker.clock import Clock
from broker.config import BrokerConfig
from broker.partition import Partition
from broker.replicas import ReplicaManager
from broker.replication_quota import ReplicationQuota
from protocol.errors import CorruptRecord, ErrorCode
from storage.errors import LogDirOffline, StorageError
from storage.futures import align, copy, future_name
from storage.log import FLUSH_BYTES, Log
from storage.log_dir import Key

log = logging.getLogger("odradek.log-dirs")

SLICE_BYTES = 1 << 20
FLUSH_REST_BYTES = 4 << 20
"""What may be left to be written to disk while the loop waits: at the swap."""
PAUSE_S = 0.1
"""While the rate is exceeded, or the log is being compacted."""
LONGEST_NAME = 255


class LogDirMoves:
    """The moves of one broker. Belongs to the event loop."""

    def __init__(self, replicas: ReplicaManager, config: BrokerConfig, clock: Clock) -> None:
        self._replicas = replicas
        self._logs = replicas.logs
        self._clock = clock
        self._quota = ReplicationQuota(
            config.alter_log_dirs_replication_quota_window_num,
            config.alter_log_dirs_replication_quota_window_size_seconds,
        )
        self._follow(config)
        config.watch(lambda _: self._follow(config))
        self._moving: dict[Key, tuple[Log, int]] = {}
        """Partition -> the log that is copied, and its count of truncations when last looked at."""
        self._task: asyncio.Task[None] | None = None

    def _follow(self, config: BrokerConfig) -> None:
        self._quota.limit = config.replica_alter_log_dirs_io_max_bytes_per_second

    # --- begun and ended

    def alter(self, topic: str, index: int, path: str) -> ErrorCode:
        """Have a replica move to the log directory `path`; NONE when it is on its way, or there.

        A replica that this broker does not have is made there when the controller asks for it
        (REPLICA_NOT_AVAILABLE until then). Another directory takes the place of one that it was on
        its way to; that where it is ends the move.
        """
        key, logs = (topic, index), self._logs
        if len(future_name(key, "0" * 32)) > LONGEST_NAME:
            return ErrorCode.INVALID_TOPIC_EXCEPTION
        if not logs.has_dir(path):
            return ErrorCode.LOG_DIR_NOT_FOUND
        if path in logs.offline_dirs:
            return ErrorCode.KAFKA_STORAGE_ERROR
        partition = self._replicas.partition(topic, index)
        if partition is None:
            logs.futures.prefer(key, path)
            code = self._replicas.missing(topic, index)
            unknown = code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            return code if unknown else ErrorCode.REPLICA_NOT_AVAILABLE
        if partition.log is None:
            return ErrorCode.KAFKA_STORAGE_ERROR
        there = logs.futures.home.get(key)
        if there is not None and there.path != path:
            self._end(key)
            logs.futures.drop(key, self._clock.now_ms())
            there = None
        if logs.home_of(key).path != path and there is None:
            try:
                logs.futures.create(key, path, self._clock.now_ms())
            except StorageError as error:
                log.error("%s-%d cannot be moved to %s: %s", topic, index, path, error)
                return ErrorCode.KAFKA_STORAGE_ERROR
            log.info("%s-%d moves to %s", topic, index, path)
            self.resume(partition)
        return ErrorCode.NONE

    def resume(self, partition: Partition) -> None:
        """Go on with a partition that has a future replica."""
        if partition.log is None:
            return
        key = partition.topic, partition.index
        moving = self._moving.get(key)
        if moving is None or moving[0] is not partition.log:
            self._moving[key] = (partition.log, -1)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def _end(self, key: Key) -> None:
        self._moving.pop(key, None)

    async def close(self) -> None:
        """Copy nothing more; what is under way stays."""
        self._moving.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # --- copying

    async def _run(self) -> None:
        try:
            while self._moving:
                done = 0
                for key in list(self._moving):
                    try:
                        done += await self._step(key)
                    except (StorageError, CorruptRecord) as error:
                        self._failed(key, error)
                        self._end(key)
                    await asyncio.sleep(0)
                if not done and self._moving:
                    await asyncio.sleep(PAUSE_S)
        except Exception:
            log.exception("moves between log directories end by an unforeseen error")
        finally:
            self._task = None

    def _failed(self, key: Key, error: Exception) -> None:
        """A move that cannot go on: the replica stays where it is."""
        log.error("%s-%d cannot be moved: %s", *key, error)
        partition = self._replicas.partition(*key)
        current = None if partition is None else partition.log
        # Where the present one has failed, the future one may be all that is left.
        if current is not None and current.failure is None:
            self._logs.futures.drop(key, self._clock.now_ms())

    async def _step(self, key: Key) -> int:
        """Some more of one partition; 0 when it had to wait."""
        future, partition = self._logs.futures.logs.get(key), self._replicas.partition(*key)
        moving = self._moving.get(key)
        if future is None or partition is None or partition.log is None or moving is None:
            self._end(key)
            return 1
        if self._logs.compacting(key) or self._quota.exceeded(self._clock.monotonic()):
            return 0
        self._replicas.write_staged()
        current = partition.log
        if moving != (current, current.changes):
            align(current, future, self._clock.now_ms())
            self._moving[key] = (current, current.changes)
        size = copy(current, future, SLICE_BYTES, self._clock.now_ms())
        self._quota.record(size, self._clock.monotonic())
        missing = current.end_offset > future.end_offset
        if future.unflushed_bytes > (FLUSH_BYTES if missing else FLUSH_REST_BYTES):
            await self._in_thread(future.flush_job())
        elif not missing:
            self._swap(partition, key)
        return 1

    @staticmethod
    async def _in_thread(job: Callable[[], None]) -> None:
        """Run a flush in a thread; who is cancelled waits for it all the same."""
        running = asyncio.get_running_loop().run_in_executor(None, job)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait((running,))
            raise
        except OSError as error:
            raise LogDirOffline(f"A flush failed: {error}") from error

    def _swap(self, partition: Partition, key: Key) -> None:
        partition.log = self._logs.futures.swap(key, self._clock.now_ms())
        self._end(key)
        partition.notify()
        partition.tell_followers(at_once=True)
