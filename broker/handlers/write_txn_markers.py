"""WriteTxnMarkers (key 27): end a producer's transaction at partitions that this broker leads.

Versions 0-2: 1 flexible (KIP-482); 2 the version of the transaction: from 2 on the marker's epoch
must be new to the partition (KIP-1228).

Sent by transaction coordinators, and by whoever aborts a hanging transaction (KIP-664). Codes are
those of `broker.transactions.markers.write_markers`. A marker without partitions is not answered,
as Apache Kafka does; neither is a producer id named twice there, each is answered here. Left out:
authorization.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from broker.coordinator import Waiting
from broker.transactions.markers import Marker, Results, write_markers
from protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: WriteTxnMarkersRequest) -> Any:
    """Answer once every marker is replicated or refused."""
    markers = [one for one in request.markers if any(t.partition_indexes for t in one.topics)]
    if not markers:
        return WriteTxnMarkersResponse()
    waiting = Waiting(lambda code: code)
    results: dict[int, WritableTxnMarkerResult] = {}

    def written(number: int, codes: Results) -> None:
        results[number] = _result(markers[number], codes)
        if len(results) == len(markers):
            waiting.answer(WriteTxnMarkersResponse(markers=[r for _, r in sorted(results.items())]))

    for number, one in enumerate(markers):
        marker = Marker(
            one.producer_id,
            one.producer_epoch,
            one.transaction_result,
            one.coordinator_epoch,
            one.transaction_version,
        )
        partitions = [(t.name, index) for t in one.topics for index in t.partition_indexes]
        write_markers(node, marker, partitions, partial(written, number))
    return waiting.response if waiting.done else waiting


def _result(one: WritableTxnMarker, codes: Results) -> WritableTxnMarkerResult:
    topics: dict[str, WritableTxnMarkerTopicResult] = {}
    for topic in one.topics:
        for index in topic.partition_indexes:
            row = topics.setdefault(topic.name, WritableTxnMarkerTopicResult(topic.name))
            row.partitions.append(WritableTxnMarkerPartitionResult(index, codes[topic.name, index]))
    return WritableTxnMarkerResult(one.producer_id, list(topics.values()))
