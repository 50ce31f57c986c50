"""The write that ends a pass, with connections and replicas of the test's own."""

from types import SimpleNamespace
from typing import Any

from broker.connections import Connections


class Replicas:
    """Wakes somebody with its first write, who stages more and is to be answered."""

    def __init__(self) -> None:
        self.dirty: list[str] = []
        self.log: list[str] = []
        self.woken: Any = None

    def write_staged(self) -> None:
        staged, self.dirty = self.dirty, []
        self.log += [f"write {name}" for name in staged]
        woken, self.woken = self.woken, None
        if woken is not None:
            woken()


class Writer:
    """A connection that is answered once its batch is written."""

    def __init__(self, owner: Connections, name: str) -> None:
        self.owner = owner
        self.name = name

    def stage(self, batch: str) -> None:
        self.owner.node.replicas.dirty.append(f"{self.name}{batch}")  # type: ignore[attr-defined]
        self.owner.answer_after_write(self)  # type: ignore[arg-type]

    def complete(self) -> None:
        self.owner.node.replicas.log.append(f"answer {self.name}")  # type: ignore[attr-defined]


def connections() -> tuple[Connections, Replicas]:
    replicas = Replicas()
    config = SimpleNamespace(socket_request_max_bytes=100)
    node = SimpleNamespace(config=config, replicas=replicas)
    return Connections(SimpleNamespace(node=node)), replicas  # type: ignore[arg-type]


async def test_who_stages_while_others_are_woken_is_answered_after_its_write() -> None:
    owner, replicas = connections()
    first, second = Writer(owner, "a"), Writer(owner, "b")
    first.stage("1")
    replicas.woken = lambda: second.stage("1")
    owner.write_now()
    assert replicas.log == ["write a1", "write b1", "answer a", "answer b"]


async def test_a_connection_is_answered_once_for_what_is_written() -> None:
    owner, replicas = connections()
    first, second = Writer(owner, "a"), Writer(owner, "b")
    first.stage("1")
    second.stage("1")
    first.stage("2")
    owner.write_now()
    assert replicas.log == ["write a1", "write b1", "write a2", "answer a", "answer b"]
