"""ReadShareGroupStateSummary (key 87): where share partitions stand (KIP-932). Group
coordinators send it to the share coordinator.

Versions 0-1: 1 the count of records that are done with (KIP-1226). A share partition without a
state stands at -1.

Left out: authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.shares.persister import refusal
from broker.shares.serving import answer_each
from broker.shares.state import Answer
from protocol.messages.read_share_group_state_summary import (
    PartitionResult,
    ReadShareGroupStateSummaryRequest,
    ReadShareGroupStateSummaryResponse,
    ReadStateSummaryResult,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: ReadShareGroupStateSummaryRequest) -> Any:
    """The response, or who will have it."""
    return answer_each(
        request,
        lambda key, _: node.share_states.read(
            str(key), lambda machine: machine.summary(key), refusal
        ),
        lambda topics: ReadShareGroupStateSummaryResponse(
            results=[
                ReadStateSummaryResult(topic_id, [_row(index, answer) for index, answer in rows])
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
        leader_epoch=state.leader_epoch,
        start_offset=state.start_offset,
        delivery_complete_count=state.complete_count,
    )
