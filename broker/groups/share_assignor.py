"""The `simple` assignor of share groups (KIP-932): partitions are shared out among members, and
where there are more members than partitions each partition goes to several.

Every partition gets the same number of members and every member the same number of partitions,
give or take one; a new assignment keeps as much as it can of the present one. Which partition goes
to whom follows from the order of hash tables, as in Apache Kafka (`hash_order`). As there, a topic
stays in the assignment of a member that has lost all its partitions, and if members differ in what
they subscribe to, what nobody does stays as it was; the member itself is not given that.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from broker.groups.hash_order import (
    SMALLEST,
    grown,
    ids_ordered,
    partitions_ordered,
    places_for,
    places_ordered,
)

Shares: TypeAlias = dict[bytes, frozenset[int]]
"""Topic id -> partitions, of a topic that was lost none. Never changed once made."""
Place: TypeAlias = tuple[bytes, int]


class ShareSubscriber(NamedTuple):
    """A member as the assignor sees it."""

    member_id: str
    topics: Sequence[bytes]
    """Ids of the topics that exist among those it subscribes to, in the order of its table."""
    assigned: Shares
    """What it should have by the present target."""


def simple(
    members: Sequence[ShareSubscriber],
    assignable: Mapping[bytes, Iterable[int]],
    *,
    alike: bool,
) -> dict[str, Shares]:
    """Member id -> assignment. `assignable` partitions are those that have a state; `alike`: all
    members subscribe to the same topics."""
    topics = list(dict.fromkeys(topic for member in members for topic in member.topics))
    if not topics:
        return {}
    places = {topic: [(topic, p) for p in sorted(assignable.get(topic, ()))] for topic in topics}
    new = {m.member_id: {t: set(parts) for t, parts in m.assigned.items()} for m in members}
    if alike:
        for shares in new.values():
            for topic in shares.keys() - set(topics):
                del shares[topic]
        every = [place for topic in topics for place in places[topic]]
        _share_out(members, members, every, set(topics), places_ordered, new)
    else:
        for topic in topics:
            readers = [member for member in members if topic in member.topics]
            _share_out(members, readers, places[topic], {topic}, _by_partition, new)
    return {
        member_id: {topic: frozenset(shares[topic]) for topic in sorted(shares)}
        for member_id, shares in new.items()
    }


def _share_out(
    members: Sequence[ShareSubscriber],
    readers: Sequence[ShareSubscriber],
    places: Sequence[Place],
    topics: set[bytes],
    ordered: Callable[[Iterable[Place], int], list[Place]],
    new: dict[str, dict[bytes, set[int]]],
) -> None:
    """Share the places (of these topics) out among the readers; others lose what they have.
    `ordered`: places as a hash table of so many has them. `new` is the assignment that changes."""
    wanted, sharing = _wanted(members, readers, len(places))
    held: dict[str, set[Place]] = {}
    holders: dict[Place, list[int]] = {}
    for number, member in enumerate(members):
        assigned = member.assigned
        in_order = ids_ordered(assigned, grown(SMALLEST, len(assigned)))
        had = [(topic, p) for topic in in_order if topic in topics for p in sorted(assigned[topic])]
        kept = ordered(had, grown(SMALLEST, len(had)))
        kept = kept[max(0, len(kept) - wanted[member.member_id]) :]
        held[member.member_id] = set(kept)
        for place in had:
            holders.setdefault(place, [])
        for place in kept:
            holders[place].append(number)
    for place, who in holders.items():
        too_many = max(0, len(who) - sharing)
        for number in partitions_ordered(who, grown(SMALLEST, len(who)))[:too_many]:
            held[members[number].member_id].discard(place)
            who.remove(number)
    for place in places:
        holders.setdefault(place, [])
    table = grown(places_for(int((len(places) + 1) / 0.75 + 1)), len(holders))
    lacking = [
        (place, {members[number].member_id for number in holders[place]})
        # Of several in one place the last one comes first: they were put there if absent.
        for place in ordered(reversed(holders), table)
    ]
    unfilled = [r.member_id for r in readers if len(held[r.member_id]) < wanted[r.member_id]]
    _fill(lacking, sharing, unfilled, held, wanted)
    for member_id, kept_places in held.items():
        shares = new[member_id]
        for topic in topics & shares.keys():
            shares[topic] = set()
        for topic, partition in kept_places:
            shares.setdefault(topic, set()).add(partition)


def _wanted(
    members: Sequence[ShareSubscriber], readers: Sequence[ShareSubscriber], places: int
) -> tuple[dict[str, int], int]:
    """How many places each member is to have, and how many members each place."""
    sharing = -(-len(readers) // places) if places else 0
    # In floating point, as there: who gets one more depends on it.
    each = sharing * places / len(readers)
    wanted = dict.fromkeys((member.member_id for member in members), 0)
    for number, reader in enumerate(readers):
        wanted[reader.member_id] = math.ceil(each * (number + 1)) - math.ceil(each * number)
    return wanted, sharing


def _by_partition(places: Iterable[Place], table: int) -> list[Place]:
    """Places of one topic as a table of partitions has them."""
    return sorted(places, key=lambda place: place[1] & table - 1)


def _fill(
    lacking: Iterable[tuple[Place, set[str]]],
    sharing: int,
    unfilled: list[str],
    held: dict[str, set[Place]],
    wanted: Mapping[str, int],
) -> None:
    """Give each place as many members as it is to have, the unfilled ones in turn."""
    at = 0
    given = False
    for place, who in lacking:
        left = sharing - len(who)
        while left > 0 and unfilled:
            if at >= len(unfilled):
                if not given:
                    break
                at, given = 0, False
            member_id = unfilled[at]
            if member_id in who:
                at += 1
                continue
            held[member_id].add(place)
            left -= 1
            given = True
            if len(held[member_id]) >= wanted[member_id]:
                del unfilled[at]
            else:
                at += 1
