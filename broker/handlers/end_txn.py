"""EndTxn (key 26): a producer commits or aborts its transaction (KIP-98).

Versions 0-5: 1 throttling after the answer (KIP-219); 2 PRODUCER_FENCED instead of
INVALID_PRODUCER_EPOCH (KIP-588); 3 flexible (KIP-482); 4 TRANSACTION_ABORTABLE may be answered
(KIP-890); 5 transactions of version 2: each end raises the producer's epoch, which the answer tells
(KIP-890).

Answered when the decision is on record; the markers are written afterwards. Left out:
authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.transactions.machine import EPOCH_BUMP, Answer
from broker.waiting import then
from protocol.errors import ErrorCode
from protocol.messages.end_txn import EndTxnRequest, EndTxnResponse

if TYPE_CHECKING:
    from broker.context import Context, Node

FENCED_SINCE = 2
EPOCHS_SINCE = 5


def handle(node: "Node", context: "Context", request: EndTxnRequest) -> Any:
    """Answer once the end is on record."""
    tid, producer = request.transactional_id, (request.producer_id, request.producer_epoch)
    if not tid:
        return EndTxnResponse(error_code=ErrorCode.INVALID_REQUEST)
    version = context.version
    client = EPOCH_BUMP if version >= EPOCHS_SINCE else 0
    result = node.transactions.write(
        tid,
        lambda machine, who, now_ms: machine.end(
            who, now_ms, tid, producer, request.committed, client
        ),
        Answer,
    )

    def respond(answer: Answer) -> EndTxnResponse:
        code = answer.error
        if version < FENCED_SINCE and code == ErrorCode.PRODUCER_FENCED:
            code = ErrorCode.INVALID_PRODUCER_EPOCH
        return EndTxnResponse(
            error_code=code,
            producer_id=answer.producer_id,
            producer_epoch=answer.producer_epoch,
        )

    return then(result, respond)
