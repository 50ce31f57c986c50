"""DescribeLogDirs (key 35): this broker's log directories with the sizes of their partitions.

Versions 0-5 (KIP-113): 1 throttling after the answer (KIP-219); 2 flexible (KIP-482); 3 an error
code for the whole answer (KIP-784); 4 total and usable bytes of the volume (KIP-827); 5 whether a
directory is cordoned (KIP-1066), here never.

Null asks for all partitions; unknown topics and partitions are left out. A directory that has
failed is answered KAFKA_STORAGE_ERROR, without partitions and sizes. The lag of a partition is what
its log lacks to the high watermark, that of a future replica (on its way to another directory)
what it lacks to the present one's end; -1 when the broker has no role for it. Left out:
authorization.
"""

from typing import TYPE_CHECKING

from protocol.errors import ErrorCode
from protocol.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)

if TYPE_CHECKING:
    from broker.context import Context, Node
    from storage.log_dir import DirSize

NO_LAG = -1


def handle(
    node: "Node", context: "Context", request: DescribeLogDirsRequest
) -> DescribeLogDirsResponse:
    """Answer from the log manager's sizes."""
    asked: dict[str, set[int]] | None = None
    if request.topics is not None:
        asked = {}
        for topic in request.topics:
            asked.setdefault(topic.topic, set()).update(topic.partitions)
    return DescribeLogDirsResponse(
        results=[_directory(node, size, asked) for size in node.logs.dir_sizes()]
    )


def _directory(
    node: "Node", directory: "DirSize", asked: dict[str, set[int]] | None
) -> DescribeLogDirsResult:
    if directory.error:
        return DescribeLogDirsResult(
            error_code=ErrorCode.KAFKA_STORAGE_ERROR, log_dir=directory.path
        )
    topics: dict[str, list[DescribeLogDirsPartition]] = {}
    for topic, index, size, future in directory.partitions:
        if asked is not None and index not in asked.get(topic, ()):
            continue
        topics.setdefault(topic, []).append(
            DescribeLogDirsPartition(
                partition_index=index,
                partition_size=size,
                offset_lag=_lag(node, topic, index, future=future),
                is_future_key=future,
            )
        )
    return DescribeLogDirsResult(
        log_dir=directory.path,
        topics=[DescribeLogDirsTopic(name, partitions) for name, partitions in topics.items()],
        total_bytes=directory.total_bytes,
        usable_bytes=directory.usable_bytes,
    )


def _lag(node: "Node", topic: str, index: int, *, future: bool) -> int:
    partition = node.replicas.partition(topic, index)
    if partition is None or partition.log is None:
        return NO_LAG
    if future:
        return partition.log.end_offset - node.logs.futures.logs[topic, index].end_offset
    return max(partition.log.high_watermark - partition.log.end_offset, 0)
