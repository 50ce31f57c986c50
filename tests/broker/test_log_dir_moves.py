"""AlterReplicaLogDirs and what comes of it, as DescribeLogDirs shows it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from protocol.errors import ErrorCode
from protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from protocol.messages.describe_log_dirs import DescribeLogDirsRequest
from tests.kit.faulty_files import FaultyFileSystem
from tests.kit.hosted import OTHER, HostedNode

T = ("t", 0)


@pytest.fixture
async def part() -> AsyncIterator[HostedNode]:
    made = HostedNode(dirs=("/a", "/b"))
    yield made
    if made.node.log_dir_moves is not None:
        await made.node.log_dir_moves.close()


async def alter(part: HostedNode, path: str, *keys: tuple[str, int], version: int = 2) -> list[int]:
    topics = [AlterReplicaLogDirTopic(topic, [index]) for topic, index in keys]
    answer = await part.ask(version, AlterReplicaLogDirsRequest([AlterReplicaLogDir(path, topics)]))
    return [p.error_code for topic in answer.results for p in topic.partitions]


async def shown(part: HostedNode) -> dict[tuple[str, bool], tuple[int, int]]:
    """(directory, whether future) -> (bytes, lag) of t-0."""
    answer = await part.ask(4, DescribeLogDirsRequest(topics=None))
    return {
        (result.log_dir, p.is_future_key): (p.partition_size, p.offset_lag)
        for result in answer.results
        for topic in result.topics
        for p in topic.partitions
        if (topic.name, p.partition_index) == T
    }


async def until(done: Any, timeout_s: float = 10.0) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not done():
        assert loop.time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


def home(part: HostedNode, key: tuple[str, int] = T) -> str:
    return part.logs.home_of(key).path


def rate(part: HostedNode, limit: int) -> None:
    """Set as by IncrementalAlterConfigs on the broker."""
    part.node.config.set_dynamic({"replica.alter.log.dirs.io.max.bytes.per.second": str(limit)}, {})


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_a_replica_moves_while_it_is_written(part: HostedNode, version: int) -> None:
    log = part.host("t")
    part.append("t", range(50))
    assert home(part) == "/a"
    assert await alter(part, "/b", T, version=version) == [0]
    assert (await shown(part))[("/b", True)] == (0, 50)
    part.append("t", range(7))
    await until(lambda: home(part) == "/b")
    moved = part.partition("t").log
    assert moved is not None and moved is not log and moved is part.logs.get(*T)
    assert (moved.end_offset, moved.high_watermark) == (57, 57)
    part.append("t", range(3))
    assert moved.end_offset == 60
    assert await shown(part) == {("/b", False): (moved.size, 0)}
    # To where it is.
    assert await alter(part, "/b", T) == [0]
    assert not part.logs.futures.logs


async def test_refusals(part: HostedNode) -> None:
    part.host("t")
    part.know("elsewhere", leader=OTHER)
    part.know("n" * 249)
    assert await alter(part, "/c", T) == [ErrorCode.LOG_DIR_NOT_FOUND]
    assert await alter(part, "b", T) == [ErrorCode.LOG_DIR_NOT_FOUND]
    assert await alter(part, "/b", ("u", 0), ("t", 1)) == [3, 3]
    assert await alter(part, "/b", ("elsewhere", 0)) == [ErrorCode.REPLICA_NOT_AVAILABLE]
    assert await alter(part, "/b", ("n" * 249, 0)) == [ErrorCode.INVALID_TOPIC_EXCEPTION]
    assert await alter(part, "/b") == []
    part.logs.dir_failed_at("/b", OSError("gone"))
    assert await alter(part, "/b", T) == [ErrorCode.KAFKA_STORAGE_ERROR]
    part.logs.dir_failed_at("/a", OSError("gone"))
    assert await alter(part, "/a", T) == [ErrorCode.KAFKA_STORAGE_ERROR]


async def test_a_replica_that_is_not_there_yet_is_made_where_it_was_wished(
    part: HostedNode,
) -> None:
    part.know("t", leader=OTHER)
    assert await alter(part, "/b", T) == [ErrorCode.REPLICA_NOT_AVAILABLE]
    part.host("t", leader=OTHER)
    assert home(part) == "/b"


async def test_a_rate_holds_it_up_and_another_wish_takes_its_place(part: HostedNode) -> None:
    part.host("t", segment_bytes="2000000")
    for _ in range(40):
        part.append("t", range(2000))
    assert part.partition("t").log.size > 1 << 20  # type: ignore[union-attr]
    rate(part, 1)
    assert await alter(part, "/b", T) == [0]
    future = part.logs.futures.logs[T]
    await until(lambda: future.end_offset > 0)
    for _ in range(50):
        await asyncio.sleep(0)
    assert home(part) == "/a"
    lag = (await shown(part))[("/b", True)][1]
    assert lag == 80_000 - future.end_offset > 0
    assert await alter(part, "/a", T) == [0]
    assert set(await shown(part)) == {("/a", False)}
    assert await alter(part, "/b", T) == [0]
    assert part.logs.futures.logs[T] is not future
    rate(part, 1 << 40)
    await until(lambda: home(part) == "/b")


async def test_it_goes_on_after_a_restart() -> None:
    fs = FaultyFileSystem()
    first = HostedNode(dirs=("/a", "/b"), fs=fs)
    first.host("t")
    first.append("t", range(30))
    first.logs.futures.create(T, "/b", first.clock.now_ms())
    again = HostedNode(dirs=("/a", "/b"), fs=fs.kill())
    assert T in again.logs.futures.logs
    again.host("t", leader_epoch=1)
    await until(lambda: home(again) == "/b")
    assert again.partition("t").log.end_offset == 30  # type: ignore[union-attr]


async def test_a_future_directory_that_fails_leaves_the_replica_where_it_is() -> None:
    fs = FaultyFileSystem()
    part = HostedNode(dirs=("/a", "/b"), fs=fs)
    part.host("t")
    part.append("t", range(30))
    assert await alter(part, "/b", T) == [0]
    part.logs.dir_failed_at("/b", OSError("gone"))
    await until(lambda: T not in part.logs.futures.logs)
    part.append("t", range(5))
    assert part.partition("t").log.end_offset == 35  # type: ignore[union-attr]
    assert home(part) == "/a"


async def test_a_partition_is_deleted_on_its_way(part: HostedNode) -> None:
    from protocol.messages.stop_replica import (
        StopReplicaPartitionState,
        StopReplicaRequest,
        StopReplicaTopicState,
    )

    part.host("t")
    part.append("t", range(5))
    assert await alter(part, "/b", T) == [0]
    state = StopReplicaPartitionState(partition_index=0, leader_epoch=-2, delete_partition=True)
    part.replicas.stop_replica(
        StopReplicaRequest(topic_states=[StopReplicaTopicState("t", partition_states=[state])])
    )
    assert not part.logs.futures.logs and T not in part.logs.logs
    await until(lambda: part.node.dir_moves._task is None)
    names = [name for path in ("/a", "/b") for name in part.fs.listdir(path) if "t-0" in name]
    assert len(names) == 2 and all(name.endswith("-delete") for name in names)
