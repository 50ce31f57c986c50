"""FindCoordinator (key 10): which broker coordinates a group or a transactional id.

Versions 0-6: 1 key type, error sentence, throttle time (transactions, KIP-98); 2 throttling as
KIP-219; 3 flexible; 4 many keys in one request (KIP-699); 5 TRANSACTION_ABORTABLE may be answered
(KIP-890); 6 share groups (KIP-932).

The partition of the internal topic is Java's String.hashCode of the key, by the partitions the
topic really has; the answer is its leader. The topic is created on first need, meanwhile and
whenever its partition has no leader on this listener the answer is COORDINATOR_NOT_AVAILABLE.
Left out: authorization; share groups (key type 2 is refused below version 6 and not available
at 6, as in Apache Kafka 3.9).
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, NamedTuple

from broker import auto_topics
from broker.cluster.view import NO_LEADER, OFFSETS_TOPIC, TRANSACTIONS_TOPIC
from protocol.errors import ErrorCode
from protocol.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

TOPICS = {0: OFFSETS_TOPIC, 1: TRANSACTIONS_TOPIC}
SHARE = 2
SHARE_SINCE = 6
BATCHED_SINCE = 4


class Place(NamedTuple):
    """Where a coordinator is, or why that is not known."""

    error: ErrorCode
    node_id: int = NO_LEADER
    host: str = ""
    port: int = -1


NOWHERE = Place(ErrorCode.COORDINATOR_NOT_AVAILABLE)


def handle(
    node: "Node", context: "Context", request: FindCoordinatorRequest
) -> FindCoordinatorResponse | Awaitable[FindCoordinatorResponse]:
    """Answer from the metadata cache; waits only to write a missing internal topic."""
    version, key_type = context.version, request.key_type
    keys = request.coordinator_keys if version >= BATCHED_SINCE else [request.key]
    topic = TOPICS.get(key_type)
    if topic is None:
        available = key_type == SHARE and version >= SHARE_SINCE
        place = NOWHERE if available else Place(ErrorCode.INVALID_REQUEST)
        return _answer(version, key_type, keys, [place] * len(keys))
    if keys and topic not in node.metadata.view.topics:
        return _create(node, topic, version, key_type, keys)
    places = [_find(node, context.listener, topic, key) for key in keys]
    return _answer(version, key_type, keys, places)


def _find(node: "Node", listener: str, topic: str, key: str) -> Place:
    view = node.metadata.view
    info = view.topics[topic]
    partition = info.partition(auto_topics.coordinator_partition(key, len(info.partitions)))
    if partition is None:
        return NOWHERE
    endpoint = view.endpoint(partition.leader, listener)
    if endpoint is None:
        return NOWHERE
    return Place(ErrorCode.NONE, partition.leader, *endpoint)


async def _create(
    node: "Node", topic: str, version: int, key_type: int, keys: list[str]
) -> FindCoordinatorResponse:
    await auto_topics.create(node, [topic])
    return _answer(version, key_type, keys, [NOWHERE] * len(keys))


def _answer(
    version: int, key_type: int, keys: list[str], places: list[Place]
) -> FindCoordinatorResponse:
    if version < BATCHED_SINCE:
        place = places[0]
        message = "NONE" if place.error == ErrorCode.NONE else place.error.message
        return FindCoordinatorResponse(
            error_code=place.error,
            error_message=message if version >= 1 else "",
            node_id=place.node_id,
            host=place.host,
            port=place.port,
        )
    # Apache Kafka fills in the sentence only where the request itself cannot be read.
    unknown = key_type not in TOPICS and key_type != SHARE
    return FindCoordinatorResponse(
        coordinators=[
            Coordinator(
                key,
                place.node_id,
                place.host,
                place.port,
                place.error,
                place.error.message if unknown else "",
            )
            for key, place in zip(keys, places, strict=True)
        ]
    )
