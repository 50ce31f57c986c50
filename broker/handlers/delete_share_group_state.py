"""DeleteShareGroupState (key 86): share partitions lose their state (KIP-932). Brokers send it to
the share coordinator.

Version 0. A state that is not there is deleted already.

Left out: authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.shares.persister import refusal
from broker.shares.serving import answer_each
from protocol.messages.delete_share_group_state import (
    DeleteShareGroupStateRequest,
    DeleteShareGroupStateResponse,
    DeleteStateResult,
    PartitionResult,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: DeleteShareGroupStateRequest) -> Any:
    """The response, or who will have it."""
    return answer_each(
        request,
        lambda key, _: node.share_states.write(
            str(key), lambda machine, who, now: machine.delete(key, who, now), refusal
        ),
        lambda topics: DeleteShareGroupStateResponse(
            results=[
                DeleteStateResult(
                    topic_id,
                    [PartitionResult(index, answer.code, answer.message) for index, answer in rows],
                )
                for topic_id, rows in topics
            ]
        ),
    )
