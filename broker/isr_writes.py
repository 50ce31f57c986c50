"""In-sync replicas as leaders write them below IBP 2.7: into the store, without the controller.

A change is a conditional write of the partition's state node: it counts if the node is still what
this leader knew, which is what keeps a former leader out. Which partitions have changed is told to
the controller afterwards by a note under /isr_change_notification, some at a time: when nothing has
changed for a while, or the last note is long ago.
"""

import asyncio
import logging
from collections.abc import Callable

from broker.clock import Clock
from broker.cluster import layout
from broker.cluster.layout import BadContent, Leadership
from broker.cluster.store import BadVersion, NoNode, SessionExpired, Store, StoreError
from broker.partition import IsrChange, Partition

log = logging.getLogger("odradek.isr")

RETRY_S = 0.05
CHECK_S = 2.5
LINGER_MS = 5000
LONGEST_MS = 60_000
"""Constants in Apache Kafka, too: how often it is looked whether a note is due, and when it is."""


class IsrWrites:
    """This broker's changes; stands in the place of `broker.isr.IsrChanges`.

    `settle(partition)` is told when an ISR was written.
    """

    def __init__(self, store: Store, settle: Callable[[Partition], None], clock: Clock) -> None:
        self._store = store
        self._settle = settle
        self._clock = clock
        self._waiting: dict[Partition, IsrChange] = {}
        self._task: asyncio.Task[None] | None = None
        self._untold: dict[tuple[str, int], None] = {}
        self._changed_ms = 0
        self._told_ms = clock.now_ms()
        self._teller: asyncio.Task[None] | None = None

    def submit(self, partition: Partition, isr: tuple[int, ...]) -> None:
        """Have the ISR written."""
        partition.propose(isr)
        assert partition.pending is not None
        self._waiting[partition] = partition.pending
        log.info("%s-%d: ISR %s to %s", partition.topic, partition.index, partition.isr, isr)
        loop = asyncio.get_running_loop()
        if self._task is None:
            self._task = loop.create_task(self._run())
        if self._teller is None:
            self._teller = loop.create_task(self._tell())

    async def close(self) -> None:
        """Write no more. What was not told yet is read by the next controller anyway."""
        self._waiting.clear()
        tasks = [task for task in (self._task, self._teller) if task is not None]
        self._task = self._teller = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- writing

    async def _run(self) -> None:
        try:
            while self._waiting:
                changes = list(self._waiting.items())
                done = await asyncio.gather(*(self._write(p, change) for p, change in changes))
                if not all(done):
                    await asyncio.sleep(RETRY_S)
        finally:
            self._task = None

    async def _write(self, partition: Partition, change: IsrChange) -> bool:
        """Write one change; False when it must be tried again."""
        if partition.pending is not change:
            # LeaderAndIsr has told something newer.
            self._drop(partition, change)
            return True
        wanted = Leadership(
            partition.leader, change.leader_epoch, change.isr, partition.controller_epoch
        )
        try:
            version = await self._set(partition, wanted, change.partition_epoch)
        except StoreError as error:
            log.info("%s-%d: ISR waits: %s", partition.topic, partition.index, error)
            return False
        self._drop(partition, change)
        if version is None:
            # The controller has written something else, and its LeaderAndIsr will tell: until then
            # the change stays open.
            log.info("%s-%d: ISR %s is outdated", partition.topic, partition.index, change.isr)
        elif partition.pending is change:
            self._untold[partition.topic, partition.index] = None
            self._changed_ms = self._clock.now_ms()
            partition.commit(change.isr, version)
            self._settle(partition)
        return True

    def _drop(self, partition: Partition, change: IsrChange) -> None:
        if self._waiting.get(partition) is change:
            del self._waiting[partition]

    async def _set(self, partition: Partition, wanted: Leadership, version: int) -> int | None:
        """The node's version with that content; None when it has another. A write whose answer was
        lost is found to be there. Raises StoreError (try again)."""
        path = layout.state_path(partition.topic, partition.index)
        try:
            return (await self._store.set(path, layout.encode_state(wanted), version)).version
        except NoNode:
            return None
        except BadVersion:
            pass
        try:
            data, stat = await self._store.get(path)
            found = layout.decode_state(partition.topic, partition.index, data)
        except (NoNode, BadContent):
            return None
        return stat.version if found == wanted else None

    # --- telling

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                await self.tell_if_due()
            except SessionExpired:
                continue
            except StoreError as error:
                log.info("changes of ISRs are told later: %s", error)

    async def tell_if_due(self) -> None:
        """Leave a note if it is time. Raises StoreError."""
        now_ms = self._clock.now_ms()
        quiet = self._changed_ms + LINGER_MS < now_ms
        if not self._untold or not (quiet or self._told_ms + LONGEST_MS < now_ms):
            return
        told, self._untold = self._untold, {}
        path = f"{layout.ISR_CHANGES}/{layout.ISR_CHANGE_PREFIX}"
        try:
            await self._store.create(path, layout.encode_isr_change(told), sequential=True)
        except StoreError:
            self._untold = told | self._untold
            raise
        self._told_ms = now_ms
