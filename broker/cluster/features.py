"""Features: levels of protocols that the whole cluster has agreed on (KIP-584).

The finalized levels are the node /feature, as Apache Kafka 3.9 writes it; the version of that node
is their epoch. The controller changes the node (`broker.controller.features`), every broker watches
it. A feature that is not finalized has level 0. A new cluster of our own begins with the newest
levels; a store that Apache Kafka made has none until UpdateFeatures says so, because a broker of
Apache Kafka 3.9 that sees a finalized feature which it does not know ends itself.
"""

import asyncio
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from broker.cluster import layout
from broker.cluster.layout import BadContent
from broker.cluster.store import NoNode, SessionEvent, Store, StoreError, WatchEvent

log = logging.getLogger("odradek.features")

GROUP_VERSION = "group.version"
"""1: the consumer group protocol (KIP-848)."""
TRANSACTION_VERSION = "transaction.version"
"""1: flexible records in __transaction_state; 2: an epoch for each transaction (KIP-890)."""
SHARE_VERSION = "share.version"
"""1: share groups (KIP-932). Left out: 2, dead letter queues (KIP-1191)."""

SUPPORTED: Mapping[str, tuple[int, int]] = MappingProxyType(
    {GROUP_VERSION: (0, 1), SHARE_VERSION: (0, 1), TRANSACTION_VERSION: (0, 2)}
)
"""Lowest and highest level that this broker can work at, in the order of their names."""
LATEST: Mapping[str, int] = MappingProxyType({name: high for name, (_, high) in SUPPORTED.items()})

NO_EPOCH = -1


class IncompatibleFeatures(Exception):
    """The cluster works at a level that this broker does not know; the text is one sentence."""


class FinalizedFeatures(NamedTuple):
    """What is finalized, all of one moment; `epoch` is -1 as long as there is no such node."""

    levels: Mapping[str, int] = MappingProxyType({})
    epoch: int = NO_EPOCH


class FeatureCache:
    """What this broker knows of the finalized features. Read from memory, replaced as a whole."""

    def __init__(self, finalized: FinalizedFeatures | None = None) -> None:
        self.finalized = finalized or FinalizedFeatures()
        self._changed = asyncio.Event()

    def level(self, name: str) -> int:
        """The finalized level of a feature; 0 for one that is not finalized."""
        return self.finalized.levels.get(name, 0)

    def adopt(self, finalized: FinalizedFeatures) -> None:
        """Replace what is known and wake who waits for it."""
        self.finalized = finalized
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def reached(self, epoch: int, timeout_s: float) -> bool:
        """Wait until this epoch or a later one is known; False when the time is over before."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.finalized.epoch < epoch:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True


class FeatureWatch:
    """Keeps a `FeatureCache` in step with the store."""

    def __init__(self, store: Store, cache: FeatureCache) -> None:
        self._store = store
        self._cache = cache
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read, and begin to watch. Raises StoreError, BadContent, IncompatibleFeatures."""
        await self._read()
        for name, level in self._cache.finalized.levels.items():
            if level > SUPPORTED.get(name, (0, 0))[1]:
                raise IncompatibleFeatures(
                    f"The cluster has finalized {name} at level {level}, "
                    "which this broker does not support."
                )
        self._store.listen(self._on_session)
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def close(self) -> None:
        """Stop following changes; what is known stays readable."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _on_session(self, event: SessionEvent) -> None:
        if event in (SessionEvent.RECONNECTED, SessionEvent.CONNECTED):
            self._wake.set()

    def _on_watch(self, _: WatchEvent) -> None:
        self._wake.set()

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._read()
            except (StoreError, BadContent) as error:
                # The next session event or change of the node brings us back here.
                log.error("finalized features could not be read: %s", error)
            except Exception:
                log.exception("a change of the finalized features could not be taken over")

    async def _read(self) -> None:
        stat = await self._store.exists(layout.FEATURE, self._on_watch)
        if stat is None:
            self._cache.adopt(FinalizedFeatures())
            return
        try:
            data, stat = await self._store.get(layout.FEATURE)
        except NoNode:
            return  # gone again: the watch is on its way
        finalized = FinalizedFeatures(layout.decode_feature(data), stat.version)
        if finalized != self._cache.finalized:
            log.info("finalized features: %s, epoch %d", dict(finalized.levels), finalized.epoch)
            self._cache.adopt(finalized)
