"""The requests of brokers to the share coordinator (83 to 87), which are all alike: questions about
share partitions of one group, each answered by the partition of __share_group_state that it is in.
"""

from collections.abc import Callable
from typing import Any

from broker.shares.common import ShareKey
from broker.shares.state import Answer
from broker.waiting import gather


def answer_each(
    request: Any,
    ask: Callable[[ShareKey, Any], Any],
    respond: Callable[[list[tuple[bytes, list[tuple[int, Answer]]]]], Any],
) -> Any:
    """The response, or a `Parked` that will have it.

    `ask(key, partition of the request)` gives an `Answer` or a `Waiting`; `respond` gets them by
    topic id and partition. A request without a group, or with nothing about a topic, is answered
    with nothing, as in Apache Kafka. Of a partition named twice the last answer counts.
    """
    if not request.group_id or not all(topic.partitions for topic in request.topics):
        return respond([])
    keys: list[ShareKey] = []
    results: list[Any] = []
    for topic in request.topics:
        for partition in topic.partitions:
            key = ShareKey(request.group_id, topic.topic_id, partition.partition)
            keys.append(key)
            results.append(ask(key, partition))

    def make(answers: list[Answer]) -> Any:
        topics: dict[bytes, dict[int, Answer]] = {}
        for key, answer in zip(keys, answers, strict=True):
            topics.setdefault(key.topic_id, {})[key.partition] = answer
        return respond([(topic, list(rows.items())) for topic, rows in topics.items()])

    return gather(results, make)
