"""A consumer group and its members (KIP-848): what the records say, and what follows from it.

Members are values: a request makes new ones, their records are written, and replaying those puts
them into the group. All changes of a group are in `replay_*` of `consumer` through the methods
here that say "set" and "remove".
"""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from broker.coordinator import StoredRecord
from broker.groups.assignors import Assignment
from broker.groups.common import CONSUMER, FROM_COMMIT
from broker.groups.consumer_records import group_tombstones
from broker.groups.hash_order import timeline_ordered
from broker.groups.target import FIRST_EPOCH
from protocol.errors import ErrorCode

STABLE_MEMBER: Final = 0
UNREVOKED: Final = 1
"""The member was told to give partitions up and still reports them."""
UNRELEASED: Final = 2
"""The member waits for partitions that others have."""

JOIN_EPOCH: Final = 0
LEAVE_EPOCH: Final = -1
LEAVE_STATIC_EPOCH: Final = -2
"""Of a static member that will be back (KIP-345)."""
COMMIT_SINCE: Final = 9
"""OffsetCommit version in which members of this protocol commit."""

Held: TypeAlias = dict[bytes, dict[int, int]]
"""Topic id -> partition -> epoch in which the member got it; no empty topics. Never changed once
made."""
NOTHING_HELD: Held = {}


@dataclass(frozen=True, slots=True)
class ClassicMembership:
    """What a member has that uses the classic protocol."""

    session_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]
    """(name, subscription) in the member's order."""


@dataclass(frozen=True, slots=True)
class ConsumerMember:
    """A member. `state` is one of those above."""

    member_id: str
    epoch: int = 0
    previous_epoch: int = -1
    state: int = STABLE_MEMBER
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topics: frozenset[str] = frozenset()
    regex: str = ""
    rebalance_timeout_ms: int = -1
    assignor: str | None = None
    classic: ClassicMembership | None = None
    assigned: Held = field(default_factory=dict)
    revoking: Held = field(default_factory=dict)
    """Partitions that it must give up and may still have."""

    def moved(self, epoch: int, state: int, assigned: Held, revoking: Held) -> "ConsumerMember":
        """The member in its next step towards the target."""
        return replace(
            self,
            epoch=epoch,
            previous_epoch=self.epoch,
            state=state,
            assigned=assigned,
            revoking=revoking,
        )

    def settled_at(self, epoch: int) -> bool:
        """Whether it has all that the target of this epoch gives it."""
        return self.state == STABLE_MEMBER and self.epoch == epoch

    def held_since(self, topic_id: bytes, partition: int) -> int | None:
        """The epoch in which it got a partition that it has, or is giving up."""
        for held in (self.assigned, self.revoking):
            since = held.get(topic_id, {}).get(partition)
            if since is not None:
                return since
        return None


@dataclass(frozen=True, slots=True)
class ResolvedRegex:
    """The topics that matched a pattern in a picture of the cluster (`version`, -1 where that is a
    picture of a former time), and when that was."""

    topics: frozenset[str]
    version: int
    at_ms: int


