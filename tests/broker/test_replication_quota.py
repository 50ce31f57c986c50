"""How fast replicas may catch up (KIP-73): measuring, and both sides of a fetch."""

import asyncio

import pytest

from broker.config import BrokerConfig
from broker.replication_quota import UNLIMITED, ReplicationQuota, names
from broker.throttles import Throttle
from storage.config import LogConfig
from tests.broker import test_fetcher
from tests.broker.test_fetcher import answered, log_of, records, told
from tests.broker.test_follower_fetch import TWO, Leader, size
from tests.broker.test_partition import led
from tests.kit.nodes import FakeClock

LEADER_RATE = "leader.replication.throttled.rate"
FOLLOWER_RATE = "follower.replication.throttled.rate"


def test_a_rate_is_measured_over_samples() -> None:
    quota = ReplicationQuota(3, 1)
    assert quota.rate(0) == 0
    quota.record(600, 0.0)
    assert quota.rate(0.1) == 600, "a sample at least"
    assert quota.rate(2.0) == 300
    quota.record(300, 2.0)
    assert quota.rate(2.5) == 360
    assert quota.rate(3.5) == 200, "the first sample is too old"
    assert quota.rate(9.0) == 0


def test_a_steady_rate_is_that_rate() -> None:
    quota = ReplicationQuota(11, 1)
    for tenth in range(300):
        quota.record(100, tenth / 10)
    assert quota.rate(30.0) == pytest.approx(1000, rel=0.1)


def test_a_limit_that_is_exceeded_until_the_rate_comes_down() -> None:
    quota = ReplicationQuota(3, 1)
    quota.record(10_000, 0.0)
    assert not quota.exceeded(0.0)
    quota.limit = 5000
    assert quota.exceeded(1.0)
    assert not quota.exceeded(2.0)
    quota.limit = 0
    assert quota.exceeded(2.0)
    quota.limit = UNLIMITED
    assert not quota.exceeded(0.0)


def test_which_replicas_a_topic_means() -> None:
    assert names(("*",), 3, 1)
    assert names(("0:1", "3:1"), 3, 1)
    assert not names(("0:1", "3:2"), 3, 1)
    assert not names((), 3, 1)


def throttle(clock: FakeClock, *, leader: bool, rate: str) -> tuple[Throttle, BrokerConfig]:
    config = BrokerConfig({"broker.id": "0" if leader else "1"})
    made = Throttle(config, clock, leader=leader)
    assert made.off
    config.set_dynamic({LEADER_RATE if leader else FOLLOWER_RATE: rate}, {})
    assert not made.off
    return made, config


def test_settings_say_how_much_and_topics_of_what() -> None:
    clock = FakeClock()
    made, config = throttle(clock, leader=True, rate="1000")
    p = led()
    assert p.log is not None
    made.record(p, 9000)
    assert not made.concerns(p) and not made.holds(p)
    p.log.config = LogConfig.from_strings({"leader.replication.throttled.replicas": "0:0,1:2"})
    made.record(p, 9000)
    assert made.concerns(p) and made.holds(p)
    clock.seconds += 10
    assert not made.holds(p)
    made.record(p, 90_000)
    config.set_dynamic({}, {})
    assert made.off and not made.holds(p)
    p.log = None
    assert not made.concerns(p)


async def test_a_leader_sends_nothing_to_who_is_out_of_sync_while_it_is_too_much() -> None:
    leader = Leader(leader_replication_throttled_replicas="*")
    clock = leader.hosted.clock
    made, _ = throttle(clock, leader=True, rate="100")
    leader.hosted.replicas.throttle = made
    leader.append(count=50)
    found = (await leader.ask({0: 0}, replica=TWO).partitions())[0]
    assert size(found) > 100, "what was sent counts, it is not cut"
    found = (await leader.ask({0: 0}, replica=TWO, wait=0).partitions())[0]
    assert size(found) == 0 and found.error_code == 0
    assert size((await leader.ask({0: 0}).partitions())[0]) > 0, "1 is in sync"
    clock.seconds += 20
    assert size((await leader.ask({0: 0}, replica=TWO).partitions())[0]) > 0


async def test_a_follower_leaves_out_what_lags_while_it_is_too_much() -> None:
    clock = FakeClock()
    follower = test_fetcher.Follower()
    made, _ = throttle(clock, leader=False, rate="100")
    follower.fetcher._throttle = made
    slow, free = follower.partition(0), follower.partition(1)
    log_of(slow).config = LogConfig.from_strings({"follower.replication.throttled.replicas": "0:1"})
    follower.add(slow, free)
    await follower.says(answered(told(0, records(0, 40, 3), hw=90), told(1)))
    assert [p for t in follower.leader.fetches[-1].forgotten_topics_data for p in t.partitions] == [
        0
    ]
    await follower.says(answered(told(1, records(0, 1, 3))))
    assert follower.leader.asked() == [(1, 1, 3, 3)]
    clock.seconds += 20
    await follower.says(answered())
    assert follower.leader.asked() == [(0, 40, 3, 3)]
    # At the leader's high watermark it lags no more, and is fetched whatever the rate.
    await follower.says(answered(told(0, records(40, 50, 3), hw=90)))
    assert made.holds(slow)
    assert follower.leader.asked() == [(0, 90, 3, 3)]
    await follower.fetcher.close()


async def test_a_follower_that_fetches_nothing_else_looks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.fetcher.THROTTLE_CHECK_S", 0.0)
    clock = FakeClock()
    follower = test_fetcher.Follower()
    made, _ = throttle(clock, leader=False, rate="100")
    follower.fetcher._throttle = made
    p = follower.partition(0)
    log_of(p).config = LogConfig.from_strings({"follower.replication.throttled.replicas": "*"})
    follower.add(p)
    follower.leader.script.append(answered(told(0, records(0, 40, 3), hw=90)))
    while not log_of(p).end_offset:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(follower.leader.fetches) == 1
    clock.seconds += 20
    await follower.rest()
    assert follower.leader.asked() == [(0, 40, 3, 3)]
    await follower.fetcher.close()
