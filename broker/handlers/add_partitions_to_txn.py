"""AddPartitionsToTxn (key 24): partitions join a producer's transaction, and begin it (KIP-98).

Versions 0-5: 1 throttling after the answer (KIP-219); 2 PRODUCER_FENCED instead of
INVALID_PRODUCER_EPOCH (KIP-588); 3 flexible (KIP-482); 4 and 5 are for brokers: several
transactions in one request, which may only be verified (KIP-890).

A transaction with a partition that the cluster does not know takes none: UNKNOWN_TOPIC_OR_PARTITION
for that one, OPERATION_NOT_ATTEMPTED for the others. The same for clients that name one of the
broker's own topics, TOPIC_AUTHORIZATION_FAILED. Such a refusal and a verification tell each topic
and partition once; any other answer has the rows of the request, also those named twice and topics
without partitions, as by Apache Kafka. Left out: authorization.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from broker.cluster.view import INTERNAL_TOPICS, ClusterView
from broker.transactions.state import TopicPartition
from broker.transactions.verification import ADDED_BY_CLIENT, ADDED_HERE
from broker.waiting import gather, then
from protocol.errors import ErrorCode
from protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTopicResult,
    AddPartitionsToTxnTransaction,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

BATCHED_SINCE = 4
FENCED_SINCE = 2


def handle(node: "Node", context: "Context", request: AddPartitionsToTxnRequest) -> Any:
    """Answer once every transaction's partitions are on record."""
    version = context.version
    if version >= BATCHED_SINCE:
        results = [_take(node, version, one) for one in request.transactions]
        return gather(
            results,
            lambda topics: AddPartitionsToTxnResponse(
                results_by_transaction=[
                    AddPartitionsToTxnResult(one.transactional_id, answer)
                    for one, answer in zip(request.transactions, topics, strict=True)
                ]
            ),
        )
    one = AddPartitionsToTxnTransaction(
        request.v3_and_below_transactional_id,
        request.v3_and_below_producer_id,
        request.v3_and_below_producer_epoch,
        topics=request.v3_and_below_topics,
    )
    return then(
        _take(node, version, one),
        lambda topics: AddPartitionsToTxnResponse(results_by_topic_v3_and_below=topics),
    )


def _take(node: "Node", version: int, one: AddPartitionsToTxnTransaction) -> Any:
    """The rows of one transaction, or who will have them."""
    keys = list(dict.fromkeys((t.name, index) for t in one.topics for index in t.partitions))
    for_all, for_each = partial(_same_for_all, version, one.topics), partial(_rows, version)
    refused = _refused(node.metadata.view, version, keys)
    if refused:
        return for_each({**dict.fromkeys(keys, ErrorCode.OPERATION_NOT_ATTEMPTED), **refused})
    tid, producer = one.transactional_id, (one.producer_id, one.producer_epoch)
    if not tid:
        return for_all(ErrorCode.INVALID_REQUEST)
    if one.verify_only:
        result = node.transactions.read(
            tid,
            lambda machine: machine.verify(tid, producer, keys),
            lambda code: [code] * len(keys),
        )
        return then(result, lambda codes: for_each(dict(zip(keys, codes, strict=True))))
    client = ADDED_HERE if version >= BATCHED_SINCE else ADDED_BY_CLIENT
    result = node.transactions.write(
        tid,
        lambda machine, who, now_ms: machine.add_partitions(
            who, now_ms, tid, producer, keys, client
        ),
        lambda code: code,
    )
    return then(result, for_all)


def _refused(
    view: ClusterView, version: int, keys: list[TopicPartition]
) -> dict[TopicPartition, ErrorCode]:
    """What may not be added."""
    refused = {}
    for topic, index in keys:
        if version < BATCHED_SINCE and topic in INTERNAL_TOPICS:
            refused[topic, index] = ErrorCode.TOPIC_AUTHORIZATION_FAILED
        elif view.partition(topic, index) is None:
            refused[topic, index] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return refused


def _same_for_all(
    version: int, topics: list[AddPartitionsToTxnTopic], code: ErrorCode
) -> list[AddPartitionsToTxnTopicResult]:
    """Rows as the request has them."""
    told = _told(version, code)
    return [
        AddPartitionsToTxnTopicResult(
            topic.name, [AddPartitionsToTxnPartitionResult(i, told) for i in topic.partitions]
        )
        for topic in topics
    ]


def _rows(
    version: int, codes: dict[TopicPartition, ErrorCode]
) -> list[AddPartitionsToTxnTopicResult]:
    """A row for each topic that has partitions."""
    rows: dict[str, AddPartitionsToTxnTopicResult] = {}
    for (name, index), code in codes.items():
        row = rows.setdefault(name, AddPartitionsToTxnTopicResult(name))
        row.results_by_partition.append(
            AddPartitionsToTxnPartitionResult(index, _told(version, code))
        )
    return list(rows.values())


def _told(version: int, code: ErrorCode) -> ErrorCode:
    fenced = version < FENCED_SINCE and code == ErrorCode.PRODUCER_FENCED
    return ErrorCode.INVALID_PRODUCER_EPOCH if fenced else code