class ConsumerGroup:
    """A `broker.groups.common.Group` of the consumer protocol."""

    __slots__ = (
        "_assignors",
        "_names",
        "_owners",
        "_protocols",
        "_regexes",
        "assignment_epoch",
        "assignment_ms",
        "checked_epoch",
        "classic_members",
        "default_assignor",
        "epoch",
        "group_id",
        "has_old_record",
        "members",
        "metadata_hash",
        "most_members",
        "resolved",
        "static",
        "target",
        "topic_id_of",
    )

    kind = CONSUMER
    expires = True
    protocol_type = "consumer"

    def __init__(
        self, group_id: str, default_assignor: str, topic_id_of: Callable[[str], bytes]
    ) -> None:
        """`topic_id_of` a name; zeroes for a topic that is not there."""
        self.group_id = group_id
        self.default_assignor = default_assignor
        self.topic_id_of = topic_id_of
        self.epoch = FIRST_EPOCH
        self.metadata_hash = 0
        self.assignment_epoch = FIRST_EPOCH
        self.assignment_ms = 0
        """When the assignment was computed; 0 where the next one need not wait."""
        self.members: dict[str, ConsumerMember] = {}
        self.most_members = 0
        """That there were at a time."""
        self.static: dict[str, str] = {}
        """Instance id -> member id."""
        self.target: dict[str, Assignment] = {}
        self.resolved: dict[str, ResolvedRegex] = {}
        self.checked_epoch = -1
        """Group epoch at which the topics were last compared with `metadata_hash`; -1: to be done.
        A decision that was not written leaves it above the group's epoch: to be done as well."""
        self.classic_members = 0
        self.has_old_record = False
        """There is a record of the topics' partitions, as Kafka 4.0 wrote it: to be deleted."""
        self._names: dict[str, int] = {}
        self._regexes: dict[str, int] = {}
        self._assignors: dict[str, int] = {}
        self._protocols: dict[str, int] = {}
        self._owners: dict[bytes, dict[int, str]] = {}

    # --- as any group

    @property
    def state_name(self) -> str:
        if not self.members:
            return "Empty"
        if self.epoch > self.assignment_epoch:
            return "Assigning"
        if all(m.settled_at(self.assignment_epoch) for m in self.members.values()):
            return "Stable"
        return "Reconciling"

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
        """Whoever is no member may commit while there is none. An epoch that has passed may do for
        some partitions: STALE_MEMBER_EPOCH has to be asked again with `check_commit_partitions`.
        """
        if epoch < 0 and self.is_empty:
            return ErrorCode.NONE
        member = self.members.get(member_id)
        if member is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if not transactional and member.classic is None and version < COMMIT_SINCE:
            return ErrorCode.UNSUPPORTED_VERSION
        return _epoch_error(member, epoch)

    def check_commit_partitions(
        self, member_id: str, epoch: int, partitions: Iterable[tuple[str, int]]
    ) -> ErrorCode:
        """Whether an older epoch may commit for these (topic, partition): if the member has had all
        of them since then (KIP-1251)."""
        member = self.members[member_id]
        code = _epoch_error(member, epoch)
        if epoch > member.epoch or epoch < 0:
            return code
        for topic, partition in partitions:
            since = member.held_since(self.topic_id_of(topic), partition)
            if since is None or since > epoch:
                return code
        return ErrorCode.NONE

    def check_fetch(self, member_id: str, epoch: int) -> ErrorCode:
        member = self.members.get(member_id)
        return ErrorCode.UNKNOWN_MEMBER_ID if member is None else _epoch_error(member, epoch)

    def check_delete(self) -> ErrorCode:
        return ErrorCode.NON_EMPTY_GROUP if self.members else ErrorCode.NONE

    def check_offset_delete(self) -> ErrorCode:
        return ErrorCode.NONE

    def is_subscribed(self, topic: str) -> bool:
        return topic in self._names or any(topic in r.topics for r in self.resolved.values())

    def offsets_expire_from(self) -> int | None:
        return FROM_COMMIT

    def tombstones(self) -> list[StoredRecord]:
        return group_tombstones(self.group_id, self.ordered(), timeline_ordered(self.resolved))

    def ordered(self) -> list[str]:
        """Ids of the members, as Apache Kafka would list them."""
        return timeline_ordered(self.members, self.most_members)

    # --- what follows from the members

    @property
    def metadata_due(self) -> bool:
        """Whether the topics have to be compared with `metadata_hash`."""
        return self.checked_epoch < 0 or self.epoch < self.checked_epoch

    def topics_of(self, member: ConsumerMember) -> frozenset[str]:
        """Names that a member subscribes to, and what its pattern matched."""
        resolved = self.resolved.get(member.regex)
        return member.topics if resolved is None else member.topics | resolved.topics

    def topics_with(self, resolved: Mapping[str, ResolvedRegex]) -> set[str]:
        """All names that members subscribe to, and what these patterns matched."""
        return set(self._names).union(*(r.topics for r in resolved.values()))

    def topics_after(self, before: ConsumerMember, after: ConsumerMember) -> set[str]:
        """All topics once a member has become another."""
        names, regexes = dict(self._names), dict(self._regexes)
        self._swap(names, regexes, before, after)
        return set(names).union(
            *(r.topics for regex, r in self.resolved.items() if regex in regexes)
        )

    def topics_without(self, gone: AbstractSet[str]) -> set[str]:
        """All topics once these members have left."""
        left = [m for member_id, m in self.members.items() if member_id not in gone]
        return set().union(*(self.topics_of(member) for member in left))

    @staticmethod
    def _swap(
        names: dict[str, int],
        regexes: dict[str, int],
        before: ConsumerMember,
        after: ConsumerMember,
    ) -> None:
        _count(names, before.topics, -1)
        _count(regexes, (before.regex,) if before.regex else (), -1)
        _count(names, after.topics, 1)
        _count(regexes, (after.regex,) if after.regex else (), 1)

    def count_of_regex(self, regex: str) -> int:
        """Members that subscribe by this pattern."""
        return self._regexes.get(regex, 0)

    @property
    def regexes(self) -> Mapping[str, int]:
        """Patterns and how many members subscribe by them."""
        return self._regexes

    @property
    def last_refresh_ms(self) -> int:
        """When the patterns were last matched; very long ago if never."""
        return max((r.at_ms for r in self.resolved.values()), default=-(1 << 62))

    @property
    def refreshed_version(self) -> int:
        """The oldest picture of the cluster that a pattern was matched in."""
        return min((r.version for r in self.resolved.values()), default=-1)

    def preferred_assignor(
        self, without: ConsumerMember | None = None, plus: ConsumerMember | None = None
    ) -> str:
        """The one that most members ask for, the default if none does; as if one member were
        another."""
        counts = dict(self._assignors)
        names = timeline_ordered(counts)
        if without is not None and without.assignor:
            _count(counts, (without.assignor,), -1)
        if plus is not None and plus.assignor:
            if plus.assignor not in counts:
                names.insert(0, plus.assignor)  # of several, the newest comes first
            _count(counts, (plus.assignor,), 1)
        names = [name for name in names if name in counts]
        return max(names, key=lambda name: counts[name]) if names else self.default_assignor

    def is_homogeneous(self, before: ConsumerMember, after: ConsumerMember) -> bool:
        """Whether all members subscribe alike, by names and pattern, once one is another."""
        names, regexes = dict(self._names), dict(self._regexes)
        self._swap(names, regexes, before, after)
        size = len(self.members)
        if after.member_id not in self.members and self.static_member(after.instance_id) is None:
            size += 1
        if len(regexes) > 1 or any(count != size for count in regexes.values()):
            return False
        return all(count == size for count in names.values())

    def supports_classic(self, protocol_type: str, protocols: Iterable[str]) -> bool:
        """Whether a member with these protocols may join: one of them is known to all members of
        the classic protocol."""
        if protocol_type != self.protocol_type:
            return False
        known, size = self._protocols, self.classic_members
        return any(known.get(name, 0) == size for name in protocols)

    def only_classic_without(self, members: Iterable[ConsumerMember]) -> bool:
        """Whether all members use the classic protocol once these are gone."""
        gone = {member.member_id: member for member in members}
        classic = sum(1 for member in gone.values() if member.classic is not None)
        others = len(self.members) - len(gone)
        return classic < len(gone) and self.classic_members - classic == others

    def owner_epoch(self, topic_id: bytes, partition: int) -> int | None:
        """Epoch of the member that has a partition or is giving it up; None if nobody."""
        owner = self._owners.get(topic_id, {}).get(partition)
        return None if owner is None else self.members[owner].epoch

    def waits_for_others(self, member: ConsumerMember) -> bool:
        """Whether some partition of the member's target is still another's."""
        for topic_id, partitions in self.target.get(member.member_id, {}).items():
            has = member.assigned.get(topic_id, {})
            owners = self._owners.get(topic_id, {})
            if any(p not in has and p in owners for p in partitions):
                return True
        return False

    def target_of(self, member: ConsumerMember) -> Assignment:
        """A member's part of the target; a static member that is back has its old one's."""
        member_id = member.member_id
        if member.instance_id is not None:
            member_id = self.static.get(member.instance_id, member_id)
        return self.target.get(member_id, {})

    def static_member(self, instance_id: str | None) -> ConsumerMember | None:
        """The member with an instance id."""
        return self.members.get(self.static.get(instance_id, "")) if instance_id else None

    # --- changes, by records only

    def set_member(self, member: ConsumerMember) -> None:
        old = self.members.get(member.member_id)
        self._forget(old)
        self.members[member.member_id] = member
        self.most_members = max(self.most_members, len(self.members))
        if old is not None and old.instance_id is not None and old.instance_id in self.static:
            del self.static[old.instance_id]
        if member.instance_id is not None:
            self.static[member.instance_id] = member.member_id
        _count(self._names, member.topics, 1)
        _count(self._regexes, (member.regex,) if member.regex else (), 1)
        _count(self._assignors, (member.assignor,) if member.assignor else (), 1)
        if member.classic is not None:
            self.classic_members += 1
            _count(self._protocols, {name for name, _ in member.classic.protocols}, 1)
        for held in (member.assigned, member.revoking):
            for topic_id, partitions in held.items():
                owners = self._owners.setdefault(topic_id, {})
                for partition in partitions:
                    owners[partition] = member.member_id

    def remove_member(self, member_id: str) -> None:
        member = self.members.get(member_id)
        self._forget(member)
        if member is not None:
            del self.members[member_id]
            if self.static.get(member.instance_id or "") == member_id:
                del self.static[member.instance_id or ""]

    def _forget(self, member: ConsumerMember | None) -> None:
        if member is None:
            return
        _count(self._names, member.topics, -1)
        _count(self._regexes, (member.regex,) if member.regex else (), -1)
        _count(self._assignors, (member.assignor,) if member.assignor else (), -1)
        if member.classic is not None:
            self.classic_members -= 1
            _count(self._protocols, {name for name, _ in member.classic.protocols}, -1)
        for held in (member.assigned, member.revoking):
            for topic_id, partitions in held.items():
                owners = self._owners.get(topic_id, {})
                for partition in partitions:
                    if owners.get(partition) == member.member_id:
                        del owners[partition]
                if not owners:
                    self._owners.pop(topic_id, None)


def _epoch_error(member: ConsumerMember, epoch: int) -> ErrorCode:
    if epoch == member.epoch:
        return ErrorCode.NONE
    if member.classic is not None:
        return ErrorCode.ILLEGAL_GENERATION
    return ErrorCode.STALE_MEMBER_EPOCH


def _count(counts: dict[str, int], names: Iterable[str], step: int) -> None:
    for name in names:
        count = counts.get(name, 0) + step
        if count:
            counts[name] = count
        else:
            counts.pop(name, None)
