"""DeleteTopics (key 20): delete topics by name or id.

Versions 0-6: 1 throttle time; 3 TOPIC_DELETION_DISABLED instead of INVALID_REQUEST; 4 flexible;
5 error sentences; 6 topic ids (KIP-516).

The answer waits until the topics have left this broker's metadata and, where all their replicas'
brokers are there, until they are gone altogether, so that the name is free; at most for the
request's time limit (then REQUEST_TIMED_OUT if the metadata still has them). Errors are those of
Apache Kafka 3.9: neither name nor id is TOPIC_AUTHORIZATION_FAILED, a name given twice is deleted
once. Left out: authorization, quotas.
"""

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from broker.cluster.store import StoreError
from broker.controller.run import NotController
from broker.controller.topics import Refusal
from protocol.errors import ErrorCode
from protocol.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from protocol.wire import ZERO_UUID

if TYPE_CHECKING:
    from broker.context import Context, Node

IDS_SINCE = 6
DISABLED_SINCE = 3


def handle(
    node: "Node", context: "Context", request: DeleteTopicsRequest
) -> DeleteTopicsResponse | Awaitable[DeleteTopicsResponse]:
    """Refuse what can be refused at once, then ask the controller."""
    if context.version >= IDS_SINCE:
        asked = request.topics
    else:
        asked = [DeleteTopicState(name=name) for name in request.topic_names]
    error = _whole_refusal(node, context.version, asked)
    if error is not None:
        return DeleteTopicsResponse(
            responses=[
                DeletableTopicResult(name=t.name, topic_id=t.topic_id, error_code=error)
                for t in asked
            ]
        )
    view = node.metadata.view
    results: list[DeletableTopicResult] = []
    names: dict[str, None] = {}
    for topic in asked:
        by_id = topic.topic_id != ZERO_UUID
        name = view.names.get(topic.topic_id) if by_id else topic.name
        result = DeletableTopicResult(name=name, topic_id=topic.topic_id)
        results.append(result)
        if name is None:
            result.error_code = (
                ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.TOPIC_AUTHORIZATION_FAILED
            )
        elif name not in view.topics:
            result.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        else:
            names[name] = None
    response = DeleteTopicsResponse(responses=results)
    return _delete(node, list(names), request.timeout_ms, response) if names else response


def _whole_refusal(node: "Node", version: int, asked: list[DeleteTopicState]) -> ErrorCode | None:
    if not node.controller.active:
        return ErrorCode.NOT_CONTROLLER
    if not node.config.delete_topic_enable:
        disabled = version >= DISABLED_SINCE
        return ErrorCode.TOPIC_DELETION_DISABLED if disabled else ErrorCode.INVALID_REQUEST
    if any(topic.name is not None and topic.topic_id != ZERO_UUID for topic in asked):
        return ErrorCode.INVALID_REQUEST
    return None


async def _delete(
    node: "Node", names: list[str], timeout_ms: int, response: DeleteTopicsResponse
) -> DeleteTopicsResponse:
    refusals: dict[str, Refusal | None]
    try:
        answers = await node.controller.delete_topics(names)
        refusals = dict(zip(names, answers, strict=True))
    except NotController:
        refusals = dict.fromkeys(names, Refusal(ErrorCode.NOT_CONTROLLER))
    except StoreError as error:
        refusals = dict.fromkeys(names, Refusal(ErrorCode.UNKNOWN_SERVER_ERROR, str(error)))
    marked = [name for name in names if refusals[name] is None]
    if marked and timeout_ms > 0:
        await _wait(node, marked, timeout_ms / 1000)
    view = node.metadata.view
    for result in response.responses:
        if result.name not in refusals or result.error_code != ErrorCode.NONE:
            continue
        refusal = refusals[result.name]
        if refusal is not None:
            result.error_code, result.error_message = refusal
        elif timeout_ms <= 0 or result.name in view.topics:
            result.error_code = ErrorCode.REQUEST_TIMED_OUT
    return response


async def _wait(node: "Node", names: list[str], timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await node.metadata.wait_until(
                lambda view: not any(name in view.topics for name in names), timeout_s
            )
            for name in names:
                await node.controller.deleted(name)
    except TimeoutError:
        pass
