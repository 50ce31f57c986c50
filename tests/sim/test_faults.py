"""Faults that overlap: when all are undone, nothing of them is left."""

import pytest

from tests.sim.faults import slow_network
from tests.sim.network import LONGEST_S
from tests.sim.world import World


def slowest_s(world: World) -> float:
    return max(world.network.delay_s() for _ in range(500))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_network_that_is_slowed_more_than_once_gets_well(order: tuple[int, ...]) -> None:
    world = World(2)

    async def main() -> None:
        undo = [slow_network(world)[1] for _ in order]
        assert slowest_s(world) > LONGEST_S
        for number in order[:-1]:
            heal = undo[number]
            assert heal is not None
            heal()
            assert slowest_s(world) > LONGEST_S
        last = undo[order[-1]]
        assert last is not None
        last()
        assert slowest_s(world) <= LONGEST_S

    world.run(main())
