"""AlterReplicaLogDirs (key 34): replicas of this broker are moved to others of its log directories
(KIP-113).

Versions 0-2: 1 throttling after the answer (KIP-219); 2 flexible (KIP-482).

The answer says that the moves have begun: DescribeLogDirs shows a future replica until each is
done. A directory that is not one of this broker's is LOG_DIR_NOT_FOUND, one that has failed
KAFKA_STORAGE_ERROR. A replica that is not here is made in that directory when it comes, and is
answered REPLICA_NOT_AVAILABLE. Of a partition named twice the last directory holds. Left out:
authorization.
"""

from typing import TYPE_CHECKING

from protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)

if TYPE_CHECKING:
    from broker.context import Context, Node


def handle(
    node: "Node", context: "Context", request: AlterReplicaLogDirsRequest
) -> AlterReplicaLogDirsResponse:
    """Begin the moves."""
    wanted: dict[tuple[str, int], str] = {}
    for directory in request.dirs:
        for topic in directory.topics:
            for index in topic.partitions:
                wanted[topic.name, index] = directory.path
    topics: dict[str, AlterReplicaLogDirTopicResult] = {}
    for (name, index), path in wanted.items():
        code = node.dir_moves.alter(name, index, path)
        result = topics.setdefault(name, AlterReplicaLogDirTopicResult(name))
        result.partitions.append(AlterReplicaLogDirPartitionResult(index, code))
    return AlterReplicaLogDirsResponse(results=list(topics.values()))
