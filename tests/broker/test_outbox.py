"""Questions to other brokers: gathered, in order, one request at a time."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from broker import outbox
from broker.cluster.view import BrokerInfo
from broker.outbox import Outbox, in_rounds
from broker.peer import PeerGone
from tests.kit.hosted import OTHER, HostedNode


class Asked:
    """An outbox whose exchanges wait until they are let go."""

    def __init__(self) -> None:
        self.hosted = HostedNode()
        self.hosted.know("t", leader=OTHER)
        self.requests: list[tuple[Any, list[str]]] = []
        self.gates: list[asyncio.Future[None]] = []
        self.answers: list[str] = []
        self.outbox: Outbox[str, str] = Outbox(
            self.hosted.node, "questions", self._exchange, self._failed
        )

    async def _exchange(self, peer: Any, questions: list[str]) -> list[str]:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        self.requests.append((peer, questions))
        await gate
        return [f"{question}!" for question in questions]

    def _failed(self, question: str, error: Exception) -> str:
        return f"{question}: {type(error).__name__}"

    def ask(self, *questions: str, broker_id: int = OTHER) -> None:
        for question in questions:
            self.outbox.ask(broker_id, question, self.answers.append)

    @property
    def questions(self) -> list[list[str]]:
        return [questions for _, questions in self.requests]

    async def turn(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)


async def test_what_comes_meanwhile_goes_along_with_the_next() -> None:
    asked = Asked()
    asked.ask("a", "b")
    await asked.turn()
    asked.ask("c")
    asked.ask("d")
    await asked.turn()
    assert asked.questions == [["a", "b"]] and asked.answers == []
    asked.gates[0].set_result(None)
    await asked.turn()
    assert asked.questions == [["a", "b"], ["c", "d"]] and asked.answers == ["a!", "b!"]
    asked.gates[1].set_result(None)
    await asked.turn()
    asked.ask("e")
    await asked.turn()
    asked.gates[2].set_result(None)
    await asked.turn()
    assert asked.answers == ["a!", "b!", "c!", "d!", "e!"]
    asked.outbox.close()


async def test_brokers_do_not_wait_for_each_other() -> None:
    asked = Asked()
    asked.ask("a")
    asked.ask("b", broker_id=2)
    await asked.turn()
    assert asked.questions == [["a"], ["b"]]
    assert asked.requests[0][0] is not asked.requests[1][0]
    asked.outbox.close()


@pytest.mark.parametrize("error", [PeerGone("gone"), ZeroDivisionError()])
async def test_trouble_is_an_answer(error: Exception) -> None:
    asked = Asked()
    asked.ask("a", "b")
    await asked.turn()
    asked.ask("c")
    asked.gates[0].set_exception(error)
    await asked.turn()
    name = type(error).__name__
    assert asked.answers == [f"a: {name}", f"b: {name}"]
    asked.gates[1].set_result(None)
    await asked.turn()
    assert asked.answers[2:] == ["c!"], "the next one is tried"
    asked.outbox.close()


async def test_nobody_is_answered_after_the_end() -> None:
    asked = Asked()
    asked.ask("a")
    await asked.turn()
    asked.outbox.close()
    asked.ask("b")
    await asked.turn()
    assert asked.gates[0].cancelled() and asked.answers == [] and len(asked.requests) == 1


class Silent:
    """A peer that never answers, until it is closed."""

    def __init__(self, address: Any, client_id: str, *, timeout_s: float) -> None:
        self.client_id = client_id
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def call(self) -> None:
        await self.closed

    def close(self) -> None:
        if not self.closed.done():
            self.closed.set_exception(PeerGone("closed"))


@pytest.mark.parametrize("moves", [False, True])
async def test_a_broker_that_dies_or_moves_is_given_up_at_once(
    monkeypatch: pytest.MonkeyPatch, moves: bool
) -> None:
    monkeypatch.setattr(outbox, "Peer", Silent)
    hosted = HostedNode()
    hosted.know("t", leader=OTHER)
    answers: list[str] = []

    async def exchange(peer: Any, questions: list[str]) -> list[str]:
        await peer.call()
        return questions

    made: Outbox[str, str] = Outbox(hosted.node, "x", exchange, lambda *_: "failed")
    made.ask(OTHER, "a", answers.append)
    for _ in range(3):
        await asyncio.sleep(0)
    assert answers == []
    view = hosted.metadata.view
    brokers = {i: b for i, b in view.brokers.items() if i != OTHER}
    hosted.metadata._swap(replace(view, brokers=dict(view.brokers)))
    await asyncio.sleep(0)
    assert answers == [], "it is where it was"
    if moves:
        brokers[OTHER] = BrokerInfo(OTHER, {"PLAINTEXT": ("h", 2)})
    hosted.metadata._swap(replace(view, brokers=brokers))
    for _ in range(3):
        await asyncio.sleep(0)
    assert answers == ["failed"]
    made.close()


def test_rounds() -> None:
    assert in_rounds([]) == []
    assert in_rounds(["a", "b", "a", "c", "a", "b"]) == [[0, 1, 3], [2, 5], [4]]
