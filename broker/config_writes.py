"""Carries out AlterConfigs and IncrementalAlterConfigs: which resource, which checks, which entity
in the ConfigStore. What the two requests make of a resource's settings is theirs (`Edit`)."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from broker.cluster import layout
from broker.cluster.configs import BROKERS, CLIENT_METRICS, GROUPS, TOPICS
from broker.cluster.layout import BadContent
from broker.cluster.store import StoreError
from broker.config_changes import (
    Resource,
    broker_name,
    check_broker,
    check_client_metrics,
    check_group,
    check_storable,
    check_topic,
    refuse,
)
from broker.controller.topics import Refused
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.context import Node

log = logging.getLogger("odradek.configs")

T = TypeVar("T")
Outcome = tuple[int, str | None]
"""Error code and sentence."""
Edit = Callable[[Mapping[str, str]], dict[str, str]]
"""A resource's own settings -> those it shall have. Raises Refused."""

DONE: Outcome = (ErrorCode.NONE, None)
NO_SETTINGS: Mapping[str, str] = {}


class _Entity(NamedTuple):
    """Where a resource's settings are kept, and what else must hold of them."""

    kind: str
    name: str
    check: Callable[[dict[str, str]], None]


def carry_out(
    node: "Node",
    resources: Sequence[tuple[int, str]],
    edits: Sequence[Edit],
    *,
    validate_only: bool,
    answer: Callable[[list[Outcome]], T],
) -> T | Awaitable[T]:
    """Each resource (type, name) with its edit; `answer` makes the response of the outcomes."""
    times = Counter(resources)
    outcomes: list[Outcome] = []
    writes: list[tuple[int, _Entity, Edit]] = []
    for resource, edit in zip(resources, edits, strict=True):
        if times[resource] > 1:
            message = "A resource is named more than once."
            outcomes.append((ErrorCode.INVALID_REQUEST, message))
            continue
        try:
            entity = _entity(node, *resource, edit)
            if entity is not None:
                _after(node, entity, edit)
                if not validate_only:
                    writes.append((len(outcomes), entity, edit))
        except Refused as refused:
            outcomes.append(refused.refusal)
        else:
            outcomes.append(DONE)
    if not writes:
        return answer(outcomes)
    return _write(node, writes, outcomes, answer)


async def _write(
    node: "Node",
    writes: Sequence[tuple[int, _Entity, Edit]],
    outcomes: list[Outcome],
    answer: Callable[[list[Outcome]], T],
) -> T:
    for at, entity, edit in writes:

        def change(
            present: Mapping[str, str], entity: _Entity = entity, edit: Edit = edit
        ) -> dict[str, str]:
            after = edit(present)
            entity.check(after)
            check_storable(after)
            return after

        try:
            await node.configs.edit(entity.kind, entity.name, change)
        except Refused as refused:
            outcomes[at] = refused.refusal
        except (StoreError, BadContent) as error:
            log.error("settings of %s %s not written: %s", entity.kind, entity.name, error)
            outcomes[at] = (ErrorCode.UNKNOWN_SERVER_ERROR, str(error))
    return answer(outcomes)


def _after(node: "Node", entity: _Entity, edit: Edit) -> None:
    """The checks against what is known now, before anything is written."""
    entity.check(edit(node.configs.overrides(entity.kind, entity.name)))


def _entity(node: "Node", kind: int, name: str, edit: Edit) -> _Entity | None:
    """The entity of a resource; None for loggers, whose edit has done all. Raises Refused."""
    if kind == Resource.TOPIC:
        if not name:
            refuse(ErrorCode.INVALID_REQUEST, "Topics have no common settings: name a topic.")
        return _Entity(TOPICS, name, lambda after: _check_topic(node, name, after))
    if kind == Resource.BROKER:
        return _broker_entity(node, name, edit)
    if kind == Resource.BROKER_LOGGER:
        # Kafka refuses a name used twice and null values before it looks at the broker's number;
        # the code is the same.
        broker_name(node.config, name, empty=False)
        edit(NO_SETTINGS)
        return None
    if kind == Resource.CLIENT_METRICS:
        if not name:
            refuse(ErrorCode.INVALID_REQUEST, "A client metrics subscription has a name.")
        return _Entity(CLIENT_METRICS, layout.entity_name(name), check_client_metrics)
    if kind == Resource.GROUP:
        if not name:
            refuse(ErrorCode.INVALID_REQUEST, "Groups have no common settings: name a group.")
        return _Entity(
            GROUPS, layout.entity_name(name), lambda after: check_group(node.config, after)
        )
    refuse(ErrorCode.INVALID_REQUEST, f"Resources of type {kind} cannot be altered.")


def _broker_entity(node: "Node", name: str, edit: Edit) -> _Entity:
    broker_id = broker_name(node.config, name, empty=True)
    per_broker = broker_id is not None
    return _Entity(
        BROKERS,
        str(broker_id) if per_broker else layout.DEFAULT_ENTITY,
        lambda after: check_broker(node.config, after, per_broker=per_broker),
    )


def _check_topic(node: "Node", topic: str, after: dict[str, str]) -> None:
    if topic not in node.metadata.view.topics:
        refuse(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"There is no topic {topic!r}.")
    check_topic(node.config, topic, after)
