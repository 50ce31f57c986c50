"""Topics the broker creates by itself: internal ones on first need, others when metadata is asked.

Also which partition of an internal topic coordinates a group or a transactional id.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

from broker.cluster.store import StoreError
from broker.cluster.view import (
    INTERNAL_TOPICS,
    OFFSETS_TOPIC,
    SHARE_STATE_TOPIC,
    TRANSACTIONS_TOPIC,
)
from broker.controller.run import NotController
from broker.controller.topics import Defaults, Refusal, TopicWish
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.config import BrokerConfig
    from broker.context import Node

CREATION_MS = 5000
"""How long the controller may wait for the leaders of topics that it creates for another broker."""


@lru_cache(maxsize=1 << 14)
def java_hash(text: str) -> int:
    """Java's String.hashCode: over UTF-16 code units, wrapped to a signed 32-bit number."""
    if text.isascii():
        units: bytes | list[int] = text.encode("ascii")
    else:
        raw = text.encode("utf-16-le", "surrogatepass")
        units = [raw[i] | raw[i + 1] << 8 for i in range(0, len(raw), 2)]
    value = 0
    for unit in units:
        value = (value * 31 + unit) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def coordinator_partition(key: str, partitions: int) -> int:
    """Partition of the internal topic that owns a group or transactional id."""
    value = java_hash(key)
    return (0 if value == -(1 << 31) else abs(value)) % partitions


def defaults(config: "BrokerConfig") -> Defaults:
    """What a topic gets that asks for -1."""
    return Defaults(config.num_partitions, config.default_replication_factor)


def wish_for(config: "BrokerConfig", name: str) -> TopicWish:
    """How a topic is created that nobody described: Kafka's settings for the internal ones."""
    if name == OFFSETS_TOPIC:
        return TopicWish(
            name,
            config.offsets_topic_num_partitions,
            config.offsets_topic_replication_factor,
            configs={
                "compression.type": "producer",
                "cleanup.policy": "compact",
                "segment.bytes": str(config.offsets_topic_segment_bytes),
            },
        )
    if name == TRANSACTIONS_TOPIC:
        return TopicWish(
            name,
            config.transaction_state_log_num_partitions,
            config.transaction_state_log_replication_factor,
            configs={
                "compression.type": "uncompressed",
                "cleanup.policy": "compact",
                "min.insync.replicas": str(config.transaction_state_log_min_isr),
                "segment.bytes": str(config.transaction_state_log_segment_bytes),
                "unclean.leader.election.enable": "false",
            },
        )
    if name == SHARE_STATE_TOPIC:
        return TopicWish(
            name,
            config.share_coordinator_state_topic_num_partitions,
            config.share_coordinator_state_topic_replication_factor,
            configs={
                "compression.type": "producer",
                "cleanup.policy": "delete",
                "min.insync.replicas": str(config.share_coordinator_state_topic_min_isr),
                "retention.ms": "-1",
                "segment.bytes": str(config.share_coordinator_state_topic_segment_bytes),
            },
        )
    return TopicWish(name)


def is_internal(name: str) -> bool:
    """Whether Kafka treats the topic as its own."""
    return name in INTERNAL_TOPICS


async def create(node: "Node", names: list[str]) -> dict[str, ErrorCode]:
    """Create these topics; NONE also for those that somebody else created meanwhile.

    NOT_CONTROLLER for all when the controller cannot be reached; never raises for refusals.
    """
    answers = await ask_for(node, [wish_for(node.config, name) for name in names])
    codes: dict[str, ErrorCode] = {}
    for name, refusal in zip(names, answers, strict=True):
        code = ErrorCode.NONE if refusal is None else refusal.code
        codes[name] = ErrorCode.NONE if code == ErrorCode.TOPIC_ALREADY_EXISTS else code
    return codes


async def ask_for(node: "Node", wishes: list[TopicWish]) -> list[Refusal | None]:
    """Have the controller, here or elsewhere, create topics; why it refuses, None for created."""
    if not node.controller.active:
        return await _ask_elsewhere(node, wishes)
    try:
        answers = await node.controller.create_topics(wishes, defaults(node.config))
    except NotController:
        return [Refusal(ErrorCode.NOT_CONTROLLER)] * len(wishes)
    except StoreError as error:
        return [Refusal(ErrorCode.UNKNOWN_SERVER_ERROR, str(error))] * len(wishes)
    return [answer if isinstance(answer, Refusal) else None for answer in answers]


async def _ask_elsewhere(node: "Node", wishes: list[TopicWish]) -> list[Refusal | None]:
    """By CreateTopics. Counts are this broker's defaults, not the controller's."""
    from broker.controller_link import NoController
    from broker.peer import NotServed, PeerGone
    from protocol.messages.create_topics import (
        CreatableTopic,
        CreatableTopicConfig,
        CreateTopicsRequest,
    )

    usual = defaults(node.config)
    topics = [
        CreatableTopic(
            wish.name,
            usual.partitions if wish.partitions == -1 else wish.partitions,
            usual.replication if wish.replication == -1 else wish.replication,
            configs=[CreatableTopicConfig(*config) for config in wish.configs.items()],
        )
        for wish in wishes
    ]
    request = CreateTopicsRequest(topics, CREATION_MS)
    try:
        response = await node.replication.ask(CreateTopicsRequest.API_KEY, lambda _: request)
    except (NoController, PeerGone, NotServed):
        return [Refusal(ErrorCode.NOT_CONTROLLER)] * len(wishes)
    refusals: dict[str, Refusal] = {
        topic.name: Refusal(ErrorCode(topic.error_code), topic.error_message)
        for topic in response.topics
        # Timed out means: written, and its leaders not yet known.
        if topic.error_code not in (ErrorCode.NONE, ErrorCode.REQUEST_TIMED_OUT)
    }
    return [refusals.get(wish.name) for wish in wishes]
