"""How a member of a consumer group moves to its target (KIP-848): it first gives up what it must,
only then does it get the target's epoch and what nobody else has any more.
"""

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeAlias

from broker.groups.assignors import Assignment
from broker.groups.consumer_group import (
    NOTHING_HELD,
    STABLE_MEMBER,
    UNRELEASED,
    UNREVOKED,
    ConsumerMember,
    Held,
)
from broker.groups.consumer_records import in_map_order
from broker.groups.hash_order import (
    SMALLEST,
    copied_map,
    copied_set,
    grown,
    partitions_ordered,
)

Owned: TypeAlias = Iterable[tuple[bytes, Iterable[int]]]
"""(topic id, partitions) that a member says it has."""


class Target(NamedTuple):
    """Where a member shall get to."""

    epoch: int
    assignment: Assignment
    topics: AbstractSet[bytes]
    """Topics that the member subscribes to and that are there."""


def reconcile(
    member: ConsumerMember,
    target: Target,
    owned: Owned | None,
    owner_epoch: Callable[[bytes, int], int | None],
    *,
    subscription_changed: bool,
) -> ConsumerMember:
    """The member one step further, or itself. `owned` is None where it did not say;
    `owner_epoch(topic id, partition)` is not None while a partition is somebody's."""
    if member.state == STABLE_MEMBER and member.epoch == target.epoch:
        return _unsubscribed(member, target, owned) if subscription_changed else member
    if member.state == UNREVOKED and _has_any(owned, member.revoking):
        return _unsubscribed(member, target, owned) if subscription_changed else member
    return _next(member, target, owned, owner_epoch)


def _has_any(owned: Owned | None, held: Held) -> bool:
    if owned is None:
        return True
    return any(p in held.get(topic_id, ()) for topic_id, partitions in owned for p in partitions)


def _unsubscribed(member: ConsumerMember, target: Target, owned: Owned | None) -> ConsumerMember:
    """Without the topics that it does not subscribe to any more. (One without any topic has reached
    its epoch again, for Apache Kafka.)"""
    gone = {t: p for t, p in member.assigned.items() if t not in target.topics}
    if not gone and (target.topics or member.revoking):
        return member
    assigned = {t: p for t, p in member.assigned.items() if t in target.topics}
    revoking = {t: _added(member.revoking.get(t, {}), p) for t, p in gone.items()}
    revoking = dict(sorted({**member.revoking, **revoking}.items()))
    if revoking and _has_any(owned, revoking):
        return member.moved(member.epoch, UNREVOKED, assigned, revoking)
    return member.moved(member.epoch, member.state, assigned, member.revoking)


def _next(
    member: ConsumerMember,
    target: Target,
    owned: Owned | None,
    owner_epoch: Callable[[bytes, int], int | None],
) -> ConsumerMember:
    """Towards the newest target."""
    assigned, revoking, free = {}, {}, {}
    waits = False
    for topic_id in sorted(member.assigned.keys() | target.assignment.keys()):
        wanted: tuple[int, ...] = ()
        if topic_id in target.topics:
            wanted = target.assignment.get(topic_id, ())
        has = member.assigned.get(topic_id, {})
        ordered = in_map_order(has, copied_map(len(has)))
        given = frozenset(wanted)
        kept = {p: since for p, since in ordered.items() if p in given}
        if kept:
            assigned[topic_id] = kept
        if len(kept) < len(ordered):
            revoking[topic_id] = {p: since for p, since in ordered.items() if p not in given}
        mine = member.revoking.get(topic_id, ())
        pending = [p for p in partitions_ordered(wanted, copied_set(len(wanted))) if p not in kept]
        ready = [p for p in pending if p in mine or owner_epoch(topic_id, p) is None]
        waits = waits or len(ready) < len(pending)
        if ready:
            free[topic_id] = ready
    if revoking and _has_any(owned, revoking):
        return member.moved(member.epoch, UNREVOKED, assigned, revoking)
    for topic_id, partitions in free.items():
        assigned[topic_id] = _with(
            assigned.get(topic_id, {}),
            dict.fromkeys(partitions, target.epoch),
            len(member.assigned.get(topic_id, {})),
        )
    state = UNRELEASED if waits else STABLE_MEMBER
    return member.moved(target.epoch, state, dict(sorted(assigned.items())), NOTHING_HELD)


def _added(present: dict[int, int], more: dict[int, int]) -> dict[int, int]:
    """A copy of a map with more put into it; just those where there is none."""
    if not present:
        return more
    merged = {**present, **more}
    return in_map_order(merged, grown(copied_map(len(present)), len(merged)))


def _with(kept: dict[int, int], more: dict[int, int], copied: int) -> dict[int, int]:
    """What was kept, in a map that was a copy of so many, and more."""
    table = copied_map(copied) if kept else SMALLEST
    merged = {**kept, **more}
    return in_map_order(merged, grown(table, len(merged)))
