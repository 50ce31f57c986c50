"""The table of APIs: names, keys, version ranges. Imports no message (each costs a millisecond).

The ranges repeat what the declarations say (a test compares them). `min_version` is the lowest that
Apache Kafka 3.9 serves, `max_version` the highest that 4.4 declares, `latest_stable` the highest
that a broker offers: versions above it may still change.
"""

import importlib
import sys
from typing import Any, NamedTuple


class Api(NamedTuple):
    """One API: plain data. `stem` names its modules here and in the broker's handlers."""

    key: int
    name: str
    stem: str
    min_version: int
    max_version: int
    flexible_since: int | None
    latest_stable: int


_ROWS = (
    Api(0, "Produce", "produce", 0, 13, 9, 13),
    Api(1, "Fetch", "fetch", 0, 18, 12, 18),
    Api(2, "ListOffsets", "list_offsets", 0, 11, 6, 11),
    Api(3, "Metadata", "metadata", 0, 13, 9, 13),
    Api(4, "LeaderAndIsr", "leader_and_isr", 0, 7, 4, 7),
    Api(5, "StopReplica", "stop_replica", 0, 4, 2, 4),
    Api(6, "UpdateMetadata", "update_metadata", 0, 8, 6, 8),
    Api(7, "ControlledShutdown", "controlled_shutdown", 0, 3, 3, 3),
    Api(8, "OffsetCommit", "offset_commit", 0, 10, 8, 10),
    Api(9, "OffsetFetch", "offset_fetch", 0, 10, 6, 10),
    Api(10, "FindCoordinator", "find_coordinator", 0, 6, 3, 6),
    Api(11, "JoinGroup", "join_group", 0, 9, 6, 9),
    Api(12, "Heartbeat", "heartbeat", 0, 4, 4, 4),
    Api(13, "LeaveGroup", "leave_group", 0, 5, 4, 5),
    Api(14, "SyncGroup", "sync_group", 0, 5, 4, 5),
    Api(15, "DescribeGroups", "describe_groups", 0, 6, 5, 6),
    Api(16, "ListGroups", "list_groups", 0, 5, 3, 5),
    Api(17, "SaslHandshake", "sasl_handshake", 0, 1, None, 1),
    Api(18, "ApiVersions", "api_versions", 0, 5, 3, 5),
    Api(19, "CreateTopics", "create_topics", 0, 7, 5, 7),
    Api(20, "DeleteTopics", "delete_topics", 0, 6, 4, 6),
    Api(21, "DeleteRecords", "delete_records", 0, 2, 2, 2),
    Api(22, "InitProducerId", "init_producer_id", 0, 6, 2, 5),
    Api(23, "OffsetForLeaderEpoch", "offset_for_leader_epoch", 0, 4, 4, 4),
    Api(24, "AddPartitionsToTxn", "add_partitions_to_txn", 0, 5, 3, 5),
    Api(25, "AddOffsetsToTxn", "add_offsets_to_txn", 0, 4, 3, 4),
    Api(26, "EndTxn", "end_txn", 0, 5, 3, 5),
    Api(27, "WriteTxnMarkers", "write_txn_markers", 0, 2, 1, 2),
    Api(28, "TxnOffsetCommit", "txn_offset_commit", 0, 6, 3, 6),
    Api(29, "DescribeAcls", "describe_acls", 0, 3, 2, 3),
    Api(30, "CreateAcls", "create_acls", 0, 3, 2, 3),
    Api(31, "DeleteAcls", "delete_acls", 0, 3, 2, 3),
    Api(32, "DescribeConfigs", "describe_configs", 0, 4, 4, 4),
    Api(33, "AlterConfigs", "alter_configs", 0, 2, 2, 2),
    Api(34, "AlterReplicaLogDirs", "alter_replica_log_dirs", 0, 2, 2, 2),
    Api(35, "DescribeLogDirs", "describe_log_dirs", 0, 5, 2, 5),
    Api(36, "SaslAuthenticate", "sasl_authenticate", 0, 2, 2, 2),
    Api(37, "CreatePartitions", "create_partitions", 0, 3, 2, 3),
    Api(38, "CreateDelegationToken", "create_delegation_token", 0, 3, 2, 3),
    Api(39, "RenewDelegationToken", "renew_delegation_token", 0, 2, 2, 2),
    Api(40, "ExpireDelegationToken", "expire_delegation_token", 0, 2, 2, 2),
    Api(41, "DescribeDelegationToken", "describe_delegation_token", 0, 3, 2, 3),
    Api(42, "DeleteGroups", "delete_groups", 0, 3, 2, 3),
    Api(43, "ElectLeaders", "elect_leaders", 0, 2, 2, 2),
    Api(44, "IncrementalAlterConfigs", "incremental_alter_configs", 0, 1, 1, 1),
    Api(45, "AlterPartitionReassignments", "alter_partition_reassignments", 0, 1, 0, 1),
    Api(46, "ListPartitionReassignments", "list_partition_reassignments", 0, 0, 0, 0),
    Api(47, "OffsetDelete", "offset_delete", 0, 0, None, 0),
    Api(48, "DescribeClientQuotas", "describe_client_quotas", 0, 1, 1, 1),
    Api(49, "AlterClientQuotas", "alter_client_quotas", 0, 1, 1, 1),
    Api(50, "DescribeUserScramCredentials", "describe_user_scram_credentials", 0, 0, 0, 0),
    Api(51, "AlterUserScramCredentials", "alter_user_scram_credentials", 0, 0, 0, 0),
    Api(56, "AlterPartition", "alter_partition", 0, 3, 0, 3),
    Api(57, "UpdateFeatures", "update_features", 0, 2, 0, 2),
    Api(58, "Envelope", "envelope", 0, 0, 0, 0),
    Api(60, "DescribeCluster", "describe_cluster", 0, 2, 0, 2),
    Api(61, "DescribeProducers", "describe_producers", 0, 0, 0, 0),
    Api(65, "DescribeTransactions", "describe_transactions", 0, 0, 0, 0),
    Api(66, "ListTransactions", "list_transactions", 0, 2, 0, 2),
    Api(67, "AllocateProducerIds", "allocate_producer_ids", 0, 0, 0, 0),
    Api(68, "ConsumerGroupHeartbeat", "consumer_group_heartbeat", 0, 1, 0, 1),
    Api(69, "ConsumerGroupDescribe", "consumer_group_describe", 0, 1, 0, 1),
    Api(71, "GetTelemetrySubscriptions", "get_telemetry_subscriptions", 0, 0, 0, 0),
    Api(72, "PushTelemetry", "push_telemetry", 0, 0, 0, 0),
    Api(74, "ListConfigResources", "list_config_resources", 0, 1, 0, 1),
    Api(75, "DescribeTopicPartitions", "describe_topic_partitions", 0, 0, 0, 0),
    # Version 0 of the share group APIs was an early access that no release promises to keep.
    Api(76, "ShareGroupHeartbeat", "share_group_heartbeat", 1, 1, 0, 1),
    Api(77, "ShareGroupDescribe", "share_group_describe", 1, 1, 0, 1),
    Api(78, "ShareFetch", "share_fetch", 1, 2, 0, 2),
    Api(79, "ShareAcknowledge", "share_acknowledge", 1, 2, 0, 2),
    # Brokers of a KRaft cluster ask their share coordinators with these.
    Api(83, "InitializeShareGroupState", "initialize_share_group_state", 0, 0, 0, 0),
    Api(84, "ReadShareGroupState", "read_share_group_state", 0, 0, 0, 0),
    Api(85, "WriteShareGroupState", "write_share_group_state", 0, 1, 0, 1),
    Api(86, "DeleteShareGroupState", "delete_share_group_state", 0, 0, 0, 0),
    Api(87, "ReadShareGroupStateSummary", "read_share_group_state_summary", 0, 1, 0, 1),
    Api(88, "StreamsGroupHeartbeat", "streams_group_heartbeat", 0, 1, 0, 1),
    Api(89, "StreamsGroupDescribe", "streams_group_describe", 0, 1, 0, 1),
    Api(90, "DescribeShareGroupOffsets", "describe_share_group_offsets", 0, 1, 0, 1),
    Api(91, "AlterShareGroupOffsets", "alter_share_group_offsets", 0, 0, 0, 0),
    Api(92, "DeleteShareGroupOffsets", "delete_share_group_offsets", 0, 0, 0, 0),
    Api(
        93,
        "StreamsGroupTopologyDescriptionUpdate",
        "streams_group_topology_description_update",
        0,
        0,
        0,
        0,
    ),
)

API_BY_KEY: dict[int, Api] = {api.key: api for api in _ROWS}
"""All APIs that this package has declarations of, by key."""


def request_class(key: int) -> type[Any]:
    """The request's declaration; imports its module on first use. KeyError for an unknown key."""
    return _declaration(API_BY_KEY[key], "Request")


def response_class(key: int) -> type[Any]:
    """The response's declaration; imports its module on first use. KeyError for an unknown key."""
    return _declaration(API_BY_KEY[key], "Response")


def _declaration(api: Api, suffix: str) -> type[Any]:
    name = f"protocol.messages.{api.stem}"
    module = sys.modules.get(name) or importlib.import_module(name)
    found: type[Any] = getattr(module, api.name + suffix)
    return found
