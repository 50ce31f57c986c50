"""CreatePartitions (key 37): add partitions to topics (KIP-195).

Versions 0-3: 1 throttling as KIP-219; 2 flexible; 3 throttling quota (KIP-599).

The answer waits until the new partitions have leaders in this broker's metadata, up to the
request's time limit. A name that cannot be part of a path refuses all. Left out: authorization,
quotas.
"""

from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from broker.cluster.store import StoreError
from broker.cluster.view import NO_LEADER, ClusterView
from broker.controller.run import NotController
from broker.controller.topics import PartitionsWish, Refusal
from protocol.errors import ErrorCode
from protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


IMPOSSIBLE_NAMES = ("", ".", "..")
"""Apache Kafka fails a whole request that names one of them."""


def handle(
    node: "Node", context: "Context", request: CreatePartitionsRequest
) -> CreatePartitionsResponse | Awaitable[CreatePartitionsResponse]:
    """Refuse what can be refused at once, then ask the controller."""
    del context
    if any(topic.name in IMPOSSIBLE_NAMES for topic in request.topics):
        error = ErrorCode.UNKNOWN_SERVER_ERROR
        return CreatePartitionsResponse(
            results=[CreatePartitionsTopicResult(t.name, error) for t in request.topics]
        )
    times = Counter(topic.name for topic in request.topics)
    # A topic named twice has one result.
    results = {name: CreatePartitionsTopicResult(name=name) for name in times}
    response = CreatePartitionsResponse(results=list(results.values()))
    wanted: list[tuple[CreatePartitionsTopic, CreatePartitionsTopicResult]] = []
    for topic in request.topics:
        result = results[topic.name]
        if not node.controller.active:
            result.error_code = ErrorCode.NOT_CONTROLLER
        elif times[topic.name] > 1:
            result.error_code = ErrorCode.INVALID_REQUEST
            result.error_message = "The topic is named more than once."
        else:
            wanted.append((topic, result))
    return _create(node, request, wanted, response) if wanted else response


async def _create(
    node: "Node",
    request: CreatePartitionsRequest,
    wanted: list[tuple[CreatePartitionsTopic, CreatePartitionsTopicResult]],
    response: CreatePartitionsResponse,
) -> CreatePartitionsResponse:
    wishes = [_wish(topic) for topic, _ in wanted]
    answers: Sequence[Refusal | None]
    try:
        answers = await node.controller.create_partitions(
            wishes, validate_only=request.validate_only
        )
    except NotController:
        answers = [Refusal(ErrorCode.NOT_CONTROLLER)] * len(wishes)
    except StoreError as error:
        answers = [Refusal(ErrorCode.UNKNOWN_SERVER_ERROR, str(error))] * len(wishes)
    grown: dict[str, int] = {}
    for (topic, result), refusal in zip(wanted, answers, strict=True):
        if refusal is None:
            grown[topic.name] = topic.count
        else:
            result.error_code, result.error_message = refusal
    if grown and not request.validate_only:
        await node.metadata.wait_until(
            lambda view: all(_led(view, name, count) for name, count in grown.items()),
            request.timeout_ms / 1000,
        )
        for _, result in wanted:
            count = grown.get(result.name)
            if count is not None and (
                request.timeout_ms <= 0 or not _led(node.metadata.view, result.name, count)
            ):
                result.error_code = ErrorCode.REQUEST_TIMED_OUT
    return response


def _wish(topic: CreatePartitionsTopic) -> PartitionsWish:
    given = topic.assignments
    assignments = None if given is None else [tuple(a.broker_ids) for a in given]
    return PartitionsWish(topic.name, topic.count, assignments)


def _led(view: ClusterView, name: str, count: int) -> bool:
    info = view.topics.get(name)
    return (
        info is not None
        and len(info.partitions) >= count
        and all(p.leader != NO_LEADER for p in info.partitions)
    )
