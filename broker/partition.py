"""One hosted partition: its role, epochs, in-sync replicas, and who waits for it. Does no IO of its
own.
"""

from typing import Protocol

from storage.log import Log


class Waiter(Protocol):
    """A parked request that wants to look again when a partition changed."""

    def wake(self) -> None: ...


class Partition:
    """A replica on this broker.

    `log` is None while the replica's log directory is offline. `dirty` says that batches are staged
    in the log and wait for the write at the end of the pass.
    """

    __slots__ = (
        "broker_id",
        "dirty",
        "index",
        "isr",
        "leader",
        "leader_epoch",
        "leader_epoch_start",
        "log",
        "partition_epoch",
        "replicas",
        "topic",
        "topic_id",
        "waiters",
    )

    def __init__(self, broker_id: int, topic: str, index: int, topic_id: bytes) -> None:
        self.broker_id = broker_id
        self.topic = topic
        self.index = index
        self.topic_id = topic_id
        self.log: Log | None = None
        self.leader = -1
        self.leader_epoch = -1
        self.leader_epoch_start = 0
        self.partition_epoch = -1
        self.replicas: tuple[int, ...] = ()
        self.isr: tuple[int, ...] = ()
        self.dirty = False
        self.waiters: list[Waiter] | None = None

    @property
    def is_leader(self) -> bool:
        return self.leader == self.broker_id

    @property
    def under_min_isr(self) -> bool:
        """Whether acks=all is refused: fewer in sync than min.insync.replicas, capped by the
        replica count.
        """
        assert self.log is not None
        wanted = min(self.log.config.min_insync_replicas, max(len(self.replicas), 1))
        return len(self.isr) < wanted

    def advance(self) -> bool:
        """Raise the high watermark as far as the in-sync replicas allow; whether it moved."""
        log = self.log
        if log is None or len(self.isr) > 1 or self.leader != self.broker_id:
            return False
        if log.end_offset <= log.high_watermark:
            return False
        log.advance_high_watermark(log.end_offset)
        return True

    def add_waiter(self, waiter: Waiter) -> None:
        """Wake this one once at the next change."""
        if self.waiters is None:
            self.waiters = [waiter]
        else:
            self.waiters.append(waiter)

    def drop_waiter(self, waiter: Waiter) -> None:
        """The parked request is answered or its client is gone."""
        if self.waiters is not None:
            try:
                self.waiters.remove(waiter)
            except ValueError:
                pass
            if not self.waiters:
                self.waiters = None

    def notify(self) -> None:
        """Wake all who wait; they register again if they must go on waiting."""
        waiters, self.waiters = self.waiters, None
        for waiter in waiters or ():
            waiter.wake()
