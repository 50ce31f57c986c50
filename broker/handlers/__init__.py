"""One module an API, named as its messages: `handle(node, context, request)`.

`HANDLERS` lists the stems of the APIs this broker offers. A handler is a plain function that
returns the response, or an awaitable of it where it must wait. Refusals of a partition, topic or
resource are codes in the response; `ApiError` refuses the whole request. May use the parts of
`broker.context.Node`; handlers do not import each other's behaviour.
"""

HANDLERS: tuple[str, ...] = (
    "allocate_producer_ids",
    "alter_configs",
    "alter_partition",
    "api_versions",
    "controlled_shutdown",
    "create_partitions",
    "create_topics",
    "delete_records",
    "delete_topics",
    "describe_cluster",
    "describe_configs",
    "describe_log_dirs",
    "describe_producers",
    "describe_topic_partitions",
    "elect_leaders",
    "fetch",
    "find_coordinator",
    "incremental_alter_configs",
    "init_producer_id",
    "leader_and_isr",
    "list_config_resources",
    "list_offsets",
    "metadata",
    "offset_for_leader_epoch",
    "produce",
    "stop_replica",
    "update_metadata",
)
"""An API without behaviour yet is not here, and so not offered by ApiVersions."""
