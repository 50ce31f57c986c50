"""The corpus: one module an API, each a list of cases (see `compat.script`)."""

import importlib

from protocol import apis

MODULES = (
    "shared",
    "frames",
    "api_versions",
    "metadata",
    "produce",
    "produce_batches",
    "produce_old",
    "produce_idempotent",
    "fetch",
    "fetch_sessions",
    "fetch_limits",
    "list_offsets",
    "offset_for_leader_epoch",
    "create_topics",
    "delete_topics",
    "create_partitions",
    "delete_records",
    "describe_configs",
    "alter_configs",
    "incremental_alter_configs",
    "describe_cluster",
    "describe_log_dirs",
    "describe_topic_partitions",
    "describe_producers",
    "init_producer_id",
    "find_coordinator",
    "list_config_resources",
    "update_features",
    "join_group",
    "group_sequences",
    "sync_group",
    "heartbeat",
    "leave_group",
    "offset_commit",
    "offset_fetch",
    "groups_admin",
    "txn_offset_commit",
    "init_transactional",
    "adding_to_txn",
    "end_txn",
    "txn_admin",
    "consumer_group_heartbeat",
    "consumer_group_describe",
    "share_group_heartbeat",
    "share_fetch",
    "share_group_offsets",
    "share_state",
    "between_brokers",
    "reassignments",
    "acls",
)


def load() -> None:
    """Imports every module, so that `compat.script.CASES` is complete.

    The messages are imported here too: cases run in several threads, which should not meet in the
    middle of an import.
    """
    for name in MODULES:
        importlib.import_module(f"{__name__}.{name}")
    for key in apis.API_BY_KEY:
        apis.request_class(key)
        apis.response_class(key)
