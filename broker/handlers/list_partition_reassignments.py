"""ListPartitionReassignments (key 46): what is on its way to other replicas (KIP-455).

Version 0. Null asks for all of them. Partitions that do not move, or are not there, are left out.
Not the controller: NOT_CONTROLLER for the whole answer. The time limit is not needed. Left out:
authorization.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from broker.controller.run import NotController
from protocol.errors import ErrorCode
from protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment,
    OngoingTopicReassignment,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(
    node: "Node", context: "Context", request: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse | Awaitable[ListPartitionReassignmentsResponse]:
    """Ask the controller, if it is here."""
    return _handle(node, request) if node.controller.active else _not_controller()


def _not_controller() -> ListPartitionReassignmentsResponse:
    code = ErrorCode.NOT_CONTROLLER
    return ListPartitionReassignmentsResponse(error_code=code, error_message=code.message)


async def _handle(
    node: "Node", request: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse:
    keys = None
    if request.topics is not None:
        named = [(topic.name, i) for topic in request.topics for i in topic.partition_indexes]
        keys = list(dict.fromkeys(named))
    try:
        moving = await node.controller.reassignments(keys)
    except NotController:
        return _not_controller()
    topics: dict[str, OngoingTopicReassignment] = {}
    for (name, index), assignment in moving.items():
        topics.setdefault(name, OngoingTopicReassignment(name)).partitions.append(
            OngoingPartitionReassignment(
                index,
                list(assignment.replicas),
                list(assignment.adding),
                list(assignment.removing),
            )
        )
    return ListPartitionReassignmentsResponse(topics=list(topics.values()))
