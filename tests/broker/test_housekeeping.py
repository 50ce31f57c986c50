"""Duties beside requests, on real logs and the real loop."""

import asyncio

from broker.housekeeping import Housekeeping
from tests.kit.hosted import HostedNode

DEADLINE_S = 20.0


async def test_idle_producers_are_forgotten_by_the_settings_in_force() -> None:
    part = HostedNode(
        {
            "zookeeper.connect": "z:1",
            "broker.id": "0",
            "producer.id.expiration.check.interval.ms": "1",
            "producer.id.expiration.ms": "10000",
        }
    )
    log = part.host("t1")
    now = part.clock.now_ms()
    part.append("t1", [now - 9_000], producer_id=7, producer_epoch=0, base_sequence=0)
    part.append("t1", [now - 11_000], producer_id=8, producer_epoch=0, base_sequence=0)
    duties = Housekeeping(part.logs, part.node.config, part.clock)
    duties.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            while 8 in log.producers:
                await asyncio.sleep(0.01)
        assert 7 in log.producers
        part.node.config.set_dynamic({}, {"producer.id.expiration.ms": "8000"})
        async with asyncio.timeout(DEADLINE_S):
            while 7 in log.producers:
                await asyncio.sleep(0.01)
    finally:
        await duties.stop()
    # A log that is opened later goes by the newest value.
    assert part.host("t2").producers.expiration_ms == 8_000
