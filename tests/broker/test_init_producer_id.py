"""InitProducerId: ids for idempotent producers, refusals, and what Apache Kafka answered. What a
transactional id is answered is in transactions/."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.cluster.view import TRANSACTIONS_TOPIC
from broker.producer_ids import ProducerIds
from protocol.messages.init_producer_id import InitProducerIdRequest
from tests.broker.transactions.part import Part
from tests.kit.hosted import HostedNode, recorded

CAPTURED = "offsets-wire.jsonl.gz"


class Controller:
    """Grants blocks of a thousand from `first`; refuses while that is None."""

    def __init__(self) -> None:
        self.first: int | None = 0

    async def allocate(self) -> tuple[int, int]:
        if self.first is None:
            raise RuntimeError("no controller")
        first, self.first = self.first, self.first + 1000
        return first, 1000


@pytest.fixture
def controller() -> Controller:
    return Controller()


@pytest.fixture
async def part(controller: Controller) -> AsyncIterator[HostedNode]:
    made = Part()
    made.node.producer_ids = ProducerIds(controller.allocate, made.clock)
    yield made
    await made.stop()


async def ask(part: HostedNode, version: int = 5, **fields: Any) -> tuple[int, int, int]:
    """(error, producer id, epoch)."""
    request = InitProducerIdRequest(**{"transactional_id": None} | fields)
    answer = await part.ask(version, request)
    return answer.error_code, answer.producer_id, answer.producer_epoch


async def test_idempotent_producers_get_fresh_ids(part: HostedNode) -> None:
    assert [await ask(part, version) for version in range(6)] == [(0, n, 0) for n in range(6)]
    # Whatever id and epoch is named, and however long the timeout.
    assert await ask(part, producer_id=3, producer_epoch=7) == (0, 6, 0)
    assert await ask(part, transaction_timeout_ms=1 << 30) == (0, 7, 0)
    assert await ask(part, transaction_timeout_ms=-1) == (0, 8, 0)


async def test_no_block_of_ids(part: HostedNode, controller: Controller) -> None:
    controller.first = None
    assert await ask(part) == (14, -1, -1)
    controller.first = 4000
    part.clock.seconds += 1
    assert await ask(part) == (0, 4000, 0)


async def test_order_of_refusals(part: HostedNode) -> None:
    halves: tuple[dict[str, int], ...] = ({"producer_id": 5}, {"producer_epoch": 5})
    for half in halves:
        assert await ask(part, **half) == (42, -1, -1)
        # Seen before the timeout.
        assert await ask(part, transactional_id="t", **half) == (42, -1, -1)
    for transactional_id, timeout, code in (
        ("", 0, 42),
        ("t", 0, 50),
        ("t", -1, 50),
        ("t", 900_001, 50),
        ("t", 900_000, 16),
        ("t", 1, 16),
    ):
        answer = await ask(part, transactional_id=transactional_id, transaction_timeout_ms=timeout)
        assert answer == (code, -1, -1), (transactional_id, timeout)
    assert await ask(part) == (0, 0, 0)


async def test_the_limit_is_the_brokers(controller: Controller) -> None:
    part = Part(settings={"transaction.max.timeout.ms": "10"})
    part.node.producer_ids = ProducerIds(controller.allocate, part.clock)
    assert (await ask(part, transactional_id="t", transaction_timeout_ms=11))[0] == 50
    assert (await ask(part, transactional_id="t", transaction_timeout_ms=10))[0] == 16
    await part.node.producer_ids.stop()


@pytest.mark.parametrize("kafka", ["3.9.2", "4.4.0", "3.9.2 wrong broker"])
async def test_as_recorded(part: HostedNode, controller: Controller, kafka: str) -> None:
    controller.first = None
    compared: set[int] = set()
    hosted = "wrong" in kafka
    for case in recorded(CAPTURED, 22, kafka):
        if not hosted and not case.case.startswith("cold"):
            hosted = True
            part.host(TRANSACTIONS_TOPIC)
            controller.first = 2  # two were given to others
            part.clock.seconds += 1
        ours = await part.ask(case.version, case.request)
        assert ours == case.answer, case
        compared.add(ours.error_code)
    assert compared == ({16} if "wrong" in kafka else {0, 14, 42, 47, 50, 90})
