"""Which replica a consumer should read from (KIP-392): one in its own rack that has what it wants.

`replica.selector.class` names a Java class in Apache Kafka; its RackAwareReplicaSelector is what
any value but none stands for here. Pure.
"""

from broker.cluster.view import ClusterView
from broker.partition import Follower, Partition


def closest_replica(
    partition: Partition,
    rack: str,
    fetch_offset: int,
    view: ClusterView,
    listener: str,
    now_ms: int,
) -> int | None:
    """The follower to read from; None for the leader, which is asked.

    Of the in-sync followers in the client's rack that hold `fetch_offset` the one that has most,
    then the one that has caught up last, then the one with the highest id.
    """

    def in_rack(broker_id: int) -> bool:
        broker = view.brokers.get(broker_id)
        return broker is not None and broker.rack == rack and listener in broker.endpoints

    if in_rack(partition.broker_id):
        return None
    near = [
        follower
        for follower in partition.followers.values()
        if follower.broker_id in partition.isr
        and follower.start_offset <= fetch_offset <= follower.end_offset
        and in_rack(follower.broker_id)
    ]

    def merit(follower: Follower) -> tuple[int, int, int]:
        return follower.end_offset, follower.caught_up_ms - now_ms, follower.broker_id

    return max(near, key=merit).broker_id if near else None
