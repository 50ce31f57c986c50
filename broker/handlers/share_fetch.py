"""ShareFetch (key 78): a member of a share group acquires records, and acknowledges those that it
had before (KIP-932).

Versions 1-2: 2 acquire modes (KIP-1206), renewal of acquisition locks (KIP-1222).

Served where the feature share.version is finalized at 1, else UNSUPPORTED_VERSION. See
`broker.shares`. Left out: version 0, an early access; authorization; quotas; fetches from
followers, which a share group never does.
"""

from typing import TYPE_CHECKING, Any

from broker.cluster.features import SHARE_VERSION
from broker.shares.common import Refused, is_member_id
from broker.shares.fetch import ShareFetch
from broker.shares.fetch_wire import encode_response
from protocol.errors import ErrorCode
from protocol.messages.share_fetch import ShareFetchRequest

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: ShareFetchRequest) -> Any:
    """The answer's pieces, or who will have them."""
    try:
        _check(node, request)
        return ShareFetch(node, context, request).begin()
    except Refused as refused:
        return encode_response(context.correlation_id, refused.code, 0, message=refused.message)


def _check(node: "Node", request: ShareFetchRequest) -> None:
    """Raises Refused."""
    if node.features.level(SHARE_VERSION) < 1:
        raise Refused(ErrorCode.UNSUPPORTED_VERSION, None)
    if request.group_id is None or not is_member_id(request.member_id):
        raise Refused(ErrorCode.INVALID_REQUEST, None)
    if request.is_renew_ack and (
        request.max_bytes or request.min_bytes or request.max_records or request.max_wait_ms
    ):
        raise Refused(ErrorCode.INVALID_REQUEST, None)
