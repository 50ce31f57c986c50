"""The machine on one partition of __consumer_offsets: records, timers and metadata changes go to
the protocol they belong to."""

from collections.abc import Callable
from typing import Any, Protocol

from broker.cluster.view import ClusterView
from broker.config import BrokerConfig
from broker.coordinator import Outcome
from broker.groups.common import Shared, TimerKeys
from protocol.stored.versioned import leading_int16


class Part(Protocol):
    """A protocol (or the offsets) as the machine sees it: `RECORDS` are its kinds of record (the
    int16 that leads a key), `TIMERS` is the first element of its timers' keys.
    """

    RECORDS: tuple[int, ...]
    TIMERS: str

    def replay(
        self, kind: int, key: bytes, value: bytes | None, producer_id: int, offset: int
    ) -> None: ...

    def loaded(self, now_ms: int) -> list[Outcome]:
        """Everything is replayed."""

    def expired(self, timer: Any, now_ms: int) -> Outcome: ...


class GroupMachine:
    """See the package. A `broker.coordinator.Machine`."""

    def __init__(
        self,
        index: int,
        timers: TimerKeys,
        config: BrokerConfig,
        view: Callable[[], ClusterView],
        new_id: Callable[[], str],
    ) -> None:
        self.shared = Shared(index, timers, config, view, new_id)
        self.parts: tuple[Part, ...] = tuple(list[Part]())
        self._by_kind: dict[int, Part] = {k: part for part in self.parts for k in part.RECORDS}
        self._by_timer: dict[str, Part] = {part.TIMERS: part for part in self.parts}

    def replay(
        self, key: bytes, value: bytes | None, producer_id: int, producer_epoch: int, offset: int
    ) -> None:
        """One record, live or loading; kinds of a later release are left alone."""
        kind = leading_int16(key)
        part = self._by_kind.get(kind)
        if part is not None:
            part.replay(kind, key, value, producer_id, offset)

    def replay_end(self, producer_id: int, producer_epoch: int, committed: bool) -> None:
        """A transaction ended: its offsets count, or are forgotten."""

    def loaded(self, now_ms: int) -> Outcome:
        """Arm timers, finish what was under way."""
        done = [outcome for part in self.parts for outcome in part.loaded(now_ms)]
        return Outcome([record for outcome in done for record in outcome.records])

    def expired(self, timer: Any, now_ms: int) -> Outcome:
        """One of the protocols' timers."""
        return self._by_timer[timer[0]].expired(timer, now_ms)
