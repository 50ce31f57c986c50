"""ShareGroupHeartbeat (key 76): a member of a share group joins, reports, leaves, and learns its
partitions (KIP-932).

Version 1. Served where the feature share.version is finalized at 1, else UNSUPPORTED_VERSION. See
`broker.groups.share`. Left out: version 0, an early access; authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.cluster.features import SHARE_VERSION
from broker.groups.common import caller_of
from broker.groups.share_group import JOIN_EPOCH, LEAVE_EPOCH
from broker.shares.common import is_member_id
from protocol.errors import ErrorCode
from protocol.messages.share_group_heartbeat import (
    ShareGroupHeartbeatRequest,
    ShareGroupHeartbeatResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: ShareGroupHeartbeatRequest) -> Any:
    """The response, or who will have it."""
    if node.features.level(SHARE_VERSION) < 1:
        return _refused(ErrorCode.UNSUPPORTED_VERSION)
    wrong = _what_is_wrong(request)
    if wrong is not None:
        return _refused(ErrorCode.INVALID_REQUEST, wrong)
    caller = caller_of(context)
    return node.groups.write(
        request.group_id,
        lambda machine, who, now_ms: machine.share.heartbeat(request, caller, who, now_ms),
        _refused,
    )


def _what_is_wrong(request: ShareGroupHeartbeatRequest) -> str | None:
    if not is_member_id(request.member_id):
        return "The member id is empty or too long."
    if not request.group_id.strip():
        return "The group id is empty."
    if request.rack_id is not None and not request.rack_id.strip():
        return "The rack id is empty."
    if request.member_epoch == JOIN_EPOCH and not request.subscribed_topic_names:
        return "A member that joins must subscribe to topics."
    if request.member_epoch < LEAVE_EPOCH:
        return f"There is no member epoch {request.member_epoch}."
    return None


def _refused(code: ErrorCode, message: str | None = None) -> ShareGroupHeartbeatResponse:
    return ShareGroupHeartbeatResponse(error_code=code, error_message=message)
