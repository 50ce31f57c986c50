"""FindCoordinator (key 10): which broker coordinates a group, a transactional id or the state of a
share partition.

Versions 0-6: 1 key type, error sentence, throttle time (transactions, KIP-98); 2 throttling as
KIP-219; 3 flexible; 4 many keys in one request (KIP-699); 5 TRANSACTION_ABORTABLE may be answered
(KIP-890); 6 share groups (KIP-932).

The partition of the internal topic is Java's String.hashCode of the key, by the partitions the
topic really has; the answer is its leader. The topic is created on first need, meanwhile and
whenever its partition has no leader on this listener the answer is COORDINATOR_NOT_AVAILABLE.
A share partition's key is group:topic id:partition; key type 2 is refused below version 6, and so
is a key that names none, as in Apache Kafka 4.4. Left out: authorization.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, NamedTuple

from broker import auto_topics
from broker.cluster.view import (
    NO_LEADER,
    OFFSETS_TOPIC,
    SHARE_STATE_TOPIC,
    TRANSACTIONS_TOPIC,
)
from protocol.errors import ErrorCode
from protocol.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

SHARE = 2
TOPICS = {0: OFFSETS_TOPIC, 1: TRANSACTIONS_TOPIC, SHARE: SHARE_STATE_TOPIC}
SHARE_SINCE = 6
BATCHED_SINCE = 4


class Place(NamedTuple):
    """Where a coordinator is, or why that is not known."""

    error: ErrorCode
    node_id: int = NO_LEADER
    host: str = ""
    port: int = -1


NOWHERE = Place(ErrorCode.COORDINATOR_NOT_AVAILABLE)
REFUSED = Place(ErrorCode.INVALID_REQUEST)


def handle(
    node: "Node", context: "Context", request: FindCoordinatorRequest
) -> FindCoordinatorResponse | Awaitable[FindCoordinatorResponse]:
    """Answer from the metadata cache; waits only to write a missing internal topic."""
    version, key_type = context.version, request.key_type
    keys = request.coordinator_keys if version >= BATCHED_SINCE else [request.key]
    topic = TOPICS.get(key_type)
    if topic is None or (key_type == SHARE and version < SHARE_SINCE):
        return _answer(version, key_type, keys, [REFUSED] * len(keys))
    names = [_hashed(key) if key_type == SHARE else key for key in keys]
    if topic not in node.metadata.view.topics and any(name is not None for name in names):
        return _create(node, topic, version, key_type, keys, names)
    places = [
        REFUSED if name is None else _find(node, context.listener, topic, name) for name in names
    ]
    return _answer(version, key_type, keys, places)


def _hashed(key: str) -> str | None:
    """The text that a share partition is coordinated by; None if the key names none."""
    from broker.shares.common import parse_key

    parsed = parse_key(key)
    return None if parsed is None else str(parsed)


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
    node: "Node",
    topic: str,
    version: int,
    key_type: int,
    keys: list[str],
    names: list[str | None],
) -> FindCoordinatorResponse:
    await auto_topics.create(node, [topic])
    places = [REFUSED if name is None else NOWHERE for name in names]
    return _answer(version, key_type, keys, places)


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
    unknown = key_type not in TOPICS
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
