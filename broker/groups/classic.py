"""The classic group protocol: members join, the leader among them assigns, members sync.

Apache Kafka's rules (the coordinator of 3.9): KIP-62 (rebalance timeout), KIP-134 (initial delay),
KIP-345 (static members), KIP-394 (member ids before joining), KIP-389 (most members), KIP-800
(reasons), KIP-814 (skipped assignments). The broker does not care whether a rebalance is eager or
cooperative.

Membership is kept in memory; a record is written when a generation has its assignments, when a
group becomes empty and when a static member of a stable group is replaced. So the records only keep
what memory holds already, and live ones are not replayed, apart from tombstones.
"""

import logging
from typing import TYPE_CHECKING, Any

from broker.coordinator import NOTHING, Outcome, Waiting
from broker.groups.classic_group import (
    COMPLETING,
    EMPTY,
    PREPARING,
    STABLE,
    Asked,
    ClassicGroup,
    Member,
    session_timer,
)
from broker.groups.classic_turn import Joining, Turn, join_refused, joined
from broker.groups.common import CLASSIC, Caller, TopicChanges
from protocol.errors import ErrorCode
from protocol.messages.heartbeat import HeartbeatRequest
from protocol.messages.join_group import JoinGroupRequest
from protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberResponse
from protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from protocol.stored.consumer_offsets import decode_key

if TYPE_CHECKING:
    from broker.groups.machine import GroupMachine

log = logging.getLogger("odradek.groups")

NEW_MEMBER_JOIN_TIMEOUT_MS = 5 * 60 * 1000
"""How long a JoinGroup of a new member may wait; a constant in Apache Kafka too. Its client may be
gone unnoticed, and tries again if it is not."""
MEMBER_ID_REQUIRED_SINCE = 4
SKIP_ASSIGNMENT_SINCE = 9
SINGLE_LEAVE_UNTIL = 2


