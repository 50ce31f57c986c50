"""The rows of OffsetCommit and TxnOffsetCommit: what a request wants written, and the response that
its codes go to."""

from collections.abc import Callable, Iterable
from typing import Any

from broker.cluster.view import ClusterView
from broker.groups.offset_table import Committed
from broker.groups.offsets import Write
from protocol.errors import ErrorCode


def read_rows(
    view: ClusterView,
    topics: Iterable[Any],
    *,
    by_id: bool,
    once: bool,
    apart: bool,
    topic_row: Callable[[str, bytes], Any],
    partition_row: Callable[[int], Any],
    committed: Callable[[Any], Committed],
) -> tuple[list[Any], list[Write]]:
    """The response's topics, and what is to be written with its part of them.

    A partition that the cluster does not know has its code already: UNKNOWN_TOPIC_OR_PARTITION, or
    UNKNOWN_TOPIC_ID. A known topic without partitions is left out. `once`: a partition that is
    named twice and can be written is there once, with what was said last. Topics that come again
    are one; with `apart` only where there is anything that the cluster does not know. `topics` are
    the request's; `committed` makes an offset of one of their partitions.
    """
    named: list[tuple[Any, list[Any]]] = []
    answers: dict[tuple[str | bytes, int], Any] = {}
    writes: dict[Any, Write] = {}
    for topic in topics:
        name = view.names.get(topic.topic_id) if by_id else topic.name
        info = None if name is None else view.topics.get(name)
        key = topic.topic_id if by_id else topic.name
        listed = []
        for asked in topic.partitions:
            index = asked.partition_index
            known = name is not None and info is not None and info.partition(index) is not None
            answer = answers.get((key, index)) if once and known else None
            if answer is None:
                answer = partition_row(index)
                listed.append(answer)
            if name is None:
                answer.error_code = ErrorCode.UNKNOWN_TOPIC_ID
            elif not known:
                answer.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            else:
                answers[key, index] = answer
                place = (name, index) if once else len(writes)
                writes[place] = Write(name, index, committed(asked), answer)
            apart = apart and known
        apart = apart and info is not None
        if listed or info is None:
            named.append((topic, listed))
    rows: dict[Any, Any] = {}
    for number, (topic, listed) in enumerate(named):
        key = number if apart else (topic.topic_id if by_id else topic.name)
        if key not in rows:
            rows[key] = topic_row(topic.name, topic.topic_id)
        rows[key].partitions += listed
    return list(rows.values()), list(writes.values())
