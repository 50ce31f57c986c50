"""Three brokers that have just met: what each says of the others, and whom it sends clients to."""

from typing import Any

from compat.cluster.script import ClusterRun, scenario, versions

GROUP, TRANSACTION = 0, 1


@scenario()
def started(run: ClusterRun) -> None:
    run.tree("three brokers", whole=True)
    for version in versions("Metadata"):
        run.everywhere("Metadata", version, topics=[], allow_auto_topic_creation=False)
    for version in versions("DescribeCluster"):
        run.everywhere("DescribeCluster", version)
    run.tree("nothing was done")


@scenario()
def topics(run: ClusterRun) -> None:
    "Made, asked for everywhere, grown, configured, deleted."
    run.tree("before")
    run.create("t", [[1, 2, 0], [2, 0, 1], [0, 1, 2]])
    run.tree("three replicas each, by hand")
    run.create("u", [[2, 0]], min_insync_replicas="2", cleanup_policy="compact")
    run.tree("with settings")
    named = [{"name": run.name("t")}, {"name": run.name("u")}]
    for version in versions("Metadata"):
        run.everywhere("Metadata", version, topics=named, allow_auto_topic_creation=False)
    more = [{"broker_ids": [1, 0]}, {"broker_ids": [0, 2]}]
    wish = {"name": run.name("u"), "count": 3, "assignments": more}
    run.ask_at(0, "CreatePartitions", 3, "grown", topics=[wish], timeout_ms=10_000)
    run.led("u", 2, 1, 0)
    run.tree("grown")
    change = {"name": "retention.ms", "config_operation": 0, "value": "7200000"}
    resource = {"resource_type": 2, "resource_name": run.name("t"), "configs": [change]}
    for broker_id in run.place.live:
        run.ask_at(broker_id, "IncrementalAlterConfigs", 1, "configured", resources=[resource])
        run.tree(f"configured at {broker_id}")
    for who in ("", "1"):
        change = {"name": "log.cleaner.threads", "config_operation": 0, "value": "2"}
        resource = {"resource_type": 4, "resource_name": who, "configs": [change]}
        run.ask_at(1, "IncrementalAlterConfigs", 1, f"broker {who}", resources=[resource])
        run.tree(f"settings of broker {who or 'any'}")
        resource["configs"] = [{**change, "config_operation": 1}]
        run.ask_at(1, "IncrementalAlterConfigs", 1, f"not broker {who}", resources=[resource])
        run.tree(f"no settings of broker {who or 'any'}")
    gone = [{"name": run.name(alias)} for alias in ("t", "u")]
    run.ask_at(0, "DeleteTopics", 6, "deleted", topics=gone, timeout_ms=20_000)
    run.until("the topics are gone", lambda: not any("topics-" in p for p in run.place.tree()))
    run.tree("deleted")


@scenario()
def replicas_chosen_by_the_controller(run: ClusterRun) -> None:
    "Counts that three brokers allow, and those that they do not."
    for count in (1, 3, 4):
        topic = {"name": run.name(f"of-{count}"), "num_partitions": 2, "replication_factor": count}
        run.ask_at(0, "CreateTopics", 5, f"{count} replicas", topics=[topic], timeout_ms=10_000)
    for step, replicas in (("twice", [1, 1]), ("other counts", [1])):
        assignments = [
            {"partition_index": 0, "broker_ids": [0, 2]},
            {"partition_index": 1, "broker_ids": replicas},
        ]
        topic = {
            "name": run.name("odd"),
            "num_partitions": -1,
            "replication_factor": -1,
            "assignments": assignments,
        }
        run.ask_at(0, "CreateTopics", 5, step, topics=[topic], timeout_ms=10_000)


@scenario()
def coordinators(run: ClusterRun) -> None:
    "All brokers send a client to the same one."
    keys = ["a", "b", "c", "group", ""]
    for version in versions("FindCoordinator"):
        for kind in (GROUP, TRANSACTION) if version else (GROUP,):
            if version >= 4:
                asked: list[dict[str, Any]] = [{"coordinator_keys": keys}]
            else:
                asked = [{"key": key} for key in keys]
            for number, fields in enumerate(asked):
                what = f"kind {kind}, keys {number}"
                run.everywhere("FindCoordinator", version, what, key_type=kind, **fields)


@scenario()
def blocks_of_producer_ids(run: ClusterRun) -> None:
    "Each broker has ids of its own to give."
    seen = set()
    for broker_id in run.place.live:

        def given(asked: int = broker_id) -> bool:
            answer = run.look(asked, "InitProducerId", 4, transactional_id=None)
            if answer.error_code == 0:
                seen.add(answer.producer_id // 1000)
            return bool(answer.error_code == 0)

        run.until(f"broker {broker_id} gives ids", given)
    assert len(seen) == len(run.place.live), f"blocks {seen}"


@scenario()
def log_directories(run: ClusterRun) -> None:
    "Each broker tells of its own replicas alone."
    run.create("t", [[1, 2], [0, 1]])
    wanted = [{"topic": run.name("t"), "partitions": [0, 1]}]
    for version in versions("DescribeLogDirs"):
        run.everywhere("DescribeLogDirs", version, topics=wanted)


@scenario("AlterReplicaLogDirs")
def moves_between_directories(run: ClusterRun) -> None:
    "A broker moves its own replicas, to directories of its own."
    run.create("t", [[1, 2]])
    topics = [{"name": run.name("t"), "partitions": [0, 5]}]
    for broker_id in run.place.live:
        there = run.look(broker_id, "DescribeLogDirs", 1, topics=[]).results[0].log_dir
        for version in versions("AlterReplicaLogDirs"):
            for step, path in (("where it is", there), ("no such directory", "/no-such-dir")):
                run.ask_at(
                    broker_id, "AlterReplicaLogDirs", version, step,
                    dirs=[{"path": path, "topics": topics}],
                )  # fmt: skip
