"""ZooKeeperStore under faults: a three-node ensemble whose servers are killed, frozen and restarted
while many tasks use several sessions; sessions are ended by force too.

    python -m tests.e2e.store_chaos --seconds 600 [--seed N]

Looked for: calls that never end, ephemerals under a session they were not submitted in, writes that
were acknowledged and are gone, writes that were refused and are there, a blocked event loop.
"""

import argparse
import asyncio
import random
import time
from collections import Counter
from pathlib import Path

from broker.cluster.store import (
    BadVersion,
    NodeExists,
    NoNode,
    SessionEvent,
    SessionExpired,
    StoreError,
    StoreFailed,
)
from broker.cluster.zookeeper import ZooKeeperStore
from broker.cluster.zookeeper_options import Options
from tests.kit import zookeeper
from tests.kit.zookeeper import Ensemble

SESSION_MS = 3000
STUCK_S = 3 * SESSION_MS / 1000
"""The store promises an end after two session timeouts."""
WORKERS = 8
"""Tasks per session."""


class Chaos:
    """One run. `counts`: how calls ended; `faults`: what was done to the servers."""

    def __init__(self, ensemble: Ensemble, seed: int) -> None:
        self._ensemble = ensemble
        self._random = random.Random(seed)
        self._stores: list[ZooKeeperStore] = []
        self._ended = False
        self._number = 0
        self._values: dict[str, tuple[int, int]] = {}
        """Path -> newest value known to be written, newest value that may be."""
        self.counts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.events: Counter[SessionEvent] = Counter()
        self.mistakes: list[str] = []
        self.worst_lag = self.longest_call = 0.0

    async def run(self, seconds: float, sessions: int = 3) -> None:
        for _ in range(sessions):
            store = ZooKeeperStore(Options(self._ensemble.address, "/chaos", SESSION_MS, 30_000))
            store.listen(lambda event: self.events.update([event]))
            await store.start()
            self._stores.append(store)
        ticker = asyncio.create_task(self._tick())
        workers = [
            asyncio.create_task(self._work(store, f"{s}-{w}"))
            for s, store in enumerate(self._stores)
            for w in range(WORKERS)
        ]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await self._harm()
        self._ended = True
        try:
            async with asyncio.timeout(4 * STUCK_S):
                await asyncio.gather(*workers)
            await self._look()
        except TimeoutError:
            self.mistakes.append("calls do not end")
        ticker.cancel()
        for store in self._stores:
            await store.close()

    async def _tick(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.005)
            self.worst_lag = max(self.worst_lag, time.monotonic() - began - 0.005)

    # --- faults -----------------------------------------------------------------------------------

    async def _harm(self) -> None:
        draw = self._random
        server = draw.choice(self._ensemble.servers)
        fault = draw.choice(("kill", "freeze", "kill the leader", "expire", "nothing"))
        self.faults[fault] += 1
        if fault == "kill the leader":
            server = await asyncio.to_thread(self._ensemble.leader)
        if fault in ("kill", "kill the leader"):
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(draw.uniform(0, 1.5))
            await asyncio.to_thread(server.start)
        elif fault == "freeze":
            server.pause()
            await asyncio.sleep(draw.uniform(0, 1.5 * SESSION_MS / 1000))
            server.resume()
        elif fault == "expire":
            store = draw.choice(self._stores)
            try:
                await asyncio.to_thread(
                    zookeeper.end_session, server, store.session_id, store._password
                )
            except OSError:
                pass
        await asyncio.sleep(draw.uniform(0, 1.0))

    # --- load -------------------------------------------------------------------------------------

    async def _work(self, store: ZooKeeperStore, name: str) -> None:
        draw = random.Random(name)
        path = f"/value-{name}"
        while not self._ended:
            step = draw.choice((self._ephemeral, self._value, self._value, self._read))
            began = time.monotonic()
            try:
                await step(store, path)
            except StoreError as error:
                self.counts[type(error).__name__] += 1
                if isinstance(error, StoreFailed):
                    self.mistakes.append(str(error))
                await asyncio.sleep(0.01)
            else:
                self.counts["done"] += 1
            took = time.monotonic() - began
            self.longest_call = max(self.longest_call, took)
            if took > STUCK_S:
                self.mistakes.append(f"a call took {took:.1f} s")

    async def _ephemeral(self, store: ZooKeeperStore, _: str) -> None:
        self._number += 1
        path, session_id = f"/e{self._number}", store.session_id
        _, stat = await store.create(path, ephemeral=True)
        if stat.owner != session_id:
            self.mistakes.append(f"{path} was submitted in another session than it is of")

    async def _value(self, store: ZooKeeperStore, path: str) -> None:
        """Only this task writes the node: its value counts up and never falls back."""
        known, possible = self._values.get(path, (-1, -1))
        data, stat = None, None
        try:
            data, stat = await store.get(path)
        except NoNode:
            pass
        at = int(data) if data is not None else -1
        if not known <= at <= possible:
            self.mistakes.append(f"{path} is {at}, but {known} was written and {possible} tried")
        new = possible + 1
        self._values[path] = (at, new)
        try:
            if stat is None:
                await store.create(path, b"%d" % new)
            else:
                await store.set(path, b"%d" % new, stat.version)
        except (SessionExpired, NodeExists, BadVersion) as error:
            # Nothing was done; but an earlier one in doubt may have been.
            if not isinstance(error, SessionExpired) and known == possible:
                self.mistakes.append(f"{path}: {error}")
            raise
        self._values[path] = (new, new)

    async def _read(self, store: ZooKeeperStore, path: str) -> None:
        await asyncio.gather(store.children("/"), store.get_many([path, "/"]))

    async def _look(self) -> None:
        """When all is quiet: what is there is what was said."""
        store = self._stores[0]
        sessions = {each.session_id for each in self._stores}
        names = await store.children("/")
        nodes = await store.get_many([f"/{name}" for name in names])
        for name, node in zip(names, nodes, strict=True):
            if node is None:
                continue
            if name.startswith("e") and node[1].owner not in sessions:
                self.faults["old ephemerals"] += 1
            if name.startswith("value"):
                known, possible = self._values[f"/{name}"]
                if not known <= int(node[0] or b"-1") <= possible:
                    self.mistakes.append(f"/{name} is {node[0]!r} at the end, not {known}")

    def report(self) -> str:
        lines = [
            f"calls: {dict(self.counts)}",
            f"faults: {dict(self.faults)}",
            f"session events: { {event.value: n for event, n in self.events.items()} }",
            f"longest pause of the loop {self.worst_lag * 1000:.0f} ms, "
            f"longest call {self.longest_call:.1f} s",
            *(f"MISTAKE: {text}" for text in self.mistakes),
        ]
        return "\n".join(lines)


async def run(directory: Path, seconds: float, seed: int) -> Chaos:
    """One run on an ensemble of its own."""
    ensemble = Ensemble(directory)
    try:
        await asyncio.to_thread(ensemble.start)
        chaos = Chaos(ensemble, seed)
        await chaos.run(seconds)
        return chaos
    finally:
        ensemble.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with zookeeper.scratch() as directory:
        chaos = asyncio.run(run(directory, given.seconds, given.seed))
    print(chaos.report())
    return 1 if chaos.mistakes else 0


if __name__ == "__main__":
    raise SystemExit(main())
