"""The APIs and versions that the corpus covers, and which of them each reference judges."""

from broker.handlers import HANDLERS
from compat.reference import VERSIONS
from protocol.apis import API_BY_KEY

OLD, NEW = VERSIONS

COVERED = {
    "ApiVersions": (0, 5),
    "Metadata": (0, 13),
    "Produce": (0, 13),
    "Fetch": (0, 18),
    "ListOffsets": (0, 11),
    "OffsetForLeaderEpoch": (0, 4),
    "CreateTopics": (0, 7),
    "DeleteTopics": (0, 6),
    "CreatePartitions": (0, 3),
    "DeleteRecords": (0, 2),
    "DescribeConfigs": (0, 4),
    "AlterConfigs": (0, 2),
    "IncrementalAlterConfigs": (0, 1),
    "DescribeCluster": (0, 2),
    "DescribeLogDirs": (0, 5),
    "DescribeTopicPartitions": (0, 0),
    "DescribeProducers": (0, 0),
    "InitProducerId": (0, 5),
    "FindCoordinator": (0, 6),
    "ListConfigResources": (0, 1),
    "UpdateFeatures": (0, 2),
    "JoinGroup": (0, 9),
    "SyncGroup": (0, 5),
    "Heartbeat": (0, 4),
    "LeaveGroup": (0, 5),
    "OffsetCommit": (0, 10),
    "OffsetFetch": (0, 10),
    "OffsetDelete": (0, 0),
    "TxnOffsetCommit": (0, 6),
    "DescribeGroups": (0, 6),
    "ListGroups": (0, 5),
    "DeleteGroups": (0, 3),
    "ConsumerGroupHeartbeat": (0, 1),
    "ConsumerGroupDescribe": (0, 1),
    "ShareGroupHeartbeat": (1, 1),
    "ShareGroupDescribe": (1, 1),
    "ShareFetch": (1, 2),
    "ShareAcknowledge": (1, 2),
    "DescribeShareGroupOffsets": (0, 1),
    "AlterShareGroupOffsets": (0, 0),
    "DeleteShareGroupOffsets": (0, 0),
    "InitializeShareGroupState": (0, 0),
    "ReadShareGroupState": (0, 0),
    "WriteShareGroupState": (0, 1),
    "DeleteShareGroupState": (0, 0),
    "ReadShareGroupStateSummary": (0, 1),
    "AddPartitionsToTxn": (0, 5),
    "AddOffsetsToTxn": (0, 4),
    "EndTxn": (0, 5),
    "WriteTxnMarkers": (0, 2),
    "DescribeTransactions": (0, 0),
    "ListTransactions": (0, 2),
    "ElectLeaders": (0, 2),
    "AlterPartitionReassignments": (0, 1),
    "ListPartitionReassignments": (0, 0),
    "AlterReplicaLogDirs": (0, 2),
    "LeaderAndIsr": (0, 7),
    "StopReplica": (0, 4),
    "UpdateMetadata": (0, 8),
    "ControlledShutdown": (0, 3),
    "AlterPartition": (0, 3),
    "AllocateProducerIds": (0, 0),
    "DescribeAcls": (0, 3),
    "CreateAcls": (0, 3),
    "DeleteAcls": (0, 3),
}
"""What the corpus has cases for; a broker that offers anything else has outgrown it."""

_STEMS = frozenset(HANDLERS)
_WITH_HANDLER = {api.name for api in API_BY_KEY.values() if api.stem in _STEMS}
OFFERED = {name: span for name, span in COVERED.items() if name in _WITH_HANDLER}
"""The part of it that this working tree offers; Odradek's own ApiVersions answer is held against
it, and only these cases are played on Odradek. References are recorded for all."""

NEVER_GRANTED = ("ControlledShutdown", "DescribeAcls", "CreateAcls", "DeleteAcls")
"""Only refusals are compared: the first would end the broker, the others need an authorizer."""

LAST_OF_OLD = {
    **{name: high for name, (_, high) in COVERED.items()},
    **{"ApiVersions": 4, "Metadata": 12, "Produce": 11, "Fetch": 17, "ListOffsets": 9},
    **{"DescribeCluster": 1, "DescribeLogDirs": 4, "UpdateFeatures": 1},
    **{"AlterPartitionReassignments": 0},
    **{"DescribeTopicPartitions": -1, "ListConfigResources": -1},
    **{"OffsetCommit": 9, "OffsetFetch": 9, "TxnOffsetCommit": 4, "DescribeGroups": 5},
    **{"DeleteGroups": 2, "EndTxn": 4, "WriteTxnMarkers": 1, "ListTransactions": 1},
    **{"ConsumerGroupHeartbeat": -1, "ConsumerGroupDescribe": -1},
    **{"ShareGroupHeartbeat": -1, "ShareGroupDescribe": -1},
    **{"ShareFetch": -1, "ShareAcknowledge": -1, "DescribeShareGroupOffsets": -1},
    **{"AlterShareGroupOffsets": -1, "DeleteShareGroupOffsets": -1},
    **{"InitializeShareGroupState": -1, "ReadShareGroupState": -1, "WriteShareGroupState": -1},
    **{"DeleteShareGroupState": -1, "ReadShareGroupStateSummary": -1},
}
"""The last version of each API that 3.9.2 serves in ZooKeeper mode."""


NEVER_REFUSED = frozenset(
    (*(("ListGroups", version) for version in range(3)), ("ListPartitionReassignments", 0))
)
"""Requests without a body, and one that only tells of what it finds: nothing can be wrong with
them, but that the broker is not the controller (`compat.cluster`)."""


def judge_of(api: str, version: int) -> str:
    """Who judges a version of an API: 3.9.2 where it serves it, else 4.4.0."""
    return OLD if version <= LAST_OF_OLD[api] else NEW


def pairs(new: bool) -> list[tuple[str, int]]:
    """All offered (API, version) that one of the two judges."""
    judge = NEW if new else OLD
    return [
        (api, version)
        for api, (low, high) in OFFERED.items()
        for version in range(low, high + 1)
        if judge_of(api, version) == judge
    ]
