"""The `simple` assignor of share groups (KIP-932): partitions are shared out among members, and
where there are more members than partitions each partition goes to several.

Every partition gets the same number of members and every member the same number of partitions,
give or take one; a new assignment keeps as much as it can of the present one. Members come in the
order of `hash_order.members_ordered`, partitions in that of their ids (Apache Kafka's differs from
run to run).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeAlias

Shares: TypeAlias = dict[bytes, frozenset[int]]
"""Topic id -> partitions; none without partitions. Never changed once made."""
Place: TypeAlias = tuple[bytes, int]


class ShareSubscriber(NamedTuple):
    """A member as the assignor sees it."""

    member_id: str
    topics: AbstractSet[bytes]
    """Ids of the topics that exist among those it subscribes to."""
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
    topics = sorted({topic for member in members for topic in member.topics})
    if not topics:
        return {}
    places = {topic: [(topic, p) for p in sorted(assignable.get(topic, ()))] for topic in topics}
    if alike:
        found = _share_out(members, members, [p for t in topics for p in places[t]], set(topics))
    else:
        found = {member.member_id: set() for member in members}
        for topic in topics:
            readers = [member for member in members if topic in member.topics]
            for member_id, part in _share_out(members, readers, places[topic], {topic}).items():
                found[member_id] |= part
    return {member_id: _by_topic(part) for member_id, part in found.items()}


def _by_topic(places: set[Place]) -> Shares:
    topics: dict[bytes, set[int]] = {}
    for topic, partition in sorted(places):
        topics.setdefault(topic, set()).add(partition)
    return {topic: frozenset(partitions) for topic, partitions in topics.items()}


def _share_out(
    members: Sequence[ShareSubscriber],
    readers: Sequence[ShareSubscriber],
    places: Sequence[Place],
    topics: set[bytes],
) -> dict[str, set[Place]]:
    """Share the places (of these topics) out among the readers; others lose what they have."""
    sharing = -(-len(readers) // len(places)) if places else 0
    # In floating point, as there: who gets one more depends on it.
    each = sharing * len(places) / len(readers)
    wanted = dict.fromkeys((member.member_id for member in members), 0)
    for number, reader in enumerate(readers):
        wanted[reader.member_id] = math.ceil(each * (number + 1)) - math.ceil(each * number)
    held: dict[str, set[Place]] = {}
    holders: dict[Place, list[str]] = {}
    for member in members:
        kept = sorted((t, p) for t in member.assigned if t in topics for p in member.assigned[t])
        kept = kept[max(0, len(kept) - wanted[member.member_id]) :]
        held[member.member_id] = set(kept)
        for place in kept:
            holders.setdefault(place, []).append(member.member_id)
    for place, who in holders.items():
        for member_id in who[: max(0, len(who) - sharing)]:
            held[member_id].discard(place)
        del who[: max(0, len(who) - sharing)]
    for place in places:
        holders.setdefault(place, [])
    unfilled = [r.member_id for r in readers if len(held[r.member_id]) < wanted[r.member_id]]
    _fill(holders, sharing, unfilled, held, wanted)
    return held


def _fill(
    holders: dict[Place, list[str]],
    sharing: int,
    unfilled: list[str],
    held: dict[str, set[Place]],
    wanted: Mapping[str, int],
) -> None:
    """Give each place as many members as it is to have, the unfilled ones in turn."""
    at = 0
    given = False
    for place in sorted(holders):
        who = holders[place]
        while len(who) < sharing and unfilled:
            if at >= len(unfilled):
                if not given:
                    break
                at, given = 0, False
            member_id = unfilled[at]
            if member_id in who:
                at += 1
                continue
            who.append(member_id)
            held[member_id].add(place)
            given = True
            if len(held[member_id]) >= wanted[member_id]:
                del unfilled[at]
            else:
                at += 1
