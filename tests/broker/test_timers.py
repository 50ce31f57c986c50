"""Timers: set, set again, cancelled, in order."""

import asyncio
from collections.abc import Hashable

from broker.timers import Timers
from tests.kit.nodes import FakeClock


class Fired:
    def __init__(self) -> None:
        self.clock = FakeClock(1_000_000)
        self.keys: list[Hashable] = []
        self.timers = Timers(self.clock, self.keys.append)

    async def at(self, ms: int) -> list[Hashable]:
        """What has fired when the clock says so."""
        self.clock.ms = ms
        handle = self.timers._handle
        if handle is not None:
            handle.cancel()
            self.timers._wake()
        await asyncio.sleep(0)
        fired, self.keys[:] = list(self.keys), []
        return fired


async def test_in_order_of_their_times() -> None:
    fired = Fired()
    for key, at in (("late", 1_000_300), ("soon", 1_000_100), ("also", 1_000_100)):
        fired.timers.set(key, at)
    assert await fired.at(1_000_099) == []
    assert await fired.at(1_000_299) == ["soon", "also"]
    assert await fired.at(1_000_300) == ["late"]
    assert len(fired.timers) == 0


async def test_set_again_and_cancelled() -> None:
    fired = Fired()
    fired.timers.set("a", 1_000_100)
    fired.timers.set("a", 1_000_500)
    fired.timers.set("b", 1_000_100)
    fired.timers.set("b", 1_000_050)
    fired.timers.set("c", 1_000_100)
    fired.timers.cancel("c")
    assert await fired.at(1_000_050) == ["b"]
    assert await fired.at(1_000_400) == []
    assert await fired.at(1_000_500) == ["a"]
    assert await fired.at(2_000_000) == []


async def test_a_timer_set_while_another_fires() -> None:
    fired = Fired()

    def again(key: Hashable) -> None:
        fired.keys.append(key)
        if key == 1:
            fired.timers.set(2, 1_000_100)

    fired.timers._fire = again
    fired.timers.set(1, 1_000_100)
    assert await fired.at(1_000_100) == [1, 2]


async def test_a_later_timer_set_while_another_fires_does_not_hide_the_next_one() -> None:
    fired = Fired()

    def again(key: Hashable) -> None:
        fired.keys.append(key)
        if key == 1:
            fired.timers.set(2, 1_010_000)

    fired.timers._fire = again
    fired.timers.set(1, 1_000_100)
    fired.timers.set(3, 1_000_200)
    assert await fired.at(1_000_100) == [1]
    assert fired.timers._wakes_at == 1_000_200


async def test_the_loop_wakes_it() -> None:
    woken = asyncio.Event()
    clock = FakeClock()
    timers = Timers(clock, lambda key: woken.set())
    timers.set("now", clock.now_ms() - 5)
    await asyncio.wait_for(woken.wait(), 5)


async def test_clear() -> None:
    fired = Fired()
    fired.timers.set("a", 1_000_100)
    fired.timers.clear()
    assert fired.timers._handle is None
    assert await fired.at(1_000_200) == []
