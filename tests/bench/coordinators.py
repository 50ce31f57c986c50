"""What groups, committed offsets and transactions cost."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from protocol import batch
from protocol.messages.find_coordinator import FindCoordinatorRequest
from protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestTopic,
)
from protocol.record import Record
from protocol.stored.consumer_offsets import OffsetCommitKey, OffsetCommitValue
from protocol.stored.versioned import encode_key, encode_value
from tests.bench.figures import MB, Figure, Target, new_topic
from tests.bench.requests import now_ms
from tests.kit.server import Server, process_rss
from tests.kit.wire import Wire

GROUPS, TOPICS, PARTITIONS = 1000, 100, 10
"""A million offsets: each of the groups reads each partition of each topic."""
A_BATCH = 100
"""Offsets in one commit; a commit is a batch."""
SMALL = ("--set", "offsets.topic.num.partitions=1")
RETRY = (14, 15, 16)


def heartbeats(target: Target, runs: int) -> Iterator[Figure]:
    cpu = Figure("heartbeats of 10,000 members", "us CPU each", 15.0)
    wall = Figure("heartbeats, throughput", "us wall each", None)
    topic = new_topic("heartbeats")
    got = target.job("heartbeats", topic, groups=20, members=500, runs=runs, seconds=1.0)
    cpu.values += [window["cpu"] * 1e6 for window in got["windows"]]
    wall.values += [window["wall"] * 1e6 for window in got["windows"]]
    yield cpu
    yield wall


def rebalance(target: Target, runs: int) -> Iterator[Figure]:
    formed = Figure("a group of 500 forms", "s", 3.0)
    again = Figure("a group of 500 rebalances", "s", 3.0)
    for _ in range(runs):
        got = target.job("rebalance", new_topic("group"), members=500)
        formed.values.append(got["formed"])
        again.values.append(got["again"])
    yield formed
    yield again


def transactions(target: Target, runs: int) -> Iterator[Figure]:
    cpu = Figure("transactions of one record", "us CPU each", None)
    wall = Figure("transactions, 20 at a time", "us wall each", None)
    for _ in range(runs):
        topic = new_topic("transactions")
        target.create(topic, 20)
        got = target.job("transactions", topic, connections=20, seconds=2.0)
        # every transaction leaves its record and its marker
        assert target.end_offset(topic) == 2 * got["first"], "transactions were lost or doubled"
        cpu.values.append(got["cpu"] / got["committed"] * 1e6)
        wall.values.append(got["wall"] / got["committed"] * 1e6)
        target.delete(topic)
    yield cpu
    yield wall


def load_offsets(runs: int) -> Iterator[Figure]:
    seconds = Figure("a million offsets are loaded", "s", 10.0)
    memory = Figure("a million offsets, resident", "MB", 300.0)
    data = list(offset_batches())
    for _ in range(max(1, runs // 2)):
        with tempfile.TemporaryDirectory(prefix="odradek-bench-") as folder:
            server = Server(Path(folder) / "data", arguments=SMALL)
            server.start()
            with Wire(server.bootstrap, timeout=30) as wire:
                while wire.call(FindCoordinatorRequest("group-0"), 2).error_code in RETRY:
                    pass
            # after a kill the end of the log is looked for in the log
            server.kill()
            _write(Path(folder) / "data" / "__consumer_offsets-0", data)
            began = time.monotonic()
            server.start()
            try:
                _await_offset(server.bootstrap)
                seconds.values.append(time.monotonic() - began)
                memory.values.append(process_rss(server.pid) / MB)
            finally:
                server.stop()
    yield seconds
    yield memory


def offset_batches() -> Iterator[bytes]:
    """The million commits as batches, offsets of the log included, in the order of a log."""
    now = now_ms()
    value = encode_value(
        OffsetCommitValue(offset=123_456, leader_epoch=0, metadata="", commit_timestamp=now), 3
    )
    offset = 0
    for group in range(GROUPS):
        for first in range(0, TOPICS * PARTITIONS, A_BATCH):
            records = [
                Record(
                    offset + at,
                    now,
                    encode_key(OffsetCommitKey(f"group-{group}", *_place(first + at))),
                    value,
                )
                for at in range(A_BATCH)
            ]
            yield batch.build(records, base_offset=offset)
            offset += A_BATCH


def _place(number: int) -> tuple[str, int]:
    topic, partition = divmod(number, PARTITIONS)
    return f"a-topic-with-a-name-{topic}", partition


def _write(folder: Path, data: list[bytes]) -> None:
    """Put batches into an empty log; opening it rebuilds its indexes."""
    with open(folder / f"{0:020}.log", "wb") as file:
        file.writelines(data)


def _await_offset(bootstrap: str) -> None:
    """Until the last offset is answered."""
    topic, partition = _place(TOPICS * PARTITIONS - 1)
    asked = [OffsetFetchRequestTopic(topic, [partition])]
    request = OffsetFetchRequest(f"group-{GROUPS - 1}", asked)
    with Wire(bootstrap, timeout=60) as wire:
        while (answer := wire.call(request, 7)).error_code in RETRY:
            # asking takes time from what is waited for
            time.sleep(0.02)
        (found,) = answer.topics[0].partitions
        assert found.committed_offset == 123_456, found
        everything = wire.call(OffsetFetchRequest("group-0", None), 7).topics
    assert sum(len(topic.partitions) for topic in everything) == TOPICS * PARTITIONS
