"""One heartbeat of a share group, worked on (KIP-932).

Its steps are: the member is made anew and recorded if it differs; the group's epoch goes up if that
changes who is to read what, or the topics have changed, or partitions can be assigned that could
not before; a new target is computed if the epoch is ahead of it; the member moves to the target.
"""

from dataclasses import replace

from broker.coordinator import StoredRecord
from broker.groups.common import Shared
from broker.groups.hash_order import members_ordered, timeline_ordered
from broker.groups.share_assignor import Shares, ShareSubscriber, simple
from broker.groups.share_group import (
    ShareGroup,
    ShareMember,
    current_record,
    group_record,
    member_record,
    target_epoch_record,
    target_record,
)
from broker.groups.target import TopicHashes


class Turn:
    """`before` is the member as it was, `member` as it becomes; `epoch` is the group's, `topics`
    what all members will subscribe to. `records` are what it leads to."""

    def __init__(
        self,
        shared: Shared,
        hashes: TopicHashes,
        group: ShareGroup,
        before: ShareMember,
        member: ShareMember,
        now_ms: int,
    ) -> None:
        self._shared = shared
        self._hashes = hashes
        self._group = group
        self._now_ms = now_ms
        self.before = before
        self.member = member
        self.epoch = group.epoch
        self.topics = group.topics_after(before, member)
        self.records: list[StoredRecord] = []
        self._bumped = False

    def update(self) -> None:
        """Record the member if it differs; the group's epoch follows what matters to others."""
        group, member, before = self._group, self.member, self.before
        if member != before:
            self.records.append(member_record(group.group_id, member))
        bump = member.topics != before.topics or _assignment_pending(group)
        due = group.checked_epoch < 0 or group.checked_epoch > group.epoch
        if not bump and not due:
            return
        metadata_hash = self._hashes.of(self.topics, self._shared.view())
        if bump or metadata_hash != group.metadata_hash:
            self._bumped = True
            self.epoch += 1
            self.records.append(group_record(group.group_id, self.epoch, metadata_hash))
        group.checked_epoch = self.epoch

    def target(self) -> tuple[int, Shares]:
        """(epoch, the member's part) of the target that it moves to; a new one is computed when the
        group's epoch is ahead, but not more often than the assignment interval says."""
        group, member_id = self._group, self.member.member_id
        interval = self._shared.config.groups.get(group.group_id, "share.assignment.interval.ms")
        due = group.assignment_ms == 0 or self._now_ms >= group.assignment_ms + interval
        if self.epoch <= group.assignment_epoch or not due:
            return group.assignment_epoch, group.target.get(member_id, {})
        return self.epoch, self._new_target()

    def _new_target(self) -> Shares:
        group = self._group
        members = {**group.members, self.member.member_id: self.member}
        topics = self._shared.view().topics
        subscribers = [
            ShareSubscriber(
                member_id,
                [topics[name].topic_id for name in members[member_id].ordered if name in topics],
                group.target.get(member_id, {}),
            )
            for member_id in members_ordered(timeline_ordered(members, group.most_members))
        ]
        assignable = {topic: one.partitions for topic, one in group.initialized.items()}
        found = simple(subscribers, assignable, alike=group.alike_after(self.member))
        for subscriber in subscribers:
            member_id = subscriber.member_id
            new = found.get(member_id, {})
            if group.target.get(member_id) != new:
                self.records.append(target_record(group.group_id, member_id, new))
        self.records.append(target_epoch_record(group.group_id, self.epoch, self._now_ms))
        return found.get(self.member.member_id, {})

    def reconcile(self, epoch: int, target: Shares) -> None:
        """Give the member what the target gives it."""
        member = self.member
        if member.epoch == epoch and not self._bumped:
            return
        topics = self._shared.view().topics
        subscribed = {topics[name].topic_id for name in member.topics if name in topics}
        assigned = {topic: parts for topic, parts in target.items() if topic in subscribed}
        if member.epoch == epoch:
            moved = replace(member, assigned=assigned)
        else:
            moved = replace(member, epoch=epoch, previous_epoch=member.epoch, assigned=assigned)
        if moved != member:
            self.member = moved
            self.records.append(current_record(self._group.group_id, moved))


def _assignment_pending(group: ShareGroup) -> bool:
    """Whether partitions have got a state that nobody is assigned yet."""
    if group.assignment_epoch < group.epoch:
        return False
    given: dict[bytes, set[int]] = {}
    for shares in group.target.values():
        for topic_id, partitions in shares.items():
            given.setdefault(topic_id, set()).update(partitions)
    return any(
        given.get(topic_id, set()) != one.partitions
        for topic_id, one in group.initialized.items()
        if one.name in group.topics
    )
