"""What clients ask of topics: names, counts and assignments checked and planned. Pure.

The order of the checks and the error codes are those of Apache Kafka 3.9 in ZooKeeper mode.
Replica assignment without racks is Kafka's: the first replica goes round robin from a random
broker, the others follow at a shift that grows with every full round.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from broker.cluster.layout import Assignment
from protocol.errors import ErrorCode

MAX_NAME_LENGTH = 249
LEGAL_CHARACTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-",
)
UNSET = -1

Random = Callable[[int], int]
"""random(n) -> a number from 0 to n-1."""


class Refusal(NamedTuple):
    """Why something asked for is not done: goes into the response."""

    code: ErrorCode
    message: str | None = None


class Refused(Exception):
    """Carries a Refusal out of nested checks."""

    def __init__(self, code: ErrorCode, message: str | None = None) -> None:
        super().__init__(code, message)
        self.refusal = Refusal(code, message)


class BrokerSite(NamedTuple):
    """A live broker and its rack."""

    id: int
    rack: str | None = None


class TopicWish(NamedTuple):
    """One entry of a CreateTopics request; counts are -1 where the default is wanted."""

    name: str
    partitions: int = UNSET
    replication: int = UNSET
    assignments: Sequence[tuple[int, tuple[int, ...]]] = ()
    configs: Mapping[str, str | None] = {}
    config_refusal: Refusal | None = None
    """What is wrong with the settings; told only when nothing else is wrong."""


class PartitionsWish(NamedTuple):
    """One entry of a CreatePartitions request; `assignments` None lets the controller choose."""

    name: str
    total: int
    assignments: Sequence[tuple[int, ...]] | None = None


class TopicPlan(NamedTuple):
    """A topic as it will be created."""

    name: str
    assignments: dict[int, Assignment]
    configs: dict[str, str]

    @property
    def replication(self) -> int:
        return len(self.assignments[0].replicas)


class Created(NamedTuple):
    """Answer to a TopicWish; `topic_id` is zero when it was only validated."""

    topic_id: bytes
    partitions: int
    replication: int


def name_error(name: str) -> str | None:
    """What is wrong with a topic name, or None."""
    if not name:
        return "it is empty"
    if name in (".", ".."):
        return f"'{name}' has a meaning of its own in paths"
    if len(name) > MAX_NAME_LENGTH:
        return f"it has {len(name)} characters, more than {MAX_NAME_LENGTH}"
    if not LEGAL_CHARACTERS.issuperset(name):
        return "only ASCII letters, digits, '.', '_' and '-' may stand in it"
    return None


def check_name(name: str) -> None:
    """Raises Refused with INVALID_TOPIC_EXCEPTION."""
    error = name_error(name)
    if error is not None:
        raise Refused(
            ErrorCode.INVALID_TOPIC_EXCEPTION, f"Not a topic name, {error}: {name[:300]!r}"
        )


def collision_key(name: str) -> str:
    """Two topics whose keys are equal would share metric names."""
    return name.replace(".", "_")


def collisions(name: str, others: Iterable[str]) -> list[str]:
    """Topics that differ from `name` only by dots against underscores."""
    if "." not in name and "_" not in name:
        return []
    key = collision_key(name)
    return sorted(o for o in others if o != name and collision_key(o) == key)


MAX_NEW_PARTITIONS = 10_000
"""Partitions that one request may ask for, as Apache Kafka 4 has it; without a bound one small
request could hold up or fill the whole broker.
"""


def too_many_partitions() -> Refused:
    """The refusal of a request that asks for more."""
    return Refused(
        ErrorCode.POLICY_VIOLATION,
        f"One request may ask for at most {MAX_NEW_PARTITIONS} new partitions.",
    )


def assign_replicas(
    brokers: Sequence[BrokerSite],
    partitions: int,
    replication: int,
    random: Random,
    *,
    start_index: int = -1,
    start_partition: int = 0,
) -> dict[int, Assignment]:
    """Replicas for `partitions` new partitions from index `start_partition` on.

    `start_index` fixes the first broker (partition growth); -1 draws it. Raises Refused.
    """
    if partitions <= 0:
        raise Refused(ErrorCode.INVALID_PARTITIONS, "A topic has at least 1 partition.")
    if partitions > MAX_NEW_PARTITIONS:
        raise too_many_partitions()
    if replication <= 0:
        raise Refused(ErrorCode.INVALID_REPLICATION_FACTOR, "A partition has at least 1 replica.")
    if replication > len(brokers):
        raise Refused(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"{replication} replicas are asked for, {len(brokers)} brokers are there.",
        )
    ids = sorted(site.id for site in brokers)
    count = len(ids)
    first = start_index if start_index >= 0 else random(count)
    shift = start_index if start_index >= 0 else random(count)
    chosen: dict[int, Assignment] = {}
    for index in range(start_partition, start_partition + partitions):
        if index > 0 and index % count == 0:
            shift += 1
        lead = (index + first) % count
        replicas = [ids[lead]]
        replicas += [
            ids[(lead + 1 + (shift + j) % (count - 1)) % count] for j in range(replication - 1)
        ]
        chosen[index] = Assignment(tuple(replicas))
    return chosen


class Defaults(NamedTuple):
    """num.partitions and default.replication.factor."""

    partitions: int
    replication: int


def plan_topic(
    wish: TopicWish,
    existing: Collection[str],
    brokers: Sequence[BrokerSite],
    defaults: Defaults,
    random: Random,
    collision_keys: Mapping[str, str] | None = None,
) -> TopicPlan:
    """The topic to create, or Refused. `existing` includes topics on their way out.

    `collision_keys` (key -> a topic) spares looking through `existing` for every wish.
    """
    name = wish.name
    if name in existing:
        raise Refused(ErrorCode.TOPIC_ALREADY_EXISTS, f"There is a topic {name!r} already.")
    nulls = [key for key, value in wish.configs.items() if value is None]
    if nulls:
        raise Refused(
            ErrorCode.INVALID_CONFIG,
            f"Null value not supported for topic configs: {','.join(nulls)}",
        )
    counted = wish.partitions != UNSET or wish.replication != UNSET
    if counted and wish.assignments:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            "Give either counts or an assignment, not both.",
        )
    if wish.assignments:
        assignments = {index: Assignment(tuple(ids)) for index, ids in wish.assignments}
    else:
        partitions = defaults.partitions if wish.partitions == UNSET else wish.partitions
        replication = defaults.replication if wish.replication == UNSET else wish.replication
        assignments = assign_replicas(brokers, partitions, replication, random)
    check_name(name)
    _check_collision(name, existing, collision_keys)
    if wish.assignments:
        _check_assignments(assignments)
    if wish.config_refusal is not None:
        raise Refused(*wish.config_refusal)
    if wish.assignments:
        _check_brokers(assignments, brokers)
    configs = {key: value for key, value in wish.configs.items() if value is not None}
    return TopicPlan(name, assignments, configs)


def _check_collision(name: str, existing: Collection[str], keys: Mapping[str, str] | None) -> None:
    if keys is not None:
        other = keys.get(collision_key(name))
        found = [] if other is None else [other]
    else:
        found = collisions(name, existing)
    if found and ("." in name or "_" in name):
        raise Refused(
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            f"{name!r} and {', '.join(found)} differ only by '.' and '_'.",
        )


def _check_assignments(assignments: Mapping[int, Assignment]) -> None:
    if len({len(a.replicas) for a in assignments.values()}) != 1:
        raise Refused(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "All partitions need the same number of replicas.",
        )
    for index, assignment in assignments.items():
        if len(set(assignment.replicas)) != len(assignment.replicas):
            raise Refused(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Partition {index} names a broker twice: {_list(assignment.replicas)}",
            )
    if sorted(assignments) != list(range(len(assignments))):
        raise Refused(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "Partitions are numbered from 0 without gaps.",
        )


def _check_brokers(assignments: Mapping[int, Assignment], brokers: Sequence[BrokerSite]) -> None:
    """Apache Kafka 3.9 takes what is refused here, and is left with a topic that nobody can use or
    delete."""
    named = {broker_id for each in assignments.values() for broker_id in each.replicas}
    if not named:
        raise Refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, "A partition has at least 1 replica.")
    unknown = sorted(named - {site.id for site in brokers})
    if unknown:
        raise Refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"No such brokers: {_list(unknown)}.")


def plan_partitions(
    wish: PartitionsWish,
    present: Mapping[int, Assignment],
    brokers: Sequence[BrokerSite],
    random: Random,
) -> dict[int, Assignment]:
    """Assignments of the partitions to add, or Refused. `present` must not be empty."""
    if any(a.adding or a.removing for a in present.values()):
        raise Refused(
            ErrorCode.REASSIGNMENT_IN_PROGRESS,
            f"Partitions of {wish.name!r} are being reassigned.",
        )
    old = len(present)
    increment = wish.total - old
    if increment < 0:
        raise Refused(
            ErrorCode.INVALID_PARTITIONS,
            f"Topic currently has {old} partitions, which is higher than the requested "
            f"{wish.total}.",
        )
    if increment == 0:
        raise Refused(ErrorCode.INVALID_PARTITIONS, f"Topic already has {old} partitions.")
    replication = len(present[0].replicas)
    if wish.assignments is not None:
        return _given_partitions(wish.assignments, old, increment, replication, brokers)
    ids = sorted(site.id for site in brokers)
    head = present[0].replicas[0]
    start = next((i for i, broker_id in enumerate(ids) if broker_id >= head), 0)
    return assign_replicas(
        brokers, increment, replication, random, start_index=start, start_partition=old
    )


def _given_partitions(
    given: Sequence[tuple[int, ...]],
    old: int,
    increment: int,
    replication: int,
    brokers: Sequence[BrokerSite],
) -> dict[int, Assignment]:
    ids = {site.id for site in brokers}
    unknown = sorted({broker_id for replicas in given for broker_id in replicas} - ids)
    if unknown:
        raise Refused(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"Unknown broker(s) in replica assignment: {_list(unknown)}.",
        )
    if len(given) != increment:
        raise Refused(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"Increasing the number of partitions by {increment} but {len(given)} assignments "
            f"provided.",
        )
    for index, replicas in enumerate(given, old):
        if not replicas:
            raise Refused(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Cannot have replication factor of 0 for partition id {index}.",
            )
        if len(set(replicas)) != len(replicas):
            raise Refused(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Duplicate brokers not allowed in replica assignment: {_list(sorted(replicas))} "
                f"for partition id {index}.",
            )
    bad = [(i, len(r)) for i, r in enumerate(given, old) if len(r) != replication]
    if bad:
        raise Refused(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"Inconsistent replication factor between partitions, partition 0 has {replication} "
            f"while partitions [{_list(i for i, _ in bad)}] have replication factors "
            f"[{_list(size for _, size in bad)}], respectively.",
        )
    return {index: Assignment(tuple(replicas)) for index, replicas in enumerate(given, old)}


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
