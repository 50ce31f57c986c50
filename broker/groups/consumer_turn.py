"""One input of a consumer group, worked on: what it leads to is gathered in a `Turn`, and the steps
that heartbeats of both protocols have in common are here (KIP-848).

A heartbeat's steps are: the member is made anew and recorded if it differs; the group's epoch goes
up if that changes who is to read what, or the topics have changed; a new target is computed if the
epoch is ahead of it; the member moves towards the target.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from broker.coordinator import Outcome, StoredRecord, Waiting
from broker.groups.assignors import ASSIGNORS, Assignment, Subscriber, enabled
from broker.groups.common import CONSUMER, Shared
from broker.groups.consumer_group import JOIN_EPOCH, UNREVOKED, ConsumerGroup, ConsumerMember
from broker.groups.consumer_records import (
    current_record,
    group_record,
    member_record,
    member_tombstones,
    old_metadata_tombstone,
    regex_tombstone,
    target_epoch_record,
    target_record,
)
from broker.groups.hash_order import members_ordered
from broker.groups.reconcile import Owned, Target, reconcile
from broker.groups.target import TopicHashes
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.groups.consumer_regex import Regexes

UNCHANGED: Final = 0
CHANGED: Final = 1
"""The member has another pattern, whose topics will be known later."""
CHANGED_AND_KNOWN: Final = 2


class Refused(Exception):
    """A request that is not carried out: its code, and a sentence for APIs that have room."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class Turn:
    """What one input leads to. `before` is the member as it was (an empty one if it is new),
    `member` as it becomes; `epoch` is the group's."""

    __slots__ = (
        "before",
        "epoch",
        "group",
        "member",
        "now_ms",
        "records",
        "subscription_changed",
        "undo",
    )

    def __init__(
        self, group: ConsumerGroup, now_ms: int, before: ConsumerMember | None = None
    ) -> None:
        self.group = group
        self.now_ms = now_ms
        self.before = self.member = before or ConsumerMember("")
        self.epoch = group.epoch
        self.records: list[StoredRecord] = []
        self.subscription_changed = False
        self.undo: list[Callable[[], None]] = []
        """What puts timers back if the records are not taken."""

    def outcome(self, replies: "list[tuple[Waiting, Any]]") -> Outcome:
        """`replies` may still grow."""

        def refused(code: ErrorCode) -> "list[tuple[Waiting, Any]]":
            for undo in self.undo:
                undo()
            return [(who, who.refuse(code)) for who, _ in replies]

        return Outcome(self.records, replies, refused if self.undo else None)


class Timers:
    """The timers of a consumer group's members, each by what comes up."""

    def __init__(self, shared: Shared) -> None:
        self._timers = shared.timers
        self._joining: set[tuple[str, str]] = set()
        self._revoking: dict[tuple[str, str], int] = {}

    def alive(self, group_id: str, member_id: str, at_ms: int) -> None:
        """The member's session ends then, unless it is heard of before."""
        self._timers.set((CONSUMER, "session", group_id, member_id), at_ms)

    def revoke_by(self, group_id: str, member: ConsumerMember, now_ms: int) -> None:
        """The member has to leave its epoch within its rebalance timeout."""
        self._revoking[group_id, member.member_id] = member.epoch
        key = (CONSUMER, "rebalance", group_id, member.member_id)
        self._timers.set(key, now_ms + member.rebalance_timeout_ms)

    def revoked(self, group_id: str, member_id: str) -> None:
        if self._revoking.pop((group_id, member_id), None) is not None:
            self._timers.cancel((CONSUMER, "rebalance", group_id, member_id))

    def epoch_to_leave(self, group_id: str, member_id: str) -> int | None:
        """The time of `revoke_by` is up: which epoch the member had to leave."""
        return self._revoking.pop((group_id, member_id), None)

    def join_by(self, group_id: str, member_id: str, at_ms: int) -> None:
        """A member of the classic protocol was told to join again; the first time counts."""
        if (group_id, member_id) not in self._joining:
            self._joining.add((group_id, member_id))
            self._timers.set((CONSUMER, "join", group_id, member_id), at_ms)

    def joined(self, group_id: str, member_id: str) -> None:
        """It has, or its time is up."""
        if (group_id, member_id) in self._joining:
            self._joining.discard((group_id, member_id))
            self._timers.cancel((CONSUMER, "join", group_id, member_id))

    def sync_by(self, group_id: str, member_id: str, at_ms: int) -> None:
        """A member of the classic protocol has joined and has to sync."""
        self._timers.set((CONSUMER, "sync", group_id, member_id), at_ms)

    def synced(self, group_id: str, member_id: str) -> None:
        self._timers.cancel((CONSUMER, "sync", group_id, member_id))

    def forget(self, group_id: str, member_id: str) -> None:
        """The member is gone."""
        self._timers.cancel((CONSUMER, "session", group_id, member_id))
        self.revoked(group_id, member_id)
        self.joined(group_id, member_id)
        self.synced(group_id, member_id)


