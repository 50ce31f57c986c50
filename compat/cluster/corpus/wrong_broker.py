"""Requests to a broker that cannot grant them: it is not the leader, coordinator or controller, or
not the broker that is meant.
"""

from typing import Any

from compat.batches import batch, message
from compat.cluster.script import ClusterRun, scenario, versions

LEADER, FOLLOWER, NEITHER = 1, 2, 0
"""Of partition 0 of the topic `t`."""


def entry_of(run: ClusterRun, **fields: Any) -> dict[str, Any]:
    """A topic with one partition, for Fetch at any version."""
    entry = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1 << 16, **fields}
    return {"topic": run.name("t"), "topic_id": run.topic_id("t"), "partitions": [entry]}


def fetch(run: ClusterRun, broker_id: int, version: int, what: str, **fields: Any) -> None:
    """Fetches partition 0 of `t` without waiting."""
    top = {name: fields.pop(name) for name in ("rack_id", "replica_id") if name in fields}
    run.ask_at(
        broker_id, "Fetch", version, f"fetch {what}",
        max_wait_ms=0, min_bytes=0, max_bytes=1 << 16, topics=[entry_of(run, **fields)], **top,
    )  # fmt: skip


@scenario()
def produce(run: ClusterRun) -> None:
    run.create("t", [[LEADER, FOLLOWER]])
    for version in versions("Produce"):
        records = batch(b"a") if version >= 3 else message(b"a", magic=min(version, 1))
        for acks in (1, -1):
            for broker_id in (FOLLOWER, NEITHER):
                run.produce_at(broker_id, "t", records, version=version, acks=acks)
    for broker_id in (FOLLOWER, NEITHER):
        topic = {
            "name": run.name("t"),
            "partition_data": [{"index": 0, "records": batch(b"a")}],
        }
        run.ask_at(broker_id, "Produce", 9, "no acks", acks=0, topic_data=[topic], answered=False)
    for version in versions("Produce", 9):
        run.produce_at(NEITHER, "t", batch(b"a"), 7, version=version, what="unknown partition")


@scenario()
def fetching(run: ClusterRun) -> None:
    "From version 11 on any replica serves consumers (KIP-392)."
    run.create("t", [[LEADER, FOLLOWER]])
    run.produce_at(LEADER, "t", batch(b"a", b"b"))
    run.replicated("t", 0, 2, FOLLOWER)
    for version in versions("Fetch"):
        for broker_id in (LEADER, FOLLOWER, NEITHER):
            fetch(run, broker_id, version, "plain")
            if version >= 9:
                fetch(run, broker_id, version, "epoch to come", current_leader_epoch=5)
                fetch(run, broker_id, version, "right epoch", current_leader_epoch=0)
            if version >= 11:
                fetch(run, broker_id, version, "out of range", fetch_offset=9)
            if version >= 12:
                fetch(run, broker_id, version, "right last epoch", last_fetched_epoch=0)
                fetch(run, broker_id, version, "last epoch to come", last_fetched_epoch=3)


@scenario()
def closest_replica(run: ClusterRun) -> None:
    run.create("t", [[LEADER, FOLLOWER]])
    run.produce_at(LEADER, "t", batch(b"a", b"b"))
    run.replicated("t", 0, 2, FOLLOWER)
    for version in versions("Fetch", 11):
        for rack in ("rack-0", "rack-1", "rack-2", "nowhere"):
            fetch(run, LEADER, version, f"from {rack}", rack_id=rack)
        fetch(run, FOLLOWER, version, "from rack-1", rack_id="rack-1")
        fetch(run, LEADER, version, "past the end from rack-2", rack_id="rack-2", fetch_offset=9)
        fetch(run, LEADER, version, "at the end from rack-2", rack_id="rack-2", fetch_offset=2)


@scenario()
def offsets(run: ClusterRun) -> None:
    run.create("t", [[LEADER, FOLLOWER]])
    run.produce_at(LEADER, "t", batch(b"a", b"b"))
    run.replicated("t", 0, 2, FOLLOWER)
    for version in versions("ListOffsets"):
        times = [-1, -2, 0] + [-3] * (version >= 7) + [-4] * (version >= 8)
        for broker_id in (LEADER, FOLLOWER, NEITHER):
            for time in times:
                for replica in (-1, -2):
                    _list_offsets(run, broker_id, version, time, replica)
            if version >= 4:
                for epoch in (0, 5):
                    _list_offsets(run, broker_id, version, -1, -1, current_leader_epoch=epoch)


def _list_offsets(
    run: ClusterRun, broker_id: int, version: int, time: int, replica: int, **more: Any
) -> None:
    entry = {"partition_index": 0, "timestamp": time, "max_num_offsets": 5, **more}
    topics = [{"name": run.name("t"), "partitions": [entry]}]
    what = f"time {time} as {replica} {more}"
    run.ask_at(broker_id, "ListOffsets", version, what, replica_id=replica, topics=topics)


