"""How leaders reach the share coordinator while it is not there yet."""

import asyncio

import pytest

from broker.cluster.view import SHARE_STATE_TOPIC
from broker.shares import persister
from broker.shares.common import ShareKey
from broker.shares.persister import StatePersister
from broker.shares.state import Answer
from protocol.errors import ErrorCode
from tests.broker.groups.node import GroupNode
from tests.broker.shares.node import ShareNode, topic_id

KEY = ShareKey("g", topic_id("t"), 0)


async def test_a_coordinator_that_comes_later() -> None:
    part = ShareNode()
    await GroupNode.start(part)
    try:
        part.know(SHARE_STATE_TOPIC)
        asked = StatePersister(part.node)
        answers: list[Answer] = []
        asked.initialize(KEY, 1, 5, answers.append)
        asked.summary(KEY, answers.append)
        await asyncio.sleep(0)
        assert answers == []
        part.host(SHARE_STATE_TOPIC)
        async with asyncio.timeout(10):
            while len(answers) < 2:
                await asyncio.sleep(0.001)
        assert [answer.code for answer in answers] == [0, 0]
        asked.read(KEY, 0, answers.append)
        state = answers[-1].state
        assert state is not None
        assert state.start_offset == 5
        asked.close()
    finally:
        await part.stop()


@pytest.mark.parametrize("close", [False, True])
async def test_a_coordinator_that_never_comes(monkeypatch: pytest.MonkeyPatch, close: bool) -> None:
    monkeypatch.setattr(persister, "FIRST_PAUSE_S", 0.0005)
    monkeypatch.setattr(persister, "LAST_PAUSE_S", 0.001)
    part = ShareNode()
    await GroupNode.start(part)
    try:
        part.know(SHARE_STATE_TOPIC)
        asked = StatePersister(part.node)
        answers: list[Answer] = []
        asked.delete(KEY, answers.append)
        if close:
            asked.close()
            assert asked._retries == set()
        else:
            async with asyncio.timeout(10):
                while not answers:
                    await asyncio.sleep(0.001)
            assert answers[0].code == ErrorCode.NOT_COORDINATOR
            asked.close()
    finally:
        await part.stop()
