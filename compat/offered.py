"""The APIs and versions that Odradek offers, and which of them each reference judges."""

from compat.reference import VERSIONS

OLD, NEW = VERSIONS

OFFERED = {
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
    "ElectLeaders": (0, 2),
    "LeaderAndIsr": (0, 7),
    "StopReplica": (0, 4),
    "UpdateMetadata": (0, 8),
    "ControlledShutdown": (0, 3),
    "AlterPartition": (0, 3),
    "AllocateProducerIds": (0, 0),
}
"""What the corpus must cover; Odradek's own ApiVersions answer is held against it."""

NOT_GENERATED = (
    "ElectLeaders",
    "LeaderAndIsr",
    "StopReplica",
    "UpdateMetadata",
    "ControlledShutdown",
    "AlterPartition",
    "AllocateProducerIds",
)
"""What brokers ask each other, and elections: no requests of these are generated, because a lucky
one changes what all others see."""

ENDS_THE_BROKER = ("ControlledShutdown",)
"""Granted, it would end the broker that is compared: only refusals are."""

LAST_OF_OLD = {
    **{name: high for name, (_, high) in OFFERED.items()},
    **{"ApiVersions": 4, "Metadata": 12, "Produce": 11, "Fetch": 17, "ListOffsets": 9},
    **{"DescribeCluster": 1, "DescribeLogDirs": 4},
    **{"DescribeTopicPartitions": -1, "ListConfigResources": -1},
}
"""The last version of each API that 3.9.2 serves in ZooKeeper mode."""


def judge_of(api: str, version: int) -> str:
    """Who judges a version of an API: 3.9.2 where it serves it, else 4.4.0."""
    return OLD if version <= LAST_OF_OLD[api] else NEW


def pairs(new: bool) -> list[tuple[str, int]]:
    """All (API, version) that one of the two judges."""
    judge = NEW if new else OLD
    return [
        (api, version)
        for api, (low, high) in OFFERED.items()
        for version in range(low, high + 1)
        if judge_of(api, version) == judge
    ]
