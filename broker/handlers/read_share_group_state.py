"""ReadShareGroupState (key 84): the state of share partitions, for their leader (KIP-932). Leaders
send it to the share coordinator.

Version 0. Leaders of earlier epochs are fenced from then on; INVALID_REQUEST where there is no
state.

Left out: authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.shares.persister import refusal
from broker.shares.serving import answer_each
from broker.shares.state import Answer
from protocol.messages.read_share_group_state import (
    PartitionResult,
    ReadShareGroupStateRequest,
    ReadShareGroupStateResponse,
    ReadStateResult,
    StateBatch,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: ReadShareGroupStateRequest) -> Any:
    """The response, or who will have it."""
    return answer_each(
        request,
        lambda key, one: node.share_states.write(
            str(key),
            lambda machine, who, now: machine.read(key, one.leader_epoch, who, now),
            refusal,
        ),
        lambda topics: ReadShareGroupStateResponse(
            results=[
                ReadStateResult(topic_id, [_row(index, answer) for index, answer in rows])
                for topic_id, rows in topics
            ]
        ),
    )


def _row(index: int, answer: Answer) -> PartitionResult:
    state = answer.state
    if state is None:
        return PartitionResult(index, answer.code, answer.message)
    return PartitionResult(
        index,
        state_epoch=state.state_epoch,
        start_offset=state.start_offset,
        state_batches=[StateBatch(*batch) for batch in state.batches],
    )
