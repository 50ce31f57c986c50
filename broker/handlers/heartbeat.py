"""Heartbeat (key 12): a member of a classic group says that it lives.

Versions 0-4: 1 throttle time (KIP-124); 2 throttling after the answer (KIP-219); 3 static members
(KIP-345); 4 flexible (KIP-482).

While groups are being loaded the answer is NONE, as Apache Kafka gives it: the member is believed.
Left out: authorization.
"""

from typing import TYPE_CHECKING

from protocol.errors import ErrorCode
from protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse

if TYPE_CHECKING:
    from broker.context import Context, Node


ANSWERS = {code: HeartbeatResponse(error_code=code) for code in ErrorCode}
"""The same ones for everybody: this is the coordinator's most frequent request."""


def handle(node: "Node", context: "Context", request: HeartbeatRequest) -> HeartbeatResponse:
    """Answer at once: nothing is written."""
    group_id = request.group_id
    if not group_id:
        return ANSWERS[ErrorCode.INVALID_GROUP_ID]
    machine = node.groups.find(group_id)
    if isinstance(machine, ErrorCode):
        loading = machine == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        return ANSWERS[ErrorCode.NONE if loading else machine]
    members = machine.classic_members(group_id)
    return ANSWERS[members.heartbeat(request, node.clock.now_ms())]
