"""The acknowledgements of a request: what of them can be meant at all."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from broker.shares.manager import FINE, Said
from broker.shares.partition import GAP, REJECT, RENEW, Acknowledgement
from broker.shares.sessions import Asked
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.cluster.view import ClusterView

RENEW_SINCE = 2
"""Version of ShareFetch and ShareAcknowledge that knows renewal (KIP-1222)."""


def sort_out(
    topics: Iterable[Any], view: "ClusterView", version: int, *, renew: bool
) -> tuple[dict[Asked, list[Acknowledgement]], dict[Asked, Said]]:
    """(what is to be acknowledged, what can be answered at once) by partition, of the `topics` of a
    ShareFetch or ShareAcknowledge request. `renew`: the request says that it renews locks.

    Of a partition named twice the last mention counts.
    """
    given: dict[Asked, list[Acknowledgement]] = {}
    said: dict[Asked, Said] = {}
    for topic in topics:
        name = view.names.get(topic.topic_id)
        for partition in topic.partitions:
            asked = Asked(topic.topic_id, partition.partition_index)
            acknowledgements = [
                Acknowledgement(b.first_offset, b.last_offset, b.acknowledge_types)
                for b in partition.acknowledgement_batches
            ]
            given.pop(asked, None)
            said.pop(asked, None)
            if name is None:
                said[asked] = Said(ErrorCode.UNKNOWN_TOPIC_ID)
            elif not _possible(acknowledgements, version, renew=renew):
                said[asked] = Said(ErrorCode.INVALID_REQUEST)
            elif view.partition(name, asked.partition) is None:
                said[asked] = Said(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            else:
                given[asked] = acknowledgements
    work = {asked: some for asked, some in given.items() if some}
    if work:  # as in Apache Kafka; without any, partitions that say nothing are not answered
        said.update({asked: FINE for asked, some in given.items() if not some})
    return work, said


def _possible(acknowledgements: Iterable[Acknowledgement], version: int, *, renew: bool) -> bool:
    highest = RENEW if version >= RENEW_SINCE else REJECT
    before = -1
    for first, last, types in acknowledgements:
        if not before <= first <= last or not types:
            return False
        if len(types) > 1 and len(types) != last - first + 1:
            return False
        if not GAP <= min(types) <= max(types) <= highest or (RENEW in types and not renew):
            return False
        before = last
    return True
