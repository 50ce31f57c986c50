"""JoinGroup (key 11): a member joins a classic group, or joins again.

Versions 0-9: 1 a rebalance timeout of its own (KIP-62); 2 throttle time (KIP-124); 3 throttling
after the answer (KIP-219); 4 MEMBER_ID_REQUIRED hands out a member id first (KIP-394); 5 static
members (KIP-345); 6 flexible (KIP-482); 7 protocol type, null for no protocol (KIP-559); 8 a
reason, which is logged (KIP-800); 9 the leader may be told to skip its assignment (KIP-814).

Waits until the generation begins: until every member has joined, or the rebalance timeout has
passed. See `broker.groups.classic`. Left out: authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.groups.classic_turn import join_refused
from broker.groups.common import caller_of
from protocol.errors import ErrorCode
from protocol.messages.join_group import JoinGroupRequest

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: JoinGroupRequest) -> Any:
    """The response, or who will have it."""
    caller, group_id = caller_of(context), request.group_id
    if not group_id:
        return join_refused(caller.version, ErrorCode.INVALID_GROUP_ID, request.member_id)
    return node.groups.write(
        group_id,
        lambda machine, who, now_ms: machine.classic_members(group_id).join_group(
            request, caller, who, now_ms
        ),
        lambda code: join_refused(caller.version, code, request.member_id),
    )
