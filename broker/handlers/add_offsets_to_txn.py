"""AddOffsetsToTxn (key 25): a group's committed offsets join a producer's transaction (KIP-98).

Versions 0-4: 1 throttling after the answer (KIP-219); 2 PRODUCER_FENCED instead of
INVALID_PRODUCER_EPOCH (KIP-588); 3 flexible (KIP-482); 4 TRANSACTION_ABORTABLE may be answered
(KIP-890).

What joins is the partition of __consumer_offsets that coordinates the group, whether the topic is
there yet or not. Left out: authorization.
"""

from typing import TYPE_CHECKING, Any

from broker import auto_topics
from broker.cluster.view import OFFSETS_TOPIC
from broker.transactions.verification import ADDED_BY_CLIENT
from broker.waiting import then
from protocol.errors import ErrorCode
from protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse

if TYPE_CHECKING:
    from broker.context import Context, Node

FENCED_SINCE = 2


def handle(node: "Node", context: "Context", request: AddOffsetsToTxnRequest) -> Any:
    """Answer once the partition is on record."""
    tid, producer = request.transactional_id, (request.producer_id, request.producer_epoch)
    if not tid:
        return AddOffsetsToTxnResponse(error_code=ErrorCode.INVALID_REQUEST)
    version = context.version
    index = node.groups.partition_for(request.group_id)
    if index is None:
        count = node.config.offsets_topic_num_partitions
        index = auto_topics.coordinator_partition(request.group_id, count)
    partitions = [(OFFSETS_TOPIC, index)]
    result = node.transactions.write(
        tid,
        lambda machine, who, now_ms: machine.add_partitions(
            who, now_ms, tid, producer, partitions, ADDED_BY_CLIENT
        ),
        lambda code: code,
    )

    def respond(code: ErrorCode) -> AddOffsetsToTxnResponse:
        if version < FENCED_SINCE and code == ErrorCode.PRODUCER_FENCED:
            code = ErrorCode.INVALID_PRODUCER_EPOCH
        return AddOffsetsToTxnResponse(error_code=code)

    return then(result, respond)
