"""Versions of the requests between brokers, as inter.broker.protocol.version (IBP) fixes them.

In ZooKeeper mode most of them are not negotiated: every broker of a cluster has the same IBP set,
and sends what that release sent. Accepting is another matter: every version is served.
"""

from typing import NamedTuple


class Versions(NamedTuple):
    """What is sent, by API."""

    leader_and_isr: int
    update_metadata: int
    stop_replica: int
    controlled_shutdown: int
    fetch: int
    list_offsets: int
    offset_for_leader_epoch: int
    write_txn_markers: int


Release = tuple[int, int, int]
"""Major, minor, and the number after IV."""

_SINCE: tuple[tuple[Release, Versions], ...] = (
    ((2, 7, 2), Versions(4, 6, 3, 3, 12, 5, 3, 0)),
    ((2, 8, 1), Versions(5, 7, 3, 3, 12, 6, 4, 1)),
    ((3, 0, 1), Versions(5, 7, 3, 3, 12, 7, 4, 1)),
    ((3, 1, 0), Versions(5, 7, 3, 3, 13, 7, 4, 1)),
    ((3, 2, 0), Versions(6, 7, 3, 3, 13, 7, 4, 1)),
    ((3, 4, 0), Versions(7, 8, 4, 3, 13, 7, 4, 1)),
    ((3, 5, 0), Versions(7, 8, 4, 3, 14, 8, 4, 1)),
    ((3, 5, 1), Versions(7, 8, 4, 3, 15, 8, 4, 1)),
    ((3, 7, 4), Versions(7, 8, 4, 3, 16, 8, 4, 1)),
    ((3, 9, 0), Versions(7, 8, 4, 3, 17, 9, 4, 1)),
)

TOPIC_IDS_IN_FETCH = 13
"""A follower that lacks the id of one topic sends the version before this one."""
LAST_WITHOUT_TOPIC_IDS = 12
REPLICA_STATE_IN_FETCH = 15
"""From here on the replica's id and epoch are a tagged struct."""
_LAST_INTERNAL = 99


def release(text: str) -> Release:
    """`3.4`, `2.8-IV1`, `0.10.0-IV0`; without IV the last one of the release is meant."""
    number, _, internal = text.partition("-IV")
    words = [int(word) for word in number.split(".")]
    if words[0] == 0:
        return 0, words[1], int(internal or 0)
    return words[0], words[1], int(internal) if internal else _LAST_INTERNAL


def versions(text: str) -> Versions:
    """Of that IBP. Those below 2.7-IV2 get what 2.7-IV2 sends, which all brokers since then
    understand.
    """
    wanted = release(text)
    found = _SINCE[0][1]
    for since, row in _SINCE:
        if wanted >= since:
            found = row
    return found


def leaders_write_isr(text: str) -> bool:
    """Whether leaders write in-sync replicas into the store themselves, as below 2.7-IV2, rather
    than ask the controller (KIP-497)."""
    return release(text) < _SINCE[0][0]


def has_topic_ids(text: str) -> bool:
    """Whether topics of a cluster with that IBP are given ids (KIP-516)."""
    return release(text) >= (2, 8, 0)


def knows_recovery(found: Versions) -> bool:
    """Whether an unclean leader is marked as recovering (KIP-704, IBP 3.2)."""
    return found.leader_and_isr >= 6
