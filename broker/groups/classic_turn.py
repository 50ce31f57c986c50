"""A request of the classic protocol while it is worked on, and the answers of JoinGroup."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from broker.coordinator import NOTHING, Outcome, StoredRecord, Waiting
from broker.groups.classic_group import Asked, ClassicGroup, Protocols
from broker.groups.common import Caller
from protocol.errors import ErrorCode
from protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupResponse,
    JoinGroupResponseMember,
)

NAMELESS_SINCE = 7
"""JoinGroup version from which an error has no protocol name; before it is an empty one."""


class Joining(NamedTuple):
    """A JoinGroup in hand, its own copy: it outlives the request's buffer."""

    asked: Asked
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    protocol_type: str
    protocols: Protocols
    rebalance_timeout_ms: int
    session_timeout_ms: int
    reason: str

    @classmethod
    def of(cls, request: JoinGroupRequest, caller: Caller, who: Waiting) -> "Joining":
        session = request.session_timeout_ms
        return cls(
            Asked(who, caller.version),
            request.member_id,
            request.group_instance_id,
            caller.client_id,
            caller.client_host,
            request.protocol_type,
            tuple((p.name, bytes(p.metadata)) for p in request.protocols),
            # Version 0 has one timeout for both.
            session if caller.version == 0 else request.rebalance_timeout_ms,
            session,
            request.reason or "not provided",
        )

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.protocols]


class Turn:
    """What one input leads to, gathered while it is worked on."""

    __slots__ = ("behind", "now_ms", "records", "refused", "replies")

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.behind = False
        self.records: list[StoredRecord] = []
        self.replies: list[tuple[Waiting, Any]] = []
        self.refused: Callable[[ErrorCode], Sequence[tuple[Waiting, Any]]] | None = None
        """What becomes of the replies when the records are not taken: by default nothing, the
        next generation is recorded anyhow."""

    def outcome(self) -> Outcome:
        if not self.records and not self.replies:
            return NOTHING
        replies = self.replies
        refused = self.refused or (lambda code: replies)
        return Outcome(self.records, replies, refused, replay=False, behind=self.behind)


def joined(group: ClassicGroup, member_id: str, *, listed: bool) -> JoinGroupResponse:
    """A member of the present generation; `listed`: with all members, for the leader."""
    members = []
    if listed:
        members = [
            JoinGroupResponseMember(m.member_id, m.instance_id, m.metadata(group.protocol))
            for m in group.members.values()
        ]
    return JoinGroupResponse(
        generation_id=group.generation,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol,
        leader=group.leader or "",
        member_id=member_id,
        members=members,
    )


def join_refused(version: int, code: ErrorCode, member_id: str) -> JoinGroupResponse:
    """An error of JoinGroup; the member id is a new one with MEMBER_ID_REQUIRED."""
    name = None if version >= NAMELESS_SINCE else ""
    return JoinGroupResponse(error_code=code, protocol_name=name, member_id=member_id)
