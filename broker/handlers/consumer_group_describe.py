"""ConsumerGroupDescribe (key 69): epochs, members and assignments of consumer groups (KIP-848).

Versions 0-1: 1 the protocol that a member uses (KIP-1099).

Served where the feature group.version is finalized at 1, else UNSUPPORTED_VERSION. Groups without a
name are answered first, as in Apache Kafka. Left out: authorization; every operation is allowed.
"""

from typing import TYPE_CHECKING

from broker.cluster.features import GROUP_VERSION
from protocol.errors import ErrorCode
from protocol.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DescribedGroup,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

OPERATIONS = 3400
"""Read, delete, describe, describe and alter configs."""


def handle(
    node: "Node", context: "Context", request: ConsumerGroupDescribeRequest
) -> ConsumerGroupDescribeResponse:
    """Answer from memory."""
    group_ids = sorted(request.group_ids, key=bool)
    groups = [_describe(node, group_id) for group_id in group_ids]
    if request.include_authorized_operations:
        for group in groups:
            if group.error_code == ErrorCode.NONE:
                group.authorized_operations = OPERATIONS
    return ConsumerGroupDescribeResponse(groups=groups)


def _describe(node: "Node", group_id: str) -> DescribedGroup:
    if node.features.level(GROUP_VERSION) < 1:
        return DescribedGroup(ErrorCode.UNSUPPORTED_VERSION, group_id=group_id)
    if not group_id:
        return DescribedGroup(ErrorCode.INVALID_GROUP_ID, group_id=group_id)
    machine = node.groups.find(group_id)
    if isinstance(machine, ErrorCode):
        return DescribedGroup(machine, group_id=group_id)
    described: DescribedGroup = machine.consumer.describe(group_id)
    return described
