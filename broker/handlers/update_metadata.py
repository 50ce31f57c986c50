"""UpdateMetadata (key 6): the controller says what the cluster looks like.

Versions 0-8: 1 several endpoints a broker; 2 rack (KIP-36); 3 listener names (KIP-103); 4 offline
replicas (KIP-112); 5 broker epoch, partitions by topic (KIP-380); 6 flexible; 7 topic ids
(KIP-516); 8 a KRaft controller says so (KIP-866), and is refused.

Partial: partitions that are not named stay as they are, the brokers named are all that live. Before
version 3 a listener is named like its security protocol. Left out: authorization.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from protocol.messages.update_metadata import (
    UpdateMetadataBroker,
    UpdateMetadataEndpoint,
    UpdateMetadataRequest,
    UpdateMetadataResponse,
    UpdateMetadataTopicState,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
NAMES_SINCE = 3
BY_TOPIC_SINCE = 5


def handle(
    node: "Node", context: "Context", request: UpdateMetadataRequest
) -> Awaitable[UpdateMetadataResponse]:
    """Bring the request into its newest form."""
    return _handle(node, context.version, request)


async def _handle(
    node: "Node", version: int, request: UpdateMetadataRequest
) -> UpdateMetadataResponse:
    if version < BY_TOPIC_SINCE:
        topics: dict[str, UpdateMetadataTopicState] = {}
        for state in request.ungrouped_partition_states:
            topic = topics.setdefault(state.topic_name, UpdateMetadataTopicState(state.topic_name))
            topic.partition_states.append(state)
        request.topic_states = list(topics.values())
    if version < NAMES_SINCE:
        for broker in request.live_brokers:
            _name_listeners(broker, version)
    response = await node.control.take(request)
    assert isinstance(response, UpdateMetadataResponse)
    return response


def _name_listeners(broker: UpdateMetadataBroker, version: int) -> None:
    if version < 1:
        broker.endpoints = [UpdateMetadataEndpoint(broker.v0_port, broker.v0_host)]
    for endpoint in broker.endpoints:
        if 0 <= endpoint.security_protocol < len(PROTOCOLS):
            endpoint.listener = PROTOCOLS[endpoint.security_protocol]
