"""Producers are told who leads instead, where this broker does not (KIP-951)."""

from typing import TYPE_CHECKING

from broker.cluster.view import NodeEndpoint
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.context import Node
    from protocol.produce_wire import PartitionResult

SINCE = 10
"""The first version of Produce that has room for it."""
Brokers = dict[int, NodeEndpoint]
"""Where the leaders are that an answer tells, by id."""


def tell_leader(
    node: "Node",
    listener: str,
    version: int,
    topic: str,
    result: "PartitionResult",
    brokers: Brokers,
) -> None:
    """Puts the leader into a result of NOT_LEADER_OR_FOLLOWER, and where it is into `brokers`."""
    if version < SINCE or result.error_code != ErrorCode.NOT_LEADER_OR_FOLLOWER:
        return
    told = node.metadata.view.leader_told(topic, result.index, listener)
    if told is not None:
        result.current_leader, endpoint = told
        if endpoint is not None:
            brokers[endpoint[0]] = endpoint
