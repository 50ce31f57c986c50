"""What single groups set for themselves (resource type 32, KIP-848 and KIP-932), over what the
broker sets for all of them.

A value is checked against the broker's bounds when it is set; a broker with other bounds keeps
within its own.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from broker.settings import GROUPS
from storage.settings import SettingError, parse

if TYPE_CHECKING:
    from broker.config import BrokerConfig

log = logging.getLogger("odradek.configs")

_BOUNDED = (
    "consumer.heartbeat.interval.ms",
    "consumer.session.timeout.ms",
    "consumer.assignment.interval.ms",
    "share.heartbeat.interval.ms",
    "share.session.timeout.ms",
    "share.record.lock.duration.ms",
    "share.delivery.count.limit",
    "share.partition.max.record.locks",
    "share.assignment.interval.ms",
    "streams.heartbeat.interval.ms",
    "streams.session.timeout.ms",
    "streams.assignment.interval.ms",
)


def bounds(config: "BrokerConfig", name: str) -> tuple[int | None, int | None]:
    """What the broker lets a group set at least and at most."""
    if name in _BOUNDED:
        kind, _, rest = name.replace(".", "_").partition("_")
        low, high = (getattr(config, f"group_{kind}_{end}_{rest}") for end in ("min", "max"))
        return low, high
    if name == "streams.num.standby.replicas":
        return None, config.group_streams_max_standby_replicas
    return None, None


class GroupSettings:
    """Values by group; part of a `BrokerConfig`."""

    __slots__ = ("_config", "_own")

    def __init__(self, config: "BrokerConfig") -> None:
        self._config = config
        self._own: dict[str, dict[str, Any]] = {}

    def adopt(self, group_id: str, overrides: Mapping[str, str]) -> None:
        """The group sets this now; what cannot be used is left out with a log line."""
        own: dict[str, Any] = {}
        for name, text in overrides.items():
            row = GROUPS.get(name)
            try:
                if row is not None:
                    own[name] = parse(row, text)
            except SettingError as error:
                log.error("group %s: setting left out: %s", group_id, error)
        if own:
            self._own[group_id] = own
        else:
            self._own.pop(group_id, None)

    def get(self, group_id: str, name: str) -> Any:
        """A setting in force for a group."""
        own = self._own.get(group_id)
        if own is None or name not in own:
            return self._default(name)
        value = own[name]
        low, high = bounds(self._config, name)
        if low is not None:
            value = max(low, value)
        return value if high is None else min(high, value)

    def _default(self, name: str) -> Any:
        row = GROUPS[name]
        if row.synonyms:
            return getattr(self._config, row.synonyms[0].replace(".", "_"))
        return parse(row, row.default)
