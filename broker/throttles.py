"""The replication quotas of this broker, as its settings and its topics' say."""

from broker.clock import Clock
from broker.config import BrokerConfig
from broker.partition import Partition
from broker.replication_quota import UNLIMITED, ReplicationQuota, names


class Throttle:
    """One side: what this broker sends as a leader, or takes as a follower."""

    __slots__ = ("_broker_id", "_clock", "_leader", "_quota")

    def __init__(self, config: BrokerConfig, clock: Clock, *, leader: bool) -> None:
        self._broker_id = config.broker_id
        self._clock = clock
        self._leader = leader
        self._quota = ReplicationQuota(
            config.replication_quota_window_num, config.replication_quota_window_size_seconds
        )
        self._follow(config)
        config.watch(lambda _: self._follow(config))

    def _follow(self, config: BrokerConfig) -> None:
        limit: int = (
            config.leader_replication_throttled_rate
            if self._leader
            else config.follower_replication_throttled_rate
        )
        self._quota.limit = limit

    @property
    def off(self) -> bool:
        """Whether no rate is set."""
        return self._quota.limit == UNLIMITED

    def concerns(self, partition: Partition) -> bool:
        """Whether this broker's replica is among the topic's throttled ones."""
        log = partition.log
        if log is None:
            return False
        config = log.config
        throttled = (
            config.leader_replication_throttled_replicas
            if self._leader
            else config.follower_replication_throttled_replicas
        )
        return names(throttled, partition.index, self._broker_id)

    def holds(self, partition: Partition) -> bool:
        """Whether a replica that is not in sync has to wait now."""
        quota = self._quota
        if quota.limit == UNLIMITED or not self.concerns(partition):
            return False
        return quota.exceeded(self._clock.monotonic())

    def record(self, partition: Partition, size: int) -> None:
        """So many bytes of the partition went by. Counted also while no rate is set, so that one
        that is set later knows."""
        if size and self.concerns(partition):
            self._quota.record(size, self._clock.monotonic())
