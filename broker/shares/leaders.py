"""Who leads a partition instead, where this broker does not; told along with an error (KIP-951)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from broker.cluster.view import Leadership, NodeEndpoint
from broker.shares.sessions import Asked
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.cluster.view import ClusterView

Endpoint = NodeEndpoint
Leaders = dict[Asked, Leadership]

TELL_LEADER = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH)


def leaders_of(
    codes: Iterable[tuple[Asked, int]], view: "ClusterView", listener: str
) -> tuple[Leaders, list[Endpoint]]:
    """The leaders of the partitions that were answered with one of those errors, and where on that
    listener they are."""
    leaders: Leaders = {}
    brokers: dict[int, Endpoint] = {}
    for asked, code in codes:
        name = view.names.get(asked.topic_id) if code in TELL_LEADER else None
        told = view.leader_told(name, asked.partition, listener) if name is not None else None
        if told is not None:
            leaders[asked], endpoint = told
            if endpoint is not None:
                brokers[endpoint[0]] = endpoint
    return leaders, list(brokers.values())
