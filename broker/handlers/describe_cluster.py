"""DescribeCluster (key 60): the brokers, the controller and the cluster id (KIP-700).

Versions 0-2: 1 endpoint type, brokers or controllers (KIP-919); 2 fenced brokers (KIP-1073).
There are no separate controllers and no fenced brokers here. Left out: authorization.
"""

from typing import TYPE_CHECKING

from broker.handlers.metadata import CLUSTER_OPERATIONS
from protocol.errors import ErrorCode
from protocol.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

BROKERS, CONTROLLERS = 1, 2


def handle(
    node: "Node", context: "Context", request: DescribeClusterRequest
) -> DescribeClusterResponse:
    """Answer from the metadata cache."""
    if request.endpoint_type == CONTROLLERS:
        return DescribeClusterResponse(
            error_code=ErrorCode.MISMATCHED_ENDPOINT_TYPE,
            error_message="This is a broker's endpoint, not a controller's.",
        )
    if request.endpoint_type != BROKERS:
        return DescribeClusterResponse(
            error_code=ErrorCode.UNSUPPORTED_ENDPOINT_TYPE,
            error_message=f"There is no endpoint type {request.endpoint_type}.",
        )
    view = node.metadata.view
    response = DescribeClusterResponse(cluster_id=view.cluster_id, controller_id=view.controller_id)
    for broker_id, broker in sorted(view.brokers.items()):
        endpoint = broker.endpoints.get(context.listener)
        if endpoint is not None:
            response.brokers.append(DescribeClusterBroker(broker_id, *endpoint, broker.rack))
    if request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = CLUSTER_OPERATIONS
    return response
