"""SyncGroup (key 14): the leader of a classic group hands out assignments, each member fetches its
own.

Versions 0-5: 1 throttle time (KIP-124); 2 throttling after the answer (KIP-219); 3 static members
(KIP-345); 4 flexible (KIP-482); 5 protocol type and name, which must be given (KIP-559).

Waits for the leader's assignments and until they are on record. While groups are being loaded the
answer is REBALANCE_IN_PROGRESS: the rebalance is lost, old clients know no other word for it.
Left out: authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.groups.common import caller_of
from protocol.errors import ErrorCode
from protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse

if TYPE_CHECKING:
    from broker.context import Context, Node

PROTOCOL_SINCE = 5


def handle(node: "Node", context: "Context", request: SyncGroupRequest) -> Any:
    """The response, or who will have it."""
    caller, group_id = caller_of(context), request.group_id
    if caller.version >= PROTOCOL_SINCE and None in (request.protocol_type, request.protocol_name):
        return _refused(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    if not group_id:
        return _refused(ErrorCode.INVALID_GROUP_ID)
    return node.groups.write(
        group_id,
        lambda machine, who, now_ms: machine.classic_members(group_id).sync_group(
            request, caller, who, now_ms
        ),
        _refused,
    )


def _refused(code: ErrorCode) -> SyncGroupResponse:
    loading = code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    return SyncGroupResponse(error_code=ErrorCode.REBALANCE_IN_PROGRESS if loading else code)