class ClassicGroups:
    """The classic groups of one machine (`broker.groups.machine.Part` and `ClassicMembers`)."""

    def __init__(self, machine: "GroupMachine") -> None:
        self._machine = machine
        self._shared = machine.shared
        self._groups = machine.shared.groups
        self._timers = machine.shared.timers
        self._config = machine.shared.config
        self._stored: dict[str, bytes] = {}

    # --- records

    def replay(
        self, kind: int, key: bytes, value: bytes | None, producer_id: int, offset: int
    ) -> None:
        """A group's record: kept until everything is loaded, as only the last one counts."""
        group_id = decode_key(key).group  # type: ignore[union-attr]
        if value is None:
            self._stored.pop(group_id, None)
            self.forget(group_id)
        elif not self._shared.live:
            self._stored[group_id] = value

    def loaded(self, now_ms: int) -> Outcome:
        """Members go on where they were; each session begins anew."""
        turn = Turn(now_ms)
        for group_id, value in self._stored.items():
            group = ClassicGroup.restored(group_id, self._timers, value)
            self._groups[group_id] = group
            for member in group.members.values():
                group.alive(member, now_ms)
            if len(group.members) > self._config.group_max_size:
                self._prepare(turn, group, "it has more members than are allowed")
        self._stored.clear()
        return turn.outcome()

    def forget(self, group_id: str) -> None:
        """A classic group is gone: deleted, expired, or of another kind now."""
        group = self._groups.get(group_id)
        if group is None or group.kind != CLASSIC:
            return
        del self._groups[group_id]
        self._timers.cancel((CLASSIC, "join", group_id))
        self._timers.cancel((CLASSIC, "sync", group_id))
        for member_id in (*group.members, *group.pending):
            self._timers.cancel(session_timer(group_id, member_id))

    def adopt(self, group: ClassicGroup, reason: str | None, now_ms: int) -> None:
        """A group that was of the consumer protocol until now, stable; it rebalances at once if
        there is a reason (KIP-848)."""
        self._groups[group.group_id] = group
        for member in group.members.values():
            group.alive(member, now_ms)
        if reason is not None:
            self._prepare(Turn(now_ms), group, reason)  # nobody waits: there is nothing to say

    def topics_changed(self, changes: TopicChanges, now_ms: int) -> Outcome:
        """Nothing: members look after their topics themselves."""
        return NOTHING

    def group(self, group_id: str) -> ClassicGroup | None:
        """The group, if there is one of this kind."""
        group = self._groups.get(group_id)
        return group if isinstance(group, ClassicGroup) else None

    # --- timers

    def expired(self, timer: Any, now_ms: int) -> Outcome:
        """("classic", "join" | "sync" | "session", group id, member id of a session)."""
        turn = Turn(now_ms)
        group = self.group(timer[2])
        if group is None:
            return NOTHING
        if timer[1] == "join":
            self._join_timed_out(turn, group)
        elif timer[1] == "sync":
            self._sync_timed_out(turn, group)
        else:
            self._session_timed_out(turn, group, timer[3])
        return turn.outcome()

    def _join_timed_out(self, turn: Turn, group: ClassicGroup) -> None:
        """The rebalance goes on with those who came; a first one waits for more while new members
        come, up to the rebalance timeout in all."""
        left = group.delay_left_ms
        if group.new_member_joined and left:
            group.new_member_joined = False
            delay = min(self._config.group_initial_rebalance_delay_ms, left)
            group.delay_left_ms = left - delay
            self._timers.set((CLASSIC, "join", group.group_id), turn.now_ms + delay)
            return
        self._complete(turn, group)

    def _sync_timed_out(self, turn: Turn, group: ClassicGroup) -> None:
        """Who has not asked for its assignment by now is out."""
        late = list(group.pending_sync)
        if not late:
            return
        for member_id in late:
            self._drop(turn, group, member_id)
        self._prepare(turn, group, f"members {late} did not sync in time")

    def _session_timed_out(self, turn: Turn, group: ClassicGroup, member_id: str) -> None:
        """Who waits for others is alive, unless it is new: nobody knows whether a new member's
        client is still there."""
        if member_id in group.pending:
            self._remove_pending(turn, group, member_id)
            return
        member = group.members.get(member_id)
        if member is None:
            return
        if member.is_new or (member.joining is None and member.syncing is None):
            self._remove(turn, group, member, "its session ended")

    # --- JoinGroup

    def join_group(
        self, request: JoinGroupRequest, caller: Caller, who: Waiting, now_ms: int
    ) -> Outcome:
        """See `ClassicMembers`. Who joins without a member id brings a group into being."""
        turn = Turn(now_ms)
        join = Joining.of(request, caller, who)
        code, member_id = self._join(turn, request.group_id, join)
        group = self.group(request.group_id)
        if group is not None and group.state == PREPARING:
            self._try_complete(turn, group)
        if code != ErrorCode.NONE:
            turn.replies.append((who, join_refused(caller.version, code, member_id)))
        return turn.outcome()

    def _join(self, turn: Turn, group_id: str, join: Joining) -> tuple[ErrorCode, str]:
        """(code, member id to answer it with); NONE where the answer is given or comes later."""
        config, member_id = self._config, join.member_id
        least, most = config.group_min_session_timeout_ms, config.group_max_session_timeout_ms
        if not least <= join.session_timeout_ms <= most:
            return ErrorCode.INVALID_SESSION_TIMEOUT, member_id
        group = self.group(group_id)
        if group is None:
            if group_id in self._groups:
                return ErrorCode.INCONSISTENT_GROUP_PROTOCOL, ""
            if member_id:
                # A group that only has offsets is there, and empty: protocols are looked at first.
                there = self._machine.offsets.table.has(group_id)
                if there and not (join.protocol_type and join.names):
                    return ErrorCode.INCONSISTENT_GROUP_PROTOCOL, member_id
                return ErrorCode.UNKNOWN_MEMBER_ID, member_id
            group = self._groups[group_id] = ClassicGroup(group_id, self._timers, turn.now_ms)
        if not self._has_room(group, member_id):
            self._drop(turn, group, member_id)
            return ErrorCode.GROUP_MAX_SIZE_REACHED, ""
        if not group.supports(join.protocol_type, join.names):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL, member_id
        if member_id:
            code = self._join_known(turn, group, join)
            return code, "" if code == ErrorCode.UNKNOWN_SERVER_ERROR else member_id
        return self._join_new(turn, group, join)

    def _has_room(self, group: ClassicGroup, member_id: str) -> bool:
        """KIP-389. While members join, those who came first stay: others of a group that is too
        large are turned away."""
        most = self._config.group_max_size
        member = group.members.get(member_id)
        if group.state == EMPTY:
            return True
        if group.state == PREPARING:
            return (member is not None and member.joining is not None) or group.joined < most
        return member is not None or len(group.members) < most

    def _join_new(self, turn: Turn, group: ClassicGroup, join: Joining) -> tuple[ErrorCode, str]:
        """Somebody without a member id: a new member, or a static one that is back."""
        prefix = join.client_id if join.instance_id is None else join.instance_id
        member_id = f"{prefix}-{self._shared.new_id()}"
        if join.instance_id is not None:
            known = group.static.get(join.instance_id)
            if known is not None:
                self._replace_static(turn, group, group.members[known], member_id, join)
                return ErrorCode.NONE, member_id
        elif join.asked.version >= MEMBER_ID_REQUIRED_SINCE:
            group.pending[member_id] = None
            timer = session_timer(group.group_id, member_id)
            self._timers.set(timer, turn.now_ms + join.session_timeout_ms)
            return ErrorCode.MEMBER_ID_REQUIRED, member_id
        self._add(turn, group, member_id, join)
        return ErrorCode.NONE, member_id

    def _join_known(self, turn: Turn, group: ClassicGroup, join: Joining) -> ErrorCode:
        """Somebody who was given this member id."""
        if join.member_id in group.pending:
            if join.instance_id is not None:
                # Ids are handed out to dynamic members only; Apache Kafka fails here too.
                return ErrorCode.UNKNOWN_SERVER_ERROR
            self._add(turn, group, join.member_id, join)
            return ErrorCode.NONE
        code = group.check_member(join.member_id, join.instance_id)
        if code != ErrorCode.NONE:
            return code
        member = group.members[join.member_id]
        changed = member.protocols != join.protocols
        leads = group.leader == member.member_id
        if group.state == PREPARING or changed or (group.state == STABLE and leads):
            # A leader that joins a stable group wants a rebalance: it watches the topics for all.
            self._update(turn, member, group, join)
            self._prepare(turn, group, f"member {member.member_id} joined; {join.reason}")
        else:
            # Its answer was lost, or it wants to sync: nothing new.
            response = joined(group, member.member_id, listed=leads)
            turn.replies.append((join.asked.who, response))
        return ErrorCode.NONE

    def _add(self, turn: Turn, group: ClassicGroup, member_id: str, join: Joining) -> None:
        member = Member(
            group.group_id,
            member_id,
            join.instance_id,
            join.client_id,
            join.client_host,
            join.rebalance_timeout_ms,
            join.session_timeout_ms,
            join.protocols,
        )
        member.is_new = True
        member.joining = join.asked
        if group.state == PREPARING and group.generation == 0:
            group.new_member_joined = True
        group.add(member, join.protocol_type)
        self._timers.set(member.session, turn.now_ms + NEW_MEMBER_JOIN_TIMEOUT_MS)
        self._prepare(turn, group, f"new member {member_id}; {join.reason}")

    def _update(self, turn: Turn, member: Member, group: ClassicGroup, join: Joining) -> None:
        if member.joining is not None:
            # The same member twice: the first one's client has given up (Apache Kafka never
            # answers it).
            self._answer_join(turn, group, member, ErrorCode.REBALANCE_IN_PROGRESS)
        group.update(member, join.protocols, join.rebalance_timeout_ms, join.session_timeout_ms)
        group.set_joining(member, join.asked)

    def _replace_static(
        self, turn: Turn, group: ClassicGroup, member: Member, member_id: str, join: Joining
    ) -> None:
        """KIP-345: a static member comes back under a new id. A stable group goes on if the
        protocol stays the same."""
        leader, old_id = group.leader, member.member_id
        before = (member.protocols, member.rebalance_timeout_ms, member.session_timeout_ms)
        self._answer_join(turn, group, member, ErrorCode.FENCED_INSTANCE_ID)
        self._answer_sync(turn, group, member, ErrorCode.FENCED_INSTANCE_ID)
        self._timers.cancel(member.session)
        group.replace_static(member, member_id)
        group.alive(member, turn.now_ms)
        group.update(member, join.protocols, join.rebalance_timeout_ms, join.session_timeout_ms)
        if group.state != STABLE or group.select_protocol() != group.protocol:
            group.set_joining(member, join.asked)
            if group.state != PREPARING:
                self._prepare(turn, group, f"static member {join.instance_id} came back")
            return
        who, version = join.asked
        if version >= SKIP_ASSIGNMENT_SINCE:
            leads = group.leader == member_id
            response = joined(group, member_id, listed=leads)
            response.skip_assignment = leads
        else:
            # The leader must not assign: nobody would learn of it. It is told of the old leader.
            response = joined(group, member_id, listed=False)
            response.leader = leader or ""

        def revert(code: ErrorCode) -> list[tuple[Waiting, Any]]:
            group.update(member, *before)
            group.replace_static(member, old_id)
            group.alive(member, turn.now_ms)
            return [(who, join_refused(version, code, ""))]

        turn.records.append(group.record())
        turn.replies.append((who, response))
        turn.refused = revert

    # --- rebalances

    def _prepare(self, turn: Turn, group: ClassicGroup, reason: str) -> None:
        """Begin a rebalance, unless one is under way."""
        if group.state == PREPARING:
            return
        log.info("group %s, generation %d rebalances: %s", group.group_id, group.generation, reason)
        if group.state == COMPLETING:
            self._reset_assignments(turn, group, ErrorCode.REBALANCE_IN_PROGRESS)
        self._timers.cancel((CLASSIC, "sync", group.group_id))
        timeout = group.rebalance_timeout_ms()
        group.delay_left_ms = None
        if group.state == EMPTY:
            delay = self._config.group_initial_rebalance_delay_ms
            group.delay_left_ms = max(timeout - delay, 0)
            timeout = delay
        group.enter(PREPARING, turn.now_ms)
        self._timers.set((CLASSIC, "join", group.group_id), turn.now_ms + timeout)
        self._try_complete(turn, group)

    def _try_complete(self, turn: Turn, group: ClassicGroup) -> None:
        """End the rebalance if everybody is there; a first one waits its delay in any case."""
        everybody = group.joined == len(group.members) and not group.pending
        if everybody and group.delay_left_ms is None:
            self._complete(turn, group)

    def _complete(self, turn: Turn, group: ClassicGroup) -> None:
        """The next generation, without the dynamic members that did not join in time."""
        for member in list(group.members.values()):
            if member.joining is None and member.instance_id is None:
                self._drop(turn, group, member.member_id)
        timer = (CLASSIC, "join", group.group_id)
        if group.members and not group.elect_leader():
            # Only static members, none of them back: their sessions decide.
            group.delay_left_ms = None
            self._timers.set(timer, turn.now_ms + group.rebalance_timeout_ms())
            return
        self._timers.cancel(timer)
        group.delay_left_ms = None
        group.new_member_joined = False
        group.next_generation(turn.now_ms)
        if not group.members:
            log.info("group %s, generation %d is empty", group.group_id, group.generation)
            turn.records.append(group.record())
            return
        log.info(
            "group %s, generation %d has %d members",
            group.group_id,
            group.generation,
            len(group.members),
        )
        for member in group.members.values():
            self._answer_join(turn, group, member)
            group.alive(member, turn.now_ms)
            member.is_new = False
            group.pending_sync[member.member_id] = None
        self._timers.set(
            (CLASSIC, "sync", group.group_id), turn.now_ms + group.rebalance_timeout_ms()
        )

    def _answer_join(
        self, turn: Turn, group: ClassicGroup, member: Member, code: ErrorCode = ErrorCode.NONE
    ) -> None:
        asked = member.joining
        if asked is None:
            return
        group.set_joining(member, None)
        if code == ErrorCode.NONE:
            response = joined(group, member.member_id, listed=group.leader == member.member_id)
        else:
            unknown = code == ErrorCode.UNKNOWN_MEMBER_ID
            response = join_refused(asked.version, code, "" if unknown else member.member_id)
        turn.replies.append((asked.who, response))

    # --- SyncGroup

    def sync_group(
        self, request: SyncGroupRequest, caller: Caller, who: Waiting, now_ms: int
    ) -> Outcome:
        """See `ClassicMembers`."""
        turn = Turn(now_ms)
        code = self._sync(turn, request, Asked(who, caller.version))
        if code != ErrorCode.NONE:
            turn.replies.append((who, SyncGroupResponse(error_code=code)))
        return turn.outcome()

    def _sync(self, turn: Turn, request: SyncGroupRequest, asked: Asked) -> ErrorCode:
        """NONE where the answer is given or comes later."""
        group, member_id = self.group(request.group_id), request.member_id
        if group is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        code = group.check_generation(member_id, request.group_instance_id, request.generation_id)
        if code != ErrorCode.NONE:
            return code
        if request.protocol_type not in (None, group.protocol_type):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if request.protocol_name not in (None, group.protocol):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if group.state == PREPARING:
            return ErrorCode.REBALANCE_IN_PROGRESS
        member = group.members[member_id]
        group.pending_sync.pop(member_id, None)
        if not group.pending_sync:
            self._timers.cancel((CLASSIC, "sync", group.group_id))
        self._answer_sync(turn, group, member, ErrorCode.REBALANCE_IN_PROGRESS)
        member.syncing = asked
        if group.state == STABLE:
            turn.behind = True  # the assignment may be under way to the replicas still
            self._answer_sync(turn, group, member)
        elif group.leader == member_id:
            self._assign(turn, group, request)
        return ErrorCode.NONE

    def _assign(self, turn: Turn, group: ClassicGroup, request: SyncGroupRequest) -> None:
        """The leader's assignments: the generation is recorded, and whoever waits is answered."""
        given = {a.member_id: bytes(a.assignment) for a in request.assignments}
        for member in group.members.values():
            member.assignment = given.get(member.member_id, b"")
        turn.records.append(group.record())
        waiting = [(m, m.syncing) for m in group.members.values() if m.syncing is not None]
        group.enter(STABLE, turn.now_ms)
        for member, _ in waiting:
            self._answer_sync(turn, group, member)

        def start_over(code: ErrorCode) -> list[tuple[Waiting, Any]]:
            again = Turn(turn.now_ms)
            group.enter(COMPLETING, turn.now_ms)
            for member, asked in waiting:
                member.syncing = asked
            self._reset_assignments(again, group, code)
            self._prepare(again, group, f"its assignments could not be written: {code.name}")
            return again.replies

        turn.refused = start_over

    def _answer_sync(
        self, turn: Turn, group: ClassicGroup, member: Member, code: ErrorCode = ErrorCode.NONE
    ) -> None:
        """Whoever was answered is heard of again within its session."""
        asked = member.syncing
        if asked is None:
            return
        member.syncing = None
        if code == ErrorCode.NONE:
            response = SyncGroupResponse(
                protocol_type=group.protocol_type,
                protocol_name=group.protocol,
                assignment=member.assignment,
            )
        else:
            response = SyncGroupResponse(error_code=code)
        turn.replies.append((asked.who, response))
        group.alive(member, turn.now_ms)

    def _reset_assignments(self, turn: Turn, group: ClassicGroup, code: ErrorCode) -> None:
        for member in group.members.values():
            member.assignment = b""
            self._answer_sync(turn, group, member, code)

    # --- Heartbeat

    def heartbeat(self, request: HeartbeatRequest, now_ms: int) -> ErrorCode:
        """See `ClassicMembers`. Every group's most frequent request."""
        group = self._groups.get(request.group_id)
        if group is None or group.kind != CLASSIC:
            return ErrorCode.UNKNOWN_MEMBER_ID
        code: ErrorCode = group.check_generation(
            request.member_id, request.group_instance_id, request.generation_id
        )
        if code != ErrorCode.NONE:
            return code
        group.alive(group.members[request.member_id], now_ms)
        return ErrorCode.REBALANCE_IN_PROGRESS if group.state == PREPARING else ErrorCode.NONE

    # --- LeaveGroup

    def leave_group(
        self, request: LeaveGroupRequest, caller: Caller, who: Waiting, now_ms: int
    ) -> Outcome:
        """See `ClassicMembers`."""
        turn = Turn(now_ms)
        group = self.group(request.group_id)
        if caller.version <= SINGLE_LEAVE_UNTIL:
            code = self._leave(turn, group, request.member_id, None, "")
            turn.replies.append((who, LeaveGroupResponse(error_code=code)))
            return turn.outcome()
        members = [
            MemberResponse(
                m.member_id,
                m.group_instance_id,
                self._leave(turn, group, m.member_id, m.group_instance_id, m.reason),
            )
            for m in request.members
        ]
        turn.replies.append((who, LeaveGroupResponse(members=members)))
        return turn.outcome()

    def _leave(
        self,
        turn: Turn,
        group: ClassicGroup | None,
        member_id: str,
        instance_id: str | None,
        reason: str | None,
    ) -> ErrorCode:
        """A static member may be made to leave by its instance id alone."""
        if group is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if not member_id:
            member_id = "" if instance_id is None else group.static.get(instance_id, "")
        elif member_id in group.pending:
            self._timers.cancel(session_timer(group.group_id, member_id))
            self._remove_pending(turn, group, member_id)
            return ErrorCode.NONE
        code = group.check_member(member_id, instance_id)
        if code == ErrorCode.NONE:
            member = group.members[member_id]
            self._remove(turn, group, member, f"it left; {reason or 'not provided'}")
        return code

    # --- members that go

    def _remove(self, turn: Turn, group: ClassicGroup, member: Member, why: str) -> None:
        self._drop(turn, group, member.member_id)
        if group.state == PREPARING:
            self._try_complete(turn, group)
        elif group.state != EMPTY:
            self._prepare(turn, group, f"member {member.member_id} is removed: {why}")

    def _remove_pending(self, turn: Turn, group: ClassicGroup, member_id: str) -> None:
        group.remove(member_id)
        if group.state == PREPARING:
            self._try_complete(turn, group)

    def _drop(self, turn: Turn, group: ClassicGroup, member_id: str) -> None:
        """Take a member out; whatever of it waits is told that it is unknown."""
        member = group.members.get(member_id)
        if member is not None:
            self._answer_join(turn, group, member, ErrorCode.UNKNOWN_MEMBER_ID)
            self._answer_sync(turn, group, member, ErrorCode.UNKNOWN_MEMBER_ID)
            self._timers.cancel(member.session)
        group.remove(member_id)