class Steps:
    """The steps of a turn, for both protocols."""

    def __init__(self, shared: Shared, timers: Timers, hashes: TopicHashes) -> None:
        self._shared = shared
        self._timers = timers
        self._hashes = hashes
        self.assignors = enabled(shared.config.group_consumer_assignors)
        self.regexes: Regexes

    # --- members

    def check_room(self, group: ConsumerGroup, member_id: str) -> None:
        """Raises Refused for somebody new in a group that is full."""
        most = self._shared.config.group_consumer_max_size
        if len(group.members) >= most and member_id not in group.members:
            raise Refused(
                ErrorCode.GROUP_MAX_SIZE_REACHED,
                f"The consumer group has reached its maximum capacity of {most} members.",
            )

    def replace_static(
        self, group: ConsumerGroup, old: ConsumerMember, new_id: str, now_ms: int
    ) -> Turn:
        """A turn in which a static member comes back under another id: it keeps what it had."""
        new = replace(old, member_id=new_id, epoch=JOIN_EPOCH, previous_epoch=JOIN_EPOCH)
        turn = Turn(group, now_ms, new)
        group_id = group.group_id
        turn.records += [
            *member_tombstones(group_id, old.member_id),
            member_record(group_id, new),
            target_record(group_id, new_id, group.target.get(old.member_id, {})),
            current_record(group_id, new),
        ]
        return turn

    def update(self, turn: Turn, member: ConsumerMember) -> None:
        """The member becomes this one; the group's epoch follows."""
        group, before = turn.group, turn.before
        turn.member = member
        if member is not before and member != before:
            turn.records.append(member_record(group.group_id, member))
        regex = self.regexes.subscribe(turn, member)
        other_names = member.topics != before.topics
        turn.subscription_changed = other_names or regex != UNCHANGED
        bump = other_names or regex == CHANGED_AND_KNOWN or self._prefers_another(turn)
        if bump or group.metadata_due:
            self._check_metadata(turn, bump)

    @staticmethod
    def _prefers_another(turn: Turn) -> bool:
        """Whether the group has another assignor with the member as it becomes."""
        group, before, member = turn.group, turn.before, turn.member
        if before.assignor == member.assignor:
            return False
        return group.preferred_assignor() != group.preferred_assignor(before, member)

    def _check_metadata(self, turn: Turn, bump: bool) -> None:
        group = turn.group
        topics = group.topics_after(turn.before, turn.member)
        metadata_hash = self._hashes.of(topics, self._shared.view())
        if bump or metadata_hash != group.metadata_hash:
            turn.epoch += 1
            turn.records.append(group_record(group.group_id, turn.epoch, metadata_hash))
        group.checked_epoch = turn.epoch
        if group.has_old_record:
            turn.records.append(old_metadata_tombstone(group.group_id))

    def hash_of(self, group: ConsumerGroup) -> int:
        """Of the topics that its members subscribe to."""
        return self._hashes.of(group.topics_with(group.resolved), self._shared.view())

    # --- targets

    def target(self, turn: Turn) -> tuple[int, Assignment]:
        """(epoch, the member's part) of the target that it moves to; a new one is computed when the
        group's epoch is ahead, but not more often than the assignment interval says."""
        group = turn.group
        interval = self._shared.config.groups.get(group.group_id, "consumer.assignment.interval.ms")
        if turn.epoch <= group.assignment_epoch or turn.now_ms < group.assignment_ms + interval:
            return group.assignment_epoch, group.target_of(turn.member)
        return turn.epoch, self._new_target(turn)

    def _new_target(self, turn: Turn) -> Assignment:
        group, member = turn.group, turn.member
        members = {m: group.members[m] for m in group.ordered()}
        replaced = group.static_member(member.instance_id)
        if replaced is not None and replaced.member_id != member.member_id:
            del members[replaced.member_id]
        members[member.member_id] = member
        ordered = [members[member_id] for member_id in members_ordered(members)]
        assigned = {m.member_id: group.target.get(m.member_id) for m in ordered}
        if member.member_id not in group.target and replaced is not None:
            assigned[member.member_id] = group.target_of(member)
        topics = self._shared.view().topics
        subscribers = [
            Subscriber(
                m.member_id,
                m.instance_id,
                frozenset(topics[name].topic_id for name in group.topics_of(m) if name in topics),
                assigned[m.member_id] or {},
            )
            for m in ordered
        ]
        counts = {
            info.topic_id: len(info.partitions)
            for name in group.topics_after(turn.before, member)
            if (info := topics.get(name)) is not None
        }
        assign = ASSIGNORS[group.preferred_assignor(turn.before, member)]
        found = assign(subscribers, counts, group.is_homogeneous(turn.before, member))
        for m in ordered:
            new, old = found.get(m.member_id, {}), assigned[m.member_id]
            if old is None or not same_assignment(new, old):
                turn.records.append(target_record(group.group_id, m.member_id, new))
        turn.records.append(target_epoch_record(group.group_id, turn.epoch, turn.now_ms))
        return found.get(member.member_id, {})

    def reconcile(
        self, turn: Turn, epoch: int, assignment: Assignment, owned: Owned | None
    ) -> None:
        """The member moves towards its target, if it is not there."""
        member, group = turn.member, turn.group
        if member.settled_at(epoch) and not turn.subscription_changed:
            return
        topics = self._shared.view().topics
        subscribed = frozenset(
            topics[name].topic_id for name in group.topics_of(member) if name in topics
        )
        moved = reconcile(
            member,
            Target(epoch, assignment, subscribed),
            owned,
            group.owner_epoch,
            subscription_changed=turn.subscription_changed,
        )
        if moved == member:
            return
        turn.member = moved
        turn.records.append(current_record(group.group_id, moved))
        if moved.classic is None:
            if moved.state == UNREVOKED:
                self._timers.revoke_by(group.group_id, moved, turn.now_ms)
            else:
                self._timers.revoked(group.group_id, moved.member_id)

    # --- members that go

    def remove(self, turn: Turn, members: Sequence[ConsumerMember]) -> None:
        """Members have left or were fenced; the group stays one of the consumer protocol."""
        group = turn.group
        gone = {member.member_id for member in members}
        for member in members:
            turn.records += member_tombstones(group.group_id, member.member_id)
        counts: dict[str, int] = {}
        for member in members:
            if member.regex:
                counts[member.regex] = counts.get(member.regex, 0) + 1
        for regex, count in counts.items():
            if group.count_of_regex(regex) == count:
                turn.records.append(regex_tombstone(group.group_id, regex))
        topics = group.topics_without(gone)
        metadata_hash = self._hashes.of(topics, self._shared.view())
        turn.epoch += 1
        turn.records.append(group_record(group.group_id, turn.epoch, metadata_hash))
        if len(gone) == len(group.members):
            # Nobody is left to compute an assignment for; who comes next need not wait.
            turn.records.append(target_epoch_record(group.group_id, turn.epoch, 0))
        self._forget(turn, members)

    def _forget(self, turn: Turn, members: Sequence[ConsumerMember]) -> None:
        """Members are gone; if not, after all, each session begins anew."""
        group_id = turn.group.group_id
        session = self._shared.config.groups.get(group_id, "consumer.session.timeout.ms")
        ends_at = turn.now_ms + session
        for member in members:
            self._timers.forget(group_id, member.member_id)
            turn.undo.append(partial(self._timers.alive, group_id, member.member_id, ends_at))


def same_assignment(one: Assignment, other: Assignment) -> bool:
    """Whether two are of the same partitions, in whatever order."""
    return one.keys() == other.keys() and all(set(one[t]) == set(other[t]) for t in one)