@scenario()
def other_questions_to_leaders(run: ClusterRun) -> None:
    run.create("t", [[LEADER, FOLLOWER]])
    run.produce_at(LEADER, "t", batch(b"a", b"b"))
    run.replicated("t", 0, 2, FOLLOWER)
    name = run.name("t")
    for broker_id in (FOLLOWER, NEITHER):
        for version in versions("OffsetForLeaderEpoch"):
            for current in (-1, 0, 5):
                entry = {"partition": 0, "leader_epoch": 0, "current_leader_epoch": current}
                run.ask_at(
                    broker_id, "OffsetForLeaderEpoch", version, f"epoch, current {current}",
                    replica_id=-1, topics=[{"topic": name, "partitions": [entry]}],
                )  # fmt: skip
        for version in versions("DeleteRecords"):
            deletion = {"name": name, "partitions": [{"partition_index": 0, "offset": 1}]}
            run.ask_at(broker_id, "DeleteRecords", version, topics=[deletion], timeout_ms=1000)
        asked = [{"name": name, "partition_indexes": [0, 7]}]
        run.ask_at(broker_id, "DescribeProducers", 0, topics=asked)
        for version in versions("WriteTxnMarkers"):
            marker = {
                "producer_id": 9,
                "producer_epoch": 0,
                "topics": [{"name": name, "partition_indexes": [0]}],
            }
            run.ask_at(broker_id, "WriteTxnMarkers", version, markers=[marker])


# --- coordinators ---------------------------------------------------------------------------------

MEMBER = {"member_id": "m", "generation_id": 1}


def _group_requests(run: ClusterRun, group: str) -> dict[str, dict[str, Any]]:
    topic = {"name": run.name("t"), "partitions": [{"partition_index": 0, "committed_offset": 1}]}
    asked = {"name": run.name("t"), "partition_indexes": [0]}
    return {
        "JoinGroup": {
            "group_id": group,
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 10_000,
            "protocol_type": "consumer",
            "protocols": [{"name": "range", "metadata": b""}],
        },
        "SyncGroup": {"group_id": group, **MEMBER},
        "Heartbeat": {"group_id": group, **MEMBER},
        "LeaveGroup": {"group_id": group, "member_id": "m", "members": [{"member_id": "m"}]},
        "OffsetCommit": {"group_id": group, "topics": [topic]},
        "OffsetFetch": {
            "group_id": group,
            "topics": [asked],
            "groups": [{"group_id": group, "topics": [asked]}],
        },
        "DescribeGroups": {"groups": [group]},
        "DeleteGroups": {"groups_names": [group]},
        "OffsetDelete": {
            "group_id": group,
            "topics": [{"name": run.name("t"), "partitions": [{"partition_index": 0}]}],
        },
        "TxnOffsetCommit": {
            "transactional_id": "x",
            "group_id": group,
            "producer_id": 1,
            "topics": [topic],
        },
        "ListGroups": {},
    }


@scenario()
def not_the_groups_coordinator(run: ClusterRun) -> None:
    run.create("t", [[0, 1, 2]])
    group = run.group()
    here = coordinator_of(run, group, 0)
    for broker_id in run.place.live:
        if broker_id != here:
            for api, fields in _group_requests(run, group).items():
                for version in versions(api, 1 if api == "OffsetFetch" else 0):
                    run.ask_at(broker_id, api, version, **fields)


def coordinator_of(run: ClusterRun, key: str, kind: int) -> int:
    """Who coordinates; waits until it has loaded what it keeps."""
    found: list[int] = []

    def answers() -> bool:
        answer = run.look(0, "FindCoordinator", 3, key=key, key_type=kind)
        if answer.error_code == 0:
            found[:] = [answer.node_id]
        return bool(answer.error_code == 0)

    run.until(f"the coordinator of {key} is known", answers)
    here = found[0]
    if kind == 0:
        run.until(
            "it has loaded",
            lambda: run.look(here, "OffsetFetch", 7, group_id=key, topics=[]).error_code == 0,
        )
    else:
        run.until(
            "it has loaded",
            lambda: (
                run.look(here, "DescribeTransactions", 0, transactional_ids=[key])
                .transaction_states[0]
                .error_code
                == 105
            ),
        )
    return here


