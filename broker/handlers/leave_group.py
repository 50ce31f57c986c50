"""LeaveGroup (key 13): members leave a classic group.

Versions 0-5: 1 throttle time (KIP-124); 2 throttling after the answer (KIP-219); 3 several members,
static ones by their instance id alone (KIP-345); 4 flexible (KIP-482); 5 a reason, which is logged
(KIP-800).

Since version 3 each member has its own code, and the top one is about the group or coordinator.
Left out: authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.groups.common import caller_of
from protocol.errors import ErrorCode
from protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: LeaveGroupRequest) -> Any:
    """The response, or who will have it: leaving an empty group behind is put on record."""
    caller, group_id = caller_of(context), request.group_id
    if not group_id:
        return _refused(ErrorCode.INVALID_GROUP_ID)
    return node.groups.write(
        group_id,
        lambda machine, who, now_ms: machine.classic_members(group_id).leave_group(
            request, caller, who, now_ms
        ),
        _refused,
    )


def _refused(code: ErrorCode) -> LeaveGroupResponse:
    return LeaveGroupResponse(error_code=code)
