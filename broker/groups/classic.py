"""Groups of the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup."""

from typing import TYPE_CHECKING, Any

from broker.coordinator import NOTHING, Outcome
from broker.groups.common import TopicChanges

if TYPE_CHECKING:
    from broker.groups.machine import GroupMachine


class ClassicGroups:
    """Outline; the protocol comes with the next commits."""

    def __init__(self, machine: "GroupMachine") -> None:
        self.shared = machine.shared

    def replay(
        self, kind: int, key: bytes, value: bytes | None, producer_id: int, offset: int
    ) -> None:
        """A group's state after a rebalance."""

    def loaded(self, now_ms: int) -> Outcome:
        return NOTHING

    def expired(self, timer: Any, now_ms: int) -> Outcome:
        return NOTHING

    def topics_changed(self, changes: TopicChanges, now_ms: int) -> Outcome:
        return NOTHING
