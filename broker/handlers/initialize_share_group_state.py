"""InitializeShareGroupState (key 83): share partitions get a state (KIP-932). Brokers send it to
the share coordinator.

Version 0. A state that is there begins anew; its epoch may not go back, else FENCED_STATE_EPOCH.

Left out: authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.shares.persister import refusal
from broker.shares.serving import answer_each
from protocol.messages.initialize_share_group_state import (
    InitializeShareGroupStateRequest,
    InitializeShareGroupStateResponse,
    InitializeStateResult,
    PartitionResult,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: InitializeShareGroupStateRequest) -> Any:
    """The response, or who will have it."""
    return answer_each(
        request,
        lambda key, one: node.share_states.write(
            str(key),
            lambda machine, who, now: machine.initialize(
                key, one.state_epoch, one.start_offset, who, now
            ),
            refusal,
        ),
        lambda topics: InitializeShareGroupStateResponse(
            results=[
                InitializeStateResult(
                    topic_id,
                    [PartitionResult(index, answer.code, answer.message) for index, answer in rows],
                )
                for topic_id, rows in topics
            ]
        ),
    )
