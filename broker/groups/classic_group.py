"""A classic group: its members, their protocols, its leader and generation, and the record of it.

Bookkeeping only; when what happens is `classic`'s. Terms of Apache Kafka: a *pending* member was
given an id and has not joined yet (KIP-394), a *static* one has an instance id (KIP-345), a *new*
one waits for its first generation.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from broker.coordinator import StoredRecord, Waiting
from broker.groups.common import CLASSIC, FROM_COMMIT, TimerKeys, stored
from protocol.compiler import decoder
from protocol.errors import ErrorCode, Malformed
from protocol.stored.consumer_offsets import GroupMetadataKey, GroupMetadataValue, MemberMetadata
from protocol.stored.consumer_protocol import ConsumerProtocolSubscription
from protocol.stored.versioned import decode_versioned

EMPTY: Final = "Empty"
PREPARING: Final = "PreparingRebalance"
"""Members join; the generation ends when all have, or the rebalance timeout has passed."""
COMPLETING: Final = "CompletingRebalance"
"""The next generation has begun; its assignments are due from the leader."""
STABLE: Final = "Stable"

CONSUMER_TYPE = "consumer"
"""Protocol type of consumers: the only one whose metadata a broker reads."""
VALUE_VERSION = 3
"""Of the group's record, as Apache Kafka writes it since 2.3."""

Protocols = tuple[tuple[str, bytes], ...]
"""(name, metadata) in the member's order of preference."""


class Asked(NamedTuple):
    """A JoinGroup or SyncGroup that waits for the others."""

    who: Waiting
    version: int


class Member:
    """A member of a classic group."""

    __slots__ = (
        "assignment",
        "client_host",
        "client_id",
        "instance_id",
        "is_new",
        "joining",
        "member_id",
        "protocols",
        "rebalance_timeout_ms",
        "session",
        "session_timeout_ms",
        "syncing",
    )

    def __init__(
        self,
        group_id: str,
        member_id: str,
        instance_id: str | None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocols: Protocols,
    ) -> None:
        self.instance_id = instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocols = protocols
        self.assignment = b""
        self.is_new = False
        self.joining: Asked | None = None
        self.syncing: Asked | None = None
        self.rename(group_id, member_id)

    def rename(self, group_id: str, member_id: str) -> None:
        """A static member that comes back has a new id."""
        self.member_id = member_id
        self.session = session_timer(group_id, member_id)

    def metadata(self, protocol: str | None) -> bytes:
        """What the member said for that protocol; nothing if it does not know it."""
        for name, metadata in self.protocols:
            if name == protocol:
                return metadata
        return b""


def session_timer(group_id: str, member_id: str) -> tuple[str, str, str, str]:
    """Key of the timer that ends a member (or a pending one)."""
    return (CLASSIC, "session", group_id, member_id)


