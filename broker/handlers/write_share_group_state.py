"""WriteShareGroupState (key 85): what happened to records of share partitions (KIP-932). Leaders
send it to the share coordinator.

Versions 0-1: 1 the count of records that are done with (KIP-1226). A leader or state epoch that is
not the last one known is fenced; INVALID_REQUEST where there is no state.

Left out: authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.shares.common import StateBatch
from broker.shares.persister import refusal
from broker.shares.serving import answer_each
from broker.shares.state import Change
from protocol.messages.write_share_group_state import (
    PartitionData,
    PartitionResult,
    WriteShareGroupStateRequest,
    WriteShareGroupStateResponse,
    WriteStateResult,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: WriteShareGroupStateRequest) -> Any:
    """The response, or who will have it."""
    return answer_each(
        request,
        lambda key, one: node.share_states.write(
            str(key), lambda machine, who, now: machine.write(key, _change(one), who, now), refusal
        ),
        lambda topics: WriteShareGroupStateResponse(
            results=[
                WriteStateResult(
                    topic_id,
                    [PartitionResult(index, answer.code, answer.message) for index, answer in rows],
                )
                for topic_id, rows in topics
            ]
        ),
    )


def _change(one: PartitionData) -> Change:
    return Change(
        one.state_epoch,
        one.leader_epoch,
        one.start_offset,
        one.delivery_complete_count,
        tuple(
            StateBatch(b.first_offset, b.last_offset, b.delivery_state, b.delivery_count)
            for b in one.state_batches
        ),
    )
