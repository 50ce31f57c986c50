"""The partitions of a share group that have a state at the share coordinator, or are to get or to
lose one (KIP-932): what is recorded of them, and the work that follows from it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from broker.coordinator import NOTHING, Outcome, StoredRecord
from broker.groups.share_group import (
    Initialized,
    ShareGroup,
    States,
    states_record,
)
from broker.shares.common import NO_OFFSET, Refused, ShareKey
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.groups.machine import GroupMachine

RETRY_MS: Final = 30_000
"""After so long a state that is not there yet is asked for again."""
UNKNOWN_NAME: Final = "<UNKNOWN>"
"""How records name a topic that is gone."""

Partitions = Mapping[bytes, Iterable[int]]
"""By topic id."""


class InitializeStates(NamedTuple):
    """Work for the shell: these partitions are to get a state that begins at these offsets."""

    group_id: str
    state_epoch: int
    offsets: Mapping[bytes, Mapping[int, int]]
    """Topic id -> partition -> start offset."""


class GroupStates:
    """For all share groups of one machine."""

    def __init__(self, machine: "GroupMachine") -> None:
        self._machine = machine
        self._shared = machine.shared
        self.asked_ms = 0
        """When states were last asked for, which records do not tell. While loading it is 0, so
        that those which were on their way are asked for again at once."""

    def group(self, group_id: str) -> ShareGroup | None:
        """The group, if there is one of this kind."""
        group = self._shared.groups.get(group_id)
        return group if isinstance(group, ShareGroup) else None

    def known(self, group_id: str) -> ShareGroup:
        """The group. Raises Refused."""
        group = self.group(group_id)
        if group is None:
            there = self._machine.offsets.exists(group_id)
            what = "is not a share group" if there else "is not known"
            raise Refused(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} {what}.")
        return group

    def known_or_new(self, group_id: str) -> ShareGroup:
        """The group, a new one if there is none. Raises Refused."""
        if self._machine.offsets.exists(group_id):
            return self.known(group_id)
        return ShareGroup(group_id)

    def all(self) -> list[ShareGroup]:
        """Every share group."""
        return [g for g in self._shared.groups.values() if isinstance(g, ShareGroup)]

    def with_states(self, group_id: str) -> list[ShareKey]:
        """The share partitions of a group that have a state, as far as their topics are there."""
        group = self.group(group_id)
        names = self._shared.view().names
        return [
            ShareKey(group_id, topic_id, index)
            for topic_id, one in sorted(group.initialized.items() if group else ())
            if topic_id in names
            for index in sorted(one.partitions)
        ]

    # --- states that are made

    def missing(
        self,
        group: ShareGroup,
        names: Iterable[str],
        epoch: int,
        records: list[StoredRecord],
        now_ms: int,
    ) -> list[InitializeStates]:
        """The work for partitions of the group's topics that have no state and are not just getting
        one; that they do is added to the records. `epoch` is the group's."""
        self.asked_ms = now_ms
        missing: States = {}
        offsets: dict[bytes, dict[int, int]] = {}
        topics = self._shared.view().topics
        for name in sorted(names):
            info = topics.get(name)
            if info is None:
                continue
            topic_id = info.topic_id
            there = self._with_state(group, topic_id, now_ms)
            if len(there) < len(info.partitions):
                lacking = frozenset(range(len(info.partitions))) - there
                missing[topic_id] = Initialized(name, lacking, now_ms)
                known = topic_id in group.initialized or topic_id in group.initializing
                # A topic that has got more partitions is read from their beginning, and so is one
                # that is asked for again, as in Apache Kafka.
                offsets[topic_id] = dict.fromkeys(sorted(lacking), 0 if known else NO_OFFSET)
        if not missing:
            return []
        records.append(self._initializing_record(group, missing))
        return [InitializeStates(group.group_id, epoch, offsets)]

    @staticmethod
    def _with_state(group: ShareGroup, topic_id: bytes, now_ms: int) -> frozenset[int]:
        there: frozenset[int] = frozenset()
        if topic_id in group.initialized:
            there |= group.initialized[topic_id].partitions
        getting = group.initializing.get(topic_id)
        if getting is not None and now_ms - getting.at_ms < RETRY_MS:
            there |= getting.partitions
        return there

    def _initializing_record(self, group: ShareGroup, added: States) -> StoredRecord:
        deleting = group.deleting - added.keys() if group.has_states else frozenset()
        return states_record(
            group.group_id,
            _joined(group.initializing, added),
            group.initialized,
            self._named(deleting),
        )

    def _named(self, topic_ids: Iterable[bytes]) -> dict[bytes, str]:
        names = self._shared.view().names
        return {topic_id: names.get(topic_id, UNKNOWN_NAME) for topic_id in topic_ids}

    def initialized(self, group_id: str, partitions: Partitions) -> Outcome:
        """These have a state now."""
        group = self.group(group_id)
        if group is None or not partitions:
            return NOTHING
        names = self._named(partitions)
        added = {
            topic_id: Initialized(names[topic_id], frozenset(indexes))
            for topic_id, indexes in partitions.items()
        }
        record = states_record(
            group_id,
            _without(group.initializing, partitions),
            _joined(group.initialized, added),
            self._named(group.deleting),
        )
        return Outcome([record])

    def uninitialized(self, group_id: str, partitions: Partitions) -> Outcome:
        """These got none: a later heartbeat asks again."""
        group = self.group(group_id)
        if group is None or not group.initializing or not partitions:
            return NOTHING
        record = states_record(
            group_id,
            _without(group.initializing, partitions),
            group.initialized,
            self._named(group.deleting),
        )
        return Outcome([record])

    # --- states that go

    def begin_deletion(self, group_id: str) -> tuple[list[StoredRecord], Partitions]:
        """The group is to be deleted: a record that its states go, and which those are.

        Raises Refused where it cannot be; an unknown group has no states.
        """
        group = self.group(group_id)
        if group is None:
            return [], {}
        code = group.check_delete()
        if code:
            raise Refused(code, code.message)
        if not group.has_states:
            return [], {}
        view = self._shared.view()
        going = _joined(group.initialized, group.initializing)
        for topic_id in group.deleting:
            name = view.names.get(topic_id)
            if name is not None:
                every = frozenset(range(len(view.topics[name].partitions)))
                going = _joined(going, {topic_id: Initialized(name, every)})
        names = {topic_id: one.name for topic_id, one in going.items()}
        record = states_record(group_id, {}, {}, names)
        return [record], {topic_id: one.partitions for topic_id, one in going.items()}

    def begin_offset_deletion(
        self, group_id: str, topics: Iterable[str], refused: Callable[[str, str | None], None]
    ) -> tuple[list[StoredRecord], Partitions]:
        """States of topics are to be deleted: a record of it, and which those are.

        `refused(topic, sentence)` for those that have none. Raises Refused.
        """
        group = self.known(group_id)
        code = group.check_delete()
        if code:
            raise Refused(code, code.message)
        if not group.has_states:
            return [], {}
        initialized, deleting = dict(group.initialized), set(group.deleting)
        going: dict[bytes, Iterable[int]] = {}
        view = self._shared.view()
        for name in topics:
            info = view.topics.get(name)
            if info is None:
                refused(name, None)
            elif info.topic_id in initialized:
                going[info.topic_id] = initialized.pop(info.topic_id).partitions
                deleting.add(info.topic_id)
            elif info.topic_id in deleting:
                going[info.topic_id] = range(len(info.partitions))
            else:
                refused(name, "The group has no state of this topic.")
        record = states_record(group_id, group.initializing, initialized, self._named(deleting))
        return [record], going

    def offsets_deleted(self, group_id: str, topic_ids: Iterable[bytes]) -> Outcome:
        """The states of these topics are gone."""
        group = self.group(group_id)
        if group is None or not group.has_states:
            return NOTHING
        deleting = self._named(group.deleting.difference(topic_ids))
        record = states_record(group_id, group.initializing, group.initialized, deleting)
        return Outcome([record])

    def alter_offsets(
        self, group_id: str, offsets: Mapping[bytes, Mapping[int, int]], now_ms: int
    ) -> tuple[list[StoredRecord], InitializeStates]:
        """New start offsets for a group without members, which is made if there is none.

        Raises Refused.
        """
        self.asked_ms = now_ms
        group = self.known_or_new(group_id)
        if group.members:
            raise Refused(ErrorCode.NON_EMPTY_GROUP, ErrorCode.NON_EMPTY_GROUP.message)
        names = self._named(offsets)
        added = {
            topic_id: Initialized(names[topic_id], frozenset(of_topic), now_ms)
            for topic_id, of_topic in offsets.items()
        }
        records = [self._initializing_record(group, added)] if added else []
        return records, InitializeStates(group_id, group.epoch, offsets)

    def topic_ids_deleted(self, topic_ids: frozenset[bytes]) -> Outcome:
        """The states of topics that are gone were deleted with them."""
        records: list[StoredRecord] = []
        for group in self.all():
            known = group.initializing.keys() | group.initialized.keys() | group.deleting
            if not known.isdisjoint(topic_ids):
                left = [
                    {t: one for t, one in states.items() if t not in topic_ids}
                    for states in (group.initializing, group.initialized)
                ]
                deleting = self._named(group.deleting - topic_ids)
                records.append(states_record(group.group_id, left[0], left[1], deleting))
        return Outcome(records) if records else NOTHING


def _joined(states: States, added: States) -> States:
    """Both; what is added counts."""
    together = dict(states)
    for topic_id, one in added.items():
        there = together.get(topic_id)
        before = there.partitions if there is not None else frozenset()
        together[topic_id] = one._replace(partitions=before | one.partitions)
    return together


def _without(states: States, partitions: Partitions) -> States:
    """What is left if these are taken out."""
    left: States = {}
    for topic_id, one in states.items():
        rest = one.partitions.difference(partitions.get(topic_id, ()))
        if rest:
            left[topic_id] = one._replace(partitions=rest)
    return left
