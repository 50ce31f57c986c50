"""Changes of in-sync replicas on their way to the controller: AlterPartition (KIP-497).

One request at a time carries all that is waiting. A change counts once the controller has written
it, compared with the partition epoch that this leader knew; until then the partition goes by its
maximal ISR. What the controller does not decide is asked again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from broker.clock import Clock
from broker.partition import IsrChange, Partition
from protocol.errors import ErrorCode
from protocol.messages.alter_partition import (
    AlterPartitionRequest,
    BrokerState,
    RequestPartitionData,
    RequestTopicData,
    ResponsePartitionData,
)
from protocol.wire import ZERO_UUID

log = logging.getLogger("odradek.isr")

RETRY_S = 0.05
REFUSED_MS = 500
"""After a refusal, before the controller is asked to let somebody in again."""
INELIGIBLE = (ErrorCode.INELIGIBLE_REPLICA, ErrorCode.OPERATION_NOT_ATTEMPTED)
SETTLED_ELSEWHERE = (
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.UNKNOWN_TOPIC_ID,
    ErrorCode.FENCED_LEADER_EPOCH,
    ErrorCode.INVALID_UPDATE_VERSION,
    ErrorCode.INVALID_REQUEST,
)
"""The controller knows better, and its next LeaderAndIsr will tell: the change stays open."""

EPOCHS_SINCE = 3
NAMES_UNTIL = 1

Ask = Callable[[int, Callable[[int], Any], int | None], Awaitable[Any]]
"""`ControllerLink.ask`: one attempt, which raises when the controller cannot be reached."""


class IsrChanges:
    """This broker's changes. `settle(partition)` is told when an ISR was decided."""

    def __init__(
        self,
        broker_id: int,
        broker_epoch: Callable[[], int],
        ask: Ask,
        settle: Callable[[Partition], None],
        clock: Clock,
    ) -> None:
        self._broker_id = broker_id
        self._broker_epoch = broker_epoch
        self._ask = ask
        self._settle = settle
        self._clock = clock
        self._waiting: dict[Partition, IsrChange] = {}
        self._task: asyncio.Task[None] | None = None
        self._trouble = ""

    def submit(self, partition: Partition, isr: tuple[int, ...]) -> None:
        """Have the controller asked."""
        partition.propose(isr)
        assert partition.pending is not None
        self._waiting[partition] = partition.pending
        log.info("%s-%d: ISR %s to %s", partition.topic, partition.index, partition.isr, isr)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Ask no more."""
        self._waiting.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # what else comes up in this turn of the loop goes along
                self._drop_outdated()
                if self._waiting and not await self._round():
                    await asyncio.sleep(RETRY_S)
        finally:
            self._task = None

    def _drop_outdated(self) -> None:
        """What the partition no longer waits for: LeaderAndIsr has told something newer."""
        for partition, change in list(self._waiting.items()):
            if partition.pending is not change:
                del self._waiting[partition]

    async def _round(self) -> bool:
        """Ask for all that is waiting; False when some of it must be asked again."""
        sent = dict(self._waiting)
        # Without a topic id (IBP below 2.8) a partition can only be called by its topic's name.
        most = NAMES_UNTIL if any(p.topic_id == ZERO_UUID for p in sent) else None
        try:
            response = await self._ask(
                AlterPartitionRequest.API_KEY, lambda version: self._request(sent, version), most
            )
        except Exception as error:  # noqa: BLE001 - whatever keeps the controller from answering
            self._complain(f"they wait for the controller: {error or type(error).__name__}")
            return False
        if response.error_code != ErrorCode.NONE:
            self._complain(f"they are not taken: error {response.error_code}")
            return False
        self._trouble = ""
        by_name = {(p.topic, p.index): p for p in sent}
        by_id = {(p.topic_id, p.index): p for p in sent}
        done = True
        for topic in response.topics:
            for answer in topic.partitions:
                index = answer.partition_index
                partition = by_name.get((topic.topic_name, index)) or by_id.get(
                    (topic.topic_id, index)
                )
                if partition is not None:
                    done = self._decided(partition, sent[partition], answer) and done
        return done

    def _complain(self, trouble: str) -> None:
        """One line for as long as it stays the same."""
        if trouble != self._trouble:
            self._trouble = trouble
            log.info("ISR changes: %s", trouble)

    def _request(self, changes: dict[Partition, IsrChange], version: int) -> AlterPartitionRequest:
        topics: dict[tuple[str, bytes], RequestTopicData] = {}
        for partition, change in changes.items():
            key = partition.topic, partition.topic_id
            data = RequestPartitionData(
                partition.index, change.leader_epoch, partition_epoch=change.partition_epoch
            )
            if version >= EPOCHS_SINCE:
                data.new_isr_with_epochs = [BrokerState(broker_id) for broker_id in change.isr]
            else:
                data.new_isr = list(change.isr)
            topics.setdefault(key, RequestTopicData(*key)).partitions.append(data)
        return AlterPartitionRequest(self._broker_id, self._broker_epoch(), list(topics.values()))

    def _decided(
        self, partition: Partition, change: IsrChange, answer: ResponsePartitionData
    ) -> bool:
        """The controller's word on one change; False when it must be asked again."""
        if partition.pending is not change:
            if self._waiting.get(partition) is change:
                del self._waiting[partition]
            return True  # a newer change, under the next leader epoch, waits for the next round
        code = answer.error_code
        if code == ErrorCode.NONE:
            if answer.leader_epoch == change.leader_epoch:
                del self._waiting[partition]
                partition.commit(tuple(answer.isr), answer.partition_epoch)
                self._settle(partition)
            return True
        log.info("%s-%d: ISR %s: error %d", partition.topic, partition.index, change.isr, code)
        if code in INELIGIBLE:
            del self._waiting[partition]
            partition.roll_back(self._clock.now_ms() + REFUSED_MS)
            self._settle(partition)
            return True
        if code in SETTLED_ELSEWHERE:
            del self._waiting[partition]
            return True
        return False
