"""The producer ids this broker may hand out: blocks reserved from the controller (KIP-730).

Ids come in blocks of 1000. The first block is asked for when the first id is wanted (or by
`start`), the next one when nine tenths of the present one are gone, so that in ordinary running an
id is always there. Ids of a block that are left at the end of the process are never used.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from broker.clock import Clock

log = logging.getLogger("odradek.producer_ids")

Allocate = Callable[[], Awaitable[tuple[int, int]]]

PREFETCH_BELOW = 0.1
"""The next block is asked for when no more than this part of the present one is left."""
RETRY_S = 0.05
"""Before the controller is asked again after a refusal."""
WAIT_S = 1.0
"""How long a request waits for a block before its client is told to come again."""


class ProducerIds:
    """Hands out producer ids, each once. Belongs to the event loop.

    `allocate()` reserves a block and returns (first id, how many), as
    `Controller.allocate_producer_ids` does; whatever it raises counts as a refusal.
    """

    __slots__ = ("_allocate", "_blocks", "_clock", "_fetch", "_retry_at", "_stopped", "_threshold")

    def __init__(self, allocate: Allocate, clock: Clock) -> None:
        self._allocate = allocate
        self._clock = clock
        self._blocks: deque[tuple[int, int]] = deque()  # (next id, end) of what is left, in order
        self._threshold = 0
        self._fetch: asyncio.Task[None] | None = None
        self._retry_at = 0.0
        self._stopped = False

    async def start(self) -> None:
        """Get the first block now, so that the first client need not wait. Never raises."""
        self._ask()
        if self._fetch is not None:
            await asyncio.wait((self._fetch,))

    async def stop(self) -> None:
        """Give up a question that is under way; no ids from here on."""
        self._stopped = True
        self._blocks.clear()
        fetch, self._fetch = self._fetch, None
        if fetch is not None:
            fetch.cancel()
            await asyncio.wait((fetch,))

    @property
    def left(self) -> int:
        """How many ids are at hand."""
        return sum(end - first for first, end in self._blocks)

    def take(self) -> int | None:
        """A producer id, or None while no block is there (one is being asked for then)."""
        blocks = self._blocks
        if not blocks:
            self._ask()
            return None
        producer_id, end = blocks[0]
        if producer_id + 1 < end:
            blocks[0] = (producer_id + 1, end)
        else:
            blocks.popleft()
        if len(blocks) <= 1 and self.left <= self._threshold:
            self._ask()
        return producer_id

    async def next(self, timeout_s: float = WAIT_S) -> int | None:
        """A producer id, after waiting for a block when none is there.

        None when the controller refused one or did not answer within `timeout_s` seconds: the
        client is to be told COORDINATOR_LOAD_IN_PROGRESS and asks again.
        """
        deadline = self._clock.monotonic() + timeout_s
        # More may wait than a block has ids: whoever finds it empty waits for another one.
        while (producer_id := self.take()) is None:
            if not await self.ready(deadline - self._clock.monotonic()):
                return None
        return producer_id

    async def ready(self, timeout_s: float = WAIT_S) -> bool:
        """Wait until an id is at hand, at most `timeout_s` seconds; whether one is."""
        deadline = self._clock.monotonic() + timeout_s
        while not self._blocks:
            self._ask()
            left = deadline - self._clock.monotonic()
            if self._fetch is None or left <= 0:
                return False
            done, _ = await asyncio.wait((self._fetch,), timeout=left)
            if not done:
                return False
        return True

    def _ask(self) -> None:
        if self._stopped or self._fetch is not None:
            return
        if self._clock.monotonic() < self._retry_at:
            return
        self._fetch = asyncio.get_running_loop().create_task(self._reserve())

    async def _reserve(self) -> None:
        try:
            first, count = await self._allocate()
        except Exception as error:  # noqa: BLE001 - any trouble of the controller or the way there
            self._retry_at = self._clock.monotonic() + RETRY_S
            log.warning("no block of producer ids: %s", error or type(error).__name__)
        else:
            self._blocks.append((first, first + count))
            self._threshold = int(count * PREFETCH_BELOW)
        finally:
            self._fetch = None
