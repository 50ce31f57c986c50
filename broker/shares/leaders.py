"""Who leads a partition instead, where this broker does not; told along with an error (KIP-951)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from broker.shares.sessions import Asked
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.cluster.view import ClusterView

Endpoint = tuple[int, str, int, str | None]
"""Broker id, host, port, rack."""
Leaders = dict[Asked, tuple[int, int]]
"""Id and epoch."""

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
        info = view.partition(name, asked.partition) if name is not None else None
        if info is not None:
            leaders[asked] = (info.leader, info.leader_epoch)
            place = view.endpoint(info.leader, listener)
            if place is not None:
                brokers[info.leader] = (info.leader, *place, view.brokers[info.leader].rack)
    return leaders, list(brokers.values())
