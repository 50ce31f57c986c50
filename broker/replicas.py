"""The partitions this broker hosts: becoming leader or follower, lookup, and the write that ends a
pass.

A pass is one turn of the event loop: batches that arrive in it, on any connection, are staged in
their logs and leave for the files together (`write_staged`), one writev a log. Answers and waiting
fetches come after the write.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from broker.clock import Clock
from broker.cluster.store import SessionEvent
from broker.cluster.view import ZERO_UUID, MetadataCache
from broker.errors import code_of
from broker.partition import LAG_MS, Partition
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
from storage.errors import InconsistentTopicId, LogDirOffline, StorageError
from storage.log import Appended
from storage.manager import LogManager

if TYPE_CHECKING:
    from broker.throttles import Throttle

log = logging.getLogger("odradek.replicas")

OnRole = Callable[[Partition], None]
NEW_LEADER_MS = 1000
"""For so long requests may come in that were sent before others of their producer were refused."""


class Replication(Protocol):
    """What goes on between this broker's replicas and those elsewhere."""

    def follow(self, partition: Partition) -> None:
        """Fetch from the partition's leader from now on; while it has none, from nobody."""

    def stop(self, partition: Partition) -> None:
        """Fetch no more."""

    def alter_isr(self, partition: Partition, isr: tuple[int, ...]) -> None:
        """Propose an ISR to the controller; the partition hears of it when it is decided."""


class Alone:
    """There are no other brokers."""

    def follow(self, partition: Partition) -> None:
        return None

    def stop(self, partition: Partition) -> None:
        return None

    def alter_isr(self, partition: Partition, isr: tuple[int, ...]) -> None:
        return None


