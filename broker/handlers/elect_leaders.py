"""ElectLeaders (key 43): leaders of partitions are elected anew (KIP-183).

Versions 0-2: 1 unclean elections, an error for the whole answer (KIP-460); 2 flexible.

A preferred election gives a partition back to the first of its replicas, if that one is alive and
in sync; an unclean one gives a leader to partitions without one, from the ISR if it can be, else
from whoever is alive. The answer waits until this broker's metadata shows the new leaders, up to
the request's time limit (then REQUEST_TIMED_OUT, the election stands). Asked for all partitions,
those that need no election are left out. Not the controller: NOT_CONTROLLER for each partition.
Left out: authorization.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from broker.controller.run import NotController
from protocol.errors import ErrorCode
from protocol.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)

if TYPE_CHECKING:
    from broker.cluster.view import ClusterView
    from broker.context import Context, Node

Key = tuple[str, int]
KINDS = (0, 1)
SENTENCES = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: "The partition does not exist.",
    ErrorCode.INVALID_TOPIC_EXCEPTION: "The topic is being deleted.",
    ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE: "Failed to elect leader for partition {}-{} under "
    "strategy PreferredReplicaPartitionLeaderElectionStrategy",
    ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE: "Failed to elect leader for partition {}-{} under "
    "strategy OfflinePartitionLeaderElectionStrategy(true)",
}
"""Apache Kafka's, which its tools show and programs look for."""


def handle(
    node: "Node", context: "Context", request: ElectLeadersRequest
) -> ElectLeadersResponse | Awaitable[ElectLeadersResponse]:
    """Ask the controller, if it is here."""
    if request.election_type not in KINDS:
        return _unknown_kind(request)
    keys = _keys(request)
    if not node.controller.active:
        return _not_controller(keys)
    return _handle(node, request, keys)


def _unknown_kind(request: ElectLeadersRequest) -> ElectLeadersResponse:
    """Refused as a whole: everything as it was asked for, also what is named twice."""
    code = ErrorCode.UNKNOWN_SERVER_ERROR
    results = [
        ReplicaElectionResult(
            topic.topic, [PartitionResult(index, code, None) for index in topic.partitions]
        )
        for topic in request.topic_partitions or ()
    ]
    return ElectLeadersResponse(error_code=code, replica_election_results=results)


def _keys(request: ElectLeadersRequest) -> list[Key] | None:
    if request.topic_partitions is None:
        return None
    return [(topic.topic, i) for topic in request.topic_partitions for i in topic.partitions]


def _not_controller(keys: list[Key] | None) -> ElectLeadersResponse:
    return _answer(dict.fromkeys(keys or (), (ErrorCode.NOT_CONTROLLER, None)))


async def _handle(
    node: "Node", request: ElectLeadersRequest, keys: list[Key] | None
) -> ElectLeadersResponse:
    from broker.controller.elect import Election

    try:
        elected = await node.controller.elect_leaders(keys, Election(request.election_type))
    except NotController:
        return _not_controller(keys)
    results: dict[Key, tuple[ErrorCode, str | None]] = {
        key: (code, SENTENCES.get(code, code.message).format(*key))
        for key, code in elected.refused.items()
    }
    if keys is None:
        needless = ErrorCode.ELECTION_NOT_NEEDED
        results = {key: result for key, result in results.items() if result[0] != needless}
    leaders = elected.leaders

    def shown(view: "ClusterView") -> bool:
        return all(view.leader(*key) == leader for key, leader in leaders.items())

    await node.metadata.wait_until(shown, request.timeout_ms / 1000)
    view = node.metadata.view
    for key, leader in leaders.items():
        late = view.leader(*key) != leader
        results[key] = (ErrorCode.REQUEST_TIMED_OUT if late else ErrorCode.NONE, None)
    if keys is not None:
        results = {key: results[key] for key in keys}
    return _answer(results)


def _answer(results: dict[Key, tuple[ErrorCode, str | None]]) -> ElectLeadersResponse:
    topics: dict[str, ReplicaElectionResult] = {}
    for (name, index), (code, message) in results.items():
        topic = topics.setdefault(name, ReplicaElectionResult(name))
        topic.partition_result.append(PartitionResult(index, code, message))
    return ElectLeadersResponse(replica_election_results=list(topics.values()))
