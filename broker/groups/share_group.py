"""A share group and its members (KIP-932): what the records say, and those records.

Members are values: a request makes new ones, their records are written, and replaying those puts
them into the group.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from broker.coordinator import StoredRecord
from broker.groups.common import SHARE, stored
from broker.groups.hash_order import copied_set, names_ordered
from broker.groups.share_assignor import Shares
from broker.groups.target import FIRST_EPOCH
from protocol.errors import ErrorCode
from protocol.stored import share_groups as records

JOIN_EPOCH: Final = 0
LEAVE_EPOCH: Final = -1
STABLE: Final = 0
"""The only state of a member."""


@dataclass(frozen=True, slots=True)
class ShareMember:
    """A member of a share group."""

    member_id: str
    epoch: int = JOIN_EPOCH
    previous_epoch: int = -1
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topics: frozenset[str] = frozenset()
    assigned: Shares = field(default_factory=dict)

    @property
    def ordered(self) -> list[str]:
        """Its topics as a hash table has them."""
        return names_ordered(sorted(self.topics), copied_set(len(self.topics)))


class Initialized(NamedTuple):
    """Partitions of a topic that have a state, or are getting one since `at_ms`."""

    name: str
    partitions: frozenset[int]
    at_ms: int = 0


States = dict[bytes, Initialized]
"""By topic id."""


class ShareGroup:
    """A `broker.groups.common.Group` of the share protocol."""

    __slots__ = (
        "_names",
        "assignment_epoch",
        "assignment_ms",
        "checked_epoch",
        "deleting",
        "epoch",
        "group_id",
        "has_states",
        "initialized",
        "initializing",
        "members",
        "metadata_hash",
        "most_members",
        "target",
    )

    kind = SHARE
    expires = False
    protocol_type = "share"

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.epoch = FIRST_EPOCH
        self.metadata_hash = 0
        self.assignment_epoch = FIRST_EPOCH
        self.assignment_ms = 0
        """When the assignment was computed; 0 where the next one need not wait."""
        self.members: dict[str, ShareMember] = {}
        self.most_members = 0
        """So many there were at a time, which their order depends on."""
        self.target: dict[str, Shares] = {}
        self.checked_epoch = -1
        """Group epoch at which the topics were last compared with `metadata_hash`; -1: to be done.
        A decision that was not written leaves it above the group's epoch: to be done as well."""
        self.has_states = False
        """There is a record of the three below."""
        self.initializing: States = {}
        self.initialized: States = {}
        self.deleting: frozenset[bytes] = frozenset()
        self._names: dict[str, int] = {}

    # --- as any group

    @property
    def state_name(self) -> str:
        return "Stable" if self.members else "Empty"

    @property
    def is_empty(self) -> bool:
        return not self.members

    def check_commit(
        self,
        member_id: str,
        instance_id: str | None,
        epoch: int,
        *,
        transactional: bool,
        version: int,
        now_ms: int,
    ) -> ErrorCode:
        """There are no offsets to commit in a share group."""
        return ErrorCode.GROUP_ID_NOT_FOUND

    def check_fetch(self, member_id: str, epoch: int) -> ErrorCode:
        """There are none to fetch."""
        return ErrorCode.GROUP_ID_NOT_FOUND

    def check_delete(self) -> ErrorCode:
        return ErrorCode.NONE if self.is_empty else ErrorCode.NON_EMPTY_GROUP

    def check_offset_delete(self) -> ErrorCode:
        """There are none to delete."""
        return ErrorCode.GROUP_ID_NOT_FOUND

    def is_subscribed(self, topic: str) -> bool:
        return topic in self._names

    def offsets_expire_from(self) -> int | None:
        return None

    def tombstones(self) -> list[StoredRecord]:
        group_id = self.group_id
        return [
            stored(records.ShareGroupTargetAssignmentMetadataKey(group_id), None),
            stored(records.ShareGroupStatePartitionMetadataKey(group_id), None),
            stored(records.ShareGroupMetadataKey(group_id), None),
        ]

    # --- subscriptions

    @property
    def topics(self) -> frozenset[str]:
        """All that members subscribe to."""
        return frozenset(self._names)

    def topics_after(self, before: ShareMember, after: ShareMember | None) -> frozenset[str]:
        """The same if a member became another, or left (None)."""
        gone = {name for name in before.topics if self._names.get(name) == 1}
        return frozenset((self._names.keys() - gone) | (after.topics if after else frozenset()))

    def alike_after(self, after: ShareMember) -> bool:
        """Whether all members subscribe to the same topics once this one is so."""
        return all(
            member.topics == after.topics
            for member in self.members.values()
            if member.member_id != after.member_id
        )

    # --- replay

    def set_member(self, member: ShareMember) -> None:
        """A member is new, or another."""
        old = self.members.get(member.member_id)
        self._count(old, -1)
        self.members[member.member_id] = member
        self.most_members = max(self.most_members, len(self.members))
        self._count(member, 1)

    def remove_member(self, member_id: str) -> None:
        """A member is gone."""
        self._count(self.members.pop(member_id, None), -1)

    def _count(self, member: ShareMember | None, by: int) -> None:
        for name in member.topics if member else ():
            count = self._names.get(name, 0) + by
            if count:
                self._names[name] = count
            else:
                del self._names[name]