class ReplicaManager:
    """Hosted partitions by topic and index. Everything runs on the event loop."""

    def __init__(
        self,
        broker_id: int,
        logs: LogManager,
        metadata: MetadataCache,
        config_of: Callable[[str], LogConfig],
        clock: Clock,
        *,
        lag_ms: int = LAG_MS,
        spread: bool = False,
    ) -> None:
        """`lag_ms`: replica.lag.time.max.ms. `spread`: followers hear of a high watermark at once,
        for the consumers that read from them."""
        self.broker_id = broker_id
        self.logs = logs
        self.metadata = metadata
        self.topics: dict[str, dict[int, Partition]] = {}
        self.dirty: list[Partition] = []
        self.replication: Replication = Alone()
        self.throttle: Throttle | None = None
        """How fast followers that are not in sync may catch up."""
        self._config_of = config_of
        self._clock = clock
        self._lag_ms = lag_ms
        self.spread = spread
        self.go_on_moving: OnRole = lambda _: None
        """Told of partitions with a future replica: they were on their way to another directory."""
        self._watchers: dict[str, tuple[OnRole, OnRole]] = {}
        self._write_scheduled = False
        self._in_session = True
        self._untold = False
        """The session was lost, and the controller has not said since who leads."""

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
        partition = self.replica(topic, index, current_leader_epoch)
        if isinstance(partition, Partition) and partition.leader != self.broker_id:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        return partition

    def replica(
        self, topic: str, index: int, current_leader_epoch: int = -1
    ) -> Partition | ErrorCode:
        """As `leader`, but any replica will do that has its log here."""
        partition = self.partition(topic, index)
        if partition is None:
            return self.missing(topic, index)
        if partition.log is None:
            return ErrorCode.KAFKA_STORAGE_ERROR
        if current_leader_epoch != partition.leader_epoch and current_leader_epoch != -1:
            if current_leader_epoch < partition.leader_epoch:
                return ErrorCode.FENCED_LEADER_EPOCH
            return ErrorCode.UNKNOWN_LEADER_EPOCH
        return partition

    def missing(self, topic: str, index: int) -> ErrorCode:
        """Why a partition is not hosted here: unknown to the cluster, or somewhere else."""
        if self.metadata.view.partition(topic, index) is None:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return ErrorCode.NOT_LEADER_OR_FOLLOWER

    def topic_name(self, topic_id: bytes) -> str | None:
        """Name of a topic id that the cluster knows."""
        return self.metadata.view.names.get(topic_id)

    def watch_roles(self, topic: str, became_leader: OnRole, resigned: OnRole) -> None:
        """Tell when a partition of this topic gets its leader here (again, in a new epoch), and
        when it has no more or its log is gone."""
        self._watchers[topic] = (became_leader, resigned)

    # --- whether this broker still leads

    def on_session(self, event: SessionEvent) -> None:
        """What became of the session with the metadata store."""
        self._in_session = event in (SessionEvent.CONNECTED, SessionEvent.RECONNECTED)
        if event is not SessionEvent.CONNECTED:  # in a new session the controller tells
            self._untold = event is not SessionEvent.RECONNECTED

    def in_doubt(self, partition: Partition) -> bool:
        """Whether a gap in a producer's sequence says less about the producer than about this
        leader: others may have led, or lead, meanwhile; or it began to lead between two requests
        that a producer had on the way, and has refused the first.
        """
        if self._untold:
            return True
        first = not partition.followers or partition.leader_epoch == 0
        return not first and self._clock.now_ms() < partition.leads_since_ms + NEW_LEADER_MS

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
        changed = []
        for partition in dirty:
            partition.dirty = False
            if partition.log is None:
                changed.append(partition)
                continue
            try:
                partition.log.write_staged()
            except LogDirOffline as error:
                log.error("%s-%d: %s", partition.topic, partition.index, error)
                changed.append(partition)
                continue
            if partition.followers:
                self._replicate(partition, changed)
            elif partition.advance():
                changed.append(partition)
        for partition in changed:
            if partition.waiters is not None:
                partition.notify()

    def _replicate(self, partition: Partition, changed: list[Partition]) -> None:
        """A partition with followers was written: they fetch what is new; consumers wait for the
        high watermark."""
        for following in partition.followings or ():
            following.appended(partition)
        if partition.advance(self._clock.now_ms()):
            partition.tell_followers(at_once=self.spread)
            changed.append(partition)

    def settle(self, partition: Partition) -> None:
        """The ISR is another: the high watermark may go on, and who left may come back."""
        partition.tell_followers()
        if partition.advance(self._clock.now_ms()):
            self.visible(partition)

    def visible(self, partition: Partition) -> None:
        """The high watermark has moved: wake all who wait for it, here and on the followers."""
        partition.tell_followers(at_once=self.spread)
        partition.notify()

    # --- requests of the controller

    def leader_and_isr(self, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse:
        """Become leader or follower of partitions: a request of version 5 or later (by topic id),
        whose controller and broker epoch were checked. The answers tell names as well.
        """
        self.write_staged()
        self._untold = not self._in_session
        response = LeaderAndIsrResponse()
        for topic in request.topic_states:
            answers = LeaderAndIsrTopicError(topic_id=topic.topic_id)
            for state in topic.partition_states:
                code = self._apply(topic.topic_name, topic.topic_id, state)
                answers.partition_errors.append(
                    LeaderAndIsrPartitionError(topic.topic_name, state.partition_index, code)
                )
            response.topics.append(answers)
        return response

    def _apply(self, topic: str, topic_id: bytes, state: LeaderAndIsrPartitionState) -> ErrorCode:
        partition = self.partition(topic, state.partition_index)
        if partition is None:
            if self.broker_id not in state.replicas:
                return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            partition = Partition(self.broker_id, topic, state.partition_index, topic_id)
            partition.lag_ms = self._lag_ms
            partition.eligible = self._alive
            self.topics.setdefault(topic, {})[state.partition_index] = partition
            code = self._take_role(partition, state)
            if code == ErrorCode.INCONSISTENT_TOPIC_ID:
                self._let_go(partition)  # what lies there belongs to a former topic
            return code
        if topic_id != partition.topic_id and ZERO_UUID not in (topic_id, partition.topic_id):
            return ErrorCode.INCONSISTENT_TOPIC_ID
        present = partition.log is not None
        if state.leader_epoch < partition.leader_epoch:
            return ErrorCode.STALE_CONTROLLER_EPOCH
        if state.leader_epoch == partition.leader_epoch and present:
            return self._learn_id(partition, topic_id)
        if self.broker_id not in state.replicas:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if state.partition_epoch < partition.partition_epoch and present:
            return ErrorCode.NONE  # older news than what is known
        if partition.topic_id == ZERO_UUID:
            partition.topic_id = topic_id
        return self._take_role(partition, state)

    def _learn_id(self, partition: Partition, topic_id: bytes) -> ErrorCode:
        """Nothing new but a topic id that was missing (IBP raised to 2.8)."""
        assert partition.log is not None
        if partition.topic_id != ZERO_UUID or topic_id == ZERO_UUID:
            return ErrorCode.STALE_CONTROLLER_EPOCH
        try:
            partition.log.assign_topic_id(topic_id)
        except StorageError as error:
            return code_of(error)
        partition.topic_id = topic_id
        return ErrorCode.NONE

    def _alive(self, broker_id: int) -> bool:
        return broker_id in self.metadata.view.brokers

    def _take_role(self, partition: Partition, state: LeaderAndIsrPartitionState) -> ErrorCode:
        while partition.dirty:
            # Another partition's new role has woken somebody, who has staged more here.
            self.write_staged()
        topic, index = partition.topic, partition.index
        was_leader = partition.is_leader and partition.log is not None
        try:
            if partition.log is None:
                partition.log = self.logs.get_or_create(
                    topic, index, self._config_of(topic), partition.topic_id, self._clock.now_ms()
                )
        except InconsistentTopicId as error:
            log.error("%s-%d cannot be hosted: %s", topic, index, error)
            return ErrorCode.INCONSISTENT_TOPIC_ID
        except StorageError as error:
            log.error("%s-%d cannot be hosted: %s", topic, index, error)
            return ErrorCode.KAFKA_STORAGE_ERROR
        if state.leader == self.broker_id:
            self.replication.stop(partition)
            partition.lead(state, self._clock.now_ms())
        else:
            partition.follow(state)
            self.replication.follow(partition)
        partition.notify()
        partition.tell_followers(at_once=True)
        if (topic, index) in self.logs.futures.logs:
            self.go_on_moving(partition)
        if partition.is_leader and not was_leader and topic in self._watchers:
            self._watchers[topic][0](partition)
        elif was_leader and not partition.is_leader:
            self._resigned(partition)
        return ErrorCode.NONE

    def _resigned(self, partition: Partition) -> None:
        watcher = self._watchers.get(partition.topic)
        if watcher is not None:
            watcher[1](partition)

    def stop_replica(self, request: StopReplicaRequest) -> StopReplicaResponse:
        """Stop replicas, and delete them where asked: a request of version 3 or later, whose
        controller and broker epoch were checked."""
        self.write_staged()
        response = StopReplicaResponse()
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
            self.replication.stop(partition)
            if delete:
                self._let_go(partition)
        if delete:
            try:
                self.logs.delete(topic, index, self._clock.now_ms())
            except StorageError as error:
                log.error("%s-%d cannot be deleted: %s", topic, index, error)
                return ErrorCode.KAFKA_STORAGE_ERROR
        return ErrorCode.NONE

    def _let_go(self, partition: Partition) -> None:
        partitions = self.topics[partition.topic]
        del partitions[partition.index]
        if not partitions:
            del self.topics[partition.topic]
        partition.leader = -1
        partition.log = None
        self._resigned(partition)
        partition.notify()
        partition.tell_followers(at_once=True)

    def log_dir_failed(self) -> None:
        """A log directory went offline: its replicas have no log any more."""
        for partition in self.partitions():
            if partition.log is not None and self._gone(partition):
                self.replication.stop(partition)
                partition.log = None
                self._resigned(partition)
                partition.notify()
                partition.tell_followers(at_once=True)

    def _gone(self, partition: Partition) -> bool:
        try:
            return self.logs.get(partition.topic, partition.index) is not partition.log
        except StorageError:
            return True
