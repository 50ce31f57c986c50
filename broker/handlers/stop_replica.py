"""StopReplica (key 5): the controller says which replicas are to stop, and which of them to go.

Versions 0-4: 1 broker epoch, partitions by topic (KIP-380); 2 flexible; 3 leader epochs, deletion
by partition (KIP-570); 4 a KRaft controller says so (KIP-866), and is refused.

A replica whose leader epoch is newer than the request's stays (FENCED_LEADER_EPOCH); -1 and -2 (the
topic is being deleted) are never older. Deleting what is not there is done already. Left out:
authorization.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from protocol.messages.stop_replica import (
    StopReplicaPartitionState,
    StopReplicaRequest,
    StopReplicaResponse,
    StopReplicaTopicState,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

BY_TOPIC_SINCE = 1
EPOCHS_SINCE = 3


def handle(
    node: "Node", context: "Context", request: StopReplicaRequest
) -> Awaitable[StopReplicaResponse]:
    """Bring the request into its newest form."""
    return _handle(node, context.version, request)


async def _handle(node: "Node", version: int, request: StopReplicaRequest) -> StopReplicaResponse:
    if version < EPOCHS_SINCE:
        topics: dict[str, list[int]] = {}
        if version < BY_TOPIC_SINCE:
            for one in request.ungrouped_partitions:
                topics.setdefault(one.topic_name, []).append(one.partition_index)
        else:
            for topic in request.topics:
                topics.setdefault(topic.name, []).extend(topic.partition_indexes)
        request.topic_states = [
            StopReplicaTopicState(
                name,
                [
                    StopReplicaPartitionState(index, -1, request.delete_partitions)
                    for index in indexes
                ],
            )
            for name, indexes in topics.items()
        ]
    response = await node.control.take(request)
    assert isinstance(response, StopReplicaResponse)
    return response
