"""Where partitions end for consumers, asked of their leaders: the lag of share groups."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from broker.cluster.view import NO_LEADER
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.context import Node
    from broker.outbox import Outbox
    from broker.peer import Peer

LIST_OFFSETS = 2
LATEST = -1
CONSUMER = -1

Place = tuple[str, int]
"""Topic and partition."""
End = int | ErrorCode
"""The high watermark, or why it is not known."""


class EndOffsets:
    """Asks this broker, or others by ListOffsets."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._outbox: Outbox[Place, End] | None = None

    def ask(self, places: Iterable[Place], done: Callable[[dict[Place, End]], None]) -> None:
        """`done(ends)`, perhaps before this returns: LEADER_NOT_AVAILABLE where nobody leads,
        NETWORK_EXCEPTION where the leader does not answer."""
        ends: dict[Place, End] = {}
        wanted = list(dict.fromkeys(places))

        def found(place: Place, end: End) -> None:
            ends[place] = end
            if len(ends) == len(wanted):
                done(ends)

        if not wanted:
            done(ends)
        for place in wanted:
            leader = self._node.metadata.view.leader(*place)
            if leader in (NO_LEADER, self._node.broker_id):
                found(place, self._here(place, leader))
            else:
                self._elsewhere().ask(leader, place, partial(found, place))

    def _here(self, place: Place, leader: int) -> End:
        if leader == NO_LEADER:
            return ErrorCode.LEADER_NOT_AVAILABLE
        partition = self._node.replicas.leader(*place)
        if isinstance(partition, ErrorCode):
            return partition
        assert partition.log is not None
        return partition.log.high_watermark

    def _elsewhere(self) -> "Outbox[Place, End]":
        if self._outbox is None:
            from broker.outbox import Outbox

            self._outbox = Outbox(
                self._node,
                "end-offsets",
                _exchange,
                lambda place, error: ErrorCode.NETWORK_EXCEPTION,
            )
        return self._outbox

    def close(self) -> None:
        """Nobody is asked or answered any more."""
        if self._outbox is not None:
            self._outbox.close()


async def _exchange(peer: "Peer", places: list[Place]) -> list[End]:
    from protocol.messages.list_offsets import (
        ListOffsetsPartition,
        ListOffsetsRequest,
        ListOffsetsResponse,
        ListOffsetsTopic,
    )

    topics: dict[str, ListOffsetsTopic] = {}
    for name, index in dict.fromkeys(places):
        topic = topics.setdefault(name, ListOffsetsTopic(name))
        topic.partitions.append(ListOffsetsPartition(index, timestamp=LATEST))
    request = ListOffsetsRequest(CONSUMER, topics=list(topics.values()))
    answer: ListOffsetsResponse = await peer.call_newest(LIST_OFFSETS, lambda _: request)
    ends: dict[Place, End] = {
        (topic.name, row.partition_index): ErrorCode(row.error_code)
        if row.error_code
        else row.offset
        for topic in answer.topics
        for row in topic.partitions
    }
    return [ends.get(place, ErrorCode.UNKNOWN_SERVER_ERROR) for place in places]