# --- records --------------------------------------------------------------------------------------


def group_record(group_id: str, epoch: int, metadata_hash: int) -> StoredRecord:
    """A group's epoch and what its topics were like then."""
    return stored(
        records.ShareGroupMetadataKey(group_id),
        records.ShareGroupMetadataValue(epoch, metadata_hash),
    )


def member_record(group_id: str, member: ShareMember) -> StoredRecord:
    """What a member said about itself."""
    return stored(
        records.ShareGroupMemberMetadataKey(group_id, member.member_id),
        records.ShareGroupMemberMetadataValue(
            member.rack_id, member.client_id, member.client_host, sorted(member.topics)
        ),
    )


def member_tombstones(group_id: str, member_id: str) -> list[StoredRecord]:
    """A member is gone."""
    return [
        stored(records.ShareGroupCurrentMemberAssignmentKey(group_id, member_id), None),
        stored(records.ShareGroupTargetAssignmentMemberKey(group_id, member_id), None),
        stored(records.ShareGroupMemberMetadataKey(group_id, member_id), None),
    ]


def target_record(group_id: str, member_id: str, assignment: Shares) -> StoredRecord:
    """What a member is to have."""
    value = records.ShareGroupTargetAssignmentMemberValue(
        [records.TopicPartition(topic, sorted(assignment[topic])) for topic in assignment]
    )
    return stored(records.ShareGroupTargetAssignmentMemberKey(group_id, member_id), value)


def target_epoch_record(group_id: str, epoch: int, now_ms: int) -> StoredRecord:
    """The epoch of the target, and when it was computed."""
    return stored(
        records.ShareGroupTargetAssignmentMetadataKey(group_id),
        records.ShareGroupTargetAssignmentMetadataValue(epoch, now_ms),
    )


def current_record(group_id: str, member: ShareMember) -> StoredRecord:
    """What a member has."""
    value = records.ShareGroupCurrentMemberAssignmentValue(
        member.epoch,
        member.previous_epoch,
        STABLE,
        [records.TopicPartitions(topic, sorted(parts)) for topic, parts in member.assigned.items()],
    )
    return stored(records.ShareGroupCurrentMemberAssignmentKey(group_id, member.member_id), value)


def states_record(
    group_id: str, initializing: States, initialized: States, deleting: Mapping[bytes, str]
) -> StoredRecord:
    """Which partitions have states at the share coordinator, by topic id."""
    value = records.ShareGroupStatePartitionMetadataValue(
        _infos(initializing),
        _infos(initialized),
        [records.TopicInfo(topic_id, name) for topic_id, name in sorted(deleting.items())],
    )
    return stored(records.ShareGroupStatePartitionMetadataKey(group_id), value)


def _infos(states: States) -> list[records.TopicPartitionsInfo]:
    return [
        records.TopicPartitionsInfo(topic_id, one.name, sorted(one.partitions))
        for topic_id, one in sorted(states.items())
    ]


def shares_of(
    stored_parts: Iterable[records.TopicPartition | records.TopicPartitions],
) -> Shares:
    """An assignment out of a record."""
    return {bytes(p.topic_id): frozenset(p.partitions) for p in stored_parts}


def states_of(infos: Iterable[records.TopicPartitionsInfo], now_ms: int) -> States:
    """States out of a record."""
    return {
        bytes(info.topic_id): Initialized(info.topic_name, frozenset(info.partitions), now_ms)
        for info in infos
    }
