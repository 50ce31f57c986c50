"""What the group protocols of one machine share."""

from collections.abc import Callable, Hashable
from typing import Any, Protocol

from broker.cluster.view import ClusterView
from broker.config import BrokerConfig
from broker.coordinator import StoredRecord
from protocol.stored.versioned import encode_key, encode_value


class TimerKeys(Protocol):
    """The shell's timers (`broker.timers.Timers`), or a test's.

    Keys of this package are tuples that begin with the protocol: ("classic", purpose, group id,
    member id).
    """

    def set(self, key: Hashable, at_ms: int) -> None: ...

    def cancel(self, key: Hashable) -> None: ...


class Group(Protocol):
    """A group of any kind, as listings and the offsets see it."""

    group_id: str
    kind: str
    """"classic", "consumer" or "share": the names of ListGroups, in lower case."""

    @property
    def state_name(self) -> str:
        """Kafka's name of the state: "Empty", "Stable", "PreparingRebalance", ..."""


class Shared:
    """One machine's groups by id, and what its protocols may use."""

    __slots__ = ("config", "groups", "index", "new_id", "timers", "view")

    def __init__(
        self,
        index: int,
        timers: TimerKeys,
        config: BrokerConfig,
        view: Callable[[], ClusterView],
        new_id: Callable[[], str],
    ) -> None:
        """`new_id()` is a fresh UUID as text; `view()` the present picture of the cluster."""
        self.index = index
        self.timers = timers
        self.config = config
        self.view = view
        self.new_id = new_id
        self.groups: dict[str, Any] = {}


def stored(key: Any, value: Any | None, version: int | None = None) -> StoredRecord:
    """A record of the internal topic from its declared key and value (None: a tombstone).

    `version` is the value's, the highest declared by default.
    """
    return StoredRecord(encode_key(key), None if value is None else encode_value(value, version))
