"""DescribeLogDirs: directories, sizes and failures, and what Apache Kafka answered."""

from typing import Any

import pytest

from protocol.messages.describe_log_dirs import (
    DescribableLogDirTopic,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
)
from storage.filesystem import RealFileSystem
from tests.kit.hosted import OTHER, HostedNode, recorded

CAPTURED = "offsets-wire.jsonl.gz"


def found(answer: DescribeLogDirsResponse) -> dict[str, set[tuple[str, int, int, int]]]:
    """Directory -> (topic, partition, size, lag)."""
    return {
        result.log_dir: {
            (t.name, p.partition_index, p.partition_size, p.offset_lag)
            for t in result.topics
            for p in t.partitions
        }
        for result in answer.results
    }


async def test_partitions_with_their_sizes() -> None:
    part = HostedNode(dirs=("/a", "/b"))
    part.host("t", 3)
    part.host("followed", leader=OTHER)
    part.append("t", range(10), 1)
    log = part.partition("t", 1).log
    assert log is not None
    size = log.size
    assert size > 100
    everything = found(await part.ask(4, DescribeLogDirsRequest(topics=None)))
    assert everything.keys() == {"/a", "/b"}
    assert {len(partitions) for partitions in everything.values()} == {2}
    assert everything["/a"] | everything["/b"] == {
        ("t", 0, 0, 0),
        ("t", 1, size, 0),
        ("t", 2, 0, 0),
        ("followed", 0, 0, 0),
    }
    asked = [
        DescribableLogDirTopic("t", [1, 9]),
        DescribableLogDirTopic("nope", [0]),
        DescribableLogDirTopic("t", [2]),
    ]
    some = found(await part.ask(4, DescribeLogDirsRequest(topics=asked)))
    assert some["/a"] | some["/b"] == {("t", 1, size, 0), ("t", 2, 0, 0)}
    assert some.keys() == {"/a", "/b"}


async def test_topics_are_grouped() -> None:
    part = HostedNode()
    part.host("x", 2)
    part.host("y")
    answer = await part.ask(0, DescribeLogDirsRequest(topics=None))
    (result,) = answer.results
    assert {t.name: len(t.partitions) for t in result.topics} == {"x": 2, "y": 1}


async def test_a_log_without_a_role_has_no_lag() -> None:
    part = HostedNode()
    part.host("t")
    part.replicas.topics.clear()
    answer = await part.ask(0, DescribeLogDirsRequest(topics=None))
    assert found(answer) == {"/data": {("t", 0, 0, -1)}}


async def test_bytes_of_the_volume(tmp_path: Any) -> None:
    part = HostedNode(fs=RealFileSystem(), dirs=[str(tmp_path)])
    asked = DescribeLogDirsRequest(topics=None)
    for version in (4, 5):
        (result,) = (await part.ask(version, asked)).results
        assert result.log_dir == str(tmp_path)
        assert result.total_bytes >= result.usable_bytes > 0
        assert not result.is_cordoned
    (result,) = (await part.ask(3, asked)).results
    assert (result.total_bytes, result.usable_bytes) == (-1, -1)
    part.logs.close(part.clock.now_ms())


async def test_a_failed_directory(caplog: pytest.LogCaptureFixture) -> None:
    part = HostedNode(dirs=("/a", "/b"))
    part.host("t", 2)
    part.logs.dir_failed_at("/a", OSError("broken"))
    answer = await part.ask(4, DescribeLogDirsRequest(topics=None))
    by_dir = {result.log_dir: result for result in answer.results}
    failed, well = by_dir["/a"], by_dir["/b"]
    assert (failed.error_code, failed.topics, failed.total_bytes) == (56, [], -1)
    assert (well.error_code, len(well.topics[0].partitions)) == (0, 1)
    assert answer.error_code == 0


@pytest.mark.parametrize("kafka", ["3.9.2", "4.4.0"])
async def test_as_recorded(kafka: str) -> None:
    """Sizes, volumes, and what else was on that broker may differ."""
    compared = 0
    part = HostedNode(dirs=(f"/DIR/kafka/files/a{kafka[0]}{kafka[2]}/data-{int(kafka > '4')}",))
    part.host("t1", 2)
    for case in recorded(CAPTURED, 35, kafka):
        ours, theirs = await part.ask(case.version, case.request), case.answer
        for result in (*ours.results, *theirs.results):
            result.total_bytes = result.usable_bytes = -1
            result.topics = [t for t in result.topics if t.name == "t1"]
            for topic in result.topics:
                topic.partitions.sort(key=lambda p: p.partition_index)
                for partition in topic.partitions:
                    partition.partition_size = 0
        assert ours == theirs, case
        compared += 1
    assert compared == 21
