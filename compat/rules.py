"""What two right brokers may answer differently, and why: one table, read by `compat.normal`.

A rule names an API (or `*`), a field by its path without indices, and how the field is compared,
for all versions of the API or from one on:

    ignore    not at all
    sign      only whether it is negative, zero or positive
    alias     by order of first appearance within a case (same value, same symbol), in a named space
    address   the broker's own host or port becomes a symbol, anything else is compared as it is
    text      the wording is reported apart; whether there is one counts only without an error
    time      a time near the present becomes a symbol, anything else is compared as it is
    offer     a list of more than one API becomes a symbol
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
    _rule("Produce", "responses", "sort", "name", "topic_id", why=_HASHED),
    _rule("Produce", "responses.partition_responses", "sort", "index", why=_HASHED),
    _rule("Metadata", "topics", "sort", "name", why=_HASHED),
    _rule("LeaderAndIsr", "topics", "sort", "topic_id", why=_HASHED),
    _rule("LeaderAndIsr", "*partition_errors", "sort", "partition_index", why=_HASHED),
    _rule("StopReplica", "partition_errors", "sort", "partition_index", why=_HASHED),
    _rule("ElectLeaders", "replica_election_results", "sort", "topic", why=_HASHED),
    _rule("ElectLeaders", "*.partition_result", "sort", "partition_id", why=_HASHED),
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
        if version >= rule.since and rule.api in ("*", api) and fnmatchcase(path, rule.path):
            return rule
    return None
