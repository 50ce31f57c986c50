"""One hosted partition: its role, epochs, replicas, and who waits for it. Does no IO of its own.

A leader knows of each follower how far it has fetched. The in-sync replicas (ISR) are the
controller's to change: the leader proposes, and while a change is under way the high watermark goes
by the larger of the two sets (the maximal ISR), so that it is right whatever the controller answers
(KIP-497). Times are handed in.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from storage.log import Log

if TYPE_CHECKING:
    from protocol.messages.leader_and_isr import LeaderAndIsrPartitionState

UNKNOWN = -1
LAG_MS = 30_000
"""replica.lag.time.max.ms where nothing else is said."""


class Waiter(Protocol):
    """A parked request that wants to look again when a partition changed."""

    def wake(self) -> None: ...


class Follower:
    """What the leader knows of a follower. Offsets; times in ms since the epoch, 0 for never."""

    __slots__ = (
        "broker_id",
        "caught_up_ms",
        "end_offset",
        "fetched_ms",
        "leader_end_offset",
        "start_offset",
    )

    def __init__(self, broker_id: int) -> None:
        self.broker_id = broker_id
        self.end_offset = UNKNOWN
        self.start_offset = UNKNOWN
        self.fetched_ms = 0
        self.caught_up_ms = 0
        """When it had last fetched everything that the leader then had."""
        self.leader_end_offset = UNKNOWN
        """The leader's log end at the follower's last fetch."""

    def begin_epoch(self, now_ms: int, leader_end_offset: int, *, in_sync: bool) -> None:
        """The leader it knows leads on under a new epoch."""
        self.caught_up_ms = self.fetched_ms = now_ms if in_sync else 0
        self.leader_end_offset = leader_end_offset

    def fetched(
        self, fetch_offset: int, start_offset: int, now_ms: int, leader_end_offset: int
    ) -> None:
        """It asks from `fetch_offset` on: all below is in its log."""
        if fetch_offset >= leader_end_offset:
            self.caught_up_ms = max(self.caught_up_ms, now_ms)
        elif fetch_offset >= self.leader_end_offset:
            # All that there was when it fetched last.
            self.caught_up_ms = max(self.caught_up_ms, self.fetched_ms)
        self.end_offset = fetch_offset
        self.start_offset = start_offset
        self.fetched_ms = now_ms
        self.leader_end_offset = max(self.leader_end_offset, leader_end_offset)

    def caught_up(self, leader_end_offset: int, now_ms: int, lag_ms: int) -> bool:
        """Whether it has everything, or had so within the last `lag_ms`."""
        return self.end_offset == leader_end_offset or now_ms - self.caught_up_ms <= lag_ms


class IsrChange(NamedTuple):
    """A change of the ISR that the controller was, or will be, asked for."""

    isr: tuple[int, ...]
    maximal: tuple[int, ...]
    leader_epoch: int
    partition_epoch: int


class Following(Protocol):
    """A follower's fetch session: hears of partitions that have something to tell."""

    def appended(self, partition: "Partition") -> None:
        """The log has grown."""

    def changed(self, partition: "Partition", *, at_once: bool) -> None:
        """Its high watermark, log start, ISR or role is another."""


