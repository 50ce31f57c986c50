"""Cuts of a network between brokers and ZooKeeper, for `tests.e2e.failover`: which packets are
dropped, and whether writes must go on all the same.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.kit.netns import Network

STORE = "zookeeper-1"


class Place(NamedTuple):
    """Names of nodes: a leader, the other brokers (the controller last, if it is one of them)."""

    leader: str
    others: Sequence[str]

    @property
    def everybody(self) -> Sequence[str]:
        """Whom the leader talks to."""
        return (*self.others, STORE)


class Cut(NamedTuple):
    """`make` drops packets. `goes_on`: whether somebody can acknowledge writes meanwhile.
    `two_followers`: both brokers must reach the controller, so that neither is it: else nobody can
    take the other out of the ISRs of what it leads.
    """

    name: str
    make: Callable[[Network, Place], None]
    goes_on: bool = True
    two_followers: bool = False


def _sever(net: Network, place: Place) -> None:
    for name in place.everybody:
        net.cut(place.leader, name)


def _sever_from_brokers(net: Network, place: Place) -> None:
    for name in place.others:
        net.cut(place.leader, name)


def _silence(net: Network, place: Place) -> None:
    for name in place.everybody:
        net.drop(place.leader, name)


def _deafen(net: Network, place: Place) -> None:
    for name in place.everybody:
        net.drop(name, place.leader)


BOTH_WAYS = (
    Cut("leader from everybody", _sever),
    Cut(
        "leader from a follower",
        lambda net, at: net.cut(at.leader, at.others[0]),
        two_followers=True,
    ),
    Cut("leader from ZooKeeper", lambda net, at: net.cut(at.leader, STORE)),
    Cut("leader from all followers", _sever_from_brokers, goes_on=False),
)
ONE_WAY = (
    Cut("nobody hears the leader", _silence),
    # What it says is heard until its session ends: a controller takes deaf followers out of the
    # ISR as it asks, and without it then there is nobody to elect, as with Apache Kafka 3.9.
    Cut("the leader hears nobody", _deafen, goes_on=False),
    Cut(
        "a follower does not hear the leader",
        lambda net, at: net.drop(at.leader, at.others[0]),
        two_followers=True,
    ),
    Cut(
        "the leader does not hear a follower",
        lambda net, at: net.drop(at.others[0], at.leader),
        two_followers=True,
    ),
    Cut("ZooKeeper does not hear the leader", lambda net, at: net.drop(at.leader, STORE)),
    Cut("the leader does not hear ZooKeeper", lambda net, at: net.drop(STORE, at.leader)),
)
