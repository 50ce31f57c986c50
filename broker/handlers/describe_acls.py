"""DescribeAcls (key 29): access rules that match a filter (KIP-140).

Versions 0 to 3, see the messages. SECURITY_DISABLED: there is no authorizer (`broker.acls`).
"""

from typing import TYPE_CHECKING

from broker.acls import REFUSAL_OF_ONE, require_known
from protocol.errors import ErrorCode
from protocol.messages.describe_acls import DescribeAclsRequest, DescribeAclsResponse

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: DescribeAclsRequest) -> DescribeAclsResponse:
    """Refuse."""
    require_known(
        request.resource_type_filter,
        request.pattern_type_filter,
        request.operation,
        request.permission_type,
    )
    return DescribeAclsResponse(
        error_code=ErrorCode.SECURITY_DISABLED, error_message=REFUSAL_OF_ONE
    )
