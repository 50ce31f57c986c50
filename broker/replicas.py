"""The partitions this broker hosts: becoming leader or follower, lookup, and the write that ends a
pass.

A pass is one turn of the event loop: batches that arrive in it, on any connection, are staged in
their logs and leave for the files together (`write_staged`), one writev a log. Answers and waiting
fetches come after the write.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from broker.clock import Clock
from broker.cluster.view import MetadataCache
from broker.partition import Partition
from protocol.errors import ErrorCode
from protocol.messages.leader_and_isr import (
    LeaderAndIsrPartitionError,
    LeaderAndIsrPartitionState,
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
    LeaderAndIsrTopicError,
)
from protocol.messages.stop_replica import (
    StopReplicaPartitionError,
    StopReplicaRequest,
    StopReplicaResponse,
)
from storage.config import LogConfig
from storage.errors import LogDirOffline, StorageError
from storage.log import Appended
from storage.manager import LogManager

log = logging.getLogger("odradek.replicas")

LEADER_DURING_DELETE = -2

OnRole = Callable[[Partition], None]


class ReplicaManager:
    """Hosted partitions by topic and index. Everything runs on the event loop."""

    def __init__(
        self,
        broker_id: int,
        logs: LogManager,
        metadata: MetadataCache,
        config_of: Callable[[str], LogConfig],
        clock: Clock,
    ) -> None:
        self.broker_id = broker_id
        self.logs = logs
        self.metadata = metadata
        self.topics: dict[str, dict[int, Partition]] = {}
        self.dirty: list[Partition] = []
        self._config_of = config_of
        self._clock = clock
        self._controller_epoch = -1
        self._watchers: dict[str, tuple[OnRole, OnRole]] = {}
        self._write_scheduled = False

    # --- lookup

    def partition(self, topic: str, index: int) -> Partition | None:
        """The hosted partition, leader or not; None if this broker has no replica of it."""
        partitions = self.topics.get(topic)
        return None if partitions is None else partitions.get(index)

    def partitions(self) -> Iterable[Partition]:
        """Every hosted partition."""
        for partitions in self.topics.values():
            yield from partitions.values()

    def leader(
        self, topic: str, index: int, current_leader_epoch: int = -1
    ) -> Partition | ErrorCode:
        """The partition if this broker leads it and its log is there, else the code to answer.

        `current_leader_epoch` is what the client believes (KIP-320), -1 if it said nothing.
        """
        partition = self.partition(topic, index)
        if partition is None:
            return self.missing(topic, index, current_leader_epoch)
        if partition.log is None:
            return ErrorCode.KAFKA_STORAGE_ERROR
        if current_leader_epoch != partition.leader_epoch and current_leader_epoch != -1:
            if current_leader_epoch < partition.leader_epoch:
                return ErrorCode.FENCED_LEADER_EPOCH
            return ErrorCode.UNKNOWN_LEADER_EPOCH
        if partition.leader != self.broker_id:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        return partition

    def missing(self, topic: str, index: int, current_leader_epoch: int = -1) -> ErrorCode:
        """Why a partition is not hosted here: unknown to the cluster, or somewhere else."""
        if self.metadata.view.partition(topic, index) is None:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if current_leader_epoch != -1:
            return ErrorCode.UNKNOWN_LEADER_EPOCH
        return ErrorCode.NOT_LEADER_OR_FOLLOWER

    def topic_name(self, topic_id: bytes) -> str | None:
        """Name of a topic id that the cluster knows."""
        return self.metadata.view.names.get(topic_id)

    def watch_roles(self, topic: str, became_leader: OnRole, resigned: OnRole) -> None:
        """Tell when a partition of this topic gets its leader here (again, in a new epoch), and
        when it has no more or its log is gone."""
        self._watchers[topic] = (became_leader, resigned)

    # --- the write that ends a pass

    def stage(self, partition: Partition, batch: memoryview, now_ms: int) -> Appended:
        """Stage a batch of the broker's own; it is written when this turn of the loop ends.

        `batch` is writable and nobody else's. Raises what `Log.stage` raises.
        """
        assert partition.log is not None
        appended = partition.log.stage(batch, partition.leader_epoch, now_ms, origin="coordinator")
        if not partition.dirty:
            partition.dirty = True
            self.dirty.append(partition)
            if not self._write_scheduled:
                self._write_scheduled = True
                asyncio.get_running_loop().call_soon(self.write_staged)
        return appended

    def write_staged(self) -> None:
        """Write what was staged in this pass, raise high watermarks, wake those who wait.

        A log whose write fails goes offline; nothing staged in it becomes visible, so whoever
        staged sees its offsets above the log's end.
        """
        dirty = self.dirty
        self.dirty = []
        self._write_scheduled = False
        for partition in dirty:
            partition.dirty = False
            if partition.log is None:
                continue
            try:
                partition.log.write_staged()
            except LogDirOffline as error:
                log.error("%s-%d: %s", partition.topic, partition.index, error)
                continue
            partition.advance()
        for partition in dirty:
            if partition.waiters is not None:
                partition.notify()

    # --- requests of the controller

    def leader_and_isr(self, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse:
        """Become leader or follower of partitions (kafka-protocol LeaderAndIsr, versions 5 to 7: by
        topic id).
        """
        response = LeaderAndIsrResponse()
        if request.controller_epoch < self._controller_epoch:
            response.error_code = ErrorCode.STALE_CONTROLLER_EPOCH
            return response
        self._controller_epoch = request.controller_epoch
        for topic in request.topic_states:
            answers = LeaderAndIsrTopicError(topic_id=topic.topic_id)
            for state in topic.partition_states:
                code = self._apply(topic.topic_name, topic.topic_id, state)
                answers.partition_errors.append(
                    LeaderAndIsrPartitionError(
                        partition_index=state.partition_index, error_code=code
                    )
                )
            response.topics.append(answers)
        return response

    def _apply(self, topic: str, topic_id: bytes, state: LeaderAndIsrPartitionState) -> ErrorCode:
        if self.broker_id not in state.replicas:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        partition = self.partition(topic, state.partition_index)
        if partition is not None:
            if partition.topic_id != topic_id:
                return ErrorCode.INCONSISTENT_TOPIC_ID
            if state.leader_epoch < partition.leader_epoch or (
                state.leader_epoch == partition.leader_epoch and partition.log is not None
            ):
                return ErrorCode.STALE_CONTROLLER_EPOCH
        else:
            partition = Partition(self.broker_id, topic, state.partition_index, topic_id)
            self.topics.setdefault(topic, {})[state.partition_index] = partition
        return self._take_role(partition, state)

    def _take_role(self, partition: Partition, state: LeaderAndIsrPartitionState) -> ErrorCode:
        topic, index = partition.topic, partition.index
        try:
            if partition.log is None:
                partition.log = self.logs.get_or_create(
                    topic, index, self._config_of(topic), partition.topic_id, self._clock.now_ms()
                )
        except StorageError as error:
            log.error("%s-%d cannot be hosted: %s", topic, index, error)
            return ErrorCode.KAFKA_STORAGE_ERROR
        was_leader = partition.is_leader
        became_leader = state.leader == self.broker_id and (
            not was_leader or partition.leader_epoch != state.leader_epoch
        )
        partition.leader = state.leader
        partition.leader_epoch = state.leader_epoch
        partition.partition_epoch = state.partition_epoch
        partition.replicas = tuple(state.replicas)
        partition.isr = tuple(state.isr)
        if became_leader:
            partition.leader_epoch_start = partition.log.end_offset
            partition.log.epochs.assign(state.leader_epoch, partition.log.end_offset)
        partition.advance()
        partition.notify()
        if became_leader and topic in self._watchers:
            self._watchers[topic][0](partition)
        elif was_leader and not partition.is_leader:
            self._resigned(partition)
        return ErrorCode.NONE

    def _resigned(self, partition: Partition) -> None:
        watcher = self._watchers.get(partition.topic)
        if watcher is not None:
            watcher[1](partition)

    def stop_replica(self, request: StopReplicaRequest) -> StopReplicaResponse:
        """Stop hosting partitions, with their data where asked (StopReplica versions 3 and 4)."""
        response = StopReplicaResponse()
        if request.controller_epoch < self._controller_epoch:
            response.error_code = ErrorCode.STALE_CONTROLLER_EPOCH
            return response
        self._controller_epoch = request.controller_epoch
        for topic in request.topic_states:
            for state in topic.partition_states:
                code = self._stop(
                    topic.topic_name,
                    state.partition_index,
                    state.leader_epoch,
                    delete=state.delete_partition,
                )
                response.partition_errors.append(
                    StopReplicaPartitionError(
                        topic_name=topic.topic_name,
                        partition_index=state.partition_index,
                        error_code=code,
                    )
                )
        return response

    def _stop(self, topic: str, index: int, leader_epoch: int, *, delete: bool) -> ErrorCode:
        partition = self.partition(topic, index)
        if partition is not None:
            if 0 <= leader_epoch < partition.leader_epoch:
                return ErrorCode.FENCED_LEADER_EPOCH
            partitions = self.topics[topic]
            del partitions[index]
            if not partitions:
                del self.topics[topic]
            partition.leader = -1
            partition.log = None
            self._resigned(partition)
            partition.notify()
        if delete and self.logs.get(topic, index) is not None:
            try:
                self.logs.delete(topic, index, self._clock.now_ms())
            except StorageError as error:
                log.error("%s-%d cannot be deleted: %s", topic, index, error)
                return ErrorCode.KAFKA_STORAGE_ERROR
        return ErrorCode.NONE

    def log_dir_failed(self) -> None:
        """A log directory went offline: its replicas have no log any more."""
        for partition in self.partitions():
            if partition.log is not None and self._gone(partition):
                partition.log = None
                self._resigned(partition)
                partition.notify()

    def _gone(self, partition: Partition) -> bool:
        try:
            return self.logs.get(partition.topic, partition.index) is not partition.log
        except StorageError:
            return True
