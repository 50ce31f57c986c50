"""AlterPartitionReassignments (key 45): partitions are moved to other replicas (KIP-455).

Versions 0-1: 1 whether the number of replicas may change (KIP-860). Null replicas end a move by
going back to the replicas before it; another move of a partition takes the place of one that is
under way.

The answer says that the moves have begun, not that they are done: ListPartitionReassignments tells.
Up to version 0, as Apache Kafka in ZooKeeper mode has it, replicas are looked at before whether the
partition is there; from version 1 on it is the other way round. Of a partition named twice the last
entry holds. Not the controller: NOT_CONTROLLER for the whole answer. The time limit is not needed.
Left out: authorization.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from broker.controller.run import NotController
from protocol.errors import ErrorCode
from protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

NEWER_SINCE = 1
"""Versions that only Apache Kafka 4.x serves, and details in which it is another."""


def handle(
    node: "Node", context: "Context", request: AlterPartitionReassignmentsRequest
) -> AlterPartitionReassignmentsResponse | Awaitable[AlterPartitionReassignmentsResponse]:
    """Ask the controller, if it is here."""
    if not node.controller.active:
        return _not_controller(request)
    return _handle(node, request, context.version)


def _not_controller(
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse:
    code = ErrorCode.NOT_CONTROLLER
    return AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=request.allow_replication_factor_change,
        error_code=code,
        error_message=code.message,
    )


async def _handle(
    node: "Node", request: AlterPartitionReassignmentsRequest, version: int
) -> AlterPartitionReassignmentsResponse:
    from broker.controller.reassign import Rules, Target

    targets = {
        (topic.name, p.partition_index): Target(
            (topic.name, p.partition_index), None if p.replicas is None else tuple(p.replicas)
        )
        for topic in request.topics
        for p in topic.partitions
    }
    rules = Rules(
        fixed_count=not request.allow_replication_factor_change,
        known_first=version >= NEWER_SINCE,
    )
    try:
        answers = await node.controller.alter_reassignments(list(targets.values()), rules)
    except NotController:
        return _not_controller(request)
    topics: dict[str, ReassignableTopicResponse] = {}
    if version >= NEWER_SINCE:
        topics = {topic.name: ReassignableTopicResponse(topic.name) for topic in request.topics}
    for (name, index), refusal in answers.items():
        code = ErrorCode.NONE if refusal is None else refusal.code
        message = None if refusal is None else refusal.message or code.message
        topic = topics.setdefault(name, ReassignableTopicResponse(name))
        topic.partitions.append(ReassignablePartitionResponse(index, code, message))
    return AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=request.allow_replication_factor_change,
        error_message=None if version >= NEWER_SINCE and request.topics else "",
        responses=list(topics.values()),
    )
