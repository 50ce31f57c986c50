"""ConsumerGroupHeartbeat (key 68): a member of a consumer group joins, reports, leaves, and learns
its partitions (KIP-848).

Versions 0-1: 1 subscriptions by pattern, member ids made by the client (KIP-1082).

Served where the feature group.version is finalized at 1, else UNSUPPORTED_VERSION. See
`broker.groups.consumer`. Left out: authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.cluster.features import GROUP_VERSION
from broker.groups.common import caller_of
from protocol.errors import ErrorCode
from protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: ConsumerGroupHeartbeatRequest) -> Any:
    """The response, or who will have it."""
    if node.features.level(GROUP_VERSION) < 1:
        return _refused(ErrorCode.UNSUPPORTED_VERSION)
    caller = caller_of(context)
    return node.groups.write(
        request.group_id,
        lambda machine, who, now_ms: machine.consumer.consumer_heartbeat(
            request, caller, who, now_ms
        ),
        _refused,
    )


def _refused(code: ErrorCode) -> ConsumerGroupHeartbeatResponse:
    return ConsumerGroupHeartbeatResponse(error_code=code)
