"""LeaderAndIsr (key 4): the controller says which partitions this broker leads and follows.

Versions 0-7: 1 new partitions are marked; 2 broker epoch, partitions by topic (KIP-380); 3 replicas
on their way in and out (KIP-455); 4 flexible; 5 topic ids, also in the answer (KIP-516); 6 leader
recovery state (KIP-704); 7 a KRaft controller says so (KIP-866), and is refused.

A partition is refused whose leader epoch is not newer than the present one, whose topic id is
another, or that has no replica here (`broker.replicas`). Left out: authorization.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from protocol.messages.leader_and_isr import (
    LeaderAndIsrPartitionError,
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
    LeaderAndIsrTopicState,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

BY_TOPIC_SINCE = 2
IDS_SINCE = 5


def handle(
    node: "Node", context: "Context", request: LeaderAndIsrRequest
) -> Awaitable[LeaderAndIsrResponse]:
    """Bring the request into its newest form, and the answer into the version asked for."""
    return _handle(node, context.version, request)


async def _handle(node: "Node", version: int, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse:
    if version < BY_TOPIC_SINCE:
        topics: dict[str, LeaderAndIsrTopicState] = {}
        for state in request.ungrouped_partition_states:
            topic = topics.setdefault(state.topic_name, LeaderAndIsrTopicState(state.topic_name))
            topic.partition_states.append(state)
        request.topic_states = list(topics.values())
    # A topic without partitions is not answered.
    request.topic_states = [topic for topic in request.topic_states if topic.partition_states]
    response = await node.control.take(request)
    assert isinstance(response, LeaderAndIsrResponse)
    if version < IDS_SINCE:
        # Topics are answered in the order asked: without ids only that tells which is which.
        response.partition_errors = [
            LeaderAndIsrPartitionError(topic.topic_name, error.partition_index, error.error_code)
            for topic, answer in zip(request.topic_states, response.topics, strict=True)
            for error in answer.partition_errors
        ]
        response.topics = []
    return response
