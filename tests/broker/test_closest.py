"""Which replica a consumer is sent to (KIP-392)."""

import pytest

from broker.closest import closest_replica
from broker.cluster.view import BrokerInfo, ClusterView
from broker.partition import Partition
from tests.broker.test_partition import T, append, led

RACKS = {0: "a", 1: "b", 2: "b"}


def view(racks: dict[int, str | None], listener: str = "PLAINTEXT") -> ClusterView:
    brokers = {i: BrokerInfo(i, {listener: ("h", i)}, rack) for i, rack in racks.items()}
    return ClusterView(1, "c", 0, brokers, {}, {})


def partition() -> Partition:
    p = led()
    append(p, 10)
    p.fetched(1, 10, 0, T)
    p.fetched(2, 10, 0, T)
    return p


def choose(
    p: Partition, rack: str = "b", offset: int = 5, racks: dict[int, str | None] | None = None
) -> int | None:
    return closest_replica(p, rack, offset, view(racks or dict(RACKS)), "PLAINTEXT", T)


def test_of_equals_the_highest_id() -> None:
    assert choose(partition()) == 2


def test_who_has_more_then_who_caught_up_later() -> None:
    p = partition()
    append(p, 2)
    p.fetched(1, 11, 0, T)
    assert choose(p) == 1
    p.fetched(1, 12, 0, T + 5)
    p.fetched(2, 12, 0, T + 4)
    assert choose(p) == 1


@pytest.mark.parametrize("racks", [{0: "b", 1: "b"}, {0: "a", 1: "c"}, {0: "a"}, {0: "a", 1: None}])
def test_the_leader_where_it_is_as_close_or_nobody_is(racks: dict[int, str | None]) -> None:
    assert choose(partition(), racks=racks) is None


def test_only_in_sync_replicas_that_have_the_offset() -> None:
    p = partition()
    p.commit((0, 1), 2)
    assert choose(p) == 1
    assert choose(p, offset=11) is None
    p.fetched(1, 10, 6, T)
    assert choose(p) is None


def test_only_on_the_clients_listener() -> None:
    assert closest_replica(partition(), "b", 5, view(dict(RACKS), "OTHER"), "PLAINTEXT", T) is None
