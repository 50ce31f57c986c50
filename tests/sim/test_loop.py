"""The simulated world itself: time, lives, sockets, cuts."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.sim.loop import Deadlock, Incarnation, SimClock, SimLoop
from tests.sim.network import Network, SimSocket


def run(loop: SimLoop, main: Coroutine[Any, Any, Any]) -> Any:
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


def test_time_jumps() -> None:
    loop = SimLoop(1)
    clock = SimClock(loop)

    async def main() -> tuple[float, int]:
        before = clock.now_ms()
        await asyncio.sleep(86_400)
        return loop.time(), clock.now_ms() - before

    assert run(loop, main()) == (pytest.approx(86_400), 86_400_000)


def test_nothing_to_wait_for_is_told() -> None:
    loop = SimLoop(1)

    async def main() -> None:
        await loop.create_future()

    with pytest.raises(Deadlock):
        run(loop, main())


def test_nothing_of_a_dead_life_runs_again() -> None:
    loop = SimLoop(1)
    seen: list[str] = []

    async def beats(name: str) -> None:
        while True:
            await asyncio.sleep(1)
            seen.append(name)

    async def main() -> None:
        lives = [Incarnation("a"), Incarnation("b")]
        for life in lives:
            with life.running():
                loop.create_task(beats(life.name))
                loop.call_later(9.5, seen.append, f"late {life.name}")
        await asyncio.sleep(2.5)
        lives[0].dead = True
        await asyncio.sleep(8)

    run(loop, main())
    assert seen.count("a") == 2 and seen.count("b") == 10
    assert "late b" in seen and "late a" not in seen


def test_work_for_threads_takes_the_disks_time() -> None:
    loop = SimLoop(1)
    loop.disk_delay_s = lambda: 3.0

    async def main() -> tuple[int, float]:
        return await loop.run_in_executor(None, lambda: 7), loop.time()

    assert run(loop, main()) == (7, pytest.approx(3.0))


class World:
    """Two hosts and a connection between them."""

    def __init__(self, seed: int = 1) -> None:
        self.loop = SimLoop(seed)
        self.network = Network(self.loop)
        self.server = self.network.module("b").socket()
        self.server.bind(("", 9092))
        self.server.listen()

    async def until(self, sock: SimSocket) -> None:
        """Until it is readable (or broken)."""
        ready: asyncio.Future[None] = self.loop.create_future()
        self.loop.add_reader(sock.fileno(), lambda: ready.done() or ready.set_result(None))
        await ready
        self.loop.remove_reader(sock.fileno())

    async def pair(self) -> tuple[SimSocket, SimSocket]:
        client: SimSocket = self.network.module("a").socket()
        assert client.connect_ex(("b", 9092)) != 0
        await self.until(self.server)
        accepted, address = self.server.accept()
        assert address[0] == "a"
        return client, accepted

    async def read(self, sock: SimSocket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            await self.until(sock)
            part = sock.recv(size - len(data))
            if not part:
                break
            data += part
        return data


def test_bytes_arrive_in_order_and_the_end_last() -> None:
    world = World()

    async def main() -> None:
        client, accepted = await world.pair()
        sent = b"".join(b"%d," % n for n in range(500))
        for at in range(0, len(sent), 7):
            client.send(sent[at : at + 7])
        client.close()
        assert await world.read(accepted, len(sent) + 1) == sent
        assert world.loop.time() > 0

    run(world.loop, main())


def test_a_cut_in_one_direction_holds_back_until_healed() -> None:
    world = World()

    async def main() -> None:
        client, accepted = await world.pair()
        world.network.cut("a", "b")
        client.send(b"held")
        accepted.send(b"through")
        assert await world.read(client, 7) == b"through"
        await asyncio.sleep(60)
        assert not accepted.received
        world.network.heal("a", "b")
        assert await world.read(accepted, 4) == b"held"

    run(world.loop, main())


def test_a_killed_host_resets_its_connections_and_refuses_new_ones() -> None:
    world = World()

    async def main() -> None:
        client, _ = await world.pair()
        world.network.kill("b")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        again: SimSocket = world.network.module("a").socket()
        again.connect_ex(("b", 9092))
        await world.until(again)
        assert again.getsockopt(0, 0) == 111

    run(world.loop, main())


def test_a_full_pipe_blocks() -> None:
    world = World()

    async def main() -> None:
        client, accepted = await world.pair()
        world.network.cut("a", "b")
        sent = 0
        with pytest.raises(BlockingIOError):
            while True:
                sent += client.send(bytes(1 << 16))
        world.network.heal()
        assert len(await world.read(accepted, sent)) == sent

    run(world.loop, main())


def test_the_seed_decides() -> None:
    def times(seed: int) -> list[float]:
        world = World(seed)
        seen: list[float] = []

        async def main() -> None:
            client, accepted = await world.pair()
            for _ in range(20):
                client.send(b"x")
                await world.read(accepted, 1)
                seen.append(world.loop.time())

        run(world.loop, main())
        return seen

    assert times(5) == times(5) != times(6)
