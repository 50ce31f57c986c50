"""ApiVersions (key 18): which APIs and versions this broker serves (KIP-35).

Versions 0-5: 1 throttle time; 2 throttling after the answer (KIP-219); 3 the client's software
(KIP-511) and features (KIP-584); 4 features whose lowest version is 0 (KIP-1022); 5 the cluster and
broker the client believes to reach (KIP-1242). A version above that is answered by the dispatcher,
in version 0 form with error 35.

An API is offered when it has a handler, from the lowest version Apache Kafka 3.9 serves to the
newest stable one. Features are told as by 4.4: the supported ones only from version 4 on, because
their lowest level is 0. librdkafka before 2.2 skips one byte too few of each tagged field; with
these fields, in this order, it never runs past the end (a test reads them its way).
"""

from functools import cache
from typing import TYPE_CHECKING

from broker.cluster.features import SUPPORTED
from broker.handlers import HANDLERS
from protocol.apis import API_BY_KEY
from protocol.errors import ErrorCode
from protocol.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

SOFTWARE_SINCE = 3
LEVEL_ZERO_SINCE = 4
CLUSTER_SINCE = 5
NO_NODE = -1
_ALPHANUMERIC = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_INSIDE = _ALPHANUMERIC | frozenset(".-")


def handle(node: "Node", context: "Context", request: ApiVersionsRequest) -> ApiVersionsResponse:
    """The table of APIs; remembers the client's software in the context."""
    version = context.version
    if version >= SOFTWARE_SINCE:
        if not (
            _is_name(request.client_software_name) and _is_name(request.client_software_version)
        ):
            return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)
        context.software_name = request.client_software_name
        context.software_version = request.client_software_version
    if version >= CLUSTER_SINCE and (error := _elsewhere(node, request)):
        return ApiVersionsResponse(error_code=error)
    answer = ApiVersionsResponse(api_keys=offered())
    if version >= SOFTWARE_SINCE:
        _tell_features(node, version, answer)
    return answer


def _tell_features(node: "Node", version: int, answer: ApiVersionsResponse) -> None:
    answer.supported_features = [
        SupportedFeatureKey(name, low, high)
        for name, (low, high) in SUPPORTED.items()
        if low > 0 or version >= LEVEL_ZERO_SINCE
    ]
    levels, answer.finalized_features_epoch = node.features.finalized
    answer.finalized_features = [
        FinalizedFeatureKey(name, level, level) for name, level in levels.items()
    ]


@cache
def offered() -> list[ApiVersion]:
    """Every API with a handler, by key. Shared by all answers: not to be changed."""
    stems = frozenset(HANDLERS)
    return [
        ApiVersion(api.key, api.min_version, api.latest_stable)
        for api in sorted(API_BY_KEY.values())
        if api.stem in stems
    ]


def _is_name(text: str) -> bool:
    """Letters, digits, dots and dashes; a letter or digit first and last."""
    return text[:1] in _ALPHANUMERIC and text[-1:] in _ALPHANUMERIC and _INSIDE.issuperset(text)


def _elsewhere(node: "Node", request: ApiVersionsRequest) -> ErrorCode | None:
    """Why the client is not where it believes to be; both or neither is to be named."""
    if request.cluster_id is None and request.node_id == NO_NODE:
        return None
    if not request.cluster_id or request.node_id == NO_NODE:
        return ErrorCode.INVALID_REQUEST
    if (request.cluster_id, request.node_id) != (node.cluster_id, node.broker_id):
        return ErrorCode.REBOOTSTRAP_REQUIRED
    return None
