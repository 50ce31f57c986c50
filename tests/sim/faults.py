"""What is done to the world, by chance: each fault begins, lasts for a while and is undone.

Faults overlap as they please. Nothing here may cost an acknowledged record, whatever comes
together: disks keep what was written, elections are clean.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.world import Node, World

Undo = Callable[[], None]
Fault = Callable[["World"], tuple[str, Undo | None]]
"""Begins; its description, and how it is undone (None: it ends by itself)."""

CONTROLLER_NODE = "/controller"


def _some(world: "World") -> "Node":
    return world.chance.choice(world.nodes)


def _leader(world: "World") -> "Node":
    """The leader of some partition as somebody knows it; any node where nobody knows."""
    for node in world.chance.sample(world.nodes, len(world.nodes)):
        if node.up and node.server is not None:
            topics = node.server.node.replicas.topics
            led = [p for ps in topics.values() for p in ps.values() if p.is_leader]
            if led:
                return node
    return _some(world)


def _controller(world: "World") -> "Node":
    for node in world.nodes:
        if node.up and node.server is not None and node.server.node.controller.active:
            return node
    return _some(world)


def _victim(world: "World") -> "Node":
    return world.chance.choice((_some, _leader, _controller))(world)


def crash(world: "World") -> tuple[str, Undo | None]:
    node = _victim(world)
    node.crash()
    return f"{node} is killed", node.start


def crash_all(world: "World") -> tuple[str, Undo | None]:
    for node in world.nodes:
        node.crash()

    def back() -> None:
        for node in world.nodes:
            world.later(world.chance.uniform(0, 2), node.start)

    return "all nodes are killed", back


def stop(world: "World") -> tuple[str, Undo | None]:
    node = _victim(world)
    node.stop()

    def back() -> None:
        if node.life is None:
            node.start()
        elif node.stopping:
            world.later(0.5, back)

    return f"{node} is stopped", back


def pause(world: "World") -> tuple[str, Undo | None]:
    node = _victim(world)
    node.pause()
    return f"{node} is paused", node.go_on


def _parted(world: "World", here: str, there: str, *, both: bool) -> Undo:
    world.cut(here, there, both=both)

    def heal() -> None:
        world.network.heal(here, there)
        if both:
            world.network.heal(there, here)

    return heal


def cut(world: "World") -> tuple[str, Undo | None]:
    """Two nodes no longer hear each other, or one no longer hears the other."""
    one, other = world.chance.sample(world.nodes, 2)
    both = world.chance.random() < 0.6
    how = "and" if both else "to"
    return f"cut {one} {how} {other}", _parted(world, one.host, other.host, both=both)


def isolate(world: "World") -> tuple[str, Undo | None]:
    """A node is cut off from all others, but not from the store."""
    node = _victim(world)
    both = world.chance.random() < 0.6
    undo = [_parted(world, node.host, n.host, both=both) for n in world.nodes if n is not node]

    def heal() -> None:
        for each in undo:
            each()

    return f"{node} is isolated{'' if both else ' one way'}", heal


def cut_store(world: "World") -> tuple[str, Undo | None]:
    node = _victim(world)
    both = world.chance.random() < 0.7
    pair = [node.host, world.keeper_host]
    world.chance.shuffle(pair)
    return f"{node} is cut off from the store", _parted(world, *pair, both=both)


def reset(world: "World") -> tuple[str, Undo | None]:
    node = _victim(world)
    count = world.network.reset(lambda sock: sock.host == node.host and world.chance.random() < 0.5)
    return f"{count} connections of {node} are lost", None


def expire(world: "World") -> tuple[str, Undo | None]:
    node = _victim(world)
    if node.server is not None and node.life is not None:
        world.keeper.expire(node.server._store.session_id)
    return f"the session of {node} ends", None


def depose(world: "World") -> tuple[str, Undo | None]:
    """Somebody deletes the controller's node, as operators do."""
    store = world.keeper.tree
    if store.node(CONTROLLER_NODE) is not None:
        from broker.cluster.store import Delete

        store.transact([Delete(CONTROLLER_NODE)], 0)
    return "the controller is deposed", None


def slow_network(world: "World") -> tuple[str, Undo | None]:
    slowed, most = world.network.slowed, world.chance.choice((0.02, 0.1, 0.4))
    slowed.append(most)

    def heal() -> None:
        slowed.remove(most)

    return f"the network is slow, {most:g} s", heal


def slow_disk(world: "World") -> tuple[str, Undo | None]:
    world.loop.disk_delay_s = lambda: world.chance.expovariate(2.0)

    def heal() -> None:
        world.loop.disk_delay_s = lambda: 0.0

    return "disks are slow", heal


def crash_client(world: "World") -> tuple[str, Undo | None]:
    client = world.chance.choice(world.mortals)
    client.crash()
    return f"{client.name} is killed", client.start


def pause_client(world: "World") -> tuple[str, Undo | None]:
    """It comes back as a zombie, if others have taken its place."""
    client = world.chance.choice(world.mortals)
    client.pause_process()
    return f"{client.name} is paused", client.go_on_process


OF_CLIENTS: Sequence[tuple[int, Fault]] = ((3, crash_client), (3, pause_client))
FAULTS: Sequence[tuple[int, Fault]] = (
    (4, crash),
    (1, crash_all),
    (2, stop),
    (4, pause),
    (4, cut),
    (2, isolate),
    (4, cut_store),
    (3, reset),
    (3, expire),
    (2, depose),
    (1, slow_network),
    (1, slow_disk),
)
"""With their weights."""


class Faults:
    """Strikes at random until `end`, which undoes everything."""

    def __init__(self, world: "World") -> None:
        chance = world.chance
        self._world = world
        # Some runs are about few kinds of faults, some about all.
        faults = [*FAULTS, *(OF_CLIENTS if world.mortals else ())]
        drawn = chance.sample(faults, chance.randint(2, len(faults)))
        self._faults = [fault for _, fault in drawn]
        self._weights = [weight for weight, _ in drawn]
        self._rate = chance.choice((0.2, 0.5, 1.0))
        self._lasts_s = chance.choice((1.0, 3.0, 6.0))
        self._undo: dict[int, Undo] = {}
        self._struck = 0
        self._over = False

    def begin(self) -> None:
        """From now on."""
        self._world.later(self._world.chance.expovariate(self._rate), self._strike)

    def _strike(self) -> None:
        if self._over:
            return
        world = self._world
        (fault,) = world.chance.choices(self._faults, self._weights)
        text, undo = fault(world)
        world.note(text)
        self._struck += 1
        if undo is not None:
            number = self._struck
            self._undo[number] = undo
            world.later(world.chance.expovariate(1 / self._lasts_s), lambda: self._heal(number))
        self.begin()

    def _heal(self, number: int) -> None:
        undo = self._undo.pop(number, None)
        if undo is not None:
            self._world.note(f"undone: fault {number}")
            undo()

    def end(self) -> None:
        """No more faults, and what they did is undone."""
        self._over = True
        for number in list(self._undo):
            self._heal(number)
        self._world.network.heal()
        for node in self._world.nodes:
            node.go_on()
            if node.life is None:
                node.start()
        for client in self._world.mortals:
            client.go_on_process()
            if client.life.dead:
                client.start()
