"""ListConfigResources (key 74): resources that have settings (KIP-1142).

Versions 0-1: 0 is ListClientMetricsResources (KIP-1000) and knows client metrics only; 1 lists any
type: no types asked for means all. A type that does not exist is UNSUPPORTED_VERSION.
Groups are those that set something. Left out: authorization.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from broker.cluster import layout
from broker.cluster.configs import CLIENT_METRICS, GROUPS
from broker.config_changes import Resource
from protocol.errors import ErrorCode
from protocol.messages.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

TYPES_SINCE = 1


def handle(
    node: "Node", context: "Context", request: ListConfigResourcesRequest
) -> ListConfigResourcesResponse:
    """Answer from memory."""
    wanted: Iterable[int] = request.resource_types or tuple(Resource)
    if context.version < TYPES_SINCE:
        wanted = (Resource.CLIENT_METRICS,)
    kinds = frozenset(wanted)
    if not kinds <= frozenset(Resource):
        return ListConfigResourcesResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    return ListConfigResourcesResponse(
        config_resources=[
            ConfigResource(name, kind)
            for kind in sorted(kinds, reverse=True)
            for name in _names(node, kind)
        ]
    )


def _names(node: "Node", kind: int) -> Iterator[str]:
    view = node.metadata.view
    if kind == Resource.TOPIC:
        yield from view.topics
    elif kind in (Resource.BROKER, Resource.BROKER_LOGGER):
        yield from map(str, sorted(view.brokers))
    elif kind == Resource.CLIENT_METRICS:
        yield from map(layout.plain_name, node.configs.names(CLIENT_METRICS))
    elif kind == Resource.GROUP:
        yield from map(layout.plain_name, node.configs.names(GROUPS))
