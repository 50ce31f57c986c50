"""What two right brokers may answer differently, and why: one table, read by `compat.normal`.

A rule names an API (as a shell pattern), a field by its path without indices, and how the field is
compared, for all versions of the API or from one on:

    ignore    not at all
    sign      only whether it is negative, zero or positive
    alias     by order of first appearance within a case (same value, same symbol), in a named space
    uuid      a text with every UUID in it as an alias
    address   the broker's own host or port becomes a symbol, anything else is compared as it is
    text      the wording is reported apart; whether there is one counts only without an error
    time      a time near the present becomes a symbol, anything else is compared as it is
    offer     a list of more than one API becomes a symbol
    numbers   a list of plain values without a defined order is put in order
    sort      a list without a defined order is put in the order of these fields first
"""

from fnmatch import fnmatchcase
from functools import cache
from typing import NamedTuple


class Rule(NamedTuple):
    api: str
    path: str
    how: str
    argument: tuple[str, ...]
    why: str
    since: int = 0


def _rule(api: str, path: str, how: str, *argument: str, why: str, since: int = 0) -> Rule:
    return Rule(api, path, how, argument, why, since)


_HASHED = "Kafka answers in the order of a hash table"
_OWN_WORDS = "sentences are each broker's own"

RULES = (
    _rule("*", "throttle_time_ms", "sign", why="a time span; zero or not is compared"),
    _rule("*", "*topic_id", "alias", "topic id", why="chosen at random"),
    _rule("*", "*cluster_id", "alias", "cluster id", why="chosen at random"),
    _rule("*", "*host", "address", why="each broker has its own"),
    _rule("*", "*port", "address", why="each broker has its own"),
    _rule("*", "*error_message", "text", why=_OWN_WORDS),
    _rule("*", "*producer_id", "alias", "producer id", why="counted by each cluster for itself"),
    _rule("*", "*member_id", "uuid", why="ends in a random UUID"),
    _rule("FindCoordinator", "*key", "uuid", why="of a share group: has the topic's id in it"),
    _rule("JoinGroup", "leader", "uuid", why="ends in a random UUID"),
    _rule("JoinGroup", "members", "sort", "metadata", "group_instance_id", why=_HASHED),
    _rule(
        "DescribeGroups",
        "groups.members",
        "sort",
        "client_id",
        "group_instance_id",
        "member_metadata",
        "member_assignment",
        why=_HASHED,
    ),
    _rule(
        "ConsumerGroupDescribe", "groups.members", "sort", "client_id", "instance_id", why=_HASHED
    ),
    _rule("ConsumerGroupDescribe", "*.topic_partitions", "sort", "topic_name", why=_HASHED),
    _rule("ConsumerGroupDescribe", "*.partitions", "numbers", why=_HASHED),
    _rule("ConsumerGroupHeartbeat", "*.topic_partitions", "sort", "topic_id", why=_HASHED),
    _rule("ConsumerGroupHeartbeat", "*.partitions", "numbers", why=_HASHED),
    _rule("*GroupDescribe", "*.subscribed_topic_names", "numbers", why=_HASHED),
    _rule("AddPartitionsToTxn", "*topic_results", "sort", "name", why=_HASHED),
    _rule("AddPartitionsToTxn", "*v3_and_below", "sort", "name", why=_HASHED),
    _rule("AddPartitionsToTxn", "*results_by_partition", "sort", "partition_index", why=_HASHED),
    _rule("AddPartitionsToTxn", "results_by_transaction", "sort", "transactional_id", why=_HASHED),
    _rule("ShareGroupDescribe", "groups.members", "sort", "client_id", why=_HASHED),
    _rule("*Share*", "*.topic_partitions", "sort", "topic_name", "topic_id", why=_HASHED),
    _rule("*Share*", "*.topics", "sort", "topic_name", why=_HASHED),
    _rule("ShareGroup*", "*.partitions", "numbers", why=_HASHED),
    _rule("*ShareGroupState*", "results.partitions", "sort", "partition", why=_HASHED),
    _rule("*ShareGroupOffsets", "*.partitions", "sort", "partition_index", why=_HASHED),
    _rule("AlterPartitionReassignments", "responses", "sort", "name", why=_HASHED),
    _rule(
        "AlterPartitionReassignments",
        "responses.partitions",
        "sort",
        "partition_index",
        why=_HASHED,
    ),
    _rule("AlterReplicaLogDirs", "results", "sort", "topic_name", why=_HASHED),
    _rule("AlterReplicaLogDirs", "results.partitions", "sort", "partition_index", why=_HASHED),
    _rule("*ShareGroupOffsets", "responses", "sort", "topic_name", why=_HASHED),
    _rule("Share*", "responses", "sort", "topic_id", why=_HASHED),
    _rule("Share*", "responses.partitions", "sort", "partition_index", why=_HASHED),
    _rule("OffsetCommit", "topics", "sort", "name", "topic_id", why=_HASHED),
    _rule("OffsetFetch", "*topics", "sort", "name", "topic_id", why=_HASHED),
    _rule("OffsetFetch", "groups", "sort", "group_id", why=_HASHED),
    _rule("OffsetDelete", "topics", "sort", "name", why=_HASHED),
    _rule("TxnOffsetCommit", "topics", "sort", "name", "topic_id", why=_HASHED),
    _rule("*Offset*", "*topics.partitions", "sort", "partition_index", why=_HASHED),
    _rule("DeleteGroups", "results", "sort", "group_id", why=_HASHED),
    _rule("ListGroups", "groups", "sort", "group_id", why=_HASHED),
    _rule("DescribeTransactions", "*_start_time_ms", "time", why="taken from the clock"),
    _rule("DescribeTransactions", "*.topics", "sort", "topic", why=_HASHED),
    _rule("DescribeTransactions", "*.partitions", "numbers", why=_HASHED),
    _rule("ListTransactions", "transaction_states", "sort", "transactional_id", why=_HASHED),
    _rule("WriteTxnMarkers", "markers", "sort", "producer_id", why=_HASHED),
    _rule("WriteTxnMarkers", "markers.topics", "sort", "name", why=_HASHED),
    _rule("WriteTxnMarkers", "*.partitions", "sort", "partition_index", why=_HASHED),
    _rule("Fetch", "session_id", "alias", "session id", why="chosen at random"),
    _rule("Produce", "*.log_append_time_ms", "time", why="taken from the clock"),
    _rule("DescribeProducers", "*.last_timestamp", "time", why="taken from the clock"),
    _rule("ListOffsets", "*.timestamp", "time", why="taken from the clock where records are"),
    _rule("DescribeProducers", "*.active_producers", "sort", "producer_id", why=_HASHED),
    _rule("DescribeLogDirs", "results.log_dir", "alias", "log dir", why="a path of this machine"),
    _rule("DescribeLogDirs", "*.total_bytes", "sign", why="size of this machine's disk"),
    _rule("DescribeLogDirs", "*.usable_bytes", "sign", why="free space of this machine's disk"),
    _rule("ListOffsets", "topics", "sort", "name", since=10, why=_HASHED),
    _rule("ListOffsets", "*.partitions", "sort", "partition_index", since=10, why=_HASHED),
    _rule("DescribeLogDirs", "results.topics", "sort", "name", why=_HASHED),
    _rule("DescribeLogDirs", "*.partitions", "sort", "partition_index", why=_HASHED),
    _rule("ApiVersions", "finalized_features_epoch", "sign", why="counts this cluster's records"),
    _rule("ApiVersions", "supported_features", "sort", "name", why=_HASHED),
    _rule("ApiVersions", "finalized_features", "sort", "name", why=_HASHED),
    _rule("UpdateFeatures", "results", "sort", "feature", why=_HASHED),
    _rule("Produce", "responses", "sort", "name", "topic_id", why=_HASHED),
    _rule("Produce", "responses.partition_responses", "sort", "index", why=_HASHED),
    _rule("Metadata", "brokers", "sort", "node_id", why=_HASHED),
    _rule("DescribeCluster", "brokers", "sort", "broker_id", why=_HASHED),
    _rule("Metadata", "topics", "sort", "name", why=_HASHED),
    _rule("LeaderAndIsr", "topics", "sort", "topic_id", why=_HASHED),
    _rule("LeaderAndIsr", "*partition_errors", "sort", "partition_index", why=_HASHED),
    _rule("StopReplica", "partition_errors", "sort", "partition_index", why=_HASHED),
    _rule("ElectLeaders", "replica_election_results", "sort", "topic", why=_HASHED),
    _rule("ElectLeaders", "*.partition_result", "sort", "partition_id", why=_HASHED),
    _rule("ListPartitionReassignments", "topics", "sort", "name", why=_HASHED),
    _rule("ListPartitionReassignments", "*.partitions", "sort", "partition_index", why=_HASHED),
    _rule("AllocateProducerIds", "producer_id_start", "sign", why="counted by each cluster"),
    _rule("Metadata", "topics.partitions", "sort", "partition_index", why=_HASHED),
    _rule("DescribeConfigs", "results", "sort", "resource_type", "resource_name", why=_HASHED),
    _rule("DescribeConfigs", "results.configs", "sort", "name", why=_HASHED),
    _rule("DescribeConfigs", "*.documentation", "text", why=_OWN_WORDS),
    _rule("CreateTopics", "topics", "sort", "name", why=_HASHED),
    _rule("CreateTopics", "topics.configs", "sort", "name", why=_HASHED),
    _rule("DeleteTopics", "responses", "sort", "name", "error_code", why=_HASHED),
    _rule("CreatePartitions", "results", "sort", "name", why=_HASHED),
    _rule("DeleteRecords", "topics", "sort", "name", why=_HASHED),
    _rule("DeleteRecords", "*.partitions", "sort", "partition_index", why=_HASHED),
    _rule("AlterConfigs", "responses", "sort", "resource_type", "resource_name", why=_HASHED),
    _rule(
        "IncrementalAlterConfigs",
        "responses",
        "sort",
        "resource_type",
        "resource_name",
        why=_HASHED,
    ),
    _rule(
        "ListConfigResources",
        "config_resources",
        "sort",
        "resource_type",
        "resource_name",
        why=_HASHED,
    ),
    _rule("ApiVersions", "api_keys", "offer", why="each broker offers its own; see `offered.py`"),
)

SET_AT_START = frozenset(
    (
        "listeners",
        "advertised.listeners",
        "log.dir",
        "log.dirs",
        "zookeeper.connect",
        "controller.quorum.voters",
        "controller.listener.names",
        "process.roles",
    )
)
"""Broker settings whose value is the address or a directory of that one broker."""


@cache
def rule_for(api: str, version: int, path: str) -> Rule | None:
    """The first rule of the table that fits."""
    for rule in RULES:
        if version >= rule.since and fnmatchcase(api, rule.api) and fnmatchcase(path, rule.path):
            return rule
    return None
