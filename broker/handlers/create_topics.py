"""CreateTopics (key 19): create topics by counts or by assignment.

Versions 0-7: 1 validation only, error sentences; 2 throttle time; 4 counts of -1 take the broker's
defaults (KIP-464; earlier versions may ask so too, as in Apache Kafka); 5 flexible, the answer
tells counts and settings (KIP-525); 6 throttling quota (KIP-599); 7 topic ids (KIP-516).

The answer waits until every partition has a leader in this broker's metadata, up to the request's
time limit (then REQUEST_TIMED_OUT, the topic is created all the same). As in Apache Kafka 3.9, an
assignment may name brokers that do not exist. Left out: authorization, policies, quotas.
"""

from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from broker import auto_topics
from broker.cluster.store import StoreError
from broker.cluster.view import NO_LEADER, ClusterView
from broker.controller.run import NotController
from broker.controller.topics import Created, Refusal, TopicWish
from broker.topic_settings import config_refusal, settings_in_force
from protocol.errors import ErrorCode
from protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)

if TYPE_CHECKING:
    from broker.context import Context, Node

METADATA_TOPIC = "__cluster_metadata"
"""Nobody may create a topic of this name, although ZooKeeper mode has no use for it."""
CONFIGS_SINCE = 5


def handle(
    node: "Node", context: "Context", request: CreateTopicsRequest
) -> CreateTopicsResponse | Awaitable[CreateTopicsResponse]:
    """Refuse what can be refused at once, then ask the controller."""
    results = [CreatableTopicResult(name=topic.name) for topic in request.topics]
    if not node.controller.active:
        for result in results:
            result.error_code = ErrorCode.NOT_CONTROLLER
        return CreateTopicsResponse(topics=results)
    times = Counter(topic.name for topic in request.topics)
    wanted: list[tuple[CreatableTopic, CreatableTopicResult]] = []
    for topic, result in zip(request.topics, results, strict=True):
        if times[topic.name] > 1:
            _refuse(result, ErrorCode.INVALID_REQUEST, "The topic is named more than once.")
        elif topic.name == METADATA_TOPIC:
            _refuse(result, ErrorCode.INVALID_REQUEST, "The name is reserved.")
        else:
            wanted.append((topic, result))
    response = CreateTopicsResponse(topics=results)
    if not wanted:
        return response
    return _create(node, context.version, request, wanted, response)


async def _create(
    node: "Node",
    version: int,
    request: CreateTopicsRequest,
    wanted: list[tuple[CreatableTopic, CreatableTopicResult]],
    response: CreateTopicsResponse,
) -> CreateTopicsResponse:
    wishes = [_wish(node, topic) for topic, _ in wanted]
    answers: Sequence[Created | Refusal]
    try:
        answers = await node.controller.create_topics(
            wishes, auto_topics.defaults(node.config), validate_only=request.validate_only
        )
    except NotController:
        answers = [Refusal(ErrorCode.NOT_CONTROLLER)] * len(wishes)
    except StoreError as error:
        answers = [Refusal(ErrorCode.UNKNOWN_SERVER_ERROR, str(error))] * len(wishes)
    made: dict[str, Created] = {}
    for (topic, result), answer in zip(wanted, answers, strict=True):
        if isinstance(answer, Refusal):
            _refuse(result, answer.code, answer.message)
        else:
            made[topic.name] = answer
            result.topic_id = answer.topic_id
            _describe(node, version, topic, result, answer)
    if made and not request.validate_only:
        await node.metadata.wait_until(
            lambda view: all(_led(view, name, made[name]) for name in made),
            request.timeout_ms / 1000,
        )
        view = node.metadata.view
        for _, result in wanted:
            created = made.get(result.name)
            # With no time given Apache Kafka does not even look.
            if created is not None and (
                request.timeout_ms <= 0 or not _led(view, result.name, created)
            ):
                _refuse(result, ErrorCode.REQUEST_TIMED_OUT, None)
    return response


def _led(view: ClusterView, name: str, created: Created) -> bool:
    """Whether all partitions of a topic just created have a leader in the metadata."""
    info = view.topics.get(name)
    return (
        info is not None
        and len(info.partitions) >= created.partitions
        and all(p.leader != NO_LEADER for p in info.partitions)
    )


def _wish(node: "Node", topic: CreatableTopic) -> TopicWish:
    configs = {config.name: config.value for config in topic.configs}
    given = {name: value for name, value in configs.items() if value is not None}
    return TopicWish(
        topic.name,
        topic.num_partitions,
        topic.replication_factor,
        [(a.partition_index, tuple(a.broker_ids)) for a in topic.assignments],
        configs,
        config_refusal(node, given) if given else None,
    )


def _describe(
    node: "Node",
    version: int,
    topic: CreatableTopic,
    result: CreatableTopicResult,
    created: Created,
) -> None:
    result.error_message = None
    if version < CONFIGS_SINCE:
        return
    result.num_partitions = created.partitions
    result.replication_factor = created.replication
    given = {c.name: c.value for c in topic.configs if c.value is not None}
    result.configs = [
        CreatableTopicConfigs(s.name, s.value, False, s.source, s.sensitive)
        for s in settings_in_force(node, given)
    ]


def _refuse(result: CreatableTopicResult, code: ErrorCode, message: str | None) -> None:
    result.error_code = code
    result.error_message = message
    result.num_partitions = -1
    result.replication_factor = -1
    result.configs = []
