"""DescribeTransactions (key 65): the states of transactional ids that this broker coordinates
(KIP-664).

Version 0. While a transaction is ending, the partitions that have their marker are not listed any
more. An empty id is INVALID_REQUEST, an unknown one TRANSACTIONAL_ID_NOT_FOUND. Left out:
authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.transactions.machine import TransactionMachine
from broker.transactions.state import by_topic
from broker.waiting import gather
from protocol.errors import ErrorCode
from protocol.messages.describe_transactions import (
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
    TopicData,
    TransactionState,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: DescribeTransactionsRequest) -> Any:
    """Answer when all that is told of is replicated."""
    return gather(
        [_describe(node, tid) for tid in request.transactional_ids],
        lambda states: DescribeTransactionsResponse(transaction_states=states),
    )


def _describe(node: "Node", transactional_id: str) -> Any:
    if not transactional_id:
        return _refused(transactional_id, ErrorCode.INVALID_REQUEST)
    return node.transactions.read(
        transactional_id,
        lambda machine: _state(machine, transactional_id),
        lambda code: _refused(transactional_id, code),
    )


def _refused(transactional_id: str, code: ErrorCode) -> TransactionState:
    return TransactionState(error_code=code, transactional_id=transactional_id)


def _state(machine: TransactionMachine, transactional_id: str) -> TransactionState:
    found = machine.transactions.get(transactional_id)
    if found is None:
        return _refused(transactional_id, ErrorCode.TRANSACTIONAL_ID_NOT_FOUND)
    return TransactionState(
        transactional_id=transactional_id,
        transaction_state=found.state.title,
        transaction_timeout_ms=found.timeout_ms,
        transaction_start_time_ms=found.start_ms,
        producer_id=found.producer_id,
        producer_epoch=found.producer_epoch,
        topics=[TopicData(*row) for row in by_topic(found.partitions).items()],
    )
