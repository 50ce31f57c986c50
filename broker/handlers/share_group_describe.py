"""ShareGroupDescribe (key 77): epochs, members and assignments of share groups (KIP-932).

Version 1. Served where the feature share.version is finalized at 1, else UNSUPPORTED_VERSION.
Groups without a name are answered first, as in Apache Kafka. Left out: version 0, an early access;
authorization, every operation is allowed.
"""

from typing import TYPE_CHECKING

from broker.cluster.features import SHARE_VERSION
from broker.handlers.consumer_group_describe import OPERATIONS
from protocol.errors import ErrorCode
from protocol.messages.share_group_describe import (
    DescribedGroup,
    ShareGroupDescribeRequest,
    ShareGroupDescribeResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(
    node: "Node", context: "Context", request: ShareGroupDescribeRequest
) -> ShareGroupDescribeResponse:
    """Answer from memory."""
    if node.features.level(SHARE_VERSION) < 1:
        groups = [_refused(ErrorCode.UNSUPPORTED_VERSION, name) for name in request.group_ids]
        return ShareGroupDescribeResponse(groups=groups)
    groups = [_describe(node, group_id) for group_id in sorted(request.group_ids, key=bool)]
    if request.include_authorized_operations:
        for group in groups:
            if group.error_code == ErrorCode.NONE:
                group.authorized_operations = OPERATIONS
    return ShareGroupDescribeResponse(groups=groups)


def _describe(node: "Node", group_id: str) -> DescribedGroup:
    if not group_id:
        return _refused(ErrorCode.INVALID_GROUP_ID, group_id)
    machine = node.groups.find(group_id)
    if isinstance(machine, ErrorCode):
        return _refused(machine, group_id)
    return machine.share.describe(group_id)


def _refused(code: ErrorCode, group_id: str) -> DescribedGroup:
    return DescribedGroup(code, group_id=group_id)
