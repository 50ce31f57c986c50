"""The work that goes on beside requests: retention, flushing, checkpoints, deferred deletions,
compaction.

Each duty is a loop of its own on the event loop. fsync, checkpoint files and deletions block in a
thread; compaction runs in slices of a few milliseconds and yields to connections between them.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from broker.clock import Clock
from broker.config import BrokerConfig
from storage.log_dir import CLEANER_OFFSETS, HIGH_WATERMARKS, LOG_STARTS, RECOVERY_POINTS
from storage.manager import LogManager

log = logging.getLogger("odradek.housekeeping")

FLUSH_CHECK_S = 0.25
DELETE_CHECK_S = 1.0
MIN_PAUSE_S = 0.05

Job = Callable[[], None]


class Housekeeping:
    """Started after the logs are loaded, stopped before they are closed."""

    def __init__(self, logs: LogManager, config: BrokerConfig, clock: Clock) -> None:
        self._logs = logs
        self._config = config
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        config = self._config
        duties: tuple[tuple[Callable[[], float], Callable[[], object]], ...] = (
            (lambda: FLUSH_CHECK_S, self._flush),
            (lambda: DELETE_CHECK_S, self._delete),
            (lambda: config.log_retention_check_interval_ms / 1000, self._retain),
            (lambda: config.log_flush_offset_checkpoint_interval_ms / 1000, self._recovery_points),
            (lambda: config.log_flush_start_offset_checkpoint_interval_ms / 1000, self._log_starts),
            (
                lambda: config.replica_high_watermark_checkpoint_interval_ms / 1000,
                self._high_watermarks,
            ),
            (
                lambda: config.producer_id_expiration_check_interval_ms / 1000,
                self._expire_producers,
            ),
        )
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._every(pause, duty)) for pause, duty in duties]
        if config.log_cleaner_enable:
            self._tasks.append(loop.create_task(self._compact()))

    async def stop(self) -> None:
        """Let what runs in a thread end, then nothing more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _every(self, pause: Callable[[], float], duty: Callable[[], object]) -> None:
        while True:
            await asyncio.sleep(max(pause(), MIN_PAUSE_S))
            try:
                result = duty()
                if asyncio.iscoroutine(result):
                    await result
            except Exception:
                log.exception("a duty failed and is tried again later")

    @staticmethod
    async def _in_thread(jobs: Iterable[Job]) -> None:
        """Run jobs one after the other in a thread; a stop waits for the one that runs."""
        loop = asyncio.get_running_loop()
        for job in jobs:
            running = loop.run_in_executor(None, job)
            try:
                await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.wait((running,))
                raise

    async def _flush(self) -> None:
        await self._in_thread(self._logs.flush_jobs(self._clock.now_ms()))

    async def _delete(self) -> None:
        await self._in_thread(self._logs.delete_jobs(self._clock.now_ms()))

    def _retain(self) -> None:
        self._logs.retain(self._clock.now_ms())

    async def _recovery_points(self) -> None:
        await self._in_thread(self._logs.checkpoint_jobs(RECOVERY_POINTS))
        await self._in_thread(self._logs.checkpoint_jobs(CLEANER_OFFSETS))

    async def _log_starts(self) -> None:
        await self._in_thread(self._logs.checkpoint_jobs(LOG_STARTS))

    async def _high_watermarks(self) -> None:
        await self._in_thread(self._logs.checkpoint_jobs(HIGH_WATERMARKS))

    def _expire_producers(self) -> None:
        config = self._config
        self._logs.expire_producers(self._clock.now_ms(), config.producer_id_expiration_ms)

    async def _compact(self) -> None:
        while True:
            await asyncio.sleep(max(self._config.log_cleaner_backoff_ms / 1000, MIN_PAUSE_S))
            try:
                for _ in self._logs.compact(self._clock.now_ms()):
                    await asyncio.sleep(0)
            except Exception:
                log.exception("a round of compaction failed and is tried again later")
