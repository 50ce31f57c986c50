"""A follower's fetch session as the leader keeps it: which partitions have something to tell.

A follower asks for thousands of partitions at a time of which few have anything new. So a session
does not look at all of them with every request: it hears from a partition that it has changed, and
only those that are `due` are looked at. A partition is due when it was named in a request, when its
log, high watermark or role has changed, and as long as something of it was not told or not taken.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from broker.sessions import FetchedPartition, PartitionKey

if TYPE_CHECKING:
    from broker.partition import Partition


class FollowerSession:
    """Of one follower's fetcher; also of a single request without a session.

    `ring` is called when a waiting request should look again.
    """

    __slots__ = ("_asked", "_partitions", "broker_id", "due", "fetched_ms", "outside", "ring")

    def __init__(self, broker_id: int) -> None:
        self.broker_id = broker_id
        self.due: dict[PartitionKey, FetchedPartition] = {}
        self.outside: dict[Partition, None] = {}
        """Partitions in whose ISR the follower is not: with each request it may join."""
        self.fetched_ms = 0
        """When the follower last asked, ms since the epoch."""
        self.ring: Callable[[], None] | None = None
        # What is asked of a partition, and the partitions that are told to report here.
        self._asked: dict[Partition, FetchedPartition] = {}
        self._partitions: dict[PartitionKey, Partition] = {}

    def put(self, asked: FetchedPartition, partition: "Partition | None") -> None:
        """Named in a request: to be looked at. `partition` is None where it is not hosted."""
        self.due[asked.key] = asked
        if partition is not None:
            self.link(asked, partition)

    def link(self, asked: FetchedPartition, partition: "Partition") -> None:
        """Have the partition report here."""
        key = asked.key
        before = self._partitions.get(key)
        if before is not partition:
            if before is not None:
                self._unlink(key, before)
            self._partitions[key] = partition
            if partition.followings is None:
                partition.followings = [self]
            else:
                partition.followings.append(self)
        self._asked[partition] = asked

    def drop(self, key: PartitionKey) -> None:
        """The follower fetches it no more."""
        self.due.pop(key, None)
        partition = self._partitions.get(key)
        if partition is not None:
            self._unlink(key, partition)

    def _unlink(self, key: PartitionKey, partition: "Partition") -> None:
        del self._partitions[key], self._asked[partition]
        self.outside.pop(partition, None)
        followings = partition.followings
        if followings is not None:
            followings.remove(self)
            if not followings:
                partition.followings = None

    def told(self, asked: FetchedPartition) -> None:
        """Nothing is left to tell of it."""
        self.due.pop(asked.key, None)

    def served(self, asked: FetchedPartition) -> None:
        """Records of it were sent: it goes to the back, so that limits do not starve the others."""
        key = asked.key
        if self.due.pop(key, None) is not None:
            self.due[key] = asked

    def appended(self, partition: "Partition") -> None:
        """Its log has grown. Until its last request the follower had everything."""
        asked = self._asked.get(partition)
        if asked is None:
            return
        if asked.key not in self.due:
            follower = partition.followers.get(self.broker_id)
            if follower is not None and follower.caught_up_ms < self.fetched_ms:
                follower.caught_up_ms = self.fetched_ms
            self.due[asked.key] = asked
        if self.ring is not None:
            self.ring()

    def changed(self, partition: "Partition", *, at_once: bool) -> None:
        """Its high watermark, log start, ISR or role is another; `at_once`: worth an answer now."""
        asked = self._asked.get(partition)
        if asked is None:
            return
        if self.broker_id in partition.followers and self.broker_id not in partition.isr:
            # Its position may have been recorded while it was still in the ISR.
            self.outside[partition] = None
        self.due.setdefault(asked.key, asked)
        if at_once and self.ring is not None:
            self.ring()

    def close(self) -> None:
        """The session is over."""
        for key, partition in list(self._partitions.items()):
            self._unlink(key, partition)
        self.due.clear()
