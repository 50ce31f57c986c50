"""The machine on one partition of __consumer_offsets: records, timers, requests and metadata
changes go to the part they belong to.
"""

import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from broker.cluster.view import ClusterView
from broker.config import BrokerConfig
from broker.coordinator import NOTHING, Outcome, Waiting
from broker.groups.common import (
    CLASSIC,
    CONSUMER,
    OFFSETS,
    SHARE,
    Caller,
    Shared,
    TimerKeys,
    TopicChanges,
    merged,
)
from protocol.errors import ErrorCode
from protocol.stored.versioned import leading_int16

if TYPE_CHECKING:
    from broker.groups.classic import ClassicGroups
    from broker.groups.offsets import Offsets
    from broker.groups.share import ShareGroups
    from protocol.messages.heartbeat import HeartbeatRequest
    from protocol.messages.join_group import JoinGroupRequest
    from protocol.messages.leave_group import LeaveGroupRequest
    from protocol.messages.sync_group import SyncGroupRequest

PARTS = {
    CLASSIC: ("broker.groups.classic", "ClassicGroups"),
    CONSUMER: ("broker.groups.consumer", "ConsumerGroups"),
    SHARE: ("broker.groups.share", "ShareGroups"),
    OFFSETS: ("broker.groups.offsets", "Offsets"),
}
"""Name of a part -> where its class is. A class is imported and made when first needed: by a
record of its kind or by a request. The order is that in which parts are told of things."""

PART_OF_KIND = {
    **dict.fromkeys((0, 1), OFFSETS),
    2: CLASSIC,
    **dict.fromkeys((3, 4, 5, 6, 7, 8, 16), CONSUMER),
    **dict.fromkeys((9, 10, 11, 12, 13, 14, 15), SHARE),
}
"""Kind of record (the int16 that leads a key) -> its part. Other kinds are left alone."""


class Part(Protocol):
    """A protocol (or the offsets) as the machine sees it; made with the machine as its only
    argument.
    """

    def replay(
        self, kind: int, key: bytes, value: bytes | None, producer_id: int, offset: int
    ) -> None:
        """One record, loading or just appended; a value of None is a tombstone. `producer_id` is
        -1 outside of transactions."""

    def loaded(self, now_ms: int) -> Outcome:
        """Everything is replayed: arm timers, finish what was under way. Not called on a part that
        is made later: there was nothing of it."""

    def expired(self, timer: Any, now_ms: int) -> Outcome:
        """A timer of this part: its key, whose first element is the part's name."""

    def topics_changed(self, changes: TopicChanges, now_ms: int) -> Outcome:
        """The view has changed."""


class ClassicMembers(Protocol):
    """What serves members of the classic protocol: `ClassicGroups`, and `ConsumerGroups` for those
    of its groups that have such members (KIP-848). Replies hold this API's response message.
    """

    def join_group(
        self, request: "JoinGroupRequest", caller: Caller, who: Waiting, now_ms: int
    ) -> Outcome: ...

    def sync_group(
        self, request: "SyncGroupRequest", caller: Caller, who: Waiting, now_ms: int
    ) -> Outcome: ...

    def leave_group(
        self, request: "LeaveGroupRequest", caller: Caller, who: Waiting, now_ms: int
    ) -> Outcome: ...

    def heartbeat(self, request: "HeartbeatRequest", now_ms: int) -> ErrorCode: ...


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
        self._parts: dict[str, Any] = {}

    # --- parts

    @property
    def offsets(self) -> "Offsets":
        """The committed offsets of all kinds of groups."""
        found: Offsets = self._parts.get(OFFSETS) or self._make(OFFSETS)
        return found

    @property
    def classic(self) -> "ClassicGroups":
        found: ClassicGroups = self._parts.get(CLASSIC) or self._make(CLASSIC)
        return found

    @property
    def consumer(self) -> Any:
        return self._parts.get(CONSUMER) or self._make(CONSUMER)

    @property
    def share(self) -> "ShareGroups":
        found: ShareGroups = self._parts.get(SHARE) or self._make(SHARE)
        return found

    def _make(self, name: str) -> Any:
        module, cls = PARTS[name]
        part = self._parts[name] = getattr(importlib.import_module(module), cls)(self)
        return part

    def _made(self) -> Iterator[Part]:
        return (self._parts[name] for name in PARTS if name in self._parts)

    # --- the shell's

    def replay(
        self, key: bytes, value: bytes | None, producer_id: int, producer_epoch: int, offset: int
    ) -> None:
        """One record, live or loading; kinds of a later release are left alone."""
        kind = leading_int16(key)
        name = PART_OF_KIND.get(kind)
        if name is not None:
            part = self._parts.get(name) or self._make(name)
            part.replay(kind, key, value, producer_id, offset)

    def replay_end(self, producer_id: int, producer_epoch: int, committed: bool) -> None:
        """A transaction ended: its offsets count, or are forgotten."""
        self.offsets.replay_end(producer_id, committed)

    def loaded(self, now_ms: int) -> Outcome:
        """Arm timers, finish what was under way."""
        self.shared.live = True
        _ = (self.offsets, self.classic)  # every group has need of these two
        return merged([part.loaded(now_ms) for part in self._made()])

    def expired(self, timer: Any, now_ms: int) -> Outcome:
        """One of the parts' timers."""
        outcome: Outcome = self._parts[timer[0]].expired(timer, now_ms)
        return outcome

    def topics_changed(self, changes: TopicChanges, now_ms: int) -> Outcome:
        """Topics of the view were created, deleted or changed otherwise."""
        return merged([part.topics_changed(changes, now_ms) for part in self._made()])

    def topics_deleted(self, names: frozenset[str], now_ms: int) -> Outcome:
        """These are among the topics that changed. An input of its own: what comes of it may be
        too much for one batch."""
        return self.offsets.topics_deleted(names, now_ms)

    def states_deleted(self, topic_ids: frozenset[bytes]) -> Outcome:
        """The states that share groups had of these topics went with them."""
        return self.share.states.topic_ids_deleted(topic_ids) if SHARE in self._parts else NOTHING

    def has_share_group(self, group_id: str) -> bool:
        """Whether the group is one, which has states elsewhere."""
        group = self.shared.groups.get(group_id)
        return group is not None and group.kind == SHARE

    # --- members of the classic protocol, whatever kind of group they are in

    def classic_members(self, group_id: str) -> ClassicMembers:
        """The part that serves JoinGroup, SyncGroup, Heartbeat and LeaveGroup for a group."""
        group = self.shared.groups.get(group_id)
        is_consumer = group is not None and group.kind == CONSUMER
        members: Any = self.consumer if is_consumer else self.classic
        served: ClassicMembers = members
        return served
