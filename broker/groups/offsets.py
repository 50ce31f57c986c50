"""Committed offsets of groups of all kinds."""

from typing import TYPE_CHECKING, Any

from broker.coordinator import NOTHING, Outcome
from broker.groups.common import TopicChanges

if TYPE_CHECKING:
    from broker.groups.machine import GroupMachine


class Offsets:
    """Outline; the offsets come with the next commits."""

    def __init__(self, machine: "GroupMachine") -> None:
        self.shared = machine.shared

    def replay(
        self, kind: int, key: bytes, value: bytes | None, producer_id: int, offset: int
    ) -> None:
        """A committed offset."""

    def loaded(self, now_ms: int) -> Outcome:
        return NOTHING

    def expired(self, timer: Any, now_ms: int) -> Outcome:
        return NOTHING

    def topics_changed(self, changes: TopicChanges, now_ms: int) -> Outcome:
        return NOTHING

    def replay_end(self, producer_id: int, committed: bool) -> None:
        """A transaction's marker: its offsets count, or are forgotten."""
