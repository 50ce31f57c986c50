"""InitProducerId (key 22): an id for an idempotent or transactional producer (KIP-98).

Versions 0-5: 1 throttling after the answer (KIP-219); 2 flexible (KIP-482); 3 the producer may
name the id and epoch it has (KIP-360); 4 PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH
(KIP-588); 5 TRANSACTION_ABORTABLE may be answered (KIP-890).

Without a transactional id each request gets a fresh producer id with epoch 0, whatever id and
epoch it names; COORDINATOR_LOAD_IN_PROGRESS while the controller has not granted a block of ids.
As Apache Kafka checks them: id without epoch or epoch without id INVALID_REQUEST, then (only with
a transactional id) an empty one INVALID_REQUEST, a timeout that is not above 0 or is above
transaction.max.timeout.ms INVALID_TRANSACTION_TIMEOUT.

Left out: the transaction coordinator, so that a transactional id is answered NOT_COORDINATOR, and
with it epochs that grow and fencing; two-phase commit (version 6, KIP-939); authorization.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from protocol.errors import ErrorCode
from protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from broker.context import Context, Node

NO_PRODUCER_ID = -1
NO_EPOCH = -1
FIRST_EPOCH = 0


def handle(
    node: "Node", context: "Context", request: InitProducerIdRequest
) -> InitProducerIdResponse | Awaitable[InitProducerIdResponse]:
    """Answer at once when an id is at hand; waits only for a block of ids."""
    error = _refusal(node, request)
    if error is not None:
        return _refused(error)
    producer_id = node.producer_ids.take()
    if producer_id is None:
        return _wait(node)
    return _granted(producer_id)


def _refusal(node: "Node", request: InitProducerIdRequest) -> ErrorCode | None:
    if (request.producer_id == NO_PRODUCER_ID) != (request.producer_epoch == NO_EPOCH):
        return ErrorCode.INVALID_REQUEST
    if request.transactional_id is None:
        return None
    if not request.transactional_id:
        return ErrorCode.INVALID_REQUEST
    if not 0 < request.transaction_timeout_ms <= node.config.transaction_max_timeout_ms:
        return ErrorCode.INVALID_TRANSACTION_TIMEOUT
    return ErrorCode.NOT_COORDINATOR


async def _wait(node: "Node") -> InitProducerIdResponse:
    producer_id = await node.producer_ids.next()
    if producer_id is None:
        return _refused(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
    return _granted(producer_id)


def _granted(producer_id: int) -> InitProducerIdResponse:
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=FIRST_EPOCH)


def _refused(error: ErrorCode) -> InitProducerIdResponse:
    return InitProducerIdResponse(
        error_code=error, producer_id=NO_PRODUCER_ID, producer_epoch=NO_EPOCH
    )
