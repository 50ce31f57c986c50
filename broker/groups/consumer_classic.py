"""Members of the classic protocol in consumer groups (KIP-848).

While a group migrates, members of both protocols share it: those of the classic one are told to
rebalance whenever there is something for them; their JoinGroup and SyncGroup do what a heartbeat
does for the others, and wait for nobody.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from broker.coordinator import Outcome, Waiting
from broker.groups.classic_group import (
    CONSUMER_TYPE,
    VALUE_VERSION,
)
from broker.groups.classic_turn import join_refused
from broker.groups.common import Caller, stored
from broker.groups.consumer_group import (
    UNRELEASED,
    UNREVOKED,
    ClassicMembership,
    ConsumerGroup,
    ConsumerMember,
)
from broker.groups.consumer_migration import DISABLED, Migration, Replies, blob
from broker.groups.consumer_records import group_tombstones
from broker.groups.consumer_turn import Refused, Steps, Timers, Turn
from broker.groups.hash_order import timeline_ordered
from broker.groups.reconcile import Owned
from protocol.errors import ErrorCode, Malformed
from protocol.messages.heartbeat import HeartbeatRequest
from protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberResponse
from protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from protocol.stored.consumer_offsets import GroupMetadataKey, GroupMetadataValue
from protocol.stored.consumer_protocol import (
    ConsumerProtocolSubscription,
    decode_subscription,
)

if TYPE_CHECKING:
    from broker.groups.machine import GroupMachine

log = logging.getLogger("odradek.groups")

MEMBER_ID_REQUIRED_SINCE: Final = 4
SINGLE_LEAVE_UNTIL: Final = 2


class ClassicSide:
    """Of all consumer groups of a machine (`broker.groups.machine.ClassicMembers`)."""

    def __init__(self, machine: "GroupMachine", steps: Steps, timers: Timers) -> None:
        self._machine = machine
        self._shared = machine.shared
        self._groups = machine.shared.groups
        self._config = machine.shared.config
        self._steps = steps
        self._timers = timers
        self.migration = Migration(machine, steps, timers)

    # --- JoinGroup

    def join_group(
        self, request: JoinGroupRequest, caller: Caller, who: Waiting, now_ms: int
    ) -> Outcome:
        """See `ClassicMembers`. A group without members becomes a classic one."""
        group = self._groups[request.group_id]
        if group.is_empty:
            return self._join_empty(group, request, caller, who, now_ms)
        try:
            return self._join(group, request, caller, who, now_ms)
        except Refused as refused:
            response = join_refused(caller.version, refused.code, "")
            return Outcome(replies=[(who, response)])

    def _join_empty(
        self,
        group: ConsumerGroup,
        request: JoinGroupRequest,
        caller: Caller,
        who: Waiting,
        now_ms: int,
    ) -> Outcome:
        group_id = group.group_id
        del self._groups[group_id]
        outcome = self._machine.classic.join_group(request, caller, who, now_ms)
        if group_id not in self._groups:
            self._groups[group_id] = group  # nobody has joined
            return outcome
        value = GroupMetadataValue("", 0, None, None, now_ms, [])
        record = stored(GroupMetadataKey(group_id), value, VALUE_VERSION)

        def undo(code: ErrorCode) -> Sequence[tuple[Waiting, Any]]:
            self._machine.classic.forget(group_id)
            self._groups[group_id] = group
            return [(who, who.refuse(code))]

        records = [*group.tombstones(), record, *outcome.records]
        return Outcome(records, outcome.replies, undo, replay=False)

    def _join(
        self,
        group: ConsumerGroup,
        request: JoinGroupRequest,
        caller: Caller,
        who: Waiting,
        now_ms: int,
    ) -> Outcome:
        config, group_id = self._config, group.group_id
        least, most = config.group_min_session_timeout_ms, config.group_max_session_timeout_ms
        if not least <= request.session_timeout_ms <= most:
            return Outcome(
                replies=[
                    (
                        who,
                        join_refused(
                            caller.version, ErrorCode.INVALID_SESSION_TIMEOUT, request.member_id
                        ),
                    )
                ]
            )
        new = not request.member_id
        member_id = request.member_id or self._shared.new_id()
        self._steps.check_room(group, member_id)
        names = [protocol.name for protocol in request.protocols]
        allowed = config.group_consumer_migration_policy != DISABLED
        if not (allowed and group.supports_classic(request.protocol_type, names)):
            raise Refused(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "")
        if new and request.group_instance_id is None and _requires_id(caller.version):
            response = join_refused(caller.version, ErrorCode.MEMBER_ID_REQUIRED, member_id)
            return Outcome(replies=[(who, response)])
        try:
            subscription = decode_subscription(request.protocols[0].metadata)
        except Malformed:
            raise Refused(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "") from None
        replaced = group.static_member(request.group_instance_id)
        turn = self._turn_of(group, request, member_id, new, now_ms)
        told = _as_told(turn.before, member_id, request, caller, subscription)
        self._steps.update(turn, told)
        owned = self._owned(subscription)
        replies: Replies = []
        if replaced is not None and self.migration.may_downgrade(
            group, [replaced], len(group.members)
        ):
            outcome = self._replaced_by_classic(turn, replaced, owned, replies)
        else:
            self._steps.reconcile(turn, *self._steps.target(turn), owned)
            session = now_ms + request.session_timeout_ms
            self._timers.joined(group_id, member_id)
            self._timers.alive(group_id, member_id, session)
            self._timers.sync_by(group_id, member_id, now_ms + told.rebalance_timeout_ms)
            turn.undo.append(partial(self._timers.synced, group_id, member_id))
            outcome = turn.outcome(replies)
            outcome.behind = True
        member = turn.member
        assert member.classic is not None
        replies.append(
            (
                who,
                JoinGroupResponse(
                    generation_id=member.epoch,
                    protocol_type=CONSUMER_TYPE,
                    protocol_name=member.classic.protocols[0][0],
                    member_id=member_id,
                ),
            )
        )
        return outcome

    def _turn_of(
        self,
        group: ConsumerGroup,
        request: JoinGroupRequest,
        member_id: str,
        new: bool,
        now_ms: int,
    ) -> Turn:
        """The member as it is; one of the consumer protocol may go on with the classic one."""
        instance_id = request.group_instance_id
        if instance_id is None:
            member = group.members.get(member_id)
        else:
            member = group.static_member(instance_id)
            if new and member is not None:
                return self._steps.replace_static(group, member, member_id, now_ms)
            if not new and member is None:
                raise Refused(ErrorCode.UNKNOWN_MEMBER_ID, "")
            if member is not None and member.member_id != member_id:
                raise Refused(ErrorCode.FENCED_INSTANCE_ID, "")
        return Turn(group, now_ms, member or ConsumerMember(member_id))

    def _replaced_by_classic(
        self, turn: Turn, replaced: ConsumerMember, owned: Owned, replies: Replies
    ) -> Outcome:
        """The only member of the consumer protocol, a static one, is back with the classic one."""
        group = turn.group
        if not turn.subscription_changed:
            target = (group.assignment_epoch, group.target_of(turn.member))
            self._steps.reconcile(turn, *target, owned)
        members = {m: group.members[m] for m in group.ordered()}
        del members[replaced.member_id]
        members[turn.member.member_id] = turn.member
        gone = [turn.member.member_id if m == replaced.member_id else m for m in group.ordered()]
        records = [
            *turn.records,
            *group_tombstones(group.group_id, gone, timeline_ordered(group.resolved)),
        ]
        reason = None
        if turn.subscription_changed:
            reason = "a static member came back with another subscription"
        return self.migration.downgraded(
            group, list(members.values()), records, replies, reason, turn.now_ms
        )

    def _owned(self, subscription: ConsumerProtocolSubscription) -> Owned:
        topics = self._shared.view().topics
        return [
            (topics[part.topic].topic_id, part.partitions)
            for part in subscription.owned_partitions
            if part.topic in topics
        ]

    # --- SyncGroup, Heartbeat, LeaveGroup

    def sync_group(
        self, request: SyncGroupRequest, caller: Caller, who: Waiting, now_ms: int
    ) -> Outcome:
        """See `ClassicMembers`. The assignment is there already."""
        group: ConsumerGroup = self._groups[request.group_id]
        found = _classic_one(
            group, request.member_id, request.group_instance_id, request.generation_id
        )
        code = found if isinstance(found, ErrorCode) else ErrorCode.NONE
        if not isinstance(found, ErrorCode):
            code = self._check_sync(group, found, request, now_ms)
        if isinstance(found, ErrorCode) or code != ErrorCode.NONE:
            return Outcome(replies=[(who, SyncGroupResponse(error_code=code))])
        assert found.classic is not None
        self._timers.synced(group.group_id, found.member_id)
        session = found.classic.session_timeout_ms
        self._timers.alive(group.group_id, found.member_id, now_ms + session)
        assignment = {t: tuple(p) for t, p in found.assigned.items()}
        response = SyncGroupResponse(
            protocol_type=request.protocol_type,
            protocol_name=request.protocol_name,
            assignment=blob(found, assignment, self._shared.view()),
        )
        return Outcome(replies=[(who, response)], behind=True)

    def _check_sync(
        self, group: ConsumerGroup, member: ConsumerMember, request: SyncGroupRequest, now_ms: int
    ) -> ErrorCode:
        assert member.classic is not None
        if request.protocol_type not in (None, CONSUMER_TYPE):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if request.protocol_name not in (None, member.classic.protocols[0][0]):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        # Who has partitions to give up has joined already: it gives them up first.
        if group.assignment_epoch > member.epoch and member.state != UNREVOKED:
            self._rejoin(group, member, now_ms)
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def heartbeat(self, request: HeartbeatRequest, now_ms: int) -> ErrorCode:
        """See `ClassicMembers`."""
        group: ConsumerGroup = self._groups[request.group_id]
        found = _classic_one(
            group, request.member_id, request.group_instance_id, request.generation_id
        )
        if isinstance(found, ErrorCode):
            return found
        assert found.classic is not None
        session = found.classic.session_timeout_ms
        self._timers.alive(group.group_id, found.member_id, now_ms + session)
        if (
            found.epoch < group.assignment_epoch
            or found.state == UNREVOKED
            or (found.state == UNRELEASED and not group.waits_for_others(found))
        ):
            self._rejoin(group, found, now_ms)
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def _rejoin(self, group: ConsumerGroup, member: ConsumerMember, now_ms: int) -> None:
        """The member is told to; it has its rebalance timeout for that."""
        at_ms = now_ms + member.rebalance_timeout_ms
        self._timers.join_by(group.group_id, member.member_id, at_ms)

    def leave_group(
        self, request: LeaveGroupRequest, caller: Caller, who: Waiting, now_ms: int
    ) -> Outcome:
        """See `ClassicMembers`. Members of the consumer protocol may be made to leave by this
        too."""
        group: ConsumerGroup = self._groups[request.group_id]
        asked: list[tuple[str, str | None]] = [(request.member_id, None)]
        if caller.version > SINGLE_LEAVE_UNTIL:
            asked = [(m.member_id, m.group_instance_id) for m in request.members]
        leaving: dict[str, ConsumerMember] = {}
        answers = []
        for member_id, instance_id in asked:
            found = _any_one(group, member_id, instance_id, nameless=True)
            code = found if isinstance(found, ErrorCode) else ErrorCode.NONE
            if not isinstance(found, ErrorCode):
                leaving[found.member_id] = found
            answers.append(MemberResponse(member_id, instance_id, code))
        response = LeaveGroupResponse(members=answers)
        if caller.version <= SINGLE_LEAVE_UNTIL:
            response = LeaveGroupResponse(error_code=answers[0].error_code)
        return self.migration.fence(group, list(leaving.values()), [(who, response)], now_ms)


def _as_told(
    before: ConsumerMember,
    member_id: str,
    request: JoinGroupRequest,
    caller: Caller,
    subscription: ConsumerProtocolSubscription,
) -> ConsumerMember:
    """The member with what its JoinGroup says; members of this protocol have no patterns."""
    session = request.session_timeout_ms
    timeout = session if caller.version == 0 else request.rebalance_timeout_ms
    return replace(
        before,
        member_id=member_id,
        instance_id=request.group_instance_id or before.instance_id,
        rack_id=subscription.rack_id or before.rack_id,
        rebalance_timeout_ms=before.rebalance_timeout_ms if timeout == -1 else timeout,
        client_id=caller.client_id,
        client_host=caller.client_host,
        topics=frozenset(subscription.topics),
        regex="",
        classic=ClassicMembership(
            session, tuple((p.name, bytes(p.metadata)) for p in request.protocols)
        ),
    )


def _requires_id(version: int) -> bool:
    return version >= MEMBER_ID_REQUIRED_SINCE


def _any_one(
    group: ConsumerGroup, member_id: str, instance_id: str | None, *, nameless: bool = False
) -> ConsumerMember | ErrorCode:
    """A member by its ids; `nameless`: by its instance id alone, too."""
    if instance_id is None:
        return group.members.get(member_id) or ErrorCode.UNKNOWN_MEMBER_ID
    member = group.static_member(instance_id)
    if member is None:
        return ErrorCode.UNKNOWN_MEMBER_ID
    if member.member_id != member_id and not (nameless and not member_id):
        return ErrorCode.FENCED_INSTANCE_ID
    return member


def _classic_one(
    group: ConsumerGroup, member_id: str, instance_id: str | None, generation: int
) -> ConsumerMember | ErrorCode:
    """A member of the classic protocol in this generation."""
    member = _any_one(group, member_id, instance_id)
    if isinstance(member, ErrorCode):
        return member
    if member.classic is None:
        return ErrorCode.UNKNOWN_MEMBER_ID
    return member if member.epoch == generation else ErrorCode.ILLEGAL_GENERATION
