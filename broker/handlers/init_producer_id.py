"""InitProducerId (key 22): an id for an idempotent or transactional producer (KIP-98).

Versions 0-5: 1 throttling after the answer (KIP-219); 2 flexible (KIP-482); 3 the producer may
name the id and epoch it has (KIP-360); 4 PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH
(KIP-588); 5 TRANSACTION_ABORTABLE may be answered (KIP-890).

Without a transactional id each request gets a fresh producer id with epoch 0, whatever id and
epoch it names; COORDINATOR_LOAD_IN_PROGRESS while the controller has not granted a block of ids.
As Apache Kafka checks them: id without epoch or epoch without id INVALID_REQUEST, then (only with
a transactional id) an empty one INVALID_REQUEST, a timeout that is not above 0 or is above
transaction.max.timeout.ms INVALID_TRANSACTION_TIMEOUT. What a transactional id is answered is in
`broker.transactions.machine`.

Left out: two-phase commit (version 6, KIP-939), not stable yet; authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.transactions.machine import Answer
from broker.waiting import settled, then
from protocol.errors import ErrorCode
from protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from broker.context import Context, Node

NO_PRODUCER_ID = -1
NO_EPOCH = -1
FIRST_EPOCH = 0
FENCED_SINCE = 4


def handle(node: "Node", context: "Context", request: InitProducerIdRequest) -> Any:
    """Answer at once when an id is at hand (waits only for a block of ids), or when the coordinator
    has."""
    error = _refusal(node, request)
    if error is not None:
        return _response(Answer(error))
    if request.transactional_id is None:
        producer_id = node.producer_ids.take()
        return _wait(node) if producer_id is None else _granted(producer_id)
    if not node.producer_ids.left:
        return _ask_with_ids(node, context.version, request)
    return _ask(node, context.version, request)


def _refusal(node: "Node", request: InitProducerIdRequest) -> ErrorCode | None:
    if (request.producer_id == NO_PRODUCER_ID) != (request.producer_epoch == NO_EPOCH):
        return ErrorCode.INVALID_REQUEST
    if request.transactional_id is None:
        return None
    if not request.transactional_id:
        return ErrorCode.INVALID_REQUEST
    if not 0 < request.transaction_timeout_ms <= node.config.transaction_max_timeout_ms:
        return ErrorCode.INVALID_TRANSACTION_TIMEOUT
    return None


async def _wait(node: "Node") -> InitProducerIdResponse:
    producer_id = await node.producer_ids.next()
    if producer_id is None:
        return _response(Answer(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS))
    return _granted(producer_id)


def _ask(node: "Node", version: int, request: InitProducerIdRequest) -> Any:
    transactional_id = request.transactional_id
    assert transactional_id is not None
    expected = None
    if request.producer_id != NO_PRODUCER_ID:
        expected = (request.producer_id, request.producer_epoch)

    def respond(answer: Answer) -> InitProducerIdResponse:
        if version < FENCED_SINCE and answer.error == ErrorCode.PRODUCER_FENCED:
            answer = Answer(ErrorCode.INVALID_PRODUCER_EPOCH)
        return _response(answer)

    result = node.transactions.write(
        transactional_id,
        lambda machine, who, now_ms: machine.init_producer_id(
            who, now_ms, transactional_id, request.transaction_timeout_ms, expected
        ),
        Answer,
    )
    return then(result, respond)


async def _ask_with_ids(
    node: "Node", version: int, request: InitProducerIdRequest
) -> InitProducerIdResponse:
    """The coordinator may need a producer id: have some first."""
    await node.producer_ids.ready()
    response: InitProducerIdResponse = await settled(_ask(node, version, request))
    return response


def _granted(producer_id: int) -> InitProducerIdResponse:
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=FIRST_EPOCH)


def _response(answer: Answer) -> InitProducerIdResponse:
    return InitProducerIdResponse(
        error_code=answer.error,
        producer_id=answer.producer_id,
        producer_epoch=answer.producer_epoch,
    )
