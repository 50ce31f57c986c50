"""One module an API, named as its messages: `handle(node, context, request)`.

`HANDLERS` lists the stems of the APIs this broker offers. A handler is a plain function that
returns the response, or an awaitable of it where it must wait. Refusals of a partition, topic or
resource are codes in the response; `ApiError` refuses the whole request. May use the parts of
`broker.context.Node`; handlers do not import each other's behaviour.
"""

HANDLERS: tuple[str, ...] = (
    "add_offsets_to_txn",
    "add_partitions_to_txn",
    "alter_configs",
    "api_versions",
    "create_partitions",
    "create_topics",
    "delete_groups",
    "delete_records",
    "delete_topics",
    "describe_cluster",
    "describe_configs",
    "describe_groups",
    "describe_log_dirs",
    "describe_producers",
    "describe_topic_partitions",
    "describe_transactions",
    "end_txn",
    "fetch",
    "find_coordinator",
    "heartbeat",
    "incremental_alter_configs",
    "init_producer_id",
    "join_group",
    "leave_group",
    "list_config_resources",
    "list_groups",
    "list_offsets",
    "list_transactions",
    "metadata",
    "offset_commit",
    "offset_delete",
    "offset_fetch",
    "offset_for_leader_epoch",
    "produce",
    "sync_group",
    "txn_offset_commit",
    "update_features",
    "write_txn_markers",
)
"""An API without behaviour yet is not here, and so not offered by ApiVersions."""
