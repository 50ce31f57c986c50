"""ShareAcknowledge (key 79): a member of a share group says what became of the records that it has
(KIP-932).

Versions 1-2: 2 renewal of acquisition locks (KIP-1222), the duration of a lock in the answer.

Served where the feature share.version is finalized at 1, else UNSUPPORTED_VERSION. See
`broker.shares`. Left out: version 0, an early access; authorization.
"""

from typing import TYPE_CHECKING, Any

from broker.cluster.features import SHARE_VERSION
from broker.coordinator import Waiting
from broker.shares.acks import sort_out
from broker.shares.common import Refused, is_member_id
from broker.shares.leaders import leaders_of
from broker.shares.manager import Said
from broker.shares.sessions import CLOSE, OPEN, Asked
from broker.waiting import then
from protocol.errors import ErrorCode
from protocol.messages.share_acknowledge import (
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionData,
    ShareAcknowledgeRequest,
    ShareAcknowledgeResponse,
    ShareAcknowledgeTopicResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(node: "Node", context: "Context", request: ShareAcknowledgeRequest) -> Any:
    """The response, or who will have it once the acknowledgements are durable."""
    if node.features.level(SHARE_VERSION) < 1:
        return ShareAcknowledgeResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    group_id, member_id, epoch = request.group_id, request.member_id, request.share_session_epoch
    if group_id is None or member_id is None or not is_member_id(member_id):
        return ShareAcknowledgeResponse(error_code=ErrorCode.INVALID_REQUEST)
    shares, view, listener = node.shares, node.metadata.view, context.listener
    try:
        if epoch == OPEN:
            raise Refused(ErrorCode.INVALID_SHARE_SESSION_EPOCH, None)
        shares.sessions.resume((group_id, member_id), epoch)
    except Refused as refused:
        return ShareAcknowledgeResponse(error_code=refused.code)
    work, said = sort_out(request.topics, view, context.version, renew=request.is_renew_ack)
    acknowledged = Waiting(lambda code: {})
    shares.acknowledge(group_id, member_id, work.items(), acknowledged.answer)

    def answer(answers: dict[Asked, Said]) -> ShareAcknowledgeResponse:
        if epoch == CLOSE:
            shares.close_session((group_id, member_id))
        response = _response(node, listener, {**said, **answers})
        response.acquisition_lock_timeout_ms = shares.limits(group_id).lock_ms
        return response

    return then(acknowledged, answer)


def _response(node: "Node", listener: str, said: dict[Asked, Said]) -> ShareAcknowledgeResponse:
    codes = ((asked, one.code) for asked, one in said.items())
    leaders, brokers = leaders_of(codes, node.metadata.view, listener)
    topics: dict[bytes, ShareAcknowledgeTopicResponse] = {}
    for asked, (code, message) in said.items():
        row = PartitionData(asked.partition, code, message)
        if asked in leaders:
            row.current_leader = LeaderIdAndEpoch(*leaders[asked])
        topic_id = asked.topic_id
        topic = topics.setdefault(topic_id, ShareAcknowledgeTopicResponse(topic_id))
        topic.partitions.append(row)
    return ShareAcknowledgeResponse(
        responses=list(topics.values()),
        node_endpoints=[NodeEndpoint(*broker) for broker in brokers],
    )