@scenario()
def not_the_transactions_coordinator(run: ClusterRun) -> None:
    run.create("t", [[0, 1, 2]])
    name = run.transactional_id()
    here = coordinator_of(run, name, 1)
    producer = {"transactional_id": name, "producer_id": 1, "producer_epoch": 0}
    topics = [{"name": run.name("t"), "partitions": [0]}]
    requests: dict[str, dict[str, Any]] = {
        "InitProducerId": {"transactional_id": name, "transaction_timeout_ms": 10_000},
        "AddPartitionsToTxn": {
            "v3_and_below_transactional_id": name,
            "v3_and_below_producer_id": 1,
            "v3_and_below_producer_epoch": 0,
            "v3_and_below_topics": topics,
            "transactions": [{**producer, "verify_only": False, "topics": topics}],
        },
        "AddOffsetsToTxn": {**producer, "group_id": "g"},
        "EndTxn": {**producer, "committed": True},
        "DescribeTransactions": {"transactional_ids": [name]},
        "ListTransactions": {},
    }
    for broker_id in run.place.live:
        if broker_id != here:
            for api, fields in requests.items():
                for version in versions(api):
                    run.ask_at(broker_id, api, version, **fields)


# --- controller, other brokers --------------------------------------------------------------------


def controllers_requests(run: ClusterRun) -> dict[str, dict[str, Any]]:
    """What only the controller does, by API."""
    topic = {"name": run.name("new"), "num_partitions": 1, "replication_factor": 1}
    name = run.name("t")
    data = {"partition_index": 0, "new_isr": [1], "new_isr_with_epochs": [{"broker_id": 1}]}
    return {
        "CreateTopics": {"topics": [topic], "timeout_ms": 5000},
        "DeleteTopics": {"topic_names": [name], "topics": [{"name": name}], "timeout_ms": 5000},
        "CreatePartitions": {
            "topics": [{"name": name, "count": 4, "assignments": None}],
            "timeout_ms": 5000,
        },
        "ElectLeaders": {
            "topic_partitions": [{"topic": name, "partitions": [0]}],
            "timeout_ms": 5000,
        },
        "UpdateFeatures": {"feature_updates": [{"feature": "x", "max_version_level": 1}]},
        "AlterPartition": {
            "broker_id": 1,
            "topics": [{"topic_name": name, "topic_id": run.topic_id("t"), "partitions": [data]}],
        },
        "ControlledShutdown": {"broker_id": 1},
        "AllocateProducerIds": {"broker_id": 1},
    }


@scenario()
def not_the_controller(run: ClusterRun) -> None:
    run.create("t", [[0, 1, 2]])
    run.tree("before")
    for broker_id in run.place.live:
        if broker_id != run.controller:
            for api, fields in controllers_requests(run).items():
                for version in versions(api):
                    run.ask_at(broker_id, api, version, **fields)
            for validate in (True,):
                fields = controllers_requests(run)["CreateTopics"]
                run.ask_at(
                    broker_id, "CreateTopics", 5, "only a try", validate_only=validate, **fields
                )
    run.tree("nothing was done")


@scenario()
def not_that_broker(run: ClusterRun) -> None:
    "Settings and loggers of a broker are told and changed by itself."
    for broker_id in run.place.live:
        for named in ("0", "1", "2", "3"):
            for kind in (4, 8):
                wanted = "log.cleaner.threads" if kind == 4 else "none"
                resource = {
                    "resource_type": kind,
                    "resource_name": named,
                    "configuration_keys": [wanted],
                }
                for version in versions("DescribeConfigs"):
                    run.ask_at(
                        broker_id, "DescribeConfigs", version, f"{kind} of {named}",
                        resources=[resource],
                    )  # fmt: skip
            change = {"name": "log.cleaner.threads", "config_operation": 0, "value": "1"}
            altered = {"resource_type": 4, "resource_name": named, "configs": [change]}
            for version in versions("IncrementalAlterConfigs"):
                run.ask_at(
                    broker_id, "IncrementalAlterConfigs", version, f"settings of {named}",
                    resources=[altered], validate_only=True,
                )  # fmt: skip
            plain = {**altered, "configs": [{"name": "log.cleaner.threads", "value": "1"}]}
            for version in versions("AlterConfigs"):
                run.ask_at(
                    broker_id, "AlterConfigs", version, f"settings of {named}",
                    resources=[plain], validate_only=True,
                )  # fmt: skip


@scenario()
def a_follower_that_hangs(run: ClusterRun) -> None:
    "It is in the ISR, so what it has not got is not committed."
    run.create("t", [[LEADER, FOLLOWER]])
    run.produce_at(LEADER, "t", batch(b"a"))
    run.replicated("t", 0, 1, FOLLOWER)
    run.place.pause(FOLLOWER)
    for version in (7, 9, 11):
        run.produce_at(
            LEADER, "t", batch(b"b"), version=version, timeout_ms=300, what="nobody follows"
        )
    run.produce_at(LEADER, "t", batch(b"c"), acks=1)
    for version in versions("Fetch"):
        fetch(run, LEADER, version, "what is not committed", fetch_offset=1)
    for time in (-1, -2):
        _list_offsets(run, LEADER, 7, time, -1)
    run.place.resume(FOLLOWER)
    run.replicated("t", 0, 5, LEADER, FOLLOWER)
    fetch(run, LEADER, 11, "committed", fetch_offset=1)
