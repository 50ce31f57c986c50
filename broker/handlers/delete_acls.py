"""DeleteAcls (key 31): access rules that match one of several filters are to go (KIP-140).

Versions 0 to 3, see the messages. SECURITY_DISABLED for each filter: there is no authorizer
(`broker.acls`).
"""

from typing import TYPE_CHECKING

from broker.acls import REFUSAL, require_known
from protocol.errors import ErrorCode
from protocol.messages.delete_acls import (
    DeleteAclsFilterResult,
    DeleteAclsRequest,
    DeleteAclsResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: DeleteAclsRequest) -> DeleteAclsResponse:
    """Refuse all."""
    for each in request.filters:
        require_known(
            each.resource_type_filter,
            each.pattern_type_filter,
            each.operation,
            each.permission_type,
        )
    refused = DeleteAclsFilterResult(ErrorCode.SECURITY_DISABLED, REFUSAL)
    return DeleteAclsResponse(filter_results=[refused] * len(request.filters))
