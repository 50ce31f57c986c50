"""The consumer group protocol (KIP-848): members report, the coordinator assigns.

Everything follows from heartbeats. A group's state is its records and nothing else: a request makes
records, replaying them changes the group (see `consumer_group`, `consumer_turn`). What Apache Kafka
4.4 does is done here, its records byte by byte. Members of the classic protocol in such a group are
in `consumer_classic`, groups that change from one protocol to the other in `consumer_migration`.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from broker.coordinator import NOTHING, Outcome, StoredRecord, Waiting
from broker.groups.assignors import Assignment
from broker.groups.classic_group import ClassicGroup
from broker.groups.common import CONSUMER, Caller, TopicChanges
from broker.groups.consumer_classic import ClassicSide
from broker.groups.consumer_group import (
    JOIN_EPOCH,
    LEAVE_EPOCH,
    LEAVE_STATIC_EPOCH,
    NOTHING_HELD,
    UNREVOKED,
    ClassicMembership,
    ConsumerGroup,
    ConsumerMember,
    Held,
    ResolvedRegex,
)
from broker.groups.consumer_records import current_record, held_of, target_of
from broker.groups.consumer_regex import Regexes
from broker.groups.consumer_turn import Refused, Steps, Timers, Turn
from broker.groups.reconcile import Owned
from broker.groups.target import TopicHashes
from protocol.errors import ErrorCode
from protocol.messages import consumer_group_describe as describing
from protocol.messages import consumer_group_heartbeat as heartbeats
from protocol.messages.consumer_group_describe import DescribedGroup
from protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from protocol.stored.consumer_offsets import decode_key, decode_value

if TYPE_CHECKING:
    from broker.groups.machine import GroupMachine
    from protocol.messages.heartbeat import HeartbeatRequest
    from protocol.messages.join_group import JoinGroupRequest
    from protocol.messages.leave_group import LeaveGroupRequest
    from protocol.messages.sync_group import SyncGroupRequest

log = logging.getLogger("odradek.groups")

CLIENT_MADE_IDS_SINCE: Final = 1
"""Version of ConsumerGroupHeartbeat from which members make their own ids (KIP-1082)."""
CONSUMER_TYPE: Final = 1
CLASSIC_TYPE: Final = 0
"""Kinds of member that ConsumerGroupDescribe tells apart."""


class ConsumerGroups:
    """The consumer groups of one machine (`broker.groups.machine.Part` and `ClassicMembers`)."""

    def __init__(self, machine: "GroupMachine") -> None:
        self._machine = machine
        self._shared = machine.shared
        self._groups = machine.shared.groups
        self._config = machine.shared.config
        self._hashes = TopicHashes()
        self._timers = Timers(machine.shared)
        self.steps = Steps(machine.shared, self._timers, self._hashes)
        self.regexes = self.steps.regexes = Regexes(machine.shared, self._hashes)
        self._classic = ClassicSide(machine, self.steps, self._timers)
        self._migration = self._classic.migration

    def group(self, group_id: str) -> ConsumerGroup | None:
        """The group, if there is one of this kind."""
        group = self._groups.get(group_id)
        return group if isinstance(group, ConsumerGroup) else None

    # --- records

    def replay(
        self, kind: int, key: bytes, value: bytes | None, producer_id: int, offset: int
    ) -> None:
        """One record of a group; a tombstone of something that is not there says nothing."""
        of: Any = decode_key(key)
        group = self.group(of.group_id)
        if group is None:
            if value is None:
                return
            group = self._groups[of.group_id] = self._migration.empty_group(of.group_id)
        _REPLAY[kind](self, group, of, decode_value(kind, value))

    def _replay_group(self, group: ConsumerGroup, of: Any, value: Any) -> None:
        if value is None:
            del self._groups[group.group_id]
            return
        group.epoch = value.epoch
        group.metadata_hash = value.metadata_hash

    def _replay_old_metadata(self, group: ConsumerGroup, of: Any, value: Any) -> None:
        group.has_old_record = value is not None

    def _replay_member(self, group: ConsumerGroup, of: Any, value: Any) -> None:
        if value is None:
            group.remove_member(of.member_id)
            return
        classic = None
        if value.classic_member_metadata is not None:
            stored = value.classic_member_metadata
            protocols = tuple((p.name, bytes(p.metadata)) for p in stored.supported_protocols)
            classic = ClassicMembership(stored.session_timeout_ms, protocols)
        old = group.members.get(of.member_id) or ConsumerMember(of.member_id)
        group.set_member(
            replace(
                old,
                instance_id=value.instance_id,
                rack_id=value.rack_id,
                client_id=value.client_id,
                client_host=value.client_host,
                topics=frozenset(value.subscribed_topic_names),
                regex=value.subscribed_topic_regex or "",
                rebalance_timeout_ms=value.rebalance_timeout_ms,
                assignor=value.server_assignor,
                classic=classic,
            )
        )

    def _replay_target_epoch(self, group: ConsumerGroup, of: Any, value: Any) -> None:
        if value is not None:
            group.assignment_epoch = value.assignment_epoch
            group.assignment_ms = value.assignment_timestamp

    def _replay_target(self, group: ConsumerGroup, of: Any, value: Any) -> None:
        if value is None:
            group.target.pop(of.member_id, None)
        else:
            group.target[of.member_id] = target_of(value)

    def _replay_current(self, group: ConsumerGroup, of: Any, value: Any) -> None:
        old = group.members.get(of.member_id)
        if value is None:
            if old is not None:
                group.set_member(old.moved(LEAVE_EPOCH, old.state, NOTHING_HELD, NOTHING_HELD))
            return
        member = old or ConsumerMember(of.member_id)
        group.set_member(
            replace(
                member,
                epoch=value.member_epoch,
                previous_epoch=value.previous_member_epoch,
                state=value.state,
                assigned=held_of(value.assigned_partitions, value.member_epoch),
                revoking=held_of(value.partitions_pending_revocation, value.member_epoch),
            )
        )

    def _replay_regex(self, group: ConsumerGroup, of: Any, value: Any) -> None:
        if value is None:
            group.resolved.pop(of.regular_expression, None)
            return
        # Pictures of the cluster are counted anew in each process.
        version = value.version if self._shared.live else -1
        group.resolved[of.regular_expression] = ResolvedRegex(
            frozenset(value.topics), version, value.timestamp
        )

    # --- what comes up

    def loaded(self, now_ms: int) -> Outcome:
        """Members go on where they were; each session begins anew."""
        for group in self._groups.values():
            if group.kind != CONSUMER:
                continue
            session = self._config.groups.get(group.group_id, "consumer.session.timeout.ms")
            for member in group.members.values():
                self._timers.alive(group.group_id, member.member_id, now_ms + session)
                if member.state == UNREVOKED:
                    self._timers.revoke_by(group.group_id, member, now_ms)
        return NOTHING

    def topics_changed(self, changes: TopicChanges, now_ms: int) -> Outcome:
        """Groups that read these topics look at them again with the next heartbeat."""
        self._hashes.forget(changes.changed)
        if changes.created:
            self.regexes.topics_created()
        for group in self._groups.values():
            if group.kind == CONSUMER and any(map(group.is_subscribed, changes.changed)):
                group.checked_epoch = -1
        return NOTHING

    def expired(self, timer: Any, now_ms: int) -> Outcome:
        """(CONSUMER, "regex", group id) or (CONSUMER, "session" | "rebalance" | "join" | "sync",
        group id, member id)."""
        what, group_id = timer[1], timer[2]
        group = self.group(group_id)
        if what == "regex":
            turn = self.regexes.work(group_id, group, now_ms)
            return NOTHING if turn is None else turn.outcome([])
        member_id = timer[3]
        left_by = None
        if what == "rebalance":
            left_by = self._timers.epoch_to_leave(group_id, member_id)
        elif what == "join":
            self._timers.joined(group_id, member_id)
        member = None if group is None else group.members.get(member_id)
        if group is None or member is None:
            return NOTHING
        if what == "rebalance" and (member.epoch != left_by or member.state != UNREVOKED):
            return NOTHING
        log.info("group %s: member %s is fenced, its %s time is up", group_id, member_id, what)
        return self._migration.fence(group, [member], [], now_ms)

    # --- ConsumerGroupHeartbeat

    def consumer_heartbeat(
        self, request: ConsumerGroupHeartbeatRequest, caller: Caller, who: Waiting, now_ms: int
    ) -> Outcome:
        """A heartbeat of the consumer protocol: joins, reports or leaves."""
        try:
            self._validate(request, caller.version)
            if request.member_epoch < JOIN_EPOCH:
                return self._leave(request, who, now_ms)
            return self._report(request, caller, who, now_ms)
        except Refused as refused:
            response = ConsumerGroupHeartbeatResponse(
                error_code=refused.code, error_message=refused.message
            )
            return Outcome(replies=[(who, response)])

    def _validate(self, request: ConsumerGroupHeartbeatRequest, version: int) -> None:
        epoch = request.member_epoch
        empty = {
            "GroupId": request.group_id == "",
            "InstanceId": request.instance_id == "",
            "RackId": request.rack_id == "",
            "MemberId": request.member_id == ""
            and (version >= CLIENT_MADE_IDS_SINCE or epoch > JOIN_EPOCH or epoch == LEAVE_EPOCH),
        }
        for name, is_empty in empty.items():
            if is_empty:
                raise _invalid(f"{name} can't be empty.")
        if epoch == JOIN_EPOCH:
            _validate_join(request)
        if epoch == LEAVE_STATIC_EPOCH and request.instance_id is None:
            raise _invalid("InstanceId can't be null.")
        if epoch < LEAVE_STATIC_EPOCH:
            raise _invalid("MemberEpoch is invalid.")
        assignor = request.server_assignor
        if assignor is not None and assignor not in self.steps.assignors:
            known = ", ".join(self.steps.assignors)
            raise Refused(
                ErrorCode.UNSUPPORTED_ASSIGNOR,
                f"ServerAssignor {assignor} is not supported. Supported assignors: {known}.",
            )

    def _report(
        self, request: ConsumerGroupHeartbeatRequest, caller: Caller, who: Waiting, now_ms: int
    ) -> Outcome:
        joins = request.member_epoch == JOIN_EPOCH
        group, records, replies = self._group_for(request.group_id, now_ms, joins=joins)
        member_id = request.member_id or (self._shared.new_id() if joins else "")
        self.steps.check_room(group, member_id)
        turn = self._turn_of(group, member_id, request, now_ms)
        self.steps.update(turn, _as_told(turn.before, member_id, request, caller))
        owned = _owned(request)
        self.steps.reconcile(turn, *self.steps.target(turn), owned)
        settings = self._config.groups
        session = settings.get(group.group_id, "consumer.session.timeout.ms")
        self._timers.alive(group.group_id, member_id, now_ms + session)
        member = turn.member
        response = ConsumerGroupHeartbeatResponse(
            member_id=member_id,
            member_epoch=member.epoch,
            heartbeat_interval_ms=settings.get(group.group_id, "consumer.heartbeat.interval.ms"),
        )
        if joins or _is_full(request) or not _same(member.assigned, turn.before.assigned):
            response.assignment = heartbeats.Assignment(
                [heartbeats.TopicPartitions(t, list(p)) for t, p in member.assigned.items()]
            )
        # What it is told may be under way to the replicas still.
        outcome = Outcome([*records, *turn.records], [*replies, (who, response)], behind=True)
        if replies:
            # Only this request is refused: who waits for the classic group goes on waiting.
            outcome.refused = lambda code: [(who, who.refuse(code))]
        return outcome

    def _group_for(
        self, group_id: str, now_ms: int, *, joins: bool
    ) -> tuple[ConsumerGroup, list[StoredRecord], list[tuple[Waiting, Any]]]:
        """The group; for one who joins also one that is made now, or was of the classic protocol:
        with the records that make it, and answers to those who wait for the classic one."""
        found = self._groups.get(group_id)
        if found is not None and found.kind == CONSUMER:
            return found, [], []
        if joins and found is None:
            return self._migration.new_group(group_id)
        if joins and isinstance(found, ClassicGroup):
            return self._migration.upgraded(found, now_ms)
        if found is None and not self._machine.offsets.exists(group_id):
            raise Refused(ErrorCode.GROUP_ID_NOT_FOUND, f"Consumer group {group_id} not found.")
        raise _not_consumer(group_id)

    def _turn_of(
        self,
        group: ConsumerGroup,
        member_id: str,
        request: ConsumerGroupHeartbeatRequest,
        now_ms: int,
    ) -> Turn:
        """The member as it is, if it may report; a new one for somebody who joins."""
        joins = request.member_epoch == JOIN_EPOCH
        if request.instance_id is None:
            member = group.members.get(member_id)
            if member is None and not joins:
                raise _unknown_member(group, member_id)
        else:
            member = group.static_member(request.instance_id)
            if member is not None and joins:
                if member.classic is None and member.epoch != LEAVE_STATIC_EPOCH:
                    raise _unreleased(member, member_id, request.instance_id)
                return self.steps.replace_static(group, member, member_id, now_ms)
            if not joins:
                member = _static(member, member_id, request.instance_id)
            elif member is None:
                member = group.members.get(member_id)
        if member is None:
            return Turn(group, now_ms, ConsumerMember(member_id))
        _check_epoch(member, request)
        return Turn(group, now_ms, member)

    # --- leaving

    def _leave(self, request: ConsumerGroupHeartbeatRequest, who: Waiting, now_ms: int) -> Outcome:
        group_id, member_id = request.group_id, request.member_id
        group = self.group(group_id)
        if group is None:
            if self._machine.offsets.exists(group_id):
                raise _not_consumer(group_id)
            raise Refused(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} not found.")
        if request.instance_id is None:
            member = group.members.get(member_id)
            if member is None:
                raise _unknown_member(group, member_id)
        else:
            member = _static(
                group.static_member(request.instance_id), member_id, request.instance_id
            )
        response = ConsumerGroupHeartbeatResponse(
            member_id=member_id, member_epoch=request.member_epoch
        )
        if request.member_epoch == LEAVE_EPOCH or request.instance_id is None:
            return self._migration.fence(group, [member], [(who, response)], now_ms)
        # It is back within its session, most likely, and gets the same partitions: those that it
        # was giving up it does not have any more.
        assigned: Held = {t: dict.fromkeys(p, JOIN_EPOCH) for t, p in member.assigned.items()}
        left = replace(member, epoch=LEAVE_STATIC_EPOCH, assigned=assigned, revoking=NOTHING_HELD)
        return Outcome([current_record(group_id, left)], [(who, response)])

    # --- ConsumerGroupDescribe

    def describe(self, group_id: str) -> DescribedGroup:
        """The group as ConsumerGroupDescribe shows it."""
        group = self.group(group_id)
        if group is None:
            message = f"Group {group_id} not found."
            if self._machine.offsets.exists(group_id):
                message = f"Group {group_id} is not a consumer group."
            return DescribedGroup(ErrorCode.GROUP_ID_NOT_FOUND, message, group_id)
        members = [
            describing.Member(
                member.member_id,
                member.instance_id,
                member.rack_id,
                member.epoch,
                member.client_id,
                member.client_host,
                sorted(member.topics),
                member.regex,
                self._described([member.assigned, member.revoking]),
                self._described([group.target.get(member.member_id, {})]),
                CONSUMER_TYPE if member.classic is None else CLASSIC_TYPE,
            )
            for member in (group.members[m] for m in group.ordered())
        ]
        return DescribedGroup(
            group_id=group_id,
            group_state=group.state_name,
            group_epoch=group.epoch,
            assignment_epoch=group.assignment_epoch,
            assignor_name=group.preferred_assignor(),
            members=members,
        )

    def _described(self, parts: "Sequence[Held | Assignment]") -> describing.Assignment:
        """Topics that are gone are left out."""
        names = self._shared.view().names
        found: dict[bytes, list[int]] = {}
        for part in parts:
            for topic_id, partitions in part.items():
                found.setdefault(topic_id, []).extend(partitions)
        return describing.Assignment(
            [
                describing.TopicPartitions(topic_id, names[topic_id], partitions)
                for topic_id, partitions in found.items()
                if topic_id in names
            ]
        )

    # --- members of the classic protocol

    def join_group(
        self, request: "JoinGroupRequest", caller: Caller, who: Waiting, now_ms: int
    ) -> Outcome:
        """See `ClassicMembers`."""
        return self._classic.join_group(request, caller, who, now_ms)

    def sync_group(
        self, request: "SyncGroupRequest", caller: Caller, who: Waiting, now_ms: int
    ) -> Outcome:
        """See `ClassicMembers`."""
        return self._classic.sync_group(request, caller, who, now_ms)

    def leave_group(
        self, request: "LeaveGroupRequest", caller: Caller, who: Waiting, now_ms: int
    ) -> Outcome:
        """See `ClassicMembers`."""
        return self._classic.leave_group(request, caller, who, now_ms)

    def heartbeat(self, request: "HeartbeatRequest", now_ms: int) -> ErrorCode:
        """See `ClassicMembers`."""
        return self._classic.heartbeat(request, now_ms)


_REPLAY = {
    3: ConsumerGroups._replay_group,
    4: ConsumerGroups._replay_old_metadata,
    5: ConsumerGroups._replay_member,
    6: ConsumerGroups._replay_target_epoch,
    7: ConsumerGroups._replay_target,
    8: ConsumerGroups._replay_current,
    16: ConsumerGroups._replay_regex,
}


# --- heartbeats taken apart


def _validate_join(request: ConsumerGroupHeartbeatRequest) -> None:
    if request.rebalance_timeout_ms == -1:
        raise _invalid("RebalanceTimeoutMs must be provided in first request.")
    if request.topic_partitions is None or request.topic_partitions:
        raise _invalid("TopicPartitions must be empty when (re-)joining.")
    if request.subscribed_topic_names is None and request.subscribed_topic_regex is None:
        raise _invalid(
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when "
            "(re-)joining."
        )


def _as_told(
    before: ConsumerMember,
    member_id: str,
    request: ConsumerGroupHeartbeatRequest,
    caller: Caller,
) -> ConsumerMember:
    """The member with what a heartbeat says of it; what it leaves out stays."""
    told: dict[str, Any] = {
        "member_id": member_id,
        "client_id": caller.client_id,
        "client_host": caller.client_host,
        "classic": None,
    }
    if request.instance_id is not None:
        told["instance_id"] = request.instance_id
    if request.rack_id is not None:
        told["rack_id"] = request.rack_id
    if request.rebalance_timeout_ms != -1:
        told["rebalance_timeout_ms"] = request.rebalance_timeout_ms
    if request.server_assignor is not None:
        told["assignor"] = request.server_assignor
    if request.subscribed_topic_names is not None:
        told["topics"] = frozenset(request.subscribed_topic_names)
    if request.subscribed_topic_regex is not None:
        told["regex"] = request.subscribed_topic_regex
    if all(getattr(before, name) == value for name, value in told.items()):
        return before
    return replace(before, **told)


def _owned(request: ConsumerGroupHeartbeatRequest) -> Owned | None:
    if request.topic_partitions is None:
        return None
    return [(t.topic_id, t.partitions) for t in request.topic_partitions]


def _is_full(request: ConsumerGroupHeartbeatRequest) -> bool:
    """Whether the member says everything, as after an error: it is told everything too."""
    subscribes = (
        request.subscribed_topic_names is not None or request.subscribed_topic_regex is not None
    )
    return (
        subscribes and request.rebalance_timeout_ms != -1 and request.topic_partitions is not None
    )


def _same(one: Held, other: Held) -> bool:
    return one is other or (
        one.keys() == other.keys() and all(one[t].keys() == other[t].keys() for t in one)
    )


def _check_epoch(member: ConsumerMember, request: ConsumerGroupHeartbeatRequest) -> None:
    """A member whose last answer was lost comes with its previous epoch; it may have nothing that
    it should not have."""
    epoch = request.member_epoch
    if epoch in (JOIN_EPOCH, member.epoch):
        return
    if epoch == member.previous_epoch and epoch < member.epoch:
        owned = _owned(request)
        if (
            owned is not None
            and all(
                partition in member.assigned.get(topic_id, {})
                for topic_id, partitions in owned
                for partition in partitions
            )
            and all(topic_id in member.assigned for topic_id, _ in owned)
        ):
            return
    relation = "greater" if epoch > member.epoch else "smaller"
    raise Refused(
        ErrorCode.FENCED_MEMBER_EPOCH,
        f"The consumer group member has a {relation} member epoch ({epoch}) than the one known by "
        f"the group coordinator ({member.epoch}). The member must abandon all its partitions and "
        "rejoin.",
    )


def _static(member: ConsumerMember | None, member_id: str, instance_id: str) -> ConsumerMember:
    """The member with this instance id, if it is this one."""
    if member is None:
        raise Refused(ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {instance_id} is unknown.")
    if member.member_id != member_id:
        raise Refused(
            ErrorCode.FENCED_INSTANCE_ID,
            f"Static member {member_id} with instance id {instance_id} was fenced by member "
            f"{member.member_id}.",
        )
    return member


# --- refusals


def _invalid(message: str) -> Refused:
    return Refused(ErrorCode.INVALID_REQUEST, message)


def _not_consumer(group_id: str) -> Refused:
    return Refused(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a consumer group.")


def _unknown_member(group: ConsumerGroup, member_id: str) -> Refused:
    return Refused(
        ErrorCode.UNKNOWN_MEMBER_ID,
        f"Member {member_id} is not a member of group {group.group_id}.",
    )


def _unreleased(owner: ConsumerMember, member_id: str, instance_id: str) -> Refused:
    return Refused(
        ErrorCode.UNRELEASED_INSTANCE_ID,
        f"Static member {member_id} with instance id {instance_id} cannot join the group because "
        f"the instance id is owned by {owner.member_id} member.",
    )
