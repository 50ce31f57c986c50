"""AllocateProducerIds (key 67): a broker takes a block of producer ids from the controller
(KIP-730).

Version 0. The ids of a block are the broker's for ever, used or not. Asked of a broker that is not
the controller: NOT_CONTROLLER. A store that fails, or whose answer is lost: UNKNOWN_SERVER_ERROR; a
block that may have been written is never given out. Left out: authorization.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from broker.controller.run import NotController
from broker.controller.topics import Refused
from protocol.errors import ErrorCode
from protocol.messages.allocate_producer_ids import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(
    node: "Node", context: "Context", request: AllocateProducerIdsRequest
) -> AllocateProducerIdsResponse | Awaitable[AllocateProducerIdsResponse]:
    """Ask the controller, if it is here."""
    if not node.controller.active:
        return AllocateProducerIdsResponse(error_code=ErrorCode.NOT_CONTROLLER)
    return _handle(node, request)


async def _handle(node: "Node", request: AllocateProducerIdsRequest) -> AllocateProducerIdsResponse:
    try:
        first, count = await node.controller.allocate_producer_ids(
            request.broker_id, request.broker_epoch
        )
    except NotController:
        return AllocateProducerIdsResponse(error_code=ErrorCode.NOT_CONTROLLER)
    except Refused as refused:
        return AllocateProducerIdsResponse(error_code=refused.refusal.code)
    return AllocateProducerIdsResponse(producer_id_start=first, producer_id_len=count)