class ClassicGroup:
    """A `broker.groups.common.Group` of the classic protocol."""

    __slots__ = (
        "_subscriptions",
        "_supported",
        "_topics",
        "delay_left_ms",
        "generation",
        "group_id",
        "joined",
        "leader",
        "members",
        "new_member_joined",
        "pending",
        "pending_sync",
        "protocol",
        "protocol_type",
        "since_ms",
        "state",
        "static",
        "timers",
    )

    kind = CLASSIC

    def __init__(self, group_id: str, timers: TimerKeys, now_ms: int) -> None:
        self.group_id = group_id
        self.timers = timers
        self.state = EMPTY
        self.since_ms = now_ms
        """When the state was entered; -1 where the record of an old broker does not say."""
        self.protocol_type = ""
        self.generation = 0
        self.protocol: str | None = None
        self.leader: str | None = None
        self.members: dict[str, Member] = {}
        self.static: dict[str, str] = {}
        """Instance id -> member id."""
        self.pending: dict[str, None] = {}
        self.pending_sync: dict[str, None] = {}
        """Members of this generation that have not asked for their assignment yet."""
        self.joined = 0
        """Members whose JoinGroup waits."""
        self.new_member_joined = False
        self.delay_left_ms: int | None = None
        """In a group's first rebalance, how much more it may be put off; None in later ones."""
        self._supported: dict[str, int] = {}
        self._subscriptions: list[bytes] | None = None
        self._topics: frozenset[str] | None = None

    # --- as any group

    @property
    def state_name(self) -> str:
        return self.state

    @property
    def is_empty(self) -> bool:
        return self.state == EMPTY

    @property
    def expires(self) -> bool:
        """Not while somebody was given a member id and is about to join."""
        return not self.pending

    def check_member(self, member_id: str, instance_id: str | None) -> ErrorCode:
        """Whether there is this member: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID."""
        if instance_id is not None:
            known = self.static.get(instance_id)
            if known is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            if known != member_id:
                return ErrorCode.FENCED_INSTANCE_ID
        if member_id not in self.members:
            return ErrorCode.UNKNOWN_MEMBER_ID
        return ErrorCode.NONE

    def check_generation(
        self, member_id: str, instance_id: str | None, generation: int
    ) -> ErrorCode:
        """`check_member`, and of this generation: ILLEGAL_GENERATION."""
        code = self.check_member(member_id, instance_id)
        if code == ErrorCode.NONE and generation != self.generation:
            return ErrorCode.ILLEGAL_GENERATION
        return code

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
        """Without a generation only while the group is empty, or in a transaction (producers before
        KIP-447 do not know of members)."""
        if epoch < 0 and (self.is_empty or not (member_id or instance_id is not None)):
            allowed = self.is_empty or transactional
            return ErrorCode.NONE if allowed else ErrorCode.UNKNOWN_MEMBER_ID
        code = self.check_generation(member_id, instance_id, epoch)
        if code != ErrorCode.NONE or transactional:
            return code
        self.alive(self.members[member_id], now_ms)
        # While members join, offsets of the generation that ends are welcome.
        rebalanced = self.state == COMPLETING
        return ErrorCode.REBALANCE_IN_PROGRESS if rebalanced else ErrorCode.NONE

    def check_commit_partitions(
        self, member_id: str, epoch: int, partitions: Iterable[tuple[str, int]]
    ) -> ErrorCode:
        """Never: a classic generation is not `check_commit`'s STALE_MEMBER_EPOCH."""
        return ErrorCode.STALE_MEMBER_EPOCH

    def check_delete(self) -> ErrorCode:
        return ErrorCode.NONE if self.is_empty else ErrorCode.NON_EMPTY_GROUP

    def check_offset_delete(self) -> ErrorCode:
        if self.is_empty or self.protocol_type == CONSUMER_TYPE:
            return ErrorCode.NONE
        return ErrorCode.NON_EMPTY_GROUP

    def check_fetch(self, member_id: str, epoch: int) -> ErrorCode:
        """Anybody may."""
        return ErrorCode.NONE

    def is_subscribed(self, topic: str) -> bool:
        """True also where the members' metadata cannot be read."""
        if self.is_empty:
            return False
        topics = self._subscribed()
        return topics is None or topic in topics

    def offsets_expire_from(self) -> int | None:
        """KIP-211: from when the group became empty; in a stable group of consumers, what nobody
        is subscribed to counts from its commit."""
        if self.is_empty:
            if not self.protocol_type or self.since_ms < 0:
                return FROM_COMMIT
            return self.since_ms
        if self.state == STABLE and self._subscribed() is not None:
            return FROM_COMMIT
        return None

    def tombstones(self) -> list[StoredRecord]:
        """None is written for a group that never had a generation: there is no record of it."""
        return [stored(GroupMetadataKey(self.group_id), None)] if self.generation > 0 else []

    def _subscribed(self) -> frozenset[str] | None:
        if self._subscriptions is not None:
            self._topics = _topics_of(self._subscriptions)
            self._subscriptions = None
        return self._topics

    # --- members

    def alive(self, member: Member, now_ms: int) -> None:
        """A sign of life: the member's session begins anew."""
        self.timers.set(member.session, now_ms + member.session_timeout_ms)

    def add(self, member: Member, protocol_type: str) -> None:
        """A member, with its JoinGroup if that waits; the first one brings the protocol type."""
        if member.instance_id is not None:
            self.static[member.instance_id] = member.member_id
        if not self.members:
            self.protocol_type = protocol_type
        if self.leader is None:
            self.leader = member.member_id
        self.members[member.member_id] = member
        self._count(member.protocols, 1)
        if member.joining is not None:
            self.joined += 1
        self.pending.pop(member.member_id, None)

    def remove(self, member_id: str) -> None:
        """A member or a pending one, or nobody; whoever waits was answered."""
        member = self.members.pop(member_id, None)
        if member is not None:
            self._count(member.protocols, -1)
            if member.joining is not None:
                self.joined -= 1
            if member.instance_id is not None:
                self.static.pop(member.instance_id, None)
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)
        self.pending.pop(member_id, None)
        self.pending_sync.pop(member_id, None)

    def replace_static(self, member: Member, member_id: str) -> None:
        """A static member has come back under another id."""
        assert member.instance_id is not None
        old = member.member_id
        del self.members[old]
        member.rename(self.group_id, member_id)
        self.members[member_id] = member
        self.static[member.instance_id] = member_id
        if self.leader == old:
            self.leader = member_id
        if old in self.pending_sync:
            del self.pending_sync[old]
            self.pending_sync[member_id] = None

    def update(
        self,
        member: Member,
        protocols: Protocols,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
    ) -> None:
        """What a member says when it joins again."""
        self._count(member.protocols, -1)
        member.protocols = protocols
        self._count(protocols, 1)
        member.rebalance_timeout_ms = rebalance_timeout_ms
        member.session_timeout_ms = session_timeout_ms

    def set_joining(self, member: Member, asked: Asked | None) -> None:
        """A member's JoinGroup waits, or (None) was answered."""
        self.joined += (asked is not None) - (member.joining is not None)
        member.joining = asked

    def rebalance_timeout_ms(self) -> int:
        """The longest of all members."""
        return max((m.rebalance_timeout_ms for m in self.members.values()), default=0)

    def elect_leader(self) -> bool:
        """See that a member that has joined leads; False if none has."""
        leader = self.members.get(self.leader or "")
        if leader is not None and leader.joining is not None:
            return True
        for member in self.members.values():
            if member.joining is not None:
                self.leader = member.member_id
                return True
        return False

    # --- protocols

    def supports(self, protocol_type: str, protocols: Sequence[str]) -> bool:
        """Whether a member with these protocols fits: one of them is known to all members."""
        if self.is_empty:
            return bool(protocol_type) and bool(protocols)
        size = len(self.members)
        return protocol_type == self.protocol_type and any(
            self._supported.get(name, 0) == size for name in protocols
        )

    def select_protocol(self) -> str:
        """Each member votes for the first of its protocols that all know; of those with the most
        votes the one that the leader prefers (Apache Kafka: whichever its hash map has first).
        """
        size = len(self.members)
        candidates = {name for name, count in self._supported.items() if count == size}
        votes: dict[str, int] = {}
        for member in self.members.values():
            for name, _ in member.protocols:
                if name in candidates:
                    votes[name] = votes.get(name, 0) + 1
                    break
        most = max(votes.values())
        leader = self.members[self.leader or next(iter(self.members))]
        return next(name for name, _ in leader.protocols if votes.get(name) == most)

    def _count(self, protocols: Protocols, step: int) -> None:
        for name in dict.fromkeys(name for name, _ in protocols):
            count = self._supported.get(name, 0) + step
            if count:
                self._supported[name] = count
            else:
                del self._supported[name]

    # --- generations

    def enter(self, state: str, now_ms: int) -> None:
        self.state = state
        self.since_ms = now_ms

    def next_generation(self, now_ms: int) -> None:
        """COMPLETING with the members there are, or EMPTY."""
        self.generation = self.generation + 1 & 0x7FFFFFFF
        self.protocol = self.select_protocol() if self.members else None
        self.pending_sync.clear()
        self.enter(COMPLETING if self.members else EMPTY, now_ms)
        self._remember_subscriptions()

    def _remember_subscriptions(self) -> None:
        """What is_subscribed answers from until the next generation; read when it is asked."""
        self._topics = None
        self._subscriptions = None
        if self.protocol_type == CONSUMER_TYPE:
            members = self.members.values()
            self._subscriptions = [member.metadata(self.protocol) for member in members]

    # --- the record

    def record(self) -> StoredRecord:
        """The group as it is now."""
        members = [
            MemberMetadata(
                member.member_id,
                member.instance_id,
                member.client_id,
                member.client_host,
                member.rebalance_timeout_ms,
                member.session_timeout_ms,
                member.metadata(self.protocol),
                member.assignment,
            )
            for member in self.members.values()
        ]
        value = GroupMetadataValue(
            self.protocol_type, self.generation, self.protocol, self.leader, self.since_ms, members
        )
        return stored(GroupMetadataKey(self.group_id), value, VALUE_VERSION)

    @classmethod
    def restored(cls, group_id: str, timers: TimerKeys, data: bytes) -> "ClassicGroup":
        """A group from its record's value: Stable with members, else Empty."""
        value = decode_versioned(GroupMetadataValue, data)
        group = cls(group_id, timers, value.current_state_timestamp)
        group.generation = value.generation
        group.protocol_type = value.protocol_type
        group.protocol = value.protocol
        group.leader = value.leader
        for stored_member in value.members:
            timeout = stored_member.rebalance_timeout
            member = Member(
                group_id,
                stored_member.member_id,
                stored_member.group_instance_id,
                stored_member.client_id,
                stored_member.client_host,
                stored_member.session_timeout if timeout < 0 else timeout,
                stored_member.session_timeout,
                ((value.protocol or "", bytes(stored_member.subscription)),),
            )
            member.assignment = bytes(stored_member.assignment)
            group.add(member, value.protocol_type)
        if group.members:
            group.state = STABLE
        group._remember_subscriptions()
        return group


def _topics_of(subscriptions: list[bytes]) -> frozenset[str] | None:
    """The topics of all; None if one cannot be read."""
    topics: set[str] = set()
    try:
        for data in subscriptions:
            # What version 0 had leads every later one, and is all that is wanted here.
            topics.update(decoder(ConsumerProtocolSubscription, 0)(data, 2)[0].topics)
    except Malformed:
        return None
    return frozenset(topics)