class Partition:
    """A replica on this broker.

    `log` is None while the replica's log directory is offline. `dirty` says that batches are staged
    in the log and wait for the write at the end of the pass. `followers` are the other replicas
    while this one leads.
    """

    __slots__ = (
        "broker_id",
        "closed_until_ms",
        "controller_epoch",
        "dirty",
        "eligible",
        "followers",
        "followings",
        "index",
        "isr",
        "lag_ms",
        "leader",
        "leader_epoch",
        "leader_epoch_start",
        "leads_since_ms",
        "log",
        "partition_epoch",
        "pending",
        "replicas",
        "told_start",
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
        self.leads_since_ms = 0
        self.partition_epoch = -1
        self.controller_epoch = 0
        """Of the controller that has made it leader."""
        self.replicas: tuple[int, ...] = ()
        self.isr: tuple[int, ...] = ()
        self.pending: IsrChange | None = None
        self.closed_until_ms = 0
        """The controller has refused somebody: until then it is not asked to let anybody in."""
        self.followers: dict[int, Follower] = {}
        self.lag_ms = LAG_MS
        self.eligible: Callable[[int], bool] = lambda _: True
        """Whether a broker is alive: others cannot join the ISR."""
        self.dirty = False
        self.told_start = UNKNOWN
        self.waiters: list[Waiter] | None = None
        self.followings: list[Following] | None = None

    def __repr__(self) -> str:
        return f"Partition({self.topic}-{self.index}, leader {self.leader}@{self.leader_epoch})"

    @property
    def is_leader(self) -> bool:
        return self.leader == self.broker_id

    # --- role

    def lead(self, state: "LeaderAndIsrPartitionState", now_ms: int) -> bool:
        """Lead under the epoch of `state`; whether this replica did not lead before."""
        log = self.log
        assert log is not None
        new_leader = not self.is_leader
        if new_leader or state.leader_epoch > self.leader_epoch:
            self.leader_epoch_start = log.end_offset
            log.epochs.assign(state.leader_epoch, log.end_offset)
        if new_leader:
            self.leads_since_ms = now_ms
        known = {} if new_leader else self.followers
        self._adopt(state)
        self.followers = {}
        for broker_id in self.replicas:
            if broker_id != self.broker_id:
                follower = known.get(broker_id) or Follower(broker_id)
                in_sync = broker_id in self.isr
                if broker_id in known:
                    follower.begin_epoch(now_ms, log.end_offset, in_sync=in_sync)
                else:
                    follower.caught_up_ms = now_ms if in_sync else 0
                self.followers[broker_id] = follower
        self.advance(now_ms)
        return new_leader

    def follow(self, state: "LeaderAndIsrPartitionState") -> None:
        """Follow the leader of `state`, or nobody while there is none."""
        self._adopt(state)
        self.followers = {}

    def _adopt(self, state: "LeaderAndIsrPartitionState") -> None:
        self.leader = state.leader
        self.leader_epoch = state.leader_epoch
        self.partition_epoch = state.partition_epoch
        self.controller_epoch = state.controller_epoch
        self.replicas = tuple(state.replicas)
        self.isr = tuple(state.isr)
        self.pending = None

    # --- in-sync replicas

    @property
    def maximal_isr(self) -> tuple[int, ...]:
        """All that may be in the ISR now, whatever becomes of a change that is under way."""
        return self.isr if self.pending is None else self.pending.maximal

    @property
    def least_isr(self) -> int:
        """min.insync.replicas, capped by the replica count."""
        assert self.log is not None
        return min(self.log.config.min_insync_replicas, max(len(self.replicas), 1))

    @property
    def under_min_isr(self) -> bool:
        """Whether acks=all is refused: fewer in sync than min.insync.replicas."""
        return len(self.isr) < self.least_isr

    @property
    def lost_min_isr(self) -> bool:
        """Whether what is replicated now counts for too few replicas to acknowledge acks=all:
        the ISR has shrunk since it was appended."""
        return len(self.maximal_isr) < self.least_isr

    def joined(self, broker_id: int, now_ms: int) -> tuple[int, ...] | None:
        """The ISR with that follower, if it may join now: it has all that consumers can see, and
        all that this leader found when its epoch began.
        """
        follower, log = self.followers.get(broker_id), self.log
        if self.pending is not None or follower is None or log is None or broker_id in self.isr:
            return None
        if now_ms < self.closed_until_ms:
            return None
        end = follower.end_offset
        if end < log.high_watermark or end < self.leader_epoch_start:
            return None
        return (*self.isr, broker_id) if self.eligible(broker_id) else None

    def without_laggards(self, now_ms: int) -> tuple[int, ...] | None:
        """The ISR without those who have not caught up for too long; None if all are fine."""
        log = self.log
        if log is None or not self.is_leader or self.pending is not None:
            return None
        followers, end = self.followers, log.end_offset
        left = tuple(
            broker_id
            for broker_id in self.isr
            if broker_id not in followers
            or followers[broker_id].caught_up(end, now_ms, self.lag_ms)
        )
        return left if len(left) < len(self.isr) else None

    def propose(self, isr: tuple[int, ...]) -> None:
        """The controller is going to be asked for this ISR."""
        maximal = (*self.isr, *(b for b in isr if b not in self.isr))
        self.pending = IsrChange(isr, maximal, self.leader_epoch, self.partition_epoch)

    def commit(self, isr: tuple[int, ...], partition_epoch: int) -> None:
        """The controller has written this ISR."""
        self.isr = isr
        self.partition_epoch = partition_epoch
        self.pending = None

    def roll_back(self, until_ms: int) -> None:
        """The controller does not let somebody in; it is not asked again before `until_ms`."""
        self.pending = None
        self.closed_until_ms = until_ms

    # --- how far it is replicated

    def fetched(self, broker_id: int, fetch_offset: int, start_offset: int, now_ms: int) -> bool:
        """A follower has all from `start_offset` to `fetch_offset`; whether somebody may have
        waited for that: the high watermark has moved, or the follower's log start.
        """
        log = self.log
        assert log is not None
        follower = self.followers[broker_id]
        cut = start_offset > follower.start_offset
        follower.fetched(fetch_offset, start_offset, now_ms, log.end_offset)
        return self.advance(now_ms) or cut

    def advance(self, now_ms: int = 0) -> bool:
        """Raise the high watermark as far as the replicas allow; whether it moved.

        It stands still under min.insync.replicas (KIP-966), and waits for a follower that is about
        to join the ISR: else that one would never reach it.
        """
        log = self.log
        if log is None or self.leader != self.broker_id:
            return False
        end = log.end_offset
        if end <= log.high_watermark:
            return False
        if self.followers:
            if self.under_min_isr:
                return False
            end = self._replicated(end, now_ms)
            if end <= log.high_watermark:
                return False
        log.advance_high_watermark(end)
        return True

    def _replicated(self, end: int, now_ms: int) -> int:
        maximal, leader_end = self.maximal_isr, end
        for broker_id, follower in self.followers.items():
            if follower.end_offset < end and (
                broker_id in maximal
                or (
                    follower.caught_up(leader_end, now_ms, self.lag_ms) and self.eligible(broker_id)
                )
            ):
                end = follower.end_offset
        return end

    def low_watermark(self) -> int:
        """The lowest log start of all replicas that are alive (DeleteRecords waits for it)."""
        assert self.log is not None
        starts = [f.start_offset for f in self.followers.values() if self.eligible(f.broker_id)]
        return min((self.log.log_start_offset, *starts))

    # --- who waits

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

    def tell_followers(self, *, at_once: bool = False) -> None:
        """The high watermark, the log start, the ISR or the role is another."""
        for following in list(self.followings or ()):
            following.changed(self, at_once=at_once)

    def tell_start(self) -> None:
        """Tell followers of the log start if it has moved (retention, DeleteRecords)."""
        log = self.log
        if log is not None and log.log_start_offset != self.told_start:
            self.told_start = log.log_start_offset
            self.tell_followers()
