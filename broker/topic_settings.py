"""A topic's settings: whether overrides are acceptable, and what would be in force with them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from broker.controller.topics import Refusal
from protocol.errors import ErrorCode
from storage.config import ROWS, LogConfig
from storage.settings import SettingError, render

if TYPE_CHECKING:
    from broker.context import Node

TOPIC, DEFAULT = 1, 5
"""ConfigSource numbers of DescribeConfigs (KIP-569); those between are the broker's layers."""


class InForce(NamedTuple):
    """One setting as an answer shows it."""

    name: str
    value: str | None
    source: int
    sensitive: bool


def config_refusal(node: "Node", overrides: Mapping[str, str]) -> Refusal | None:
    """Why a topic cannot have these settings, or None."""
    try:
        LogConfig.from_strings(overrides, node.config.log_config)
    except SettingError as error:
        return Refusal(ErrorCode.INVALID_CONFIG, str(error))
    return None


def settings_in_force(node: "Node", overrides: Mapping[str, str]) -> list[InForce]:
    """Every topic setting with the value it would have, and who says so."""
    found: list[InForce] = []
    for row in ROWS:
        own = overrides.get(row.name)
        if own is not None:
            text: str | None = own
            source = TOPIC
        else:
            text = node.config.topic_default(row.name)
            sources = node.config.sources(row.synonyms[0]) if row.synonyms else []
            source = sources[0].source if sources else DEFAULT
        found.append(InForce(row.name, render(row, text), source, row.sensitive))
    return found
