"""The share group protocol (KIP-932): members report, the coordinator assigns them partitions that
they read together.

Everything follows from heartbeats (`share_turn`), and a group's state is its records; Apache Kafka
4.4's records, byte by byte but for the order of topics, which there differs from run to run. A
partition can be assigned once it has a state at the share coordinator: a heartbeat finds partitions
that have none, records that they are getting one and asks for it; how that went comes back
(`share_states`).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from broker.coordinator import NOTHING, Outcome, StoredRecord, Waiting
from broker.groups.common import SHARE, Caller, TopicChanges
from broker.groups.hash_order import timeline_ordered
from broker.groups.share_group import (
    JOIN_EPOCH,
    LEAVE_EPOCH,
    ShareGroup,
    ShareMember,
    group_record,
    member_tombstones,
    shares_of,
    states_of,
    target_epoch_record,
)
from broker.groups.share_states import GroupStates
from broker.groups.share_turn import Turn
from broker.groups.target import TopicHashes
from broker.shares.common import Refused
from protocol.errors import ErrorCode
from protocol.messages import share_group_describe as describing
from protocol.messages import share_group_heartbeat as heartbeats
from protocol.messages.share_group_describe import DescribedGroup
from protocol.messages.share_group_heartbeat import (
    ShareGroupHeartbeatRequest,
    ShareGroupHeartbeatResponse,
)
from protocol.stored.consumer_offsets import decode_key, decode_value

if TYPE_CHECKING:
    from broker.groups.machine import GroupMachine

log = logging.getLogger("odradek.groups")

ASSIGNOR: Final = "simple"


class ShareGroups:
    """The share groups of one machine (`broker.groups.machine.Part`)."""

    def __init__(self, machine: "GroupMachine") -> None:
        self._shared = machine.shared
        self._groups = machine.shared.groups
        self._config = machine.shared.config
        self._hashes = TopicHashes()
        self.states = GroupStates(machine)

    # --- heartbeats

    def heartbeat(
        self, request: ShareGroupHeartbeatRequest, caller: Caller, who: Waiting, now_ms: int
    ) -> Outcome:
        """A member joins (epoch 0), goes on, or leaves (-1)."""
        try:
            if request.member_epoch == LEAVE_EPOCH:
                return self._leave(request, who)
            return self._report(request, caller, who, now_ms)
        except Refused as refused:
            answer = ShareGroupHeartbeatResponse(
                error_code=refused.code, error_message=refused.message
            )
            return Outcome(replies=((who, answer),))

    def _report(
        self, request: ShareGroupHeartbeatRequest, caller: Caller, who: Waiting, now_ms: int
    ) -> Outcome:
        joins = request.member_epoch == JOIN_EPOCH
        group = (self.states.known_or_new if joins else self.states.known)(request.group_id)
        before = self._member_of(group, request)
        names = request.subscribed_topic_names
        member = replace(
            before,
            rack_id=before.rack_id if request.rack_id is None else request.rack_id,
            topics=before.topics if names is None else frozenset(names),
            client_id=caller.client_id,
            client_host=caller.client_host,
        )
        turn = Turn(self._shared, self._hashes, group, before, member, now_ms)
        turn.update()
        turn.reconcile(*turn.target())
        work = self.states.missing(group, turn.topics, turn.epoch, turn.records, now_ms)
        self._alive(group.group_id, request.member_id, now_ms)
        answer = ShareGroupHeartbeatResponse(
            member_id=request.member_id,
            member_epoch=turn.member.epoch,
            heartbeat_interval_ms=self._of_group(group, "share.heartbeat.interval.ms"),
        )
        if joins or names is not None or turn.member.assigned != before.assigned:
            answer.assignment = heartbeats.Assignment(
                [
                    heartbeats.TopicPartitions(topic, sorted(partitions))
                    for topic, partitions in turn.member.assigned.items()
                ]
            )
        return Outcome(turn.records, ((who, answer),), work=work)

    def _member_of(self, group: ShareGroup, request: ShareGroupHeartbeatRequest) -> ShareMember:
        """The member as it is, an empty one if it is new. Raises Refused."""
        member_id, epoch = request.member_id, request.member_epoch
        member = group.members.get(member_id)
        if member is None and len(group.members) >= self._config.group_share_max_size:
            raise Refused(
                ErrorCode.GROUP_MAX_SIZE_REACHED, "The share group has as many members as it may."
            )
        if member is None:
            if epoch != JOIN_EPOCH:
                raise _unknown_member(group.group_id, member_id)
            return ShareMember(member_id)
        if epoch != JOIN_EPOCH and (
            epoch > member.epoch or epoch not in (member.epoch, member.previous_epoch)
        ):
            raise Refused(
                ErrorCode.FENCED_MEMBER_EPOCH,
                f"The member has epoch {member.epoch}, not {epoch}. It must give up its partitions "
                f"and join again.",
            )
        return member

    def _alive(self, group_id: str, member_id: str, now_ms: int) -> None:
        timeout = self._config.groups.get(group_id, "share.session.timeout.ms")
        self._shared.timers.set((SHARE, "session", group_id, member_id), now_ms + timeout)

    def _of_group(self, group: ShareGroup, name: str) -> int:
        value: int = self._config.groups.get(group.group_id, name)
        return value

    # --- members that go

    def _leave(self, request: ShareGroupHeartbeatRequest, who: Waiting) -> Outcome:
        group = self.states.known(request.group_id)
        member = group.members.get(request.member_id)
        if member is None:
            raise _unknown_member(request.group_id, request.member_id)
        answer = ShareGroupHeartbeatResponse(
            member_id=request.member_id, member_epoch=request.member_epoch
        )
        return Outcome(self._removal(group, member), ((who, answer),))

    def _removal(self, group: ShareGroup, member: ShareMember) -> list[StoredRecord]:
        group_id = group.group_id
        metadata_hash = self._hashes.of(group.topics_after(member, None), self._shared.view())
        removal = member_tombstones(group_id, member.member_id)
        removal.append(group_record(group_id, group.epoch + 1, metadata_hash))
        if len(group.members) == 1:
            # Nobody is left to compute an assignment for; who comes next need not wait.
            removal.append(target_epoch_record(group_id, group.epoch + 1, 0))
        self._shared.timers.cancel((SHARE, "session", group_id, member.member_id))
        return removal

    def expired(self, timer: Any, now_ms: int) -> Outcome:
        """A member was not heard of for the time of its session."""
        _, _, group_id, member_id = timer
        group = self.states.group(group_id)
        member = group.members.get(member_id) if group else None
        if group is None or member is None:
            return NOTHING
        log.info("group %s: session of member %s expired", group_id, member_id)
        return Outcome(self._removal(group, member))

    def topics_changed(self, changes: TopicChanges, now_ms: int) -> Outcome:
        """Groups that read a changed topic compare it at the next heartbeat."""
        self._hashes.forget(changes.changed)
        for group in self.states.all():
            if not changes.changed.isdisjoint(group.topics):
                group.checked_epoch = -1
        return NOTHING

    # --- describing

    def describe(self, group_id: str) -> DescribedGroup:
        """The group with its members."""
        try:
            group = self.states.known(group_id)
        except Refused as refused:
            return DescribedGroup(refused.code, refused.message, group_id)
        names = self._shared.view().names
        return DescribedGroup(
            group_id=group_id,
            group_state=group.state_name,
            group_epoch=group.epoch,
            assignment_epoch=group.assignment_epoch,
            assignor_name=ASSIGNOR,
            members=[
                _described(group.members[m], names)
                for m in timeline_ordered(group.members, group.most_members)
            ],
        )

    # --- records

    def replay(
        self, kind: int, key: bytes, value: bytes | None, producer_id: int, offset: int
    ) -> None:
        """One record of a group; a tombstone of something that is not there says nothing."""
        if kind not in _REPLAY:  # what the early access of Kafka 3.9 kept
            return
        of: Any = decode_key(key)
        group = self.states.group(of.group_id)
        if group is None:
            if value is None:
                return
            group = self._groups[of.group_id] = ShareGroup(of.group_id)
        _REPLAY[kind](self, group, of, decode_value(kind, value))

    def _replay_group(self, group: ShareGroup, of: Any, value: Any) -> None:
        if value is None:
            del self._groups[group.group_id]
            return
        group.epoch = value.epoch
        group.metadata_hash = value.metadata_hash

    def _replay_member(self, group: ShareGroup, of: Any, value: Any) -> None:
        if value is None:
            group.remove_member(of.member_id)
            return
        group.set_member(
            replace(
                group.members.get(of.member_id) or ShareMember(of.member_id),
                rack_id=value.rack_id,
                client_id=value.client_id,
                client_host=value.client_host,
                topics=frozenset(value.subscribed_topic_names),
            )
        )

    def _replay_target_epoch(self, group: ShareGroup, of: Any, value: Any) -> None:
        group.assignment_epoch = -1 if value is None else value.assignment_epoch
        group.assignment_ms = 0 if value is None else value.assignment_timestamp

    def _replay_target(self, group: ShareGroup, of: Any, value: Any) -> None:
        if value is None:
            group.target.pop(of.member_id, None)
        else:
            group.target[of.member_id] = shares_of(value.topic_partitions)

    def _replay_current(self, group: ShareGroup, of: Any, value: Any) -> None:
        member = group.members.get(of.member_id)
        if value is None:
            if member is not None:
                group.set_member(replace(member, epoch=-1, previous_epoch=-1, assigned={}))
            return
        group.set_member(
            replace(
                member or ShareMember(of.member_id),
                epoch=value.member_epoch,
                previous_epoch=value.previous_member_epoch,
                assigned=shares_of(value.assigned_partitions),
            )
        )

    def _replay_states(self, group: ShareGroup, of: Any, value: Any) -> None:
        group.has_states = value is not None
        now_ms = self.states.asked_ms
        group.initializing = {} if value is None else states_of(value.initializing_topics, now_ms)
        group.initialized = {} if value is None else states_of(value.initialized_topics, now_ms)
        group.deleting = frozenset(
            () if value is None else (bytes(t.topic_id) for t in value.deleting_topics)
        )

    def loaded(self, now_ms: int) -> Outcome:
        """Members have their full session again."""
        for group in self.states.all():
            for member_id in group.members:
                self._alive(group.group_id, member_id, now_ms)
        return NOTHING


_REPLAY: dict[int, Callable[[ShareGroups, ShareGroup, Any, Any], None]] = {
    10: ShareGroups._replay_member,
    11: ShareGroups._replay_group,
    12: ShareGroups._replay_target_epoch,
    13: ShareGroups._replay_target,
    14: ShareGroups._replay_current,
    15: ShareGroups._replay_states,
}


def _unknown_member(group_id: str, member_id: str) -> Refused:
    return Refused(
        ErrorCode.UNKNOWN_MEMBER_ID, f"{member_id} is not a member of the group {group_id}."
    )


def _described(member: ShareMember, names: Mapping[bytes, str]) -> describing.Member:
    return describing.Member(
        member_id=member.member_id,
        rack_id=member.rack_id,
        member_epoch=member.epoch,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=sorted(member.topics),
        assignment=describing.Assignment(
            [
                describing.TopicPartitions(topic_id, names[topic_id], sorted(partitions))
                for topic_id, partitions in member.assigned.items()
                if topic_id in names
            ]
        ),
    )
