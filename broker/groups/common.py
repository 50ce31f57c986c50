"""What the group protocols of one machine share."""

import ipaddress
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from broker.cluster.view import ZERO_UUID, ClusterView
from broker.config import BrokerConfig
from broker.coordinator import NOTHING, Outcome, StoredRecord
from protocol.errors import ErrorCode
from protocol.stored.versioned import encode_key, encode_value

if TYPE_CHECKING:
    from broker.context import Context

CLASSIC, CONSUMER, SHARE = "classic", "consumer", "share"
"""Kinds of groups: the types of ListGroups in lower case. Also the names of the machine's parts."""
OFFSETS = "offsets"

FROM_COMMIT = -1
"""See `Group.offsets_expire_from`."""


class TimerKeys(Protocol):
    """The shell's timers (`broker.timers.Timers`), or a test's.

    Keys of this package are tuples that begin with the name of the part they belong to:
    ("classic", purpose, group id, member id).
    """

    def set(self, key: Hashable, at_ms: int) -> None: ...

    def cancel(self, key: Hashable) -> None: ...


class Caller(NamedTuple):
    """Who sent a request, and its version: what a member is described by."""

    client_id: str
    client_host: str
    """As DescribeGroups shows it: "/127.0.0.1"."""
    version: int


class TopicChanges(NamedTuple):
    """Names of topics that differ between two pictures of the cluster."""

    changed: frozenset[str]
    """New, deleted, or other in any part."""
    deleted: frozenset[str]
    """Gone; also when another topic (another id) has the name now."""
    created: frozenset[str] = frozenset()
    """There now; also when another topic had the name before."""


def topic_changes(old: ClusterView, new: ClusterView) -> TopicChanges:
    """Topics are told apart by identity: a picture keeps what did not change. One that gets an id,
    because its cluster's controllers did not give any before, is the same topic."""
    if old.topics is new.topics:
        return TopicChanges(frozenset(), frozenset())
    names = old.topics.keys() | new.topics.keys()
    changed = frozenset(n for n in names if old.topics.get(n) is not new.topics.get(n))
    deleted, created = [], []
    for name in changed:
        before, after = old.topics.get(name), new.topics.get(name)
        if before is None or after is None or before.topic_id not in (after.topic_id, ZERO_UUID):
            if before is not None:
                deleted.append(name)
            if after is not None:
                created.append(name)
    return TopicChanges(changed, frozenset(deleted), frozenset(created))


class Group(Protocol):
    """A group of any kind, as offsets, listings and deletions see it.

    A protocol keeps its groups in `Shared.groups`. Who finds one of another kind there answers as
    for an unknown group (or converts it, KIP-848).
    """

    group_id: str
    kind: str
    """CLASSIC, CONSUMER or SHARE."""

    @property
    def state_name(self) -> str:
        """Kafka's name of the state: "Empty", "Stable", "PreparingRebalance", ..."""

    @property
    def protocol_type(self) -> str:
        """As ListGroups shows it: "consumer", "share", a classic group's own; "" for none."""

    @property
    def is_empty(self) -> bool:
        """No members."""

    @property
    def expires(self) -> bool:
        """Whether the retention deletes the group once it is empty and has no offsets."""

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
        """Whether this caller may commit offsets; `epoch` is a generation or a member's epoch.
        A commit of a member also is a sign of life. `version` is the API's.
        """

    def check_commit_partitions(
        self, member_id: str, epoch: int, partitions: Iterable[tuple[str, int]]
    ) -> ErrorCode:
        """Asked where `check_commit` gave STALE_MEMBER_EPOCH: whether the member may commit for
        these partitions with that older epoch (KIP-1251)."""

    def check_fetch(self, member_id: str, epoch: int) -> ErrorCode:
        """Whether this member may read offsets (OffsetFetch 9); not asked where no member id is
        given and the epoch is negative."""

    def check_delete(self) -> ErrorCode:
        """Whether DeleteGroups may delete it: NON_EMPTY_GROUP, ..."""

    def check_offset_delete(self) -> ErrorCode:
        """Whether OffsetDelete may be asked of it at all; topics are `is_subscribed`'s."""

    def is_subscribed(self, topic: str) -> bool:
        """Whether a member reads the topic, as far as is known: its offsets are kept."""

    def offsets_expire_from(self) -> int | None:
        """The time (ms) that offsets.retention.minutes counts from for topics that nobody reads;
        FROM_COMMIT: each offset's own commit; None: they are kept at present."""

    def tombstones(self) -> list[StoredRecord]:
        """Records whose replay deletes the group; its offsets are not among them."""


class Shared:
    """One machine's groups by id, and what its protocols may use."""

    __slots__ = ("config", "groups", "index", "live", "new_id", "timers", "view")

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
        self.live = False
        """Loading is over."""


def stored(key: Any, value: Any | None, version: int | None = None) -> StoredRecord:
    """A record of the internal topic from its declared key and value (None: a tombstone).

    `version` is the value's, the highest declared by default.
    """
    return StoredRecord(encode_key(key), None if value is None else encode_value(value, version))


def merged(outcomes: Iterable[Outcome]) -> Outcome:
    """Several parts' outcomes as one batch. Only for outcomes without `refused` and `producer`;
    all of it is replayed."""
    several = [outcome for outcome in outcomes if outcome.records or outcome.replies]
    if not several:
        return NOTHING
    return Outcome(
        [record for outcome in several for record in outcome.records],
        [reply for outcome in several for reply in outcome.replies],
    )


def caller_of(context: "Context") -> Caller:
    """Who sent the request in hand."""
    return Caller(context.client_id or "", _java_address(context.client_host), context.version)


def _java_address(host: str) -> str:
    """An address as Apache Kafka shows a client's: "/127.0.0.1", "/0:0:0:0:0:0:0:1"."""
    if ":" not in host:
        return f"/{host}"
    address, percent, scope = host.partition("%")
    parts = ipaddress.IPv6Address(address).exploded.split(":")
    return f"/{':'.join(part.lstrip('0') or '0' for part in parts)}{percent}{scope}"
