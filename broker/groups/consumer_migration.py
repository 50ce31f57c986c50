"""Groups that change from one protocol to the other while they live (KIP-848,
group.consumer.migration.policy).

A classic group becomes one of the consumer protocol when a first member of that protocol joins, and
the other way when the last one is gone while others are left.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from broker.cluster.view import ZERO_UUID, ClusterView
from broker.coordinator import Outcome, StoredRecord, Waiting
from broker.groups.assignors import Assignment
from broker.groups.classic_group import CONSUMER_TYPE, STABLE, ClassicGroup, Member
from broker.groups.classic_turn import join_refused
from broker.groups.common import stored
from broker.groups.consumer_group import (
    STABLE_MEMBER,
    ClassicMembership,
    ConsumerGroup,
    ConsumerMember,
)
from broker.groups.consumer_records import (
    current_record,
    group_record,
    in_map_order,
    member_record,
    target_epoch_record,
    target_record,
)
from broker.groups.consumer_turn import Refused, Steps, Timers, Turn
from broker.groups.hash_order import SMALLEST, grown, members_ordered
from protocol.errors import ErrorCode, Malformed
from protocol.messages.sync_group import SyncGroupResponse
from protocol.stored.consumer_offsets import GroupMetadataKey
from protocol.stored.consumer_protocol import (
    ConsumerProtocolAssignment,
    TopicPartition,
    decode_assignment,
    decode_subscription,
    encode_value,
)
from protocol.stored.versioned import leading_int16

if TYPE_CHECKING:
    from broker.groups.machine import GroupMachine

log = logging.getLogger("odradek.groups")

UPGRADES: Final = ("bidirectional", "upgrade")
DOWNGRADES: Final = ("bidirectional", "downgrade")
"""Values of group.consumer.migration.policy that allow it."""
DISABLED: Final = "disabled"
"""The value that keeps classic members out of consumer groups."""
NEWEST_ASSIGNMENT: Final = ConsumerProtocolAssignment.VERSIONS[1]

Replies = list[tuple[Waiting, Any]]


class Migration:
    """Of the groups of one machine, both ways."""

    def __init__(self, machine: "GroupMachine", steps: Steps, timers: Timers) -> None:
        self._machine = machine
        self._shared = machine.shared
        self._groups = machine.shared.groups
        self._config = machine.shared.config
        self._steps = steps
        self._timers = timers

    def empty_group(self, group_id: str) -> ConsumerGroup:
        """A new group, not among the others yet."""

        def topic_id_of(name: str) -> bytes:
            info = self._shared.view().topics.get(name)
            return ZERO_UUID if info is None else info.topic_id

        return ConsumerGroup(group_id, self._steps.assignors[0], topic_id_of)

    # --- from classic to consumer

    def new_group(self, group_id: str) -> tuple[ConsumerGroup, list[StoredRecord], Replies]:
        """A group that nobody was in. Where it has offsets, Apache Kafka takes it for a classic one
        and deletes that."""
        records = []
        if self._machine.offsets.table.has(group_id):
            records.append(stored(GroupMetadataKey(group_id), None))
        return self.empty_group(group_id), records, []

    def upgraded(
        self, classic: ClassicGroup, now_ms: int
    ) -> tuple[ConsumerGroup, list[StoredRecord], Replies]:
        """A classic group as one of the consumer protocol, the records that make it one, and what
        its members are told who wait for a generation. Raises Refused where it has to stay."""
        group_id = classic.group_id
        records = [stored(GroupMetadataKey(group_id), None)]
        if classic.is_empty:
            return self.empty_group(group_id), records, []
        self._check_upgrade(classic)
        group = self._converted(classic)
        group.metadata_hash = self._steps.hash_of(group)
        members = [group.members[member_id] for member_id in group.ordered()]
        records += [member_record(group_id, member) for member in members]
        records.append(group_record(group_id, group.epoch, group.metadata_hash))
        records += [
            target_record(group_id, m.member_id, group.target[m.member_id]) for m in members
        ]
        records.append(target_epoch_record(group_id, group.epoch, 0))
        records += [current_record(group_id, member) for member in members]
        for member in members:
            assert member.classic is not None
            session = member.classic.session_timeout_ms
            self._timers.alive(group_id, member.member_id, now_ms + session)
        log.info("group %s is of the consumer protocol now", group_id)
        return group, records, _told_to_rejoin(classic)

    def _check_upgrade(self, classic: ClassicGroup) -> None:
        if self._config.group_consumer_migration_policy not in UPGRADES:
            raise _cannot_upgrade(classic, "online upgrade is disabled")
        if classic.protocol_type != CONSUMER_TYPE:
            raise _cannot_upgrade(classic, "the group does not use the consumer embedded protocol")
        if len(classic.members) > self._config.group_consumer_max_size:
            raise _cannot_upgrade(classic, "the group size exceeds the consumer group maximum size")

    def _converted(self, classic: ClassicGroup) -> ConsumerGroup:
        """All its members, stable with what they were assigned last."""
        group = self.empty_group(classic.group_id)
        group.epoch = group.assignment_epoch = classic.generation
        view = self._shared.view()
        for member_id in members_ordered(classic.members):
            member = classic.members[member_id]
            protocol = classic.protocol or member.protocols[0][0]
            try:
                assigned = _assigned(classic, member, view)
                subscription = decode_subscription(member.metadata(protocol))
            except Malformed:
                raise _cannot_upgrade(
                    classic, "the embedded consumer protocol is malformed"
                ) from None
            held = {
                topic_id: in_map_order(
                    dict.fromkeys(partitions, group.epoch), grown(SMALLEST, len(partitions))
                )
                for topic_id, partitions in assigned.items()
            }
            group.target[member_id] = {t: tuple(p) for t, p in held.items()}
            group.set_member(
                ConsumerMember(
                    member_id,
                    epoch=group.epoch,
                    previous_epoch=group.epoch,
                    state=STABLE_MEMBER,
                    instance_id=member.instance_id,
                    rack_id=subscription.rack_id or None,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    topics=frozenset(subscription.topics),
                    rebalance_timeout_ms=member.rebalance_timeout_ms,
                    classic=ClassicMembership(member.session_timeout_ms, member.protocols),
                    assigned=held,
                )
            )
        return group

    # --- from consumer to classic

    def fence(
        self,
        group: ConsumerGroup,
        members: Sequence[ConsumerMember],
        replies: Replies,
        now_ms: int,
    ) -> Outcome:
        """Members have left or are thrown out."""
        if not members:
            return Outcome(replies=replies)
        if self.may_downgrade(group, members, len(group.members) - len(members)):
            left = {m: group.members[m] for m in group.ordered()}
            for member in members:
                del left[member.member_id]
            records = group.tombstones()
            reason = "the last member of the consumer protocol left"
            return self.downgraded(group, list(left.values()), records, replies, reason, now_ms)
        turn = Turn(group, now_ms)
        self._steps.remove(turn, members)
        return turn.outcome(replies)

    def may_downgrade(
        self, group: ConsumerGroup, gone: Sequence[ConsumerMember], left: int
    ) -> bool:
        return (
            group.only_classic_without(gone)
            and 0 < left <= self._config.group_max_size
            and self._config.group_consumer_migration_policy in DOWNGRADES
        )

    def downgraded(
        self,
        group: ConsumerGroup,
        members: Sequence[ConsumerMember],
        records: list[StoredRecord],
        replies: Replies,
        reason: str | None,
        now_ms: int,
    ) -> Outcome:
        """A classic group of these members in place of the group; it rebalances if there is a
        `reason`. Memory changes at once, as what follows needs the new group, and is changed back
        if the records are not taken."""
        group_id = group.group_id
        classic = ClassicGroup(group_id, self._shared.timers, now_ms)
        by_id = {member.member_id: member for member in members}
        for member_id in members_ordered(by_id):
            member = by_id[member_id]
            joined = _classic_member(group_id, member)
            joined.assignment = blob(member, group.target_of(member), self._shared.view())
            classic.add(joined, CONSUMER_TYPE)
        classic.generation = group.epoch - 1
        classic.next_generation(now_ms)
        classic.pending_sync.clear()
        classic.enter(STABLE, now_ms)
        records = [*records, classic.record()]
        for member_id in group.members:
            self._timers.forget(group_id, member_id)
        self._machine.classic.adopt(classic, reason, now_ms)
        log.info("group %s is of the classic protocol now", group_id)

        def undo(code: ErrorCode) -> Replies:
            self._machine.classic.forget(group_id)
            self._groups[group_id] = group
            session = self._config.groups.get(group_id, "consumer.session.timeout.ms")
            for member_id in group.members:
                self._timers.alive(group_id, member_id, now_ms + session)
            return [(who, who.refuse(code)) for who, _ in replies]

        return Outcome(records, replies, undo, replay=False)


def blob(member: ConsumerMember, assignment: Assignment, view: ClusterView) -> bytes:
    """An assignment as a member of the classic protocol reads it, in its version."""
    assert member.classic is not None
    value = ConsumerProtocolAssignment(
        [
            TopicPartition(view.names[topic_id], list(partitions))
            for topic_id, partitions in assignment.items()
            if topic_id in view.names
        ]
    )
    version = leading_int16(member.classic.protocols[0][1])
    return encode_value(value, min(version, NEWEST_ASSIGNMENT))


def _told_to_rejoin(classic: ClassicGroup) -> Replies:
    code = ErrorCode.REBALANCE_IN_PROGRESS
    replies: Replies = []
    for member in classic.members.values():
        if member.joining is not None:
            answer = join_refused(member.joining.version, code, member.member_id)
            replies.append((member.joining.who, answer))
        if member.syncing is not None:
            replies.append((member.syncing.who, SyncGroupResponse(error_code=code)))
    return replies


def _assigned(classic: ClassicGroup, member: Member, view: ClusterView) -> dict[bytes, list[int]]:
    """What a member was assigned last, by topic id."""
    if not member.assignment:
        return {}
    value = decode_assignment(member.assignment)
    if value.user_data:
        raise _cannot_upgrade(
            classic,
            "an unsupported custom assignor is in use. Please refer to the documentation or switch "
            "to a default assignor before re-attempting the upgrade",
        )
    found = {
        view.topics[part.topic].topic_id: part.partitions
        for part in value.assigned_partitions
        if part.topic in view.topics and part.partitions
    }
    return dict(sorted(found.items()))


def _cannot_upgrade(classic: ClassicGroup, why: str) -> Refused:
    message = f"Cannot upgrade classic group {classic.group_id} to consumer group because {why}."
    log.info("%s", message)
    return Refused(ErrorCode.GROUP_ID_NOT_FOUND, message)


def _classic_member(group_id: str, member: ConsumerMember) -> Member:
    assert member.classic is not None
    return Member(
        group_id,
        member.member_id,
        member.instance_id,
        member.client_id,
        member.client_host,
        member.rebalance_timeout_ms,
        member.classic.session_timeout_ms,
        member.classic.protocols,
    )
