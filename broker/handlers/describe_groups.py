"""DescribeGroups (key 15): state, protocol and members of classic groups.

Versions 0-6: 1 throttle time (KIP-124); 2 throttling after the answer (KIP-219); 3 authorized
operations (KIP-430); 4 static members (KIP-345); 5 flexible (KIP-482); 6 GROUP_ID_NOT_FOUND with a
sentence (KIP-1043); before, a group that is not there is Dead without an error.

A group of another kind is not there either. What members said is shown in a stable group only, and
so is what they were given before version 6. Without authorization every operation is allowed.
"""

from typing import TYPE_CHECKING

from broker.groups.classic_group import EMPTY, STABLE, ClassicGroup
from protocol.errors import ErrorCode
from protocol.messages.describe_groups import (
    DescribedGroup,
    DescribedGroupMember,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

DEAD = "Dead"
NOT_FOUND_SINCE = 6
OPERATIONS, NEWER_OPERATIONS = 328, 3400
"""Read, delete, describe; in the versions of Apache Kafka 4 also describe and alter configs."""


def handle(
    node: "Node", context: "Context", request: DescribeGroupsRequest
) -> DescribeGroupsResponse:
    """Answer from memory; a group named twice is answered twice."""
    version = context.version
    groups = [_describe(node, version, group_id) for group_id in request.groups]
    if request.include_authorized_operations:
        allowed = NEWER_OPERATIONS if version >= NOT_FOUND_SINCE else OPERATIONS
        for group in groups:
            if group.error_code == ErrorCode.NONE:
                group.authorized_operations = allowed
    return DescribeGroupsResponse(groups=groups)


def _describe(node: "Node", version: int, group_id: str) -> DescribedGroup:
    machine = node.groups.find(group_id)
    if isinstance(machine, ErrorCode):
        return DescribedGroup(machine, group_id=group_id)
    group = machine.shared.groups.get(group_id)
    if isinstance(group, ClassicGroup):
        return _classic(group, version)
    if group is None and machine.offsets.exists(group_id):
        return DescribedGroup(group_id=group_id, group_state=EMPTY)
    dead = DescribedGroup(group_id=group_id, group_state=DEAD)
    if version >= NOT_FOUND_SINCE:
        dead.error_code = ErrorCode.GROUP_ID_NOT_FOUND
        what = "not found" if group is None else "is not a classic group"
        dead.error_message = f"Group {group_id} {what}."
    return dead


def _classic(group: ClassicGroup, version: int) -> DescribedGroup:
    stable = group.state == STABLE
    assigned = stable or version >= NOT_FOUND_SINCE
    members = [
        DescribedGroupMember(
            m.member_id,
            m.instance_id,
            m.client_id,
            m.client_host,
            m.metadata(group.protocol) if stable else b"",
            m.assignment if assigned else b"",
        )
        for m in group.members.values()
    ]
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state,
        protocol_type=group.protocol_type,
        protocol_data=(group.protocol or "") if stable else "",
        members=members,
    )
