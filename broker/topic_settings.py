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
"""ConfigSource numbers of DescribeConfigs (KIP-569)."""


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
    """Every topic setting with the value it would have."""
    return [
        InForce(row.name, render(row, overrides.get(row.name, row.default)),
                TOPIC if row.name in overrides else DEFAULT, row.sensitive)
        for row in ROWS
    ]  # fmt: skip
