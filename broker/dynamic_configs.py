"""Carries changed settings into effect: from the ConfigStore to this broker's BrokerConfig and to
the logs of topics.

A topic's logs get a new LogConfig when the topic's settings change, and all topics' logs when a
broker setting changes that topics fall back to.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from broker.cluster import layout
from broker.cluster.configs import BROKERS, GROUPS, TOPICS, ConfigStore
from broker.config import BrokerConfig
from storage.config import LogConfig
from storage.settings import SettingError, UnknownSetting

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger("odradek.configs")


class Logs(Protocol):
    """What is used of storage.manager.LogManager."""

    def update_config(self, topic: str, config: LogConfig) -> None:
        """Gives every log of the topic its new settings."""

    @property
    def logs(self) -> "Mapping[tuple[str, int], object]":
        """Open logs by (topic, partition)."""


def topic_log_config(config: BrokerConfig, topic: str, overrides: Mapping[str, str]) -> LogConfig:
    """What a topic's logs work with; a setting that cannot be used is left out with a log line."""
    try:
        return LogConfig.from_strings(overrides, config.log_config)
    except (SettingError, UnknownSetting) as error:
        log.error("topic %s: setting left out: %s", topic, error)
        rest = {name: text for name, text in overrides.items() if name != error.name}
        return topic_log_config(config, topic, rest)


class DynamicConfigs:
    """Listens to the ConfigStore. Built and started by the server, after the store is read."""

    __slots__ = ("_config", "_configs", "_logs")

    def __init__(self, config: BrokerConfig, configs: ConfigStore) -> None:
        self._config = config
        self._configs = configs
        self._logs: Logs | None = None

    def start(self) -> None:
        """Take over this broker's dynamic settings and follow changes. Before the logs are loaded:
        their defaults depend on it.
        """
        self._take_over()
        for name in self._configs.names(GROUPS):
            self._changed(GROUPS, name)
        self._configs.subscribe(self._changed)

    def attach(self, logs: Logs) -> None:
        """From now on changes reach these logs."""
        self._logs = logs

    def topic_configs(self) -> dict[str, LogConfig]:
        """Every known topic's settings, for LogManager.load."""
        return {
            topic: topic_log_config(self._config, topic, overrides)
            for topic, overrides in self._configs.topics().items()
        }

    def for_topic(self, topic: str) -> LogConfig:
        """A topic's settings, for LogManager.get_or_create."""
        return topic_log_config(self._config, topic, self._configs.topic(topic))

    def _changed(self, kind: str, name: str) -> None:
        if kind == TOPICS:
            self._update((name,))
        elif kind == BROKERS:
            self._take_over()
        elif kind == GROUPS:
            overrides = self._configs.overrides(GROUPS, name)
            self._config.groups.adopt(layout.plain_name(name), overrides)

    def _take_over(self) -> None:
        config = self._config
        before = config.log_config
        changed = config.set_dynamic(
            self._configs.broker(config.broker_id), self._configs.broker(None)
        )
        if changed:
            log.info("dynamic settings in force: %s", ", ".join(sorted(changed)))
        if self._logs is not None and config.log_config != before:
            self._update({topic for topic, _ in self._logs.logs})

    def _update(self, topics: "Iterable[str]") -> None:
        if self._logs is not None:
            for topic in topics:
                self._logs.update_config(topic, self.for_topic(topic))
