"""ControlledShutdown (key 7): a broker that is about to stop has its leaderships moved away.

Versions 0-3: 1 an ordinary request header; 2 broker epoch (KIP-380); 3 flexible.

The answer lists partitions that the broker leads on because nobody else can; those without other
replicas are not counted. From the answer on the controller takes the broker for gone until it
registers again. Asked of a broker that is not the controller: STALE_CONTROLLER_EPOCH, as Apache
Kafka answers. Left out: authorization.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from broker.controller.run import NotController
from broker.controller.topics import Refused
from protocol.errors import ErrorCode
from protocol.messages.controlled_shutdown import (
    ControlledShutdownRequest,
    ControlledShutdownResponse,
    RemainingPartition,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

ANY_EPOCH = -1


def handle(
    node: "Node", context: "Context", request: ControlledShutdownRequest
) -> ControlledShutdownResponse | Awaitable[ControlledShutdownResponse]:
    """Ask the controller, if it is here."""
    if not node.controller.active:
        return ControlledShutdownResponse(ErrorCode.STALE_CONTROLLER_EPOCH)
    return _handle(node, request)


async def _handle(node: "Node", request: ControlledShutdownRequest) -> ControlledShutdownResponse:
    try:
        left = await node.controller.controlled_shutdown(request.broker_id, request.broker_epoch)
    except NotController:
        return ControlledShutdownResponse(ErrorCode.STALE_CONTROLLER_EPOCH)
    except Refused as refused:
        code = refused.refusal.code
        if code == ErrorCode.BROKER_NOT_AVAILABLE and request.broker_epoch != ANY_EPOCH:
            # Its epoch is looked for first, and not found.
            code = ErrorCode.UNKNOWN_SERVER_ERROR
        return ControlledShutdownResponse(code)
    return ControlledShutdownResponse(
        remaining_partitions=[RemainingPartition(topic, index) for topic, index in left]
    )
