"""CreateAcls (key 30): access rules to be made (KIP-140).

Versions 0 to 3, see the messages. SECURITY_DISABLED for each: there is no authorizer
(`broker.acls`).
"""

from typing import TYPE_CHECKING

from broker.acls import REFUSAL, require_known
from protocol.errors import ErrorCode
from protocol.messages.create_acls import AclCreationResult, CreateAclsRequest, CreateAclsResponse

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: CreateAclsRequest) -> CreateAclsResponse:
    """Refuse all."""
    for rule in request.creations:
        require_known(
            rule.resource_type, rule.resource_pattern_type, rule.operation, rule.permission_type
        )
    refused = AclCreationResult(ErrorCode.SECURITY_DISABLED, REFUSAL)
    return CreateAclsResponse(results=[refused] * len(request.creations))
